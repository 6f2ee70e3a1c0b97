"""Actors of the classic API: work in Python, a token at a time, in this process.

Make your own by overriding `RunActor.process_task`, and call ``run``::

    class Counter(RunActor):
        def process_task(self, token):
            token["output"] = len(token["input"])

    Counter(CouchDB("sqlite:///picas.db")).run()
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from types import FrameType
from typing import Any, NoReturn

from picas import by_hand, jobid, token
from picas.brood import Brood
from picas.endings import TokenTimeout, end, is_stop
from picas.errors import InputError
from picas.iterators import EndlessViewIterator, TaskViewIterator, serves
from picas.token import Document, Outcome
from picas.usage import Usage
from picas.util import Timer, time_elapsed

STOP_GRACE_SECONDS = 30.0
"""Between TERM and KILL for what a token started, where the actor is told to stop."""

LIMIT_GRACE_SECONDS = 5.0
"""The same where a token reached its time limit."""

log = logging.getLogger("picas.actors")


class AbstractRunActor:
    """Runs ``process_task`` for each token of an iterator, and records how it ended.

    Args:
        db: The client, `picas.clients.CouchDB`, or any object with ``get_single_from_view``,
            ``get``, ``save`` and ``copy``.
        iterator: Where the tokens come from; by default the view.
        view: The view's name.
        token_reset_values: ``lock`` and ``done`` of the token at work when the actor is told to
            stop. ``[0, 0]`` gives it back, which costs it no try; None leaves it alone.
        view_params: ``design_doc``, and parameters of the view.

    Attributes:
        current_task: The token at work; None between two.
        subprocess: To be set by ``process_task`` to a process it started, if it likes.
        tasks_processed: Tokens whose end was recorded.
        signals: What tells the actor to stop; for subclasses to change.
    """

    signals: tuple[signal.Signals, ...] = (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGXCPU,
    )

    def __init__(
        self,
        db: Any,
        iterator: Any = None,
        view: str = "todo",
        token_reset_values: Any = (0, 0),
        **view_params: Any,
    ) -> None:
        if db is None:
            raise ValueError("an actor needs a database: RunActor(CouchDB(…))")
        if token_reset_values is not None and len(token_reset_values) != 2:
            raise ValueError(
                f"token_reset_values={token_reset_values!r}: give [lock, done], or None"
            )
        self.db = db
        self.iterator = TaskViewIterator(db, view, **view_params) if iterator is None else iterator
        self.token_reset_values = token_reset_values
        self.current_task: Any = None
        self.subprocess: subprocess.Popen[Any] | None = None
        self.tasks_processed = 0
        self.time = Timer()
        self._brood: Brood | None = None
        self._begun: Document = {}
        self._usage = Usage()
        self._leaving = self._hurried = self._cleaned = False
        self._late: TokenTimeout | None = None
        self._by_hand = self._saving = False
        self._pending: int | None = None
        self._pid = os.getpid()

    # --- to be overridden ----------------------------------------------------------------------

    def prepare_env(self, *args: Any, **kwargs: Any) -> None:
        """Called once, before the first token."""

    def prepare_run(self, *args: Any, **kwargs: Any) -> None:
        """Called before each token; if it fails, the token is given back."""

    def process_task(self, task: Any) -> None:
        """The work: read the token's ``input``, set its ``output``, its ``exit_code``, ….

        What is written into the token is recorded. It is done if this returns, with the exit code
        0 unless another one was set. An exception makes it an error, with the traceback.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process_task()")

    def cleanup_run(self, *args: Any, **kwargs: Any) -> None:
        """Called after each token, when its end is recorded."""

    def cleanup_env(self, *args: Any, **kwargs: Any) -> None:
        """Called once, at the end, however that comes."""

    # --- the run -------------------------------------------------------------------------------

    def run(self, max_token_time: float | None = None) -> None:
        """Work until the iterator has no more tokens.

        Args:
            max_token_time: Seconds a token may run.

        Raises:
            InputError: The time limit is no time, or cannot be kept in this thread.
        """
        with self._running(max_token_time):
            for task in self.iterator:
                self._run(task, max_token_time)

    def reconnect(self) -> None:
        """Go on with a new connection to the database."""
        self.db = self.db.copy()
        self.iterator.reconnect(self.db)

    @contextmanager
    def _running(self, max_token_time: float | None) -> Iterator[None]:
        """From the first call of the user's code to the last."""
        _check_limit(max_token_time)
        self.time = Timer()
        self._pid = os.getpid()
        self._leaving = self._hurried = self._cleaned = False
        self._pending = None
        before = {number: signal.getsignal(number) for number in self._signals()}
        self.setup_handler()
        holding = self.db.holding if self._is_served() else None
        if holding is not None:
            outer, stop = holding.enter(), holding.stop
            if before:
                # The handler of that signal does it, in the thread that runs the actor.
                holding.stop = lambda: os.kill(os.getpid(), next(iter(before)))
        reason = "the actor failed"
        try:
            self.prepare_env()
            yield
            reason = "no work left, or enough done"
        finally:
            if self._is_here():
                if holding is not None:
                    holding.stop = stop
                    holding.leave(outer, None if self._leaving else reason)
                try:
                    self._clean_up()
                finally:
                    for number, handler in before.items():
                        if handler is not None:  # else another library's, not Python's
                            signal.signal(number, handler)

    def _run(self, task: Any, timeout: float | None, max_scrub: int = 0) -> None:
        """Run one token and record how it ended."""
        self._begun = deepcopy(task.value)
        self._by_hand = not (self._is_served() and self.db.holding.holds(task.value))
        self._usage = Usage()
        self._late = None
        self.current_task = task
        try:
            self.prepare_run()
        except BaseException:
            if not self._leaving and self._is_here():
                self._give_back(task, "released: prepare_run failed")
                self.current_task = None
            raise
        problem = self._process(task, timeout)
        if problem is not None and is_stop(problem):
            self._interrupted(task, problem)
            raise problem
        reason = end(task, problem, self._late)
        log.info("%s: %s", task["_id"], reason)
        self._settle(task, reason, max_scrub)
        self.current_task = None
        self.tasks_processed += 1
        if problem is not None and not isinstance(problem, Exception):
            raise problem
        self.cleanup_run()

    def _process(self, task: Any, timeout: float | None) -> BaseException | None:
        """Run the user's code; returns what it raised."""
        problem: BaseException | None = None
        self._brood = Brood()
        try:
            with self._brood.hatching(), self._limited(timeout):
                self.process_task(task)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises
            problem = raised
        finally:
            self._brood = None
        if not self._is_here():  # a child that the code forked and did not end
            raise problem or SystemExit(0)
        if self._leaving:  # whatever the code made of the exception that ends it
            raise SystemExit(0) from problem
        return problem

    def _interrupted(self, task: Any, problem: BaseException) -> None:
        """The code was interrupted by something else than our handler of signals."""
        if self._by_hand or self.db.holding.holds(task.value):
            self._give_back(task, f"released: {type(problem).__name__}")
        self.current_task = None

    def _is_here(self) -> bool:
        """Tell whether this is the process that runs the actor, and no child that it forked."""
        return os.getpid() == self._pid

    @contextmanager
    def _limited(self, seconds: float | None) -> Iterator[None]:
        """A span after which what runs is ended, and `TokenTimeout` raised here.

        It is raised again from time to time, for code that swallows it.
        """
        if seconds is None:
            yield
            return

        armed = True

        def ring(*_: object) -> None:
            if armed and not self._leaving:
                self._end_processes(LIMIT_GRACE_SECONDS)
                self._late = TokenTimeout(seconds)
                raise self._late

        handler = signal.signal(signal.SIGALRM, ring)
        left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, STOP_GRACE_SECONDS)
        try:
            try:
                yield
            finally:
                armed = False
        finally:  # also where the time was up just now, in the line above
            signal.setitimer(signal.ITIMER_REAL, left, interval)
            signal.signal(signal.SIGALRM, handler)

    # --- results -------------------------------------------------------------------------------

    def _is_served(self) -> bool:
        return serves(self.db)

    def _settle(self, task: Any, reason: str, max_scrub: int) -> None:
        """Write the token as it is now; where it failed and has tries left, back to todo."""
        code = task.value.get("exit_code")
        code = code if isinstance(code, int) else None
        if code and token.failed_tries(task.value) < max_scrub and task.get("lock"):
            log.info("Scrubbing token %s", task["_id"])
            task.scrub()
            task["exit_code"] = ""
        self._record(task, self._usage.outcome(code, reason))

    def _give_back(self, task: Any, reason: str) -> None:
        """Give the token back; it costs no try."""
        jobid.remove_job_id(task.value)
        task.update({"lock": 0, "done": 0, "exit_code": ""})
        self._record(task, self._usage.outcome(None, reason))

    def _record(self, task: Any, outcome: Outcome) -> None:
        if self._is_served() and self.db.holding.holds(task.value):
            self.db.holding.settle(task.value, outcome)
            return
        self._saving = True  # a signal waits for it: else what was recorded would be given back
        try:
            by_hand.save(self.db, task, self._begun)
            self.current_task = None
        finally:
            self._saving = False
            if self._pending is not None:
                signum, self._pending = self._pending, None
                self._leave(signum)

    # --- signals -------------------------------------------------------------------------------

    def setup_handler(self) -> None:
        """Have `signals` stop the actor; where it runs in a thread, nothing can."""
        for number in self._signals():
            signal.signal(number, self.handler)

    def handler(self, signum: int, frame: FrameType | None) -> None:
        """End in good order: first what the token started, then the token, then the process.

        Args:
            signum: The signal.
            frame: Where it came; of no use here.

        Raises:
            SystemExit: With status 0, when all is done.
        """
        if not self._is_here():  # a child that was forked has nothing to give back
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        if self._leaving:
            self._hurried = True
            return
        self._leaving = True
        if self._saving:
            self._pending = signum
            return
        holding = self.db.holding if self._is_served() else None
        if holding is not None:
            holding.hurry()
            if holding.busy:  # a claim or a result is under way: it has its end first
                holding.interrupted = lambda: self._leave(signum)
                return
        self._leave(signum)

    def _leave(self, signum: int) -> NoReturn:
        name = signal.Signals(signum).name
        log.info("PiCaS shutting down, called with signal %s", name)
        self._end_processes(STOP_GRACE_SECONDS)
        holding = self.db.holding if self._is_served() else None
        task = self.current_task
        try:
            if task is not None and (self._by_hand or holding is None or holding.holds(task.value)):
                self._reset(task, f"released: {name}")
        except Exception as error:  # noqa: BLE001 - it must end, and say what it could not do
            log.warning("%s could not be given back: %s", task["_id"], error)
        if holding is not None:
            holding.give_back("", but=() if task is None else (task["_id"],))
            holding.end(name)
        self._clean_up()
        raise SystemExit(0)

    def _reset(self, task: Any, reason: str) -> None:
        """Give the token at work the state that it is to have when the actor is stopped."""
        if self.token_reset_values is None:
            return
        lock, done = self.token_reset_values
        if (lock, done) == (0, 0):
            self._give_back(task, reason)
            return
        task.update({"lock": lock, "done": done})
        self._record(task, self._usage.outcome(None, reason))

    def _signals(self) -> tuple[signal.Signals, ...]:
        if threading.current_thread() is threading.main_thread():
            return self.signals
        log.warning("an actor that runs in a thread is not stopped by signals")
        return ()

    def _end_processes(self, grace: float) -> None:
        """End what the token at work has started, as trees."""
        if self._brood is not None:
            self._brood.end_all(grace, lambda: self._hurried)
        if self.subprocess is not None and self.subprocess.poll() is None:
            self.subprocess.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.subprocess.wait(grace)
            self.subprocess.kill()

    def _clean_up(self) -> None:
        if not self._cleaned:
            self._cleaned = True
            self.cleanup_env()


class RunActor(AbstractRunActor):
    """An actor that can be told when it is enough."""

    def run(
        self,
        max_token_time: float | None = None,
        max_total_time: float | None = None,
        max_tasks: int | None = None,
        max_scrub: int = 0,
        stop_function: Callable[..., bool] | None = None,
        **stop_function_args: Any,
    ) -> None:
        """Work until the iterator has no more tokens, or it is enough.

        Args:
            max_token_time: Seconds a token may run. Then all it started is ended, and
                `TokenTimeout` raised in ``process_task``; again each half minute that it goes on.
            max_total_time: Seconds after which no other token is begun.
            max_tasks: So many tokens are enough.
            max_scrub: So often a token that fails is given back for another try.
            stop_function: Asked after each token; True ends the run.
            stop_function_args: Its arguments.

        Raises:
            InputError: A limit cannot be, or not be kept in this thread.
        """
        _check_number("max_total_time", max_total_time)
        _check_number("max_tasks", max_tasks)
        _check_number("max_scrub", max_scrub)
        timer, before = Timer(), self.tasks_processed
        with self._running(max_token_time), self._ending(timer, max_total_time):
            for task in self.iterator:
                self._run(task, max_token_time, max_scrub)
                if stop_function is not None and stop_function(**stop_function_args):
                    break
                if max_tasks and self.tasks_processed - before >= max_tasks:
                    break
                if max_total_time is not None and time_elapsed(timer, max_total_time):
                    break

    @contextmanager
    def _ending(self, timer: Timer, max_total_time: float | None) -> Iterator[None]:
        """A span in which an endless iterator ends when the time is up; its own callback stays."""
        endless = self.iterator
        if max_total_time is None or not isinstance(endless, EndlessViewIterator):
            yield
            return
        own, own_args = endless.stop_callback, endless.stop_callback_args

        def is_enough() -> bool:
            return time_elapsed(timer, max_total_time) or bool(own and own(**own_args))

        endless.stop_callback, endless.stop_callback_args = is_enough, {}
        try:
            yield
        finally:
            endless.stop_callback, endless.stop_callback_args = own, own_args


def _check_limit(seconds: float | None) -> None:
    _check_number("max_token_time", seconds)
    if seconds is not None and threading.current_thread() is not threading.main_thread():
        raise InputError(
            "max_token_time can only be kept in the main thread; run the actor there, or without it"
        )


def _check_number(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"{name}={value!r} is no number from 0 on")
