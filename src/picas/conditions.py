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

import ast
import json
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picas.errors import ConditionError

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

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ODD_NAME = re.compile(r'[^ -~]|["\\]')


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a document's fields; made by `parse`.

    Attributes:
        text: As the user wrote it.
    """

    text: str
    _root: "_Node"

    def matches(self, doc: Mapping[str, Any]) -> bool:
        """Tell whether a document matches."""
        return self._root.matches(doc)

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
class _Test:
    """A field against literals: ``==`` to any, ``!=`` to all, or ordered against the only one."""

    path: Path
    op: str
    values: tuple[Scalar, ...]

    def matches(self, doc: Mapping[str, Any]) -> bool:
        value = _look_up(doc, self.path)
        if value is None:
            return False
        if self.op in _ORDER:
            return _ordered(self.op, value, self.values[0])
        return any(_equal(value, other) for other in self.values) == (self.op == "==")

    def javascript(self) -> str:
        field, literals = _js_field(self.path), [_js_literal(value) for value in self.values]
        terms = _js_guards(self.path)
        if self.op in _ORDER:
            kind = "string" if isinstance(self.values[0], str) else "number"
            terms += [f'typeof {field} === "{kind}"', f"{field} {self.op} {literals[0]}"]
            return " && ".join(terms)
        if self.op == "!=":
            terms.append(f"{field} != null")
        if len(literals) == 1:
            terms.append(f"{field} {self.op}= {literals[0]}")
        else:
            terms.append(f"[{', '.join(literals)}].indexOf({field}) {_NEGATED[self.op]}= -1")
        return " && ".join(terms)

    def sql(self, body: str) -> str:
        kind = _sql_field(body, self.path, "type")
        value = _sql_field(body, self.path, "atom")
        if self.op in _ORDER:
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
class _Pair:
    """A field against another field."""

    left: Path
    op: str
    right: Path

    def matches(self, doc: Mapping[str, Any]) -> bool:
        left, right = _look_up(doc, self.left), _look_up(doc, self.right)
        if left is None or right is None:
            return False
        if self.op in _ORDER:
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
class _Group:
    """Several conditions of which all (``and``) or any (``or``) must match."""

    word: str
    parts: tuple["_Node", ...]

    def matches(self, doc: Mapping[str, Any]) -> bool:
        several = all if self.word == "and" else any
        return several(part.matches(doc) for part in self.parts)

    def javascript(self) -> str:
        return self._join(" && " if self.word == "and" else " || ", lambda p: p.javascript())

    def sql(self, body: str) -> str:
        return self._join(f" {self.word.upper()} ", lambda p: p.sql(body))

    def _join(self, between: str, text: Callable[["_Node"], str]) -> str:
        # A comparison is one "and" of terms: it needs parentheses only for the reader of an "or".
        bare = self.word == "and"
        return between.join(
            text(part) if bare and not isinstance(part, _Group) else f"({text(part)})"
            for part in self.parts
        )


_Node = _Test | _Pair | _Group


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: It cannot be understood; one line that names the column and what to write.
    """
    parser = _Parser(re.sub(r"[\t\r\n]", " ", text))
    return Condition(parser.source.strip(), parser.parse())


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
    return kind == other and kind in ("number", "text") and _ORDER[op](left, right)


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
    plain = [(name, _PLAIN_NAME.fullmatch(name)) for name in path]
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
    steps = (n if _PLAIN_NAME.fullmatch(n) else f'"{n}"' for n in path)
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


# --- reading -------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<quote>["'])|(?P<sign>&&|\|\||[=!<>]+|\#)"""
    r"""|(?P<number>\d[\w.]*)|(?P<dot>\.\s*)?(?P<word>[^\W\d]\w*)"""
)
_SIGNS = {
    "&&": "and",
    "||": "or",
    "===": "==",
    "!==": "!=",
    "<>": "!=",
    "=": "==",
    "=<": "<=",
    "=>": ">=",
    "!": "not",
}
_GLUED = re.compile(r"and|or|in|is|if|else|not")
_WORDS = frozenset({"and", "or", "not", "in", "True", "False"})
_NOTHING = frozenset({"None", "null", "undefined"})
_NOT_NUMBERS = frozenset({"NaN", "nan", "Infinity", "inf"})
_OPERATORS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Call: "functions cannot be called",
    ast.BinOp: "there is no arithmetic",
    ast.UnaryOp: "there is no arithmetic",
    ast.List: "a list may stand only after in",
    ast.Tuple: "a list may stand only after in",
    ast.Compare: "a comparison cannot be compared",
    ast.BoolOp: "and, or and not join comparisons; write a field or a literal here",
    ast.JoinedStr: 'a text is written "plain", without a letter before it',
}


class _Parser:
    """Turns a text into comparisons, by way of Python's own parser and a list of what may pass."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lead = len(source) - len(source.lstrip(" "))
        self.comparisons = 0

    def parse(self) -> _Node:
        if not self.source.strip():
            raise ConditionError("the condition is empty; leave it out to mean all tokens")
        if len(self.source) > MAX_TEXT:
            raise ConditionError(f"the condition is longer than {MAX_TEXT} characters")
        self.scan()
        try:
            tree = ast.parse(self.source.strip(), mode="eval")
        except SyntaxError as error:
            # Where the text ends too early, Python points to the line behind it, or to nothing.
            at = self.lead + error.offset - 1 if error.offset else len(self.source)
            raise self.error(at, f"this cannot be read; {ALLOWED}") from error
        except (ValueError, MemoryError, RecursionError) as error:
            raise ConditionError("the condition is nested too deeply to be read") from error
        return self.condition(tree.body, negated=False, depth=0)

    def scan(self) -> None:
        """Refuse, with the right advice, what Python's parser would mistake or explain badly."""
        bad = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", self.source)
        if bad:
            raise self.error(bad.start(), "a control character or half a character stands here")
        for token in _TOKEN.finditer(self.source):
            at = token.start(token.lastgroup or 0)
            if token["quote"]:
                raise self.error(at, "the text that begins here has no end")
            if token["text"]:
                self.scan_text(token["text"], at)
            elif token["sign"] == "#":
                raise self.error(at, "there are no comments")
            elif token["sign"] in _SIGNS:
                raise self.error(at, f"write {_SIGNS[token['sign']]} instead of {token['sign']}")
            elif token["number"] and _GLUED.search(token["number"]):
                raise self.error(at, "a space is missing behind the number")
            elif token["word"]:
                self.scan_word(token["word"], at, inner=token["dot"] is not None)

    def scan_text(self, text: str, at: int) -> None:
        for escape in re.finditer(r"\\(.)", text):
            if escape[1] not in "\\\"'abfnrtvxuUN":
                raise self.error(at + escape.start(), "write \\\\ for one backslash in a text")

    def scan_word(self, word: str, at: int, *, inner: bool) -> None:
        if not inner and word in _NOTHING:
            raise self.error(
                at, f"there is no {word}: a field that is missing or null never matches"
            )
        if not inner and word in _NOT_NUMBERS:
            raise self.error(at, f'{word} is no number that JSON has; a field is doc["{word}"]')
        if word == "is" and not inner:
            raise self.error(at, 'write == or != instead of is; a field is doc["is"]')
        if keyword.iskeyword(word) and (inner or word not in _WORDS):
            name = f'…["{word}"]' if inner else f'doc["{word}"]'
            raise self.error(at, f"{word} has a meaning of its own; write {name} for the field")

    def condition(self, node: ast.expr, *, negated: bool, depth: int) -> _Node:
        """A condition, or its opposite: ``not`` goes down to the comparisons."""
        if depth > MAX_DEPTH:
            raise self.error_at(node, f"more than {MAX_DEPTH} and, or and not inside one another")
        match node:
            case ast.UnaryOp(op=ast.Not()):
                return self.condition(node.operand, negated=not negated, depth=depth + 1)
            case ast.BoolOp():
                word = "and" if isinstance(node.op, ast.And) != negated else "or"
                parts = [
                    self.condition(part, negated=negated, depth=depth + 1) for part in node.values
                ]
                return _group(word, parts)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                triples = zip(sides, node.ops, sides[1:], strict=False)
                parts = [self.comparison(*triple, negated=negated) for triple in triples]
                return _group("or" if negated else "and", parts)
            case ast.Tuple():
                raise self.error_at(node, "write and or or between comparisons, not a comma")
            case ast.Name() | ast.Attribute() | ast.Subscript() | ast.Constant():
                raise self.error_at(
                    node, "a field or literal alone says nothing; compare it: ready == true"
                )
        raise self.refused(node)

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, *, negated: bool) -> _Node:
        self.comparisons += 1
        if self.comparisons > MAX_COMPARISONS:
            raise self.error_at(right, f"more than {MAX_COMPARISONS} comparisons; use in [..]")
        a = self.operand(left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(a, _Field):
                raise self.error_at(left, "only a field may stand before in")
            return _Test(
                a.path, "==" if isinstance(op, ast.In) != negated else "!=", self.list(right)
            )
        sign, b = _OPERATORS[type(op)], self.operand(right)
        sign = _NEGATED[sign] if negated else sign
        if sign in _ORDER and (isinstance(a, bool) or isinstance(b, bool)):
            raise self.error_at(left, "only numbers and texts have an order; use == or !=")
        if isinstance(a, _Field):
            return (
                _Pair(a.path, sign, b.path) if isinstance(b, _Field) else _Test(a.path, sign, (b,))
            )
        if isinstance(b, _Field):
            return _Test(b.path, _MIRRORED[sign], (a,))
        raise self.error_at(
            left, "this compares two literals; a field's name is written without quotes"
        )

    def list(self, node: ast.expr) -> tuple[Scalar, ...]:
        if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
            raise self.error_at(node, 'after in stands a list of literals: in ["a", "b"]')
        values = tuple(self.operand(entry) for entry in node.elts)
        scalars = tuple(value for value in values if not isinstance(value, _Field))
        if len(scalars) < len(values):
            raise self.error_at(node, "a list holds literals only; a text needs quotes")
        return scalars

    def operand(self, node: ast.expr) -> "_Field | Scalar":
        """A field or a literal."""
        match node:
            case ast.Name(id="true" | "false"):
                return node.id == "true"
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self.field(node)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return self.literal(node, value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                if not isinstance(value, bool):
                    return self.literal(node, -value)
        raise self.refused(node)

    def literal(self, node: ast.expr, value: Scalar) -> Scalar:
        if isinstance(value, str):
            if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
                raise self.error_at(node, "a text cannot hold a NUL or half a character")
            if self.source[self.at(node)] not in "\"'":
                raise self.error_at(node, _REFUSED[ast.JoinedStr])
        elif not isinstance(value, float) and abs(value) > MAX_INTEGER:
            raise self.error_at(node, "JavaScript loses digits of integers beyond 2**53")
        elif not math.isfinite(value):
            raise self.error_at(node, "this number is too large for double precision")
        return value

    def field(self, node: ast.expr) -> "_Field":
        names: list[str] = []
        inner: ast.expr = node
        while not isinstance(inner, ast.Name):
            match inner:
                case ast.Attribute():
                    names.append(inner.attr)
                case ast.Subscript(slice=ast.Constant(value=str(name))):
                    self.literal(inner.slice, name)
                    names.append(name)
                case ast.Subscript():
                    raise self.error_at(inner.slice, 'in brackets stands a name: input["my-field"]')
                case _:
                    raise self.refused(inner)
            inner = inner.value
        if inner.id in ("true", "false"):
            raise self.error_at(inner, f'{inner.id} is a literal; write doc["{inner.id}"]')
        if inner.id != "doc":
            names.append(inner.id)
        elif not names:
            raise self.error_at(node, 'doc is the whole document; a field is doc["doc"]')
        if not all(names) or len(names) > MAX_PATH:
            raise self.error_at(node, f"a field is 1 to {MAX_PATH} names, none of them empty")
        return _Field(tuple(reversed(names)))

    def refused(self, node: ast.expr) -> ConditionError:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            return self.error_at(node, "write and, or instead of & and |")
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            return self.error_at(node, _REFUSED[ast.JoinedStr])
        return self.error_at(
            node, f"{_REFUSED.get(type(node), 'this is not understood')}; {ALLOWED}"
        )

    def error_at(self, node: ast.expr, why: str) -> ConditionError:
        return self.error(self.at(node), why)

    def at(self, node: ast.expr) -> int:
        # Python counts bytes of UTF-8.
        before = self.source[self.lead :].encode()[: node.col_offset]
        return self.lead + len(before.decode())

    def error(self, at: int, why: str) -> ConditionError:
        near = self.source[at : at + 20]
        where = f"near {near!r}" if near else "at its end"
        return ConditionError(f"condition, column {at + 1}, {where}: {why}")


@dataclass(frozen=True, slots=True)
class _Field:
    path: Path


def _group(word: str, parts: Sequence[_Node]) -> _Node:
    return parts[0] if len(parts) == 1 else _Group(word, tuple(parts))
