"""Starting a command, by the C library and by the standard library."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from picas import spawn as module
from picas.spawn import spawn

Run = Callable[..., str]


@pytest.fixture(params=["C library", "subprocess"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command to its end; what it wrote."""
    if request.param == "subprocess":
        monkeypatch.setattr(module, "_library", lambda: None)
    elif module._library() is None:
        pytest.skip("the C library cannot do it")

    def to_the_end(
        argv: Sequence[str], env: Mapping[str, str] = os.environ, cwd: Path | None = None
    ) -> str:
        with (tmp_path / "out").open("wb") as out, Path(os.devnull).open("rb") as nothing:
            pid = spawn(argv, env, (nothing.fileno(), out.fileno(), out.fileno()), cwd)
            _, status = os.waitpid(pid, 0)
        written = (tmp_path / "out").read_text(errors="surrogateescape")
        assert os.waitstatus_to_exitcode(status) == 0, written
        return written

    return to_the_end


def test_arguments_environment_and_directory(run: Run, tmp_path: Path) -> None:
    """They arrive as they were given, whatever is in them."""
    script = 'printf "%s|" "$@" "$NAME" "$(pwd -P)"'
    env = {"PATH": os.environ["PATH"], "NAME": "ü = \n"}
    odd = ["", "two words", "'", "日本", "\udce9"]
    wanted = "|".join([*odd, env["NAME"], str(tmp_path.resolve()), ""])
    assert run(["sh", "-c", script, "sh", *odd], env, tmp_path) == wanted


def test_session_of_its_own(run: Run) -> None:
    """A command leads its session, so that its children are found."""
    tell = "import os; print(os.getsid(0) == os.getpid())"
    assert run([sys.executable, "-c", tell]) == "True\n"


def test_other_descriptors_are_closed(run: Run) -> None:
    """What this process has open, even if it may be inherited, is nothing for a command."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        assert run(["sh", "-c", f"test -e /proc/self/fd/{writer} || echo closed"]) == "closed\n"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_signals_have_their_default_effect(run: Run) -> None:
    """Python ignores SIGPIPE; a command that writes into a closed pipe is to end of it."""
    ignored = run(["sed", "-n", "s/^SigIgn:\t//p", "/proc/self/status"])
    mask = int(ignored, 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not mask >> (number - 1) & 1


def test_program_is_looked_for_in_the_path_of_its_environment(run: Run, tmp_path: Path) -> None:
    """Not in that of this process; a folder of that name is passed over."""
    first, second = tmp_path / "a", tmp_path / "b"
    (first / "mine").mkdir(parents=True)
    second.mkdir()
    (second / "mine").write_text("#!/bin/sh\necho found\n")
    (second / "mine").chmod(0o755)
    assert run(["mine"], {"PATH": f"{first}:{second}"}) == "found\n"


@pytest.mark.parametrize("argv", [["no-such-program"], ["/no/such/program"]])
def test_missing_program(run: Run, argv: Sequence[str]) -> None:
    """It is an error that names what is missing."""
    with pytest.raises(FileNotFoundError):
        run(argv)


def test_missing_directory(run: Run, tmp_path: Path) -> None:
    """So it is with a working directory."""
    with pytest.raises(FileNotFoundError):
        run(["true"], cwd=tmp_path / "gone")


@pytest.mark.parametrize(
    ("argv", "env"), [(["true", "a\0b"], {}), (["true"], {"A": "a\0b"})], ids=["argument", "env"]
)
def test_nul_characters_are_refused(run: Run, argv: Sequence[str], env: dict[str, str]) -> None:
    """C would take the text to end there."""
    with pytest.raises(ValueError, match="null byte"):
        run(argv, {"PATH": os.environ["PATH"], **env})
