"""The pilot's loop: claim, hand to the slots, record, until there is a reason to end."""

import logging
import math
import queue
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picas import needs, views
from picas.errors import InputError, PoolError
from picas.packing import Divided
from picas.pilot.document import Ask, PilotDocument, new_holder
from picas.pilot.farewell import nothing_left
from picas.pilot.health import Health
from picas.pilot.lease import LeaseTimes
from picas.pilot.load import Load
from picas.pilot.offering import Offering
from picas.pilot.outage import Outage
from picas.pilot.pace import AHEAD_SECONDS, Pace
from picas.pilot.places import places
from picas.pilot.reaper import Reaper
from picas.pilot.recorder import BATCH_TOKENS, Observer, Recorder, Summary
from picas.pilot.runner import Result, Runner
from picas.pilot.slots import Ended, Slots
from picas.pilot.spool import Spool
from picas.pilot.stop import StopCriteria
from picas.pilot.watch import WorkWatcher
from picas.pool import Pool, Wish
from picas.pool.reap import PILOT_PREFIX
from picas.retry import Policies
from picas.token import Document, Holder, Outcome

SETTLE_SECONDS = 0.05
"""How long a result may wait for others to be settled with it, while slots have work."""

TICK_SECONDS = 1.0
UNSTARTED_SECONDS = 2.0
"""A token claimed ahead and not started for so long is given back: others may be idle."""

OUTAGE_SECONDS = 3600.0
"""How long a pilot tries to reach a pool that went away, unless it has more time than that."""

PATIENCE_SECONDS = 300.0
"""A pilot with nothing to do waits for a token that may be claimed within this time."""

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
        times: The lease time and heartbeat; by default what the environment or the pool sets.
        about: More facts for the pilot's document.
        spool: Folder for results that the pool does not take, made when it is needed; without one
            they are in memory only, and lost with the pilot.
        claim_ahead: Seconds of work to hold ahead of the free slots; 0: none.
        bind: Bind each task to CPUs of its own; None: in a batch job.

    Raises:
        PoolError: The pool's settings could not be read.
        ConfigError: They cannot be used.
        InputError: The holder's id is not that of a pilot.
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
        spool: Path | None = None,
        claim_ahead: float = AHEAD_SECONDS,
        bind: bool | None = None,
    ) -> None:
        self.holder = holder or new_holder()
        if not self.holder.pilot.startswith(PILOT_PREFIX):
            # Else nobody would find its heartbeat, and others would take its tokens.
            raise InputError(
                f"the pilot {self.holder.pilot!r}: its id begins with {PILOT_PREFIX!r}"
            )
        self.summary = Summary()
        self._pool = pool
        self._runner = runner
        self._view = view
        self._criteria = criteria or StopCriteria()
        self._events: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        offer = needs.here(self.holder.host)
        self._offering = Offering(offer, self._criteria.ends_in)
        divided = Divided(offer, slots)
        self._slots = Slots(
            slots,
            places(divided, bind=bind),
            runner,
            self._criteria.max_token_time,
            self._events.put,
        )
        settings = pool.settings()
        self._policies = Policies(
            *self._criteria.retry_layers(), *settings.retry_layers(views.split(view)[0])
        )
        self._recorder = Recorder(
            pool,
            self.summary,
            self._policies,
            observe,
            Spool(spool, pool.address) if spool is not None else None,
        )
        self._health = Health(self._criteria.drain_after)
        self._pace = Pace(slots, claim_ahead)
        self._load = Load(divided, self._pace)  # what is in the slots, waiting or running
        self._watcher = WorkWatcher(pool, self.wake)
        self._returning: list[Document] = []  # taken back from the slots, to be released
        self._dry = self._woken = False
        self._due = math.inf  # when a token that waits may be claimed, by the pool's clock
        self._watch_until = 0.0  # how long the end waits for pilots that may be gone
        self._stopping: str | None = None
        self._told = self._said = self._hurry = False
        self._started = self._busy_until = time.monotonic()
        facts = {"slots": slots, "view": view, **self._offering.facts(pool.now()), **(about or {})}
        times = times or LeaseTimes.of(settings)
        self._document = PilotDocument(
            pool, self.holder, facts, times.heartbeat, self._live, self._reached, self._asked
        )
        self._outage = Outage(pool, self._recorder.keep, self._document.contact)
        self._reaper = Reaper(pool, times.lease)

    @property
    def running(self) -> int:
        """Tokens that run now."""
        return len(self._slots.running_ids())

    def _reached(self) -> None:
        """The heartbeat reached the pool again: so may the rest."""
        self._outage.ask_now()
        self._events.put(None)

    def wake(self) -> None:
        """Look for work now; callable from any thread and from a signal handler."""
        self._dry, self._woken = False, True
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

    def drain(self, reason: str) -> None:
        """End when what runs has ended; no new token is started. Callable from any thread."""
        self._stopping = self._stopping or reason
        self.wake()

    def _asked(self, what: Ask) -> None:
        """Somebody asked the pilot to end, by way of its document."""
        if what is Ask.DRAIN:
            self.drain("it was asked to drain")
        else:
            self.stop("it was asked to stop")

    def stop_waiting(self, seconds: float) -> None:
        """Give up a request to the pool that has no answer for `seconds`.

        For a signal handler in the thread that runs the pilot.

        Raises:
            PoolUnreachable: Inside that request: what becomes of it is not known.
        """
        self._outage.stop_asking(seconds)

    def run(self) -> Summary:
        """Work until there is a reason to end; returns what was done.

        Raises:
            PoolError: The pool refused (wrong password, no such view, …); what was claimed is
                given back as far as it can be.
        """
        try:
            self._document.start()
            self._offering.learn(self._pool, self._view)
            self._loop()
        except BaseException:
            self._abandon()
            raise
        finally:
            self._watcher.close()
            self._slots.close()
            self._recorder.close()
            self._runner.close()
        self._document.end(self.summary.reason, write=not self._outage.lasted())
        return self.summary

    # --- the loop ------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            why = self._why_stop()
            if self._outage.over():
                # After an outage results go first: that they count must not hang on a claim.
                if why is not None or self._outage.lasted():
                    self._record_or_ask()
                if why is None and not self._outage.lasted() and self._work():
                    return
            if why is not None:
                self._say_stop(why)
                self._give_back(0.0)
                if self._at_rest() or self._give_up():
                    self.summary.reason = why
                    return
            if why is not None or self._why_stop() is None:
                self._collect()

    def _work(self) -> bool:
        """Record and claim, reap now and then; tells if there is nothing left to wait for."""
        self._give_back(0.0 if self._health.is_slow else UNSTARTED_SECONDS)
        if self._dry and (self._pool.now() >= self._due or self._load.has_room_again):
            self._dry = False
        want = 0 if self._dry else self._want()
        if want > 0:
            self._exchange(want)
        elif self._recorder.pending:
            self._record()
        if self._health.pause:
            return False
        if want <= 0 and self._dry and self._may_end():
            self._exchange(self._want())
        last_look = self._dry and self._may_end()
        if last_look or self._reaper.is_due:
            self._reap(thorough=last_look)
        if not (self._dry and self._may_end()):
            return False
        self.summary.reason = f"no work left in {self._view}"
        with self._outage.asking():
            self.summary.reason = nothing_left(self._pool, self._view, self._pool.passed_over)
        return True

    def _reap(self, *, thorough: bool) -> None:
        """Give back the tokens of pilots that are gone, and do not end while one is suspected."""
        with self._outage.asking():
            reaped = self._reaper.reap(thorough=thorough)
            if reaped.tokens:
                self._dry = False
            if reaped.suspects and thorough:
                # Once: a pool that is in and out of reach must not keep a pilot for ever.
                now = self._pool.now()
                self._watch_until = self._watch_until or now + self._reaper.telling
                if self._watch_until > now:
                    self._due = min(self._due, self._watch_until)

    def _may_end(self) -> bool:
        """Tell whether nothing is at work here, and nothing comes due soon."""
        if self._criteria.endless or not self._at_rest():
            return False
        idle = time.monotonic() - self._busy_until
        soon = self._due - self._pool.now() <= PATIENCE_SECONDS
        return idle >= self._criteria.idle and not soon

    def _say_stop(self, why: str) -> None:
        """Acknowledge a signal, once, while tasks still run."""
        if self._told and not self._said and (running := self.running):
            self._said = True
            tasks = "1 task" if running == 1 else f"{running} tasks"
            log.warning("%s: ending %s; Ctrl-C again leaves no time for that", why, tasks)

    def _at_rest(self) -> bool:
        return not (self._load or self._recorder.pending or self._pool.in_doubt)

    def _why_stop(self) -> str | None:
        """Why no new token is started, or None; what ends a pilot once ends it for good."""
        elapsed = time.monotonic() - self._started
        if self._criteria.ends_in is not None and elapsed >= self._criteria.ends_in:
            if not self._told:
                self.stop("the batch job ends soon")
        elif self._stopping is None:
            self._stopping = self._criteria.reason(self.summary.counters.ran, elapsed)
            patience = max(OUTAGE_SECONDS, self._criteria.left(elapsed))
            if self._stopping is None and self._outage.lasted() > patience:
                self.summary.outage = True
                self._stopping = f"the pool did not answer for {self._outage.lasted():.0f} s"
        return self._stopping

    def _want(self) -> int:
        """How many tokens to claim now."""
        held, pending = len(self._load), self._recorder.pending
        want = 0 if self._health.pause else self._load.want(settling=pending > 0)
        if self._health.is_slow:
            want = min(want, 1 - held)
        if self._criteria.max_tasks is not None:
            want = min(want, self._criteria.max_tasks - self.summary.counters.ran - held - pending)
        return want

    def _exchange(self, want: int) -> None:
        """Record results and fill the slots, by one write.

        Notes if the view has nothing left, until something wakes the pilot.
        """
        room = self._load.room()
        wish = Wish(
            self._view, want, self.holder, self._offering.now(), at_once=self._load.free, room=room
        )
        with self._outage.asking():
            self._dry = self._woken = False
            settled = self._recorder.pending > 0
            found = self._recorder.settle(wish, self._claimed)
            if not found and not self._watcher.ready:
                self._watcher.mark()
                settled = True
            if not found and settled:
                # Beside results a look is only quick; and what was recorded may be todo again.
                found = self._recorder.settle(wish, self._claimed)
            self._dry = not found and not self._woken  # what came meanwhile it may not have seen
            self._load.missed(None if found else room)
            due = None if found else self._pool.passed_over.due
            self._due = math.inf if due is None else due
        if self._dry:
            self._watcher.watch()

    def _claimed(self, tokens: list[Document]) -> None:
        """Hand claimed tokens to the slots."""
        self._outage.admitted()
        self._load.add(tokens)
        self._slots.put(tokens)

    def _collect(self) -> None:
        """Wait for something to happen; gather results that end close together."""
        wait = min(TICK_SECONDS, self._health.pause or TICK_SECONDS, self._outage.wait)
        if self._stopping is None and not self._outage.lasted():
            wait = min(wait, max(0.01, self._reaper.wait))
        deadline = time.monotonic() + wait
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
            self._consult(event)
            starving = self._slots.waiting == 0 and self._events.empty()
            if starving or self._recorder.pending >= BATCH_TOKENS or self._stopping:
                return

    def _came_back(self, ended: Ended) -> None:
        self._load.remove([ended.token])
        self._busy_until = time.monotonic()
        self._recorder.add(ended)
        if self._outage.lasted():
            self._recorder.keep()
        result = ended.result
        if result.trouble:
            self.summary.trouble = result.trouble
            self._stopping = self._stopping or f"this host cannot run tasks: {result.trouble}"
        elif not result.stopped:
            if result.outcome.exit_code == 0:  # nothing is claimed ahead where all fails
                self._pace.saw(result.outcome.wall)
                self._offering.saw(result.outcome.wall)
            self._examine(ended)

    def _consult(self, ended: Ended) -> None:
        """Ask the user's function if that was enough; it may raise."""
        stop, result = self._criteria.stop_function, ended.result
        if stop is not None and not (result.stopped or result.trouble) and stop():
            self._stopping = self._stopping or "stop_function"

    def _examine(self, ended: Ended) -> None:
        """Slow down, and at last end, where tokens fail one after another."""
        was_slow = self._health.is_slow
        outcome = ended.result.outcome
        final = self._policies.of(ended.token).is_final(outcome)
        self._health.saw(ended.token, outcome, final=final)
        if self._health.is_broken:
            self.summary.trouble = self.summary.trouble or self._health.note
            self._stopping = self._stopping or f"drained: {self._health.note}"
        elif self._health.is_slow and not was_slow:
            self._returning += self._slots.take_back()
            log.warning(
                "%s: slowing down; is it this host, or the command? (--drain-after 0 goes on)",
                self._health.note,
            )

    # --- the pool ------------------------------------------------------------------------------

    def _record_or_ask(self) -> None:
        """Settle what there is; in an outage without anything to settle, see if it is over."""
        if self._recorder.pending:
            self._record()
        elif self._outage.lasted():
            with self._outage.asking():
                self._pool.changes(None, timeout=0)

    def _record(self) -> None:
        """Settle results, and release what was broken off."""
        with self._outage.asking():
            self._recorder.settle()
            self._recorder.release(self._stopping)

    def _give_back(self, older_than: float) -> None:
        """Release tokens that wait for a slot, and at the end those whose claim was in doubt."""
        if not self._outage.over():
            return
        if taken := self._slots.take_back(older_than):
            self._returning += taken
            self._pace.forget()
        if not (self._returning or (self._stopping and self._pool.in_doubt)):
            return
        with self._outage.asking():
            if self._stopping:
                doubtful = self._pool.recover_claims()
                self._load.add(doubtful)
                self._returning += doubtful
            # Without an answer they may be free already: they are not run, but released again.
            self._pool.release(self._returning)
            self._load.remove(self._returning)
            self._returning = []

    # --- ends ----------------------------------------------------------------------------------

    def _give_up(self) -> bool:
        """Tell whether a pilot that is to stop has waited long enough for its pool."""
        patience = 0.0 if self._hurry else FAREWELL_SECONDS if self._told else OUTAGE_SECONDS
        busy = len(self._load) > self._slots.waiting + len(self._returning)
        if busy or not self._outage.lasted() > patience:
            return False
        waiting = [doc["_id"] for doc in (*self._returning, *self._slots.take_back())]
        self._recorder.give_up()
        self.summary.unsettled += [*waiting, *self._pool.in_doubt]
        return True

    def _abandon(self) -> None:
        """After an error: end what runs, record and give back what still can be."""
        self._slots.stop(now=True)
        for doc in (*self._returning, *self._slots.take_back()):
            self._came_back(Ended(doc, _UNSTARTED))
        while self._load:
            event = self._events.get()
            if event is not None:
                self._came_back(event)
        # Each by itself: what cannot be settled must not keep the others locked.
        for step in (self._recorder.release, self._recorder.settle):
            try:
                step()
            except PoolError as error:
                log.warning("tokens could not be given back: %s", error)
        self._recorder.give_up()
        if self._outage.is_admitted:  # else no claim of ours was ever granted
            self.summary.unsettled += self._pool.in_doubt
        if self.summary.kept:
            log.error("%s", self.summary.kept_line())
        self._document.end("error", write=True)

    def _live(self) -> dict[str, Any]:
        return self.summary.counters.as_dict() | {
            "running": self._slots.running_ids(),
            "unsettled": len(self.summary.unsettled) + len(self.summary.kept),
            "health": self._health.note,
        }


_UNSTARTED = Result(Outcome(None, 0, 0, "", 0.0), stopped=True)
