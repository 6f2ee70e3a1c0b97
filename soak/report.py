"""The figures, for a person."""

from collections import Counter
from collections.abc import Iterator, Sequence

from soak.round import Figures

MOST_SHOWN = 5
"""Violations of a promise that are shown; all of them stand in the folder that is kept."""


def lines(figures: Figures) -> Iterator[str]:
    """One round."""
    yield (
        f"seed {figures.seed}, {figures.store}: {figures.tokens:,} tokens, "
        f"{figures.pilots} pilots started, {figures.seconds:.0f} s"
    )
    yield f"  tokens:     {_counts(figures.states)}; lost: {figures.lost}"
    yield f"  faults:     {_counts(figures.faults)}"
    extra = _counts(figures.explained)
    yield f"  executions: {figures.executions:,}; not a token's last: {extra}"
    yield f"  results fenced out: {figures.fenced}"
    yield f"  by hand: {figures.reaped} given back (reap), {figures.recovered} recorded (recover)"
    for kind, why in figures.left_out.items():
        yield f"  LEFT OUT BY NAME: {kind} ({why})"
    yield f"  violations: {len(figures.violations)}"
    shown: Counter[str] = Counter()
    for violation in figures.violations:
        shown[violation.promise] += 1
        if shown[violation.promise] <= MOST_SHOWN:
            yield f"    {violation}"
    for promise, number in shown.items():
        if number > MOST_SHOWN:
            yield f"    {promise}: {number - MOST_SHOWN} more"
    if figures.folder:
        yield f"  kept: {figures.folder}"


def total(rounds: Sequence[Figures]) -> Iterator[str]:
    """All rounds together."""
    faults: Counter[str] = sum((r.faults for r in rounds), Counter())
    explained: Counter[str] = sum((r.explained for r in rounds), Counter())
    yield (
        f"{len(rounds)} rounds: {sum(r.tokens for r in rounds):,} tokens, "
        f"{sum(r.pilots for r in rounds):,} pilots, {faults.total():,} faults, "
        f"{sum(r.executions for r in rounds):,} executions, "
        f"{explained.total():,} of them not a token's last, "
        f"{sum(r.fenced for r in rounds):,} results fenced out, "
        f"lost: {sum(r.lost for r in rounds)}, "
        f"violations: {sum(len(r.violations) for r in rounds)}, "
        f"{sum(r.seconds for r in rounds) / 60:.1f} min"
    )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counter.items())) or "none"
