"""The embedded store: SQLite in a file."""

from picas.pool.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
