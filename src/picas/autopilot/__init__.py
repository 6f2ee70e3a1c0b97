"""Submits pilots as the work that waits needs them, on one cluster or several."""

from picas.autopilot.config import Cluster, Config, Kind, read
from picas.autopilot.rounds import Autopilot, Site

__all__ = ["Autopilot", "Cluster", "Config", "Kind", "Site", "read"]
