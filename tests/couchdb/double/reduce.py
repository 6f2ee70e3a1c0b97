"""Reduce functions of views: CouchDB's built-in ones, and JavaScript's called piece by piece."""

from typing import Any

from tests.couchdb.double.http import Json
from tests.couchdb.double.javascript import Engine

BUILT_IN = ("_sum", "_count", "_stats", "_approx_count_distinct")

_NODE = 100
"""Rows that a JavaScript function sees at once; their results are always reduced again."""

_NOT_SUMMABLE = (
    "The _sum function requires that map values be numbers, arrays of numbers, or objects. "
    "Objects cannot be mixed with other data structures. Objects can be arbitrarily nested, "
    "provided that the values for all fields are themselves numbers, arrays of numbers, or "
    "objects."
)

Pair = tuple[list[Any], Json]


class _CannotSum(Exception):
    """A value that ``_sum`` does not add."""


def reduce_rows(engine: Engine, view: str, reduce: str, pairs: list[Pair]) -> Json:
    """The value of one group of rows.

    Args:
        engine: Runs JavaScript.
        view: The view's name.
        reduce: The name of a built-in function, or JavaScript.
        pairs: For every row its ``[key, id]`` and its value.
    """
    values = [value for _, value in pairs]
    if reduce == "_count":
        return len(values)
    if reduce == "_approx_count_distinct":
        return len({str(key) for (key, _), _ in pairs})
    if reduce == "_stats":
        return _stats(values)
    if reduce == "_sum":
        return _sum_all(values)
    parts = [
        engine.reduce(view, [key for key, _ in piece], [value for _, value in piece], False)
        for piece in (pairs[i : i + _NODE] for i in range(0, len(pairs), _NODE))
    ]
    return engine.reduce(view, None, parts, True)


def _stats(values: list[Json]) -> Json:
    numbers = [value for value in values if isinstance(value, int | float)]
    return {
        "sum": sum(numbers),
        "count": len(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "sumsqr": sum(number * number for number in numbers),
    }


def _sum_all(values: list[Json]) -> Json:
    total: Json = 0
    for value in values:
        try:
            total = _add(total, value)
        except _CannotSum:
            return {"error": "builtin_reduce_error", "reason": _NOT_SUMMABLE, "caused_by": value}
    return total


def _add(one: Json, other: Json) -> Json:
    if _is_number(one) and _is_number(other):
        return one + other
    if isinstance(other, dict) and (isinstance(one, dict) or one == 0):
        start: dict[str, Json] = one or {}
        return start | {name: _add(start.get(name, 0), value) for name, value in other.items()}
    if isinstance(one, dict) or not (_is_number(other) or isinstance(other, list)):
        raise _CannotSum
    left = one if isinstance(one, list) else [one]
    right = other if isinstance(other, list) else [other]
    size = max(len(left), len(right))
    padded = [side + [0] * (size - len(side)) for side in (left, right)]
    return [_add(a, b) for a, b in zip(*padded, strict=True)]


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
