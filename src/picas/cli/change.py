"""``picas reset`` and ``picas delete``: what a person does to many tokens at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import click

from picas import token
from picas.cli import common
from picas.cli.meter import Meter
from picas.cli.params import Duration
from picas.errors import TokenMissing
from picas.pool import Pool
from picas.token import Document, State
from picas.views import OVERVIEW, split

CHUNK = 500
"""Tokens changed between two looks at the progress."""

_DOING = {"reset": "resetting", "deleted": "deleting"}
_NAMED = 3
_STATES = {state.value: state for state in State}

Keep = Callable[[Document], str | None]
"""Why a token is left alone; None if it is to be changed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a person named: views, and tokens by their ids.

    Attributes:
        views: Names of views.
        ids: Ids of single tokens.
    """

    views: Sequence[str]
    ids: Sequence[str]

    @staticmethod
    def of(pool: Pool, arguments: Iterable[str]) -> "Selection":
        """Tell views from ids: the id of a token comes first, then a view, then part of an id.

        Raises:
            TokenMissing: There is no such token, or it is none.
        """
        views: dict[str, None] = {}
        ids: dict[str, None] = {}
        for name in arguments:
            doc = pool.store.read([name])[0] if name else None
            if doc is None and ("/" in name or name in (*_STATES, OVERVIEW)):
                views["/".join(split(name))] = None
                continue
            doc = doc or pool.get(name)
            if doc.get("type") != "token":
                raise TokenMissing(f"{doc['_id']!r} is in the pool, but it is no token")
            ids[doc["_id"]] = None
        return Selection(list(views), list(ids))

    @property
    def name(self) -> str:
        """What to call it in a question: the first few."""
        names = [*self.views, *self.ids]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return ", ".join(names[:_NAMED]) + more

    def changed(self, number: int) -> str:
        """What so many of it are called: views have tokens, ids are tokens."""
        if self.views:
            return f"{common.counted(number, 'token')} of {self.name}"
        all_ = len(self.ids)
        if number == all_ == 1:
            return f"token {self.name}"
        of = "" if number == all_ else f"{number:,} of "
        return f"{of}{common.counted(all_, 'token')}: {self.name}"

    def tokens(self, pool: Pool) -> Iterator[Document]:
        """The documents; views in the order of their ids, in flat memory."""
        for view in self.views:
            yield from pool.find(view)
        yield from (doc for doc in pool.store.read(self.ids) if doc is not None)

    def states(self, pool: Pool) -> Counter[State | None]:
        """How many tokens in which state."""
        counts: Counter[State | None] = Counter()
        for view in self.views:
            design, part = split(view)
            if part in _STATES:
                counts[_STATES[part]] += pool.count(view)
            elif part == OVERVIEW:
                counts.update(pool.counts(design))
            else:
                counts.update(token.state(doc) for doc in pool.find(view))
        docs = pool.store.read(self.ids)
        counts.update(token.state(doc) for doc in docs if doc is not None)
        return counts


@click.command("reset")
@click.argument("what", nargs=-1, required=True, metavar="VIEW|ID...")
@click.option(
    "--locked-for",
    type=Duration(),
    metavar="TIME",
    help="Only tokens that were claimed that long ago, or longer: 90s, 30m, 24h, 7d.",
)
@common.yes_option
@common.json_option
@common.pool_option
def reset_command(
    what: tuple[str, ...],
    locked_for: float | None,
    yes: bool,
    as_json: bool,
    pool_url: str | None,
) -> None:
    """Put tokens back to todo, to run once more.

    Name views (Monitor/error, or error for the same) and single tokens, by their id or its
    beginning. Their history and logs stay, and scrub_count goes up by one. A token that is todo
    already is left alone, unless it waits: then it may run at once. If a pilot runs one of them
    now, its result is not recorded.
    """
    with common.pool(pool_url) as pool:
        selection = Selection.of(pool, what)
        before = None if locked_for is None else pool.now() - locked_for

        def keep(doc: Document) -> str | None:
            return token.why_not_reset(doc, before)

        counts = _counts(selection, pool, None if before is None else keep)
        locked = counts[State.LOCKED]
        wanted = counts.total() - counts[State.TODO] - counts[None]
        warning = f" {_locked(locked)} result is not recorded then." if locked else ""
        question = f"Reset {selection.changed(wanted)} in {pool.url} to todo?"
        if wanted:
            common.confirm(question + warning, yes=yes)

        def change(ids: Sequence[str]) -> int:
            return pool.reset(ids, locked_before=before)

        report = common.Report(as_json=as_json)
        _change(selection, pool, "reset", keep, change, counts.total(), report)


@click.command("delete")
@click.argument("what", nargs=-1, required=True, metavar="VIEW|ID...")
@common.yes_option
@common.json_option
@common.pool_option
def delete_command(what: tuple[str, ...], yes: bool, as_json: bool, pool_url: str | None) -> None:
    """Delete tokens, with their logs and attachments.

    Name views (Monitor/done, or done for the same) and single tokens, by their id or its
    beginning. If a pilot runs one of them now, its result is lost.
    """
    with common.pool(pool_url) as pool:
        selection = Selection.of(pool, what)
        counts = _counts(selection, pool, None)
        locked = counts[State.LOCKED]
        warning = f" {_locked(locked)} result is lost then." if locked else ""
        if counts.total():
            what_all = selection.changed(counts.total())
            question = f"Delete {what_all} in {pool.url}, logs included, for good?"
            common.confirm(question + warning, yes=yes)

        def keep(doc: Document) -> str | None:
            return None if doc.get("type") == "token" else "no tokens"

        report = common.Report(as_json=as_json)
        _change(selection, pool, "deleted", keep, pool.delete, counts.total(), report)


def _counts(selection: Selection, pool: Pool, keep: Keep | None) -> Counter[State | None]:
    """How many tokens in which state; with `keep`, of those that are to be changed."""
    if keep is None:
        return selection.states(pool)
    docs = selection.tokens(pool)
    return Counter(token.state(doc) for doc in docs if keep(doc) is None)


def _change(
    selection: Selection,
    pool: Pool,
    done: str,
    keep: Keep,
    change: Callable[[Sequence[str]], int],
    total: int,
    report: common.Report,
) -> None:
    """Change the tokens a chunk at a time; says how many, and which not."""
    changed, kept = 0, Counter[str]()
    docs = selection.tokens(pool)
    try:
        with Meter(_DOING[done], "token", total) as meter:
            while chunk := list(islice(docs, CHUNK)):
                reasons = [keep(doc) for doc in chunk]
                kept.update(why for why in reasons if why is not None)
                ids = [d["_id"] for d, why in zip(chunk, reasons, strict=True) if why is None]
                number = change(ids) if ids else 0
                changed += number
                kept["changed or deleted by others meanwhile"] += len(ids) - number
                meter.advance(len(chunk))
    finally:
        line = f"{done} {selection.changed(changed)} in {pool.url}"
        report.say(line, pool=pool.url, **{done: changed}, left_alone=+kept)
        for why, number in (+kept).items():
            report.say(f"left alone {common.counted(number, 'token')}: {why}")
        report.end()


def _locked(number: int) -> str:
    if number == 1:
        return "One of them is locked: if a pilot runs it now, its"
    return f"{number:,} of them are locked: if a pilot runs one now, its"
