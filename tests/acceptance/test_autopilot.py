"""``picas autopilot``: real processes as pilots, killed, doubled, and on real CouchDB and Slurm."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.accounts import bare, login
from tests.acceptance.cli import PICAS, clean_environment, home_of
from tests.acceptance.work import Work, until
from tests.slurm.cluster import Slurm

from picas import token
from picas.autopilot.ledger import Ledger
from picas.conditions import parse
from picas.pool import connect
from picas.token import State
from picas.views import Design

HERE = """
[clusters.here]
scheduler = "local"
ask_every = "0s"
[pilots.single]
view = "Monitor"
max = 3
max_pending = 2
idle = "1s"
work_per_pilot = "1s"
"""


class Site:
    """A pool, a file for the autopilot, and the environment in which it runs.

    Args:
        work: The pool and the folder.
        file: The text of the file.
        more: Variables.
    """

    def __init__(self, work: Work, file: str, more: dict[str, str] | None = None) -> None:
        self.work = work
        (work.folder / "pilots.toml").write_text(file)
        self.log = work.folder / "autopilot.log"
        url = work.url
        who = {"PICAS_POOL": bare(url), **login(url)} if "@" in url else {"PICAS_POOL": url}
        self.env = clean_environment(home_of(work.folder), {**who, **(more or {})})

    @contextlib.contextmanager
    def flying(self, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        """An autopilot; killed at the end if it is still there."""
        command = [PICAS, "autopilot", "--config", "pilots.toml", "--every", "0.3s", *more]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.work.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def once(self, *more: str, check: int = 0) -> str:
        """One round; returns what it said."""
        done = subprocess.run(
            [PICAS, "autopilot", "--once", *more],
            cwd=self.work.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == check, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def states(self) -> list[str]:
        """The states of all pilots there ever were."""
        with connect(self.work.url) as pool:
            return [str(doc["state"]) for doc in pool.pilots()]

    def done(self) -> int:
        """Tokens that are done."""
        with connect(self.work.url) as pool:
            return pool.counts()[State.DONE]

    def at_rest(self) -> bool:
        """Tell whether no pilot is at work."""
        return set(self.states()) == {"ended"}

    def submitted(self) -> int:
        """Pilots that were submitted, by the ledger."""
        with connect(self.work.url) as pool:
            return Ledger.read(pool, "single").submitted_since(0)


@pytest.fixture
def site(work: Work) -> Site:
    """Pilots on this machine, on either store."""
    return Site(work, HERE)


@pytest.fixture
def embedded(local: Work) -> Site:
    """The same on an embedded pool."""
    return Site(local, HERE)


def test_from_nothing_to_the_limit_and_back(site: Site) -> None:
    """All tokens are run by no more pilots than there may be, and at the end there is none."""
    site.work.push(*["sleep 0.2"] * 30)
    most = 0
    with site.flying() as autopilot:
        while not (site.done() == 30 and site.at_rest()):
            most = max(most, site.states().count("running"))
            assert autopilot.poll() is None, site.log.read_text()
        autopilot.terminate()
        assert autopilot.wait(timeout=20) == 0
    assert most == 3, site.log.read_text()
    said = site.log.read_text()
    assert "single: 30 tokens wait, 0 pilots run: 2 more (max_pending)" in said
    with connect(site.work.url) as pool:
        assert Ledger.read(pool, "single").held_by() is None
        assert {doc["submission"].rpartition("-")[0] for doc in pool.pilots()} == {"single"}


def test_killed_and_started_again(site: Site) -> None:
    """It goes on with what there is: no pilot is submitted twice, and none is forgotten."""
    site.work.push(*["sleep 600"] * 9)
    with site.flying() as autopilot:
        until(lambda: len(site.states()) >= 1)  # the ledger may not know of it yet
        autopilot.send_signal(signal.SIGKILL)
    with site.flying() as autopilot:
        until(lambda: site.states() == ["running"] * 3, 60)
        autopilot.send_signal(signal.SIGKILL)
    with site.flying():
        until(lambda: "3 pilots run: none more (max)" in site.log.read_text())
        site.work.picas("cancel", "--all", "--yes", env={"PICAS_HEARTBEAT": "1s"})
    assert len(site.states()) == 3
    end_all(site)


def end_all(site: Site) -> None:
    """End the pilots of this machine, by their process ids."""
    with connect(site.work.url) as pool:
        for doc in pool.pilots():
            if doc["state"] == "running":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(doc["pid"], signal.SIGTERM)
    until(site.at_rest, 60)


def test_two_at_once(site: Site) -> None:
    """One acts, the other says which; together they start no more than one alone."""
    site.work.push(*["sleep 600"] * 9)
    with site.flying() as first:
        until(lambda: site.submitted() >= 1)
        said = site.once("--config", "pilots.toml")
        assert f"(process {first.pid}) looks after these pilots; nothing is done here" in said
        until(lambda: site.states() == ["running"] * 3, 60)
        said = site.once("--config", "pilots.toml", "--dry-run")
        assert f"(process {first.pid})" in said
        first.terminate()
        first.wait(timeout=20)
    assert "3 pilots run: none more (max)" in site.once("--config", "pilots.toml")
    end_all(site)


def test_only_looking(embedded: Site) -> None:
    """What would be done, as JSON too; and nothing is done."""
    embedded.work.push(*["true"] * 9)
    said = embedded.once("--config", "pilots.toml", "--dry-run", "--log-json")
    (line,) = map(json.loads, said.splitlines())
    assert line["message"] == "single: 9 tokens wait, 0 pilots run: 2 more (max_pending)"
    assert (line["kind"], line["submit"], line["waiting"]) == ("single", 2, 9)
    assert embedded.states() == []
    assert embedded.submitted() == 0


def test_one_kind_without_a_file(embedded: Site) -> None:
    """As the classic script: a view, and what a pilot for it needs; called again, it counts."""
    with connect(embedded.work.url) as pool:
        pool.add_design(Design("MultiCore", parse('cores == "4"')))
    embedded.work.push(*["true"] * 3, cores="4")
    options = ["--view", "MultiCore/todo", "--cores", "4", "--scheduler", "local", "--max", "1"]
    assert "MultiCore-4: 3 tokens wait, 0 pilots run: 1 more (max)" in embedded.once(*options)
    until(lambda: embedded.done() == 3 and embedded.states()[0] in ("running", "ended"))
    with connect(embedded.work.url) as pool:
        (doc,) = pool.pilots()
        assert (doc["view"], doc["cores"]) == ("MultiCore/todo", 4)
    assert "0 tokens wait" in embedded.once(*options)
    assert len(embedded.states()) == 1
    end_all(embedded)


def test_slips(embedded: Site) -> None:
    """One line each: no file and no view, an option that picas run does not know, a bad cluster."""
    assert "Give --config FILE, or --view VIEW" in embedded.once(check=2)
    (embedded.work.folder / "bad.toml").write_text(HERE + 'run = ["--max-scrubs"]')
    said = embedded.once("--config", "bad.toml", check=2)
    assert said.startswith("picas: bad.toml, [pilots.single], run: ")
    (embedded.work.folder / "bad.toml").write_text(HERE.replace('"local"', '"slurm"'))
    said = embedded.once("--config", "bad.toml", check=2)
    assert "[clusters.here]: the pool" in said
    assert "is a file on this machine" in said


# --- in a real Slurm, with a real CouchDB --------------------------------------------------------

BURST = """
[clusters.site]
scheduler = "slurm"
ask_every = "1s"
{cluster}
[pilots.single]
view = "SingleCore"
max = 8
max_pending = 4
idle = "1s"
work_per_pilot = "1s"
[pilots.multi]
view = "MultiCore"
cores = 4
max = 3
max_pending = 2
idle = "1s"
work_per_pilot = "1s"
"""


def cluster(work: Work, slurm: Slurm, folder: Path | None = None, lines: str = "") -> Site:
    """Pilots in Slurm, whose commands may have stand-ins in a folder that comes first on PATH."""
    site = Site(work, BURST.format(cluster=lines), slurm.environment)
    if folder is not None:
        site.env["PATH"] = f"{folder}:{site.env['PATH']}"
    with connect(work.url) as pool:
        pool.add_design(Design("SingleCore", parse("cores == 1")))
        pool.add_design(Design("MultiCore", parse("cores == 4")))
    return site


@pytest.fixture
def couch(tmp_path: Path, database: str) -> Work:
    """An empty pool on CouchDB, and a folder."""
    return Work(tmp_path / "work", database)


def burst(work: Work, number: int, line: str) -> None:
    """Push tokens of two shapes, one in five of four cores."""
    docs = [
        token.new({"input": line, "cores": 4 if n % 5 == 0 else 1}, f"t{n}") for n in range(number)
    ]
    with connect(work.url) as pool:
        assert all(pushed.error is None for pushed in pool.push(docs))


def queue(slurm: Slurm) -> dict[str, list[int]]:
    """How many jobs of each kind wait and run, by Slurm itself."""
    found = {"single": [0, 0], "multi": [0, 0]}
    for line in slurm.run("squeue", "--noheader", "--array", "--format=%T %j").splitlines():
        state, _, name = line.partition(" ")
        if name.startswith("picas-"):
            found[name.split("-")[1]][state != "PENDING"] += 1
    return found


@pytest.mark.couchdb
def test_a_burst_in_two_shapes(couch: Work, slurm: Slurm) -> None:
    """500 tokens: up from no pilot, never more than allowed, and down to none."""
    site = cluster(couch, slurm)
    burst(couch, 500, "sleep 0.05; echo $PICAS_TOKEN_ID >>ledger")
    table: list[list[float]] = []
    began = time.monotonic()
    with site.flying() as autopilot:
        while not (site.done() == 500 and site.at_rest()):
            assert autopilot.poll() is None, site.log.read_text()
            assert time.monotonic() < began + 200, site.log.read_text()
            jobs = queue(slurm)
            row = [time.monotonic() - began, *jobs["single"], *jobs["multi"], site.done()]
            if not table or row[1:] != table[-1][1:]:
                table.append(row)
    sys.stdout.write("    time  single: wait  run  multi: wait  run  done\n")
    for at, *row in table:
        sys.stdout.write("{:7.1f}s {:13} {:4} {:12} {:4} {:5}\n".format(at, *row))
    for _, single_waits, single_runs, multi_waits, multi_runs, _ in table:
        assert single_waits <= 4
        assert multi_waits <= 2
        assert single_waits + single_runs <= 8
        assert multi_waits + multi_runs <= 3
    assert max(row[2] for row in table) > 2
    assert max(row[4] for row in table) > 1
    slurm.wait()
    assert len((couch.folder / "ledger").read_text().split()) == 500
    with connect(couch.url) as pool:
        shapes = {(doc["view"], doc["cores"]) for doc in pool.pilots()}
    assert shapes == {("SingleCore/todo", 1), ("MultiCore/todo", 4)}


def stand_in(folder: Path, name: str, code: str) -> None:
    """A command that comes before the real one on PATH, which it may call as ``real``."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\nreal=/usr/bin/{name}\n{code}\n")
    (folder / name).chmod(0o755)


@pytest.mark.couchdb
@pytest.mark.parametrize("trouble", ["exit 1", "exec sleep 600"])
def test_a_squeue_that_fails_or_hangs(
    couch: Work, slurm: Slurm, tmp_path: Path, trouble: str
) -> None:
    """No more than may wait is ever submitted, though no pilot starts for long."""
    stand_in(tmp_path / "bin", "squeue", trouble)
    site = cluster(couch, slurm, tmp_path / "bin", 'setup = "sleep 600"')
    burst(couch, 50, "true")
    with site.flying("--every", "0.1s"):
        word = "squeue did not answer for 15 s" if "sleep" in trouble else "squeue: exit code 1"
        until(lambda: site.log.read_text().count(word) >= (1 if "sleep" in trouble else 3), 90)
    jobs = queue(slurm)
    slurm.run("scancel", "--user", str(os.getuid()))
    assert (sum(jobs["single"]), sum(jobs["multi"])) == (4, 2)
    assert "nothing is taken to be gone" in site.log.read_text()
    slurm.wait()


@pytest.mark.couchdb
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_it_submits(couch: Work, slurm: Slurm, tmp_path: Path, moment: str) -> None:
    """Between intention and submission, and before it has the answer: nothing is doubled."""
    held = {
        "before": "touch here; sleep 3; exec $real $*",
        "after": "$real $*; touch here; sleep 99",
    }
    stand_in(tmp_path / "bin", "sbatch", held[moment])
    site = cluster(couch, slurm, tmp_path / "bin", 'setup = "sleep 600"')
    burst(couch, 4, "true")  # one of them has four cores
    with site.flying() as autopilot:
        until((couch.folder / "here").exists, 60)
        autopilot.kill()
        autopilot.wait()
    stand_in(tmp_path / "bin", "sbatch", "exec $real $*")
    with site.flying():
        until(lambda: sum(map(sum, queue(slurm).values())) >= 4, 60)
        until(lambda: site.log.read_text().count(": enough") >= 2, 60)
    jobs = queue(slurm)
    slurm.run("scancel", "--user", str(os.getuid()))
    assert (sum(jobs["single"]), sum(jobs["multi"])) == (3, 1)
    slurm.wait()


@pytest.mark.couchdb
def test_a_node_that_dies(couch: Work, slurm: Slurm, tmp_path: Path) -> None:
    """Its token is back as soon as Slurm says so, long before the lease is over."""
    site = cluster(couch, slurm)
    site.env |= {"PICAS_LEASE": "5m", "PICAS_HEARTBEAT": "1s"}
    with connect(couch.url) as pool:
        docs = [token.new({"input": "exec sleep 600", "cores": 1}, "t0")]
        assert all(pushed.error is None for pushed in pool.push(docs))
        with site.flying():
            until(lambda: token.state(pool.get("t0")) is State.LOCKED, 60)
            job = pool.get("t0")["slurm_job_id"]
            (told,) = slurm.job(job)
            node = told["NodeList"]
            slurm.kill_node(node)
            slurm.mark_down(node)
            until(lambda: token.attempts(pool.get("t0")), 60)
            until(lambda: "the jobs of these pilots have ended" in site.log.read_text())
        slurm.run("scancel", "--user", str(os.getuid()))
        slurm.revive_node(node)
        slurm.wait()
        (attempt, *_) = token.attempts(pool.get("t0"))
        assert attempt["reason"] == token.LOST
        assert attempt["wall"] < 100
        assert pool.get("t0")["scrub_count"] == 0


@pytest.mark.couchdb
def test_by_way_of_ssh(couch: Work, slurm: Slurm, tmp_path: Path) -> None:
    """The scheduler's commands are run by another host's shell, and picas as it is called there."""
    stand_in(tmp_path / "bin", "ssh", 'echo "$1" >>hosts; shift; exec sh -c "$1"')
    site = cluster(
        couch,
        slurm,
        tmp_path / "bin",
        f'via = "ssh login"\npicas = "{PICAS}"\nsetup = "export A=b"',
    )
    burst(couch, 2, "test $A = b")
    site.once("--config", "pilots.toml")
    until(lambda: site.done() == 2, 60)
    slurm.wait()
    assert set((couch.folder / "hosts").read_text().split()) == {"login"}
