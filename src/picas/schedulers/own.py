"""What a job knows of itself, whichever scheduler started it."""

import os
from collections.abc import Mapping

from picas.schedulers import local, slurm

MARGIN_SECONDS = 60.0
"""How long before its job a pilot ends, unless it is told otherwise."""


def usable(seconds: float, margin: float = MARGIN_SECONDS) -> float:
    """How much of a job's time a pilot uses.

    Args:
        seconds: What there is.
        margin: What is to be left for the end; a short job is not to be spent on waiting for that.
    """
    return seconds - min(margin, seconds / 4)


def time_left(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds that this process's job may still run; None outside a job, or without a limit."""
    left = local.time_left(environ)
    return slurm.time_left(environ) if left is None else left
