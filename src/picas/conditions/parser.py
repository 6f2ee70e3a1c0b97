"""Reads a condition: the grammar, and what to say of what is not in it."""

import ast
import keyword
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from picas.conditions.meaning import (
    ALLOWED,
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_PATH,
    MAX_TEXT,
    MIRRORED,
    NEGATED,
    ORDER,
    Condition,
    FieldPair,
    FieldTest,
    Group,
    Node,
    Path,
    Scalar,
)
from picas.errors import ConditionError

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

    def parse(self) -> Node:
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

    def condition(self, node: ast.expr, *, negated: bool, depth: int) -> Node:
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

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, *, negated: bool) -> Node:
        self.comparisons += 1
        if self.comparisons > MAX_COMPARISONS:
            raise self.error_at(right, f"more than {MAX_COMPARISONS} comparisons; use in [..]")
        a = self.operand(left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(a, _Field):
                raise self.error_at(left, "only a field may stand before in")
            return FieldTest(
                a.path, "==" if isinstance(op, ast.In) != negated else "!=", self.list(right)
            )
        sign, b = _OPERATORS[type(op)], self.operand(right)
        sign = NEGATED[sign] if negated else sign
        if sign in ORDER and (isinstance(a, bool) or isinstance(b, bool)):
            raise self.error_at(left, "only numbers and texts have an order; use == or !=")
        if isinstance(a, _Field):
            return (
                FieldPair(a.path, sign, b.path)
                if isinstance(b, _Field)
                else FieldTest(a.path, sign, (b,))
            )
        if isinstance(b, _Field):
            return FieldTest(b.path, MIRRORED[sign], (a,))
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


def _group(word: str, parts: Sequence[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Group(word, tuple(parts))


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: It cannot be understood; one line that names the column and what to write.
    """
    parser = _Parser(re.sub(r"[\t\r\n]", " ", text))
    return Condition(parser.source.strip(), parser.parse())
