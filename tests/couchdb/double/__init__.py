"""A test double of CouchDB 3.5: its semantics over HTTP, in this process."""

from tests.couchdb.double.http import Fault, Reply, Request
from tests.couchdb.double.server import DoubleCouch

__all__ = ["DoubleCouch", "Fault", "Reply", "Request"]
