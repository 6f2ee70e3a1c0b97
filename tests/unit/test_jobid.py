"""Which batch job a process runs in, by the environment that each scheduler sets."""

import os
from pathlib import Path
from typing import Any

import pytest

from picas import jobid

STACK = {
    "DIRACJOBID": "11",
    "GLITE_WMS_JOBID": "https://wms/22",
    "CREAM_JOBID": "33",
    "PBS_JOBID": "44",
    "SLURM_ARRAY_JOB_ID": "55",
    "SLURM_ARRAY_TASK_ID": "6",
    "SLURM_JOB_ID": "61",
}


def test_highest_level_is_recorded() -> None:
    """A Grid job inside a cluster's job is named by the Grid; and so on down."""
    environ = dict(STACK)
    found = []
    for name in STACK:
        found.append(jobid.batch_job(environ))
        del environ[name]
    assert found == [
        {"dirac_job_id": "11"},
        {"wms_job_id": "https://wms/22"},
        {"cream_job_id": "33"},
        {"pbs_job_id": "44"},
        {"slurm_job_id": "55_6"},
        {"slurm_job_id": "61"},
        {"slurm_job_id": "61"},
    ]
    assert jobid.batch_job(environ) == {}


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, {"lsf_job_id": "5"}),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "3"}, {"lsf_job_id": "5[3]"}),
        ({"JOB_ID": "7", "SGE_TASK_ID": "undefined"}, {"sge_job_id": "7"}),
        ({"JOB_ID": "7", "SGE_TASK_ID": "2"}, {"sge_job_id": "7.2"}),
        ({"JOB_ID": "7"}, {}),
        ({"FLUX_JOB_ID": "f2x", "SLURM_JOB_ID": "1"}, {"flux_job_id": "f2x"}),
        (
            {"SLURM_JOB_ID": "13", "SLURM_HET_JOB_ID": "12", "SLURM_HET_JOB_OFFSET": "1"},
            {"slurm_job_id": "12+1"},
        ),
        ({"_CONDOR_JOB_AD": "/nowhere/job.ad", "SLURM_JOB_ID": "1"}, {"slurm_job_id": "1"}),
    ],
)
def test_other_systems(environ: dict[str, str], job: dict[str, str]) -> None:
    """LSF, Grid Engine, Flux and heterogeneous jobs of Slurm are named as their users name them."""
    assert jobid.batch_job(environ) == job


def test_htcondor_describes_the_job_in_a_file(tmp_path: Path) -> None:
    """HTCondor's id is read from the file that it names."""
    ad = tmp_path / "job.ad"
    ad.write_text('Cmd = "x=1"\nClusterId = 31\nProcId = 4\n')
    environ = {"_CONDOR_JOB_AD": str(ad), "SLURM_JOB_ID": "1"}
    assert jobid.batch_job(environ) == {"condor_job_id": "31.4"}


def test_wms_says_undefined_outside_a_job() -> None:
    """A value that is no URL is not a job of that system."""
    assert jobid.batch_job({"GLITE_WMS_JOBID": "Undefined"}) == {}


def test_every_field_can_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be added to a document is known as a job's field, and can be taken out."""
    monkeypatch.setattr(os, "environ", {})
    for name, value in STACK.items():
        (field,) = jobid.batch_job({name: value, "SLURM_JOB_ID": "61"})
        assert field in jobid.JOB_ID_FIELDS
    doc: dict[str, Any] = dict.fromkeys(jobid.JOB_ID_FIELDS, "1") | {"_id": "a"}
    jobid.remove_job_id(doc)
    assert doc == {"_id": "a"}


def test_add_to_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of this very process is written into a document."""
    for name in STACK:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    doc: dict[str, Any] = {"_id": "a"}
    jobid.add_job_id(doc)
    assert doc == {"_id": "a", "slurm_job_id": "77"}


@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "64"}, 4),
        ({"SLURM_CPUS_ON_NODE": "64"}, 64),
        ({"DIRAC_PROCESSORS": "8"}, 8),
    ],
)
def test_cores_that_a_scheduler_allows(environ: dict[str, str], cores: int) -> None:
    """The scheduler's word on cores is taken."""
    assert jobid.allowed_cores(environ) == cores


@pytest.mark.parametrize("value", ["", "0", "many", "-1"])
def test_cores_without_a_scheduler(value: str) -> None:
    """Without a usable word, it is the cores this process may run on."""
    cores = jobid.allowed_cores({"SLURM_CPUS_ON_NODE": value})
    assert 1 <= cores <= (os.cpu_count() or 1)
