"""Conditions on a token's fields: one language, three readings (Python, JavaScript, SQL).

``input.site == "a" and 1 < cores <= 4`` compares fields with numbers, texts (in quotes) and
``true`` or ``false``, by ``== != < <= > >=``, ``in [..]`` and ``not in [..]``, joined by ``and``,
``or``, ``not`` and parentheses. A field inside another is reached by a dot; a name that is no
plain word by brackets: ``input["my-field"]``. ``doc`` is the document itself: ``doc["class"]`` is
the field *class*, and ``doc.cores`` the same as ``cores``.

What it means, to every store alike:

- A field that is missing or null never matches, not even under ``not``: ``not (cores == 4)`` is
  ``cores != 4``, which is about tokens that have cores.
- Only like is equal to like: ``4 == 4.0``, but 4 is neither ``"4"`` nor ``true``. Unlike values,
  objects and arrays are equal to nothing, so ``!=`` matches them.
- Only two numbers or two texts have an order; nothing else matches ``< <= > >=``.

Texts are ordered by code point; CouchDB differs for characters beyond U+FFFF, which JavaScript
holds as two halves. Numbers are compared as JavaScript's (double precision). Letters beyond ASCII
in a name without brackets are read in Unicode's NFKC form, as in Python. SQLite (3.40 for one)
reads a text in a document only up to a NUL character.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 20_000
"""Characters in a condition."""
MAX_COMPARISONS = 100
"""Comparisons in a condition; the entries of a list after ``in`` count as one."""
MAX_DEPTH = 12
"""Parentheses and ``not`` inside one another (SQLite's parser takes about a hundred symbols)."""
MAX_PATH = 10
"""Names in a field: ``input.site`` has two."""
MAX_INTEGER = 2**53
"""JavaScript's numbers lose digits beyond this."""

ALLOWED = (
    'allowed are field names, numbers, "texts", true, false, lists after in, '
    "== != < <= > >= in, not in, and, or, not, and parentheses"
)

Scalar = bool | int | float | str
Path = tuple[str, ...]

ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NEGATED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ODD_NAME = re.compile(r'[^ -~]|["\\]')


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a document's fields; made by `parse`.

    Attributes:
        text: As the user wrote it.
    """

    text: str
    _root: "Node"

    def matches(self, doc: Mapping[str, Any]) -> bool:
        """Tell whether a document matches."""
        return self._root.matches(doc)

    def absent(self, docs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Its fields that none of the documents has, as ``a.b``: misspelled, perhaps."""
        paths = dict.fromkeys(self._root.paths())
        return [".".join(p) for p in paths if all(_look_up(doc, p) is None for doc in docs)]

    def javascript(self) -> str:
        """The condition as an ES5 expression over ``doc``; it never throws."""
        return self._root.javascript()

    def sql(self, body: str = "body") -> str:
        """The condition as an SQLite expression: true where it matches, else false or NULL.

        Args:
            body: The column (or expression) that holds the document as JSON.
        """
        return self._root.sql(body)


@dataclass(frozen=True, slots=True)
class FieldTest:
    """A field against literals: ``==`` to any, ``!=`` to all, or ordered against the only one."""

    path: Path
    op: str
    values: tuple[Scalar, ...]

    def paths(self) -> Iterator[Path]:
        yield self.path

    def matches(self, doc: Mapping[str, Any]) -> bool:
        value = _look_up(doc, self.path)
        if value is None:
            return False
        if self.op in ORDER:
            return _ordered(self.op, value, self.values[0])
        return any(_equal(value, other) for other in self.values) == (self.op == "==")

    def javascript(self) -> str:
        field, literals = _js_field(self.path), [_js_literal(value) for value in self.values]
        terms = _js_guards(self.path)
        if self.op in ORDER:
            kind = "string" if isinstance(self.values[0], str) else "number"
            terms += [f'typeof {field} === "{kind}"', f"{field} {self.op} {literals[0]}"]
            return " && ".join(terms)
        if self.op == "!=":
            terms.append(f"{field} != null")
        if len(literals) == 1:
            terms.append(f"{field} {self.op}= {literals[0]}")
        else:
            terms.append(f"[{', '.join(literals)}].indexOf({field}) {NEGATED[self.op]}= -1")
        return " && ".join(terms)

    def sql(self, body: str) -> str:
        kind = _sql_field(body, self.path, "type")
        value = _sql_field(body, self.path, "atom")
        if self.op in ORDER:
            return _sql_like(kind, value, self.values, f"{self.op} {_sql_literal(self.values[0])}")
        terms = [
            _sql_like(kind, value, like, _sql_one_of(like))
            for like in ([v for v in self.values if _comparable(v)[0] == k] for k in _KINDS)
            if like
        ]
        if self.op == "!=":
            return f"{kind} <> 'null' AND NOT ({' OR '.join(terms)})"
        return terms[0] if len(terms) == 1 else f"({' OR '.join(terms)})"


@dataclass(frozen=True, slots=True)
class FieldPair:
    """A field against another field."""

    left: Path
    op: str
    right: Path

    def paths(self) -> Iterator[Path]:
        yield from (self.left, self.right)

    def matches(self, doc: Mapping[str, Any]) -> bool:
        left, right = _look_up(doc, self.left), _look_up(doc, self.right)
        if left is None or right is None:
            return False
        if self.op in ORDER:
            return _ordered(self.op, left, right)
        return _equal(left, right) == (self.op == "==")

    def javascript(self) -> str:
        a, b = _js_field(self.left), _js_field(self.right)
        terms = list(dict.fromkeys([*_js_guards(self.left), *_js_guards(self.right)]))
        if self.op == "==":
            terms += [f'typeof {a} !== "undefined"', f'typeof {a} !== "object"', f"{a} === {b}"]
        elif self.op == "!=":
            terms += [f"{a} != null", f"{b} != null", f'(typeof {a} === "object" || {a} !== {b})']
        else:
            terms += [f'(typeof {a} === "number" || typeof {a} === "string")']
            terms += [f"typeof {a} === typeof {b}", f"{a} {self.op} {b}"]
        return " && ".join(terms)

    def sql(self, body: str) -> str:
        kinds = [_sql_field(body, path, "type") for path in (self.left, self.right)]
        values = [_sql_field(body, path, "atom") for path in (self.left, self.right)]
        op = "=" if self.op in ("==", "!=") else self.op
        reals = f" {op} ".join(f"CAST({value} AS REAL)" for value in values)
        texts = f" {op} ".join(values)
        ways = [
            f"({' AND '.join(f'{kind} {_SQL_NUMBER}' for kind in kinds)} AND {reals})",
            f"({' AND '.join(f'{kind} {_SQL_TEXT}' for kind in kinds)} AND {texts})",
        ]
        if op == "=":
            ways.append(f"({kinds[0]} IN ('true', 'false') AND {' = '.join(kinds)})")
        either = f"({' OR '.join(ways)})"
        if self.op == "!=":
            return f"{kinds[0]} <> 'null' AND {kinds[1]} <> 'null' AND NOT {either}"
        return either


@dataclass(frozen=True, slots=True)
class Group:
    """Several conditions of which all (``and``) or any (``or``) must match."""

    word: str
    parts: tuple["Node", ...]

    def paths(self) -> Iterator[Path]:
        for part in self.parts:
            yield from part.paths()

    def matches(self, doc: Mapping[str, Any]) -> bool:
        several = all if self.word == "and" else any
        return several(part.matches(doc) for part in self.parts)

    def javascript(self) -> str:
        return self._join(" && " if self.word == "and" else " || ", lambda p: p.javascript())

    def sql(self, body: str) -> str:
        return self._join(f" {self.word.upper()} ", lambda p: p.sql(body))

    def _join(self, between: str, text: Callable[["Node"], str]) -> str:
        # A comparison is one "and" of terms: it needs parentheses only for the reader of an "or".
        bare = self.word == "and"
        return between.join(
            text(part) if bare and not isinstance(part, Group) else f"({text(part)})"
            for part in self.parts
        )


Node = FieldTest | FieldPair | Group


# --- what a comparison means ---------------------------------------------------------------------


def _look_up(doc: Mapping[str, Any], path: Path) -> Any:
    value: Any = doc
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _comparable(value: Any) -> tuple[str, Any]:
    """A value's type, and what of it is compared: numbers as doubles, as JavaScript has them."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        try:
            return "number", float(value)
        except OverflowError:
            return "number", math.inf if value > 0 else -math.inf
    return ("text", value) if isinstance(value, str) else ("other", None)


def _equal(a: Any, b: Any) -> bool:
    kind, value = _comparable(a)
    return kind != "other" and (kind, value) == _comparable(b)


def _ordered(op: str, a: Any, b: Any) -> bool:
    (kind, left), (other, right) = _comparable(a), _comparable(b)
    return kind == other and kind in ("number", "text") and ORDER[op](left, right)


# --- JavaScript ----------------------------------------------------------------------------------

_INHERITED = re.compile(
    r"__\w+__|constructor|toString|toLocaleString|toSource|valueOf|watch|unwatch"
    r"|hasOwnProperty|isPrototypeOf|propertyIsEnumerable"
)
"""What every object has in JavaScript (also CouchDB's old engines) without it being a field."""


def _js_literal(value: Scalar) -> str:
    # JSON is JavaScript but for these two, which end a line there.
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _js_field(path: Path) -> str:
    plain = [(name, PLAIN_NAME.fullmatch(name)) for name in path]
    return "doc" + "".join(f".{n}" if ok else f"[{_js_literal(n)}]" for n, ok in plain)


def _js_guards(path: Path) -> list[str]:
    """Terms that must hold before the field may be read: it and what it is in are really there."""
    guards = []
    for index, name in enumerate(path):
        owner = _js_field(path[:index])
        if index:
            guards.append(f'Object.prototype.toString.call({owner}) === "[object Object]"')
        if _INHERITED.fullmatch(name):
            guards.append(f"Object.prototype.hasOwnProperty.call({owner}, {_js_literal(name)})")
    return guards


# --- SQL -----------------------------------------------------------------------------------------

_KINDS = ("number", "text", "boolean")
_SQL_NUMBER = "IN ('integer', 'real')"
_SQL_TEXT = "= 'text'"


def _sql_quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_literal(value: Scalar) -> str:
    return _sql_quote(value) if isinstance(value, str) else repr(value)


def _sql_field(body: str, path: Path, what: str) -> str:
    """An expression for the type (``what="type"``) or the value (``"atom"``) of a field."""
    if any(_ODD_NAME.search(name) for name in path):
        return _sql_odd_field(body, path, what)
    steps = (n if PLAIN_NAME.fullmatch(n) else f'"{n}"' for n in path)
    function = "json_type" if what == "type" else "json_extract"
    return f"{function}({body}, {_sql_quote('.'.join(['$', *steps]))})"


def _sql_odd_field(body: str, path: Path, what: str) -> str:
    """The same for names that SQLite's paths cannot hold, or find only as the JSON spells them."""
    tables = [f"json_each({body}) AS p0"]
    for i in range(1, len(path)):
        inner = f"CASE p{i - 1}.type WHEN 'object' THEN p{i - 1}.value ELSE '{{}}' END"
        tables.append(f"json_each({inner}) AS p{i}")
    keys = [f"p{i}.key = {_sql_quote(name)}" for i, name in enumerate(path)]
    last = f"p{len(path) - 1}.{what}"
    return f"(SELECT {last} FROM {', '.join(tables)} WHERE {' AND '.join(keys)})"


def _sql_like(kind: str, value: str, literals: Sequence[Scalar], comparison: str) -> str:
    """The field is of the literals' type (all have the same), and compares with them so."""
    if isinstance(literals[0], bool):
        return f"{kind} {_sql_one_of(['true' if literal else 'false' for literal in literals])}"
    if isinstance(literals[0], str):
        return f"{kind} {_SQL_TEXT} AND {value} {comparison}"
    if any(abs(float(number)) >= MAX_INTEGER for number in literals):
        # SQLite would tell apart integers that are the same double.
        value = f"CAST({value} AS REAL)"
    return f"{kind} {_SQL_NUMBER} AND {value} {comparison}"


def _sql_one_of(literals: Sequence[Scalar]) -> str:
    texts = [_sql_literal(value) for value in literals]
    return f"= {texts[0]}" if len(texts) == 1 else f"IN ({', '.join(texts)})"
