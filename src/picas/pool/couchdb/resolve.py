"""Leaving one revision of each token that has several."""

import logging
from collections.abc import Callable, Sequence

from picas import token
from picas.errors import PoolError
from picas.pool.base import Written
from picas.pool.couchdb import conflicts
from picas.pool.couchdb.conflicts import Resolution
from picas.token import Document

Revisions = Callable[[Sequence[str]], list[list[Document]]]
"""Reads the leaves of documents, deletions too."""

log = logging.getLogger("picas.pool")


class Resolver:
    """Resolves conflicts as they are met; all who meet the same ones do the same.

    Args:
        revisions: Reads leaves.
        write: Writes documents, each against its revision.
        now: The server's time.
    """

    def __init__(
        self,
        revisions: Revisions,
        write: Callable[[Sequence[Document]], list[Written]],
        now: Callable[[], float],
    ) -> None:
        self._revisions = revisions
        self._write = write
        self._now = now
        self._told: set[str] = set()

    def resolve(self, found: Sequence[Sequence[Document]]) -> list[Document | None]:
        """The revisions that stand among these leaves, document by document.

        Losing revisions of tokens are deleted, as well as that can be done now.
        """
        docs = [conflicts.standing(leaves) for leaves in found]
        plans = [
            plan
            for leaves in found
            if len(leaves) > 1 and (plan := conflicts.resolution(leaves)) is not None
        ]
        if not plans:
            return docs
        for plan in plans:
            self._tell(plan)
        try:
            now = self._carry_out(plans)
        except PoolError as error:
            # Whoever reads the token next does it: this user may have no right to write.
            log.info("conflicting revisions stay for now: %s", error)
            return docs
        return [now.get(doc["_id"], doc) if doc else None for doc in docs]

    def _carry_out(self, plans: Sequence[Resolution]) -> dict[str, Document | None]:
        """Merge, delete, and look what stands now, by id."""
        merges = [plan.merged for plan in plans if plan.merged]
        written = self._write(merges) if merges else []
        # Somebody else is at it, or the token goes on: its losers stay until the next look.
        open_ids = {answer.id for answer in written if answer.rev is None}
        done = [plan for plan in plans if plan.standing["_id"] not in open_ids]
        deletions = [deletion for plan in done for deletion in plan.deletions()]
        if deletions:
            self._write(deletions)
        leaves = self._revisions([plan.standing["_id"] for plan in plans])
        now = {p.standing["_id"]: conflicts.standing(r) for p, r in zip(plans, leaves, strict=True)}
        return now | self._revive(plans, leaves)

    def _revive(
        self, plans: Sequence[Resolution], leaves: Sequence[Sequence[Document]]
    ) -> dict[str, Document | None]:
        """Write again what resolutions that met each other have deleted altogether."""
        moment = self._now()
        revived = [
            doc
            for plan, revisions in zip(plans, leaves, strict=True)
            if (doc := conflicts.revival(plan, revisions, moment)) is not None
        ]
        written = self._write(revived) if revived else []
        return {
            doc["_id"]: {**doc, "_rev": answer.rev}
            for doc, answer in zip(revived, written, strict=True)
            if answer.rev is not None
        }

    def _tell(self, plan: Resolution) -> None:
        """Say once of a token that it had several revisions, and aloud if a result is dropped."""
        token_id = plan.standing["_id"]
        if token_id in self._told:
            return
        self._told.add(token_id)
        state = token.state(plan.standing)
        log.log(
            logging.WARNING if plan.merged else logging.INFO,
            "%s: of %d conflicting revisions the one that is %s stands%s",
            token_id,
            len(plan.losers) + 1,
            state.value if state else "of no state",
            "; a result of another was dropped, its history tells" if plan.merged else "",
        )
