"""One command as a task: exit codes, logs, what it used, and what is left out of long logs."""

import os
import re
import resource
import sys
import threading
from pathlib import Path

import pytest

from picas.errors import TaskError
from picas.process import EndedBy, Finished, Task
from picas.proctree import MARK

LINUX = sys.platform == "linux"
MEBIBYTE = 1 << 20


def make(tmp_path: Path, *argv: str, **options: object) -> Task:
    """A task with its logs in `tmp_path` and this process's environment."""
    given: dict[str, object] = {"env": os.environ, "out": tmp_path / "out", "err": tmp_path / "err"}
    return Task(argv, **(given | options))  # type: ignore[arg-type]


def run(tmp_path: Path, *argv: str, **options: object) -> Finished:
    """Run such a task."""
    return make(tmp_path, *argv, **options).run()


@pytest.mark.parametrize("code", [0, 1, 3, 124, 255])
def test_exit_code_is_the_commands(tmp_path: Path, code: int) -> None:
    """What the command exits with is reported as it is."""
    finished = run(tmp_path, "sh", "-c", f"exit {code}")
    assert (finished.exit_code, finished.ended_by) == (code, EndedBy.ITSELF)


@pytest.mark.parametrize("number", [6, 9, 15])
def test_death_by_a_signal_is_128_and_its_number(tmp_path: Path, number: int) -> None:
    """A command killed by a signal has a shell's exit code for it."""
    assert run(tmp_path, "sh", "-c", f"kill -{number} $$").exit_code == 128 + number


def test_output_goes_to_its_two_files_untouched(tmp_path: Path) -> None:
    """Both streams are kept apart, byte for byte, whatever stood in the files before."""
    (tmp_path / "out").write_text("from an earlier attempt, and longer than the new one")
    code = r"import os; os.write(1, b'\xff\x00\r\n\xfe'); os.write(2, b'bad \xc3')"
    run(tmp_path, sys.executable, "-c", code)
    assert (tmp_path / "out").read_bytes() == b"\xff\x00\r\n\xfe"
    assert (tmp_path / "err").read_bytes() == b"bad \xc3"


def test_one_file_may_take_both_streams(tmp_path: Path) -> None:
    """Streams that share a file don't overwrite each other."""
    both = tmp_path / "log"
    run(tmp_path, "sh", "-c", "echo 1; echo 2 >&2; echo 3", out=both, err=both)
    assert both.read_text() == "1\n2\n3\n"


def test_command_sees_its_environment_directory_and_no_input(tmp_path: Path) -> None:
    """Environment and working directory are those given; standard input is empty."""
    env = {"PATH": os.environ["PATH"], "COLOUR": "grün"}
    run(tmp_path, "sh", "-c", 'cat; pwd; echo "$COLOUR"; env | grep -c .', env=env, cwd=tmp_path)
    directory, colour, _ = (tmp_path / "out").read_text().splitlines()
    assert (directory, colour) == (str(tmp_path.resolve()), "grün")


def test_mark_is_unique_and_keeps_the_mark_of_a_task_around_it(tmp_path: Path) -> None:
    """Each task has a mark of its own, behind that of the task it runs in."""
    marks = set()
    for _ in range(2):
        run(tmp_path, "sh", "-c", f'echo "${MARK}"', env={**os.environ, MARK: "outer"})
        marks.add((tmp_path / "out").read_text().strip())
    assert len(marks) == 2
    assert all(re.fullmatch(r"outer\.[0-9a-f]+-[0-9a-f]{16}", mark) for mark in marks)


def test_value_that_cannot_be_encoded_has_failed(tmp_path: Path) -> None:
    """A variable that no environment can hold fails the command."""
    finished = run(tmp_path, "true", env={"PATH": "/bin", "HALF": "\ud800"})
    assert finished.exit_code == 126
    assert "surrogates" in (tmp_path / "err").read_text()


def test_command_leads_a_session_of_its_own(tmp_path: Path) -> None:
    """A task is out of reach of signals meant for our group or our terminal."""
    run(tmp_path, sys.executable, "-c", "import os; print(os.getpid(), os.getsid(0), os.getpgrp())")
    assert len(set((tmp_path / "out").read_text().split())) == 1


def test_no_other_descriptor_is_inherited(tmp_path: Path) -> None:
    """A descriptor that this process leaves inheritable is closed in the command."""
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        finished = run(tmp_path, sys.executable, "-c", f"import os; os.fstat({writer})")
        assert finished.exit_code == 1
        assert b"Bad file descriptor" in (tmp_path / "err").read_bytes()
    finally:
        os.close(reader)
        os.close(writer)


def not_executable(tmp_path: Path) -> str:
    """A file without the permission to execute it."""
    path = tmp_path / "plain"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    return str(path)


def no_format(tmp_path: Path) -> str:
    """An executable file that is no program."""
    path = tmp_path / "noformat"
    path.write_text("echo hello\n")
    path.chmod(0o755)
    return str(path)


def no_interpreter(tmp_path: Path) -> str:
    """A script whose interpreter is missing."""
    path = tmp_path / "nointerpreter"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        (lambda _: "no-such-program-here", 127, "No such file"),
        (lambda _: "/no/such/program", 127, "No such file"),
        (lambda _: "", 127, "empty"),
        (no_interpreter, 127, "interpreter"),
        (not_executable, 126, "Permission denied"),
        (str, 126, "Permission denied"),
        (no_format, 126, "#!/bin/sh"),
        (lambda _: "nul\0byte", 126, "null byte"),
        (lambda _: "half\ud800character", 126, "surrogates"),
    ],
)
def test_command_that_cannot_be_executed_has_failed(
    tmp_path: Path, program: "object", code: int, reason: str
) -> None:
    """The exit code is a shell's, and the error log says why."""
    assert callable(program)
    finished = run(tmp_path, program(tmp_path), cwd=tmp_path)
    assert (finished.exit_code, finished.ended_by) == (code, EndedBy.ITSELF)
    assert reason in (tmp_path / "err").read_text()
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("program", ["/no/such/program", no_interpreter, not_executable, no_format])
def test_what_cannot_be_executed_is_run_another_way(tmp_path: Path, program: "object") -> None:
    """The command that stands in runs in its place, with the same logs."""
    argv = [program(tmp_path) if callable(program) else str(program)]
    finished = run(tmp_path, *argv, instead=["sh", "-c", "echo instead; exit 3"])
    assert finished.exit_code == 3
    assert (tmp_path / "out").read_text() == "instead\n"
    assert (tmp_path / "err").read_text() == ""


def test_what_was_executed_is_not_run_another_way(tmp_path: Path) -> None:
    """An exit code that a shell has for a missing command does not bring in the other one."""
    touch = ["touch", str(tmp_path / "instead")]
    assert run(tmp_path, "sh", "-c", "exit 127", instead=touch).exit_code == 127
    assert not (tmp_path / "instead").exists()


def test_neither_way_can_be_executed(tmp_path: Path) -> None:
    """The reason in the error log is that of the last one tried."""
    assert run(tmp_path, "/no/such/program", instead=[str(tmp_path)]).exit_code == 126
    assert (tmp_path / "err").read_text() == f"PiCaS: cannot run '{tmp_path}': Permission denied\n"


def test_empty_command_has_failed(tmp_path: Path) -> None:
    """Nothing to run is not a success."""
    assert run(tmp_path).exit_code == 127
    assert "empty" in (tmp_path / "err").read_text()


def test_too_long_arguments_have_failed(tmp_path: Path) -> None:
    """Arguments that the kernel refuses fail the task, with advice in its error log."""
    assert run(tmp_path, "true", "x" * (4 * MEBIBYTE)).exit_code == 126
    reason = (tmp_path / "err").read_text()
    assert "too long" in reason
    assert len(reason) < 500


@pytest.mark.parametrize("stream", ["out", "err"])
def test_log_that_cannot_be_made_is_our_trouble(tmp_path: Path, stream: str) -> None:
    """A log below something that is no directory raises; the command is not run."""
    (tmp_path / "file").touch()
    log = tmp_path / "file" / "log"
    with pytest.raises(TaskError, match=rf"cannot write the log {log}: Not a directory"):
        run(tmp_path, "touch", str(tmp_path / "ran"), **{stream: log})
    assert not (tmp_path / "ran").exists()


def test_folder_of_the_logs_is_made_again(tmp_path: Path) -> None:
    """A task that cleaned up too much does not keep the next from running."""
    logs = tmp_path / "far" / "logs"
    finished = run(tmp_path, "echo", "hello", out=logs / "out", err=logs / "err")
    assert finished.exit_code == 0
    assert (logs / "out").read_text() == "hello\n"


@pytest.mark.skipif(not LINUX, reason="needs /dev/full")
def test_full_disk_is_our_trouble(tmp_path: Path) -> None:
    """A reason that cannot be written for lack of space is not a failure of the command."""
    with pytest.raises(TaskError, match="No space left on device"):
        run(tmp_path, "no-such-program-here", err=Path("/dev/full"))


def test_missing_directory_is_our_trouble(tmp_path: Path) -> None:
    """A working directory that is not there raises, and doesn't look like a missing program."""
    with pytest.raises(TaskError, match="gone: it is missing"):
        run(tmp_path, "true", cwd=tmp_path / "gone")


def test_lack_of_processes_is_our_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that gives no more processes raises, and doesn't fail the token's command."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("picas.process.spawn", refuse)
    with pytest.raises(TaskError, match="limits on processes"):
        run(tmp_path, "true")


def test_no_descriptor_is_leaked(tmp_path: Path) -> None:
    """Tasks that end, fail or cannot start leave no open file behind."""
    if not LINUX:
        pytest.skip("counts /proc/self/fd")

    def some() -> None:
        run(tmp_path, "true")
        run(tmp_path, "no-such-program-here")
        with pytest.raises(TaskError):
            run(tmp_path, "true", err=tmp_path / "out" / "err")

    some()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    some()
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


def test_times_are_those_of_the_command(tmp_path: Path) -> None:
    """Start, end and wall-clock seconds agree with each other."""
    finished = run(tmp_path, "sleep", "0.1")
    assert 0.1 <= finished.wall < 5
    assert finished.end - finished.start == pytest.approx(finished.wall, abs=0.1)


def test_cpu_is_counted_with_that_of_children(tmp_path: Path) -> None:
    """A busy grandchild's CPU time is the task's; waiting costs none."""
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    finished = run(tmp_path, "sh", "-c", f"{sys.executable} -c '{busy}'; true")
    assert 0.2 <= finished.cpu < 2
    assert run(tmp_path, "sleep", "0.1").cpu < 0.1


@pytest.mark.parametrize("in_child", [False, True])
def test_memory_of_a_large_task_is_reported(tmp_path: Path, in_child: bool) -> None:
    """The peak is that of the largest process, a waited-for child included."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = max(200 * MEBIBYTE, own + own // 4)
    code = f"b = bytearray({size})"
    argv = [sys.executable, "-c", code]
    finished = run(tmp_path, *(["sh", "-c", f"{argv[0]} -c '{code}'; true"] if in_child else argv))
    assert finished.memory is not None
    assert size <= finished.memory < size + 60 * MEBIBYTE


@pytest.mark.skipif(not LINUX, reason="samples /proc")
def test_memory_of_a_small_task_is_not_that_of_this_process(tmp_path: Path) -> None:
    """A task smaller than we are is shown with its own size, or none if it was too short."""
    ballast = bytearray(150 * MEBIBYTE)
    ballast[::4096] = b"x" * len(ballast[::4096])
    short, longer = run(tmp_path, "true"), run(tmp_path, "sleep", "0.12")
    assert short.memory is None
    assert longer.memory is not None
    assert 100_000 < longer.memory < 20 * MEBIBYTE


def test_time_limit_ends_the_task(tmp_path: Path) -> None:
    """Exit code 124, whatever the command makes of the signal, soon after the limit."""
    command = "trap 'echo cleaned; exit 0' TERM; sleep 30 & wait"
    finished = run(tmp_path, "sh", "-c", command, time_limit=0.2)
    assert (finished.exit_code, finished.ended_by) == (124, EndedBy.TIME_LIMIT)
    assert 0.2 <= finished.wall < 3
    assert (tmp_path / "out").read_text() == "cleaned\n"


def test_time_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    """A task that ends in time ends by itself."""
    finished = run(tmp_path, "sh", "-c", "exit 4", time_limit=60)
    assert (finished.exit_code, finished.ended_by) == (4, EndedBy.ITSELF)


@pytest.mark.parametrize(("now", "code"), [(False, 143), (True, 137)])
def test_stop_before_the_start_keeps_the_command_from_running(
    tmp_path: Path, now: bool, code: int
) -> None:
    """A task stopped before it started has empty logs and says that it was stopped."""
    task = make(tmp_path, "touch", str(tmp_path / "ran"))
    task.stop(now=now)
    finished = task.run()
    assert (finished.exit_code, finished.ended_by) == (code, EndedBy.STOPPED)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "err").read_bytes() == b""
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("now", "code"), [(False, 143), (True, 137)])
def test_stop_from_another_thread(tmp_path: Path, now: bool, code: int) -> None:
    """A running task is ended by TERM, or by KILL if it has to be now."""
    task = make(tmp_path, "sleep", "30")
    timer = threading.Timer(0.1, task.stop, kwargs={"now": now})
    timer.start()
    finished = task.run()
    timer.join()
    assert (finished.exit_code, finished.ended_by) == (code, EndedBy.STOPPED)
    assert finished.wall < 5


def test_stop_after_the_end_does_nothing(tmp_path: Path) -> None:
    """A late stop reaches nobody, and the next task is not stopped in its place."""
    task = make(tmp_path, "true")
    assert task.run().exit_code == 0
    task.stop()
    assert run(tmp_path, "sleep", "0.1").ended_by is EndedBy.ITSELF


def test_stop_does_not_reach_the_next_task(tmp_path: Path) -> None:
    """A stopped task leaves nothing behind that would end the next in this slot."""
    first = make(tmp_path, "sleep", "30")
    timer = threading.Timer(0.05, first.stop)
    timer.start()
    first.run()
    timer.join()
    assert run(tmp_path, "sh", "-c", "sleep 0.1; exit 5").exit_code == 5
