"""Batch systems: what a job knows of itself, and how pilots are submitted, listed and cancelled."""

from picas.schedulers.base import Batch, Job, JobState, Limits, Scheduler, Shape
from picas.schedulers.lookup import named
from picas.schedulers.own import time_left

__all__ = ["Batch", "Job", "JobState", "Limits", "Scheduler", "Shape", "named", "time_left"]
