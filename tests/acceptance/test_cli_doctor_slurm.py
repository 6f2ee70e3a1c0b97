"""``picas doctor --slurm``: what is wrong with a Slurm set-up, and a job that looks from a node."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas
from tests.acceptance.cli import PICAS, clean_environment, home_of
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas.cli import slurm_checks
from picas.cli.checks import Subject
from picas.cli.slurm_checks import COMMANDS, SlurmChecks
from picas.pool import connect
from picas.schedulers import slurm as slurm_module
from picas.views import MONITOR

Found = dict[str, tuple[str, str, str]]


@pytest.fixture
def ready(site: dict[str, str], database: str, picas: Picas) -> dict[str, str]:
    """A user's environment whose pool has its views."""
    with connect(database) as pool:
        pool.add_design(MONITOR)
    picas.secrets.append(site["PICAS_PASSWORD"])
    return site


def report(picas: Picas, *options: str, env: dict[str, str], status: int) -> Found:
    """What was found: status, text and advice of each check's last line."""
    done = picas("doctor", "--json", *options, env=env, status=status)
    checks = json.loads(done.stdout)["checks"]
    return {check["check"]: (check["status"], check["text"], check["advice"]) for check in checks}


def tools(picas: Picas, **scripts: str) -> str:
    """A PATH with commands of these names, and the usual ones without Slurm's."""
    folder = picas.folder.with_name("tools")
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    for name in ("bash", "sh", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


HALF = {"squeue": "", "sinfo": ""}
FINE = {**dict.fromkeys(COMMANDS, ""), "sinfo": "echo 'main*|up|idle|3'"}


def test_a_host_with_half_of_slurm(picas: Picas) -> None:
    """Without being asked: a warning that says where it came from. When asked: a problem."""
    picas("init", "runs.db")
    env = {"PATH": tools(picas, **HALF)}
    done = picas("doctor", env=env)
    assert "warning  scheduler      no sbatch here, though there is squeue, sinfo" in done.stdout
    found = report(picas, "--slurm", env=env, status=1)
    assert found["slurm"][0] == "problem"
    assert "load Slurm's module" in found["slurm"][2]
    assert "controller" not in found


def test_only_slurm_conf_is_a_sign_too(picas: Picas) -> None:
    """As in a shell where only half of a module was loaded."""
    picas("init", "runs.db")
    done = picas("doctor", env={"PATH": tools(picas), "SLURM_CONF": "/etc/slurm/slurm.conf"})
    assert "no sbatch here, though there is SLURM_CONF" in done.stdout


@pytest.mark.parametrize("name", ["squeue", "scontrol", "scancel"])
def test_a_command_that_is_missed_later(picas: Picas, name: str) -> None:
    """It is named, with what will not work."""
    picas("init", "runs.db")
    there = {command: script for command, script in FINE.items() if command != name}
    found = report(picas, "--slurm", env={"PATH": tools(picas, **there)}, status=1)
    assert found["slurm"][:2] == ("warning", f"no {name} here: {COMMANDS[name]}")
    assert found["partition"][:2] == (
        *("ok", "partition main (the default): 3 of 3 nodes may take jobs"),
    )


def test_slurm_that_is_not_configured(picas: Picas) -> None:
    """Its own last words, and what to do."""
    picas("init", "runs.db")
    sinfo = "echo 'sinfo: fatal: Could not establish a configuration source' >&2; exit 1"
    env = {"PATH": tools(picas, **{**FINE, "sinfo": sinfo})}
    status, text, advice = report(picas, "--slurm", env=env, status=1)["controller"]
    assert status == "problem"
    assert text.endswith("Could not establish a configuration source")
    assert "SLURM_CONF" in advice


def test_a_controller_that_hangs(picas: Picas, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever."""
    monkeypatch.setattr(slurm_module, "ANSWER_SECONDS", 0.2)
    monkeypatch.setenv("PATH", tools(picas, **{**FINE, "sinfo": "exec sleep 300"}))
    (finding,) = SlurmChecks().controller(Subject(None))
    assert (finding.status, finding.text) == ("problem", "sinfo did not answer for 0.2 s")


@pytest.mark.parametrize(
    ("options", "lines", "status", "text"),
    [
        ((), "", "problem", "Slurm shows you no partition"),
        ((), "gpu|up|idle|2", "problem", "Slurm has no default partition"),
        (("--partition", "gpu"), "main*|up|idle|2", "problem", "Slurm has no partition gpu"),
        ((), "main*|down|idle|2", "problem", "partition main (the default) is not up"),
        ((), "main*|up|down*|2\nmain*|up|drained|1", "problem", "0 of 3 nodes may take jobs"),
        ((), "main*|up|idle|2\nmain*|up|drained|1", "ok", "2 of 3 nodes may take jobs"),
        (("--partition", "gpu"), "main*|down|x|1\ngpu|up|mixed|2", "ok", "gpu: 2 of 2 nodes"),
    ],
)
def test_partitions(
    picas: Picas, options: tuple[str, ...], lines: str, status: str, text: str
) -> None:
    """None, none that is meant, one that is down, one whose nodes are."""
    picas("init", "runs.db")
    sinfo = f"cat <<END\n{lines}\nEND" if lines else ""
    env = {"PATH": f"{tools(picas, **{**FINE, 'sinfo': sinfo})}:/usr/bin:/bin"}
    found = report(picas, "--slurm", *options, env=env, status=1)["partition"]
    assert found[0] == status
    assert text in found[1]


def test_pools_that_nodes_do_not_reach(picas: Picas) -> None:
    """A file on this machine, and an address that each node takes for its own."""
    path = {"PATH": tools(picas, **FINE)}
    picas("init", "runs.db")
    found = report(picas, "--slurm", env=path, status=1)["pool for jobs"]
    assert found[0] == "problem"
    assert "is a file on this machine" in found[1]
    assert found[2].startswith("'picas init https://HOST/DATABASE'")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        env = {**path, "PICAS_POOL": f"http://{host}:1/runs"}
        found = report(picas, "--slurm", env=env, status=1)["pool for jobs"]
        assert (found[0], "is that node itself" in found[1]) == ("problem", True)
    env = {**path, "PICAS_POOL": "https://couch.invalid/runs"}
    assert report(picas, "--slurm", env=env, status=1)["pool for jobs"][0] == "ok"


def test_a_job_on_a_node(picas: Picas, ready: dict[str, str]) -> None:
    """It finds picas there, and reaches the pool with user and password; nothing is left of it."""
    found = report(picas, "--slurm", "--job", env=ready, status=0)
    assert found["controller"][0] == "ok"
    assert found["partition"][1].endswith("main (the default): 3 of 3 nodes may take jobs")
    assert found["pool for jobs"][0] == "warning", "here the server is on this host"
    status, text, _ = found["job"]
    assert status == "ok"
    assert text.startswith("n")
    assert "reaches the pool; picas " in text
    assert list(picas.folder.iterdir()) == []


def test_a_job_without_the_password(picas: Picas, ready: dict[str, str]) -> None:
    """What is wrong there is told with the node, and what to do about it."""
    (picas.folder / "setup.sh").write_text("unset PICAS_PASSWORD\n")
    options = ("--job", "--script", "setup.sh")
    status, text, _ = report(picas, *options, env=ready, status=1)["job"]
    assert status == "problem"
    assert "credentials: the server refuses user 'admin'" in text


def test_a_node_on_which_picas_does_not_start(picas: Picas, ready: dict[str, str]) -> None:
    """The job's last words are shown."""
    (picas.folder / "setup.sh").write_text("exec /no/such/python\n")
    options = ("--job", "--script", "setup.sh")
    status, text, advice = report(picas, *options, env=ready, status=1)["job"]
    assert status == "problem"
    assert "picas does not start on n" in text
    assert "/no/such/python" in text
    assert "--script" in advice


def test_a_folder_that_nodes_do_not_share(
    ready: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends, and what it wrote is not here."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(slurm_checks, "FILE_SECONDS", 0.1)
    for name, value in ready.items():
        monkeypatch.setenv(name, value)
    checks = SlurmChecks(job=True, options=(f"--chdir={tmp_path}/there",))
    (finding,) = checks.node(Subject(None))
    assert finding.status == "problem"
    assert f"{tmp_path}/here/picas-doctor-" in finding.text
    assert "file system that the nodes share" in finding.advice


def test_a_job_that_slurm_refuses(picas: Picas, ready: dict[str, str]) -> None:
    """Its words are shown."""
    options = ("--job", "--sbatch=--reservation=none")
    status, text, _ = report(picas, *options, env=ready, status=1)["job"]
    assert status == "problem"
    assert "reservation" in text


def test_a_job_that_does_not_start(picas: Picas, ready: dict[str, str], slurm: Slurm) -> None:
    """It is taken out of the queue again."""
    options = ("--job", "--wait", "1s", "--sbatch=--begin=now+1hour")
    status, text, advice = report(picas, *options, env=ready, status=1)["job"]
    assert status == "problem"
    assert "did not start in 1 s, and was cancelled" in text
    assert "--wait" in advice
    slurm.wait()


def test_ctrl_c_takes_the_job_out_of_the_queue(
    picas: Picas, ready: dict[str, str], slurm: Slurm
) -> None:
    """Whoever does not want to wait any more leaves nothing behind."""
    with subprocess.Popen(
        [PICAS, "doctor", "--job", "--sbatch=--begin=now+1hour"],
        cwd=picas.folder,
        env=clean_environment(home_of(picas.folder), ready),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(slurm.queue)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT
    slurm.wait()
    assert list(picas.folder.iterdir()) == []
