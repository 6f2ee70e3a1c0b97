"""Records in the pool how tokens ended: results are settled, what was broken off is released."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from picas import token
from picas.pilot.document import Counters
from picas.pilot.slots import Ended
from picas.pool import Pool, Settlement, Verdict
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
        outage: It ended because the pool did not answer for too long.
    """

    counters: Counters = field(default_factory=Counters)
    reason: str = ""
    trouble: str | None = None
    unsettled: list[str] = field(default_factory=list)
    outage: bool = False


class Recorder:
    """Holds what ended until the pool has it.

    Args:
        pool: The pool.
        summary: Counts what was recorded.
        max_scrub: How often a failing token is given another try.
        observe: Told of each token that was recorded.
    """

    def __init__(
        self, pool: Pool, summary: Summary, max_scrub: int, observe: Observer | None
    ) -> None:
        self._pool = pool
        self._summary = summary
        self._max_scrub = max_scrub
        self._observe = observe
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

    def pending_ids(self) -> list[str]:
        """Their ids."""
        return [ended.token["_id"] for ended in (*self._finished, *self._broken)]

    def settle(self) -> None:
        """Record results, a batch at a time; after an error the rest is still there.

        Raises:
            PoolError: The pool did not answer, or refused the request as a whole.
        """
        while self._finished:
            batch, settlements = self._next_batch()
            verdicts = self._pool.settle(settlements)
            del self._finished[: len(batch)]
            for ended, settlement, verdict in zip(batch, settlements, verdicts, strict=True):
                self._settled(ended, settlement, verdict)

    def release(self, why: str | None = None) -> None:
        """Give back what was broken off, because of `why`; costs the tokens no retry.

        Raises:
            PoolError: The pool did not answer, or refused the request as a whole.
        """
        reasons = {ended.result.trouble for ended in self._broken}
        for trouble in sorted(reasons, key=str):
            group = [ended for ended in self._broken if ended.result.trouble == trouble]
            tokens = [ended.token for ended in group]
            verdicts = self._pool.release(
                tokens, trouble or f"released: {why or 'the pilot failed'}"
            )
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
        tries_left = token.scrub_count(ended.token) < self._max_scrub
        again = outcome.exit_code != 0 and tries_left
        return Settlement(ended.token, outcome, again, ended.result.files)

    def _settled(self, ended: Ended, settlement: Settlement, verdict: Verdict) -> None:
        counters, token_id = self._summary.counters, ended.token["_id"]
        if verdict is Verdict.REFUSED:
            self._summary.unsettled.append(token_id)
            self._tell(ended, "refused")
            return
        if verdict is Verdict.FENCED:
            counters.fenced += 1
            what = "fenced"
            log.warning("%s: the lease was gone, so its result was not recorded", token_id)
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
        self._tell(ended, what)

    def _released(self, ended: Ended, verdict: Verdict) -> None:
        if verdict is Verdict.REFUSED:
            self._summary.unsettled.append(ended.token["_id"])
        elif verdict is Verdict.RECORDED:
            self._summary.counters.released += 1
        _delete(ended)
        self._tell(ended, "released")

    def _tell(self, ended: Ended, what: str) -> None:
        outcome, token_id = ended.result.outcome, ended.token["_id"]
        facts = {"token": token_id, "outcome": what, "wall": outcome.wall}
        log.info("%s %s: %s", token_id, what, outcome.reason, extra=facts)
        if self._observe is not None:
            self._observe(ended.token, what, outcome)


def _delete(ended: Ended) -> None:
    """Delete the files that are of no use once the token's end is recorded."""
    for path in ended.result.scratch:
        path.unlink(missing_ok=True)
