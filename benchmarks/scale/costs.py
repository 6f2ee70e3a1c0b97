"""The measured costs, and what lies between two measured points."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from picas.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        op: What was done.
        n: How large it was: tokens, documents, changes, listeners, …
        shards: In how many pieces the database was.
        kind: Which sort of it; empty for the usual one.
        cpu: The server's processor time in seconds, of all its processes.
        wall: Seconds until the answer.
        more: Other figures.
    """

    op: str
    n: int
    shards: int
    kind: str
    cpu: float
    wall: float
    more: Mapping[str, float] = field(default_factory=dict)

    def least(self, other: "Row") -> "Row":
        """The least times of two measurements of the same."""
        return replace(self, cpu=min(self.cpu, other.cpu), wall=min(self.wall, other.wall))


@dataclass(frozen=True)
class Costs:
    """All measurements of one run.

    Attributes:
        about: When and on what they were made.
        rows: The measurements.
    """

    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    def cpu(self, op: str, n: float, shards: int = 2, kind: str = "") -> float:
        """Processor seconds of an operation of some size; straight lines between what was measured.

        Raises:
            InputError: It was not measured.
        """
        return _between([(row.n, row.cpu) for row in self.of(op, shards, kind)], n)

    def wall(self, op: str, n: float, shards: int = 2, kind: str = "") -> float:
        """The same for the seconds until the answer, with nobody else asking."""
        return _between([(row.n, row.wall) for row in self.of(op, shards, kind)], n)

    def of(self, op: str, shards: int = 2, kind: str = "") -> list[Row]:
        """The measurements of one operation, by size."""
        key = (op, shards, kind)
        found = [row for row in self.rows if (row.op, row.shards, row.kind) == key]
        if not found:
            raise InputError(f"the costs have no {op!r} with {shards} shards ({kind or 'usual'})")
        return sorted(found, key=lambda row: row.n)

    def save(self, file: Path) -> None:
        """Write them as JSON, a line a measurement."""
        rows = ",\n".join(json.dumps(_rounded(asdict(row))) for row in self.rows)
        file.write_text(f'{{"about": {json.dumps(self.about)},\n"rows": [\n{rows}\n]}}\n')

    @staticmethod
    def load(file: Path) -> "Costs":
        """Read what `save` wrote.

        Raises:
            InputError: The file is not there, or is something else.
        """
        try:
            found = json.loads(file.read_text())
            return Costs(found["about"], tuple(Row(**row) for row in found["rows"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} has no costs that 'measure' wrote: {error}") from error


def _between(points: list[tuple[int, float]], n: float) -> float:
    """The value at n on straight lines through the points, which are in order; never below 0."""
    if len(points) == 1:
        return points[0][1]
    i = min(max(1, bisect_left(points, (n, 0.0))), len(points) - 1)
    (n0, y0), (n1, y1) = points[i - 1], points[i]
    return max(0.0, y0 + (y1 - y0) * (n - n0) / (n1 - n0))


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    more = {name: float(f"{value:.4g}") for name, value in row["more"].items()}
    return {**row, "cpu": float(f"{row['cpu']:.4g}"), "wall": float(f"{row['wall']:.4g}")} | {
        "more": more
    }
