"""What is known of a round when it is over: the values that the checker reads."""

import enum
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from picas.token import Document


class Applied(enum.StrEnum):
    """Whether a person's change reached the pool."""

    YES = "yes"
    MAYBE = "maybe"
    """The pool gave no answer."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a token's command, as the command itself wrote it into the ledger.

    Attributes:
        token: The token's id.
        lease: The lease under which it ran.
        pilot: Id of the pilot's document.
        name: What the harness calls that pilot.
        pid: The command's process.
        start: Epoch seconds.
        end: Epoch seconds; None if it was killed before it could write that.
        code: The exit code it was about to end with, or None.
    """

    token: str
    lease: str
    pilot: str
    name: str
    pid: int
    start: float
    end: float | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was injected.

    Attributes:
        kind: What was done.
        at: When it began, in epoch seconds.
        until: When it ended; infinite for what cannot be taken back.
        target: The pilot (the harness' name of it) or the token; empty for what meets all.
        detail: What else there is to know.
    """

    kind: str
    at: float
    until: float = math.inf
    target: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The fault as a line of the faults log."""
        until = None if math.isinf(self.until) else round(self.until, 3)
        return json.dumps(asdict(self) | {"at": round(self.at, 3), "until": until})

    def certain(self) -> bool:
        """False for a person's change that got no answer."""
        return self.detail.get("applied") != Applied.MAYBE


@dataclass(frozen=True, slots=True)
class PilotEnd:
    """How a pilot's process ended.

    Attributes:
        name: What the harness calls it.
        status: Its exit status; negative for a signal.
        hung: It did not end by itself in time.
        killed: The harness killed it.
        told: The last line it wrote.
        broken: It wrote a traceback.
    """

    name: str
    status: int
    hung: bool = False
    killed: bool = False
    told: str = ""
    broken: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Everything about one round.

    Attributes:
        pushed: Ids of the tokens that the pool confirmed.
        documents: The tokens in the end, by id; those that are gone are missing.
        logs: First line of each stored log, by token and attachment.
        files: Names of all attachments whose content is not as the task wrote it.
        executions: The ledger.
        faults: The faults log.
        ends: How the pilots ended.
        names: The harness' name of a pilot, by the id of its document.
        lease: The pool's lease time, in seconds.
        left: Results that stay on disks when everything is over.
        small: Names of the pilots whose logs are on the small disk.
    """

    pushed: Sequence[str]
    documents: Mapping[str, Document]
    executions: Sequence[Execution]
    faults: Sequence[Fault] = ()
    logs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    files: Sequence[tuple[str, str]] = ()
    ends: Sequence[PilotEnd] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    lease: float = 5.0
    left: int = 0
    small: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        promise: Which, in a word or two.
        token: The token; empty if it is about a pilot.
        evidence: What shows it.
    """

    promise: str
    token: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.token}: {self.evidence}"


@dataclass(slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        violations: Promises that were not kept.
        explained: Executions beyond a token's first, by what made them necessary.
        fenced: Executions that ended after their token was taken away, and left no result.
        states: How many tokens stand where in the end.
    """

    violations: list[Violation] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)
    fenced: int = 0
    states: Counter[str] = field(default_factory=Counter)


def read_ledger(lines: Iterable[str], boot: float) -> list[Execution]:
    """The executions that tasks wrote down.

    Args:
        lines: ``start TOKEN LEASE PILOT NAME PID UPTIME`` and ``end TOKEN LEASE PID UPTIME CODE``.
        boot: Epoch second at which the machine's uptime was 0.
    """
    started: dict[tuple[str, int], Execution] = {}
    for line in lines:
        match line.split():
            case ["start", token, lease, pilot, name, pid, uptime]:
                start = boot + float(uptime)
                started[lease, int(pid)] = Execution(token, lease, pilot, name, int(pid), start)
            case ["end", token, lease, pid, uptime, code]:
                before = started[lease, int(pid)]
                started[lease, int(pid)] = Execution(
                    token,
                    lease,
                    before.pilot,
                    before.name,
                    before.pid,
                    before.start,
                    boot + float(uptime),
                    int(code),
                )
            case words:
                raise ValueError(f"the ledger has a line that no task writes: {words}")
    return list(started.values())
