"""Batch systems: what a job knows of itself, and how pilots are submitted, listed and cancelled."""

from picas.schedulers.base import Batch, Job, JobState, Limits, Scheduler, Shape
from picas.schedulers.lookup import named
from picas.schedulers.own import MARGIN_SECONDS, time_left, usable

__all__ = [
    "MARGIN_SECONDS",
    "Batch",
    "Job",
    "JobState",
    "Limits",
    "Scheduler",
    "Shape",
    "named",
    "time_left",
    "usable",
]
