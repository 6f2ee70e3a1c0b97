"""The pilot's loop: claim, hand to the slots, settle, until there is a reason to end."""

import logging
import math
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from picas import token
from picas.backoff import delays
from picas.errors import PoolError, PoolUnreachable, ServerError
from picas.pilot.document import Counters, PilotDocument, new_holder
from picas.pilot.pace import Pace
from picas.pilot.runner import Result, Runner
from picas.pilot.slots import Ended, Slots
from picas.pilot.stop import StopCriteria
from picas.pilot.watch import WorkWatcher
from picas.pool import Pool, Settlement, Verdict
from picas.token import Document, Holder, Outcome

SETTLE_SECONDS = 0.05
"""How long a result may wait for others to be settled with it, while slots have work."""

SETTLE_MOST = 100
TICK_SECONDS = 1.0
UNSTARTED_SECONDS = 2.0
"""A token claimed ahead and not started for so long is given back: others may be idle."""

OUTAGE_SECONDS = 3600.0
"""How long a pilot tries to reach a pool that went away."""

FAREWELL_SECONDS = 30.0
"""The same, once it was told to stop."""

log = logging.getLogger("picas.pilot")

Observer = Callable[[Document, str, Outcome], None]
"""Told of each token that ended: the token, what became of it, and how it ended."""


@dataclass(slots=True)
class Summary:
    """What a pilot did.

    Attributes:
        counters: What became of its tokens.
        reason: Why it ended.
        trouble: Set if this host could not run tasks: why.
        unsettled: Tokens whose result could not be recorded because the pool did not answer.
        outage: It ended because the pool did not answer for too long.
    """

    counters: Counters = field(default_factory=Counters)
    reason: str = ""
    trouble: str | None = None
    unsettled: list[str] = field(default_factory=list)
    outage: bool = False


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
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.holder = holder or new_holder()
        self.summary = Summary()
        self._pool = pool
        self._runner = runner
        self._view = view
        self._criteria = criteria or StopCriteria()
        self._observe = observe
        self._events: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._slots = Slots(slots, runner, self._criteria.max_token_time, self._events.put)
        self._pace = Pace(slots)
        self._watcher = WorkWatcher(pool, self.wake)
        self._out: set[str] = set()  # leases in the slots, waiting or running
        self._pending: list[Ended] = []
        self._dry = False
        self._stopping: str | None = None
        self._told = self._hurry = False
        self._started = time.monotonic()
        self._outage = _Outage()
        facts = {"slots": slots, "view": view, **(about or {})}
        self._document = PilotDocument(pool, self.holder, facts, self._live)

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
        self._slots.stop(now=now)
        self.wake()

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
        self._document.end(self.summary.reason)
        return self.summary

    # --- the loop ------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            if self._pending and self._outage.over():
                self._settle()
            why = self._why_stop()
            if why is not None:
                self._give_back(0.0)
                if self._at_rest() or self._give_up():
                    self.summary.reason = why
                    return
            elif self._outage.over():
                self._give_back(UNSTARTED_SECONDS)
                resting = self._at_rest() and not self._criteria.endless
                if resting or not self._dry:
                    self._claim()
                if resting and self._dry:
                    self.summary.reason = f"no work left in {self._view}"
                    return
            self._collect()

    def _at_rest(self) -> bool:
        return not self._out and not self._pending

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
            in_hand = self.summary.counters.ran + len(self._out) + len(self._pending)
            want = min(want, self._criteria.max_tasks - in_hand)
        if want <= 0:
            return
        try:
            claimed = self._pool.claim(self._view, want, self.holder)
            if not claimed and not self._watcher.ready:
                self._watcher.mark()
                claimed = self._pool.claim(self._view, want, self.holder)
        except (PoolUnreachable, ServerError) as error:
            self._outage.began(error)
            return
        self._outage.ended()
        if claimed:
            self._out |= {doc["lease"] for doc in claimed}
            self._slots.put(claimed)
        else:
            self._dry = True
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
            if not self._pending:
                deadline = time.monotonic() + SETTLE_SECONDS
            self._came_back(event)
            starving = self._slots.waiting == 0 and self._events.empty()
            if starving or len(self._pending) >= SETTLE_MOST or self._stopping:
                return

    def _came_back(self, ended: Ended) -> None:
        self._out.discard(ended.token["lease"])
        self._pending.append(ended)

    # --- what becomes of tokens ----------------------------------------------------------------

    def _settle(self) -> None:
        """Record what ended: results are settled, what was broken off is released."""
        ended = self._pending
        broken = [e for e in ended if e.result.stopped or e.result.trouble]
        finished = [e for e in ended if not (e.result.stopped or e.result.trouble)]
        settlements = [self._settlement(e) for e in finished]
        try:
            verdicts = self._pool.settle(settlements) if settlements else []
            self._pending = broken
            for entry, settlement, verdict in zip(finished, settlements, verdicts, strict=True):
                self._settled(entry, settlement, verdict)
            for entry in broken:
                self._release([entry.token], entry.result)
            self._pending = []
        except (PoolUnreachable, ServerError) as error:
            self._outage.began(error)
        else:
            self._outage.ended()

    def _settlement(self, ended: Ended) -> Settlement:
        outcome = ended.result.outcome
        tries_left = token.scrub_count(ended.token) < self._criteria.max_scrub
        again = outcome.exit_code != 0 and tries_left
        return Settlement(ended.token, outcome, again, ended.result.files)

    def _settled(self, ended: Ended, settlement: Settlement, verdict: Verdict) -> None:
        counters, outcome = self.summary.counters, ended.result.outcome
        self._pace.saw(outcome.wall)
        if verdict is Verdict.FENCED:
            counters.fenced += 1
            what = "fenced"
            log.warning(
                "%s: the lease was gone, so its result was not recorded", ended.token["_id"]
            )
        elif settlement.again:
            counters.scrubbed += 1
            what = "scrubbed"
        elif outcome.exit_code == 0:
            counters.done += 1
            what = "done"
        else:
            counters.error += 1
            what = "error"
        if verdict is Verdict.RECORDED:
            for path in ended.result.scratch:
                path.unlink(missing_ok=True)
        elif verdict is Verdict.BARE:
            log.warning("%s: its logs and results were not stored", ended.token["_id"])
        self._tell(ended, what)
        if self._criteria.stop_function is not None and self._criteria.stop_function():
            self._stopping = self._stopping or "stop_function"

    def _release(self, tokens: list[Document], result: Result) -> None:
        if result.trouble:
            self.summary.trouble = result.trouble
            self._stopping = self._stopping or f"this host cannot run tasks: {result.trouble}"
        reason = result.trouble or f"released: {self._stopping}"
        self.summary.counters.released += self._pool.release(tokens, reason)
        for path in result.scratch:
            path.unlink(missing_ok=True)
        for doc in tokens:
            self._tell(Ended(doc, result), "released")

    def _give_back(self, older_than: float) -> None:
        """Release tokens that were claimed ahead and wait for a slot."""
        tokens = self._slots.take_back(older_than)
        if not tokens:
            return
        try:
            self._pool.release(tokens)
        except (PoolUnreachable, ServerError) as error:
            self._slots.put(tokens)
            self._outage.began(error)
        else:
            self._out -= {doc["lease"] for doc in tokens}

    def _tell(self, ended: Ended, what: str) -> None:
        outcome = ended.result.outcome
        log.info(
            "%s %s: %s",
            ended.token["_id"],
            what,
            outcome.reason,
            extra={"token": ended.token["_id"], "outcome": what, "wall": outcome.wall},
        )
        if self._observe is not None:
            self._observe(ended.token, what, outcome)

    # --- ends ----------------------------------------------------------------------------------

    def _give_up(self) -> bool:
        """Tell whether a pilot that is to stop has waited long enough for its pool."""
        patience = 0.0 if self._hurry else FAREWELL_SECONDS if self._told else OUTAGE_SECONDS
        busy = len(self._out) > self._slots.waiting
        if busy or not self._outage.lasted() > patience:
            return False
        self.summary.unsettled = [e.token["_id"] for e in self._pending]
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
        try:
            if self._pending:
                self._settle()
        except PoolError as error:
            log.warning("tokens could not be given back: %s", error)
        self._document.end("error")

    def _live(self) -> dict[str, Any]:
        running = self._slots.running_ids()
        return self.summary.counters.as_dict() | {"running": running}


_UNSTARTED = Result(Outcome(None, 0, 0, "", 0.0), stopped=True)


class _Outage:
    """A time in which the pool does not answer: when to try again, and how long it lasts."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next = 0.0
        self._waits = delays(0.5, 30.0)

    def began(self, error: PoolError) -> None:
        """Note a failure; logged once an outage."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning("%s; trying again, running tasks go on", error)
        self._next = now + next(self._waits)

    def ended(self) -> None:
        """Note that the pool answered."""
        if self._since is not None:
            log.warning("the pool is back after %.0f s", self.lasted())
            self._since = None
            self._waits = delays(0.5, 30.0)

    def over(self) -> bool:
        """Tell whether the pool may be asked (again)."""
        return self._since is None or time.monotonic() >= self._next

    def lasted(self) -> float:
        """Seconds since the first failure; 0 outside an outage."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    @property
    def wait(self) -> float:
        """Seconds until the pool may be asked again; without end outside an outage."""
        return math.inf if self._since is None else max(0.001, self._next - time.monotonic())
