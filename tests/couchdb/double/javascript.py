"""View functions, run by a real JavaScript engine (QuickJS, as CouchDB 3.5 can use it)."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import quickjs

from tests.couchdb.double.http import Refusal

# The surroundings of a view function: what it emits is collected, the document is frozen, and a
# function that throws is as if it had emitted nothing.
_PRELUDE = """
var emitted;
function emit(key, value) { emitted.push([key, value]); }
function log() {}
function isArray(value) { return Array.isArray(value); }
function toJSON(value) { return JSON.stringify(value); }
function sum(values) { var total = 0; for (var i in values) total += values[i]; return total; }
var maps = {}, reduces = {};
function freeze(value) {
    if (value && typeof value === "object" && !Object.isFrozen(value)) {
        Object.freeze(value); Object.values(value).forEach(freeze);
    }
    return value;
}
function mapAll(text) {
    return JSON.stringify(JSON.parse(text).map(function (doc) {
        freeze(doc);
        return Object.keys(maps).map(function (name) {
            emitted = [];
            try { maps[name](doc); } catch (error) { emitted = []; }
            try { JSON.stringify(emitted); } catch (error) { emitted = []; }
            return emitted;
        });
    }));
}
function reduceAll(name, text) {
    var given = JSON.parse(text), result;
    try { result = reduces[name](given[0], given[1], given[2]); } catch (error) { result = null; }
    return JSON.stringify(result === undefined ? null : result);
}
"""

# An engine belongs to the thread that made it: all of them live on this one.
_thread = ThreadPoolExecutor(1, thread_name_prefix="javascript")
Result = TypeVar("Result")

# JavaScript escapes half characters and nothing else that way.
_LONE_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}")


def _there(function: Callable[..., Result], *args: Any) -> Result:
    return _thread.submit(function, *args).result()


class Engine:
    """The map and reduce functions of one design document.

    Args:
        views: The design document's ``views``.

    Raises:
        Refusal: One of them does not compile.
    """

    def __init__(self, views: dict[str, Any]) -> None:
        self.names = list(views)
        self._context: Any = _there(self._compile, views)

    def map(self, docs: list[Any]) -> list[list[list[tuple[Any, Any]]]]:
        """What each view (in the order of `names`) emits for each document."""
        answer = _LONE_SURROGATE.sub(r"\1\\ufffd", _there(self._call, "mapAll", json.dumps(docs)))
        mapped: list[list[list[tuple[Any, Any]]]] = json.loads(answer)
        return mapped

    def reduce(self, name: str, keys: Any, values: list[Any], again: bool) -> Any:
        """Call a view's JavaScript reduce function; null where it throws."""
        text = json.dumps([keys, values, again])
        return json.loads(_there(self._call, "reduceAll", name, text))

    def _call(self, function: str, *args: str) -> str:
        result: str = self._context.get(function)(*args)
        return result

    def _compile(self, views: dict[str, Any]) -> Any:
        context = quickjs.Context()
        context.eval(_PRELUDE)
        for name, view in views.items():
            _define(context, "map", name, view["map"])
            reduce = view.get("reduce")
            if isinstance(reduce, str) and not reduce.startswith("_"):
                _define(context, "reduce", name, reduce)
        return context


def _define(context: Any, kind: str, name: str, source: str) -> None:
    trouble = f"Compilation of the {kind} function in the '{name}' view failed: "
    target = f"{kind}s[{json.dumps(name)}]"
    try:
        context.eval(f"{target} = ({source.strip().rstrip(';')}\n);")
    except quickjs.JSException as error:
        message = f"{trouble}{str(error).splitlines()[0]} ({source})"
        raise Refusal(400, "compilation_error", message) from None
    if context.eval(f"typeof {target}") != "function":
        message = f"{trouble}Expression does not eval to a function. ({source})"
        raise Refusal(400, "compilation_error", message)
