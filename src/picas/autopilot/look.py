"""What the autopilot looks at in the pool: its pilots, the tokens that wait, and their history."""

import itertools
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from picas import figures, needs, views
from picas.autopilot.config import Kind
from picas.autopilot.plan import takes_on
from picas.errors import ViewMissing
from picas.jobid import recorded_job
from picas.needs import Offer
from picas.pool import Pool
from picas.pool.reap import PILOT_PREFIX
from picas.schedulers import usable
from picas.token import Document

_SAMPLE = 50
"""Tokens by which all that wait are judged, and those that are done."""

_BEGUN = 0.95
"""What of its time a pilot has left once it has begun, to be on the safe side."""

_PAST = ("ended", "lost")


class Crew:
    """The pilots of a pool; those that are past are read once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._past: dict[str, Document] = {}
        self.pilots: Sequence[Document] = ()

    def look(self) -> None:
        """Read the pilots as they are now."""
        ids = self._pool.store.ids(PILOT_PREFIX, 100_000)
        self._past = {i: self._past[i] for i in ids if i in self._past}
        read = self._pool.store.read([i for i in ids if i not in self._past])
        docs = [doc for doc in read if doc is not None and doc.get("type") == "pilot"]
        self.pilots = [*self._past.values(), *docs]
        self._past |= {doc["_id"]: doc for doc in docs if doc.get("state") == "ended"}

    @property
    def running(self) -> list[Document]:
        """Those that run, as far as their documents tell."""
        return [doc for doc in self.pilots if doc.get("state") not in _PAST]

    def heard(self, dead: Collection[str] = ()) -> dict[str, dict[str, float]]:
        """The pilots of each submission: when each began, by its job.

        Args:
            dead: Ids of pilots that do not count; nor do those that were found gone.
        """
        found: dict[str, dict[str, float]] = {}
        for doc in self.pilots:
            name = doc.get("submission")
            if isinstance(name, str) and doc["_id"] not in dead and doc.get("state") != "lost":
                jobs = found.setdefault(name, {})
                job = str(recorded_job(doc) or doc["_id"])
                jobs[job] = max(jobs.get(job, 0.0), figures.number(doc, "started"))
        return found


@dataclass(frozen=True, slots=True)
class Work:
    """The tokens that wait in a kind's view.

    Attributes:
        waiting: How many its pilots can run now, by a sample.
        unfit: How many they cannot run, now or ever.
        cores: That a token asks for, in the mean.
        token_seconds: How long one takes, in the mean; None if none of that design is done.
    """

    waiting: int
    unfit: int = 0
    cores: float = 1.0
    token_seconds: float | None = None

    @staticmethod
    def of(pool: Pool, kind: Kind) -> "Work":
        """Look at the pool.

        Raises:
            ViewMissing: There is no such view.
        """
        total = pool.count(kind.view)
        if total == 0:
            return Work(0)
        shape = kind.shape
        time = None if shape.time is None else _BEGUN * usable(shape.time, kind.margin)
        offer = Offer("", shape.cores, shape.memory, shape.gpus, time)
        design, name = views.split(kind.view)
        if name == views.TODO and not pool.store.candidates(kind.view, 1, offer.ready_at).docs:
            return Work(0, total)
        sample, now = list(pool.find(kind.view, limit=_SAMPLE)), pool.now()
        fit = [doc for doc in sample if offer.ready_at(doc) <= now]
        share = max(len(fit), 1) / max(len(sample), 1)
        waiting = max(1, round(total * min(1.0, share)))
        cores = statistics.fmean(_cores(doc) for doc in fit) if fit else 1.0
        seconds = _history(pool, design, fit[0]["_id"] if fit else "")
        return Work(waiting, total - waiting, cores, seconds)


def at_once(kind: Kind, crew: Sequence[Document], work: Work) -> float:
    """Tokens that a pilot of the kind runs at once: by those that run, else by its cores."""
    slots = [figures.number(doc, "slots") for doc in crew]
    most = statistics.fmean(slots) if slots else float(kind.shape.cores)
    return max(1.0, most / max(1.0, work.cores))


def taken(kind: Kind, pilots: Sequence[Document], work: Work) -> float:
    """How many of the tokens that wait are taken on by pilots of that view that run."""
    total = 0.0
    for doc in pilots:
        fits = figures.number(doc, "cores") >= kind.shape.cores
        if doc.get("view") == kind.view and fits and not doc.get("asked"):
            slots = figures.number(doc, "slots") / max(1.0, work.cores)
            idle = max(0.0, slots - len(figures.running(doc)))
            total += takes_on(slots, idle, work.token_seconds, kind.work_per_pilot)
    return total


def _cores(doc: Mapping[str, object]) -> float:
    return max(1.0, needs.needs(doc).get("cores", 1.0))


def _history(pool: Pool, design: str, near: str) -> float | None:
    """Mean wall-clock seconds of done tokens, of which those with ids like these come first."""
    view = f"{design}/{views.DONE}"
    try:
        done = list(pool.find(view, after=near, limit=_SAMPLE))
        if near and len(done) < _SAMPLE:
            done += itertools.islice(pool.find(view, limit=_SAMPLE), _SAMPLE - len(done))
    except ViewMissing:
        return None
    found = figures.distribution(figures.wall_times(done))
    return None if found is None else max(0.001, found.mean)
