"""Rounds of the autopilot against a scheduler that does what a test says, on an embedded pool."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from picas import token
from picas.autopilot import Autopilot, Cluster, Config, Kind, Site
from picas.autopilot.ledger import ABSENT_SECONDS, Ledger
from picas.autopilot.plan import FEW
from picas.errors import ConfigError, TaskError
from picas.pool import Pool, connect
from picas.schedulers import Batch, Job, JobState, Limits, Scheduler
from picas.schedulers.local import machine
from picas.token import Holder
from picas.views import MONITOR

KIND = Kind("single", "Monitor/todo", "here", max=6, max_pending=4)


class Killed(BaseException):
    """The autopilot was killed just there."""


class Stage(Scheduler):
    """A scheduler whose jobs and troubles are a test's."""

    elsewhere = False

    def __init__(self) -> None:
        self.all: dict[str, Job] = {}
        self.batches: list[Batch] = []
        self.before: BaseException | None = None
        self.after: BaseException | None = None
        self.deaf: TaskError | None = None
        self.asked = 0
        self.most = 100
        self._numbers = itertools.count(1)

    def script(self, batch: Batch) -> str:
        """None is needed."""
        return ""

    def submit(self, batch: Batch) -> Iterator[tuple[str, int]]:
        """Add jobs that are pending; raise what the test wants before or after."""
        if self.before is not None:
            raise self.before
        self.batches.append(batch)
        array = str(next(self._numbers))
        for i in range(batch.pilots):
            job = Job(f"{array}_{i}", batch.name, JobState.PENDING, "PENDING")
            self.all[job.id] = job
        if self.after is not None:
            raise self.after
        yield array, batch.pilots

    def jobs(self, prefix: str) -> list[Job]:
        """All there are."""
        self.asked += 1
        if self.deaf is not None:
            raise self.deaf
        return [job for job in self.all.values() if job.name.startswith(prefix)]

    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        """End those that are pending."""
        for job in self.all.values():
            if job.state is JobState.PENDING and {job.id, job.id.partition("_")[0]} & set(ids):
                self.now(job.id, JobState.ENDED, "CANCELLED")

    def limits(self) -> Limits:
        """What the test says."""
        return Limits(self.most)

    def output(self, job: str) -> str:
        """By its name."""
        return f"slurm-{job}.out"

    def now(self, job: str, state: JobState, reason: str = "") -> None:
        """A job is so from now on."""
        self.all[job] = replace(self.all[job], state=state, reason=reason)

    @property
    def pending(self) -> list[str]:
        """Ids of the jobs that wait."""
        return [job.id for job in self.all.values() if job.state is JobState.PENDING]


class World:
    """A pool, a scheduler and an autopilot, by a clock that the test moves."""

    def __init__(self, pool: Pool, kinds: Sequence[Kind] = (KIND,)) -> None:
        self.pool, self.scheduler = pool, Stage()
        self.config = Config({"here": Cluster("here")}, kinds)
        self.time = pool.now()
        pool.store.now = lambda: self.time  # type: ignore[method-assign]
        self.autopilot = self.another()

    def another(self, **more: Any) -> Autopilot:
        """An autopilot that was started just now."""
        sites = {"here": Site(self.scheduler, "picas", self.pool.url, 0.0)}
        return Autopilot(self.pool, self.config, sites, **more)

    def round(self, seconds: float = 60.0) -> None:
        """Time goes by, and then there is a round."""
        self.time += seconds
        self.beat()
        self.autopilot.round()

    def beat(self) -> None:
        """The pilots that live say so."""
        for doc in self.pool.pilots(past=False):
            if doc["state"] == "running" and not doc.get("frozen"):
                self.pool.save_pilot(doc | {"heartbeat": self.time})

    def push(self, number: int, **fields: Any) -> None:
        """Add tokens."""
        docs = [token.new({"input": "x", **fields}, f"{self.time}-{i}") for i in range(number)]
        assert all(pushed.error is None for pushed in self.pool.push(docs))

    def start(self, job: str) -> Holder:
        """A job starts, and its pilot takes a token."""
        found = self.scheduler.all[job]
        self.scheduler.now(job, JobState.RUNNING, "RUNNING")
        number = len(self.pool.pilots())
        holder = Holder(f"pilot_host_1_{number:08x}", "host", {"slurm_job_id": job})
        submission = found.name.removeprefix("picas-")
        facts = {"type": "pilot", "state": "running", "started": self.time, "view": "Monitor/todo"}
        facts |= {"heartbeat": self.time, "submission": submission, "slots": 1, "cores": 1}
        doc = {"_id": holder.pilot, **facts, "slurm_job_id": job, "running": ["some"]}
        self.pool.save_pilot(doc)
        self.pool.claim("Monitor/todo", 1, holder)
        return holder

    def end(self, holder: Holder) -> None:
        """A pilot ends well, and so does its job."""
        (doc,) = [doc for doc in self.pool.pilots() if doc["_id"] == holder.pilot]
        self.pool.save_pilot(doc | {"state": "ended", "running": []})
        self.scheduler.now(holder.job["slurm_job_id"], JobState.ENDED, "COMPLETED")

    def ledger(self) -> Ledger:
        """What the pool has."""
        return Ledger.read(self.pool, "single")


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """An embedded pool with an autopilot."""
    caplog.set_level(logging.INFO, "picas")
    with connect(f"sqlite:///{tmp_path}/picas.db", create=True) as pool:
        pool.add_design(MONITOR)
        yield World(pool)


def test_up_to_the_limit_and_down(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """No more than may wait, no more than may be; what waits in vain is cancelled."""
    world.push(9)
    world.round()
    assert len(world.scheduler.pending) == 4
    (batch,) = world.scheduler.batches
    assert batch.command[:4] == ["picas", "run", "--view", "Monitor/todo"]
    assert batch.environ["PICAS_SUBMISSION"] == batch.name.removeprefix("picas-")
    pilots = [world.start(job) for job in world.scheduler.pending]
    world.round()
    assert len(world.scheduler.pending) == 2
    world.round()
    assert len(world.scheduler.batches) == 2
    assert caplog.messages[-1] == (
        "single: 5 tokens wait, 4 pilots run, 2 wait for their start: none more (max)"
    )
    world.pool.delete([doc["_id"] for doc in world.pool.find("Monitor/todo")])
    world.round()
    assert world.scheduler.pending == []
    for pilot in pilots:
        world.end(pilot)
    world.round()
    world.round()
    assert caplog.messages[-1] == "single: 0 tokens wait, 0 pilots run: nothing to do"
    assert world.ledger().failed == 0


def test_nothing_is_asked_where_the_pool_tells_all(world: World) -> None:
    """The scheduler is asked only while pilots wait for their start, or fell silent."""
    world.push(1)
    world.round()
    asked = world.scheduler.asked
    world.start(*world.scheduler.pending)
    for _ in range(3):
        world.round()
    assert world.scheduler.asked == asked
    world.time += 200
    world.autopilot.round()
    assert world.scheduler.asked == asked + 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("trouble", [Killed(), TaskError("sbatch did not answer")])
def test_a_submission_whose_end_nobody_saw(
    world: World, moment: str, trouble: BaseException
) -> None:
    """It counts until the scheduler shows it, or minutes later that it is not there."""
    world.push(20)
    setattr(world.scheduler, moment, trouble)
    if isinstance(trouble, Killed):
        with pytest.raises(Killed):
            world.round()
        world.autopilot = world.another()
    else:
        world.round()
    world.scheduler.before = world.scheduler.after = None
    made = moment == "after"
    for _ in range(4):
        world.round()
        assert len(world.scheduler.pending) == (4 if made else 0)
    world.round(ABSENT_SECONDS)
    world.round()
    # It failed, so that the next one is a trial.
    assert len(world.scheduler.pending) == (4 if made else 1)
    assert len(world.scheduler.batches) == 1


def test_found_by_the_pilots(world: World) -> None:
    """A submission without an answer is known by its pilots, also where the scheduler is deaf."""
    world.push(20)
    world.scheduler.after = world.scheduler.deaf = TaskError("no answer")
    world.round()
    for job in world.scheduler.pending:
        world.start(job)
    world.scheduler.after = None
    world.round()
    assert len(world.scheduler.pending) == 2


def test_a_scheduler_that_does_not_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is taken to be gone, however long it takes, and no more is ever outstanding."""
    world.push(20)
    world.round()
    world.scheduler.deaf = TaskError("squeue did not answer for 15 s")
    for _ in range(9):
        world.round(ABSENT_SECONDS)
    assert len(world.scheduler.pending) == 4
    assert "here: squeue did not answer for 15 s; nothing is taken to be gone" in caplog.messages


def test_the_node_of_a_pilot_died(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What the pilot held is back when the scheduler says so, long before the lease is over."""
    world.push(1)
    world.round()
    (job,) = world.scheduler.pending
    world.start(job)
    (doc,) = world.pool.pilots()
    world.pool.save_pilot(doc | {"frozen": True})
    world.scheduler.now(job, JobState.ENDED, "NODE_FAIL")
    world.round(100)
    assert "the jobs of these pilots have ended: 00000000 (NODE_FAIL); tokens given back: 1" in [
        message for message in caplog.messages if message.startswith("the jobs")
    ]
    assert world.pool.count("Monitor/todo") == 1
    assert len(world.scheduler.pending) == 1, "another pilot is on its way for it"


def test_a_job_that_was_requeued(world: World) -> None:
    """Its first pilot is gone, and it counts as waiting for its start until the second is there."""
    world.push(9)
    world.round()
    pilots = [world.start(job) for job in world.scheduler.pending]
    world.round()
    for job in world.scheduler.pending:
        world.start(job)
    world.round(3700)
    (doc, *_) = [doc for doc in world.pool.pilots() if doc["_id"] == pilots[0].pilot]
    world.pool.save_pilot(doc | {"frozen": True})
    world.scheduler.now(doc["slurm_job_id"], JobState.PENDING, "PENDING")
    world.round(100)
    assert world.scheduler.pending == [doc["slurm_job_id"]], "5 run and 1 waits: that is the limit"
    assert world.pool.count("Monitor/todo") == 4
    world.start(doc["slurm_job_id"])
    world.round()
    assert world.scheduler.pending == []


def test_jobs_that_end_without_a_pilot(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """After several in a row it waits, longer and longer, and says where to look."""
    world.push(50)
    for n in range(FEW):
        world.round()
        for job in world.scheduler.pending:
            world.scheduler.now(job, JobState.ENDED, "FAILED")
        assert len(world.scheduler.batches) == n + 1
    world.round()
    assert len(world.scheduler.batches) == FEW
    assert caplog.messages[-1].endswith(
        ": none for 2 min, as 3 submissions in a row ended without a pilot; see slurm-3.out"
    )
    world.round(121)
    assert world.scheduler.batches[-1].pilots == 1
    world.start(*world.scheduler.pending)
    world.round()
    assert world.scheduler.batches[-1].pilots == 4, "a pilot came: all is well again"


def test_two_autopilots(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One acts, the other says who does; it takes over when nothing was heard for a while."""
    world.push(9)
    world.round()
    doc = world.pool.store.read(["autopilot_single"])[0]
    assert doc is not None
    doc["holder"] |= {"machine": "another", "host": "login2"}
    world.pool.store.write([doc])
    world.start(world.scheduler.pending[0])
    world.round()
    assert len(world.scheduler.batches) == 1
    assert "on login2 (process" in caplog.messages[-1]
    assert caplog.messages[-1].endswith("looks after these pilots; nothing is done here")
    world.round(200)
    assert len(world.scheduler.batches) == 2


def test_the_autopilot_before_was_killed_here(world: World) -> None:
    """Its lease is not waited for: the process is gone."""
    world.push(9)
    world.round()
    doc = world.pool.store.read(["autopilot_single"])[0]
    assert doc is not None
    assert doc["holder"]["machine"] == machine()
    doc["holder"] |= {"start": doc["holder"]["start"] - 1}
    world.pool.store.write([doc])
    world.start(world.scheduler.pending[0])
    world.round()
    assert len(world.scheduler.batches) == 2


def test_an_intention_that_another_one_overtook(world: World) -> None:
    """What is written against the revision that was read fails, and then nothing is submitted."""
    world.push(9)
    world.round(0)
    world.start(world.scheduler.pending[0])
    ledger = Ledger.read(world.pool, "single")
    look = world.scheduler.limits

    def meanwhile() -> Limits:
        ledger.renew(1000)
        return look()

    world.start(world.scheduler.pending[0])
    world.scheduler.limits = meanwhile  # type: ignore[method-assign]
    world.round()
    assert len(world.scheduler.batches) == 1


def test_it_leaves(world: World) -> None:
    """At its end others may act at once."""
    world.push(1)
    world.round()
    assert world.ledger().is_mine()
    world.autopilot.leave()
    assert world.ledger().held_by() is None
    assert not world.ledger().is_mine()


def test_only_looking(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What would be done is told; neither the pool nor the scheduler knows of it."""
    world.push(9)
    world.another(act=False).round()
    assert caplog.messages == ["single: 9 tokens wait, 0 pilots run: 4 more (max_pending)"]
    assert world.scheduler.batches == []
    assert world.pool.store.read(["autopilot_single"]) == [None]


def test_two_kinds_on_one_view(world: World) -> None:
    """Where several clusters serve a view, the work is not counted twice."""
    world.config = Config(world.config.clusters, [KIND, replace(KIND, name="other")])
    world.autopilot = world.another()
    world.push(5)
    world.round()
    assert [batch.pilots for batch in world.scheduler.batches] == [4, 1]
    world.round()
    assert len(world.scheduler.batches) == 2


def test_tokens_that_no_such_pilot_can_run(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """None is submitted for tokens that need more, and it is told."""
    world.push(3, cores=4)
    world.round()
    assert world.scheduler.batches == []
    assert caplog.messages == [
        "single: 0 tokens wait, 3 cannot run on such pilots now, 0 pilots run: nothing to do"
    ]
    world.push(2)
    world.round()
    assert [batch.pilots for batch in world.scheduler.batches] == [2]


def test_a_token_as_long_as_the_job(world: World) -> None:
    """None is submitted for it: a pilot has less than its job, and would leave it to others."""
    kind = replace(KIND, shape=replace(KIND.shape, time=3600.0))
    world = World(world.pool, (kind,))
    world.push(3, time="1h")
    world.round()
    assert world.scheduler.batches == []
    world.push(1, time="50m")
    world.round()
    assert [batch.pilots for batch in world.scheduler.batches] == [1]


def test_failures_count_beside_pilots_that_run(world: World) -> None:
    """That an earlier submission went well is no reason to go on with ones that fail."""
    world.push(50)
    world.round()
    world.start(world.scheduler.pending[0])
    before = set(world.scheduler.all)
    world.round()
    assert len(world.scheduler.batches) == 2
    assert world.ledger().failed == 0
    for job in [job for job in world.scheduler.pending if job not in before]:
        world.scheduler.now(job, JobState.ENDED, "FAILED")
    world.round()
    assert world.ledger().failed == 1
    world.round()
    assert world.ledger().failed == 1


def test_a_submission_is_one_request(world: World) -> None:
    """More than the scheduler takes at once is not asked for: one answer tells of all."""
    world.scheduler.most = 3
    world.push(9)
    world.round()
    world.round()
    assert [batch.pilots for batch in world.scheduler.batches] == [3, 1]


def test_a_floor(world: World) -> None:
    """These pilots stay; they are not cancelled where nothing waits."""
    world.config = Config(world.config.clusters, [replace(KIND, min=2)])
    world.autopilot = world.another()
    world.round()
    (batch,) = world.scheduler.batches
    assert (batch.pilots, batch.command[4:]) == (2, ["--endless"])
    world.round()
    assert len(world.scheduler.pending) == 2


def test_a_scheduler_that_is_not_here(world: World) -> None:
    """Nothing was submitted, for sure: that is told, and does not count."""
    world.push(9)
    world.scheduler.before = ConfigError("this host has no sbatch")
    with pytest.raises(ConfigError):
        world.round()
    assert world.ledger().submissions == []


def test_the_ledger_is_neither_token_nor_pilot(world: World) -> None:
    """No view has it, no pilot takes it, it is not among the pilots."""
    world.push(1)
    world.round()
    assert sum(world.pool.counts().values()) == 1
    assert world.pool.pilots() == []
    assert world.pool.delete(["autopilot_single"]) == 0
    assert world.pool.reset(["autopilot_single"]) == 0
