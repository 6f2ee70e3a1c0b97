"""Records in the pool how tokens ended: results are settled, what was broken off is released."""

import contextlib
import logging
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from picas.pilot.document import Counters
from picas.pilot.slots import Ended
from picas.pilot.spool import Spool
from picas.pool import Pool, Settlement, Verdict, Wish
from picas.retry import Policies
from picas.token import Document, Outcome

BATCH_TOKENS = 100
BATCH_BYTES = 4_000_000
"""Bytes of logs and files that one settling write carries: memory stays flat."""

Observer = Callable[[Document, str, Outcome], None]
"""Told of each token that ended: the token, what became of it, and how it ended."""

log = logging.getLogger("picas.pilot")


@dataclass(slots=True)
class Summary:
    """What a pilot did.

    Attributes:
        counters: What became of its tokens.
        reason: Why it ended.
        trouble: Set if this host could not run tasks: why.
        unsettled: Tokens whose end could not be recorded; they stay locked.
        kept: Tokens whose results are not recorded, but kept on disk; they stay locked, too.
        kept_in: The folder of these results.
        outage: It ended because the pool did not answer for too long.
    """

    counters: Counters = field(default_factory=Counters)
    reason: str = ""
    trouble: str | None = None
    unsettled: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    kept_in: Path | None = None
    outage: bool = False

    def kept_line(self) -> str:
        """What a person is to do about the results that are kept, in one line."""
        number = f"{len(self.kept):,} result" + ("s" if len(self.kept) > 1 else "")
        command = shlex.join(["picas", "recover", str(self.kept_in)])
        return (
            f"{number} kept on disk; when the pool is back, {command!r} records what no other "
            "pilot ran meanwhile"
        )


class Recorder:
    """Holds what ended until the pool has it.

    Args:
        pool: The pool.
        summary: Counts what was recorded.
        policies: Whether and how failed tokens are tried again.
        observe: Told of each token that was recorded.
        spool: Where results are kept that the pool does not take; None: in memory only.
    """

    def __init__(
        self,
        pool: Pool,
        summary: Summary,
        policies: Policies,
        observe: Observer | None,
        spool: Spool | None = None,
    ) -> None:
        self._pool = pool
        self._summary = summary
        self._policies = policies
        self._observe = observe
        self._spool = spool
        self._too_much: set[str] = set()  # leases of results that the disk did not take
        self._finished: list[Ended] = []
        self._broken: list[Ended] = []

    def add(self, ended: Ended) -> None:
        """Take what left a slot."""
        broken_off = ended.result.stopped or ended.result.trouble
        (self._broken if broken_off else self._finished).append(ended)

    @property
    def pending(self) -> int:
        """Tokens that ended and are not recorded yet."""
        return len(self._finished) + len(self._broken)

    def keep(self) -> None:
        """Keep the results that wait on disk, too: the pool does not answer."""
        for i, ended in enumerate(self._finished):
            if ended.token["lease"] not in self._too_much:
                self._finished[i] = self._keep(ended) or ended

    def give_up(self) -> None:
        """Note what will not be recorded by this pilot; results stay on disk, if they can."""
        for ended in self._finished:
            self._leave(self._keep(ended) or ended)
        self._summary.unsettled += [ended.token["_id"] for ended in self._broken]

    def close(self) -> None:
        """Leave what is kept on disk to others."""
        if self._spool is not None:
            self._spool.close()

    def settle(
        self, wish: Wish | None = None, claimed: Callable[[list[Document]], None] | None = None
    ) -> bool:
        """Record results, a batch at a time; after an error the rest is still there.

        Args:
            wish: Tokens to claim by the write of the first batch.
            claimed: Given these tokens, before anything else can fail.

        Returns:
            Whether any were claimed.

        Raises:
            PoolError: The pool did not answer, or refused the request as a whole.
        """
        found = False
        while self._finished or wish is not None:
            batch, settlements = self._next_batch()
            verdicts, granted = self._pool.exchange(settlements, wish)
            wish = None
            if granted and claimed is not None:
                claimed(granted)
                found = True
            del self._finished[: len(batch)]
            for ended, settlement, verdict in zip(batch, settlements, verdicts, strict=True):
                self._settled(ended, settlement, verdict)
        return found

    def release(self, why: str | None = None) -> None:
        """Give back what was broken off, because of `why`; costs the tokens no retry.

        Raises:
            PoolError: The pool did not answer, or refused the request as a whole.
        """
        reasons = {ended.result.trouble for ended in self._broken}
        for trouble in sorted(reasons, key=str):
            group = [ended for ended in self._broken if ended.result.trouble == trouble]
            reason = trouble or f"released: {why or 'the pilot failed'}"
            files = {e.token["lease"]: e.result.files for e in group if e.result.files}
            verdicts = self._pool.release([ended.token for ended in group], reason, files)
            self._broken = [ended for ended in self._broken if ended.result.trouble != trouble]
            for ended, verdict in zip(group, verdicts, strict=True):
                self._released(ended, verdict)

    def _next_batch(self) -> tuple[list[Ended], list[Settlement]]:
        batch: list[Ended] = []
        settlements: list[Settlement] = []
        size = 0
        for ended in self._finished[:BATCH_TOKENS]:
            settlement = self._settlement(ended)
            size += settlement.size
            if batch and size > BATCH_BYTES:
                break
            batch.append(ended)
            settlements.append(settlement)
        return batch, settlements

    def _settlement(self, ended: Ended) -> Settlement:
        outcome = ended.result.outcome
        again = self._policies.of(ended.token).decide(ended.token, outcome)
        return Settlement(ended.token, outcome, again, ended.result.files)

    def _settled(self, ended: Ended, settlement: Settlement, verdict: Verdict) -> None:
        counters, token_id = self._summary.counters, ended.token["_id"]
        if verdict is Verdict.REFUSED:
            self._leave(self._keep(ended) or ended)
            self._tell(ended, "refused")
            return
        if verdict is Verdict.FENCED:
            counters.fenced += 1
            what = "fenced"
            kept = self._fence(ended, settlement)
            log.warning("%s: the lease was gone, so its result was not recorded%s", token_id, kept)
        elif settlement.again:
            counters.scrubbed += 1
            what = "scrubbed"
        elif settlement.outcome.exit_code == 0:
            counters.done += 1
            what = "done"
        else:
            counters.error += 1
            what = "error"
        if verdict is Verdict.RECORDED:
            _delete(ended)
        elif verdict is Verdict.BARE:
            log.warning("%s: its logs and results were not stored", token_id)
        if self._spool is not None:
            self._spool.drop(settlement.lease, leave_files=verdict is Verdict.BARE)
        self._tell(ended, what)

    def _keep(self, ended: Ended) -> Ended | None:
        """Write a result to the disk, unless it is there; None, with one warning, if it cannot."""
        if self._spool is None or ended.token["lease"] in self._spool:
            return ended
        try:
            return self._spool.keep(ended, self._settlement(ended))
        except OSError as error:
            if not self._too_much:
                log.warning(
                    "results that wait for the pool may be in memory only: cannot write %s: %s",
                    self._spool.folder,
                    error.strerror or error,
                )
            self._too_much.add(ended.token["lease"])
            return None

    def _leave(self, ended: Ended) -> None:
        """Note a result that is not recorded by this pilot."""
        if self._spool is not None and ended.token["lease"] in self._spool:
            self._summary.kept.append(ended.token["_id"])
            self._summary.kept_in = self._spool.folder.parent
        else:
            self._summary.unsettled.append(ended.token["_id"])

    def _fence(self, ended: Ended, settlement: Settlement) -> str:
        """Keep a result that nobody will record, for a person; says where."""
        if self._spool is None or self._keep(ended) is None:
            return ""
        try:
            return f"; it is kept in {self._spool.fence(settlement)}"
        except OSError as error:
            return f"; it cannot be kept on disk: {error.strerror or error}"

    def _released(self, ended: Ended, verdict: Verdict) -> None:
        if verdict is Verdict.REFUSED:
            self._summary.unsettled.append(ended.token["_id"])
        elif verdict is not Verdict.FENCED:
            self._summary.counters.released += 1
        if verdict is Verdict.BARE:
            log.warning("%s: its checkpoint was not stored", ended.token["_id"])
        _delete(ended)
        self._tell(ended, "released")

    def _tell(self, ended: Ended, what: str) -> None:
        outcome, token_id = ended.result.outcome, ended.token["_id"]
        facts = {"token": token_id, "outcome": what, "wall": outcome.wall}
        log.info("%s %s: %s", token_id, what, outcome.reason, extra=facts)
        if self._observe is not None:
            self._observe(ended.token, what, outcome)


def _delete(ended: Ended) -> None:
    """Delete the files and folders that are of no use once the token's end is recorded."""
    for path in ended.result.scratch:
        with contextlib.suppress(OSError):  # the pool has the result, and that is what counts
            try:
                path.unlink(missing_ok=True)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(path)
