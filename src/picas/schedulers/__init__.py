"""Batch systems: what a job knows of itself, and how pilots are submitted."""

from picas.schedulers.slurm import Array, submit, time_left

__all__ = ["Array", "submit", "time_left"]
