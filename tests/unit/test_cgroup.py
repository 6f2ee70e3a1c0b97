"""What control groups say of memory, from files that stand in for theirs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from picas import cgroup


@pytest.fixture
def counted_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have kills counted by the first of some files that does."""

    def use(*files: Path) -> None:
        monkeypatch.setattr(cgroup, "_files", lambda *_: iter(files[:-1]))
        monkeypatch.setattr(cgroup, "_MACHINE", files[-1])
        cgroup._counter.cache_clear()

    yield use
    cgroup._counter.cache_clear()


def test_kills_are_counted_anew_by_each_call(
    tmp_path: Path, counted_by: Callable[..., None]
) -> None:
    """A kill between two calls is in the second; lines with similar names are not counted."""
    events = tmp_path / "memory.events"
    text = "low 1\noom 2\noom_kill {}\noom_group_kill 9\n"
    events.write_text(text.format(7))
    counted_by(events)
    assert cgroup.memory_kills() == 7
    events.write_text(text.format(12))
    assert cgroup.memory_kills() == 12


def test_kills_of_the_machine_count_where_groups_do_not(
    tmp_path: Path, counted_by: Callable[..., None]
) -> None:
    """A group without the line, or without the file, leaves it to the next one."""
    group, machine = tmp_path / "memory.oom_control", tmp_path / "vmstat"
    group.write_text("oom_kill_disable 0\nunder_oom 0\n")
    machine.write_text("pgfault 1\n" * 20_000 + "oom_kill 3\nthp_fault_alloc 4\n")
    counted_by(group, tmp_path / "missing", machine)
    assert cgroup.memory_kills() == 3


def test_nobody_counts_kills(tmp_path: Path, counted_by: Callable[..., None]) -> None:
    """Where the system does not tell, there were none."""
    counted_by(tmp_path / "missing")
    assert cgroup.memory_kills() == 0
