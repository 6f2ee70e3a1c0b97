"""The checker of fault injection finds what is planted, and nothing in good histories."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from soak.checker import LOST, SCRIBBLE, check
from soak.history import Applied, Execution, Fault, History, PilotEnd, read_ledger

from picas import token
from picas.token import Document, Holder, Outcome

LEASE = 5.0
PILOT, OTHER = "pilot_h_1_a", "pilot_h_2_b"
NAMES = {PILOT: "p001", OTHER: "p002"}
KILL = Fault("kill", 10.5, math.inf, "p001")


class Story:
    """One token as it lives, with its ledger and its stored logs."""

    def __init__(self, token_id: str = "t1") -> None:
        self.doc: Document = token.new({"input": "x"}, token_id)
        self.runs: list[Execution] = []
        self.logs: dict[tuple[str, str], str] = {}

    def claim(self, at: float, lease: str, pilot: str = PILOT) -> "Story":
        """A pilot takes it."""
        self.doc = token.claim(self.doc, at, Holder(pilot, "h"), lease)
        return self

    def run(self, start: float, end: float | None, code: int | None = None) -> "Story":
        """Its command runs under the present lease."""
        lease, pilot = self.doc["lease"], self.doc["pilot"]
        token_id = self.doc["_id"]
        pid = len(self.runs)
        run = Execution(token_id, lease, pilot, NAMES[pilot], pid, start, end, code)
        self.runs.append(run)
        return self

    def settle(self, at: float, code: int, *, again: bool = False) -> "Story":
        """The result of the present lease is recorded."""
        name = token.log_name(self.doc["_id"], "out")
        if (token_id := self.doc["_id"], name) in self.logs:
            before = token.log_name(token_id, "out", token.last_run(self.doc))
            self.logs[token_id, before] = self.logs[token_id, name]
        self.logs[token_id, name] = f"lease {self.doc['lease']}"
        outcome = Outcome(code, at - 1, at, f"exit code {code}", 1.0)
        if again:
            self.doc = token.scrub(self.doc, at, outcome, token.Again())
        else:
            self.doc = token.settle(self.doc, at, outcome)
        return self

    def lose(self, at: float) -> "Story":
        """Its pilot is gone."""
        self.doc = token.lost(self.doc, at)
        return self

    def reset(self, at: float) -> "Story":
        """A person resets it."""
        self.doc = token.reset(self.doc, at)
        return self

    def release(self, at: float, reason: str) -> "Story":
        """Its pilot gives it back."""
        self.doc = token.release(self.doc, at, reason)
        return self

    def edit(self, **fields: Any) -> "Story":
        """Somebody writes into it."""
        self.doc = {**self.doc, **fields}
        return self

    def history(self, *faults: Fault, **more: Any) -> History:
        """The round in which only this happened."""
        known: dict[str, Any] = {
            "pushed": [self.doc["_id"]],
            "documents": {self.doc["_id"]: self.doc},
            "executions": self.runs,
            "faults": faults,
            "logs": self.logs,
            "names": NAMES,
            "lease": LEASE,
        }
        return History(**(known | more))


def good() -> Story:
    """A token that ran once, and well."""
    return Story().claim(10, "aa").run(10.1, 11, 0).settle(11, 0)


def lost_once() -> Story:
    """Its first pilot was killed; the second did it."""
    story = Story().claim(10, "aa").run(10.1, None).lose(16)
    return story.claim(17, "bb", OTHER).run(17.1, 18, 0).settle(18, 0)


def reset_once(reset: float = 10.5) -> Story:
    """A person reset it while it ran: the first execution went on beside the second."""
    story = Story().claim(10, "aa").run(10.1, 12, 0).reset(reset)
    return story.claim(11, "bb", OTHER).run(11.1, 12, 0).settle(12, 0)


def failed_once() -> Story:
    """It failed once and was tried again."""
    story = Story().claim(10, "aa").run(10.1, 11, 4).settle(11, 4, again=True)
    return story.claim(12, "bb").run(12.1, 13, 0).settle(13, 0)


def given_up() -> Story:
    """It was lost three times running, and closed as an error."""
    story = Story()
    for number in range(3):
        story.claim(10 + number, f"a{number}").run(10.1 + number, None).lose(10.9 + number)
    return story


def reset_fault(at: float = 10.5) -> Fault:
    """A person resets t1."""
    return Fault("reset", at, at, "t1", {"applied": Applied.YES})


def edit_fault(at: float, value: int, applied: Applied = Applied.YES) -> Fault:
    """A person writes into t1."""
    return Fault("edit", at, at, "t1", {"field": "note", "value": value, "applied": applied})


FROZEN = Fault("stop", 10.5, 17.0, "p001")
TOLD = Fault("term", 10.5, math.inf, "p001")
DELETED = Fault("delete", 10.5, 10.6, "t1", {"applied": Applied.YES})
LATE = Fault("late_request", 9.0, 10.5)


def terminated() -> Story:
    """Its pilot was told to stop, and gave it back."""
    story = Story().claim(10, "aa").run(10.1, 11, 143).release(11.1, "released: SIGTERM")
    return story.claim(12, "bb", OTHER).run(12.1, 13, 0).settle(13, 0)


def no_room() -> Story:
    """The disk of its pilot's logs was full."""
    story = Story().claim(10, "aa").run(10.1, 11, 1).release(11.1, "no space left for logs in x")
    return story.claim(12, "bb", OTHER).run(12.1, 13, 0).settle(13, 0)


def came_late() -> Story:
    """A claim arrived when its pilot had given it up."""
    story = Story().claim(10, "aa").lose(20)
    return story.claim(21, "bb", OTHER).run(21.1, 22, 0).settle(22, 0)


@pytest.mark.parametrize(
    ("history", "explained"),
    [
        (good().history(), {}),
        (lost_once().history(KILL), {"pilot killed": 1}),
        (lost_once().history(FROZEN), {"pilot frozen": 1}),
        (lost_once().history(Fault("server_kill", 11, 15)), {"server killed": 1}),
        (reset_once().history(reset_fault()), {"reset by hand": 1}),
        (failed_once().history(), {"retry after a failure": 1}),
        (terminated().history(TOLD), {"pilot told to stop": 1}),
        (
            no_room().history(Fault("disk_logs", 10, 11), small=frozenset(["p001"])),
            {"disk of the logs full": 1},
        ),
        (given_up().history(KILL), {"pilot killed": 2}),
        (came_late().history(LATE), {}),
        (good().edit(note=2).history(edit_fault(9, 1), edit_fault(10, 2)), {}),
        (good().edit(note=1).history(edit_fault(9, 1), edit_fault(10, 2, Applied.MAYBE)), {}),
        (good().history(DELETED, documents={}), {}),
    ],
)
def test_good_histories(history: History, explained: dict[str, int]) -> None:
    """Nothing is found where every promise was kept, and what ran again is explained."""
    verdict = check(history)
    assert verdict.violations == []
    assert verdict.explained == explained


def twice() -> History:
    """The same attempt stands in the history twice."""
    story = good()
    return story.edit(attempts=[*story.doc["attempts"], story.doc["attempts"][0]]).history()


def fenced_result() -> History:
    """The first pilot's result is recorded though the token had been reset."""
    story = reset_once()
    return story.edit(attempts=[{**story.doc["attempts"][1], "lease": "aa", "n": 2}]).history(
        reset_fault()
    )


def fenced_log() -> History:
    """The log of the fenced execution is attached to the result of the other."""
    story = reset_once()
    story.logs["t1", "logs_t1.out"] = "lease aa"
    return story.history(reset_fault())


def rerun(lease: str) -> History:
    """A second execution that no fault explains."""
    story = good()
    return story.history(
        executions=[*story.runs, replace(story.runs[0], lease=lease, pid=9, start=12, end=13)]
    )


def beside() -> History:
    """Its pilot gave it back while its command still ran."""
    story = terminated()
    return story.history(TOLD, executions=[replace(story.runs[0], end=12.5), story.runs[1]])


PLANTED: list[tuple[str, Callable[[], History]]] = [
    (LOST, lambda: good().history(documents={})),
    ("came back", lambda: good().history(DELETED)),
    ("locked in the end", lambda: Story().claim(10, "aa").history()),
    ("left waiting", lambda: Story().history()),
    ("no state", lambda: good().edit(lock="x").history()),
    ("torn write", lambda: good().edit(**{SCRIBBLE: 1}).history()),
    ("recorded twice", twice),
    ("history", twice),
    ("settled without a result", lambda: good().edit(attempts=[]).history()),
    ("settled without a result", lambda: good().edit(exit_code=1).history()),
    ("result of another", lambda: _pilot_swapped().history()),
    ("result of nothing", lambda: good().history(executions=[])),
    ("result of nothing", lambda: Story().claim(1, "a").run(1, None).settle(2, 0).history()),
    ("wrong result", lambda: Story().claim(1, "a").run(1, 2, 3).settle(2, 0).history()),
    ("no log", lambda: good().history(logs={})),
    ("log of another", fenced_log),
    ("log of another", lambda: good().history(logs={("t1", "logs_t1.out"): ""})),
    ("no attempt", fenced_result),
    ("run twice", lambda: rerun("aa")),
    ("no attempt", lambda: rerun("bb")),
    ("unexplained", lambda: lost_once().history()),
    ("unexplained", lambda: lost_once().history(replace(KILL, target="p002"))),
    ("unexplained", lambda: lost_once().history(replace(FROZEN, at=0.0, until=1.0))),
    ("unexplained", lambda: terminated().history()),
    ("unexplained", lambda: reset_once().history()),
    ("unexplained", lambda: no_room().history(Fault("disk_logs", 10, 11))),
    ("unexplained", lambda: good().claim(12, "bb").run(12, 13, 0).settle(13, 0).history()),
    ("held too long", lambda: _lost_late().history(KILL)),
    ("at the same time", beside),
    ("lost edit", lambda: good().history(edit_fault(10.5, 1))),
    ("lost edit", lambda: good().edit(note=1).history(edit_fault(9, 1), edit_fault(10, 2))),
    ("tries miscounted", lambda: good().edit(scrub_count=1).history()),
    ("tries miscounted", lambda: failed_once().edit(scrub_count=0).history()),
    ("unknown token", lambda: good().history(pushed=[])),
    ("pilot hangs", lambda: good().history(ends=[PilotEnd("p001", -9, hung=True)])),
    ("pilot failed", lambda: good().history(ends=[PilotEnd("p001", 1)])),
    ("pilot failed", lambda: good().history(ends=[PilotEnd("p001", 0, broken=True)])),
    ("result left", lambda: good().history(left=1)),
    ("attachments", lambda: good().history(files=[("t1", "x.dat")])),
]


def _pilot_swapped() -> Story:
    story = good()
    return story.edit(attempts=[{**story.doc["attempts"][0], "pilot": OTHER}])


def _lost_late() -> Story:
    story = Story().claim(10, "aa").run(10.1, None).lose(90)
    return story.claim(91, "bb", OTHER).run(91.1, 92, 0).settle(92, 0)


@pytest.mark.parametrize(("promise", "plant"), PLANTED)
def test_planted_violations(promise: str, plant: Callable[[], History]) -> None:
    """Each planted violation is found under its name, with the token or the pilot."""
    violations = check(plant()).violations
    assert promise in {violation.promise for violation in violations}
    assert all(violation.token in ("t1", "p001", "") for violation in violations)
    assert all(violation.evidence for violation in violations)


def test_results_fenced_out_are_counted() -> None:
    """An execution that ended after its token was taken away counts as fenced out."""
    assert check(reset_once().history(reset_fault())).fenced == 1
    assert check(good().history()).fenced == 0


def test_ledger() -> None:
    """Start and end lines of an execution belong together; without an end it was killed."""
    lines = [
        "start t1 aa pilot_h_1_a p001 77 100.25",
        "start t2 bb pilot_h_1_a p001 78 100.50",
        "end t1 aa 77 101.00 3",
    ]
    first, second = read_ledger(lines, boot=1000.0)
    assert first == Execution("t1", "aa", PILOT, "p001", 77, 1100.25, 1101.0, 3)
    assert second == Execution("t2", "bb", PILOT, "p001", 78, 1100.5)
    with pytest.raises(ValueError, match="no task writes"):
        read_ledger(["nonsense"], boot=0.0)


def test_fault_log_line() -> None:
    """A line of the faults log is JSON, also for what has no end."""
    line = '{"kind": "kill", "at": 10.5, "until": null, "target": "p001", "detail": {}}'
    assert KILL.line() == line
