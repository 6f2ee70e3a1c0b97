"""Named views: defined once, compiled to a CouchDB design document and to SQL.

A view is named ``design/view``. Each design of ours holds the same six views: one for each state
a token can be in, ``overview_total``, which counts them, and ``free``, in which pilots look for
work (see `picas.pool.couchdb.work`). A design may narrow them all by a condition on the tokens'
fields (see `picas.conditions`). The design ``Monitor`` has none: it is the one that classic clients
use, who make it without ``free``.

The views' JavaScript compares loosely (``==``, ``parseInt``), as those of the classic ``Monitor``
do, so that both select the same tokens; `picas.token.state` has the same rules.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picas.conditions import Condition, parse
from picas.errors import ConditionError, InputError, Unsupported, ViewMissing
from picas.token import Document, State

TODO = State.TODO.value
LOCKED = State.LOCKED.value
DONE = State.DONE.value
ERROR = State.ERROR.value
OVERVIEW = "overview_total"
FREE = "free"
"""As ``todo``; ordered by the time until which a token waits (0: it does not), then by id, and with
what the token needs beside it."""

STATE_CONDITIONS: Mapping[str, str] = {
    TODO: "doc.lock == 0 && doc.done == 0",
    LOCKED: "doc.lock > 0 && doc.done == 0",
    DONE: "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    ERROR: "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}
"""What each state is in JavaScript, for documents whose type is ``token``."""

CLASSIC_VIEWS = (*STATE_CONDITIONS, OVERVIEW)
"""The views that a design must have."""

STANDARD_VIEWS = (*CLASSIC_VIEWS, FREE)
"""The views of every design of ours."""

DEFAULT_DESIGN = "Monitor"
_PREFIX = "_design/"


@dataclass(frozen=True, slots=True)
class Design:
    """A group of views that CouchDB keeps and indexes together.

    Attributes:
        name: The part before the slash in ``Monitor/todo``.
        where: Only tokens that match are in its views; None for all.
        raw: True for a design that is not ours: its views are JavaScript that only CouchDB runs.
        views: The names behind the slash.
    """

    name: str
    where: Condition | None = None
    raw: bool = False
    views: tuple[str, ...] = STANDARD_VIEWS

    def document(self) -> Document:
        """The design document, to be written into CouchDB.

        Raises:
            InputError: The design cannot have that name.
            Unsupported: The design is raw: its JavaScript is in the pool only.
        """
        if self.raw:
            raise Unsupported(
                f"the design {self.name} is JavaScript that PiCaS did not make; "
                "copy its document with a CouchDB tool"
            )
        _check_name(self.name, self.name)
        return {
            "_id": f"{_PREFIX}{self.name}",
            "language": "javascript",
            "views": _compiled(self.where),
            "picas": {"where": None if self.where is None else self.where.text},
        }

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> "Design":
        """Read a design document: ours, one with the views of a classic ``Monitor``, or raw."""
        name = str(doc.get("_id", "")).removeprefix(_PREFIX)
        views = doc.get("views")
        views = views if isinstance(views, Mapping) else {}
        if doc.get("language", "javascript") == "javascript":
            known, where = _read_where(doc)
            ours = _compiled(where)
            has_free = views.get(FREE) == ours[FREE]
            names = STANDARD_VIEWS if has_free else CLASSIC_VIEWS
            if known and _normal_views(views) == _normal_views({n: ours[n] for n in names}):
                return Design(name, where, views=names)
        return Design(name, raw=True, views=tuple(v for v, d in views.items() if _is_view(d)))

    def sql(self, view: str) -> str:
        """SQL that selects a view's rows in a table of tokens.

        Args:
            view: The name behind the slash.

        Returns:
            A condition on the columns ``state`` (text of `picas.token.state`, else NULL) and
            ``body`` (the document as JSON).

        Raises:
            Unsupported: The design is raw.
            ViewMissing: The design has no such view.
        """
        if self.raw:
            raise Unsupported(
                f"the views {self.name}/… are JavaScript, which only a CouchDB pool can run; "
                "give the design a condition instead"
            )
        if view not in self.views:
            raise ViewMissing(f"no view {self.name}/{view}; there are {', '.join(self.views)}")
        state = TODO if view == FREE else view
        selected = "state IS NOT NULL" if view == OVERVIEW else f"state = '{state}'"
        return selected if self.where is None else f"{selected} AND ({self.where.sql('body')})"


MONITOR = Design(DEFAULT_DESIGN)
"""The standard views of all tokens, the same that classic clients use."""


def work_of(name: str) -> str:
    """The view that pilots are to look at; a design's name alone means what is free in it.

    Raises:
        InputError: It cannot be the name of a view.
    """
    return "/".join(split(name if "/" in name else f"{name}/{TODO}"))


def split(view: str) -> tuple[str, str]:
    """Take a view's name apart: ``Monitor/todo``, or ``todo`` for the same.

    Returns:
        The design's name and the view's.

    Raises:
        InputError: It cannot be the name of a view.
    """
    design, slash, name = view.partition("/")
    parts = (design, name) if slash else (DEFAULT_DESIGN, design)
    for part in parts:
        _check_name(part, view)
    return parts


def raw_design(name: str, views: Mapping[str, Mapping[str, str]]) -> Document:
    """The design document of views in JavaScript, each as `raw_view` makes it.

    Raises:
        InputError: The design cannot have that name.
    """
    _check_name(name, name)
    return {
        "_id": f"{_PREFIX}{name}",
        "language": "javascript",
        "views": {view: dict(functions) for view, functions in views.items()},
    }


def raw_view(map_function: str, reduce_function: str | None = None) -> dict[str, str]:
    """A view as a design document holds it.

    Args:
        map_function: JavaScript that emits rows for a document.
        reduce_function: JavaScript, or the name of one that CouchDB has: ``_sum``.
    """
    view = {"map": map_function}
    return view if reduce_function is None else {**view, "reduce": reduce_function}


def _check_name(part: str, whole: str) -> None:
    if not part:
        why = "a part of it is empty"
    elif "/" in part:
        why = "it has more than one slash"
    elif part.startswith("_"):
        why = "CouchDB keeps names that start with '_' for itself"
    elif not part.isprintable():
        why = "it holds a character that cannot be printed"
    else:
        return
    raise InputError(f"{whole!r} cannot name a view: {why}; write it like Monitor/todo")


def _compiled(where: Condition | None) -> dict[str, dict[str, str]]:
    """The views of a design of ours."""
    also = "" if where is None else f" && ({where.javascript()})"
    views = {
        state: raw_view(_map_function([_branch(condition + also, "doc._id, doc._id")]))
        for state, condition in STATE_CONDITIONS.items()
    }
    branches = [_branch(c + also, f'"{state}", 1') for state, c in STATE_CONDITIONS.items()]
    overview = {OVERVIEW: raw_view(_map_function(branches), "_sum")}
    free = {FREE: raw_view(_FREE_MAP % (STATE_CONDITIONS[TODO] + also))}
    return views | overview | free


_FREE_MAP = """\
function (doc) {
  if (doc.type == "token" && %s) {
    var names = ["cores", "memory", "gpus", "time", "avoid", "avoid_until"], needs = null;
    for (var i = 0; i < names.length; i++) {
      if (doc[names[i]] !== undefined) {
        needs = needs || {};
        needs[names[i]] = doc[names[i]];
      }
    }
    var waits = typeof doc.not_before == "number" && doc.not_before > 0;
    emit([waits ? doc.not_before : 0, doc._id], needs);
  }
}"""


def _branch(condition: str, row: str) -> str:
    return f"    if ({condition}) {{\n      emit({row});\n    }}\n"


def _map_function(branches: list[str]) -> str:
    return f'function (doc) {{\n  if (doc.type == "token") {{\n{"".join(branches)}  }}\n}}'


def _read_where(doc: Mapping[str, Any]) -> tuple[bool, Condition | None]:
    """The condition that our field in a design document tells; False if it cannot be read."""
    field = doc.get("picas", {"where": None})
    text = field.get("where", "") if isinstance(field, Mapping) else ""
    try:
        return True, None if text is None else parse(text if isinstance(text, str) else "")
    except ConditionError:
        return False, None


def _is_view(definition: Any) -> bool:
    # CouchDB keeps modules for the views' JavaScript beside them, under "lib".
    return isinstance(definition, Mapping) and "map" in definition


def _normal_views(views: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        name: (_normal_map(view["map"]), _normal_reduce(view.get("reduce", "")))
        for name, view in views.items()
        if _is_view(view)
    }


def _normal_map(text: object) -> str:
    """JavaScript without what is mere style: spaces, quotes, semicolons, ``if`` inside ``if``."""
    text = re.sub(r"[\s;]", "", str(text)).replace("'", '"')
    return text.replace("){if(", "&&").rstrip("}")


def _normal_reduce(text: object) -> str:
    short = _normal_map(text)
    is_sum = re.fullmatch(r"function\(\w+,(\w+)(,\w+)?\){returnsum\(\1\)", short)
    return "_sum" if is_sum else short
