"""From a URL to a pool."""

import os
from collections.abc import Mapping

from picas import config
from picas.config import Settings, SqliteLocation
from picas.errors import ConfigError, PoolMissing
from picas.pool.base import Store
from picas.pool.pool import Pool
from picas.pool.sqlite import SqliteStore


def connect(url: str | None = None, *, create: bool | None = None) -> Pool:
    """Open a pool.

    Args:
        url: ``sqlite:///path`` or ``http(s)://host:port/database``; by default what
            ``PICAS_POOL`` or the configuration file says, else ``picas.db`` in this folder.
            User name and password come from there too.
        create: Make the pool if it is missing. By default only an embedded one is made.

    Raises:
        ConfigError: The URL or a secret cannot be used.
        Unsupported: An embedded pool on a network file system.
        PoolMissing: It does not exist and was not to be made.
    """
    return open_pool(config.load(url), create=create)


def open_pool(settings: Settings, *, create: bool | None = None) -> Pool:
    """Open the pool that the settings name; see `connect`."""
    store = open_store(settings)
    wanted = not store.shared if create is None else create
    if wanted:
        try:
            store.create()
        except BaseException:
            store.close()
            raise
    elif not store.shared and not store.exists():
        raise PoolMissing(
            f"there is no pool at {store.url}; 'picas push' or 'picas init' makes one, "
            "--pool or PICAS_POOL names another"
        )
    return Pool(store)


def open_store(settings: Settings) -> Store:
    """The store behind a pool, whether or not its database exists."""
    location = settings.pool
    if isinstance(location, SqliteLocation):
        return SqliteStore(location.path)
    # Here, since its HTTP library is most of what a start costs, and an embedded pool has none.
    from picas.pool.couchdb import CouchStore, Session

    password = settings.password.reveal() if settings.password else None
    session = Session(location.base_url, settings.username, password, settings.ca_file)
    return CouchStore(session, location.database, verify=_verify_claims(os.environ))


def _verify_claims(environ: Mapping[str, str]) -> bool | None:
    """What ``PICAS_VERIFY_CLAIMS`` says; None if it leaves that to the server."""
    text = environ.get("PICAS_VERIFY_CLAIMS", "")
    if text not in ("", "0", "1"):
        raise ConfigError(
            f"PICAS_VERIFY_CLAIMS={text!r}: write 1 to read claims back before they count, 0 not to"
        )
    return text == "1" if text else None
