"""``picas init``, ``passwd`` and ``config``, as a user runs them."""

import json
import os
import pty
import secrets
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from tests.acceptance.accounts import Picas, account, bare, login
from tests.acceptance.cli import PICAS, clean_environment, home_of
from tests.couchdb.raw import Raw
from tests.couchdb.server import CouchServer

from picas.views import CLASSIC_VIEWS, MONITOR

NOWHERE = "http://127.0.0.1:1/runs"

ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def new_name(couchdb: CouchServer) -> Iterator[str]:
    """Name of a database that does not exist; removed afterwards if a test made it."""
    name = f"new-{secrets.token_hex(6)}"
    yield name
    couchdb.delete_database(name)


# --- init ----------------------------------------------------------------------------------------


def test_init_makes_an_embedded_pool_and_remembers_it_from_any_folder(picas: Picas) -> None:
    """Pool, standard views and a private configuration with the absolute path."""
    done = picas("init", "sqlite:///runs.db")
    file = picas.folder / "runs.db"
    assert f"made the pool {file} (SQLite" in done.stdout
    assert "Monitor/{todo, locked, done, error, overview_total}" in done.stdout
    assert tomllib.loads(picas.config.read_text()) == {"pool": f"sqlite:///{file}"}
    assert picas.config.stat().st_mode & 0o777 == 0o600
    assert picas.config.parent.stat().st_mode & 0o777 == 0o700
    elsewhere = picas.folder / "elsewhere"
    elsewhere.mkdir()
    picas.folder = elsewhere
    env = {"PICAS_CONFIG": str(picas.config)}
    assert "Monitor" in picas("views", "list", env=env).stdout


def test_init_again_changes_nothing(picas: Picas) -> None:
    """The second run says that everything is there."""
    picas("init", "runs.db")
    before = picas.config.stat().st_mtime_ns
    done = picas("init", "runs.db")
    assert "found the pool" in done.stdout
    assert "views are there already" in done.stdout
    assert "has all of this already" in done.stdout
    assert picas.config.stat().st_mtime_ns == before


def test_init_asks_before_it_replaces_another_configuration(picas: Picas) -> None:
    """Without a terminal it refuses, and --yes agrees."""
    picas("init", "one.db")
    refused = picas("init", "two.db", status=2)
    assert "one.db (--no-save leaves it, PICAS_CONFIG names another file)" in refused.stderr
    assert refused.stderr.startswith("picas: ")
    assert refused.stderr.endswith(" Replace it? There is no terminal to ask; add --yes\n")
    assert not (picas.folder / "two.db").exists()
    assert "one.db" in picas.config.read_text()
    picas("init", "two.db", "--yes")
    assert "two.db" in picas.config.read_text()


def test_init_of_a_pool_beside_the_usual_one(picas: Picas) -> None:
    """--no-save makes the pool and leaves the configuration, and says how to name the pool."""
    picas("init", "one.db")
    before = picas.config.read_text()
    url = f"sqlite:///{picas.folder}/two.db"
    assert f"by --pool {url}, or in PICAS_POOL" in picas("init", "two.db", "--no-save").stdout
    assert picas.config.read_text() == before
    assert f"pool {url}\n" in picas("--pool", url, "status").stdout
    facts = json.loads(picas("init", "two.db", "--no-save", "--json").stdout)
    assert (facts["saved"], facts["config"]) == (False, None)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("127.0.0.1:5984/db", "http://127.0.0.1:5984/db"),
        ("couch.example.org/my-pool", "https://couch.example.org/my-pool"),
    ],
)
def test_a_server_without_its_scheme(url: str, meant: str, picas: Picas) -> None:
    """The message shows the whole URL; what may hold a password gets no such hint."""
    assert picas("init", url, status=2).stderr.endswith(f"; did you mean {meant}?\n")
    assert "did you mean" not in picas("init", f"me:word@{url}", status=2).stderr


def test_init_without_a_pool_or_a_terminal_says_what_to_give(picas: Picas) -> None:
    """It guesses no pool."""
    assert "which pool?" in picas("init", status=2).stderr
    assert not picas.config.exists()


def test_an_embedded_pool_takes_no_user(picas: Picas) -> None:
    """A user name for a file is a mistake that is told."""
    assert "no users" in picas("init", "x.db", "--username", "me", status=2).stderr


def test_init_as_an_administrator_makes_database_views_and_configuration(
    picas: Picas, couchdb: CouchServer, new_name: str
) -> None:
    """One command from an empty server to a pool that the other commands use."""
    who = login(couchdb.url)
    picas.secrets.append(who["PICAS_PASSWORD"])
    url = bare(couchdb.database_url(new_name))
    name = who["PICAS_USERNAME"]
    stdin = who["PICAS_PASSWORD"] + "\n"
    done = picas("init", url, "--username", name, "--password-stdin", stdin=stdin)
    lines = done.stdout.splitlines()
    assert lines[0] == f"CouchDB {couchdb.version} answers at {url.rpartition('/')[0]}"
    assert lines[1] == f"signed in as {name}, an administrator of the server"
    assert f"made the database {url}" in lines
    assert picas.config.stat().st_mode & 0o777 == 0o600
    saved = tomllib.loads(picas.config.read_text())
    assert saved == {"pool": url, "username": name, "password": who["PICAS_PASSWORD"]}
    assert picas("views", "list").stdout.startswith("Monitor  all tokens")
    again = picas("init")
    assert "views are there already" in again.stdout


def test_init_takes_the_password_from_the_environment(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """PICAS_PASSWORD goes with --username."""
    password = login(database)["PICAS_PASSWORD"]
    picas.secrets.append(password)
    name = urlsplit(database).username or ""
    env = {"PICAS_PASSWORD": password}
    picas("init", bare(database), "--username", name, env=env)
    assert tomllib.loads(picas.config.read_text())["password"] == password


def test_a_password_in_the_url_works_and_is_discouraged(picas: Picas, database: str) -> None:
    """It is kept out of the output and of the pool's line in the file."""
    picas.secrets.append(login(database)["PICAS_PASSWORD"])
    done = picas("init", database)
    assert "a password in a command line can be seen" in done.stderr
    assert tomllib.loads(picas.config.read_text())["pool"] == bare(database)


def test_every_command_warns_of_a_password_in_its_arguments(picas: Picas, database: str) -> None:
    """Once, wherever --pool stands; not of one that is in the environment."""
    picas.secrets.append(login(database)["PICAS_PASSWORD"])
    warning = "warning: a password in a command line can be seen by everyone on this host"
    for args in (
        ("--pool", database, "init"),
        ("status", "--pool", database),
        ("--pool", database, "push", "--sweep", "n=1:3"),
    ):
        done = picas(*args)
        assert done.stderr.count(warning) == 1
        assert done.stderr.count("\n") == 1
    assert "a password in a command line can be seen" in picas("--pool", database, "doctor").stdout
    shown = picas("config", "show", "--pool", database).stdout
    assert "a password in a command line can be seen" in shown
    assert picas("status", env={"PICAS_POOL": database}).stderr == ""


def test_init_tells_programs_what_it_did(picas: Picas, couchdb: CouchServer, new_name: str) -> None:
    """--json prints one object, for either kind of pool, and no lines beside it."""
    file = picas.folder / "runs.db"
    facts = {"pool": f"sqlite:///{file}", "config": str(picas.config)}
    first = json.loads(picas("init", "runs.db", "--json").stdout)
    assert first.pop("server").startswith("SQLite ")
    assert first == {**facts, "made": True, "views": "made", "saved": True}
    again = json.loads(picas("init", "runs.db", "--json").stdout)
    assert again.pop("server").startswith("SQLite ")
    assert again == {**facts, "made": False, "views": "current", "saved": False}
    who = login(couchdb.url)
    picas.secrets.append(who["PICAS_PASSWORD"])
    url = bare(couchdb.database_url(new_name))
    assert json.loads(picas("init", url, "--json", "--yes", env=who).stdout) == {
        "pool": url,
        "made": True,
        "server": f"CouchDB {couchdb.version}",
        "username": who["PICAS_USERNAME"],
        "admin": True,
        "views": "made",
        "config": str(picas.config),
        "saved": True,
    }


def test_a_wrong_password_is_told_before_anything_is_written(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """No configuration appears, and the exit status says: denied."""
    picas.secrets.append("wrong-guess")
    with account(couchdb) as user:
        done = picas(
            *("init", bare(database), "--username", user.name, "--password-stdin"),
            stdin="wrong-guess\n",
            status=4,
        )
    assert f"refuses the user {user.name!r} with this password" in done.stderr
    assert not picas.config.exists()


def test_a_server_that_is_down_is_told_before_anything_is_written(picas: Picas) -> None:
    """No configuration appears, and the exit status says: unreachable."""
    picas.secrets.append("pw-nowhere")
    done = picas(
        *("init", NOWHERE, "--username", "me", "--password-stdin"), stdin="pw-nowhere\n", status=3
    )
    assert "no answer from http://127.0.0.1:1" in done.stderr
    assert not picas.config.exists()


def test_a_user_who_may_not_make_databases_learns_whom_to_ask(
    picas: Picas, couchdb: CouchServer, new_name: str
) -> None:
    """The credentials are kept; the text has the command for the administrator."""
    url = bare(couchdb.database_url(new_name))
    with account(couchdb) as user:
        picas.secrets.append(user.password)
        done = picas(
            *("init", url, "--username", user.name, "--password-stdin"),
            stdin=user.password,
            status=4,
        )
    assert f"ask them to run 'picas init {url}' and to make {user.name} a member" in done.stderr
    assert picas.config.exists()


def test_a_classic_monitor_is_recognised_and_left_alone(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """The views that a classic client made keep their revision."""
    states = {
        "todo": "doc.lock == 0 && doc.done == 0",
        "locked": "doc.lock > 0 && doc.done == 0",
        "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
        "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
    }
    views: dict[str, dict[str, str]] = {
        name: {
            "map": "function(doc) {if(doc.type == 'token') {if(" + rule + ") "
            "{emit(doc._id, doc._id);}}}"
        }
        for name, rule in states.items()
    }
    counting = "".join(f"if({rule}) {{emit('{n}', 1);}}" for n, rule in states.items())
    views["overview_total"] = {
        "map": "function(doc) {if(doc.type == 'token') {" + counting + "}}",
        "reduce": "function (key, values) {return sum(values);}",
    }
    with Raw(database) as raw:
        made = raw.put("/_design/Monitor", {"language": "javascript", "views": views}).json
    picas.secrets.append(login(database)["PICAS_PASSWORD"])
    done = picas("init", bare(database), env=login(database))
    with Raw(database) as raw:
        assert raw.get("/_design/Monitor").json["_rev"] == made["rev"]
    assert "the Monitor views of a classic client are there" in done.stdout
    report = picas("doctor", env=login(database))
    assert "Monitor is there, made by a classic client" in report.stdout
    assert "views create --replace" in report.stdout


def test_a_classic_monitor_is_replaced_on_demand(picas: Picas, database: str) -> None:
    """`views create --replace` asks, then puts our views there."""
    views = {name: MONITOR.document()["views"][name] for name in CLASSIC_VIEWS}
    with Raw(database) as raw:
        raw.put("/_design/Monitor", {"language": "javascript", "views": views})
    env = {"PICAS_POOL": bare(database), **login(database)}
    picas.secrets.append(env["PICAS_PASSWORD"])
    assert "they stay as they are" in picas("views", "create", "--yes", env=env).stdout
    asked = picas("views", "create", "--replace", env=env, status=2)
    assert "those of a classic client. CouchDB builds new ones" in asked.stderr
    picas("views", "create", "--replace", "--yes", env=env)
    with Raw(database) as raw:
        assert raw.get("/_design/Monitor").json["views"] == MONITOR.document()["views"]
    assert "Monitor is there, of this version" in picas("doctor", env=env).stdout


def test_views_of_somebody_s_own_are_not_replaced(picas: Picas, database: str) -> None:
    """`views create --replace` says that it replaced nothing, and what makes room."""
    views = {name: MONITOR.document()["views"][name] for name in CLASSIC_VIEWS}
    views["done"] = {"map": "function (doc) { emit(doc._id, null); }"}
    with Raw(database) as raw:
        raw.put("/_design/Monitor", {"language": "javascript", "views": views})
    env = {"PICAS_POOL": bare(database), **login(database)}
    picas.secrets.append(env["PICAS_PASSWORD"])
    refused = picas("views", "create", "--replace", "--yes", env=env, status=6)
    assert "'picas views remove Monitor' makes room" in refused.stderr


def test_init_asks_on_a_terminal_and_hides_the_password(picas: Picas, database: str) -> None:
    """Pool, user and password are asked for; what is typed as password is not echoed."""
    password = login(database)["PICAS_PASSWORD"]
    with _terminal(picas, "init") as talk:
        talk.answer("Pool (", bare(database))
        talk.answer("User name", login(database)["PICAS_USERNAME"])
        talk.answer("Password of", password)
        said = talk.rest()
    assert "signed in as" in said
    assert password not in talk.seen
    assert tomllib.loads(picas.config.read_text())["password"] == password


# --- passwd --------------------------------------------------------------------------------------


def test_an_embedded_pool_has_no_passwords(picas: Picas) -> None:
    """Passwd says so."""
    picas("init", "x.db")
    assert "has no passwords" in picas("passwd", status=2).stderr


def test_an_administrator_of_the_configuration_is_sent_there(picas: Picas, database: str) -> None:
    """Their password is not in the _users database."""
    picas.secrets.append(login(database)["PICAS_PASSWORD"])
    env = {"PICAS_POOL": bare(database), **login(database)}
    done = picas("passwd", "--password-stdin", stdin="another\n", env=env, status=6)
    assert "is an administrator from the configuration" in done.stderr


def test_a_user_who_may_not_change_the_password_learns_what_to_ask_for(
    picas: Picas, couchdb: CouchServer
) -> None:
    """By default only administrators may use the _users database."""
    with account(couchdb) as user:
        picas.secrets += [user.password, "another-pw"]
        env = {"PICAS_POOL": f"{bare(couchdb.url)}/runs"}
        env |= {"PICAS_USERNAME": user.name, "PICAS_PASSWORD": user.password}
        done = picas("passwd", "--password-stdin", stdin="another-pw\n", env=env, status=4)
    assert "does not let users change their own password" in done.stderr
    assert f"_users/org.couchdb.user:{user.name}" in done.stderr
    assert "users_db_security_editable" in done.stderr


@pytest.mark.couchdb
def test_a_user_changes_the_password_on_the_server_and_in_the_file(
    picas: Picas, couchdb: CouchServer, database: str
) -> None:
    """The new one is what server and file have afterwards; a wrong present one is refused."""
    name = urlsplit(database).path.strip("/")
    picas("views", "create", env={"PICAS_POOL": bare(database), **login(database)})
    with _open_users(couchdb), account(couchdb, name) as user:
        new = f"new-{secrets.token_hex(6)}"
        picas.secrets += [user.password, new]
        init = ("init", bare(database), "--username", user.name, "--password-stdin")
        picas(*init, stdin=user.password)
        env = {"PICAS_PASSWORD": "wrong-guess"}
        refused = picas("passwd", "--password-stdin", stdin=f"{new}\n", env=env, status=4)
        assert "401" in refused.stderr
        done = picas("passwd", "--password-stdin", stdin=f"{new}\n")
        assert done.stdout.splitlines() == [
            f"changed the password of {user.name} on {bare(couchdb.url)}",
            f"wrote it to {picas.config}",
        ]
        assert tomllib.loads(picas.config.read_text()) == {
            "pool": bare(database),
            "username": user.name,
            "password": new,
        }
        assert picas.config.stat().st_mode & 0o777 == 0o600
        _wait_for_login(couchdb, user.name, new)
        assert picas("doctor").stdout.count("problem") == 0


@pytest.mark.couchdb
def test_a_new_password_typed_at_the_terminal_must_be_typed_twice(
    picas: Picas, couchdb: CouchServer
) -> None:
    """Two different ones are asked for again; nothing typed is shown."""
    with _open_users(couchdb), account(couchdb) as user:
        env = {"PICAS_POOL": f"{bare(couchdb.url)}/runs"}
        env |= {"PICAS_USERNAME": user.name, "PICAS_PASSWORD": user.password}
        with _terminal(picas, "passwd", env=env) as talk:
            talk.answer("New password:", "typed-once")
            talk.answer("Repeat for confirmation:", "typed-otherwise")
            talk.answer("New password:", "typed-twice")
            talk.answer("Repeat for confirmation:", "typed-twice")
            said = talk.rest()
        assert "changed the password" in said
        assert "PICAS_PASSWORD still has the old one" in said
        assert "typed" not in talk.seen
        _wait_for_login(couchdb, user.name, "typed-twice")


# --- config --------------------------------------------------------------------------------------


def test_config_show_tells_where_each_setting_is_from_and_no_password(picas: Picas) -> None:
    """Values and sources, for a person and for a program."""
    picas.secrets.append("pw-shown")
    env = {"PICAS_POOL": "https://me:pw-shown@couch.example/runs"}
    text = picas("config", "show", env=env).stdout
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["pool", "https://couch.example/runs"],
        ["username", "me"],
        ["password", "***"],
        ["config", str(picas.config)],
    ]
    facts = json.loads(picas("config", "show", "--json", env=env).stdout)
    assert facts["password"] == {"value": "***", "source": "pool URL"}
    assert facts["pool"] == {"value": "https://couch.example/runs", "source": "environment"}
    assert facts["config"] == {"path": str(picas.config), "exists": False}


def test_config_show_warns_of_an_unencrypted_password(picas: Picas) -> None:
    """The warning is in the output, too."""
    picas.secrets.append("pw-open")
    env = {"PICAS_POOL": "http://me:pw-open@couch.example/runs"}
    assert "travels unencrypted" in picas("config", "show", env=env).stdout


def test_config_path_is_told_even_if_the_file_is_broken(picas: Picas) -> None:
    """The way to the file that has to be mended."""
    picas.config.parent.mkdir(parents=True)
    picas.config.write_text("password = pw-unquoted\n")
    picas.secrets.append("pw-unquoted")
    assert picas("config", "path").stdout == f"{picas.config}\n"
    assert "is not valid TOML" in picas("config", "show", status=2).stderr


def test_a_file_with_a_password_that_others_may_read_is_refused(picas: Picas) -> None:
    """Until its mode is mended by the command in the message."""
    picas.secrets.append("pw-in-file")
    picas.config.parent.mkdir(parents=True)
    picas.config.write_text(
        'pool = "https://couch.example/runs"\nusername = "me"\npassword = "pw-in-file"\n'
    )
    picas.config.chmod(0o644)
    for command in (("config", "show"), ("views", "list"), ("passwd",), ("init", "x.db")):
        assert f"chmod 600 {picas.config}" in picas(*command, status=2).stderr
    picas.config.chmod(0o600)
    assert "***" in picas("config", "show").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(picas: Picas, shell: str) -> None:
    """By name, or for the shell that the user has."""
    script = picas("config", "completion", shell).stdout
    assert f"_PICAS_COMPLETE={shell}_complete" in script
    by_default = picas("config", "completion", env={"SHELL": f"/usr/bin/{shell}"})
    assert by_default.stdout == script


def test_completion_offers_commands_and_options(picas: Picas) -> None:
    """What a shell gets when the user presses tab."""

    def offered(words: str) -> set[str]:
        env = {"_PICAS_COMPLETE": "bash_complete", "COMP_WORDS": words}
        env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        lines = picas(env=env).stdout.splitlines()
        return {line.partition(",")[2] for line in lines}

    assert {"init", "run", "push", "status", "doctor", "views"} <= offered("picas ")
    assert offered("picas do") == {"doctor"}
    assert offered("picas views ") == {"add", "create", "list", "remove"}
    assert "--password-stdin" in offered("picas init --")


# --- helpers -------------------------------------------------------------------------------------


@contextmanager
def _open_users(server: CouchServer) -> Iterator[None]:
    """Let users read and change their own account, as an administrator would set it up."""
    setting = "/_node/_local/_config/couchdb/users_db_security_editable"
    with server.raw() as raw:
        before = raw.get("/_users/_security").json
        raw.put(setting, '"true"')
        opened = {"members": {}, "admins": {"roles": ["_admin"]}}
        assert raw.put("/_users/_security", opened).status == 200
        try:
            yield
        finally:
            raw.put("/_users/_security", before)
            raw.delete(setting)


def _wait_for_login(server: CouchServer, name: str, password: str) -> None:
    """CouchDB goes by what it knew of a user for up to 5 s after it was started."""
    host = bare(server.url).partition("://")[2]
    deadline = time.monotonic() + 15
    with Raw(f"http://{name}:{password}@{host}") as raw:
        while raw.get("/_session").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)


class _Talk:
    """A dialogue with a command on a terminal; `seen` is all that it showed."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        """Wait for a question (behind what was seen), and type a line."""
        start = len(self.seen)
        while question not in self.seen[start:]:
            assert self._read(), f"{question!r} was not asked: {self.seen}"
        os.write(self._terminal, f"{text}\n".encode())

    def rest(self) -> str:
        """What it says until it ends."""
        start = len(self.seen)
        while self._read():
            pass
        return self.seen[start:]

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], 20)
        try:
            data = os.read(self._terminal, 4096) if ready else b""
        except OSError:  # Linux: the other end was closed
            data = b""
        self.seen += data.decode()
        return bool(data)


@contextmanager
def _terminal(picas: Picas, *args: str, env: dict[str, str] | None = None) -> Iterator[_Talk]:
    """A command that runs on a terminal of its own and ends well."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, PICAS, *args],
        cwd=picas.folder,
        env=clean_environment(home_of(picas.folder), env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield _Talk(ours)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
