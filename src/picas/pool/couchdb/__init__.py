"""The distributed store: any CouchDB 3."""

from picas.pool.couchdb.http import Session
from picas.pool.couchdb.store import CouchStore

__all__ = ["CouchStore", "Session"]
