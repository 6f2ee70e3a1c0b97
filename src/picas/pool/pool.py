"""What can be done with the tokens of a pool: the meaning, once, over every store."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from picas import token
from picas.backoff import delays
from picas.errors import (
    Conflict,
    InputError,
    PoolError,
    PoolUnreachable,
    Refused,
    ServerError,
    TaskError,
    TokenMissing,
    TooLarge,
    ViewMissing,
)
from picas.pool.base import Changes, Store, Written
from picas.pool.files import send
from picas.pool.push import Pushed, PushState, document_bytes, same_work, too_large
from picas.pool.reap import Census, Reaped
from picas.pool.settle import Change, Settlement, Verdict, change_for
from picas.token import Document, Holder, State
from picas.views import Design, raw_design

CHUNK = 500
"""Documents a bulk write: what CouchDB takes fastest (docs/explanation/measurements.md)."""

CHUNK_BYTES = 4_000_000
"""Bytes of JSON after which a push sends what it has: keeps memory flat with large tokens."""

LOCKED_VIEW = "Monitor/locked"
"""Where the tokens of pilots that are gone are looked for."""

PILOT_PREFIX = "pilot_"
"""How the ids of pilots' own documents begin."""


@dataclass(frozen=True, slots=True)
class _Updated:
    """What became of one change: the document as it is now (None: gone), written or not."""

    doc: Document | None
    changed: bool = False
    error: PoolError | None = None


log = logging.getLogger("picas.pool")


class Pool:
    """The tokens of one database. Make one with `picas.connect`.

    One thread at a time settles and claims; the reading verbs may be called from any thread.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        # Claims whose reply was lost, by token id: the pool knows if they are ours.
        self._doubtful: dict[str, Document] = {}

    @property
    def url(self) -> str:
        """Where the pool is; holds no password."""
        return self.store.url

    @property
    def address(self) -> str:
        """The same for a process in any folder: an embedded pool's path is absolute in it."""
        return self.store.address

    def hurry(self, seconds: float) -> None:
        """Let no verb take longer than `seconds` from now on: this process has to end."""
        self.store.hurry(seconds)

    def now(self) -> float:
        """The pool's clock, in epoch seconds: the same for all its pilots."""
        return self.store.now()

    def close(self) -> None:
        """Give back connections."""
        self.store.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- tokens in -----------------------------------------------------------------------------

    def push(self, docs: Iterable[Document]) -> Iterator[Pushed]:
        """Add tokens, a chunk at a time, in flat memory.

        Args:
            docs: Tokens as `picas.token.new` makes them.

        Yields:
            One answer a token, in order. A lost reply is cleared up here: tokens are added once.

        Raises:
            InputError: A document is no token; nothing of its chunk was pushed.
            PoolUnreachable: The pool did not answer for about a minute.
        """
        chunk: list[Document] = []
        refused: dict[int, PoolError] = {}
        total = 0
        for doc in docs:
            token.check(doc)
            size = document_bytes(doc)
            if size > token.MAX_TOKEN_BYTES:
                refused[len(chunk)] = too_large(doc["_id"], size)
            chunk.append(doc)
            total += size
            if len(chunk) >= CHUNK or total >= CHUNK_BYTES:
                yield from self._push_chunk(chunk, refused)
                chunk, refused, total = [], {}, 0
        if chunk:
            yield from self._push_chunk(chunk, refused)

    def _push_chunk(
        self, chunk: list[Document], refused: Mapping[int, PoolError]
    ) -> Iterator[Pushed]:
        """Push tokens, but for those refused already, by their place in the chunk."""
        results, resent = self._write_new([d for i, d in enumerate(chunk) if i not in refused])
        for i, error in refused.items():
            results.insert(i, Written(chunk[i]["_id"], None, error))
        clashed = [d for d, r in zip(chunk, results, strict=True) if isinstance(r.error, Conflict)]
        stored = dict(zip((d["_id"] for d in clashed), self._read(clashed), strict=True))
        for doc, result in zip(chunk, results, strict=True):
            if result.rev is not None:
                yield Pushed(result.id, PushState.ADDED)
            elif not isinstance(result.error, Conflict):
                yield Pushed(result.id, PushState.REFUSED, result.error)
            else:
                there = stored[result.id]
                if there is None or not same_work(doc, there):
                    yield Pushed(result.id, PushState.DIFFERENT, result.error)
                else:
                    first_sending = resent and there["_rev"].startswith("1-")
                    yield Pushed(result.id, PushState.ADDED if first_sending else PushState.PRESENT)

    def _write_new(self, chunk: list[Document]) -> tuple[list[Written], bool]:
        """Write new documents, again where no answer came; tells whether it had to."""
        for tries, wait in enumerate(islice(delays(0.5, 15), 8)):
            try:
                return self.store.write(chunk), tries > 0
            except PoolUnreachable:
                time.sleep(wait)
        return self.store.write(chunk), True

    # --- the life of a token -------------------------------------------------------------------

    def claim(self, view: str, limit: int, holder: Holder) -> list[Document]:
        """Take up to `limit` tokens of a view from todo to locked, for one pilot.

        Each is written against the exact revision in which it was seen free, so that of several
        pilots one gets it (promise 1).

        Returns:
            The locked tokens, each with its lease; empty only if the view has no token left.

        Raises:
            PoolUnreachable: No answer. What the pool did grant comes with the next claim.
            ViewMissing: There is no such view.
            Forbidden: This user may read the view, but not claim.
        """
        granted = self.recover_claims()
        waits = delays(0.01, 1.0)
        while not granted:
            with self.store.exclusive():
                free = self.store.candidates(view, limit)
                if not free:
                    return []
                now = self.store.now()
                granted = self._write_claims(
                    [token.claim(doc, now, holder, token.new_lease()) for doc in free]
                )
            if not granted:
                time.sleep(next(waits))
        return granted

    def _write_claims(self, wanted: list[Document]) -> list[Document]:
        try:
            results = self.store.write(wanted)
        except (PoolUnreachable, ServerError):
            self._doubtful.update({doc["_id"]: doc for doc in wanted})
            raise
        granted = [
            {**doc, "_rev": result.rev}
            for doc, result in zip(wanted, results, strict=True)
            if result.rev is not None
        ]
        refused = [r.error for r in results if r.error and not isinstance(r.error, Conflict)]
        if refused and not granted:
            raise refused[0]  # asking again would meet the same
        return granted

    @property
    def in_doubt(self) -> list[str]:
        """Ids of tokens whose claim got no answer: they may be locked for us."""
        return list(self._doubtful)

    def recover_claims(self) -> list[Document]:
        """Read back the claims that got no answer; returns those that were granted."""
        if not self._doubtful:
            return []
        docs = self.store.read(list(self._doubtful))
        wanted = list(self._doubtful.values())
        self._doubtful.clear()
        return [
            doc
            for doc, claimed in zip(docs, wanted, strict=True)
            if token.holds(doc, claimed) and doc
        ]

    def settle(self, settlements: Sequence[Settlement]) -> list[Verdict]:
        """Record results, each once and only by the holder of the lease (promises 2, 3, 7).

        A token that was edited meanwhile keeps the edit. Calling again after `PoolUnreachable` is
        right: what was recorded the first time is recognised.

        Returns:
            One verdict a result, in order.

        Raises:
            PoolUnreachable: No answer: some may have been recorded.
        """
        verdicts: dict[int, Verdict] = {}
        changes: list[tuple[Document, Change]] = []
        order: list[int] = []
        now = self.store.now()
        for i, settlement in enumerate(settlements):
            try:
                token.check_fields(settlement.token["_id"], settlement.outcome.fields)
                base, attachments = send(self.store, settlement)
            except (InputError, TaskError, TooLarge, Refused, OSError, ValueError) as problem:
                verdicts[i] = self._settle_bare(settlement, problem)
            else:
                changes.append((base, change_for(settlement, attachments, now)))
                order.append(i)
        for i, result in zip(order, self._update(changes), strict=True):
            verdicts[i] = self._verdict(settlements[i], result)
        return [verdicts[i] for i in range(len(settlements))]

    def _verdict(self, settlement: Settlement, result: _Updated) -> Verdict:
        if result.error is not None:
            return self._settle_bare(settlement, result.error)
        return Verdict.RECORDED if token.ended(result.doc, settlement.lease) else Verdict.FENCED

    def _settle_bare(self, settlement: Settlement, why: Exception) -> Verdict:
        """Record that it ended, though its logs, files or fields cannot be stored."""
        if settlement.is_bare:
            log.error("%s: its result is refused: %s", settlement.token["_id"], why)
            return Verdict.REFUSED
        (verdict,) = self.settle([settlement.bare(str(why))])
        return Verdict.BARE if verdict is Verdict.RECORDED else verdict

    def release(self, tokens: Sequence[Document], reason: str = "") -> list[Verdict]:
        """Give claimed tokens back untouched; costs them no retry.

        Args:
            tokens: Documents as `claim` gave them.
            reason: Why, for the history; empty for tokens that never started.

        Returns:
            One verdict a token, in order.

        Raises:
            PoolUnreachable: No answer: some may have been given back.
        """
        now = self.store.now()

        def change(claimed: Document) -> Change:
            return lambda doc: (
                token.release(doc, now, reason) if token.holds(doc, claimed) else None
            )

        return [
            Verdict.REFUSED if u.error else Verdict.RECORDED if u.changed else Verdict.FENCED
            for u in self._update([(doc, change(doc)) for doc in tokens])
        ]

    def reset(self, ids: Iterable[str], *, locked_before: float | None = None) -> int:
        """Put tokens back to todo on a person's word: counts as a scrub, fences their pilots.

        Args:
            ids: Which; those that are todo already are left alone.
            locked_before: Only tokens locked at or before this epoch second.

        Returns:
            How many were reset.
        """
        now = self.store.now()

        def change(doc: Document) -> Document | None:
            if token.state(doc) in (None, State.TODO):
                return None
            if locked_before is not None and not 0 < token.locked_at(doc) <= locked_before:
                return None
            return token.reset(doc, now)

        return self._change_all(ids, change)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete tokens with their attachments; returns how many."""

        def change(doc: Document) -> Document | None:
            if doc.get("type") != "token":
                return None
            return {"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True}

        return self._change_all(ids, change)

    def reap(self, lease: float, *, thorough: bool = False) -> Reaped:
        """Give back the tokens of pilots whose heartbeat stopped; costs the tokens no retry.

        Args:
            lease: Seconds without a heartbeat after which a pilot counts as gone.
            thorough: Look at the locked tokens even if every pilot seems well: for those of
                pilots whose document is missing.
        """
        pilots = {doc["_id"]: doc for doc in self.pilots()}
        census = Census(pilots, self.store.now(), lease)
        gone = census.gone()
        if not gone and not thorough:
            return Reaped()

        def change(claimed: Document) -> Change:
            return lambda d: token.lost(d, census.now) if token.holds(d, claimed) else None

        lost = [doc for doc in self.find(LOCKED_VIEW) if census.lost(doc)]
        updated = [u for u in self._update([(doc, change(doc)) for doc in lost]) if u.changed]
        errors = sum(u.doc is not None and token.state(u.doc) is State.ERROR for u in updated)

        def bury(heartbeat: object) -> Change:
            return lambda d: {**d, "state": "lost"} if d.get("heartbeat") == heartbeat else None

        self._update([(pilots[p], bury(pilots[p].get("heartbeat"))) for p in gone])
        return Reaped(tuple(gone), len(updated) - errors, errors)

    # --- looking -------------------------------------------------------------------------------

    def get(self, token_id: str) -> Document:
        """One token, by its id or by a beginning of it that fits no other.

        Raises:
            TokenMissing: None, or several, begin so.
        """
        doc = self.store.read([token_id])[0] if token_id else None
        if doc is not None:
            return doc
        near = [i for i in self.store.ids(token_id, 4) if not i.startswith("_")] if token_id else []
        if len(near) == 1 and (doc := self.store.read(near)[0]) is not None:
            return doc
        if near:
            some = ", ".join(near[:3]) + (", …" if len(near) > 3 else "")
            raise TokenMissing(f"{token_id!r} fits several tokens ({some}); give more of the id")
        raise TokenMissing(f"no token {token_id!r} in {self.url}")

    def find(self, view: str, *, after: str = "", limit: int | None = None) -> Iterator[Document]:
        """The tokens of a view in the order of their ids, in flat memory."""
        return self.store.find(view, after=after, limit=limit)

    def count(self, view: str) -> int:
        """How many tokens a view holds."""
        return self.store.count(view)

    def counts(self, design: str = "Monitor") -> dict[State, int]:
        """Tokens of each state, by the views of one design."""
        return dict.fromkeys(State, 0) | self.store.counts(design)

    def attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        """The bytes of an attachment, in pieces; raises `TokenMissing` if there is none."""
        return self.store.read_attachment(token_id, name)

    def changes(self, since: str | None, *, timeout: float, todo: bool = False) -> Changes:
        """Wait for documents to change; see `Store.changes`."""
        return self.store.changes(since, timeout=timeout, todo=todo)

    # --- pilots and views ----------------------------------------------------------------------

    def pilots(self) -> list[Document]:
        """The documents of the pool's pilots, past ones included."""
        docs = self.store.read(self.store.ids(PILOT_PREFIX, 100_000))
        return [doc for doc in docs if doc is not None and doc.get("type") == "pilot"]

    def save_pilot(self, doc: Document) -> Document:
        """Write a pilot's own document over whatever is there; returns it with its revision."""
        (updated,) = self._update(
            [(doc, lambda now: {**doc, **({"_rev": now["_rev"]} if "_rev" in now else {})})]
        )
        if updated.error is not None:
            raise updated.error
        return updated.doc or {name: value for name, value in doc.items() if name != "_rev"}

    def designs(self) -> dict[str, Design]:
        """The designs (groups of views) of this pool, by name."""
        return {name: Design.from_document(doc) for name, doc in self.store.designs().items()}

    def add_design(self, design: Design) -> bool:
        """Add or replace a design; False if it was there already, the same.

        Raises:
            Forbidden: Only an administrator of the database may add views.
        """
        wanted = design.document()
        there = self.store.read([wanted["_id"]])[0]
        if there is not None:
            rev = there.pop("_rev")
            if there == wanted:
                return False
            wanted["_rev"] = rev
        self._write_one(wanted)
        return True

    def add_raw_design(self, name: str, views: Mapping[str, Mapping[str, str]]) -> None:
        """Add or replace a design of views in JavaScript, which only CouchDB runs.

        Args:
            name: The part before the slash.
            views: By the name behind the slash, what `picas.views.raw_view` makes.

        Raises:
            InputError: The design cannot have that name.
            Unsupported: The pool is an embedded one.
        """
        doc = raw_design(name, views)
        there = self.store.read([doc["_id"]])[0]
        self._write_one(doc if there is None else {**doc, "_rev": there["_rev"]})

    def remove_design(self, name: str) -> None:
        """Delete a design; raises `ViewMissing` if there is none."""
        doc = self.store.read([f"_design/{name}"])[0]
        if doc is None:
            raise ViewMissing(f"no views {name}/… in {self.url}; 'picas views list' shows all")
        self._write_one({"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True})

    # --- writing -------------------------------------------------------------------------------

    def _write_one(self, doc: Document) -> None:
        (result,) = self.store.write([doc])
        if result.error is not None:
            raise result.error

    def _read(self, docs: Sequence[Document]) -> list[Document | None]:
        return self.store.read([doc["_id"] for doc in docs]) if docs else []

    def _update(self, changes: Sequence[tuple[Document, Change]]) -> list[_Updated]:
        """Apply each change to its document; where that was edited meanwhile, to the newest."""
        results: dict[int, _Updated] = {}
        open_: list[tuple[int, Document | None]] = [(i, doc) for i, (doc, _) in enumerate(changes)]
        waits = delays(0.01, 1.0)
        while open_:
            wanted: list[tuple[int, Document]] = []
            for i, base in open_:
                changed = None if base is None else changes[i][1](base)
                if changed is None:
                    results[i] = _Updated(base)
                else:
                    wanted.append((i, changed))
            clashed = self._write_changed(wanted, results)
            fresh = self._read([changes[i][0] for i in clashed])
            open_ = list(zip(clashed, fresh, strict=True))
            if open_:
                time.sleep(next(waits))
        return [results[i] for i in range(len(changes))]

    def _write_changed(
        self, wanted: list[tuple[int, Document]], results: dict[int, _Updated]
    ) -> list[int]:
        """Write, note what became of each in `results`, and return those that met a conflict."""
        clashed = []
        written = self.store.write([doc for _, doc in wanted]) if wanted else []
        for (i, doc), answer in zip(wanted, written, strict=True):
            if answer.rev is not None:
                results[i] = _Updated({**doc, "_rev": answer.rev}, changed=True)
            elif isinstance(answer.error, Conflict):
                clashed.append(i)
            else:
                results[i] = _Updated(doc, error=answer.error)
        return clashed

    def _change_all(self, ids: Iterable[str], change: Change) -> int:
        """Change many documents by id, a chunk at a time; returns how many were changed."""
        source = iter(ids)
        total = 0
        while chunk := list(islice(source, CHUNK)):
            docs = [doc for doc in self.store.read(chunk) if doc is not None]
            for updated in self._update([(doc, change) for doc in docs]):
                if updated.error is not None:
                    raise updated.error
                total += updated.changed
        return total
