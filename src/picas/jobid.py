"""Which batch job this process runs in, and what the scheduler allows: one place for all of them.

The fields are those of the classic client, so that its tokens and ours name their jobs alike. Batch
systems can be stacked (a Grid job runs inside a cluster's job): only the highest level is recorded.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

JOB_ID_FIELDS = (
    "dirac_job_id",
    "wms_job_id",
    "cream_job_id",
    "condor_job_id",
    "flux_job_id",
    "pbs_job_id",
    "lsf_job_id",
    "sge_job_id",
    "slurm_job_id",
    "local_job_id",
)


def batch_job(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The token field that names this process's batch job.

    Returns:
        One field and the job's id, or nothing outside a batch system.

    Source: the manuals of the systems. LSF counts an array's jobs from 1, and has 0 for a job that
    is none; Grid Engine has the word ``undefined`` for that, and sets JOB_ID, which others set too.
    """
    if dirac := environ.get("DIRACJOBID"):
        return {"dirac_job_id": dirac}
    if (wms := environ.get("GLITE_WMS_JOBID")) and wms.startswith("http"):
        return {"wms_job_id": wms}
    if cream := environ.get("CREAM_JOBID"):
        return {"cream_job_id": cream}
    if condor := _condor_job(environ.get("_CONDOR_JOB_AD")):
        return {"condor_job_id": condor}
    if flux := environ.get("FLUX_JOB_ID"):
        return {"flux_job_id": flux}
    if pbs := environ.get("PBS_JOBID"):
        return {"pbs_job_id": pbs}
    if lsf := environ.get("LSB_JOBID"):
        index = environ.get("LSB_JOBINDEX", "0")
        return {"lsf_job_id": lsf if index in ("", "0") else f"{lsf}[{index}]"}
    if (sge := environ.get("JOB_ID")) and "SGE_TASK_ID" in environ:
        index = environ["SGE_TASK_ID"]
        return {"sge_job_id": sge if index in ("", "undefined") else f"{sge}.{index}"}
    if slurm := _slurm_job(environ):
        return slurm
    local = environ.get("PICAS_LOCAL_JOB")
    return {"local_job_id": local} if local else {}


def _condor_job(job_ad: str | None) -> str | None:
    """The id in the file that HTCondor describes a job in: cluster and process."""
    if not job_ad:
        return None
    try:
        lines = Path(job_ad).read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = {name.strip(): value.strip() for name, _, value in (x.partition("=") for x in lines)}
    cluster, process = values.get("ClusterId"), values.get("ProcId")
    return f"{cluster}.{process}" if cluster and process else None


def _slurm_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Slurm's: an array's job as ``12_3``, a part of a heterogeneous job as ``12+1``."""
    array, index = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if array and index:
        return {"slurm_job_id": f"{array}_{index}"}
    group, offset = environ.get("SLURM_HET_JOB_ID"), environ.get("SLURM_HET_JOB_OFFSET")
    if group and offset:
        return {"slurm_job_id": f"{group}+{offset}"}
    if slurm := environ.get("SLURM_JOB_ID"):
        return {"slurm_job_id": slurm}
    return {}


def recorded_job(doc: Mapping[str, Any]) -> Any:
    """The id of the batch job that a document names; None if it names none."""
    return next((doc[name] for name in JOB_ID_FIELDS if name in doc), None)


def add_job_id(doc: MutableMapping[str, Any]) -> None:
    """Write the batch job's id into a document, in place."""
    doc.update(batch_job())


def remove_job_id(doc: MutableMapping[str, Any]) -> None:
    """Take every batch job id out of a document, in place."""
    for field in JOB_ID_FIELDS:
        doc.pop(field, None)


def allowed_cores(environ: Mapping[str, str] = os.environ) -> int:
    """The cores this process may really use: the scheduler's word, else the affinity mask.

    Source: the Slurm manual for ``sbatch`` (SLURM_CPUS_PER_TASK is set only with ``-c``, else
    SLURM_CPUS_ON_NODE) and DIRAC's ``DIRAC_PROCESSORS``. PICAS_CORES is that of our own local jobs,
    which may run within one of another batch system.
    """
    for name in ("PICAS_CORES", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "DIRAC_PROCESSORS"):
        value = environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
