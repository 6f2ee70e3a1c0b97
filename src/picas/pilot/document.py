"""The pilot's own document: that it lives, where, and what it did."""

import enum
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from picas import jobid
from picas.errors import PoolError
from picas.pilot.requeue import JobRun
from picas.pool import Pool
from picas.pool.reap import PILOT_PREFIX
from picas.pool.update import update
from picas.token import Document, Holder
from picas.version import __version__

LOOK_SECONDS = 5.0
"""How often it is looked if a heartbeat is due; one that failed is tried again as soon."""

HANG_SECONDS = 10.0
"""How long a heartbeat may hang; less than the grace that pilots have after an outage."""

log = logging.getLogger("picas.pilot")


@dataclass(slots=True)
class Counters:
    """What became of the tokens a pilot had.

    Attributes:
        done: Settled with exit code 0.
        error: Settled with another one.
        scrubbed: Failed and given back for another try.
        released: Given back untouched.
        fenced: Results not recorded because the lease was gone.
    """

    done: int = 0
    error: int = 0
    scrubbed: int = 0
    released: int = 0
    fenced: int = 0

    @property
    def ran(self) -> int:
        """Tokens that ended by themselves or by their time limit."""
        return self.done + self.error + self.scrubbed + self.fenced

    def as_dict(self) -> dict[str, int]:
        """The counters as a document holds them."""
        return asdict(self)


def new_holder() -> Holder:
    """Who this pilot is: a fresh id, this host and the batch job it runs in."""
    host = socket.gethostname()
    pilot = f"{PILOT_PREFIX}{host}_{os.getpid()}_{secrets.token_hex(4)}"
    return Holder(pilot, host, jobid.batch_job())


class Ask(enum.Enum):
    """What may be asked of a pilot by way of its document."""

    DRAIN = "drain"
    """Take no more tokens, finish those that run, and end."""
    STOP = "stop"
    """End now, and give back what runs."""


def ask(pool: Pool, pilots: Sequence[Document], what: Ask) -> list[str]:
    """Ask pilots to end; they hear of it at their next heartbeat.

    Args:
        pool: The pool.
        pilots: Their documents.
        what: How.

    Returns:
        The ids of those that were asked; others have ended by now.
    """

    def change(doc: Document) -> Document | None:
        return {**doc, "asked": what.value} if doc.get("state") == "running" else None

    changes = update(pool.store, [(doc, change) for doc in pilots])
    for changed in changes:
        if changed.error is not None:
            raise changed.error
    return [changed.doc["_id"] for changed in changes if changed.changed and changed.doc]


class PilotDocument:
    """Writes the pilot's document at its start, at every heartbeat, and at its end.

    A thread of its own does it, so that neither a long upload nor busy slots can starve it.

    Args:
        pool: The pool.
        holder: Who the pilot is.
        facts: What stays the same: slots, view, …
        heartbeat: Seconds between two writes.
        live: Asked for what changes: counters, running tokens.
        reached: Called when a heartbeat reached the pool after one that did not.
        asked: Told what others ask of the pilot, by the thread of the heartbeat.
    """

    def __init__(
        self,
        pool: Pool,
        holder: Holder,
        facts: dict[str, Any],
        heartbeat: float,
        live: Callable[[], dict[str, Any]],
        reached: Callable[[], None],
        asked: Callable[[Ask], None],
    ) -> None:
        self._pool = pool
        self._heartbeat = heartbeat
        self._live = live
        self._reached = reached
        self._asked = asked
        self._heard: object = None
        self._early = True  # the first words came before the first token
        self._ended = False
        self._beaten = time.monotonic()
        self._late = False  # the latest heartbeat did not reach the pool
        self._wake = threading.Event()
        now = round(pool.now(), 3)
        self._doc: Document = {
            "_id": holder.pilot,
            "type": "pilot",
            "hostname": holder.host,
            "pid": os.getpid(),
            "version": __version__,
            **holder.job,
            **JobRun.of().facts(),
            **facts,
            "state": "running",
            "started": now,
        }
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write it for the first time; raises `PoolError` if the pool does not take it."""
        self._save()
        self._thread.start()

    def contact(self) -> None:
        """Another request was answered: a heartbeat that is late is sent at once."""
        if self._late:
            self._wake.set()

    def end(self, reason: str, *, write: bool) -> None:
        """Stop; write it for the last time if it ever was, and if `write` (the pool answers)."""
        if not self._thread.is_alive():
            return
        self._ended = True
        self._wake.set()
        if write:
            self._thread.join(timeout=HANG_SECONDS / 2)
            self._doc |= {"state": "ended", "ended": round(self._pool.now(), 3), "reason": reason}
            self._try_save()

    def _beat(self) -> None:
        while True:
            self._wake.wait(min(LOOK_SECONDS, self._heartbeat / 2))
            self._wake.clear()
            if self._ended:
                return
            if self._late or self._early or self._is_due():
                was_late, self._late = self._late, not self._try_save()
                self._early = False
                if was_late and not self._late:
                    self._reached()

    def _is_due(self) -> bool:
        """Tell whether it is time, by whichever clock is ahead: the pool's may have been set."""
        by_pool = abs(self._pool.now() - float(self._doc["heartbeat"]))
        return max(by_pool, time.monotonic() - self._beaten) >= self._heartbeat

    def _try_save(self) -> bool:
        try:
            self._save()
        except Exception as error:  # noqa: BLE001 - without heartbeats the pilot loses all it runs
            level = logging.DEBUG if isinstance(error, PoolError) else logging.WARNING
            log.log(level, "the pilot's document was not written: %s", error)
            return False
        return True

    def _save(self) -> None:
        beat = self._doc | self._live() | {"heartbeat": round(self._pool.now(), 3)}
        # One that hangs must not keep the next from being sent.
        with self._pool.within(min(self._heartbeat / 2, HANG_SECONDS)):
            self._doc = self._pool.save_pilot(beat, look_first=self._late)
        self._beaten = time.monotonic()
        what = self._doc.get("asked")
        if what != self._heard and not self._ended:
            self._heard = what
            if what in {one.value for one in Ask}:
                self._asked(Ask(what))
