"""``picas doctor``: each line, and no traceback whatever is broken."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.acceptance.accounts import Picas, account, bare, login
from tests.couchdb.raw import Raw
from tests.couchdb.server import CouchServer

from picas.cli.checks import Subject, logs


def report(
    picas: Picas, env: dict[str, str] | None = None, *, status: int = 0
) -> dict[str, tuple[str, str]]:
    """What doctor found, as status and text of each check's last line; both faces agree."""
    facts = json.loads(picas("doctor", "--json", env=env, status=status).stdout)
    shown = picas("doctor", env=env, status=status).stdout
    assert facts["ok"] == (status == 0)
    for check in facts["checks"]:
        assert f"{check['status']:8} {check['check']}" in shown
    for name in facts["not_checked"]:
        assert name in shown.rpartition("not checked because of that: ")[2]
    return {check["check"]: (check["status"], check["text"]) for check in facts["checks"]}


def test_all_is_well_with_an_embedded_pool(picas: Picas) -> None:
    """Every line, and exit status 0."""
    picas("init", "runs.db")
    found = report(picas)
    assert {status for status, _ in found.values()} == {"ok"}
    assert list(found) == [
        *("configuration", "embedded pool", "disk", "rights", "views"),
        *("software", "scheduler", "bash", "cores", "logs"),
    ]
    assert found["disk"][1].endswith(")")
    assert "local file system" in found["disk"][1]
    slurm = shutil.which("sbatch") is not None
    here = "Slurm (sbatch)" if slurm else "none here: pilots run on this machine"
    assert found["scheduler"][1] == here
    assert "picas-logs can be written" in found["logs"][1]
    assert picas("doctor").stdout.splitlines()[-1] == "all is well"


def test_all_is_well_with_a_couchdb(picas: Picas, couchdb: CouchServer, database: str) -> None:
    """Server, credentials, database, clock, rights, views and index."""
    picas.secrets.append(login(database)["PICAS_PASSWORD"])
    picas("init", bare(database), env=login(database))
    found = report(picas)
    assert {status for status, _ in found.values()} == {"ok"}
    assert found["server"][1].startswith(f"{bare(couchdb.url)} answers in ")
    assert found["credentials"][1].endswith("an administrator of the server")
    assert found["version"] == ("ok", f"CouchDB {couchdb.version}")
    assert found["database"][1].endswith(": 1 document, one copy of each")
    assert found["rights"] == ("ok", "may read and write, and add views")
    assert found["views"] == ("ok", "Monitor is there, of this version")


def test_the_probe_leaves_nothing_behind(picas: Picas, database: str) -> None:
    """Only the standard views are in the database afterwards."""
    picas("init", bare(database), env=login(database))
    picas("doctor")
    with Raw(database) as raw:
        ids = [row["id"] for row in raw.get("/_all_docs").json["rows"]]
    assert ids == ["_design/Monitor"]


def test_a_missing_pool_is_a_problem_and_the_rest_is_checked(picas: Picas) -> None:
    """What depends on the pool is left out by name."""
    done = picas("doctor", status=1)
    assert "there is no pool at" in done.stdout
    assert "'picas init' makes one" in done.stdout
    summary = "1 problem; not checked because of that: disk, rights, views"
    assert done.stdout.splitlines()[-1] == summary
    assert not (picas.folder / "picas.db").exists()


def test_a_file_that_is_no_pool_is_a_problem(picas: Picas) -> None:
    """Whatever else it is."""
    (picas.folder / "picas.db").write_text("something else entirely\n" * 100)
    assert report(picas, status=1)["embedded pool"][0] == "problem"


def test_a_server_that_is_down_is_one_problem(picas: Picas) -> None:
    """The checks behind it are left out."""
    picas.secrets.append("pw-nowhere")
    found = report(picas, {"PICAS_POOL": "http://me:pw-nowhere@127.0.0.1:1/runs"}, status=1)
    assert found["server"][0] == "problem"
    assert "no answer from http://127.0.0.1:1" in found["server"][1]
    assert "credentials" not in found
    assert found["bash"][0] == "ok"


def test_a_name_that_does_not_exist_is_one_problem(picas: Picas) -> None:
    """As a typing mistake in the pool's URL makes."""
    found = report(picas, {"PICAS_POOL": "https://couch.invalid/runs"}, status=1)
    assert found["server"][0] == "problem"


def test_tls_to_a_server_without_it_is_one_problem(picas: Picas) -> None:
    """The scheme in the pool's URL is wrong."""
    with _serving(_Old) as url:
        done = picas("doctor", env={"PICAS_POOL": url.replace("http:", "https:")}, status=1)
    assert "problem  server" in done.stdout
    assert "no safe connection to https://127.0.0.1" in done.stdout


def test_a_ca_file_that_is_none_is_one_problem(picas: Picas) -> None:
    """It is named."""
    picas.config.parent.mkdir(parents=True)
    picas.config.write_text('pool = "https://127.0.0.1:1/runs"\nca_file = "config.toml"\n')
    status, text = report(picas, status=1)["server"]
    assert status == "problem"
    assert "config.toml" in text


def test_a_wrong_password_is_told_with_its_source(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """One attempt, and nothing else is asked of the server."""
    with account(couchdb) as user:
        picas.secrets += ["wrong-guess", user.password]
        env = {"PICAS_POOL": bare(database)}
        env |= {"PICAS_USERNAME": user.name, "PICAS_PASSWORD": "wrong-guess"}
        found = report(picas, env, status=1)
    assert found["credentials"] == (
        "problem",
        f"the server refuses user {user.name!r} with the password from environment",
    )
    assert "database" not in found


def test_a_user_who_is_no_member_of_the_database_is_told(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """The advice is to ask the administrator."""
    with account(couchdb) as user:
        picas.secrets.append(user.password)
        env = {"PICAS_POOL": bare(database)}
        env |= {"PICAS_USERNAME": user.name, "PICAS_PASSWORD": user.password}
        found = report(picas, env, status=1)
    assert found["credentials"] == ("ok", f"signed in as {user.name}")
    assert f"{user.name} may not use the database" in found["database"][1]


def test_a_missing_database_is_told_with_the_command_that_makes_it(
    picas: Picas, couchdb: CouchServer
) -> None:
    """The text has the whole command."""
    picas.secrets.append(login(couchdb.url)["PICAS_PASSWORD"])
    url = f"{bare(couchdb.url)}/no-such-database"
    done = picas("doctor", env={"PICAS_POOL": url, **login(couchdb.url)}, status=1)
    assert "there is no database 'no-such-database'" in done.stdout
    assert f"'picas init {url}' makes it\n" in done.stdout


def test_no_user_name_is_a_warning_and_no_access_a_problem(picas: Picas, database: str) -> None:
    """A database for members only is closed to requests without a user."""
    found = report(picas, {"PICAS_POOL": bare(database)}, status=1)
    assert found["credentials"][0] == "warning"
    assert found["database"][0] == "problem"
    assert urlsplit(database).path.strip("/") in found["database"][1]


def test_a_broken_configuration_is_one_problem(picas: Picas) -> None:
    """And no password of it is shown."""
    picas.secrets.append("pw-in-file")
    picas.config.parent.mkdir(parents=True)
    picas.config.write_text('pasword = "pw-in-file"\n')
    found = report(picas, status=1)
    assert found["configuration"][0] == "problem"
    assert "did you mean 'password'?" in found["configuration"][1]
    picas.config.write_text('password = "pw-in-file"\n')
    picas.config.chmod(0o644)
    assert "open to others" in report(picas, status=1)["configuration"][1]


def test_a_pool_s_url_that_cannot_be_used_is_one_problem(picas: Picas) -> None:
    """The checks of this host go on."""
    found = report(picas, {"PICAS_POOL": "ftp://somewhere/runs"}, status=1)
    assert [name for name, (status, _) in found.items() if status == "problem"] == ["configuration"]
    assert found["software"][0] == "ok"


def test_a_folder_that_cannot_be_written_is_a_warning(picas: Picas) -> None:
    """Logs need a place while tasks run."""
    picas("init", "runs.db")
    (picas.folder / "picas-logs").write_text("in the way")
    assert report(picas)["logs"][0] == "warning"


def test_a_disk_that_takes_names_only_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes empty files, so bytes are written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picas-logs").mkdir()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (finding,) = logs(Subject(None))
    assert finding.status == "warning"
    assert finding.text == f"{tmp_path}/picas-logs cannot be written: No space left on device"
    assert list((tmp_path / "picas-logs").iterdir()) == []


def test_schedulers_on_the_path_are_named(picas: Picas) -> None:
    """By whose they are and by the command found."""
    picas("init", "runs.db")
    tools = picas.folder / "tools"
    tools.mkdir()
    for name in ("sbatch", "dirac-wms-job-submit"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), "/usr/bin", "/bin"])
    found = report(picas, {"PATH": path})
    assert found["scheduler"][1] == "Slurm (sbatch), DIRAC (dirac-wms-job-submit)"
    assert report(picas, {"PATH": str(tools)}, status=1)["bash"][0] == "problem"


class _Old(BaseHTTPRequestHandler):
    """A CouchDB of long ago, whose clock is an hour behind."""

    version = "2.3.1"

    def do_GET(self) -> None:
        """Answer the welcome, the session and the database, as far as doctor asks."""
        answers = {
            "/": {"couchdb": "Welcome", "version": self.version},
            "/_session": {"ok": True, "userCtx": {"name": "me", "roles": []}},
            "/runs": {"db_name": "runs", "doc_count": 7, "cluster": {"n": 3}},
        }
        known = self.path in answers
        body = json.dumps(answers.get(self.path, {"error": "not_found", "reason": "?"})).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Take what is sent, and know nothing of it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def handle(self) -> None:
        """Bear with clients that hang up, as one does that wanted TLS."""
        with suppress(ConnectionError):
            super().handle()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """An hour ago or more."""
        return "Sun, 01 Mar 2026 12:00:00 GMT"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Page(_Old):
    """A web server that knows nothing of databases."""

    def do_GET(self) -> None:
        """A page, whatever is asked for."""
        self.send_response(200)
        self.send_header("Content-Length", "13")
        self.end_headers()
        self.wfile.write(b"<html></html>")


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://me:pw-old@127.0.0.1:{server.server_port}/runs"
        finally:
            server.shutdown()
            thread.join()


def test_an_old_clustered_couchdb_with_another_clock_is_told_apart(picas: Picas) -> None:
    """Too old, an hour off, and more than one copy."""
    picas.secrets.append("pw-old")
    with _serving(_Old) as url:
        found = report(picas, {"PICAS_POOL": url}, status=1)
    assert found["version"] == ("problem", "CouchDB 2.3.1 is too old")
    assert found["database"][0] == "ok"
    assert "7 documents, each kept on 3 nodes" in found["database"][1]
    assert found["database"][1].endswith("a claim is read back, and takes 2 of them")


def test_claims_that_are_not_read_back_on_a_cluster_are_a_warning(picas: Picas) -> None:
    """Somebody told PiCaS to take the word of whichever node answered."""
    picas.secrets.append("pw-old")
    with _serving(_Old) as url:
        found = report(picas, {"PICAS_POOL": url, "PICAS_VERIFY_CLAIMS": "0"}, status=1)
    assert found["database"][0] == "warning"
    assert "PICAS_VERIFY_CLAIMS is 0" in found["database"][1]


def test_a_clock_that_is_off_is_a_warning(picas: Picas) -> None:
    """The offset is in the text."""
    with _serving(type("New", (_Old,), {"version": "3.9.9"})) as url:
        status, text = report(picas, {"PICAS_POOL": url}, status=1)["clock"]
    assert status == "warning"
    assert "this host's clock is" in text
    assert "ahead of the server's" in text


def test_something_that_is_no_couchdb_is_told(picas: Picas) -> None:
    """As behind the wrong port."""
    with _serving(_Page) as url:
        status, text = report(picas, {"PICAS_POOL": url}, status=1)["server"]
    assert status == "problem"
    assert "is not JSON" in text
