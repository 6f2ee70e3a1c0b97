"""``picas init`` and ``passwd``: where the pool is and who we are, set up."""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from picas import config
from picas.cli import common
from picas.cli.common import Report, json_option, pool_option, yes_option
from picas.cli.views import Monitor, ensure_monitor
from picas.config import CouchLocation, PoolLocation, Settings, SqliteLocation
from picas.credentials import KEYRING_SERVICE, Secret, keyring_account, redact
from picas.errors import ConfigError, Forbidden, PoolUnreachable, Unauthorized
from picas.pool import Pool
from picas.pool.connect import open_pool, open_store
from picas.pool.couchdb import users
from picas.views import CLASSIC_VIEWS, DEFAULT_DESIGN

_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (one line)."
)

_BARE = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?/[a-z][a-z0-9_$()+/-]*")
"""A server and a database, without what goes before them."""


# --- init ----------------------------------------------------------------------------------------


@click.command("init")
@click.argument("pool_url", required=False)
@click.option("--username", metavar="NAME", help="Your name on the CouchDB server.")
@_stdin_option
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust, for a server with an authority of its own.",
)
@click.option(
    "--no-save",
    is_flag=True,
    help="Write no configuration: for a pool beside the one that the commands use.",
)
@yes_option
@json_option
def init_command(
    pool_url: str | None,
    username: str | None,
    password_stdin: bool,
    ca_file: Path | None,
    no_save: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a pool ready for work, and remember where it is.

    POOL_URL is https://HOST:PORT/DATABASE, or sqlite:///FILE.db for a pool on this machine. What is
    missing is asked for. The server is asked whether it answers and knows you before anything is
    written; then the configuration file, the database and the standard views are made where they
    are missing.

    The password comes from the terminal, --password-stdin or PICAS_PASSWORD. One inside the URL
    works too, but everyone on this host can see the command line while it runs.

    PICAS_CONFIG names another configuration file.
    """
    url = _pool_url(pool_url)
    location = _location(url)
    report = Report(as_json=as_json)
    if isinstance(location, SqliteLocation):
        if username or password_stdin or ca_file:
            raise click.UsageError("an embedded pool has no users, passwords or certificates")
        settings = _init_embedded(location, report, yes=yes, save=not no_save)
    else:
        given = pool_url or click.get_current_context().find_object(str)
        if given and location.password:
            common.note(f"warning: {common.VISIBLE_PASSWORD}")
        settings = _login(url, location, username, password_stdin, ca_file)
        _init_couch(settings, report, yes=yes, save=not no_save)
    _next_steps(settings, report, save=not no_save)
    report.end()


def _pool_url(given: str | None) -> str:
    """The pool to set up: from the command line, the environment, or asked for."""
    url = given or click.get_current_context().find_object(str)
    url = url or os.environ.get("PICAS_POOL") or _saved().get("pool")
    if url and (given or not sys.stdin.isatty()):
        return url
    if not sys.stdin.isatty():
        raise ConfigError(
            "which pool? Give https://HOST:PORT/DATABASE, or sqlite:///FILE.db for this machine"
        )
    shown = config.parse_pool(url or config.DEFAULT_POOL).url
    answer: str = click.prompt(
        "Pool (https://HOST:PORT/DATABASE or sqlite:///FILE)", shown, err=True
    )
    return url if url and answer == shown else answer


def _location(url: str) -> PoolLocation:
    """What the URL says, with a hint where only ``http://`` is missing."""
    try:
        return config.parse_pool(url)
    except ConfigError as error:
        if not _BARE.fullmatch(url):
            raise
        local = url.startswith(("127.", "localhost"))
        raise ConfigError(f"{error}; did you mean http{'' if local else 's'}://{url}?") from error


def _init_embedded(location: SqliteLocation, report: Report, *, yes: bool, save: bool) -> Settings:
    # Not resolve(): a link to a disk that is mounted elsewhere tomorrow stays as it was written.
    path = Path(os.path.abspath(location.path))  # noqa: PTH100
    settings = Settings(SqliteLocation(path))
    values = {"pool": settings.pool.url}
    store = open_store(settings)
    made = not store.exists()
    store.close()
    if save:
        _agree_to_replace(values, yes=yes)
    with open_pool(settings, create=True) as pool:
        version = pool.store.version()
        line = f"{'made' if made else 'found'} the pool {path} ({version})"
        report.say(line, pool=settings.pool.url, made=made, server=version)
        _views(pool, made, report)
    if save:
        _save(values, report)
    return settings


def _login(
    url: str,
    location: CouchLocation,
    username: str | None,
    password_stdin: bool,
    ca_file: Path | None,
) -> Settings:
    """Settings for a server: what is known already, then what is asked for."""
    if username and location.username and username != location.username:
        raise click.UsageError(f"the URL is for {location.username!r}, --username says otherwise")
    named = {"PICAS_USERNAME": username} if username else {}
    found = config.load(url, {**os.environ, **named})
    if username and found.username != username:
        found = _with_password(replace(found, username=username), None)
    if found.username is None and sys.stdin.isatty():
        found = replace(found, username=click.prompt("User name", err=True))
    if not location.server.is_private:
        common.note(f"warning: what is sent to {location.server} can be read by others; use https")
    if password_stdin:
        found = _with_password(found, _from_stdin())
    elif found.username and found.password is None:
        found = _with_password(found, _ask_password(f"Password of {found.username}"))
    if found.password and found.username is None:
        raise click.UsageError("There is a password but no user name; add --username.")
    return replace(found, ca_file=ca_file.absolute()) if ca_file else found


def _with_password(settings: Settings, password: Secret | None) -> Settings:
    """Settings with a password that was typed here, so that it is kept nowhere yet."""
    sources = {name: where for name, where in settings.sources.items() if name != "password"}
    return replace(settings, password=password, sources=sources)


def _init_couch(settings: Settings, report: Report, *, yes: bool, save: bool) -> None:
    _check_server(settings, report)
    if save:
        _save_couch(settings, report, yes=yes)
    made = _make_database(settings)
    line = f"{'made' if made else 'found'} the database {settings.pool.url}"
    report.say(line, pool=settings.pool.url, made=made)
    with open_pool(settings, create=False) as pool:
        _views(pool, made, report)
    if made:
        report.say(
            "only administrators may use it so far; others become members by its /_security "
            "(in Fauxton: Permissions)"
        )


def _save_couch(settings: Settings, report: Report, *, yes: bool) -> None:
    values: dict[str, Any] = {"pool": settings.pool.url}
    if settings.username:
        values["username"] = settings.username
    kept = settings.sources.get("password", "")
    if settings.password and kept != "keyring" and not kept.startswith("netrc"):
        values["password"] = settings.password
    if settings.ca_file:
        values["ca_file"] = str(settings.ca_file)
    _agree_to_replace(values, yes=yes)
    _save(values, report)


def _check_server(settings: Settings, report: Report) -> None:
    """Ask the server once without and once with our password, and say what it answered."""
    session = users.open_session(settings, anonymous=True)
    try:
        version: str | None = f"CouchDB {users.welcome(session)}"
    except Unauthorized:
        version = None
    finally:
        session.close()
    report.say(f"{version or 'a server'} answers at {session.base}", server=version)
    try:
        who = _identity(settings)
    except Unauthorized as error:
        password = "this password" if settings.password else "no password"
        raise Unauthorized(
            f"{session.base} refuses the user {settings.username!r} with {password}; nothing was "
            "written (after five wrong ones CouchDB locks this address out for a while)"
        ) from error
    rights = ", an administrator of the server" if who.admin else ""
    line = f"signed in as {who.name}{rights}" if who.name else "not signed in: no user name"
    report.say(line, username=who.name, admin=who.admin)


def _make_database(settings: Settings) -> bool:
    """Make the database; False if it is there already."""
    name = settings.username or "you"
    with closing(open_store(settings)) as store:
        try:
            there = store.exists()
        except (Forbidden, Unauthorized) as error:
            raise Forbidden(
                f"{name} may not use the database {store.url}; ask its administrator to make "
                f"{name} a member (in Fauxton: Permissions)"
            ) from error
        try:
            return not there and store.create()
        except (Forbidden, Unauthorized) as error:
            raise Forbidden(
                f"there is no database {store.url}, and only an administrator of the server may "
                f"make one; ask them to run 'picas init {store.url}' and to make {name} a member"
            ) from error


def _agree_to_replace(values: Mapping[str, Any], *, yes: bool) -> None:
    """Ask before a configuration of another pool or user is lost."""
    before = _saved()
    same = all(
        _plain(before).get(key) == values.get(key) for key in ("pool", "username") if key in before
    )
    if before and not same:
        path = config.config_path(os.environ)
        pool = redact(before.get("pool", "no pool"))
        who = f" as {before['username']}" if "username" in before else ""
        others = "--no-save leaves it, PICAS_CONFIG names another file"
        common.confirm(f"{path} is for {pool}{who} ({others}). Replace it?", yes=yes)


def _plain(values: Mapping[str, str]) -> dict[str, str]:
    """A file's values with the pool as `Settings` would show it."""
    try:
        location = config.parse_pool(values["pool"])
    except (ConfigError, KeyError):
        return dict(values)
    return {**values, "pool": location.url}


def _save(values: Mapping[str, Any], report: Report) -> None:
    path = config.config_path(os.environ)
    if _saved() == {k: v.reveal() if isinstance(v, Secret) else v for k, v in values.items()}:
        report.say(f"{path} has all of this already", config=str(path), saved=False)
        return
    secret = " (it holds your password; only you may read it)" if values.get("password") else ""
    config.save(path, values)
    report.say(f"wrote {path}{secret}", config=str(path), saved=True)


def _next_steps(settings: Settings, report: Report, *, save: bool) -> None:
    if not save:
        line = f"no configuration was written; name this pool by --pool {settings.pool.url}"
        report.say(f"{line}, or in PICAS_POOL", config=None, saved=False)
        return
    other = os.environ.get("PICAS_POOL")
    if other and config.parse_pool(other).url != settings.pool.url:
        common.note("warning: PICAS_POOL is set and goes before the file; unset it to use this one")
    report.say("next: 'picas push' adds tokens, 'picas run' runs them, 'picas doctor' checks more")


def _views(pool: Pool, made: bool, report: Report) -> None:
    """See to the standard views, which a pool that was just made has."""
    before, line = ensure_monitor(pool)
    if made:
        line = f"with the views {DEFAULT_DESIGN}/{{{', '.join(CLASSIC_VIEWS)}}}"
    report.say(line, views="made" if made or before is Monitor.MISSING else before.value)


# --- passwd --------------------------------------------------------------------------------------


@click.command("passwd")
@_stdin_option
@pool_option
def passwd_command(pool_url: str | None, password_stdin: bool) -> None:
    """Change your password on the CouchDB server, and here where it is kept.

    The present password is taken from where it is kept, or asked for; the new one is asked for
    twice, or is the line on standard input.
    """
    settings = common.settings(pool_url)
    location = settings.pool
    if isinstance(location, SqliteLocation):
        raise ConfigError(f"{location.url} is an embedded pool, which has no passwords")
    if settings.username is None:
        raise ConfigError("no user name is known; set PICAS_USERNAME or run 'picas init'")
    if settings.password is None:
        present = _ask_password(f"Present password of {settings.username}")
        settings = replace(settings, password=present)
    who = _identity(settings)
    new = _from_stdin() if password_stdin else _ask_password("New password", twice=True)
    if not new.reveal():
        raise click.UsageError("The new password is empty.")
    _change(settings, who, new)
    click.echo(f"changed the password of {settings.username} on {location.base_url}")
    click.echo(_keep(settings, new))


def _change(settings: Settings, who: users.Identity, new: Secret) -> None:
    session = users.open_session(settings)
    try:
        users.change_password(session, who, new.reveal())
    except PoolUnreachable as lost:
        # It may have been done: then the new password is the right one.
        try:
            _identity(replace(settings, password=new))
        except Unauthorized:
            raise lost from None
    finally:
        session.close()


def _identity(settings: Settings) -> users.Identity:
    with closing(users.open_session(settings)) as session:
        return users.identity(session)


def _keep(settings: Settings, new: Secret) -> str:
    """Put the new password where the old one came from; returns a line for a person."""
    source = settings.sources.get("password", "")
    path = config.config_path(os.environ)
    if source == f"file {path}":
        values = {**_plain(_saved()), "username": settings.username, "password": new}
        config.save(path, values)
        return f"wrote it to {path}"
    if source == "keyring" and isinstance(settings.pool, CouchLocation):
        import keyring

        account = keyring_account(settings.pool.server, settings.username or "")
        keyring.set_password(KEYRING_SERVICE, account, new.reveal())
        return "wrote it to the keyring"
    if source:
        where = "PICAS_PASSWORD" if source == "environment" else f"the {source}"
        return f"{where} still has the old one: change it there, too"
    return "it is kept nowhere here; 'picas init' writes it to the configuration file"


def _ask_password(question: str, *, twice: bool = False) -> Secret:
    """Ask on the terminal, without showing what is typed."""
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{question}? There is no terminal to ask; use --password-stdin or set PICAS_PASSWORD"
        )
    return Secret(click.prompt(question, hide_input=True, confirmation_prompt=twice, err=True))


def _from_stdin() -> Secret:
    if sys.stdin.isatty():
        return _ask_password("Password")
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise ConfigError("there is no password on standard input")
    return Secret(password)


def _saved() -> dict[str, str]:
    """What the configuration file holds; nothing if there is none."""
    path = config.config_path(os.environ)
    config.load(config.DEFAULT_POOL)  # says what is wrong with the file, if anything is
    return tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
