"""The double as a server that tests start."""

from tests.couchdb.server import CouchServer


class DoubleCouch(CouchServer):
    """A double of CouchDB; being written."""

    kind = "double"
    version = "3.5.0"
    origin = "tests/couchdb/double"

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""
