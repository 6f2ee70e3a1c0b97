"""What can be done with the tokens of a pool: the meaning, once, over every store."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from picas import token
from picas.backoff import delays
from picas.errors import (
    Conflict,
    PoolError,
    TokenMissing,
    ViewMissing,
)
from picas.logs import Excerpt
from picas.needs import Offer
from picas.pool.base import Candidates, Changes, Store
from picas.pool.exchange import Exchange, Wish
from picas.pool.files import stream
from picas.pool.push import Pushed, push
from picas.pool.reap import PILOT_PREFIX, Census, Reaped, Touch, forget, may_hold_tokens, reap
from picas.pool.release import release
from picas.pool.settings import SETTINGS_ID, PoolSettings
from picas.pool.settle import Settlement, Verdict
from picas.pool.update import change_all, update, write_one
from picas.token import Document, Holder, State
from picas.views import Design, raw_design

log = logging.getLogger("picas.pool")


class Pool:
    """The tokens of one database. Make one with `picas.connect`.

    One thread at a time settles and claims; the reading verbs may be called from any thread.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._exchange = Exchange(store)
        self._past_pilots: set[str] = set()
        self.touch = Touch()
        """Since when this process is in touch with the pool; for who notices that it is not."""

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

    def within(self, seconds: float) -> AbstractContextManager[object]:
        """A span in which no request of this thread takes longer than `seconds`."""
        return self.store.within(seconds)

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
        return push(self.store, docs)

    # --- the life of a token -------------------------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], wish: Wish | None
    ) -> tuple[list[Verdict], list[Document]]:
        """Record what ended and claim what comes next, both by one write; see `settle`, `claim`.

        Where the claim fails, results may have been recorded all the same: settle them again.
        Results are not held up by a long look for work: where none comes with them, claim by
        itself before you take the view to be empty.

        Args:
            settlements: Results to record.
            wish: What to claim; None for nothing.

        Returns:
            One verdict a result, in order, and the locked tokens.

        Raises:
            PoolUnreachable: No answer: some may have been recorded. What was granted comes with
                the next claim.
            ViewMissing: There is no such view.
            Forbidden: This user may not claim.
        """
        return self._exchange.make(settlements, wish)

    def claim(
        self, view: str, limit: int, holder: Holder, offer: Offer | None = None
    ) -> list[Document]:
        """Take up to `limit` tokens of a view from todo to locked, for one pilot.

        Each is written against the exact revision in which it was seen free, so that of several
        pilots one gets it (promise 1).

        Args:
            view: Which tokens.
            limit: How many at most.
            holder: Who claims.
            offer: What the pilot has for them; tokens that need more are passed over.

        Returns:
            The locked tokens, each with its lease; empty only if the view has no token left that
            is ready for this pilot (`passed_over` tells of those that are not).

        Raises:
            PoolUnreachable: No answer. What the pool did grant comes with the next claim.
            ViewMissing: There is no such view.
            Forbidden: This user may read the view, but not claim.
        """
        return self.exchange((), Wish(view, limit, holder, offer))[1]

    @property
    def passed_over(self) -> Candidates:
        """What the latest claim that came back empty passed over."""
        return self._exchange.passed_over

    @property
    def in_doubt(self) -> list[str]:
        """Ids of tokens whose claim got no answer, or was not read back: they may be ours."""
        return self._exchange.doubts.ids

    def recover_claims(self) -> list[Document]:
        """Read back the claims that are in doubt; returns those that were granted."""
        return self._exchange.doubts.resolve()

    def settle(self, settlements: Sequence[Settlement]) -> list[Verdict]:
        """Record results, each once and only by the holder of the lease (promises 2, 3, 7).

        A token that was edited meanwhile keeps the edit. Calling again after `PoolUnreachable` is
        right: what was recorded the first time is recognised.

        Returns:
            One verdict a result, in order.

        Raises:
            PoolUnreachable: No answer: some may have been recorded.
        """
        return self.exchange(settlements, None)[0]

    def release(
        self,
        tokens: Sequence[Document],
        reason: str = "",
        files: Mapping[str, Mapping[str, bytes | Path | Excerpt]] | None = None,
    ) -> list[Verdict]:
        """Give claimed tokens back untouched; costs them no retry.

        Args:
            tokens: Documents as `claim` gave them.
            reason: Why, for the history; empty for tokens that never started.
            files: By the lease of a token what is to be attached to it: short contents by name.
                What cannot be stored does not keep a token from being given back.

        Returns:
            One verdict a token, in order.

        Raises:
            PoolUnreachable: No answer: some may have been given back.
        """
        return release(self.store, tokens, reason, files or {})

    def attach(self, claimed: Document, name: str, file: Path) -> None:
        """Stream a file into a token as long as its lease stands; callable from any thread.

        Args:
            claimed: The document as `claim` gave it.
            name: Name of the attachment; one that is there is replaced.
            file: The file.

        Raises:
            TooLarge: The store does not take a file of that size.
            PoolUnreachable: No answer: it may have been attached.
        """
        stream(self.store, claimed, claimed, name, file)

    def reset(self, ids: Iterable[str], *, locked_before: float | None = None) -> int:
        """Put tokens back to todo on a person's word: counts as a scrub, fences their pilots.

        Args:
            ids: Which; those that are todo already, and wait for nothing, are left alone.
            locked_before: Only tokens locked at or before this epoch second.

        Returns:
            How many were reset.
        """
        now = self.store.now()

        def change(doc: Document) -> Document | None:
            left_alone = token.why_not_reset(doc, locked_before) is not None
            return None if left_alone else token.reset(doc, now)

        return change_all(self.store, ids, change)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete tokens with their attachments; returns how many."""

        def change(doc: Document) -> Document | None:
            if doc.get("type") != "token":
                return None
            return {"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True}

        return change_all(self.store, ids, change)

    def reap(
        self,
        lease: float,
        *,
        thorough: bool = False,
        tidy: bool = False,
        dead: Collection[str] = (),
    ) -> Reaped:
        """Give back the tokens of pilots whose heartbeat stopped; costs the tokens no retry.

        A single look finds nobody gone: after an outage all pilots are silent. Where it names
        suspects, look again every `picas.pool.reap.pause` seconds, for `grace` seconds.

        Args:
            lease: Seconds without a heartbeat after which a pilot counts as gone.
            thorough: Look at the locked tokens even if every pilot seems well: for those of
                pilots whose document is missing, or says that they hold none.
            tidy: Delete the documents of pilots that ended a month ago.
            dead: Ids of pilots that are gone by the word of a scheduler: these are not waited for.
        """
        try:
            begun = self.now()
            pilots = self.pilots(past=tidy)
            touch = self.touch.seconds(begun, self.now(), lease)
            holders = {doc["_id"]: doc for doc in pilots if may_hold_tokens(doc)}
            census = Census(holders, begun, lease, touch, dead)
            reaped = reap(self.store, census, thorough=thorough)
            if tidy:
                forget(self.store, pilots, begun)
        except PoolError:
            self.touch.broke()
            raise
        self._past_pilots -= set(reaped.suspects)
        return reaped

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

    def pilots(self, *, past: bool = True) -> list[Document]:
        """The documents of the pool's pilots.

        Args:
            past: Also of those that ended, or were found gone, and hold no tokens.

        Pilots ask often and most are past, so those are read once by each process; a call with
        `past` reads all anew.
        """
        ids = self.store.ids(PILOT_PREFIX, 100_000)
        found = self.store.read([i for i in ids if past or i not in self._past_pilots])
        docs = [doc for doc in found if doc is not None and doc.get("type") == "pilot"]
        holders = [doc for doc in docs if may_hold_tokens(doc)]
        # What is no pilot's document, though its id begins like one, is not read again either.
        known = self._past_pilots if not past else set()
        self._past_pilots = (known | set(ids)) - {doc["_id"] for doc in holders}
        return docs if past else holders

    def save_pilot(self, doc: Document, *, look_first: bool = False) -> Document:
        """Write a pilot's own document over whatever is there; returns it as it is then.

        Args:
            doc: The document; its revision, if it has one, is that of the last write.
            look_first: Read the present revision first: the reply to the last write was lost.
        """
        if look_first and (there := self.store.read([doc["_id"]])[0]) is not None:
            doc = {**doc, "_rev": there["_rev"]}

        def change(there: Document) -> Document | None:
            if there.get("state") == "ended" != doc.get("state"):
                return None  # a heartbeat that hung until after the last word
            # What others ask of the pilot stays until it was heard.
            return {**doc, **{name: there[name] for name in ("_rev", "asked") if name in there}}

        (updated,) = update(self.store, [(doc, change)])
        if updated.error is not None:
            raise updated.error
        return updated.doc or {name: value for name, value in doc.items() if name != "_rev"}

    def settings(self, *, lenient: bool = False) -> PoolSettings:
        """What is set for all pilots of this pool.

        Args:
            lenient: Pass over what cannot be read, instead of raising `ConfigError`.
        """
        doc = self.store.read([SETTINGS_ID])[0]
        if lenient:
            return PoolSettings.readable(doc)
        settings = PoolSettings.from_document(doc)
        if settings.unknown:
            log.warning(
                "the settings of the pool have %s, which this version of PiCaS does not know and "
                "passes over",
                ", ".join(settings.unknown),
            )
        return settings

    def change_settings(self, change: Callable[[Document], Document]) -> PoolSettings:
        """Change the pool's settings; returns what can be read of them as they are now.

        Args:
            change: Makes the new document from the one in the pool; all that it leaves alone stays.
        """
        for wait in delays(0.01, 1.0):
            there = self.store.read([SETTINGS_ID])[0]
            doc = change({"_id": SETTINGS_ID, "type": "settings", **(there or {})})
            try:
                write_one(self.store, doc)
            except Conflict:
                time.sleep(wait)
            else:
                break
        return PoolSettings.readable(doc)

    def designs(self) -> dict[str, Design]:
        """The designs (groups of views) of this pool, by name."""
        return {name: Design.from_document(doc) for name, doc in self.store.designs().items()}

    def add_design(self, design: Design) -> bool:
        """Add or replace a design; False if it was there already, the same.

        A CouchDB keeps designs in memory: it may answer by the one before for a moment.

        Raises:
            Forbidden: Only an administrator of the database may add views.
        """
        return self._replace(design.document())

    def _replace(self, doc: Document) -> bool:
        """Write a document over whatever is there; False if that is the same."""
        there = self.store.read([doc["_id"]])[0]
        if there is not None:
            doc = {**doc, "_rev": there["_rev"]}
        if doc == there:
            return False
        write_one(self.store, doc)
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
        self._replace(raw_design(name, views))

    def remove_design(self, name: str) -> None:
        """Delete a design; a CouchDB may answer by it for a moment more.

        Raises:
            ViewMissing: There is none.
        """
        doc = self.store.read([f"_design/{name}"])[0]
        if doc is None:
            raise ViewMissing(f"no views {name}/… in {self.url}; 'picas views list' shows all")
        write_one(self.store, {"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True})
