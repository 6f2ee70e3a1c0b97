"""What a job knows of itself, whichever scheduler started it."""

import os
from collections.abc import Mapping

from picas.schedulers import local, slurm


def time_left(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds that this process's job may still run; None outside a job, or without a limit."""
    left = local.time_left(environ)
    return slurm.time_left(environ) if left is None else left
