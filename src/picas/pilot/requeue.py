"""A batch job that was requeued: Slurm runs it again, and the pilot of its former run is dead."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picas import jobid, units


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job of Slurm.

    Source: the manual of ``sbatch``, SLURM_RESTART_COUNT (not set in the first run) and
    SLURM_CLUSTER_NAME: two clusters may have jobs of the same id.

    Attributes:
        job: Its id, the same in each of its runs; None outside Slurm, inside another system's job
            in one of Slurm, and where the cluster does not tell its name.
        cluster: The cluster's name.
        restarts: How often the job was requeued before this run.
    """

    job: str | None = None
    cluster: str | None = None
    restarts: int = 0

    @staticmethod
    def of(environ: Mapping[str, str] = os.environ) -> "JobRun":
        """The run that this process is in."""
        job = jobid.batch_job(environ).get("slurm_job_id")
        cluster = environ.get("SLURM_CLUSTER_NAME")
        if job is None or not cluster:
            return JobRun()
        restarts = environ.get("SLURM_RESTART_COUNT", "")
        return JobRun(job, cluster, int(restarts) if restarts.isdecimal() else 0)

    def facts(self) -> dict[str, Any]:
        """What a pilot's document tells of it, beside the job's id."""
        if self.job is None:
            return {}
        return {"cluster": self.cluster, "restarts": self.restarts}

    def follows(self, pilot: Mapping[str, Any]) -> bool:
        """Tell whether a pilot was of an earlier run: the scheduler's word that it is dead."""
        restarts = units.number(pilot.get("restarts"))
        return (
            self.job is not None
            and (pilot.get("slurm_job_id"), pilot.get("cluster")) == (self.job, self.cluster)
            and restarts is not None
            and restarts < self.restarts
        )
