"""Results of pilots that died while their pool was away: `picas recover`, by real processes."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.acceptance.cli import PICAS, clean_environment, home_of
from tests.acceptance.work import Work, until
from tests.components import skipped_component
from tests.couchdb.server import InstalledCouch, installed

from picas import token
from picas.logs import Excerpt
from picas.pilot.runner import Result
from picas.pilot.slots import Ended
from picas.pilot.spool import Spool
from picas.pool import Settlement, connect
from picas.token import Holder, Outcome, State

TASK = "echo begun >>begun; until test -e go; do sleep 0.02; done; echo out; echo err >&2"


class Outage(Work):
    """A pool that can be made to go away, in the hands of a real pilot."""

    pilot: "subprocess.Popen[str]"

    def away(self) -> None:
        """Let the pool take no results."""
        with closing(sqlite3.connect(self.folder / "picas.db")) as db:
            db.execute(
                "CREATE TRIGGER away BEFORE UPDATE ON documents "
                "BEGIN SELECT RAISE(ABORT, 'the pool is away'); END"
            )
            db.commit()

    def back(self) -> None:
        """Let it take them again."""
        with closing(sqlite3.connect(self.folder / "picas.db")) as db:
            db.execute("DROP TRIGGER away")
            db.commit()

    def run(self, tokens: int, *options: str, beside: Sequence[str] = ()) -> None:
        """Start a pilot that has so many tokens, and let the pool go away while they run.

        Args:
            tokens: How many.
            options: Of ``picas run``.
            beside: Tasks of other tokens, which do not end.
        """
        self.push(*[TASK] * tokens, *beside)
        slots = tokens + len(beside)
        self.pilot = subprocess.Popen(
            [PICAS, "run", "--slots", str(slots), *options],
            cwd=self.folder,
            env=clean_environment(home_of(self.folder), {"PICAS_POOL": self.url}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun = self.folder / "begun"
        until(lambda: begun.exists() and begun.read_text().count("\n") == slots)
        self.away()
        (self.folder / "go").touch()
        until(lambda: len(self.kept()) == tokens)

    def kept(self) -> list[Path]:
        """The entries on disk."""
        return list(self.folder.glob("picas-logs/*/spool/*.json"))

    def killed_pilot(self, tokens: int, *options: str, beside: Sequence[str] = ()) -> None:
        """Have a pilot run tokens, keep their results, and die; the pool comes back."""
        self.run(tokens, *options, beside=beside)
        os.kill(self.pilot.pid, signal.SIGKILL)
        self.pilot.communicate()
        self.back()

    def recover(self, *args: str, check: int = 0, **more: Any) -> Any:
        """Recover what is in the folder of all pilots."""
        return self.picas("recover", *(args or ("picas-logs",)), check=check, **more)


class CouchOutage(Outage):
    """The same with a CouchDB that is stopped."""

    def __init__(self, folder: Path, server: InstalledCouch) -> None:
        super().__init__(folder, server.database_url(server.new_database()))
        self._server = server

    def away(self) -> None:
        """Stop the server."""
        self._server.stop()

    def back(self) -> None:
        """Start it again."""
        self._server.start()


@contextmanager
def stoppable_couchdb() -> Iterator[InstalledCouch]:
    """A CouchDB of our own; skips where there is none."""
    if not installed():
        skipped_component("recovery from CouchDB", "only an installed server can be restarted")
        pytest.skip("recovery from CouchDB: only an installed server can be restarted")
    with InstalledCouch() as server:
        yield server


@pytest.fixture(params=["embedded", pytest.param("couchdb", marks=pytest.mark.couchdb)])
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    """An empty pool, of either kind, that can go away."""
    folder = tmp_path / "work"
    if request.param == "embedded":
        outage = Outage(folder, f"sqlite:///{folder}/picas.db")
        yield from living(outage)
    else:
        with stoppable_couchdb() as server:
            yield from living(CouchOutage(folder, server))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Outage]:
    """An embedded pool that can go away."""
    folder = tmp_path / "work"
    yield from living(Outage(folder, f"sqlite:///{folder}/picas.db"))


def living(work: Outage) -> Iterator[Outage]:
    """See that its pilot ends with the test."""
    yield work
    if hasattr(work, "pilot") and work.pilot.poll() is None:
        work.pilot.kill()
        work.pilot.communicate()


def counts(work: Work) -> dict[State, int]:
    """How many tokens are in each state."""
    with connect(work.url) as pool:
        return pool.counts()


def test_results_of_a_killed_pilot(work: Outage) -> None:
    """They are recorded with their logs, once, and leave nothing behind; no token runs again."""
    work.killed_pilot(3)
    assert counts(work)[State.LOCKED] == 3
    assert work.recover().stdout == "recorded 3 results\n"
    assert counts(work)[State.DONE] == 3
    for number in range(3):
        assert (work.log(f"t{number}"), work.log(f"t{number}", "err")) == (b"out\n", b"err\n")
        assert len(work.get(f"t{number}")["attempts"]) == 1
    assert list((work.folder / "picas-logs").iterdir()) == []
    again = work.recover()
    assert (again.stdout, again.stderr) == ("nothing to recover in picas-logs\n", "")
    assert (work.folder / "begun").read_text() == "begun\n" * 3


def test_token_that_was_reset_meanwhile(work: Outage) -> None:
    """Its result is kept for a person, with its logs, and the token is as it was."""
    work.killed_pilot(2)
    work.picas("reset", "t0", "--yes")
    done = json.loads(work.recover("picas-logs", "--json").stdout)
    (fenced,) = (Path(name) for name in done.pop("fenced"))
    assert done == {"recorded": 1, "refused": [], "left": 0, "busy": []}
    assert counts(work) == {State.TODO: 1, State.LOCKED: 0, State.DONE: 1, State.ERROR: 0}
    assert fenced.parent.name == "fenced"
    kept = json.loads(fenced.read_text())
    assert (kept["token"]["_id"], kept["outcome"]["exit_code"]) == ("t0", 0)
    log = fenced.parent.parent / kept["files"]["logs_t0.out"]["log"]
    assert log.read_bytes() == b"out\n"
    assert "nothing to recover" in work.recover().stdout


def test_pilot_that_is_stopped_in_an_outage(work: Outage) -> None:
    """It says how many results it leaves, where, and the command that records them."""
    work.run(2)
    work.pilot.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two signals at once are one
    work.pilot.send_signal(signal.SIGINT)
    _, err = work.pilot.communicate(timeout=60)
    assert work.pilot.returncode == 130, err
    (folder,) = (work.folder / "picas-logs").iterdir()
    assert f"2 results kept on disk; when the pool is back, 'picas recover {folder}' rec" in err
    assert "could not be given back or recorded" not in err
    work.back()
    assert work.recover(str(folder)).stdout == "recorded 2 results\n"
    assert counts(work)[State.DONE] == 2


def test_living_pilot_is_left_alone(work: Outage) -> None:
    """Its results are its own: it records them when the pool is back."""
    work.run(1)
    left = work.recover()
    assert left.stdout == "recorded 0 results\n"
    assert "is left alone: its pilot lives, or somebody else recovers it" in left.stderr
    work.back()
    _, err = work.pilot.communicate(timeout=60)
    assert work.pilot.returncode == 0, err
    assert counts(work)[State.DONE] == 1
    assert not (work.folder / "picas-logs").exists()


def test_pool_that_is_still_away(work: Outage) -> None:
    """One clear line and status 3; the results stay."""
    work.killed_pilot(2)
    work.away()
    done = work.recover(check=3)
    assert done.stdout == "recorded 0 results\n2 results left on disk\n"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert len(work.kept()) == 2
    work.back()
    assert work.recover().stdout == "recorded 2 results\n"


def test_tasks_that_outlive_their_pilot(local: Outage) -> None:
    """They do not hold up the recovery of other tokens' results."""
    local.killed_pilot(1, beside=["echo begun >>begun; echo $$ >pid; exec sleep 60"])
    try:
        assert local.recover().stdout == "recorded 1 result\n"
        assert counts(local) == {State.TODO: 0, State.LOCKED: 1, State.DONE: 1, State.ERROR: 0}
    finally:
        os.kill(int((local.folder / "pid").read_text()), signal.SIGKILL)


def test_logs_that_are_to_stay(local: Outage) -> None:
    """With --keep-logs they stay on disk, as with a pilot that recorded its results itself."""
    local.killed_pilot(1, "--keep-logs")
    assert local.recover().stdout == "recorded 1 result\n"
    assert [path.name for path in sorted(local.folder.glob("picas-logs/*/*"))] == [
        "logs_t0.err",
        "logs_t0.out",
    ]


def test_folder_that_was_moved(local: Outage) -> None:
    """The spool's own folder may be named, and all of it may be elsewhere by then."""
    local.killed_pilot(1)
    (there,) = (local.folder / "picas-logs").iterdir()
    moved = there.rename(local.folder / "moved")
    assert local.recover(str(moved / "spool"), str(moved)).stdout == "recorded 1 result\n"
    assert local.log() == b"out\n"
    assert list(moved.iterdir()) == []


def test_another_pool_is_configured(local: Outage) -> None:
    """Nothing goes into a pool by mistake: both are named, and --pool decides."""
    local.killed_pilot(2)
    other = Work(local.folder / "other", f"sqlite:///{local.folder}/other/picas.db")
    refused = local.recover(check=2, env={"PICAS_POOL": other.url})
    assert f"there are results of {local.url}, and the pool is {other.url}" in refused.stderr
    wrong = local.recover("picas-logs", "--pool", other.url, check=7)
    assert f"2 results of {local.url} cannot be of {other.url}" in wrong.stderr
    assert len(local.kept()) == 2
    moved = shutil.copyfile(local.folder / "picas.db", local.folder / "moved.db")
    done = local.recover("picas-logs", "--pool", f"sqlite:///{moved}")
    assert done.stdout == "recorded 2 results\n"
    assert counts(Work(local.folder, f"sqlite:///{moved}"))[State.DONE] == 2


class NoCouch(BaseHTTPRequestHandler):
    """Says ``{}`` to everything, and notes with which credentials it was asked."""

    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PUT = do_GET  # noqa: N815 - named so by the library

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def no_couch() -> Iterator[str]:
    """Address of a database on a server that is no CouchDB."""
    NoCouch.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), NoCouch) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/db"
        server.shutdown()
        thread.join()


def test_server_that_only_an_entry_names(local: Outage, no_couch: str) -> None:
    """It is not asked, and gets no password: the user names it, or nobody does."""
    many_kept(local, 2, no_couch)
    login = {"PICAS_USERNAME": "me", "PICAS_PASSWORD": "s3cret"}
    refused = local.recover(check=2, env={"PICAS_POOL": "", **login})
    assert refused.stderr == (
        f"picas: there are results of {no_couch}, and no pool is configured; "
        f"if that is yours, say --pool {no_couch}\n"
    )
    assert (NoCouch.seen, len(local.kept())) == ([], 2)
    named = local.recover(
        "picas-logs", "--pool", no_couch, check=3, env={"PICAS_POOL": "", **login}
    )
    (line,) = named.stderr.splitlines()
    assert "answers, but not as a CouchDB does; check the pool's URL" in line
    assert NoCouch.seen
    assert len(local.kept()) == 2


def test_own_embedded_pool_needs_no_name(local: Outage) -> None:
    """Results of one's own go into the file that they are from."""
    many_kept(local, 2)
    assert local.recover(env={"PICAS_POOL": ""}).stdout == "recorded 2 results\n"


def test_entry_that_leads_out_of_the_logs(local: Outage) -> None:
    """It is named and left alone; what it leads to is neither attached nor deleted."""
    spool = many_kept(local, 2)
    secret = local.folder / "secret"
    secret.write_text("x")
    (spool.parent / "link").symlink_to(local.folder)
    entry, _ = sorted(spool.glob("*.json"))
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"scratch": ["link/secret"]}))
    done = local.recover(check=7)
    assert done.stdout == "recorded 1 result\n1 result left on disk\n"
    said = "is damaged: link/secret is outside its folder; it is left alone"
    assert done.stderr == f"picas: {entry} {said}\n"
    assert secret.exists()


def test_folder_that_a_link_leads_to(local: Outage) -> None:
    """Results elsewhere are not recorded because somebody links to them."""
    spool = many_kept(local, 1)
    links = local.folder / "links"
    links.mkdir()
    (links / "pilot").symlink_to(spool.parent)
    assert local.recover("links").stdout == "nothing to recover in links\n"
    assert local.recover("links/pilot").stdout == "recorded 1 result\n"


def test_pool_that_is_gone(local: Outage) -> None:
    """It is not made anew: one line, status 5, and the results stay."""
    local.killed_pilot(1)
    (local.folder / "picas.db").unlink()
    done = local.recover(check=5)
    assert "there is no pool at" in done.stderr
    assert not (local.folder / "picas.db").exists()
    assert len(local.kept()) == 1


def test_damaged_entry(local: Outage) -> None:
    """It is named and left alone, the others are recorded, and status 7 says that one is left."""
    local.killed_pilot(3)
    damaged = sorted(local.kept())[1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    done = local.recover(check=7)
    assert done.stdout == "recorded 2 results\n1 result left on disk\n"
    assert done.stderr == f"picas: {damaged} is damaged: it is no JSON; it is left alone\n"
    assert damaged.exists()


def many_kept(work: Work, number: int, address: str | None = None) -> Path:
    """Keep results of many tokens, as a pilot of that pool does; returns their spool."""
    work.push(*["true"] * number)
    logs = work.folder / "picas-logs" / "pilot_a"
    spool = Spool(logs / "spool", address or work.url)
    logs.mkdir(parents=True)
    with connect(work.url) as pool:
        for doc in pool.claim("Monitor/todo", number, Holder("pilot_a", "host")):
            name = token.log_name(doc["_id"], "out")
            (logs / name).write_text(doc["_id"])
            files = {name: Excerpt(logs / name, 100)}
            outcome = Outcome(0, 1.0, 2.0, "exit code 0", 1.0)
            ended = Ended(doc, Result(outcome, files, scratch=[logs / name]))
            spool.keep(ended, Settlement(doc, outcome, files=files))
    spool.close()
    return spool.folder


def recovering(work: Work) -> "subprocess.Popen[str]":
    """Start `picas recover`."""
    return subprocess.Popen(
        [PICAS, "recover", "picas-logs"],
        cwd=work.folder,
        env=clean_environment(home_of(work.folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_recorded_once(work: Work, number: int) -> None:
    """All are done, by one attempt, with their logs, and there is nothing on disk."""
    assert counts(work)[State.DONE] == number
    for i in range(number):
        assert len(work.get(f"t{i}")["attempts"]) == 1
        assert work.log(f"t{i}").decode() == f"t{i}"
    assert list((work.folder / "picas-logs").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_recovery_that_is_broken_off(local: Outage, number: int) -> None:
    """The next one finishes what was begun, and nothing is recorded twice."""
    spool = many_kept(local, 250)
    broken_off = 0
    for _ in range(3):
        before = len(list(spool.glob("*.json")))
        with recovering(local) as process:
            while process.poll() is None and len(list(spool.glob("*.json"))) == before:
                time.sleep(0.001)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        broken_off += process.returncode in (-number, 130)
        assert "Traceback" not in err
    assert broken_off
    local.recover()
    assert_recorded_once(local, 250)


def test_several_recoveries_at_once(local: Outage) -> None:
    """They do not get in each other's way: each result is recorded once."""
    many_kept(local, 60)
    for process in [recovering(local) for _ in range(3)]:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in err
    assert_recorded_once(local, 60)


def test_folder_without_results(local: Outage) -> None:
    """A folder that holds none is one clear line and status 0; one that is not there is a slip."""
    (local.folder / "empty").mkdir()
    assert local.recover("empty").stdout == "nothing to recover in empty\n"
    assert "does not exist" in local.recover("picas-log", check=2).stderr
    assert "Missing argument" in local.picas("recover", check=2).stderr
