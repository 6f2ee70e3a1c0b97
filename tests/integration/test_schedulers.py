"""What every scheduler promises: over this machine, and over a real Slurm."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm as Cluster

from picas.errors import ConfigError
from picas.schedulers import Batch, Job, JobState, Scheduler, Shape, named
from picas.schedulers.lookup import GROUP, OURS


@dataclass(frozen=True)
class Site:
    """A scheduler, and a folder in which its jobs run."""

    scheduler: Scheduler
    folder: Path

    def job(self, prefix: str) -> Job:
        """The one job whose name begins so."""
        (job,) = self.scheduler.jobs(prefix)
        return job


@pytest.fixture(params=["local", "slurm"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Each of our schedulers in turn."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    if request.param == "slurm":
        cluster: Cluster = request.getfixturevalue("slurm")
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
    scheduler = named(request.param)
    yield Site(scheduler, tmp_path)
    left = [job.id for job in scheduler.jobs("picas-test")]
    scheduler.cancel([job for job in left if job])


def shell(line: str, name: str, pilots: int = 1, shape: Shape | None = None) -> Batch:
    """Jobs that run a line of shell."""
    return Batch(["sh", "-c", line], {"TOLD": "a 'b'"}, pilots, shape or Shape(), name)


def fresh_name() -> str:
    """A name that no other test has."""
    return f"picas-test-{secrets.token_hex(4)}"


def test_a_job_from_its_start_to_its_end(site: Site) -> None:
    """It is listed by its name and by the id that pilots have, runs, and is cancelled by a TERM."""
    name = fresh_name()
    ident = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}$PICAS_LOCAL_JOB"
    line = f'trap "echo ended >end; exit" TERM; echo "{ident} $TOLD $OWN" >began; mv began begin; '
    line += "while :; do sleep 0.1; done"
    setup = "#!/bin/bash\nexport OWN='own thing'"
    assert site.scheduler.jobs(name) == []
    ((submission, number),) = site.scheduler.submit(shell(line, name, shape=Shape(setup=setup)))
    assert number == 1
    until((site.folder / "begin").exists, 60)
    job = site.job(name)
    assert job.state is JobState.RUNNING
    assert job.id.partition("_")[0] == submission
    assert (site.folder / "begin").read_text() == f"{job.id} a 'b' own thing\n"
    site.scheduler.cancel([submission], pending_only=True)
    assert site.job(name).state is JobState.RUNNING
    site.scheduler.cancel([submission])
    until(lambda: site.job(name).state is JobState.ENDED, 60)
    assert (site.folder / "end").read_text() == "ended\n"
    assert site.job(name).reason
    site.scheduler.cancel([submission])  # it ended before: no error


def test_several_at_once(site: Site) -> None:
    """Each pilot is a job with an id of its own; others' names are not listed."""
    name, other = fresh_name(), fresh_name()
    assert sum(n for _, n in site.scheduler.submit(shell("exit 0", name, 3))) == 3
    list(site.scheduler.submit(shell("exit 0", other)))
    assert len({job.id for job in site.scheduler.jobs(name)}) == 3
    assert {job.name for job in site.scheduler.jobs("picas-test-")} >= {name, other}

    def ended() -> bool:
        return all(job.state is JobState.ENDED for job in site.scheduler.jobs(name))

    until(ended, 60)
    assert site.scheduler.limits().pilots >= 3
    assert site.scheduler.output("17_0")


def test_a_number_that_another_process_has_by_now(site: Site) -> None:
    """A job of this machine is its process, by number and start; a stranger is left alone."""
    if site.scheduler.elsewhere:
        pytest.skip("Slurm: knows its processes itself")
    name = fresh_name()
    ((job, _),) = site.scheduler.submit(shell("exit 0", name))
    until(lambda: site.job(name).state is JobState.ENDED)
    process = site.folder / "state/picas/jobs" / job / "process"
    rest = process.read_text().partition(" ")[2]
    process.write_text(f"{os.getpid()} {rest}")
    assert site.job(name).state is JobState.ENDED
    site.scheduler.cancel([job])  # not us


def test_names_of_schedulers() -> None:
    """Ours are declared as entry points; what there is not is told, with what there is."""
    declared = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    assert declared == OURS
    with pytest.raises(ConfigError, match=r"no scheduler 'slum'; there are local, slurm"):
        named("slum")
    with pytest.raises(ConfigError, match="leave out 'via'"):
        named("local", "ssh login")
