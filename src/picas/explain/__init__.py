"""Why a token does not run, or why it failed, in plain sentences; pure reasoning, no I/O."""

from picas.explain.reasons import explain
from picas.explain.scene import Finding, Scene

__all__ = ["Finding", "Scene", "explain"]
