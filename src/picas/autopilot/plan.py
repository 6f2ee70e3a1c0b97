"""How many pilots of a kind are needed now: pure functions of figures, with the reason in words."""

import math
from dataclasses import dataclass

from picas import figures
from picas.autopilot.config import Kind

FEW = 3
"""From so many submissions on that ended without a pilot, one after another, it waits."""

_FIRST_HOLD = 120.0
_LONGEST_HOLD = 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How things stand for one kind of pilots.

    Attributes:
        waiting: Tokens that are free, and that such a pilot can run now.
        unfit: Tokens that are free, and that it cannot run, now or ever.
        taken: Of those that wait, how many the pilots that are there already take on: those that
            run, and those of other kinds that wait for their start.
        running: Pilots of the kind that run.
        pending: Pilots of the kind that were submitted, and not heard of yet.
        in_vain: Of these, how many are to be cancelled where there is nothing to do.
        hour: Pilots of the kind that were submitted within the hour.
        token_seconds: How long a token takes; None where there is no history.
        at_once: Tokens that one pilot runs at once.
        failed: How many submissions in a row ended without a pilot.
        held: Seconds for which none is made for that reason.
        output: Where the output of the last of them is.
    """

    waiting: int
    unfit: int = 0
    taken: float = 0.0
    running: int = 0
    pending: int = 0
    in_vain: int = 0
    hour: int = 0
    token_seconds: float | None = None
    at_once: float = 1.0
    failed: int = 0
    held: float = 0.0
    output: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about a kind of pilots.

    Attributes:
        submit: How many pilots to submit.
        endless: Whether these stay though there is nothing to do.
        cancel: Whether to cancel those that wait in vain.
        reason: All in words, one line.
    """

    submit: int
    endless: bool
    cancel: bool
    reason: str


def tokens_of(at_once: float, token_seconds: float | None, work: float) -> float:
    """How many tokens a pilot takes on that is submitted now.

    Args:
        at_once: Tokens that it runs at once.
        token_seconds: How long one takes; None where nothing tells.
        work: Seconds of work that it is to have.
    """
    return at_once * max(1.0, work / token_seconds) if token_seconds else at_once


def takes_on(at_once: float, idle: float, token_seconds: float | None, work: float) -> float:
    """How many more tokens a pilot takes on that runs: for idle slots, and as others end.

    Args:
        at_once: Tokens that it runs at once.
        idle: How many more it could run now.
        token_seconds: How long one takes; None where nothing tells.
        work: Seconds of work that it is to have.
    """
    return max(idle, at_once * work / token_seconds if token_seconds else 0.0)


def hold(failed: int) -> float:
    """Seconds to wait after so many submissions in a row that ended without a pilot."""
    return 0.0 if failed < FEW else min(_LONGEST_HOLD, _FIRST_HOLD * 2 ** (failed - FEW))


def decide(kind: Kind, now: Figures) -> Decision:
    """What is to be done.

    Args:
        kind: The kind of pilots, with its limits.
        now: How things stand.
    """
    there = now.running + now.pending
    each = tokens_of(now.at_once, now.token_seconds, kind.work_per_pilot)
    left = now.waiting - now.taken - now.pending * each
    lacking = max(0, kind.min - there)
    wanted = max(lacking, math.ceil(left / each))
    room = {
        "max": kind.max - there,
        "max_pending": kind.max_pending - now.pending,
        "max_per_hour": kind.max_per_hour - now.hour,
    }
    limit = min(room, key=lambda name: room[name])
    submit = max(0, min(wanted, room[limit], lacking or wanted))
    because = f" ({limit})" if room[limit] < wanted else ""
    if now.held > 0:
        submit = 0
    elif now.failed and submit > (trial := max(0, 1 - now.pending)):
        submit, because = trial, f" (a trial: {_failures(now)})"
    cancel = now.waiting == 0 and now.in_vain > 0
    said = _verdict(now, submit, wanted, because)
    if cancel:
        said = f"cancel {_pilots(now.in_vain)} that would start in vain"
    elif lacking and submit:
        said += f", to keep {kind.min}"
    return Decision(submit, lacking > 0, cancel, f"{_standing(now)}: {said}")


def _verdict(now: Figures, submit: int, wanted: int, because: str) -> str:
    if now.held > 0 and wanted > 0:
        return f"none for {figures.duration(now.held)}, as {_failures(now)}"
    if submit > 0:
        return f"{submit:,} more{because}"
    if wanted > 0:
        return f"none more{because}"
    return "enough" if now.waiting else "nothing to do"


def _failures(now: Figures) -> str:
    ended = f"{now.failed} submissions in a row ended without a pilot"
    ended = "the last submission ended without a pilot" if now.failed == 1 else ended
    return f"{ended}; see {now.output}" if now.output else ended


def _standing(now: Figures) -> str:
    """How things stand, in words."""
    waits = "1 token waits" if now.waiting == 1 else f"{now.waiting:,} tokens wait"
    if now.token_seconds is not None and now.waiting:
        waits += f" (about {figures.duration(now.token_seconds)} each)"
    parts = [waits]
    if now.unfit:
        parts.append(f"{now.unfit:,} cannot run on such pilots now")
    runs = "1 pilot runs" if now.running == 1 else f"{_pilots(now.running)} run"
    parts.append(runs)
    if now.pending:
        own = "1 waits for its start" if now.pending == 1 else "wait for their start"
        parts.append(own if now.pending == 1 else f"{now.pending:,} {own}")
    return ", ".join(parts)


def _pilots(number: int) -> str:
    return "1 pilot" if number == 1 else f"{number:,} pilots"
