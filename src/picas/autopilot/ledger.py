"""What the autopilot knows of its submissions; it is in the pool, a document a kind of pilots.

A submission is written down before it is made, and counts as pending until its pilots are heard of,
or the scheduler answered and shows that they are not there. So an autopilot that is killed, or that
got no answer, submits nothing twice. The names of the jobs tell which submission they are of.
"""

import hashlib
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from picas import proctree, units
from picas.errors import Conflict
from picas.pool import Pool
from picas.pool.update import write_one
from picas.schedulers import Job, JobState
from picas.schedulers.base import NAME
from picas.schedulers.local import machine
from picas.token import Document

HOUR = 3600.0

ABSENT_SECONDS = 300.0
"""A submission that no answer of the scheduler shows after this time was never made, or is over."""

LEASE_SECONDS = 180.0
"""How long one autopilot looks after a kind of pilots without a word; longer than a submission."""

_CLOCK_SECONDS = 2.0
"""By how much moments in the pool's documents may be wrong: a server tells whole seconds."""

Heard = Mapping[str, float]
"""The jobs of a submission whose pilots were heard of, and when each of these started."""


class Busy(Exception):
    """Another autopilot looks after that kind of pilots; the text says which."""


@dataclass(slots=True)
class Submission:
    """Pilots that were submitted together.

    Attributes:
        name: As the pilots have it in their documents: the kind, and a nonce.
        pilots: How many.
        at: When it was decided, in epoch seconds.
        endless: Whether its pilots stay though there is nothing to do.
        jobs: What the scheduler called it; empty if no answer came.
        waits: Ids of the jobs whose pilots were not heard of, by the scheduler's last answer; None
            before one shows the submission.
        asked: When that was, in epoch seconds.
        came: How many of its pilots were ever heard of.
        cancelled: Whether it was cancelled while it waited.
        closed: Whether nothing more is to come of it.
        why: What went wrong when it was made.
    """

    name: str
    pilots: int
    at: float
    endless: bool = False
    jobs: list[str] = field(default_factory=list)
    waits: list[str] | None = None
    asked: float = 0.0
    came: int = 0
    cancelled: bool = False
    closed: bool = False
    why: str = ""

    @property
    def job_name(self) -> str:
        """How its jobs are called."""
        return f"{NAME}-{self.name}"

    def pending(self, heard: Heard) -> int:
        """How many of its pilots may still come."""
        if self.closed:
            return 0
        if self.waits is None:
            return max(0, self.pilots - len(heard))
        return sum(heard.get(job, 0.0) < self.asked - _CLOCK_SECONDS for job in self.waits)

    def saw(self, jobs: Sequence[Job] | None, heard: Heard, now: float) -> None:
        """Note what the scheduler answered, and which pilots were heard of.

        Args:
            jobs: The scheduler's jobs; None if it did not answer, or was not asked.
            heard: What was read before that answer.
            now: When `heard` was read, in epoch seconds.
        """
        self.came = max(self.came, len(heard))
        if jobs is not None:
            mine = [job for job in jobs if job.name == self.job_name]
            if mine:
                self.waits = [job.id for job in mine if _may_come(job, heard)]
                self.asked = now
            elif now - self.at >= ABSENT_SECONDS:
                self.waits, self.asked = [], now
        if self.pending(heard) == 0:
            self.closed = True


def _may_come(job: Job, heard: Heard) -> bool:
    if job.state is JobState.RUNNING:
        return job.id not in heard
    return job.state is JobState.PENDING


class Ledger:
    """The submissions of one kind of pilots. Made by `open`."""

    def __init__(self, pool: Pool, kind: str, doc: Document) -> None:
        self._pool, self.kind = pool, kind
        self._there, self._doc = doc, dict(doc)
        self.submissions = _submissions(doc)

    @classmethod
    def read(cls, pool: Pool, kind: str) -> Self:
        """The ledger as it is, to look at."""
        name = f"autopilot_{kind}"
        there = pool.store.read([name])[0]
        return cls(pool, kind, there or {"_id": name, "type": "autopilot", "kind": kind})

    @classmethod
    def take(cls, pool: Pool, kind: str, seconds: float | None) -> Self:
        """The ledger, while no other autopilot acts.

        Args:
            pool: Where it is.
            kind: Of which kind of pilots.
            seconds: For how long no other may act from now on; None: only to look.

        Raises:
            Busy: Another acts now.
        """
        ledger = cls.read(pool, kind)
        if (who := ledger.held_by()) is not None:
            raise Busy(who)
        if seconds is not None and ledger._held_for() < seconds / 2:
            ledger.renew(seconds)
        return ledger

    def held_by(self) -> str | None:
        """Which other autopilot looks after this kind of pilots; None for none."""
        holder = self._doc.get("holder")
        if not isinstance(holder, dict) or _is(holder, _me()):
            return None
        if (units.number(holder.get("until")) or 0.0) <= self._pool.now() or _has_died(holder):
            return None
        return f"the autopilot on {holder.get('host')} (process {holder.get('pid')})"

    def is_mine(self) -> bool:
        """Tell whether this process looks after that kind of pilots."""
        return _is(self._doc.get("holder", {}), _me())

    def _held_for(self) -> float:
        """Seconds for which this process keeps others away already."""
        until = units.number(self._doc["holder"].get("until")) if self.is_mine() else None
        return (until or 0.0) - self._pool.now()

    def renew(self, seconds: float) -> None:
        """Keep others away for so long; writes the ledger."""
        self._doc["holder"] = {**_me(), "until": round(self._pool.now() + seconds, 3)}
        self.save()

    def leave(self) -> None:
        """Let others act; writes the ledger."""
        self._doc.pop("holder", None)
        self.save()

    def save(self) -> None:
        """Write it.

        Raises:
            Busy: Another autopilot wrote it meanwhile; this one must not act.
        """
        now = self._pool.now()
        kept = {s.name: asdict(s) for s in self.submissions if not s.closed or s.at + HOUR > now}
        doc = {**self._doc, "submissions": {n: _short(s) for n, s in kept.items()}}
        if doc == self._there:
            return
        try:
            write_one(self._pool.store, doc)
        except Conflict as error:
            raise Busy("another autopilot, which wrote just now") from error
        there = self._pool.store.read([doc["_id"]])[0]
        # A cluster may take two writes that follow one revision; one of them stands in the end.
        if there is None or not _is(there.get("holder", _me()), doc.get("holder", _me())):
            raise Busy("another autopilot, which wrote just now")
        self._there, self._doc = there, dict(there)

    # --- what is in it -------------------------------------------------------------------------

    def intend(self, pilots: int, *, endless: bool) -> Submission:
        """Note a submission that is to be made; to be saved before it is."""
        nonce = f"{mark(self._pool.address)}{secrets.token_hex(4)}"
        now = round(self._pool.now(), 3)
        submission = Submission(f"{self.kind}-{nonce}", pilots, now, endless)
        self.submissions.append(submission)
        return submission

    def withdraw(self, submission: Submission) -> None:
        """It was not made, for sure."""
        self.submissions.remove(submission)

    def adopt(self, jobs: Sequence[Job], now: float) -> None:
        """Note jobs of this kind that wait though their submission is over: requeued ones."""
        known = {s.job_name for s in self.submissions if not s.closed}
        start = f"{NAME}-{self.kind}-{mark(self._pool.address)}"
        for job in jobs:
            name = job.name.removeprefix(f"{NAME}-")
            is_ours = job.name.startswith(start) and len(job.name) == len(start) + 8
            if is_ours and job.state is JobState.PENDING and job.name not in known:
                known.add(job.name)
                self.submissions = [s for s in self.submissions if s.name != name]
                self.submissions.append(Submission(name, 1, now - HOUR, came=1))

    def saw(self, jobs: Sequence[Job] | None, heard: Mapping[str, Heard], now: float) -> None:
        """Note what became of the submissions; see `Submission.saw`."""
        if jobs is not None:
            self.adopt(jobs, now)
        for submission in self.submissions:
            if submission.closed:
                continue
            before = submission.came
            submission.saw(jobs, heard.get(submission.name, {}), now)
            if submission.came > before:
                self._doc["failed"] = {}
            elif submission.closed and not (submission.came or submission.cancelled):
                job = next(iter(submission.jobs), "")
                self._doc["failed"] = {"count": self.failed + 1, "at": now, "job": job}

    def pending(self, heard: Mapping[str, Heard]) -> int:
        """How many pilots were submitted and not heard of."""
        return sum(s.pending(heard.get(s.name, {})) for s in self.submissions)

    def in_vain(self) -> list[Submission]:
        """What is to be cancelled where there is nothing to do, and was not yet."""
        return [s for s in self.submissions if not (s.closed or s.endless or s.cancelled)]

    def submitted_since(self, moment: float) -> int:
        """How many pilots were submitted after an epoch second."""
        return sum(s.pilots for s in self.submissions if s.at > moment)

    @property
    def failed(self) -> int:
        """How many submissions in a row ended without a pilot."""
        return int(units.number(self._failed.get("count")) or 0)

    @property
    def failed_at(self) -> float:
        """When the last of them did, in epoch seconds."""
        return units.number(self._failed.get("at")) or 0.0

    @property
    def failed_job(self) -> str:
        """What the scheduler called it; empty if it gave no answer."""
        return str(self._failed.get("job", ""))

    @property
    def _failed(self) -> Mapping[str, Any]:
        failed = self._doc.get("failed")
        return failed if isinstance(failed, dict) else {}


def mark(address: str) -> str:
    """What tells the jobs for one pool from those for another: four hexadecimal digits."""
    return hashlib.sha256(address.encode()).hexdigest()[:4]


def kind_of(submission: object) -> str:
    """The kind of pilots that a submission's name tells; empty for none."""
    return submission.rpartition("-")[0] if isinstance(submission, str) else ""


def _submissions(doc: Document) -> list[Submission]:
    """Those in a document; entries that cannot be read are passed over."""
    found = doc.get("submissions")
    result = []
    for entry in found.values() if isinstance(found, dict) else ():
        if isinstance(entry, dict) and {"name", "pilots", "at"} <= entry.keys():
            known = {name: entry[name] for name in Submission.__slots__ if name in entry}
            result.append(Submission(**known))
    return result


def _short(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without what is as it is by default."""
    return {name: value for name, value in entry.items() if value or name in ("pilots", "waits")}


def _me() -> dict[str, Any]:
    """Who acts: this process, told from all others."""
    there = proctree.look(os.getpid())
    start = there.start if there is not None else 0
    host = socket.gethostname()
    return {"host": host, "machine": machine(), "pid": os.getpid(), "start": start}


def _is(holder: Mapping[str, Any], who: Mapping[str, Any]) -> bool:
    return all(holder.get(name) == who.get(name) for name in ("machine", "pid", "start"))


def _has_died(holder: Mapping[str, Any]) -> bool:
    """Tell whether the holder was a process of this machine that is gone."""
    pid, start = holder.get("pid"), holder.get("start")
    if holder.get("machine") != machine() or not isinstance(pid, int) or not start:
        return False
    there = proctree.look(pid)
    return there is None or not there.alive or there.start != start
