"""The parameters of views and of ``_all_docs``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.couchdb.double.http import Json, Refusal, Request, parse_json

UNSET: Any = object()
EXACT = 1_000_000
"""The group level of ``group=true``."""

_ALIASES = {
    "start_key": "startkey",
    "end_key": "endkey",
    "startkey_doc_id": "startkey_docid",
    "start_key_doc_id": "startkey_docid",
    "endkey_doc_id": "endkey_docid",
    "end_key_doc_id": "endkey_docid",
}
_UPDATES = {"true": "true", "false": "false", "lazy": "lazy"}
_STALE = {"ok": "false", "update_after": "lazy"}


@dataclass(slots=True)
class Query:
    """What a view is asked for; names and defaults are CouchDB's."""

    key: Json = UNSET
    keys: list[Json] | None = None
    startkey: Json = UNSET
    startkey_docid: str | None = None
    endkey: Json = UNSET
    endkey_docid: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    limit: int | None = None
    skip: int = 0
    include_docs: bool = False
    attachments: bool = False
    reduce: bool | None = None
    group_level: int | None = None
    update: str = "true"
    update_seq: bool = False


def parse_error(reason: str) -> Refusal:
    """CouchDB's complaint about a parameter."""
    return Refusal(400, "query_parse_error", reason)


def read_query(request: Request, *, all_docs: bool = False) -> Query:
    """The parameters of a GET, or of a POST's body and query together."""
    query = Query()
    for name, text in request.query.items():
        _set(query, _ALIASES.get(name, name), text)
    if request.method == "POST":
        for name, value in request.json_object().items():
            name = _ALIASES.get(name, name)
            if name == "keys" and not isinstance(value, list):
                where = "body member" if all_docs else "member"
                raise Refusal(400, "bad_request", f"`keys` {where} must be an array.")
            if name in ("key", "keys", "startkey", "endkey"):
                setattr(query, name, value)
            else:
                _set(query, name, _as_text(value))
    ranged = (query.key, query.startkey, query.endkey)
    many = query.keys is not None and len(query.keys) > 1
    if all_docs and many and any(value is not UNSET for value in ranged):
        raise parse_error("`keys` is incompatible with `key`, `start_key` and `end_key`")
    return query


def _as_text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _set(query: Query, name: str, text: str) -> None:
    if name == "group":
        query.group_level = EXACT if _boolean(text) else None
    elif name == "update" or name == "stale":
        known = _UPDATES if name == "update" else _STALE
        if text not in known:
            raise parse_error(f"Invalid value for `{name}`.")
        query.update = known[text]
    elif name in _READERS:
        setattr(query, name, _READERS[name](text))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise parse_error(f'Invalid boolean parameter: "{text}"')
    return text.lower() == "true"


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise parse_error(f'Invalid value for integer: "{text}"') from None
    if number < 0:
        raise parse_error(f'Invalid value for positive integer: "{text}"')
    return number


def _list(text: str) -> list[Json]:
    value = parse_json(text)
    if not isinstance(value, list):
        raise parse_error("`keys` must be an array of strings.")
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "key": parse_json,
    "keys": _list,
    "startkey": parse_json,
    "endkey": parse_json,
    "startkey_docid": str,
    "endkey_docid": str,
    "limit": _positive,
    "skip": _positive,
    "group_level": _positive,
    "inclusive_end": _boolean,
    "descending": _boolean,
    "include_docs": _boolean,
    "attachments": _boolean,
    "reduce": _boolean,
    "update_seq": _boolean,
}
