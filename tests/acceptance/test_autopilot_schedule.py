"""``picas autopilot schedule``: how a host or a cluster runs the autopilot again and again."""

from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas, bare, login
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas.pool import connect
from picas.views import MONITOR

FILE = "[clusters.site]\n[pilots.single]\nview = 'Monitor'\n"


@pytest.fixture
def picas(tmp_path: Path) -> Picas:
    """The command, in a folder with a file for the autopilot."""
    folder = tmp_path / "50% work"
    folder.mkdir()
    (folder / "pilots.toml").write_text(FILE)
    return Picas(folder)


def test_cron_and_scrontab(picas: Picas, tmp_path: Path) -> None:
    """A line that cron understands; with Slurm's options where there is scrontab."""
    *_, line = picas("autopilot", "schedule", "--every", "15m").stdout.splitlines()
    path = str(picas.folder / "pilots.toml").replace("%", r"\%")
    assert line.startswith("*/15 * * * * /")
    assert f"picas autopilot --config '{path}' --pool 'sqlite:////" in line
    assert line.endswith("picas.db' --once")
    assert (
        picas("autopilot", "schedule", "--every", "2h").stdout.splitlines()[-1][:11]
        == "0 */2 * * *"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scrontab").write_text("#!/bin/sh\n")
    (tmp_path / "bin/scrontab").chmod(0o755)
    said = picas("autopilot", "schedule", env={"PATH": f"{tmp_path}/bin:/bin"}).stdout
    assert "#SCRON --time=00:10:00\n*/10 * * * * /" in said
    said = picas("autopilot", "schedule", "--every", "7m", status=2).stderr
    assert said.startswith("picas: --every: cron can do minutes that divide an hour")


def test_systemd(picas: Picas) -> None:
    """A unit whose end does not end the pilots of this machine."""
    said = picas("autopilot", "schedule", "--systemd", "--every", "1m").stdout
    (line,) = [line for line in said.splitlines() if line.startswith("ExecStart=")]
    assert "/50%% work/pilots.toml' --pool 'sqlite:////" in line
    assert line.endswith(" --every 60s")
    assert "KillMode=process" in said


@pytest.mark.parametrize("how", ["--pool", "PICAS_POOL"])
def test_the_pool_is_named_without_its_login(picas: Picas, how: str) -> None:
    """The line is for another environment: it names the pool of this one, and tells no password."""
    url = "http://anna:geheim@127.0.0.1:9/db"
    given = ("--pool", url) if how == "--pool" else ()
    said = picas("autopilot", "schedule", *given, env={"PICAS_POOL": url} if not given else {})
    assert "--pool http://127.0.0.1:9/db --once" in said.stdout
    assert "geheim" not in said.stdout + said.stderr


@pytest.mark.couchdb
def test_a_job_that_submits_itself_again(picas: Picas, slurm: Slurm, database: str) -> None:
    """It runs a round, and again; a second chain is not begun."""
    with connect(database, create=True) as pool:
        pool.add_design(MONITOR)
    env = {**slurm.environment, **login(database), "PICAS_POOL": bare(database)}
    said = picas("autopilot", "schedule", "--submit", "--every", "1s", env=env).stdout
    name = said.rpartition("--name=")[2].partition("'")[0]
    try:
        refused = picas("autopilot", "schedule", "--submit", env=env, status=2).stderr
        assert "it is there, as the job" in refused

        def rounds() -> int:
            logs = picas.folder.glob("slurm-*.out")
            return sum("single: 0 tokens wait" in log.read_text() for log in logs)

        until(lambda: rounds() >= 2, 90)
    finally:
        while slurm.run("squeue", "--noheader", f"--name={name}"):
            slurm.run("scancel", f"--name={name}")
