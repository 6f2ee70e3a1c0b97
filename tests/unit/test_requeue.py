"""A requeued batch job knows which pilots were of its earlier runs."""

import pytest

from picas.pilot.requeue import JobRun

FIRST = {"SLURM_JOB_ID": "61", "SLURM_CLUSTER_NAME": "red"}
SECOND = {**FIRST, "SLURM_RESTART_COUNT": "1"}


def test_a_later_run_follows_the_earlier_ones() -> None:
    """Of the same job on the same cluster, and not itself."""
    first, second = JobRun.of(FIRST), JobRun.of(SECOND)
    former = {"slurm_job_id": "61", **first.facts()}
    assert second.follows(former)
    assert not second.follows({"slurm_job_id": "61", **second.facts()})
    assert not first.follows(former)
    assert not second.follows({**former, "slurm_job_id": "62"})
    assert not second.follows({**former, "cluster": "blue"}), "it has a job 61 of its own"


@pytest.mark.parametrize(
    "pilot",
    [{}, {"slurm_job_id": "61"}, {"slurm_job_id": "61", "cluster": "red", "restarts": "no"}],
)
def test_what_does_not_tell_its_run_is_left_alone(pilot: dict[str, object]) -> None:
    """A document of an earlier version, or one that somebody edited."""
    assert not JobRun.of(SECOND).follows(pilot)


@pytest.mark.parametrize(
    "environ", [{}, {**SECOND, "DIRACJOBID": "11"}, {**SECOND, "SLURM_CLUSTER_NAME": ""}]
)
def test_outside_slurm_nothing_follows(environ: dict[str, str]) -> None:
    """Nor does a Grid job inside one of Slurm, nor a job on a cluster without a name."""
    run = JobRun.of(environ)
    assert run.facts() == {}
    assert not run.follows({"slurm_job_id": None, "cluster": None, "restarts": 0})


def test_jobs_of_an_array_are_told_apart() -> None:
    """Each is requeued by itself."""
    job = {**SECOND, "SLURM_ARRAY_JOB_ID": "60", "SLURM_ARRAY_TASK_ID": "2"}
    neighbour = {"slurm_job_id": "60_1", "cluster": "red", "restarts": 0}
    assert not JobRun.of(job).follows(neighbour)
    assert JobRun.of(job).follows({**neighbour, "slurm_job_id": "60_2"})
