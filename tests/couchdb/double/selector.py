"""The part of Mango selectors that change feeds of the double understand."""

import operator
import re
from collections.abc import Callable
from typing import Any

from tests.couchdb.double.collation import sort_key
from tests.couchdb.double.http import Refusal, bad_request

_MISSING = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
Test = Callable[[Any], bool]


def compile_selector(selector: Any) -> Test:
    """Make a test of documents out of a selector; 400 where it cannot be understood."""
    if not isinstance(selector, dict):
        raise bad_request("Selector error: expected a JSON object")
    return _every([_clause(name, value) for name, value in selector.items()])


def _unknown(name: str) -> Refusal:
    if name in ("$not", "$nor", "$all", "$elemMatch", "$allMatch", "$size", "$mod", "$keyMapMatch"):
        return Refusal(501, "not_implemented", f"the test double has no {name}")
    return bad_request(f"Invalid operator: {name}")


def _every(tests: list[Test]) -> Test:
    return lambda value: all(test(value) for test in tests)


def _clause(name: str, value: Any) -> Test:
    if name == "$and":
        return _every([compile_selector(inner) for inner in value])
    if name == "$or":
        tests = [compile_selector(inner) for inner in value]
        return lambda doc: any(test(doc) for test in tests)
    if name.startswith("$"):
        raise _unknown(name)
    inner = _condition(value)
    path = name.split(".")
    return lambda doc: inner(_field(doc, path))


def _field(doc: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(doc, dict) or name not in doc:
            return _MISSING
        doc = doc[name]
    return doc


def _condition(value: Any) -> Test:
    if not isinstance(value, dict) or not value:
        return _operator("$eq", value)
    if any(name.startswith("$") for name in value):
        return _every([_operator(name, inner) for name, inner in value.items()])
    nested = compile_selector(value)
    return lambda found: found is not _MISSING and nested(found)


def _operator(name: str, value: Any) -> Test:
    if name == "$exists":
        return lambda found: (found is not _MISSING) is bool(value)
    test = _plain_operator(name, value)
    return lambda found: found is not _MISSING and test(found)


def _plain_operator(name: str, value: Any) -> Test:
    if name in _ORDER:
        compare, wanted = _ORDER[name], sort_key(value)
        return lambda found: compare(sort_key(found), wanted)
    if name in ("$in", "$nin"):
        keys = [sort_key(one) for one in value]
        return lambda found: (sort_key(found) in keys) is (name == "$in")
    if name == "$type":
        kinds = _TYPES[value]
        return lambda found: (
            isinstance(found, kinds) and (bool in kinds or not isinstance(found, bool))
        )
    if name == "$regex":
        return lambda found: isinstance(found, str) and re.search(value, found) is not None
    raise _unknown(name)
