"""The documents of the classic API: dicts with the methods by which scripts change them.

A method changes the document in memory and returns it, so that calls can be chained; nothing is
written before it is saved (`picas.clients.CouchDB.save`).
"""

import base64
import mimetypes
import socket
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Self
from uuid import uuid4

from picas import jobid
from picas.token import CLASSIC_DEFAULTS, scrub_count
from picas.util import merge_dicts, seconds


class Document(MutableMapping[str, Any]):
    """A document of the database.

    Args:
        data: Its fields, or another document.
        base: Fields that it gets where it has none of these names; only one that is not from a
            database (without ``_rev``) gets them.
    """

    def __init__(
        self,
        data: "Mapping[str, Any] | Document | None" = None,
        base: Mapping[str, Any] | None = None,
    ) -> None:
        fields: Any = data.value if isinstance(data, Document) else data
        if fields is None:
            fields = {}
        # One from the database is the dict that was given, not a copy: scripts hold on to both.
        self.doc: dict[str, Any] = fields if "_rev" in fields else merge_dicts(base or {}, fields)

    def __len__(self) -> int:
        return len(self.doc)

    def __getitem__(self, idx: str) -> Any:
        return self.doc[idx]

    def __setitem__(self, idx: str, value: Any) -> None:
        self.doc[idx] = value

    def __delitem__(self, idx: str) -> None:
        del self.doc[idx]

    def __contains__(self, idx: object) -> bool:
        return idx in self.doc

    def __iter__(self) -> Iterator[str]:
        return iter(self.doc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.doc.get('_id')!r}>"

    @property
    def id(self) -> str:
        """Its ``_id``; `AttributeError` if it has none."""
        if "_id" not in self.doc:
            raise AttributeError("the document has no _id yet")
        return str(self.doc["_id"])

    @id.setter
    def id(self, new_id: str) -> None:
        self.doc["_id"] = new_id

    @property
    def rev(self) -> str:
        """Its ``_rev``; `AttributeError` if it was never saved."""
        if "_rev" not in self.doc:
            raise AttributeError("the document has no _rev: it is not from the database")
        return str(self.doc["_rev"])

    @property
    def value(self) -> dict[str, Any]:
        """The dict itself, not a copy."""
        return self.doc

    def update(self, values: Any = (), /, **fields: Any) -> None:
        """Write fields into it."""
        self.doc.update(values, **fields)

    def put_attachment(self, name: str, data: str | bytes, mimetype: str | None = None) -> None:
        """Attach data; it goes into the database when the document is saved.

        Args:
            name: The attachment's name; what had that name is replaced.
            data: Bytes, or a text, which is stored in UTF-8.
            mimetype: Its media type; by default guessed from the name, else ``text/plain``.
        """
        kind = mimetype or mimetypes.guess_type(name)[0] or "text/plain"
        content = data if isinstance(data, bytes) else data.encode()
        encoded = base64.b64encode(content).decode()
        entry = {"content_type": kind, "data": encoded}
        self.doc.setdefault("_attachments", {})[name] = entry

    def get_attachment(self, name: str, retrieve_from_database: Any = None) -> dict[str, Any]:
        """What is known of an attachment.

        Args:
            name: Its name.
            retrieve_from_database: The client to read its bytes from, where the document has only
                a stub of it.

        Returns:
            ``content_type``, ``length`` and so on, and its bytes in ``data``, if they are here.

        Raises:
            KeyError: There is no attachment of that name.
        """
        entry = self.doc.get("_attachments", {})[name]
        attachment = {key: value for key, value in entry.items() if key != "data"}
        if "data" in entry:
            attachment["data"] = base64.b64decode(entry["data"])
        elif retrieve_from_database is not None:
            stream = retrieve_from_database.db.get_attachment(self.id, name)
            try:
                attachment["data"] = stream.read()
            finally:
                stream.close()
        return attachment

    def remove_attachment(self, name: str) -> Self:
        """Leave out an attachment; it is gone when the document is saved. `KeyError` if none."""
        del self.doc.get("_attachments", {})[name]
        return self

    def _update_hostname(self) -> Self:
        self.doc["hostname"] = socket.gethostname()
        return self


class User(Document):
    """A user of the CouchDB server, to be saved into its database ``_users``.

    Args:
        username: The name.
        password: The password; the server keeps a hash of it only.
        roles: Roles.
        data: More fields.
    """

    def __init__(
        self,
        username: str,
        password: str,
        roles: list[str] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        base = {
            "_id": f"org.couchdb.user:{username}",
            "name": username,
            "type": "user",
            "password": password,
            "roles": roles or [],
        }
        super().__init__(data, base)


class Task(Document):
    """A token, as actors are given them.

    Args:
        task: Its fields. Those of a token that is todo stand in where it has none; without an
            ``_id`` it gets one that is unique.
    """

    def __init__(self, task: "Mapping[str, Any] | Document | None" = None) -> None:
        super().__init__(task, CLASSIC_DEFAULTS)
        if "_id" not in self.doc:
            self.doc["_id"] = f"task_{uuid4().hex}"

    def lock(self) -> Self:
        """Todo to locked: the time, this host and the batch job are noted."""
        self.doc["lock"] = seconds()
        jobid.add_job_id(self.doc)
        return self._update_hostname()

    def done(self) -> Self:
        """Locked to done: the time is noted. The exit code is the caller's."""
        self.doc["done"] = seconds()
        return self

    @property
    def input(self) -> Any:
        """What the task is to work on."""
        return self.doc["input"]

    @input.setter
    def input(self, value: Any) -> None:
        self.doc["input"] = value

    @property
    def output(self) -> Any:
        """What the task found out."""
        return self.doc["output"]

    @output.setter
    def output(self, output: Any) -> None:
        self.doc["output"] = output

    @property
    def uploads(self) -> Any:
        """Where the task put its files."""
        return self.doc["uploads"]

    @uploads.setter
    def uploads(self, uploads: Any) -> None:
        self.doc["uploads"] = uploads

    def scrub(self) -> Self:
        """Any state to todo, counted in ``scrub_count``; the batch job is forgotten."""
        self.doc["scrub_count"] = scrub_count(self.doc) + 1
        self.doc.update({"done": 0, "lock": 0})
        jobid.remove_job_id(self.doc)
        return self._update_hostname()

    def error(self, msg: object = None, exception: BaseException | None = None) -> Self:
        """Any state to error, with a word in the list ``error``.

        Args:
            msg: What happened.
            exception: Its traceback goes into the list, too.
        """
        entry: dict[str, Any] = {"time": seconds()}
        if msg is not None:
            entry["message"] = str(msg)
        if exception is not None:
            entry["exception"] = "".join(traceback.format_exception(exception))
        self.doc.update({"lock": 99, "done": 99})
        if not isinstance(self.doc.get("error"), list):
            self.doc["error"] = self.get_errors() if self.doc.get("error") else []
        self.doc["error"].append(entry)
        return self

    def has_error(self) -> bool:
        """Tell whether `error` was called."""
        return bool(self.doc["lock"] == 99)

    def get_errors(self) -> list[Any]:
        """The words that `error` left; empty if there are none."""
        errors = self.doc.get("error", [])
        return errors if isinstance(errors, list) else [errors]

    def is_done(self) -> bool:
        """Tell whether it was closed, well or not."""
        return bool(self.doc["done"] != 0)


class Job(Document):
    """A job whose times are kept, and that is archived when it is over.

    Raises:
        ValueError: It has no ``_id``.
    """

    _BASE: Mapping[str, Any] = {
        "type": "job",
        "hostname": "",
        "start": 0,
        "done": 0,
        "queue": 0,
        "method": "",
        "archive": 0,
    }

    def __init__(self, job: "Mapping[str, Any] | Document") -> None:
        super().__init__(job, self._BASE)
        if "_id" not in self.doc:
            raise ValueError("a job needs an _id")

    def queue(self, method: str, host: str | None = None) -> Self:
        """Note that it waits, how it was submitted, and where to."""
        self.doc["method"] = method
        if host is not None:
            self.doc["hostname"] = host
        self.doc["queue"] = seconds()
        return self

    def start(self) -> Self:
        """Note that it runs, on this host."""
        self.doc.update({"start": seconds(), "done": 0, "archive": 0})
        return self._update_hostname()

    def finish(self) -> Self:
        """Note that it ended."""
        self.doc["done"] = seconds()
        return self

    def archive(self) -> Self:
        """Make it a document of its own, with another id, to be saved beside the present one."""
        if self.doc["done"] <= 0:
            self.doc["done"] = seconds()
        self.doc["archive"] = seconds()
        self.id = f"archived-{self.id}-{seconds()}"
        self.doc.pop("_rev", None)
        return self

    def is_done(self) -> bool:
        """Tell whether it ended."""
        return bool(self.doc["done"] != 0)
