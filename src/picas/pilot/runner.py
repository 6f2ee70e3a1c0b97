"""What runs a token: the seam between the pilot's loop and the work itself."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from picas.logs import Excerpt
from picas.pilot.places import Place
from picas.token import Document, Outcome

Files = dict[str, bytes | Path | Excerpt]
"""Attachments of a result, by name."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Attributes:
        outcome: To be recorded.
        files: Attachments to record with it; what is released takes short ones (bytes) only.
        stopped: The pilot itself broke it off: the token is released, not settled.
        trouble: Set if this host could not run it at all (disk full, …): why.
        scratch: Files and folders to delete once the outcome is recorded.
    """

    outcome: Outcome
    files: Mapping[str, bytes | Path | Excerpt] = field(default_factory=dict)
    stopped: bool = False
    trouble: str | None = None
    scratch: Sequence[Path] = ()


class Running(Protocol):
    """One token at work."""

    def run(self) -> Result:
        """Do the work; blocks until it ended."""

    def stop(self, *, now: bool = False) -> None:
        """Ask it to end early (`now`: without a grace period); callable from any thread."""


class Runner(Protocol):
    """Makes the work of a token."""

    def start(self, doc: Document, time_limit: float | None, place: Place) -> Running:
        """Prepare one token.

        Args:
            doc: The claimed token.
            time_limit: Seconds it may run.
            place: What it has for itself.
        """

    def close(self) -> None:
        """Clean up when the pilot ends."""


class FunctionRunner:
    """Runs a Python function in the pilot's own process, a thread a slot.

    Args:
        function: Given a copy of the token's document; what it changes in that is recorded, and
            what it returns is the exit code (None: 0). An exception makes the token an error,
            with its traceback; ``sys.exit(n)`` ends the token, not the pilot.
    """

    def __init__(self, function: Callable[[Document], int | None]) -> None:
        self._function = function

    def start(self, doc: Document, time_limit: float | None, place: Place) -> Running:  # noqa: ARG002
        """Prepare one token; a function cannot be interrupted, so it has no time limit.

        It runs in the process of the pilot, and so wherever that may.
        """
        return _Call(self._function, doc)

    def close(self) -> None:
        """Nothing to clean up."""


class _Call:
    """One call of the function."""

    def __init__(self, function: Callable[[Document], int | None], doc: Document) -> None:
        self._function = function
        self._doc = doc

    def run(self) -> Result:
        """Call it; what it changed in the document is recorded."""
        doc = _copy(self._doc)
        start, clock = time.time(), time.monotonic()
        error = None
        try:
            exit_code = int(self._function(doc) or 0)
            reason = f"exit code {exit_code}"
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
            reason = f"sys.exit({end.code!r})"
        except BaseException as problem:  # noqa: BLE001 - whatever the user's code raises
            exit_code, reason = 1, f"{type(problem).__name__}: {problem}"
            error = traceback.format_exc()
        changed: dict[str, Any] = {
            name: value
            for name, value in doc.items()
            if not name.startswith("_") and (name not in self._doc or self._doc[name] != value)
        }
        wall = time.monotonic() - clock
        return Result(
            Outcome(exit_code, start, start + wall, reason, wall, error=error, fields=changed)
        )

    def stop(self, *, now: bool = False) -> None:
        """A function runs to its end."""


def _copy(value: Any) -> Any:
    """A copy of a JSON value; costs a third of what `copy.deepcopy` does."""
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
