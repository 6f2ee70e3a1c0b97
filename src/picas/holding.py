"""The tokens that a script of the classic API holds: claimed for it, and kept until they end.

A script gets tokens one at a time and runs them in its own process. Towards the pool it is a pilot
with one slot: it has a document with a heartbeat, its claims carry a lease, and what it recorded is
written by the holder of the lease only, into the token as it is by then.
"""

import atexit
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from picas import token, views
from picas.backoff import delays
from picas.dice import dice
from picas.errors import PoolError, PoolUnreachable, ServerError
from picas.merge import merge
from picas.pilot import LeaseTimes, new_holder
from picas.pilot.document import Ask, Counters, PilotDocument
from picas.pilot.loop import FAREWELL_SECONDS, OUTAGE_SECONDS
from picas.pilot.reaper import Reaper
from picas.pool import Candidates, Pool, Query, Store, Wish
from picas.pool.update import update
from picas.token import Document, Outcome, State
from picas.views import Design

WINDOW = 100
"""Rows among which a token is chosen, so that pilots do not all reach for the same."""

log = logging.getLogger("picas.classic")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection(Wish):
    """Tokens of any view, or of a part of it: todo, or whatever else the view shows.

    Attributes:
        query: Parameters of the view.
    """

    query: Query = field(default_factory=dict)

    def candidates(self, store: Store, limit: int, *, quick: bool = False) -> Candidates:  # noqa: ARG002
        """Documents of the first rows that nobody has, in any order."""
        rows = store.rows(self.view, {"limit": WINDOW, **self.query}).rows
        ids = list(dict.fromkeys(row["id"] for row in rows if row.get("id")))
        found = [doc for doc in store.read(ids) if doc is not None and not token.is_locked(doc)]
        dice.shuffle(found)
        now = store.now()
        moments = [self.ready_at(d) if token.state(d) is State.TODO else 0.0 for d in found]
        docs = [doc for doc, at in zip(found, moments, strict=True) if at <= now]
        return Candidates(docs[:limit]) if docs else Candidates.later(moments)


class Holding:
    """Claims tokens for a script, and records how they end.

    Args:
        pool: Where the tokens are.
    """

    def __init__(self, pool: Pool) -> None:
        self.counters = Counters()
        self.busy = False
        """True while a claim or a result is under way: a signal has to wait for it."""
        self.interrupted: Callable[[], object] | None = None
        """Called as soon as it is not; to be set by a signal handler."""
        self.drained = False
        """Somebody asked this pilot to end: no token is claimed any more."""
        self.stop: Callable[[], object] | None = None
        """Called if somebody asked it to end at once; to be set by an actor."""
        self._pool = pool
        self._held: dict[str, Document] = {}
        self._document: PilotDocument | None = None
        self._reaper: Reaper | None = None
        self._ours: dict[str, bool] = {}
        self._watch_until: float | None = None
        self._given_up = float("inf")
        self._actors = 0
        self._pid = os.getpid()

    # --- claims --------------------------------------------------------------------------------

    def claim(self, view: str, query: Query, *, last: bool) -> Document | None:
        """Take a token of a view from todo to locked.

        Args:
            view: ``design/view``.
            query: Parameters of the view; without them all of it counts.
            last: There will be no other look if this one finds nothing: tokens of pilots that are
                gone are waited for.

        Returns:
            The locked token; None if there is none.

        Raises:
            PoolError: The pool refused, or did not answer for an hour.
        """
        self._begin(view)
        wish = self._wish(view, query)
        while not self.drained:
            if self._reaper is not None and self._reaper.is_due:
                self._reap(thorough=False)
            with self._undisturbed():
                _, granted = self._patiently(lambda: self._pool.exchange((), wish))
                self._held |= {doc["_id"]: doc for doc in granted}
            if granted:
                return deepcopy(granted[0])
            if not (last and self._others_end()):
                break
        return None

    def changed(self, since: str | None, timeout: float) -> str | None:
        """Wait until a token becomes todo.

        Args:
            since: The point to wait from; None answers at once with the present one.
            timeout: Seconds to wait at most.

        Returns:
            The point to wait from next.
        """
        try:
            return self._pool.changes(since, timeout=timeout, todo=True).seq
        except (PoolUnreachable, ServerError):
            time.sleep(min(timeout, 1.0))
            return since

    def _wish(self, view: str, query: Query) -> Wish:
        design, part = views.split(view)
        holder = self._holder
        if not query and part == views.TODO and self._is_ours(design):
            return Wish(view, 1, holder)
        wanted = {name: value for name, value in query.items() if name != "include_docs"}
        return Selection(view, 1, holder, query=wanted)

    def _is_ours(self, design: str) -> bool:
        """Tell whether a design's views are the standard ones, which pilots look through faster."""
        if design not in self._ours:
            (doc,) = self._patiently(lambda: self._pool.store.read([f"_design/{design}"]))
            self._ours[design] = doc is not None and not Design.from_document(doc).raw
        return self._ours[design]

    def _others_end(self) -> bool:
        """Look a last time for pilots that are gone; tells whether to look for work again."""
        suspects = self._reap(thorough=True)
        if suspects is None:
            return True
        assert self._reaper is not None
        now = time.monotonic()
        if self._watch_until is None and suspects:
            self._watch_until = now + self._reaper.telling
        if not suspects or self._watch_until is None or now >= self._watch_until:
            return False
        time.sleep(min(self._watch_until - now, max(0.05, self._reaper.wait)))
        return True

    def _reap(self, *, thorough: bool) -> bool | None:
        """Give back the tokens of pilots that are gone.

        Returns:
            None if there were any; else whether a pilot is suspected.
        """
        assert self._reaper is not None
        try:
            reaped = self._reaper.reap(thorough=thorough)
        except PoolError as error:
            log.warning("tokens of pilots that are gone cannot be looked for: %s", error)
            return False
        return None if reaped.tokens else bool(reaped.suspects)

    # --- the end of tokens ---------------------------------------------------------------------

    def holds(self, doc: Mapping[str, Any]) -> bool:
        """Tell whether a document is a token that was claimed here and has not ended."""
        held = self._held.get(str(doc.get("_id")))
        return held is not None and held["lease"] == doc.get("lease")

    def settle(self, mine: Document, outcome: Outcome) -> bool:
        """Record a token as its script left it, in the newest revision, and end the lease.

        Args:
            mine: The token; it is made equal to what is in the pool then.
            outcome: How the attempt ended.

        Returns:
            False if the lease was gone: others have the token now, and nothing was written.

        Raises:
            PoolError: The pool refused it even without its results, or did not answer for an hour.
        """
        with self._undisturbed():
            return self._settle(self._held[mine["_id"]], mine, outcome)

    def _settle(self, base: Document, mine: Document, outcome: Outcome) -> bool:
        try:
            json.dumps(mine, allow_nan=False)  # SQLite would take what CouchDB refuses
            written = self._write(base, mine, outcome)
        except (PoolUnreachable, ServerError):
            raise
        except Exception as error:  # noqa: BLE001 - what the script left may be anything
            log.warning("%s: its results were not stored: %s", mine["_id"], error)
            written = self._write(base, _bare(base, mine, outcome, str(error)), outcome)
        del self._held[mine["_id"]]
        if written is None:
            self.counters.fenced += 1
            log.warning(
                "%s: the lease was gone, so its result was not recorded: another pilot, or a "
                "person, has the token",
                mine["_id"],
            )
            return False
        self._count(written, outcome)
        mine.clear()
        mine.update(written)
        return True

    def closing(self, mine: Document) -> Document | None:
        """What to write of a held token that its script saves by itself.

        Returns:
            The token with its lease ended, if the script has closed it or given it back; None if
            it is to go on.
        """
        if token.is_locked(mine):
            return None
        begun = float(self._held[mine["_id"]]["lock"])
        code = mine.get("exit_code")
        code = code if isinstance(code, int) else None
        now = self._pool.now()
        reason = "given back by its script" if code is None else f"exit code {code}"
        outcome = Outcome(code, begun, now, reason, max(0.0, now - begun))
        return token.closed(mine, now, outcome)

    def saved(self, mine: Document) -> None:
        """Note that a script has written a held token."""
        if token.is_locked(mine):
            self._held[mine["_id"]] = deepcopy(mine)
        else:
            del self._held[mine["_id"]]

    def give_back(self, reason: str, *, but: Collection[str] = ()) -> None:
        """Release the tokens that are held, and those whose claim was in doubt.

        Args:
            reason: Why, for the history; empty for tokens that were not begun.
            but: Ids of those that are kept.
        """
        try:
            docs = [doc for name, doc in self._held.items() if name not in but]
            docs += self._pool.recover_claims()
            if docs:
                self._pool.release(docs, reason)
        except PoolError as error:
            log.warning("tokens could not be given back, and stay locked for now: %s", error)
        self._held = {name: doc for name, doc in self._held.items() if name in but}

    def enter(self) -> Collection[str]:
        """An actor begins; one may run inside another's token. Returns the tokens of the others."""
        self._actors += 1
        return tuple(self._held)

    def leave(self, others: Collection[str], reason: str | None) -> None:
        """An actor ends: what it holds is given back; with the last, the heartbeat stops.

        Args:
            others: What `enter` returned.
            reason: Why it ended; None if a signal ended it, which has seen to its tokens.
        """
        self._actors -= 1
        if reason is None:
            return
        self.give_back("", but=others)
        if self._actors == 0:
            self.end(reason)

    def hurry(self) -> None:
        """The process has to end: do not wait long for the pool any more."""
        self._given_up = time.monotonic() + FAREWELL_SECONDS
        self._pool.hurry(FAREWELL_SECONDS)

    def end(self, reason: str) -> None:
        """The script has no more use for the pool: the heartbeat stops."""
        document, self._document = self._document, None
        if document is not None:
            atexit.unregister(self._exit)
            document.end(reason, write=True)

    # --- inside --------------------------------------------------------------------------------

    def _begin(self, view: str) -> None:
        """Begin to be a pilot, at the first claim."""
        if self._document is not None:
            return
        self._holder = new_holder()
        self._pid = os.getpid()
        settings = self._patiently(lambda: self._pool.settings(lenient=True))
        times = LeaseTimes.of(settings)
        facts = {"slots": 1, "view": view, "actor": True}
        document = PilotDocument(
            self._pool,
            self._holder,
            facts,
            times.heartbeat,
            self._live,
            lambda: None,
            self._asked,
        )
        self._patiently(document.start)
        self._document = document
        self._reaper = Reaper(self._pool, times.lease)
        atexit.register(self._exit)

    def _asked(self, what: Ask) -> None:
        self.drained = True
        if what is Ask.STOP and self.stop is not None:
            self.stop()

    def _exit(self) -> None:
        if os.getpid() != self._pid:  # a forked child has nothing to give back
            return
        self.hurry()
        self.give_back("the script ended")
        self.end("the script ended")

    def _live(self) -> dict[str, Any]:
        return self.counters.as_dict() | {"running": list(self._held)}

    def _write(self, base: Document, mine: Document, outcome: Outcome) -> Document | None:
        """Write what became of a token; None if the lease was gone."""
        now = self._pool.now()

        def change(theirs: Document) -> Document | None:
            if not token.holds(theirs, base):
                return None
            return token.closed(merge(base, mine, theirs), now, outcome)

        (result,) = self._patiently(lambda: update(self._pool.store, [(base, change)]))
        if result.error is not None:
            raise result.error
        recorded = result.changed or _has_ended(result.doc, base["lease"])
        return result.doc if recorded else None

    def _count(self, written: Document, outcome: Outcome) -> None:
        state, counters = token.state(written), self.counters
        if state is State.TODO and outcome.exit_code is None:
            counters.released += 1
        elif state is State.TODO:
            counters.scrubbed += 1
        elif state is State.ERROR:
            counters.error += 1
        else:
            counters.done += 1

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something with the pool, again and again while it does not answer."""
        waits = delays(0.5, 30.0)
        patience = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                return action()
            except (PoolUnreachable, ServerError) as error:
                left = min(patience, self._given_up) - time.monotonic()
                if left <= 0:
                    raise
                log.warning("waiting for the pool: %s", error)
            time.sleep(min(next(waits), left))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """A span that a signal does not break off: what it begins, it brings to its end."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            if self.interrupted is not None:
                interrupted, self.interrupted = self.interrupted, None
                interrupted()


def _has_ended(doc: Document | None, lease: str) -> bool:
    """Tell whether the history has the end of that attempt, however it ended."""
    return doc is not None and any(e.get("lease") == lease for e in token.attempts(doc))


def _bare(base: Document, mine: Document, outcome: Outcome, why: str) -> Document:
    """A token that could not be stored as its script left it: closed as an error that says so."""
    begun = {**base, "hostname": mine.get("hostname", ""), "exit_code": outcome.exit_code}
    failed = token.error(begun, outcome.end, f"its results were not stored: {why}")
    return failed | {"pilot": base["pilot"], "lease": base["lease"]}
