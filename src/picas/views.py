"""Named views: defined once, compiled to a CouchDB design document and to SQL.

A view is named ``design/view``. Each design of ours holds the same five views: one for each state
a token can be in, and ``overview_total``, which counts them. A design may narrow them all by a
condition on the tokens' fields (see `picas.conditions`). The design ``Monitor`` has none: it is
the one that classic clients use.

On CouchDB a design has one more document, which only pilots read: the index of its free tokens, in
which they look for work (see `picas.pool.couchdb.work`).

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

STATE_CONDITIONS: Mapping[str, str] = {
    TODO: "doc.lock == 0 && doc.done == 0",
    LOCKED: "doc.lock > 0 && doc.done == 0",
    DONE: "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    ERROR: "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}
"""What each state is in JavaScript, for documents whose type is ``token``."""

STANDARD_VIEWS = (*STATE_CONDITIONS, OVERVIEW)
"""The views of every design of ours."""

DEFAULT_DESIGN = "Monitor"
_PREFIX = "_design/"
_CLAIMS_PREFIX = "picas-claims-"
_FREE = "free"


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
        _check_design(self.name)
        return {
            "_id": f"{_PREFIX}{self.name}",
            "language": "javascript",
            "views": _compiled(self.where),
            "picas": {"where": None if self.where is None else self.where.text},
        }

    def claims(self) -> Document:
        """The design document with the index in which pilots look for work, for CouchDB.

        Its rows are keyed by the time until which the token waits (0: it does not) and by a hash of
        its id; their values hold what the token needs, if anything. It is not brought up to date
        in the background (``autoupdate``): those who read it do that.

        Raises:
            Unsupported: The design is raw.
        """
        also = "" if self.where is None else f" && ({self.where.javascript()})"
        condition = f'doc.type == "token" && {STATE_CONDITIONS[TODO]}{also}'
        return {
            "_id": f"{_PREFIX}{_CLAIMS_PREFIX}{self.name}",
            "language": "javascript",
            "autoupdate": False,
            "views": {_FREE: raw_view(_FREE_MAP % condition)},
        }

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> "Design":
        """Read a design document: ours, one with the views of a classic ``Monitor``, or raw."""
        name = str(doc.get("_id", "")).removeprefix(_PREFIX)
        views = doc.get("views")
        views = views if isinstance(views, Mapping) else {}
        if doc.get("language", "javascript") == "javascript":
            if "picas" in doc:
                known, where = _read_where(doc["picas"])
                if known and views == _compiled(where):
                    return Design(name, where)
            elif _normal_views(views) == _normal_views(_compiled(None)):
                return Design(name)
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
        selected = "state IS NOT NULL" if view == OVERVIEW else f"state = '{view}'"
        return selected if self.where is None else f"{selected} AND ({self.where.sql('body')})"


# FNV-1a, 32 bits, by shifts: JavaScript's numbers have no room for the product. Source: G. Fowler,
# L. C. Noll, K.-P. Vo, D. Eastlake, "The FNV Non-Cryptographic Hash Algorithm", IETF draft.
_FREE_MAP = """\
function (doc) {
  if (%s) {
    var names = ["cores", "memory", "gpus", "avoid", "avoid_until"];
    var hash = 2166136261, needs = null;
    for (var i = 0; i < doc._id.length; i++) {
      hash ^= doc._id.charCodeAt(i);
      hash = (hash + (hash << 1) + (hash << 4) + (hash << 7) + (hash << 8) + (hash << 24)) >>> 0;
    }
    for (var j = 0; j < names.length; j++) {
      if (doc[names[j]] !== undefined) {
        needs = needs || {};
        needs[names[j]] = doc[names[j]];
      }
    }
    var waits = typeof doc.not_before == "number" && doc.not_before > 0;
    emit([waits ? doc.not_before : 0, hash], needs);
  }
}"""

MONITOR = Design(DEFAULT_DESIGN)
"""The standard views of all tokens, the same that classic clients use."""


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


def claim_index(design: str) -> str:
    """The name of the view in which pilots look for the free tokens of a design."""
    return f"{_CLAIMS_PREFIX}{design}/{_FREE}"


def is_claim_index(design: str) -> bool:
    """Tell whether a design is one that `Design.claims` made."""
    return design.startswith(_CLAIMS_PREFIX)


def raw_design(name: str, views: Mapping[str, Mapping[str, str]]) -> Document:
    """The design document of views in JavaScript, each as `raw_view` makes it.

    Raises:
        InputError: The design cannot have that name.
    """
    _check_design(name)
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


def _check_design(name: str) -> None:
    """Raise `InputError` if a new design cannot have that name."""
    _check_name(name, name)
    if is_claim_index(name):
        raise InputError(
            f"{name!r} cannot name views: PiCaS keeps names that start with {_CLAIMS_PREFIX!r} "
            "for itself; choose another name"
        )


def _compiled(where: Condition | None) -> dict[str, dict[str, str]]:
    """The views of a design of ours."""
    also = "" if where is None else f" && ({where.javascript()})"
    views = {
        state: raw_view(_map_function([_branch(condition + also, "doc._id, doc._id")]))
        for state, condition in STATE_CONDITIONS.items()
    }
    branches = [_branch(c + also, f'"{state}", 1') for state, c in STATE_CONDITIONS.items()]
    return views | {OVERVIEW: raw_view(_map_function(branches), "_sum")}


def _branch(condition: str, row: str) -> str:
    return f"    if ({condition}) {{\n      emit({row});\n    }}\n"


def _map_function(branches: list[str]) -> str:
    return f'function (doc) {{\n  if (doc.type == "token") {{\n{"".join(branches)}  }}\n}}'


def _read_where(field: Any) -> tuple[bool, Condition | None]:
    """The condition that our field in a design document tells; False if it cannot be read."""
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
