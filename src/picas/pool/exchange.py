"""One write with which a pilot records what has ended and claims what comes next."""

import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from picas import token, wellformed
from picas.backoff import delays
from picas.errors import Conflict, InputError, PoolError, Refused, TaskError, TooLarge
from picas.needs import Offer
from picas.packing import Room
from picas.pool.base import Candidates, Store, Written
from picas.pool.claims import Doubts
from picas.pool.files import send
from picas.pool.settle import Settlement, Verdict, change_for
from picas.pool.update import Change, Updated, Updating
from picas.token import Document, Holder

log = logging.getLogger("picas.pool")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pilot wants to claim.

    Attributes:
        view: Of which view.
        limit: How many tokens at most.
        holder: Who claims.
        offer: What the pilot has for them; tokens that need more are passed over.
        at_once: Slots that are free now; None: enough for all. The others are claimed ahead.
        room: What of the pilot they may fill; None: whatever there is.
    """

    view: str
    limit: int
    holder: Holder
    offer: Offer | None = None
    at_once: int | None = None
    room: Room | None = None

    def candidates(self, store: Store, limit: int, *, quick: bool = False) -> Candidates:
        """What of the view may be claimed; see `picas.pool.base.Store.candidates`."""
        found = store.candidates(self.view, limit, self.ready_at, quick=quick)
        return found if self.room is None else replace(found, docs=self.room.fill(found.docs))

    def ready_at(self, doc: Document) -> float:
        """From when on this pilot may run a token; infinite if never, or if it has no room now."""
        at = (self.offer or Offer(self.holder.host)).ready_at(doc)
        fits = self.room is None or at == math.inf or self.room.has(doc)
        return at if fits else math.inf

    def leases(self, docs: Sequence[Document]) -> Iterator[tuple[Document, str]]:
        """Tokens in the order in which they will start, each with its lease.

        First come those that were lost with a pilot, and another loss of them will count: what
        kills pilots must be found out, however far ahead it is claimed.
        """
        slots: float = len(docs) if self.at_once is None else self.at_once
        for doc in sorted(docs, key=token.was_lost, reverse=True):
            yield doc, token.new_lease(ahead=slots <= 0 and not token.was_lost(doc))
            slots -= 1 if self.room is None else self.room.slots(doc)


class Exchange:
    """Settles results and claims tokens, both by the same write where there are both.

    Args:
        store: Where the tokens are.

    Attributes:
        doubts: Claims that were sent and are not granted yet.
        passed_over: What the latest claim that came back empty passed over; nothing is known of
            that where results went with it.
    """

    def __init__(self, store: Store) -> None:
        self.doubts = Doubts(store)
        self.passed_over = Candidates()
        self._store = store
        self._most = sys.maxsize

    def make(
        self, settlements: Sequence[Settlement], wish: Wish | None
    ) -> tuple[list[Verdict], list[Document]]:
        """Settle and claim; see `picas.pool.Pool.exchange`."""
        verdicts: dict[int, Verdict] = {}
        changes: list[tuple[Document, Change]] = []
        order: list[int] = []
        now = self._store.now()
        for i, settlement in enumerate(settlements):
            try:
                wellformed.check_fields(settlement.token["_id"], settlement.outcome.fields)
                base, attachments = send(self._store, settlement)
            except (InputError, TaskError, TooLarge, Refused, OSError, ValueError) as problem:
                verdicts[i] = self._settle_bare(settlement, problem)
            else:
                changes.append((base, change_for(settlement, attachments, now)))
                order.append(i)
        settling = Updating(self._store, changes)
        granted = [] if wish is None else self._claim(wish, settling)
        try:
            for i, result in zip(order, settling.finish(), strict=True):
                verdicts[i] = self._verdict(settlements[i], result)
        except BaseException:
            for doc in granted:  # the caller does not hear of them now, but by the next claim
                self.doubts.add(doc, whole=False)
            raise
        return [verdicts[i] for i in range(len(settlements))], granted

    # --- claims --------------------------------------------------------------------------------

    def _claim(self, wish: Wish, settling: Updating) -> list[Document]:
        """Claim until some are granted or the view has none; results go with the first write."""
        sure = self._store.sure  # may be asked of the server: before anything is claimed
        quick = bool(settling.documents)  # a long look would hold results up
        granted = self.doubts.resolve()
        waits = delays(0.01, 1.0)
        while not granted:
            found = wish.candidates(self._store, min(wish.limit, self._most), quick=quick)
            if not found.docs:
                self.passed_over = found
                break
            now = self._store.now()
            claims = [
                token.claim(doc, now, wish.holder, lease) for doc, lease in wish.leases(found.docs)
            ]
            granted = self._granted(claims, self._write(settling, claims), sure=sure)
            if not granted:
                time.sleep(next(waits))
        return granted

    def _write(self, settling: Updating, claims: list[Document]) -> list[Written]:
        """Write claims, and in the same request the results that are not written yet."""
        results = settling.documents
        try:
            answers = self._store.write([*results, *claims])
        except PoolError:  # even when refused: the store may have sent several requests
            for doc in claims:
                self.doubts.add(doc, whole=False)
            raise
        settling.written(answers[: len(results)])
        return answers[len(results) :]

    def _granted(
        self, claims: list[Document], answers: list[Written], *, sure: bool
    ) -> list[Document]:
        """The claims that count, by the answers of the store."""
        taken = [(d, a) for d, a in zip(claims, answers, strict=True) if a.rev is not None]
        # Where others were mostly faster, there is little left, or many want it: ask for less.
        crowded = 2 * len(taken) < len(claims)
        self._most = max(1, len(claims) // 2) if crowded else min(2 * self._most, sys.maxsize)
        refused = [a.error for a in answers if a.error and not isinstance(a.error, Conflict)]
        if refused and not taken:
            raise refused[0]  # asking again would meet the same
        if sure:
            return [{**doc, "_rev": answer.rev} for doc, answer in taken]
        for doc, answer in taken:
            self.doubts.add(doc, whole=answer.whole)
        return self.doubts.resolve()

    # --- results -------------------------------------------------------------------------------

    def _verdict(self, settlement: Settlement, result: Updated) -> Verdict:
        if result.error is not None:
            return self._settle_bare(settlement, result.error)
        return Verdict.RECORDED if token.ended(result.doc, settlement.lease) else Verdict.FENCED

    def _settle_bare(self, settlement: Settlement, why: Exception) -> Verdict:
        """Record that it ended, though its logs, files or fields cannot be stored."""
        if settlement.is_bare:
            log.error("%s: its result is refused: %s", settlement.token["_id"], why)
            return Verdict.REFUSED
        (verdict,), _ = self.make([settlement.bare(str(why))], None)
        return Verdict.BARE if verdict is Verdict.RECORDED else verdict
