"""The pilot's loop: claim, hand to the slots, record, until there is a reason to end."""

import logging
import queue
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from picas.errors import (
    Forbidden,
    PoolError,
    PoolUnreachable,
    ServerError,
    Unauthorized,
    ViewMissing,
)
from picas.pilot.document import PilotDocument, new_holder
from picas.pilot.lease import LeaseTimes
from picas.pilot.outage import Outage
from picas.pilot.pace import Pace
from picas.pilot.recorder import BATCH_TOKENS, Observer, Recorder, Summary
from picas.pilot.runner import Result, Runner
from picas.pilot.slots import Ended, Slots
from picas.pilot.stop import StopCriteria
from picas.pilot.watch import WorkWatcher
from picas.pool import Pool, Reaped
from picas.token import Document, Holder, Outcome

SETTLE_SECONDS = 0.05
"""How long a result may wait for others to be settled with it, while slots have work."""

TICK_SECONDS = 1.0
UNSTARTED_SECONDS = 2.0
"""A token claimed ahead and not started for so long is given back: others may be idle."""

OUTAGE_SECONDS = 3600.0
"""How long a pilot tries to reach a pool that went away."""

FAREWELL_SECONDS = 15.0
"""The same, once it was told to stop: schedulers kill 30 s after they asked."""

HURRY_SECONDS = 1.0
"""The same, once it was told to stop now."""

log = logging.getLogger("picas.pilot")


class Pilot:
    """Claims tokens of a view, runs them in slots and settles them.

    Args:
        pool: Where the tokens are.
        runner: How a token is run.
        view: Which tokens, ``design/view``.
        slots: How many at once.
        criteria: When to stop.
        observe: Told of each token that ended.
        holder: Who the pilot is; by default a new id on this host.
        times: The pool's lease time and heartbeat; by default what the environment sets.
        about: More facts for the pilot's document.
    """

    def __init__(
        self,
        pool: Pool,
        runner: Runner,
        *,
        view: str = "Monitor/todo",
        slots: int = 1,
        criteria: StopCriteria | None = None,
        observe: Observer | None = None,
        holder: Holder | None = None,
        times: LeaseTimes | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.holder = holder or new_holder()
        self.summary = Summary()
        self._pool = pool
        self._runner = runner
        self._view = view
        self._criteria = criteria or StopCriteria()
        self._events: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._slots = Slots(slots, runner, self._criteria.max_token_time, self._events.put)
        self._recorder = Recorder(pool, self.summary, self._criteria.max_scrub, observe)
        self._pace = Pace(slots)
        self._watcher = WorkWatcher(pool, self.wake)
        self._outage = Outage()
        # What may pass if it is waited for. Once the pool took our claims, being refused is no
        # mistake of ours any more: CouchDB locks an address out after wrong passwords from it.
        self._passing: tuple[type[PoolError], ...] = (PoolUnreachable, ServerError)
        self._out: set[str] = set()  # leases in the slots, waiting or running
        self._dry = False
        self._stopping: str | None = None
        self._told = self._said = self._hurry = False
        self._asked: float | None = None
        self._started = time.monotonic()
        facts = {"slots": slots, "view": view, **(about or {})}
        times = times or LeaseTimes.from_environ()
        self._lease = times.lease
        self._document = PilotDocument(pool, self.holder, facts, times.heartbeat, self._live)
        self._reap_at = self._started + self._next_reaping()

    @property
    def running(self) -> int:
        """Tokens that run now."""
        return len(self._slots.running_ids())

    def wake(self) -> None:
        """Look for work now; callable from any thread and from a signal handler."""
        self._dry = False
        self._events.put(None)

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End in good order: what runs is broken off and released, costing no retry.

        Callable from a signal handler, and again with `now` to allow no grace period.
        """
        if not self._told:
            self._stopping = reason
        self._told, self._hurry = True, now
        self._pool.hurry(HURRY_SECONDS if now else FAREWELL_SECONDS)
        self._slots.stop(now=now)
        self.wake()

    def stop_waiting(self, seconds: float) -> None:
        """Give up a request to the pool that has no answer for `seconds`.

        For a signal handler in the thread that runs the pilot.

        Raises:
            PoolUnreachable: Inside that request: what becomes of it is not known.
        """
        if self._asked is not None and time.monotonic() - self._asked > seconds:
            self._asked = None
            raise PoolUnreachable(f"no answer from {self._pool.url} in time")

    def run(self) -> Summary:
        """Work until there is a reason to end; returns what was done.

        Raises:
            PoolError: The pool refused (wrong password, no such view, …); what was claimed is
                given back as far as it can be.
        """
        try:
            self._document.start()
            self._loop()
        except BaseException:
            self._abandon()
            raise
        finally:
            self._watcher.close()
            self._slots.close()
            self._runner.close()
        self._document.end(self.summary.reason, write=not self._outage.lasted())
        return self.summary

    # --- the loop ------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            if self._recorder.pending and self._outage.over():
                self._record()
            why = self._why_stop()
            if why is not None:
                self._say_stop(why)
                self._give_back(0.0)
                if self._at_rest() or self._give_up():
                    self.summary.reason = why
                    return
            elif self._outage.over():
                self._give_back(UNSTARTED_SECONDS)
                resting = self._at_rest() and not self._criteria.endless
                if resting or not self._dry:
                    self._claim()
                if time.monotonic() >= self._reap_at or (resting and self._dry):
                    self._reap()
                if resting and self._dry:
                    self.summary.reason = f"no work left in {self._view}"
                    return
            self._collect()

    def _say_stop(self, why: str) -> None:
        """Acknowledge a signal, once, while tasks still run."""
        if self._told and not self._said and (running := self.running):
            self._said = True
            tasks = "1 task" if running == 1 else f"{running} tasks"
            log.warning("%s: ending %s; Ctrl-C again leaves no time for that", why, tasks)

    def _at_rest(self) -> bool:
        return not (self._out or self._recorder.pending or self._pool.in_doubt)

    def _why_stop(self) -> str | None:
        """Why no new token is started, or None; what ends a pilot once ends it for good."""
        if self._stopping is None:
            elapsed = time.monotonic() - self._started
            self._stopping = self._criteria.reason(self.summary.counters.ran, elapsed)
        if self._stopping is None and self._outage.lasted() > OUTAGE_SECONDS:
            self.summary.outage = True
            self._stopping = f"the pool did not answer for {OUTAGE_SECONDS:.0f} s"
        return self._stopping

    def _claim(self) -> None:
        """Fill the slots; notes if the view has nothing left, until something wakes the pilot."""
        want = self._pace.want(len(self._out))
        if self._criteria.max_tasks is not None:
            in_hand = self.summary.counters.ran + len(self._out) + self._recorder.pending
            want = min(want, self._criteria.max_tasks - in_hand)
        if want <= 0:
            return
        claimed: list[Document] = []
        with self._asking():
            self._dry = False
            claimed = self._pool.claim(self._view, want, self.holder)
            if not claimed and not self._watcher.ready:
                self._watcher.mark()
                claimed = self._pool.claim(self._view, want, self.holder)
            self._dry = not claimed
        if claimed:
            self._passing = (PoolUnreachable, ServerError, Unauthorized, Forbidden)
            self._out |= {doc["lease"] for doc in claimed}
            self._slots.put(claimed)
        elif self._dry:
            self._watcher.watch()

    def _collect(self) -> None:
        """Wait for something to happen; gather results that end close together."""
        deadline = time.monotonic() + min(TICK_SECONDS, self._outage.wait)
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left)
            except queue.Empty:
                return
            if event is None:
                return
            if not self._recorder.pending:
                deadline = time.monotonic() + SETTLE_SECONDS
            self._came_back(event)
            starving = self._slots.waiting == 0 and self._events.empty()
            if starving or self._recorder.pending >= BATCH_TOKENS or self._stopping:
                return

    def _came_back(self, ended: Ended) -> None:
        self._out.discard(ended.token["lease"])
        self._recorder.add(ended)
        result = ended.result
        if result.trouble:
            self.summary.trouble = result.trouble
            self._stopping = self._stopping or f"this host cannot run tasks: {result.trouble}"
        elif not result.stopped:
            self._pace.saw(result.outcome.wall)

    # --- the pool ------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Ask the pool; what may pass begins an outage, an answer ends it."""
        self._asked = time.monotonic()
        try:
            yield
        except self._passing as error:
            self._outage.began(error)
        else:
            self._outage.ended()
        finally:
            self._asked = None

    def _record(self) -> None:
        """Settle results, and release what was broken off."""
        before = self.summary.counters.ran
        with self._asking():
            self._recorder.settle()
            self._recorder.release(self._stopping)
        stop = self._criteria.stop_function
        for _ in range(self.summary.counters.ran - before):
            if stop is not None and stop():
                self._stopping = self._stopping or "stop_function"

    def _give_back(self, older_than: float) -> None:
        """Release tokens that wait for a slot, and at the end those whose claim was in doubt."""
        tokens = self._slots.take_back(older_than)
        if not self._outage.over() or not (tokens or (self._stopping and self._pool.in_doubt)):
            self._slots.put(tokens)
            return
        released = False
        with self._asking():
            doubtful = self._pool.recover_claims() if self._stopping else []
            self._pool.release([*tokens, *doubtful])
            released = True
        if released:
            self._out -= {doc["lease"] for doc in tokens}
        else:
            self._slots.put(tokens)

    def _reap(self) -> None:
        """Give back the tokens of pilots that are gone, now and then and before ending."""
        self._reap_at = time.monotonic() + self._next_reaping()
        reaped = Reaped()
        with self._asking():
            try:
                reaped = self._pool.reap(self._lease)
            except ViewMissing as error:
                # The pilot's own work does not need that view: no reason to end.
                log.warning("tokens of pilots that are gone cannot be looked for: %s", error)
        if reaped.pilots:
            log.warning(
                "%d pilots are gone: %d of their tokens given back, %d closed as errors",
                len(reaped.pilots),
                reaped.tokens,
                reaped.errors,
            )
        if reaped.tokens:
            self._dry = False

    def _next_reaping(self) -> float:
        """Seconds until this pilot looks again: at random, so that a thousand do not at once."""
        return self._lease * random.uniform(0.5, 1.5)

    # --- ends ----------------------------------------------------------------------------------

    def _give_up(self) -> bool:
        """Tell whether a pilot that is to stop has waited long enough for its pool."""
        patience = 0.0 if self._hurry else FAREWELL_SECONDS if self._told else OUTAGE_SECONDS
        busy = len(self._out) > self._slots.waiting
        if busy or not self._outage.lasted() > patience:
            return False
        waiting = [doc["_id"] for doc in self._slots.take_back()]
        self.summary.unsettled += [*self._recorder.pending_ids(), *waiting, *self._pool.in_doubt]
        return True

    def _abandon(self) -> None:
        """After an error: end what runs, record and give back what still can be."""
        self._slots.stop(now=True)
        for doc in self._slots.take_back():
            self._came_back(Ended(doc, _UNSTARTED))
        while self._out:
            event = self._events.get()
            if event is not None:
                self._came_back(event)
        # Each by itself: what cannot be settled must not keep the others locked.
        for step in (self._recorder.release, self._recorder.settle):
            try:
                step()
            except PoolError as error:
                log.warning("tokens could not be given back: %s", error)
        self._document.end("error", write=True)

    def _live(self) -> dict[str, Any]:
        running = self._slots.running_ids()
        unsettled = len(self.summary.unsettled)
        return self.summary.counters.as_dict() | {"running": running, "unsettled": unsettled}


_UNSTARTED = Result(Outcome(None, 0, 0, "", 0.0), stopped=True)
