"""What is left out of long logs."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picas.errors import TaskError
from picas.logs import head_and_tail


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(st.binary(max_size=40), max_size=30),
    end=st.sampled_from([b"", b"\n"]),
    limit=st.integers(0, 700),
)
def test_head_and_tail_keep_both_ends(
    tmp_path: Path, lines: list[bytes], end: bytes, limit: int
) -> None:
    """Within the limit all is kept; past it a beginning, one line that counts right, and an end."""
    path = tmp_path / "log"
    content = b"\n".join(lines) + end
    path.write_bytes(content)
    shown = head_and_tail(path, limit)
    if len(content) <= limit:
        assert shown == content
        return
    note = re.search(
        rb"\n?\[PiCaS: (\d+) bytes are left out here; the whole log is \S+:(\S+)\]\n", shown
    )
    assert note is not None
    head, tail = shown[: note.start()], shown[note.end() :]
    # The line starts on a new line: the line end before it is the log's own, or was added.
    heads = {head, head + b"\n"} if shown[note.start() : note.start() + 1] == b"\n" else {head}
    dropped = int(note[1])
    assert any(
        content.startswith(h) and len(h) + len(tail) + dropped == len(content) for h in heads
    )
    assert content.endswith(tail)
    assert len(head) + len(tail) <= limit
    assert os.fsencode(path) == note[2]


def test_head_and_tail_cut_at_line_ends(tmp_path: Path) -> None:
    """Lines shorter than the parts stay whole."""
    path = tmp_path / "log"
    path.write_text("".join(f"line {n}\n" for n in range(1000)))
    lines = head_and_tail(path, 200).decode().splitlines()
    assert lines[0] == "line 0"
    assert lines[-1] == "line 999"
    assert [line for line in lines if not re.fullmatch(r"line \d+", line)] == [
        next(line for line in lines if line.startswith("[PiCaS: "))
    ]


def test_head_and_tail_of_a_huge_log_reads_little(tmp_path: Path) -> None:
    """A log of many gigabytes is shown without being read."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    shown = head_and_tail(path, 1000)
    assert shown.startswith(b"\0" * 500 + b"\n[PiCaS: 5368708120 bytes are left out")
    assert shown.endswith(b"]\n" + b"\0" * 500)


@pytest.mark.parametrize("name", ["gone", "no/folder/gone", "file/gone"])
def test_head_and_tail_of_a_log_that_was_removed(tmp_path: Path, name: str) -> None:
    """A log that is gone, its folder perhaps as well, is one line that names it."""
    (tmp_path / "file").touch()
    shown = head_and_tail(tmp_path / name, 100).decode()
    where = f"{os.uname().nodename}:{tmp_path / name}"
    assert shown == f"[PiCaS: the log {where} is gone: the task (or somebody) removed it]\n"


def test_head_and_tail_of_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    """A log that is there but cannot be read is an error that names it."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(TaskError, match=r"cannot read the log .*folder: Is a directory"):
        head_and_tail(tmp_path / "folder", 100)
