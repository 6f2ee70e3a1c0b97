"""``picas views``: look at the named views of a pool, add and remove them."""

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from picas.cli import common
from picas.cli.common import json_option, pool_option, yes_option
from picas.conditions import Condition, parse
from picas.errors import Conflict, Forbidden, InputError, PoolError
from picas.pool import Pool
from picas.sweeps import OWN_FIELDS
from picas.token import Document
from picas.views import (
    CLASSIC_VIEWS,
    DEFAULT_DESIGN,
    FREE,
    MONITOR,
    OVERVIEW,
    STANDARD_VIEWS,
    Design,
)

ALL_TOKENS = "all tokens"
JAVASCRIPT = "(JavaScript)"
UNCHANGED = "unchanged"

_LOOKED_AT = 500


class Monitor(enum.Enum):
    """What a pool has under the name of the standard views."""

    MISSING = "missing"
    CURRENT = "current"
    """Those of this version."""
    CLASSIC = "classic"
    """Made by a classic client; selects the same tokens."""
    OTHER = "other"
    """Ours, of another version."""
    CUSTOM = "custom"
    """Somebody's own, with a view for every standard name."""
    INCOMPLETE = "incomplete"
    """Somebody's own, without some of the standard names."""


def monitor(doc: Document | None) -> Monitor:
    """Tell what the design document of the standard views is."""
    if doc is None:
        return Monitor.MISSING
    design = Design.from_document(doc)
    if not design.raw and design.where is None:
        if design.views == STANDARD_VIEWS:
            return Monitor.CURRENT
        return Monitor.OTHER if "picas" in doc else Monitor.CLASSIC
    if "picas" in doc:
        return Monitor.OTHER
    return Monitor.INCOMPLETE if missing_views(doc) else Monitor.CUSTOM


def missing_views(doc: Mapping[str, Any]) -> list[str]:
    """The standard names that a design document has no view for."""
    there = Design.from_document(doc).views
    return [name for name in CLASSIC_VIEWS if name not in there]


def ensure_monitor(pool: Pool) -> tuple[Monitor, str]:
    """Make the standard views where there are none; whatever is there is left alone.

    Returns:
        What was there before, and a line for a person.

    Raises:
        Forbidden: They are missing, and we may not add views.
    """
    before = monitor(pool.store.designs().get(DEFAULT_DESIGN))
    match before:
        case Monitor.MISSING:
            with _as_administrator("picas views create"):
                pool.add_design(MONITOR)
            line = f"made the views {DEFAULT_DESIGN}/{{{', '.join(CLASSIC_VIEWS)}}}"
        case Monitor.CURRENT:
            line = f"the {DEFAULT_DESIGN} views are there already"
        case Monitor.CLASSIC:
            line = (
                f"the {DEFAULT_DESIGN} views of a classic client are there; they stay as they are "
                "('picas views create --replace' puts ours there: pilots find work faster)"
            )
        case Monitor.OTHER:
            line = (
                f"the {DEFAULT_DESIGN} views are of another PiCaS version and stay; "
                "'picas views create' brings them up to date"
            )
        case Monitor.CUSTOM | Monitor.INCOMPLETE:
            line = f"there are {DEFAULT_DESIGN} views of somebody's own; they stay as they are"
    return before, line


@click.group("views")
def views_command() -> None:
    """Look at the pool's views, add views with a condition, remove them.

    A view picks tokens: Monitor/todo has all that wait. 'picas views add big --where "cores >= 8"'
    makes big/todo, for 'picas run --view big/todo'.
    """


@views_command.command("list")
@click.option("--counts", is_flag=True, help="Count the tokens of each state, too.")
@pool_option
@json_option
def list_views(pool_url: str | None, counts: bool, as_json: bool) -> None:
    """List the views of the pool."""
    with common.pool(pool_url) as pool:
        designs = [_described(pool, design, counts) for design in pool.designs().values()]
    if as_json:
        common.print_json(designs)
        return
    if not designs:
        common.note("there are no views; 'picas views create' makes the standard ones")
        return
    for line in _table(designs):
        click.echo(line)


@views_command.command("add")
@click.argument("name")
@click.option(
    "--where",
    "condition",
    metavar="CONDITION",
    required=True,
    help="Which tokens, by their fields: 'cores >= 8', 'site in (\"a\", \"b\")'.",
)
@pool_option
@yes_option
@json_option
def add_views(name: str, condition: str, pool_url: str | None, yes: bool, as_json: bool) -> None:
    """Add the views NAME/todo, NAME/locked, NAME/done, NAME/error and NAME/overview_total."""
    if name == DEFAULT_DESIGN:
        raise InputError(f"{DEFAULT_DESIGN} is for all tokens; choose another name for a condition")
    design = Design(name, parse(condition))
    design.document()
    with common.pool(pool_url) as pool:
        there = pool.designs().get(name)
        if there is not None and there != design:
            question = f"There are views {name} already: {_condition(there)}. Replace them?"
            common.confirm(question, yes=yes)
        with _as_administrator(f"picas views add {name} …"):
            added = pool.add_design(design)
        absent = [] if design.where is None else _absent(pool, design.where)
    done = ("replaced" if there else "added") if added else UNCHANGED
    told = "there already:" if done == UNCHANGED else done
    report = common.Report(as_json=as_json)
    report.say(
        f"{told} the views {name}/{{{', '.join(CLASSIC_VIEWS)}}}: {_condition(design)}",
        result=done,
        **_facts(design),
    )
    report.say(f"use them with: picas run --view {name}/todo")
    report.end()
    for field in absent:
        common.note(f"note: no token has a field {field!r}")


@views_command.command("create")
@click.option(
    "--replace",
    is_flag=True,
    help="Also in the place of those of a classic client, which pick the same tokens.",
)
@pool_option
@yes_option
@json_option
def create_views(pool_url: str | None, replace: bool, yes: bool, as_json: bool) -> None:
    """Make the standard views (Monitor) where they are missing."""
    with common.pool(pool_url) as pool:
        before, line = ensure_monitor(pool)
        done = "added" if before is Monitor.MISSING else UNCHANGED
        if before is Monitor.OTHER or (replace and before is Monitor.CLASSIC):
            whose = "a classic client" if before is Monitor.CLASSIC else "another PiCaS version"
            question = (
                f"The {DEFAULT_DESIGN} views are those of {whose}. CouchDB builds new ones from "
                "all documents: minutes for a million. Replace them?"
            )
            common.confirm(question, yes=yes)
            with _as_administrator("picas views create"):
                pool.add_design(MONITOR)
            done, line = "replaced", f"replaced the {DEFAULT_DESIGN} views by those of this version"
        elif before is Monitor.INCOMPLETE:
            (doc,) = pool.store.read([f"_design/{DEFAULT_DESIGN}"])
            raise Conflict(
                f"{line}, but {', '.join(missing_views(doc or {}))} are missing in them; "
                f"'picas views remove {DEFAULT_DESIGN}' makes room for the standard ones"
            )
        elif replace and before is Monitor.CUSTOM:
            raise Conflict(
                f"{line}: only those of a classic client are replaced; "
                f"'picas views remove {DEFAULT_DESIGN}' makes room for the standard ones"
            )
        design = pool.designs()[DEFAULT_DESIGN]
    report = common.Report(as_json=as_json)
    report.say(line, result=done, **_facts(design))
    report.end()


@views_command.command("remove")
@click.argument("name")
@pool_option
@yes_option
@json_option
def remove_views(name: str, pool_url: str | None, yes: bool, as_json: bool) -> None:
    """Remove the views NAME/…; the tokens stay."""
    with common.pool(pool_url) as pool:
        there = pool.designs().get(name)
        if there is not None and (there.raw or name == DEFAULT_DESIGN):
            which = "JavaScript of somebody's own" if there.raw else "the standard ones"
            common.confirm(f"The views {name} are {which}. Remove them?", yes=yes)
        with _as_administrator(f"picas views remove {name}"):
            pool.remove_design(name)
    report = common.Report(as_json=as_json)
    report.say(f"removed the views {name}", result="removed", design=name)
    report.end()


def _absent(pool: Pool, condition: Condition) -> list[str]:
    """Fields of a condition that no token has, as far as the first few tell."""
    try:
        docs = list(pool.find(f"{DEFAULT_DESIGN}/{OVERVIEW}", limit=_LOOKED_AT))
    except PoolError:
        return []  # Perhaps no standard views; the command has done its work all the same.
    absent = condition.absent(docs) if docs else []
    return [name for name in absent if name.partition(".")[0] not in OWN_FIELDS]


@contextmanager
def _as_administrator(command: str) -> Iterator[None]:
    """Say what to do where only an administrator of the database may do it."""
    try:
        yield
    except Forbidden as error:
        raise Forbidden(
            f"only an administrator of the database may change its views; ask them to run "
            f"'{command}' ({error})"
        ) from error


def _condition(design: Design) -> str:
    if design.raw:
        return JAVASCRIPT
    return ALL_TOKENS if design.where is None else design.where.text


def _facts(design: Design) -> dict[str, Any]:
    return {
        "design": design.name,
        "where": None if design.where is None else design.where.text,
        "javascript": design.raw,
        "views": list(design.views),
    }


def _described(pool: Pool, design: Design, counts: bool) -> dict[str, Any]:
    described = _facts(design)
    if counts and not design.raw:
        states = pool.store.counts(design.name)
        described["counts"] = {state.value: number for state, number in states.items()}
    return described


def _table(designs: list[dict[str, Any]]) -> Iterator[str]:
    """Three columns as wide as what is in them."""
    conditions = [JAVASCRIPT if d["javascript"] else d["where"] or ALL_TOKENS for d in designs]
    wide, wider = max(len(d["design"]) for d in designs), max(map(len, conditions))
    for design, condition in zip(designs, conditions, strict=True):
        names = [view for view in design["views"] if view != FREE]  # that one is for pilots
        views = ", ".join(_view(view, design.get("counts")) for view in names)
        yield f"{design['design']:{wide}}  {condition:{wider}}  {views}".rstrip()


def _view(name: str, counts: Mapping[str, int] | None) -> str:
    return name if counts is None or name == OVERVIEW else f"{name} {counts.get(name, 0):,}"
