"""A pilot of ours as a worker of a fleet (see `benchmarks.fleet`): ``python -m benchmarks.pilot``.

It works until its pool is empty. The pool's URL is in ``PICAS_POOL``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pools import opened
from picas.pilot import CommandRunner, FunctionRunner, Pilot, Runner
from picas.pilot.pace import AHEAD_SECONDS
from picas.pool import Pool
from picas.process import adopt_orphans
from picas.token import Document, Outcome


class Log:
    """What one pilot ran, and when the last of it was recorded."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.ended: list[str] = []
        self.last = 0.0

    def run(self, doc: Document) -> int:
        """The work: nothing."""
        self.executed.append(doc["_id"])
        return 0

    def observe(self, doc: Document, what: str, _: Outcome) -> None:
        """Take note of a token that was recorded."""
        if what == "done":
            self.ended.append(doc["_id"])
        self.last = time.monotonic()

    def as_json(self) -> str:
        """The report to who started this worker."""
        return json.dumps({"executed": self.executed, "ended": self.ended, "last": self.last})


class Quiet(Log):
    """Counts nothing, so that memory is the pilot's alone."""

    def run(self, _: Document) -> int:
        """The work: nothing."""
        return 0

    def observe(self, _doc: Document, _what: str, _outcome: Outcome) -> None:
        """Look at the clock."""
        self.last = time.monotonic()


def main() -> None:
    """Work until the pool is empty."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pilot", description=__doc__)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--command", action="store_true", help="run the tokens' commands")
    parser.add_argument("--one-at-a-time", action="store_true", help="claim nothing ahead")
    parser.add_argument("--quiet", action="store_true", help="do not report what was run")
    options = parser.parse_args()
    adopt_orphans()
    log = Quiet() if options.quiet else Log()
    with opened(os.environ["PICAS_POOL"]) as pool, tempfile.TemporaryDirectory() as name:
        pilot = _pilot(pool, options, log, Path(name))
        print("ready", flush=True)
        sys.stdin.readline()
        pilot.run()
        print(log.as_json(), flush=True)


def _pilot(pool: Pool, options: argparse.Namespace, log: Log, folder: Path) -> Pilot:
    runner: Runner = FunctionRunner(log.run)
    if options.command:
        runner = CommandRunner(pool.address, logs=folder / "logs")
    return Pilot(
        pool,
        runner,
        slots=options.slots,
        observe=log.observe,
        spool=folder / "spool",
        claim_ahead=0.0 if options.one_at_a_time else AHEAD_SECONDS,
    )


if __name__ == "__main__":
    main()
