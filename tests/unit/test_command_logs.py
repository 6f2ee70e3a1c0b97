"""What of a command's logs goes into the token, and which files stay on the host."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from picas import token
from picas.logs import Excerpt
from picas.pilot import CommandRunner
from picas.pilot.places import Place
from picas.pilot.runner import Result
from picas.token import Holder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder of the logs."""
    return tmp_path / "logs"


def run(runner: CommandRunner, line: str) -> Result:
    """Run one token."""
    doc = token.claim(token.new({"input": line}, "t1"), 1.0, Holder("pilot_x", "here"), "l1")
    return runner.start(doc, None, Place()).run()


@pytest.fixture
def runner(logs: Path) -> Iterator[CommandRunner]:
    """Runs commands."""
    with closing(CommandRunner("sqlite:///x.db", logs=logs, log_limit=8)) as made:
        yield made


def test_empty_logs_are_gone_with_the_command(runner: CommandRunner, logs: Path) -> None:
    """What holds nothing does not wait on disk until it is recorded that it held nothing."""
    result = run(runner, "true")
    assert result.files == {"logs_t1.out": b"", "logs_t1.err": b""}
    assert result.scratch == []
    assert list(logs.iterdir()) == []


def test_logs_stay_until_they_are_recorded(runner: CommandRunner, logs: Path) -> None:
    """A log with something in it is on disk, and named as one to delete once the pool has it."""
    result = run(runner, "echo hello; echo oh >&2")
    assert result.files["logs_t1.out"] == Excerpt(logs / "logs_t1.out", 8)
    assert (logs / "logs_t1.out").read_text() == "hello\n"
    assert result.scratch == [logs / "logs_t1.out", logs / "logs_t1.err"]


def test_long_logs_stay_for_good(runner: CommandRunner, logs: Path) -> None:
    """A log of which the token keeps parts only is not named as one to delete."""
    result = run(runner, "echo longer than that >&2")
    assert result.files["logs_t1.err"] == Excerpt(logs / "logs_t1.err", 8)
    assert result.scratch == []
    assert runner.kept == [logs / "logs_t1.err"]


def test_all_logs_are_kept_on_request(logs: Path) -> None:
    """Empty ones, too."""
    with closing(CommandRunner("sqlite:///x.db", logs=logs, keep_logs=True)) as runner:
        result = run(runner, "echo hello")
    assert result.scratch == []
    assert {path.name for path in logs.iterdir()} == {"logs_t1.out", "logs_t1.err"}


def test_log_that_the_command_removed(runner: CommandRunner, logs: Path) -> None:
    """It is named all the same: what is recorded says that it is gone."""
    result = run(runner, f"rm {logs}/*")
    assert result.files["logs_t1.out"] == Excerpt(logs / "logs_t1.out", 8)
    assert result.scratch == []


def test_a_command_that_removes_the_folder_of_the_logs(runner: CommandRunner, logs: Path) -> None:
    """The next command has its logs there again."""
    run(runner, f"rm -r {logs}")
    run(runner, "echo hello")
    assert (logs / "logs_t1.out").read_text() == "hello\n"


def test_script_without_its_interpreter_is_run_by_bash(
    runner: CommandRunner, tmp_path: Path, logs: Path
) -> None:
    """The kernel starts a script only if it says by what; a shell starts any."""
    script = tmp_path / "script"
    script.write_text("echo $0 $1")
    script.chmod(0o755)
    assert run(runner, f"{script} word").outcome.exit_code == 0
    assert (logs / "logs_t1.out").read_text() == f"{script} word\n"


def test_missing_program_is_told_by_bash(runner: CommandRunner, logs: Path) -> None:
    """The exit code and the words are the shell's, whether or not the line needed one."""
    assert run(runner, "/no/such/program").outcome.exit_code == 127
    assert "/no/such/program: No such file" in (logs / "logs_t1.err").read_text()


def test_what_a_command_keeps_of_its_files_stays_as_it_is(
    runner: CommandRunner, tmp_path: Path
) -> None:
    """A second name that it gave to such a file shows nothing of later tokens."""
    kept, log = tmp_path / "kept.json", tmp_path / "kept.err"
    run(runner, f'ln "$PICAS_TOKEN_FILE" {kept}; ln {runner.logs}/logs_t1.err {log}')
    before = kept.read_text()
    run(runner, "echo oh >&2")
    assert kept.read_text() == before
    assert log.read_text() == ""
