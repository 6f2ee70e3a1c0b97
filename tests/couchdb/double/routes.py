"""Which code answers which path, and everything outside of databases."""

import re
import secrets
from typing import TYPE_CHECKING

from tests.couchdb.double import database_routes
from tests.couchdb.double.auth import need_member, need_server_admin, session
from tests.couchdb.double.http import (
    Json,
    Refusal,
    Reply,
    Request,
    bad_request,
    not_found,
)

if TYPE_CHECKING:
    from tests.couchdb.double.server import DoubleCouch

_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_NO_DATABASE = "Database does not exist."
_FEATURES = ["quickjs", "access-ready", "partitioned", "pluggable-storage-engines", "reshard"]


def route(couch: "DoubleCouch", request: Request) -> Reply:
    """Answer a request."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", request.path):
        raise bad_request("invalid_url_encoding")
    first, *rest = request.parts
    if not any(rest) and first in _SERVER:
        return Reply(200, _SERVER[first](couch, request))
    if first == "_node":
        return Reply(200, _config(couch, request))
    if not any(rest) and request.method in ("PUT", "DELETE"):
        return _make_or_remove(couch, request, first)
    database = couch.databases.get(first)
    if database is None:
        raise not_found(_NO_DATABASE)
    if first == "_users" and rest and rest[0] in ("_all_docs", "_changes"):
        need_server_admin(request)
    need_member(request, database)
    return database_routes.answer(couch, request, database)


def _welcome(couch: "DoubleCouch", request: Request) -> Json:
    request.allow("GET", "HEAD")
    return {
        "couchdb": "Welcome",
        "version": couch.version,
        "git_sha": "0000000",
        "uuid": couch.uuid,
        "features": [*_FEATURES, "scheduler"],
        "vendor": {"name": "A test double"},
    }


def _up(couch: "DoubleCouch", request: Request) -> Json:
    request.allow("GET", "HEAD")
    return {"status": "ok", "seeds": {}}


def _session(couch: "DoubleCouch", request: Request) -> Json:
    request.allow("GET", "HEAD")
    return session(request)


def _all_databases(couch: "DoubleCouch", request: Request) -> Json:
    need_server_admin(request)
    return sorted(couch.databases)


def _uuids(couch: "DoubleCouch", request: Request) -> Json:
    count = int(request.query.get("count", "1"))
    return {"uuids": [secrets.token_hex(16) for _ in range(count)]}


def _active_tasks(couch: "DoubleCouch", request: Request) -> Json:
    need_server_admin(request)
    return []


_SERVER = {
    "": _welcome,
    "_up": _up,
    "_session": _session,
    "_all_dbs": _all_databases,
    "_uuids": _uuids,
    "_active_tasks": _active_tasks,
}


def _config(couch: "DoubleCouch", request: Request) -> Json:
    """Read or set one value at ``_node/_local/_config/SECTION/KEY``."""
    need_server_admin(request)
    if len(request.parts) != 5 or request.parts[2] != "_config":
        raise not_found("missing")
    name = "/".join(request.parts[3:])
    before = couch.config.get(name)
    if request.method == "PUT":
        couch.config[name] = str(request.json())
        return before or ""
    if before is None:
        raise not_found("unknown_config_value")
    if request.method == "DELETE":
        del couch.config[name]
    return before


def _make_or_remove(couch: "DoubleCouch", request: Request, name: str) -> Reply:
    need_server_admin(request)
    with couch.lock:
        there = couch.databases.get(name)
        if request.method == "DELETE":
            if there is None:
                raise not_found(_NO_DATABASE)
            del couch.databases[name]
            there.gone = True
            there.wake()
            return Reply(200, {"ok": True})
        if there is not None:
            reason = "The database could not be created, the file already exists."
            raise Refusal(412, "file_exists", reason)
        if not _DATABASE_NAME.fullmatch(name):
            reason = (
                f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the "
                "characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."
            )
            raise Refusal(400, "illegal_database_name", reason)
        couch.add_database(name)
    return Reply(201, {"ok": True}, {"Location": f"http://127.0.0.1:{couch.port}{request.path}"})
