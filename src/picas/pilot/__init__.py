"""The pilot: claims tokens, runs them in slots, settles them."""

from picas.pilot.command import CommandRunner
from picas.pilot.document import new_holder
from picas.pilot.lease import LeaseTimes
from picas.pilot.loop import Pilot
from picas.pilot.recorder import Summary
from picas.pilot.runner import FunctionRunner, Result, Runner, Running
from picas.pilot.signals import handled
from picas.pilot.stop import StopCriteria

__all__ = [
    "CommandRunner",
    "FunctionRunner",
    "LeaseTimes",
    "Pilot",
    "Result",
    "Runner",
    "Running",
    "StopCriteria",
    "Summary",
    "handled",
    "new_holder",
]
