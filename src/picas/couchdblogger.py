"""Log records as documents of a database, in the classic API."""

import logging
import secrets
import socket
import sys
import threading
from urllib.parse import urlsplit

from picas.clients import CouchDB
from picas.credentials import redact
from picas.documents import Document

default_log_formatter = logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s")


class CouchDBLogger(logging.Handler):
    """Writes each log record into a database, as a document of type ``log``.

    A record that cannot be written is told on standard error, and the program goes on.

    Args:
        url: The server, as for `picas.clients.CouchDB`; user name and password may be in it.
        db: The database.
        client: A client to use instead of a new one.
    """

    def __init__(self, url: str, db: str, client: CouchDB | None = None) -> None:
        super().__init__()
        self.client = client or CouchDB(url, db)
        self.db = self.client.db
        self.hostname = socket.gethostname()
        self.trace_nr = secrets.randbelow(100_000)
        self._writing = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; called by `logging`."""
        if record.name.startswith("picas.pool") or hasattr(self._writing, "now"):
            return  # writing it makes such records itself
        self._writing.now = True
        try:
            self.client.save(self._document(record))
        except Exception as error:  # noqa: BLE001 - a log must not end the program
            where = urlsplit(self.client.pool.url).hostname or self.client.pool.url
            text = redact(f"PiCaS: a log record was not written to {where}: {error}")
            if sys.stderr is not None:
                print(text, file=sys.stderr)
        finally:
            del self._writing.now

    def _document(self, record: logging.LogRecord) -> Document:
        return Document(
            {
                "_id": f"log_{self.hostname}_{record.created:.6f}_{secrets.token_hex(4)}",
                "type": "log",
                "lvl": record.levelno,
                "msg": record.getMessage(),
                "created": record.created,
                "func": record.funcName,
                "host": self.hostname,
                "trance_nr": self.trace_nr,
            }
        )
