"""What ``picas doctor`` looks at: one small function a check.

A check yields findings. An error of ours that it meets becomes a problem with that error's text, so
checks do not catch what they have nothing to add to.
"""

import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from picas import config
from picas.cli import common
from picas.cli.common import counted
from picas.cli.views import Monitor, missing_views, monitor
from picas.config import CouchLocation, Settings
from picas.credentials import chmod_advice, open_to_others
from picas.errors import Forbidden, NotFound, PoolUnreachable, Unauthorized
from picas.jobid import allowed_cores
from picas.pool.base import Store
from picas.pool.connect import open_store
from picas.pool.couchdb import users
from picas.pool.couchdb.http import Session
from picas.pool.filesystem import MOUNTS, mount_of
from picas.version import __version__
from picas.views import DEFAULT_DESIGN

Status = Literal["ok", "warning", "problem"]

OLDEST_COUCHDB = 3
CLOCK_SECONDS = 5.0
DISK_PROBLEM = 100_000_000
DISK_WARNING = 2_000_000_000
INDEX_CHANGES = 10_000
PROBE_BYTES = 4096

SCHEDULERS = {"sbatch": "Slurm", "condor_submit": "HTCondor", "dirac-wms-job-submit": "DIRAC"}
"""Each command that submits batch jobs, and whose it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        status: How bad it is.
        text: What was found.
        advice: What to do about it.
    """

    status: Status
    text: str
    advice: str = ""


@dataclass(slots=True)
class Subject:
    """What is examined, as far as it is known: earlier checks fill in what later ones use.

    Attributes:
        pool_url: What the user asked for.
    """

    pool_url: str | None
    _settings: Settings | None = None
    _session: Session | None = None
    _store: Store | None = None
    who: users.Identity = field(default_factory=lambda: users.Identity(None))

    @property
    def settings(self) -> Settings:
        """Where the pool is and who we are."""
        if self._settings is None:
            self._settings = config.load(self.pool_url)
        return self._settings

    @property
    def session(self) -> Session:
        """The server of a CouchDB pool, with our user name and password."""
        if self._session is None:
            self._session = users.open_session(self.settings)
        return self._session

    @property
    def store(self) -> Store:
        """The pool's documents."""
        if self._store is None:
            self._store = open_store(self.settings)
        return self._store

    @property
    def database(self) -> str:
        """Name of the database of a CouchDB pool."""
        location = self.settings.pool
        return location.database if isinstance(location, CouchLocation) else ""

    @property
    def file(self) -> Path:
        """The file of an embedded pool."""
        location = self.settings.pool
        return Path() if isinstance(location, CouchLocation) else location.path.absolute()

    def close(self) -> None:
        """Close connections."""
        for opened in (self._session, self._store):
            if opened is not None:
                opened.close()


Findings = Iterator[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: For the report.
        run: Does it.
        needs: Checks that must have gone well before.
        kind: The only kind of pool it is for; empty for all.
    """

    name: str
    run: Callable[[Subject], Findings]
    needs: tuple[str, ...] = ()
    kind: str = ""


# --- configuration and server --------------------------------------------------------------------


def configuration(subject: Subject) -> Findings:
    """The file, and what it and the environment say."""
    settings = subject.settings
    path = config.config_path(os.environ)
    if path.exists():
        mode = path.stat().st_mode & 0o777
        open_file = open_to_others(mode)
        advice = f"no password in it, but better close it: {chmod_advice(path)}"
        yield Finding(
            "warning" if open_file else "ok",
            f"{path} (mode {mode:04o})",
            advice if open_file else "",
        )
    yield Finding("ok", f"the pool is {settings.pool.url}, from {settings.sources['pool']}")
    for warning in common.warnings(settings):
        yield Finding("warning", warning)


def server(subject: Subject) -> Findings:
    """Does it answer, how fast, and is it a CouchDB?"""
    session = users.open_session(subject.settings, anonymous=True)
    try:
        users.welcome(session)
        began = time.monotonic()
        users.welcome(session)
        took = time.monotonic() - began
    except Unauthorized:
        yield Finding("ok", f"{session.base} answers, and wants a password before anything else")
    except PoolUnreachable as error:
        what, _, advice = str(error).partition("; ")
        general = "is the address right, the server up, and no firewall or proxy in between?"
        yield Finding("problem", what, advice or general)
    else:
        slow = took > 1
        yield Finding(
            "warning" if slow else "ok",
            f"{session.base} answers in {took * 1000:.1f} ms",
            "each request waits that long; is there a nearer server?" if slow else "",
        )
    finally:
        session.close()


def credentials(subject: Subject) -> Findings:
    """User name and password, by one attempt only: CouchDB locks out after five."""
    settings = subject.settings
    if settings.username is None:
        yield Finding(
            "warning", "no user name: requests are anonymous", "run 'picas init' to set one"
        )
        return
    try:
        subject.who = users.identity(subject.session)
    except Unauthorized:
        source = settings.sources.get("password")
        yield Finding(
            "problem",
            f"the server refuses user {settings.username!r} with the password "
            f"{f'from {source}' if source else '(there is none)'}",
            "'picas init' sets user name and password; after five wrong ones CouchDB locks this "
            "address out for a while",
        )
        return
    rights = ", an administrator of the server" if subject.who.admin else ""
    yield Finding("ok", f"signed in as {subject.who.name}{rights}")


def version(subject: Subject) -> Findings:
    """Is this CouchDB new enough?"""
    name = users.welcome(subject.session)
    major = name.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_COUCHDB:
        advice = f"PiCaS needs CouchDB {OLDEST_COUCHDB} or newer: ask the administrator to upgrade"
        yield Finding("problem", f"CouchDB {name} is too old", advice)
    else:
        yield Finding("ok", f"CouchDB {name}")


def clock(subject: Subject) -> Findings:
    """This host's clock against the server's, by the answers so far."""
    offset = subject.session.clock.offset
    if abs(offset) <= CLOCK_SECONDS:
        yield Finding("ok", "this host and the server agree, to a second or so")
        return
    ahead = "ahead of" if offset < 0 else "behind"
    yield Finding(
        "warning",
        f"this host's clock is {abs(offset):,.0f} s {ahead} the server's",
        "PiCaS goes by the server's clock, but times in logs differ; set this host's by NTP",
    )


# --- the database --------------------------------------------------------------------------------


def database(subject: Subject) -> Findings:
    """Is it there, may we in, and how many copies of it are kept?"""
    path = f"/{quote(subject.database, safe='')}"
    try:
        info = subject.session.json("looking at the database", "GET", path)
    except NotFound:
        advice = f"'picas init {subject.settings.pool.url}' makes it"
        if not subject.who.admin:
            advice += ", if an administrator of the server runs it"
        yield Finding("problem", f"there is no database {subject.database!r}", advice)
        return
    except (Forbidden, Unauthorized):
        advice = "ask its administrator to make you a member (in Fauxton: Permissions)"
        who = subject.who.name or "anonymous"
        yield Finding("problem", f"{who} may not use the database {subject.database!r}", advice)
        return
    text = f"{subject.database}: {counted(info.get('doc_count', 0), 'document')}"
    copies = info.get("cluster", {}).get("n", 1)
    if copies > 1:
        kept = f"{text}, each kept on {copies} nodes of a cluster"
        yield _cluster(kept, copies, subject.store)
    else:
        yield Finding("ok", f"{text}, one copy of each")


def _cluster(text: str, copies: int, store: Store) -> Finding:
    """What it means that a cluster keeps several copies."""
    if store.sure:
        text += "; claims are not read back, for PICAS_VERIFY_CLAIMS is 0"
        return Finding("warning", text, "unset it: two pilots may be told that they got a token")
    text += f"; a claim is read back, and takes {copies // 2 + 1} of them"
    if copies == 2:
        return Finding("warning", text, "3 copies, or 1, let pilots go on when a node is down")
    return Finding("ok", text)


def embedded(subject: Subject) -> Findings:
    """Is the file there, a pool, and on a disk of this machine?"""
    store = subject.store
    if not store.exists():
        advice = "'picas push' or 'picas init' makes one, --pool or PICAS_POOL names another"
        yield Finding("problem", f"there is no pool at {subject.file}", advice)
        return
    began = time.monotonic()
    store.designs()
    took = time.monotonic() - began
    yield Finding("ok", f"{subject.file} answers in {took * 1000:.1f} ms ({store.version()})")


def disk(subject: Subject) -> Findings:
    """What file system the embedded pool is on, and the space that is left."""
    kind = ""
    if MOUNTS.exists():
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        kind = f" on a local file system ({mount_of(subject.file, table)[1]})"
    free = shutil.disk_usage(subject.file.parent).free
    text = f"{free / 1e9:,.1f} GB free{kind}"
    if free < DISK_PROBLEM:
        yield Finding("problem", text, "make room: a full disk stops the pool")
    elif free < DISK_WARNING:
        yield Finding("warning", text, "make room before a large run: logs go into the pool")
    else:
        yield Finding("ok", text)


def rights(subject: Subject) -> Findings:
    """May we write? Tried with a document of our own that no view shows."""
    store = subject.store
    probe = {"_id": f"picas-probe-{secrets.token_hex(6)}", "type": "probe"}
    (written,) = store.write([probe])
    if written.error is not None:
        advice = "ask the database's administrator for the right to write"
        yield Finding("problem", str(written.error), advice)
        return
    (removed,) = store.write([{**probe, "_rev": written.rev, "_deleted": True}])
    if removed.error is not None:
        text = f"the probe document {probe['_id']} was written but not deleted: {removed.error}"
        yield Finding("warning", text, "delete it by hand")
    if not store.shared:
        yield Finding("ok", "may read, write and add views")
    elif users.may_add_views(subject.session, subject.database, subject.who):
        yield Finding("ok", "may read and write, and add views")
    else:
        yield Finding("ok", "may read and write; only the database's administrators may add views")


def views(subject: Subject) -> Findings:
    """Are the standard views there, and of which making?"""
    doc = subject.store.designs().get(DEFAULT_DESIGN)
    create = "'picas views create' makes them, for an administrator of the database"
    match monitor(doc):
        case Monitor.MISSING:
            yield Finding("problem", f"the {DEFAULT_DESIGN} views are missing", create)
        case Monitor.CURRENT:
            yield Finding("ok", f"{DEFAULT_DESIGN} is there, of this version")
        case Monitor.CLASSIC:
            text = f"{DEFAULT_DESIGN} is there, made by a classic client"
            advice = "'picas views create --replace' puts ours there: pilots find work faster"
            yield Finding("ok", text, advice)
        case Monitor.OTHER:
            text = f"{DEFAULT_DESIGN} is of another PiCaS version"
            yield Finding("warning", text, "'picas views create' brings it up to date")
        case Monitor.CUSTOM:
            text = f"{DEFAULT_DESIGN} is somebody's own, with all the standard names"
            yield Finding("warning", text, "check that its views pick the tokens you expect")
        case Monitor.INCOMPLETE:
            names = ", ".join(missing_views(doc or {}))
            text = f"{DEFAULT_DESIGN} is somebody's own, without {names}"
            yield Finding("problem", text, f"remove it if nobody needs it; then {create}")


def index(subject: Subject) -> Findings:
    """How much the standard views' index has to catch up."""
    path = f"/{quote(subject.database, safe='')}/_design/{DEFAULT_DESIGN}/_info"
    try:
        answer = subject.session.json("looking at the index", "GET", path)
    except NotFound:
        yield Finding("ok", "the server does not tell how far it is")
        return
    pending = answer.get("view_index", {}).get("updates_pending", {}).get("minimum", 0)
    if pending > INDEX_CHANGES:
        text = f"{DEFAULT_DESIGN} has {counted(pending, 'change')} to take in"
        yield Finding("warning", text, "the next look at the views waits for that: 5,000 a second")
    else:
        yield Finding("ok", f"{DEFAULT_DESIGN} is up to date, or nearly")


# --- this host -----------------------------------------------------------------------------------


def software(subject: Subject) -> Findings:  # noqa: ARG001
    """Versions."""
    python = platform.python_version()
    yield Finding("ok", f"picas {__version__}, Python {python} ({sys.executable})")


def scheduler(subject: Subject) -> Findings:  # noqa: ARG001
    """Where pilots can be submitted from here."""
    found = [f"{who} ({name})" for name, who in SCHEDULERS.items() if shutil.which(name)]
    if not shutil.which("sbatch") and (signs := _signs_of_slurm()):
        text = f"no sbatch here, though there is {', '.join(signs)}"
        yield Finding("warning", text, "load Slurm's module, or submit from a login node")
    yield Finding("ok", ", ".join(found) or "none here: pilots run on this machine")


def _signs_of_slurm() -> list[str]:
    """What tells that this host belongs to a cluster with Slurm."""
    signs = [name for name in ("squeue", "sinfo", "scontrol", "srun") if shutil.which(name)]
    return [*signs, "SLURM_CONF"] if os.environ.get("SLURM_CONF") else signs


def bash(subject: Subject) -> Findings:  # noqa: ARG001
    """Command lines run in bash."""
    if found := shutil.which("bash"):
        yield Finding("ok", found)
    else:
        yield Finding("problem", "no bash on PATH", "install it: tasks' command lines run in it")


def cores(subject: Subject) -> Findings:  # noqa: ARG001
    """How many tasks run at once unless told otherwise."""
    allowed, there = allowed_cores(), os.cpu_count() or 1
    yield Finding("ok", f"{allowed} of {there} may be used here")


def logs(subject: Subject) -> Findings:  # noqa: ARG001
    """Can 'picas run' keep logs here while tasks run?"""
    folder = Path("picas-logs")
    place = (folder if folder.exists() else Path()).absolute()
    try:
        # Bytes, not only a name: a full disk still takes empty files.
        with tempfile.TemporaryFile(dir=place, buffering=0) as probe:
            probe.write(os.urandom(PROBE_BYTES))
            os.fsync(probe.fileno())
    except OSError as error:
        advice = "run from another folder, or choose one with 'picas run --logs'"
        yield Finding("warning", f"{place} cannot be written: {error.strerror}", advice)
    else:
        yield Finding("ok", f"{folder.absolute()} can be written")


POOL = ("configuration", "server", "credentials", "database", "embedded pool")
"""Checks without which nothing can be said of what is in the pool."""

CHECKS = (
    Check("configuration", configuration),
    Check("server", server, ("configuration",), "couchdb"),
    Check("credentials", credentials, ("server",), "couchdb"),
    Check("version", version, ("credentials",), "couchdb"),
    Check("clock", clock, ("version",), "couchdb"),
    Check("database", database, ("credentials",), "couchdb"),
    Check("embedded pool", embedded, ("configuration",), "sqlite"),
    Check("disk", disk, ("embedded pool",), "sqlite"),
    Check("rights", rights, POOL),
    Check("views", views, POOL),
    Check("index", index, (*POOL, "views"), "couchdb"),
    Check("software", software),
    Check("scheduler", scheduler),
    Check("bash", bash),
    Check("cores", cores),
    Check("logs", logs),
)
