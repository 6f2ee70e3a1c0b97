"""The requests that pilots make, made by hand in a database, one at a time or from threads."""

import base64
import itertools
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from tests.couchdb.raw import Raw

from benchmarks.scale.probe import checked
from picas import token
from picas.pool.reap import PILOT_PREFIX
from picas.token import Document, Holder, Outcome
from picas.views import DEFAULT_DESIGN, FREE, MONITOR

VIEWS: Document = {**MONITOR.document(), "autoupdate": False}
"""The standard views; brought up to date only when they are read, so that it can be measured."""

FREE_VIEW = f"/_design/{DEFAULT_DESIGN}/_view/{FREE}"

PUSH = 500

HOLDER = Holder(f"{PILOT_PREFIX}node-017.cluster.example_4711_0a1b2c3d", "node-017.cluster.example")


class Work:
    """The tokens of one database, as a pilot changes them.

    Args:
        database: A connection to it.
        log: Bytes of the two logs that settling a token attaches, in all.
    """

    def __init__(self, database: Raw, *, log: int = 0) -> None:
        self.database = database
        half = base64.b64encode(random.Random(1).randbytes(log // 2)).decode()
        self._log = {"content_type": "text/plain", "data": half} if log else None
        self._free: list[Document] = []
        self._held: list[Document] = []

    def push(self, number: int) -> None:
        """Add free tokens."""
        name = secrets.token_hex(4)
        for first in range(0, number, PUSH):
            docs = [
                token.new({"input": f"./analyse --field {i:06}"}, f"{name}_{i:06}")
                for i in range(first, min(first + PUSH, number))
            ]
            self._free += self._write(docs)

    def turn(self, batch: int) -> None:
        """Settle what is held, and claim so many: one request, as a pilot makes it."""
        now = time.time()
        took = Outcome(0, now - 1, now, "exit code 0", 1.0, cpu=0.9, memory=12_000_000)
        settled = [self._with_log(token.settle(doc, now, took)) for doc in self._held]
        fresh = [self._free.pop() for _ in range(batch)]
        claimed = [token.claim(doc, now, HOLDER, token.new_lease()) for doc in fresh]
        self._held = self._write([*settled, *claimed])[len(settled) :]

    def share(self, number: int) -> "list[Work]":
        """Divide the free tokens among so many pilots, each with a connection of its own."""
        parts = []
        for i in range(number):
            part = Work(self.another_connection())
            part._log, part._free = self._log, self._free[i::number]
            parts.append(part)
        return parts

    def another_connection(self) -> Raw:
        """One more connection to the same database."""
        mine = self.database.connection
        raw = Raw(f"http://{mine.host}:{mine.port}{self.database.prefix}")
        raw.headers = self.database.headers
        return raw

    def get_some(self, number: int) -> None:
        """Read so many free tokens, beside each other as those that a pilot claims are."""
        first = random.randint(0, len(self._free) - number)
        self.get([doc["_id"] for doc in self._free[first : first + number]])

    def get(self, ids: Sequence[str]) -> None:
        """Read documents."""
        checked(self.database.post("/_bulk_get", {"docs": [{"id": name} for name in ids]}))

    def read(self, limit: int, update: str = "false") -> None:
        """Read rows of the view of free tokens, from a place at random."""
        start = quote(json.dumps([0, random.choice(self._free)["_id"]]))
        query = f"reduce=false&limit={limit}&update={update}&startkey={start}&endkey=[0,%7B%7D]"
        checked(self.database.get(f"{FREE_VIEW}?{query}"))

    def _with_log(self, doc: Document) -> Document:
        if self._log is None:
            return doc
        names = [token.log_name(doc["_id"], stream) for stream in ("out", "err")]
        return {**doc, "_attachments": dict.fromkeys(names, self._log)}

    def _write(self, docs: Sequence[Document]) -> list[Document]:
        rows = checked(self.database.post("/_bulk_docs", {"docs": list(docs)}))
        return [
            {**{k: v for k, v in doc.items() if k != "_attachments"}, "_rev": row["rev"]}
            for doc, row in zip(docs, rows, strict=True)
        ]


class Pilots:
    """The documents of pilots in a database, and their heartbeats.

    Args:
        database: A connection to it.
        number: How many.
        beats: Revisions that each has already.
    """

    def __init__(self, database: Raw, number: int, beats: int = 1) -> None:
        self.database = database
        name = PILOT_PREFIX + "node-{0:05}.cluster.example_4711_{0:08x}"
        self.ids = [name.format(i) for i in range(number)]
        self._local = "0-0"
        self._turn = itertools.cycle(self.ids)
        past = [f"{i:032x}" for i in range(beats, 0, -1)]
        self._revs = dict.fromkeys(self.ids, f"{beats}-{past[0]}")
        history = {"_revisions": {"start": beats, "ids": past}}
        for first in range(0, number, PUSH):
            docs = [self._document(name) | history for name in self.ids[first : first + PUSH]]
            checked(database.post("/_bulk_docs", {"new_edits": False, "docs": docs}))

    def beat(self) -> None:
        """Write the next pilot's document, as its heartbeat does."""
        doc = self._document(next(self._turn))
        (row,) = checked(self.database.post("/_bulk_docs", {"docs": [doc]}))
        self._revs[doc["_id"]] = row["rev"]

    def beat_locally(self) -> None:
        """The same into a local document, which no feed, index or replication sees."""
        doc = self._document(self.ids[0])
        doc |= {"_id": f"_local/{doc['_id']}", "_rev": self._local}
        self._local = checked(self.database.put(f"/{doc['_id']}", doc))["rev"]

    def list_ids(self, *, docs: bool = False) -> None:
        """Look up the ids of all pilots, or their documents."""
        start, end = (quote(json.dumps(PILOT_PREFIX + last)) for last in ("", "\U0010ffff"))
        query = f"limit=100000&include_docs={json.dumps(docs)}&startkey={start}&endkey={end}"
        checked(self.database.get(f"/_all_docs?{query}"))

    def _document(self, name: str) -> Document:
        counters = dict.fromkeys(("done", "error", "scrubbed", "released", "fenced"), 7)
        facts: dict[str, Any] = {"slots": 8, "view": "Monitor/todo", "cores": 8, "gpus": 0}
        return {
            "_id": name,
            "_rev": self._revs[name],
            "type": "pilot",
            "hostname": "node-017.cluster.example",
            "pid": 4711,
            "version": "1.0.0",
            "slurm_job_id": "1234567",
            **facts,
            **counters,
            "state": "running",
            "started": time.time(),
            "heartbeat": time.time(),
            "running": ["0a1b2c3d_000017"],
            "unsettled": 0,
            "health": "",
        }


def together(works: Sequence[Callable[[], object]]) -> float:
    """Do several things at once, a thread each; returns the seconds it took."""
    threads = [threading.Thread(target=work) for work in works]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun
