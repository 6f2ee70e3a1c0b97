"""Batch scripts for Slurm, and what a job knows of its time, by small stand-ins on PATH."""

import shlex
import time
from pathlib import Path

import pytest

from picas.errors import ConfigError, TaskError
from picas.schedulers import Batch, Job, JobState, Shape, time_left
from picas.schedulers import slurm as module
from picas.schedulers.slurm import Slurm

BATCH = Batch(["/opt/picas", "run", "--view", "a b/todo"], {"PICAS_POOL": "https://host/db"})


def tool(folder: Path, name: str, code: str) -> None:
    """Put a stand-in for a command of Slurm's into a folder."""
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, but for the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr(module.shutil, "which", lambda name, path=None: _which(folder, name))  # type: ignore[attr-defined]
    return folder


def _which(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def test_the_least_that_is_asked_for() -> None:
    """An array of one, whose job becomes the pilot; what the site decides is left out."""
    assert Slurm().script(BATCH).splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=picas",
        "#SBATCH --array=0-0",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=1",
        "",
        "export PICAS_POOL=https://host/db",
        "exec /opt/picas run --view 'a b/todo'",
    ]


def test_all_that_can_be_asked_for() -> None:
    """Shape, time, partition, own options and own lines; #SBATCH lines go to the top."""
    shape = Shape(
        cores=4,
        memory=8 << 30,
        gpus=2,
        time=5400.5,
        partition="long",
        options=["--account=x"],
        setup="#!/bin/bash\n#SBATCH --mail-type=END\nmodule load Python\n. venv/bin/activate\n",
    )
    assert Slurm().script(Batch(["picas", "run"], {}, 6, shape)).splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=picas",
        "#SBATCH --array=0-5",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8192M",
        "#SBATCH --gpus=2",
        "#SBATCH --time=1:31:00",
        "#SBATCH --partition=long",
        "#SBATCH --account=x",
        "#SBATCH --mail-type=END",
        "",
        "module load Python",
        ". venv/bin/activate",
        "exec picas run",
    ]


def test_as_many_arrays_as_the_site_wants(bin_folder: Path, tmp_path: Path) -> None:
    """What is more than MaxArraySize goes into further arrays."""
    tool(bin_folder, "scontrol", "echo 'MaxArraySize            = 4'")
    tool(bin_folder, "sbatch", f"grep array >> {tmp_path}/seen; echo '7;cluster'")
    many = Batch(["picas", "run"], {}, pilots=10)
    assert list(Slurm().submit(many)) == [("7", 4), ("7", 4), ("7", 2)]
    assert (tmp_path / "seen").read_text().split() == [
        *("#SBATCH", "--array=0-3") * 2,
        *("#SBATCH", "--array=0-1"),
    ]
    tool(bin_folder, "scontrol", "exit 1")
    assert [n for _, n in Slurm().submit(Batch([], {}, pilots=2000))] == [1001, 999]


def test_a_site_that_refuses(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are told; and so is a site that is none, or does not answer."""
    with pytest.raises(ConfigError, match="no sbatch"):
        list(Slurm().submit(BATCH))
    tool(bin_folder, "sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1")
    with pytest.raises(TaskError, match=r"^sbatch: Invalid account$"):
        list(Slurm().submit(BATCH))
    tool(bin_folder, "sbatch", "exec sleep 5")
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.1)
    with pytest.raises(TaskError, match="look with squeue"):
        list(Slurm().submit(BATCH))


def test_a_listing(bin_folder: Path, tmp_path: Path) -> None:
    """One call for all; what Slurm has words for, and what it may have one day: has not ended."""
    lines = ["12_3|PENDING|picas-a", "12_4|NODE_FAIL|picas-a", "13|COMPLETING|picas|x", "14|NEW|p"]
    said = shlex.join(lines)
    tool(bin_folder, "squeue", f"echo $* >> {tmp_path}/seen; printf '%s\\n' {said}")
    assert Slurm().jobs("picas") == [
        Job("12_3", "picas-a", JobState.PENDING, "PENDING"),
        Job("12_4", "picas-a", JobState.ENDED, "NODE_FAIL"),
        Job("13", "picas|x", JobState.RUNNING, "COMPLETING"),
    ]
    assert (tmp_path / "seen").read_text().count("--states=all") == 1


def test_by_way_of_another_host(bin_folder: Path, tmp_path: Path) -> None:
    """The command line is one argument for a shell there, whatever it holds."""
    tool(
        bin_folder, "ssh", f'echo "$# $1" >> {tmp_path}/seen; shift; echo Welcome; exec sh -c "$1"'
    )
    tool(bin_folder, "scancel", f'printf "%s\\n" "$@" > {tmp_path}/cancelled')
    tool(bin_folder, "sbatch", "cat >/dev/null; echo '17;cluster'")
    assert list(Slurm("ssh login").submit(BATCH)) == [("17", 1)]
    Slurm("ssh login").cancel(["a b", "17_[0-3]"], pending_only=True)
    assert (tmp_path / "seen").read_text() == "2 login\n" * 2
    told = (tmp_path / "cancelled").read_text().splitlines()
    assert told == ["--quiet", "--state=PENDING", "a b", "17_[0-3]"]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("1:30", 90),
        ("2:00:05", 7205),
        ("1-00:00:00", 86400),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_time_left(bin_folder: Path, said: str, left: float | None) -> None:
    """As squeue writes it; no limit is no time."""
    tool(bin_folder, "squeue", f"echo '{said}'")
    assert time_left({"SLURM_JOB_ID": "5"}) == left


def test_time_left_without_asking(bin_folder: Path) -> None:
    """Outside a job there is none; newer versions tell it by a variable; a failure is no answer."""
    assert time_left({}) is None
    assert time_left({"SLURM_JOB_ID": "5"}) is None
    end = str(int(time.time()) + 100)
    assert 95 < (time_left({"SLURM_JOB_ID": "5", "SLURM_JOB_END_TIME": end}) or 0) <= 101
    tool(bin_folder, "squeue", "exit 1")
    assert time_left({"SLURM_JOB_ID": "5"}) is None
