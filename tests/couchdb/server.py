"""The CouchDB that tests talk to.

In this order: the server in ``$PICAS_TEST_COUCHDB`` (a URL with the credentials of an
administrator), else one installed in /opt/couchdb, started here on a free loopback port with a
data folder of its own, else the test double.
"""

import abc
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import urlsplit

from tests.couchdb.raw import Raw

INSTALLED = Path("/opt/couchdb")
ENVIRONMENT = "PICAS_TEST_COUCHDB"
START_SECONDS = 30.0

VM_ARGS = """\
-kernel error_logger silent
-sasl sasl_error_logger false
+SDio 4
+S 2:2
+Bd -noinput
-os_mon start_cpu_sup false
-os_mon start_memsup false
-os_mon start_disksup false
"""

LOCAL_INI = """\
[couchdb]
single_node = true
uuid = {uuid}
database_dir = {home}/data
view_index_dir = {home}/data
uri_file = {home}/couch.uri
{engine}
[chttpd]
bind_address = 127.0.0.1
port = {port}
[cluster]
q = 2
n = 1
[smoosh]
state_dir = {home}/data
[log]
writer = file
file = {home}/couch.log
[chttpd_auth]
iterations = 1000
[chttpd_auth_lockout]
mode = {lockout}
[admins]
admin = {password}
"""


class CouchServer(abc.ABC):
    """A running CouchDB, real or double, and the databases made in it.

    Attributes:
        url: Its root with an administrator's credentials, without a final slash.
        kind: ``real`` or ``double``.
        version: What ``GET /`` says.
        restartable: Whether `stop`, `start` and `restart` work (not for a server of somebody else).
        origin: Where it came from, for the summary.
    """

    url: str
    kind: Literal["real", "double"]
    version: str
    restartable = True
    origin: str

    @abc.abstractmethod
    def start(self) -> None:
        """Start it, on the port and with the data it had before, if it had."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop it; its data stay until `close`."""

    def restart(self) -> None:
        """Stop and start it: same port, same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it for good and remove what it left on the disk."""
        self.stop()

    def __enter__(self) -> Self:
        """Start it; it is closed at the end of the ``with``."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def raw(self, path: str = "") -> Raw:
        """A connection for plain calls as the administrator."""
        return Raw(self.url + path)

    def new_database(self, prefix: str = "test", *, shards: int | None = None) -> str:
        """Make a database under a fresh name; only administrators may use it, as is the default.

        Args:
            prefix: What its name begins with.
            shards: In how many pieces the server keeps it; with 1 the order of changes is exact.
        """
        name = f"{prefix}-{secrets.token_hex(6)}"
        with self.raw() as raw:
            reply = raw.put(f"/{name}" + (f"?q={shards}" if shards else ""))
        if reply.status not in (201, 202):
            raise RuntimeError(f"cannot create the database {name}: {reply.body!r}")
        return name

    def delete_database(self, name: str) -> None:
        """Remove a database; one that is gone already is fine."""
        with self.raw() as raw:
            raw.delete(f"/{name}")

    def database_url(self, name: str) -> str:
        """The URL of a database, with the administrator's credentials."""
        return f"{self.url}/{name}"


class ForeignCouch(CouchServer):
    """A server that somebody else runs: `ENVIRONMENT` names it."""

    kind = "real"
    restartable = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.origin = f"${ENVIRONMENT}"

    def start(self) -> None:
        """Ask for its version."""
        with self.raw() as raw:
            self.version = raw.get("/").json["version"]

    def stop(self) -> None:
        """Leave it running: it is not ours."""


class InstalledCouch(CouchServer):
    """The server installed in /opt/couchdb, run privately on the loopback interface.

    Where ``setpriv`` is installed it ends with the thread that started it, so that a killed test
    run leaves none behind.

    Args:
        lockout: Leave CouchDB's lock on an address after five wrong passwords on.
        installed: Where CouchDB is.
    """

    kind = "real"

    def __init__(self, *, lockout: bool = False, installed: Path = INSTALLED) -> None:
        self.installed = installed
        self.origin = str(installed)
        self.lockout = lockout
        self.password = secrets.token_hex(12)
        self.uuid = secrets.token_hex(16)
        self.port = 0
        self.home: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self.process is not None:
            return
        if self.home is None:
            self.home = Path(tempfile.mkdtemp(prefix="picas-couchdb-", dir=_folder()))
        self._configure(self.home)
        with (self.home / "output.log").open("ab") as output:
            self.process = self._launch(self.home, output)
        try:
            self._wait(self.home, time.monotonic() + START_SECONDS)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Ask it to end, and end it the hard way if it does not within 20 s."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            self.process = process
            self.kill()

    def kill(self) -> None:
        """End it without warning, as ``kill -9`` does; its data stay until `close`."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)
            self.home = None

    def _configure(self, home: Path) -> None:
        text = LOCAL_INI.format(
            uuid=self.uuid,
            home=home,
            engine=self._engine(),
            port=self.port,
            lockout="enforce" if self.lockout else "off",
            password=self.password,
        )
        (home / "data").mkdir(exist_ok=True)
        (home / "local.ini").write_text(text)
        (home / "vm.args").write_text(VM_ARGS)
        (home / "couch.uri").unlink(missing_ok=True)

    def _engine(self) -> str:
        """The line that names the engine of views, where it is not the default."""
        # Builds without SpiderMonkey bring no couchjs; QuickJS is then the engine they have.
        has_spidermonkey = (self.installed / "bin/couchjs").exists()
        return "" if has_spidermonkey else "js_engine = quickjs"

    def _launch(self, home: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        default = self.installed / "etc/default.ini"
        files = [str(default)] if default.exists() else []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ERL_", "COUCHDB_"))}
        environment = {
            **kept,
            "HOME": str(home),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "COUCHDB_ARGS_FILE": str(home / "vm.args"),
            "COUCHDB_INI_FILES": " ".join([*files, str(home / "local.ini")]),
        }
        return subprocess.Popen(
            [*_ends_with_us(), str(self.installed / "bin/couchdb")],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _wait(self, home: Path, deadline: float) -> None:
        while not self._ready(home):
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                log = (home / "couch.log").read_text() if (home / "couch.log").exists() else ""
                said = (home / "output.log").read_text() + log[-2000:]
                raise RuntimeError(f"CouchDB in {self.installed} did not start:\n{said}")
            time.sleep(0.02)

    def _ready(self, home: Path) -> bool:
        address = home / "couch.uri"
        if not address.exists() or not address.read_text().startswith("http"):
            return False
        self.port = urlsplit(address.read_text().split()[0]).port or 0
        self.url = f"http://admin:{self.password}@127.0.0.1:{self.port}"
        try:
            with self.raw() as raw:
                if raw.get("/_up").status != 200 or raw.get("/_users").status != 200:
                    return False
                self.version = raw.get("/").json["version"]
        except OSError:
            return False
        return True


def _ends_with_us() -> list[str]:
    """A prefix of a command that has Linux end it with the thread that starts it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def installed() -> bool:
    """Whether a CouchDB is installed here."""
    return (INSTALLED / "bin/couchdb").exists()


def real_server() -> CouchServer | None:
    """A real server, not yet started; None where there is none."""
    if url := os.environ.get(ENVIRONMENT):
        return ForeignCouch(url)
    return InstalledCouch() if installed() else None


def _folder() -> str | None:
    """The folder for temporary data; Erlang splits the list of ini files at spaces."""
    return "/tmp" if " " in tempfile.gettempdir() else None
