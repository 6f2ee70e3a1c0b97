"""The tokens of a round, the script that they run, and the ledger that it keeps."""

import random
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from picas import token
from picas.token import Document
from soak.history import Execution, read_ledger

MIXTURE = {"ok": 60, "fail": 5, "once": 9, "sleep": 20, "out": 4, "big": 1, "long": 1}
"""Of a hundred tokens, how many: end well at once; always fail; fail the first time; sleep up to a
second; write a longer log; leave a file to attach; run for longer than the lease time."""

BIG_BYTES = 300_000
OUT_BYTES = 20_000
MAX_SCRUB = 2

# Builtins of the shell only, but for `sleep`: many thousands of these run on two cores.
_SCRIPT = """\
#!/bin/sh
# A task that writes down that it runs. The machine's uptime is a clock that nobody shifts.
now() { read -r up rest </proc/uptime; }
field() {
    value=${doc##*"\\"$1\\":"}
    value=${value#*\\"}
    value=${value%%\\"*}
}
end() {
    now
    echo "end $PICAS_TOKEN_ID $lease $$ $up $1" >>LEDGER
    exit "$1"
}
read -r doc <"$PICAS_TOKEN_FILE"
field pilot
pilot=$value
field lease
lease=$value
trap 'end 143' TERM
now
echo "start $PICAS_TOKEN_ID $lease $pilot $SOAK_PILOT $$ $up" >>LEDGER
echo "lease $lease"
case $1 in
    ok) end 0 ;;
    fail) end 3 ;;
    once) [ "$PICAS_ATTEMPT" != 1 ] || end 4 ;;
    sleep | long) sleep "$2" ;;
    out) printf '%0OUT_BYTESd\\n' 0 ;;
    big) { echo "lease $lease"; printf '%0BIG_BYTESd\\n' 0; } >BIG/"$lease".dat ;;
esac
end 0
"""


class Work:
    """Makes the tokens of a round, and reads what they wrote down.

    Args:
        folder: Where the script, the ledger and the large files are.
        seed: The same seed gives the same tokens.
        number: How many tokens.
        lease: The pool's lease time, in seconds: some tokens run for longer.
    """

    def __init__(self, folder: Path, seed: int, number: int, lease: float) -> None:
        self.big = folder / "big"
        self.big.mkdir()
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._script = folder / "task"
        text = _SCRIPT.replace("LEDGER", shlex.quote(str(self._ledger)))
        text = text.replace("BIG_BYTES", str(BIG_BYTES)).replace("OUT_BYTES", str(OUT_BYTES))
        self._script.write_text(text.replace("BIG", shlex.quote(str(self.big))))
        self._script.chmod(0o755)
        self._chance = random.Random(f"{seed} work")
        self._number = number
        self._lease = lease

    def tokens(self) -> Iterator[Document]:
        """The tokens, to be pushed."""
        for number in range(self._number):
            (kind,) = self._chance.choices(list(MIXTURE), weights=list(MIXTURE.values()))
            line = f"{self._script} {kind}"
            if kind == "sleep":
                line += f" {self._chance.uniform(0.05, 1.0):.2f}"
            elif kind == "long":
                line += f" {self._lease * self._chance.uniform(1.1, 1.5):.2f}"
            yield token.new({"input": line}, f"t{number:05}")

    def executions(self) -> list[Execution]:
        """The ledger."""
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return read_ledger(self._ledger.read_text().splitlines(), time.time() - uptime)


def is_big(lease: str, content: bytes) -> bool:
    """Tell whether an attached file is what the task under that lease wrote."""
    return content == f"lease {lease}\n{'0' * BIG_BYTES}\n".encode()


def first_line(log: bytes) -> str:
    """Where a task's log says under which lease it ran."""
    return log.partition(b"\n")[0].decode(errors="replace")
