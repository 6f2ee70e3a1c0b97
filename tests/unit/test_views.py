"""Views: one definition, the same tokens in CouchDB's JavaScript, in SQL and in Python."""

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest
import quickjs
from hypothesis import given, settings
from hypothesis import strategies as st

from picas import token
from picas.conditions import parse
from picas.errors import InputError, Unsupported, ViewMissing
from picas.token import Document
from picas.views import (
    CLASSIC_VIEWS,
    DONE,
    ERROR,
    FREE,
    LOCKED,
    MONITOR,
    OVERVIEW,
    STANDARD_VIEWS,
    TODO,
    Design,
    raw_view,
    split,
)

Row = tuple[Any, Any]


def emitted(design_doc: Mapping[str, Any], doc: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows that each view of a design document makes of a document, by real JavaScript."""
    context = quickjs.Context()
    script = (
        "var rows; function emit(key, value) { rows.push([key, value]); }"
        "function run(map, text) { rows = []; eval('(' + map + ')')(JSON.parse(text));"
        " return JSON.stringify(rows); }"
    )
    context.eval(script)
    run = context.get("run")
    return {
        name: [(key, value) for key, value in json.loads(run(view["map"], json.dumps(doc)))]
        for name, view in design_doc["views"].items()
    }


def rows_of(state: str | None, needs: Document | None = None) -> dict[str, list[Row]]:
    """The rows that a token "t" in that state, with these needs, ought to make."""
    rows: dict[str, list[Row]] = {name: [] for name in STANDARD_VIEWS}
    if state == TODO:
        rows[FREE] = [([0, "t"], needs)]
    if state is not None:
        rows[state] = [("t", "t")]
        rows[OVERVIEW] = [(state, 1)]
    return rows


# --- the states ----------------------------------------------------------------------------------

numerals = st.sampled_from(
    [
        *("", " ", "0", "00", "-0", "+0", "+ 0", "1", "-1", "0.5", ".5", "5.", ".", "0x0", "0x10"),
        *("0X1f", "0x", "-0x0", "-0x1", "0b1", "0b0", "0o7", "0b2", "1e3", "1e400", "-1e400"),
        *("Infinity", "+Infinity", "-Infinity", "infinity", "NaN", "nan", "inf", "null", "true"),
        *(
            "1_000",
            "٠",
            "٣",
            "０",
            "1,5",
            "12 monkeys",
            "0 monkeys",
            "x0",
            "\u00a00",
            "\ufeff0\ufeff",
        ),
        *(
            "\x1c0",
            "\x850",
            "\u20280",
            "\u30000",
            "\u180e0",
            "\n0\n",
            "0\x00",
            "9" * 400,
            "1e",
            "0e0",
        ),
    ]
)
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 99, 0.0, -0.0, 0.5, -0.5, 5e-7, 1e-6, 1e21, 1e22, 10**30, 10**400]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
texts = st.one_of(
    numerals,
    numbers.map(lambda number: repr(number) if number != 10**400 else "0"),
    st.text("0x9-+. e"),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
often = st.one_of(st.sampled_from([0, 1, 1700000000]), scalars)
tokens = st.fixed_dictionaries(
    {"_id": st.just("t"), "type": st.just("token")},
    optional={"lock": often, "done": often, "exit_code": scalars},
)


@settings(max_examples=500, deadline=None)
@given(tokens)
def test_views_show_a_token_in_its_state(doc: Document) -> None:
    """The JavaScript of the standard views and `token.state` agree on any scalar fields."""
    state = token.state(doc)
    assert emitted(MONITOR.document(), doc) == rows_of(None if state is None else state.value)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"lock": 0, "done": 0, "exit_code": ""}, TODO),
        ({"lock": 1, "done": 0, "exit_code": ""}, LOCKED),
        ({"lock": 1, "done": 2, "exit_code": 0}, DONE),
        ({"lock": 1, "done": 2, "exit_code": "0"}, DONE),
        ({"lock": 1, "done": 2, "exit_code": 3}, ERROR),
        ({"lock": 1, "done": 2, "exit_code": ""}, ERROR),
        ({"lock": 99, "done": 99}, ERROR),
        ({"lock": -1, "done": 0}, None),
        ({"lock": 0, "done": 1}, None),
        ({"lock": None, "done": 0}, None),
        ({"type": "task", "lock": 0, "done": 0}, None),
        ({}, None),
    ],
)
def test_states(fields: Document, state: str | None) -> None:
    """Each state's view shows the tokens that the classic one shows."""
    doc = {"_id": "t", "type": "token", **fields}
    assert emitted(MONITOR.document(), doc) == rows_of(state)
    found = token.state(doc)
    assert (found and found.value) == state


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({}, ([0, "t"], None)),
        ({"not_before": 17.5}, ([17.5, "t"], None)),
        ({"not_before": "soon"}, ([0, "t"], None)),
        ({"not_before": -1}, ([0, "t"], None)),
        ({"cores": 0, "gpus": None}, ([0, "t"], {"cores": 0, "gpus": None})),
        (
            {"memory": "8G", "avoid": ["n1"], "avoid_until": 9, "time": 5, "input": "x"},
            ([0, "t"], {"memory": "8G", "time": 5, "avoid": ["n1"], "avoid_until": 9}),
        ),
    ],
)
def test_free_tokens_tell_what_holds_them_up(fields: Document, row: Row) -> None:
    """Pilots see in the view itself which tokens wait, and what they need."""
    doc = {"_id": "t", "type": "token", "lock": 0, "done": 0, **fields}
    assert emitted(MONITOR.document(), doc)[FREE] == [row]


# --- designs -------------------------------------------------------------------------------------

SMALL = Design("small", parse('1 <= cores <= 4 and input["my-site"] != "a"'))


@pytest.mark.parametrize(
    ("fields", "selected"),
    [
        ({"cores": 2, "input": {"my-site": "b"}}, True),
        ({"cores": 8, "input": {"my-site": "b"}}, False),
        ({"cores": 2, "input": {"my-site": "a"}}, False),
        ({"cores": 2}, False),
        ({}, False),
    ],
)
def test_own_design_narrows_every_view(fields: Document, selected: bool) -> None:
    """A design's condition is added to all of its views, in JavaScript and in SQL."""
    doc = {"_id": "t", "type": "token", "lock": 0, "done": 0, **fields}
    needs = {"cores": fields.get("cores")}
    assert emitted(SMALL.document(), doc) == rows_of(TODO if selected else None, needs)
    assert {view: in_sql(SMALL, view, doc) for view in SMALL.views} == {
        view: selected and view in (TODO, OVERVIEW, FREE) for view in STANDARD_VIEWS
    }


def in_sql(design: Design, view: str, doc: Document) -> bool:
    """Whether a view's SQL selects the document, in a table as the embedded pool has it."""
    state = token.state(doc)
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE TABLE docs (state TEXT, body TEXT)")
        row = (None if state is None else state.value, json.dumps(doc))
        database.execute("INSERT INTO docs VALUES (?, ?)", row)
        query = f"SELECT count(*) FROM docs WHERE {design.sql(view)}"
        return bool(database.execute(query).fetchone()[0])
    finally:
        database.close()


def test_condition_with_or_stays_together_in_sql() -> None:
    """A condition joined by "or" does not let tokens of another state in."""
    design = Design("either", parse("cores == 1 or cores == 2"))
    doc = {"_id": "t", "type": "token", "lock": 1, "done": 0, "cores": 2}
    assert [view for view in design.views if in_sql(design, view, doc)] == [LOCKED, OVERVIEW]
    assert emitted(design.document(), doc) == rows_of(LOCKED)


def test_sql_of_the_standard_views() -> None:
    """Without a condition the state alone decides."""
    assert MONITOR.sql(TODO) == "state = 'todo'"
    assert MONITOR.sql(OVERVIEW) == "state IS NOT NULL"


def test_views_that_are_missing() -> None:
    """A view that a design lacks is an error that names those it has."""
    with pytest.raises(ViewMissing, match=r"Monitor/waiting.*todo, locked"):
        MONITOR.sql("waiting")


def test_document_is_what_couchdb_keeps() -> None:
    """A design document holds readable JavaScript, a summing reduce, and the condition's text."""
    document = Design("small", parse("cores <= 4")).document()
    assert document["_id"] == "_design/small"
    assert document["language"] == "javascript"
    assert document["picas"] == {"where": "cores <= 4"}
    assert tuple(document["views"]) == STANDARD_VIEWS
    assert document["views"][OVERVIEW]["reduce"] == "_sum"
    assert document["views"][TODO] == {
        "map": "function (doc) {\n"
        '  if (doc.type == "token") {\n'
        "    if (doc.lock == 0 && doc.done == 0"
        ' && (typeof doc.cores === "number" && doc.cores <= 4)) {\n'
        "      emit(doc._id, doc._id);\n"
        "    }\n"
        "  }\n"
        "}"
    }


@pytest.mark.parametrize("design", [MONITOR, SMALL, Design("all")], ids=lambda d: d.name)
def test_round_trip(design: Design) -> None:
    """A design is read back from its document, after CouchDB's JSON and with a revision."""
    stored = json.loads(json.dumps({**design.document(), "_rev": "1-a"}))
    assert Design.from_document(stored) == design


@pytest.mark.parametrize(
    "change",
    [
        {"picas": {"where": "cores <="}},
        {"picas": {"where": "cores <= 5"}},
        {"picas": {"where": None}},
        {"picas": {"where": 4}},
        {"picas": {"where": ""}},
        {"picas": {}},
        {"picas": "cores <= 4"},
        {"language": "erlang"},
        {"views": {"todo": raw_view("function (doc) { emit(doc._id, null); }")}},
        {"views": {}},
        {"views": 4},
    ],
)
def test_documents_that_were_edited_are_raw(change: Document) -> None:
    """Where the JavaScript is not what we would write for the condition, it is not ours."""
    assert Design.from_document({**SMALL.document(), **change}).raw


def classic(appendix: str = "", reduce: str = "function(k, v, r) { return sum(v); }") -> Document:
    """A Monitor as an older script may have written it."""
    conditions = {
        "todo": "doc.lock==0&&doc.done==0",
        "locked": "doc.lock > 0 && doc.done == 0",
        "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
        "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
    }
    start = "function(doc) {\n if (doc.type == 'token')\t{"
    views = {
        name: {"map": f"{start} if ({c}{appendix}) {{ emit(doc._id, doc._id); }} }}\n}}\n"}
        for name, c in conditions.items()
    }
    all_states = "".join(
        f"if({c}{appendix}) {{ emit('{name}', 1); }}\n" for name, c in conditions.items()
    )
    overview = {"map": f"{start}\n{all_states}}}}}", "reduce": reduce}
    return {
        "_id": "_design/Monitor",
        "language": "javascript",
        "views": {**views, "overview_total": overview},
    }


def test_classic_monitor_is_recognised() -> None:
    """The Monitor of an older client is ours but for `free`, however its JavaScript is laid out."""
    monitor = Design("Monitor", views=CLASSIC_VIEWS)
    assert Design.from_document(classic()) == monitor
    assert Design.from_document(classic(reduce="_sum")) == monitor
    flat = classic()
    flat["views"]["todo"]["map"] = (
        'function(doc) { if (doc.type == "token" && doc.lock == 0 && doc.done == 0)'
        " { emit(doc._id, doc._id) } }"
    )
    assert Design.from_document(flat) == monitor


def test_view_of_free_tokens_counts_only_as_we_would_write_it() -> None:
    """A design with somebody's own view of that name is raw: pilots do not look for work in it."""
    document = MONITOR.document()
    assert Design.from_document(document).views == STANDARD_VIEWS
    document["views"][FREE] = raw_view("function (doc) { emit([0, doc._id], null); }")
    assert Design.from_document(document).raw


def test_other_classic_designs_are_raw() -> None:
    """JavaScript that selects or counts otherwise is left to CouchDB."""
    assert Design.from_document(classic(" && doc.cores == 4")).raw
    assert Design.from_document(classic(reduce="_count")).raw
    document = classic()
    document["views"]["mine"] = raw_view("function (doc) { emit(doc.x); }", "_count")
    document["views"]["lib"] = {"helper": "exports.x = 1"}
    design = Design.from_document(document)
    assert design.raw
    assert design.views == (*CLASSIC_VIEWS, "mine")


def test_raw_designs_run_in_couchdb_only() -> None:
    """A raw design has neither SQL nor a document of our making, and says so."""
    design = Design.from_document({"_id": "_design/own", "views": {"x": raw_view("f", "_count")}})
    assert design == Design("own", raw=True, views=("x",))
    with pytest.raises(Unsupported, match="only a CouchDB pool"):
        design.sql("x")
    with pytest.raises(Unsupported, match="did not make"):
        design.document()


def test_documents_without_views() -> None:
    """A design document of another purpose (a filter, a validation) has no views."""
    assert Design.from_document({"_id": "_design/auth", "validate_doc_update": "f"}).views == ()
    assert Design.from_document({}).raw


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8))
def test_texts_in_conditions_cannot_break_out(text: str) -> None:
    """Whatever a condition's texts hold, the views stay five functions that compare."""
    name, literal = (json.dumps(part, ensure_ascii=False) for part in ("n" + text, text))
    design = Design("d", parse(f"input[{name}] == {literal}"))
    doc = {"_id": "t", "type": "token", "lock": 0, "done": 0, "input": {"n" + text: text}}
    assert emitted(design.document(), doc) == rows_of(TODO)
    assert in_sql(design, TODO, doc)
    assert Design.from_document(design.document()) == design


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "parts"),
    [
        ("Monitor/todo", ("Monitor", "todo")),
        ("todo", ("Monitor", "todo")),
        ("my design/overview_total", ("my design", "overview_total")),
    ],
)
def test_split(view: str, parts: tuple[str, str]) -> None:
    """A view's name is a design and a view; a view alone is the Monitor's."""
    assert split(view) == parts


@pytest.mark.parametrize(
    "view",
    [
        "",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "_design/a",
        "a/_view",
        "_a",
        "a\nb",
        "a/b\0",
        "a\u2028",
        "\ud800",
    ],
)
def test_bad_names(view: str) -> None:
    """A name that no view can have is refused in one line."""
    with pytest.raises(InputError, match=re.escape("cannot name a view")) as caught:
        split(view)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "a/b", "_own", "a\tb"])
def test_bad_design_names(name: str) -> None:
    """A design with a name that CouchDB would misread is not compiled."""
    with pytest.raises(InputError):
        Design(name).document()
