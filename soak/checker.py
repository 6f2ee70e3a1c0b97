"""The checker: were the promises kept, by the ledger and the tokens, whatever was injected.

Pure functions of a `History`. What each promise says: docs/explanation/promises.md.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from picas import token
from picas.token import Document, State
from soak.explain import RESET, RETRY, Explanations
from soak.history import Applied, Execution, History, PilotEnd, Verdict, Violation

OVERLAP_SECONDS = 0.03
"""The ledger's clock has steps of 10 ms."""

EXITS = frozenset((0, 3, 7))
"""How a pilot may end under faults: well, the pool did not answer, the host is in trouble."""

LONGEST_LEASES = 5
"""Lease times within which lost tokens are given back: until somebody looks, and looks again."""

KILLED = 137
LOST = "lost"
SCRIBBLE = "scribble"
"""A field that is only ever written inside transactions that are never completed."""


@dataclass(frozen=True, slots=True)
class Case:
    """One token with all that is known of it.

    Attributes:
        id: Its id.
        doc: The token in the end.
        runs: Its executions, by lease.
        why: What explains what.
        logs: First lines of its stored logs, by attachment.
        lease: The pool's lease time, in seconds.
    """

    id: str
    doc: Document
    runs: Mapping[str, list[Execution]]
    why: Explanations
    logs: Mapping[str, str]
    lease: float

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Its history."""
        return token.attempts(self.doc)

    @property
    def state(self) -> State | None:
        """Its state."""
        return token.state(self.doc)

    def by_lease(self) -> dict[str, dict[str, Any]]:
        """Its history, by lease."""
        return {str(entry.get("lease")): entry for entry in self.attempts}

    def bad(self, promise: str, evidence: str) -> Violation:
        """A violation that this token shows."""
        return Violation(promise, self.id, evidence)


def check(history: History) -> Verdict:
    """Judge a round."""
    verdict = Verdict()
    why = Explanations(history)
    runs: dict[str, dict[str, list[Execution]]] = defaultdict(lambda: defaultdict(list))
    for run in history.executions:
        runs[run.token][run.lease].append(run)
    logs: dict[str, dict[str, str]] = defaultdict(dict)
    for (token_id, name), line in history.logs.items():
        logs[token_id][name] = line
    for token_id in history.pushed:
        doc = history.documents.get(token_id)
        if doc is None:
            _gone(token_id, runs[token_id], why, verdict)
            continue
        case = Case(token_id, doc, runs[token_id], why, logs[token_id], history.lease)
        verdict.states[_where(case)] += 1
        for examine in EXAMINATIONS:
            verdict.violations += examine(case)
        _count(case, verdict)
    verdict.violations += _unasked(history)
    verdict.violations += _pilots(history.ends)
    if history.left:
        told = f"{history.left} results stay on disk after 'picas recover'"
        verdict.violations.append(Violation("result left", "", told))
    verdict.violations += [
        Violation("attachments", token_id, f"{name} is not what the task wrote")
        for token_id, name in history.files
    ]
    return verdict


# --- one token -------------------------------------------------------------------------------


def in_the_end(case: Case) -> Iterator[Violation]:
    """1 and 4: a token is settled; none is locked or waiting when the work is over."""
    if case.state is State.LOCKED:
        holder = f"by {case.doc.get('pilot')} since {case.doc.get('lock')}"
        yield case.bad("locked in the end", holder)
    elif case.state is State.TODO:
        yield case.bad("left waiting", f"attempts: {_reasons(case)}")
    elif case.state is None:
        yield case.bad("no state", f"lock {case.doc.get('lock')!r} done {case.doc.get('done')!r}")
    if case.why.of_token(case.id, "delete") and _deleted(case.id, case.why):
        yield case.bad("came back", "it was deleted by hand, and is there again")
    if SCRIBBLE in case.doc:
        yield case.bad("torn write", "it holds a field of a transaction that was never completed")


def settled_once(case: Case) -> Iterator[Violation]:
    """1 and 2: what is recorded in the end is the result of the last attempt, recorded once."""
    leases = Counter(str(entry.get("lease")) for entry in case.attempts)
    for lease, times in leases.items():
        if times > 1:
            yield case.bad("recorded twice", f"{times} entries of lease {lease}: {_reasons(case)}")
    numbers = [entry.get("n") for entry in case.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield case.bad("history", f"attempts are numbered {numbers}")
    if case.state not in (State.DONE, State.ERROR):
        return
    last = case.attempts[-1] if case.attempts else {}
    if case.doc.get("exit_code") == last.get("exit_code") and "exit_code" in last:
        return
    if not _given_up(case):
        yield case.bad(
            "settled without a result",
            f"exit code {case.doc.get('exit_code')!r}, attempts: {_reasons(case)}",
        )


def results(case: Case) -> Iterator[Violation]:
    """2: each recorded result is that of the one execution under its lease."""
    for entry in case.attempts:
        lease, code = str(entry.get("lease")), entry.get("exit_code")
        if code is None:
            continue
        runs = case.runs.get(lease, [])
        if not runs:
            if code == KILLED and case.why.killed_task(entry):
                continue  # killed before it wrote its first line
            yield case.bad("result of nothing", f"no execution under lease {lease}, code {code}")
        for run in runs:
            if run.pilot != entry.get("pilot"):
                told = f"lease {lease} ran in {run.pilot}, recorded by {entry.get('pilot')}"
                yield case.bad("result of another", told)
            if run.code is None and not (code == KILLED and case.why.killed_task(entry)):
                yield case.bad("result of nothing", f"lease {lease} never ended; recorded {code}")
            if run.code is not None and run.code != code:
                yield case.bad("wrong result", f"lease {lease} ended {run.code}, recorded {code}")


def stored_logs(case: Case) -> Iterator[Violation]:
    """2: each log is that of the attempt that it is attached for."""
    last = token.last_run(case.doc)
    for entry in case.attempts:
        if entry.get("exit_code") is None:
            continue
        number = entry.get("n")
        name = token.log_name(case.id, "out", None if number == last else number)
        if name not in case.logs:
            if number == last:
                yield case.bad("no log", f"{name} is missing")
            continue  # logs of older attempts are dropped in the end
        line, expected = case.logs[name], f"lease {entry.get('lease')}"
        if line == expected:
            continue
        if line.startswith("lease ") or not _may_lack(case, entry):
            yield case.bad("log of another", f"{name} begins {line!r}, not {expected!r}")


def executions(case: Case) -> Iterator[Violation]:
    """3: each execution has its attempt, and something explains each that was not the last."""
    known = case.by_lease()
    for lease, runs in case.runs.items():
        if len(runs) > 1:
            yield case.bad("run twice", f"{len(runs)} executions under one lease {lease}")
        if lease not in known and case.doc.get("lease") != lease:
            yield case.bad("no attempt", f"nothing in the history about lease {lease}")
    for entry in case.attempts:
        if entry.get("exit_code") is None and case.why.broken_off(case.id, entry) is None:
            told = f"{entry.get('reason')!r} of {entry.get('pilot')} at {entry.get('end')}"
            yield case.bad("unexplained", f"attempt {entry.get('n')} broken off: {told}")
    for entry in case.attempts[:-1]:
        if entry.get("exit_code") == 0 and not case.why.of_token(case.id, "reset"):
            yield case.bad("unexplained", f"it ran again after attempt {entry.get('n')} was done")


def held(case: Case) -> Iterator[Violation]:
    """4: what was lost with its pilot went back soon, though not while the pool was away."""
    for entry in case.attempts:
        cause = case.why.broken_off(case.id, entry)
        if entry.get("reason") != token.LOST or cause is None:
            continue
        lasted = entry["end"] - cause.since
        longest = LONGEST_LEASES * case.lease + case.why.away(cause.since, entry["end"])
        if lasted > longest:
            told = f"attempt {entry.get('n')}, {cause.label}: {lasted:.0f} s, not {longest:.0f} s"
            yield case.bad("held too long", f"{told}; held by {entry.get('pilot')}")


def overlaps(case: Case) -> Iterator[Violation]:
    """3: no two executions at once, unless one of them had lost its token."""
    runs = sorted((run for group in case.runs.values() for run in group), key=lambda r: r.start)
    known = {lease: str(entry.get("reason")) for lease, entry in case.by_lease().items()}
    for first, second in combinations(runs, 2):
        if first.end is None or second.start > first.end - OVERLAP_SECONDS:
            continue
        # Claims that were made ahead may start in another order.
        reasons = known.get(first.lease, ""), known.get(second.lease, "")
        if not any(reason == token.LOST or "reset" in reason for reason in reasons):
            told = f"{first.lease} until {first.end:.2f}, {second.lease} from {second.start:.2f}"
            yield case.bad("at the same time", f"{told}; they ended by {reasons}")


def edits(case: Case) -> Iterator[Violation]:
    """6: what a person wrote into the token is there."""
    last: dict[str, tuple[set[Any], bool]] = {}
    for fault in case.why.of_token(case.id, "edit"):
        name, value = fault.detail["field"], fault.detail["value"]
        if fault.detail["applied"] == Applied.YES:
            last[name] = ({value}, True)
        else:
            possible, certain = last.get(name, (set(), False))
            last[name] = (possible | {value}, certain)
    for name, (possible, certain) in last.items():
        if certain and case.doc.get(name) not in possible:
            yield case.bad("lost edit", f"{name} is {case.doc.get(name)!r}, not {possible}")


def tries(case: Case) -> Iterator[Violation]:
    """A failure and a reset count as a try; being lost or released costs none."""
    resets = case.why.of_token(case.id, "reset")
    settled = case.state in (State.DONE, State.ERROR) and not _given_up(case)
    failed = sum(entry.get("exit_code") is not None for entry in case.attempts) - settled
    least = failed + sum("reset" in str(entry.get("reason")) for entry in case.attempts)
    most = failed + len(resets)
    if not least <= token.scrub_count(case.doc) <= max(least, most):
        told = f"scrub_count {token.scrub_count(case.doc)}, not {least} to {most}"
        yield case.bad("tries miscounted", f"{told}; attempts: {_reasons(case)}")


EXAMINATIONS: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    in_the_end,
    settled_once,
    results,
    stored_logs,
    executions,
    held,
    overlaps,
    edits,
    tries,
)


def label(case: Case, entry: Mapping[str, Any]) -> str:
    """What made another execution necessary after this attempt."""
    code = entry.get("exit_code")
    if code is None:
        cause = case.why.broken_off(case.id, entry)
        return cause.label if cause else "not explained"
    if code != 0 and token.scrub_count(case.doc) > len(case.why.of_token(case.id, "reset")):
        return RETRY
    return RESET if case.why.of_token(case.id, "reset") else RETRY


# --- the rest --------------------------------------------------------------------------------


def _gone(
    token_id: str, runs: Mapping[str, list[Execution]], why: Explanations, verdict: Verdict
) -> None:
    """1: a token that is not there was deleted by hand."""
    if not why.of_token(token_id, "delete"):
        verdict.violations.append(Violation(LOST, token_id, "it is not in the pool any more"))
    verdict.states["deleted"] += 1
    extra = sum(len(group) for group in runs.values()) - 1
    if extra > 0:
        verdict.explained["of tokens deleted since"] += extra


def _count(case: Case, verdict: Verdict) -> None:
    """Count the executions that were not the last, by what explains them."""
    order = [str(entry.get("lease")) for entry in case.attempts]
    leases = [lease for lease in order if lease in case.runs]
    known = case.by_lease()
    for lease in leases[:-1]:
        verdict.explained[label(case, known[lease])] += len(case.runs[lease])
    for lease, entry in known.items():
        if entry.get("exit_code") is None:
            verdict.fenced += sum(run.code is not None for run in case.runs.get(lease, []))


def _unasked(history: History) -> Iterator[Violation]:
    """Nothing runs that was not pushed."""
    pushed = set(history.pushed)
    for run in history.executions:
        if run.token not in pushed:
            yield Violation("unknown token", run.token, f"it ran in {run.pilot}")


def _pilots(ends: Sequence[PilotEnd]) -> Iterator[Violation]:
    """5: all pilots end by themselves, in a way that is documented."""
    for end in ends:
        if end.hung:
            yield Violation("pilot hangs", end.name, f"it had to be killed; it said: {end.told}")
        elif not end.killed and end.status not in EXITS:
            yield Violation("pilot failed", end.name, f"status {end.status}; it said: {end.told}")
        if end.broken:
            yield Violation("pilot failed", end.name, f"it wrote a traceback: {end.told}")


def _deleted(token_id: str, why: Explanations) -> bool:
    return any(fault.certain() for fault in why.of_token(token_id, "delete"))


def _given_up(case: Case) -> bool:
    """Tell whether a token was closed because it was lost too often running."""
    last = [entry.get("reason") for entry in case.attempts[-token.MOST_LOST :]]
    return case.state is State.ERROR and last == [token.LOST] * token.MOST_LOST


def _where(case: Case) -> str:
    """How a person would say where a token stands."""
    if _given_up(case):
        return "error, lost too often"
    return case.state.value if case.state else "no state"


def _may_lack(case: Case, entry: Mapping[str, Any]) -> bool:
    """Tell whether a log may lack its first line: no room, or killed before it was written."""
    killed = entry.get("exit_code") == KILLED and case.why.killed_task(entry)
    return killed or case.why.log_may_lack(entry)


def _reasons(case: Case) -> str:
    return "; ".join(f"{e.get('n')} {e.get('lease')} {e.get('reason')}" for e in case.attempts)
