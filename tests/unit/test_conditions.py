"""Conditions mean the same to Python, JavaScript and SQL, and bad ones are explained."""

import contextlib
import json
import sqlite3
import string
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import quickjs
from hypothesis import given, settings
from hypothesis import strategies as st

from picas.conditions import MAX_DEPTH, Condition, parse
from picas.errors import ConditionError

Evaluators = tuple[quickjs.Context, sqlite3.Connection]


@pytest.fixture(scope="module")
def evaluators() -> Iterator[Evaluators]:
    """A JavaScript engine and an SQLite database, both real."""
    database = sqlite3.connect(":memory:")
    yield quickjs.Context(), database
    database.close()


def in_javascript(context: quickjs.Context, condition: Condition, doc: Mapping[str, Any]) -> bool:
    """What CouchDB's JavaScript makes of it."""
    function = (
        f"(function (text) {{ var doc = JSON.parse(text); return {condition.javascript()}; }})"
    )
    answer = context.eval(f"{function}({json.dumps(json.dumps(doc))})")
    assert isinstance(answer, bool)
    return answer


def in_sql(database: sqlite3.Connection, condition: Condition, body: str) -> bool:
    """What SQLite makes of it."""
    query = f"SELECT count(*) FROM (SELECT ? AS body) WHERE {condition.sql()}"
    return bool(database.execute(query, [body]).fetchone()[0])


def everywhere(evaluators: Evaluators, condition: Condition, doc: Mapping[str, Any]) -> bool:
    """The answer of all three, which must be one; SQL also with non-ASCII text unescaped."""
    context, database = evaluators
    expected = condition.matches(doc)
    assert in_javascript(context, condition, doc) is expected, condition.javascript()
    for ascii_only in (True, False):
        body = json.dumps(doc, ensure_ascii=ascii_only)
        assert in_sql(database, condition, body) is expected, condition.sql()
    return expected


# --- random conditions and documents -------------------------------------------------------------

ODD_NAMES = [
    *("my-field", "a.b", "with space", 'quo"te', "quo'te", "back\\slash", "é", "$", "[0]", "0"),
    *("length", "constructor", "__proto__", "toString", "hasOwnProperty", "class", "doc", "true"),
    *("line\u2028end", "new\nline", "*/", "key", "type", "name"),
]
names = st.one_of(st.sampled_from(["a", "b", "input"]), st.sampled_from(ODD_NAMES))
characters = st.characters(max_codepoint=0xFFFF, exclude_characters="\0", exclude_categories=["Cs"])
texts = st.one_of(
    st.sampled_from(["", "a", "B", "4", "true", "'", '"', "' OR 1=1 --", "\u2028", "é", "\\"]),
    st.text(characters, max_size=4),
)
integers = st.one_of(
    st.integers(-2, 5), st.integers(-(2**53), 2**53), st.sampled_from([2**53, 2**53 - 1, -(2**53)])
)
floats = st.one_of(
    st.sampled_from([4.0, 0.5, -0.0, 1e17, 1e300, 5e-7]),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(st.booleans(), integers, floats, texts)
stored = st.one_of(scalars, st.none(), st.sampled_from([2**53 + 1, 10**17 + 1, 10**30, -(10**400)]))
values = st.recursive(
    stored,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(names, inner, max_size=3)),
    max_leaves=5,
)
documents = st.dictionaries(names, values, max_size=5)


def written(path: list[str]) -> str:
    """A field as a user may write it."""
    plain = set(string.ascii_letters)
    first, *rest = path
    head = first if first in ("a", "b", "input") else f"doc[{json.dumps(first)}]"
    return head + "".join(
        f".{n}" if set(n) <= plain and n not in ("class",) else f"[{json.dumps(n)}]" for n in rest
    )


def literal(value: Any) -> str:
    """A literal as a user may write it."""
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


fields = st.lists(names, min_size=1, max_size=3).map(written)
literals = scalars.map(literal)
unequal = st.sampled_from(["==", "!="])
orders = st.sampled_from(["<", "<=", ">", ">="])
ordered_literals = st.one_of(integers, floats, texts).map(literal)
lists = st.lists(literals, min_size=1, max_size=4).map(lambda entries: f"[{', '.join(entries)}]")
comparisons = st.one_of(
    st.tuples(fields, unequal, st.one_of(literals, fields)),
    st.tuples(literals, unequal, fields),
    st.tuples(fields, orders, st.one_of(ordered_literals, fields)),
    st.tuples(ordered_literals, orders, fields, orders, ordered_literals),
    st.tuples(fields, st.sampled_from(["in", "not in"]), lists),
).map(" ".join)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) and ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) or ({two[1]})"),
        st.tuples(inner, inner, inner).map(lambda three: "{} and not {} or {}".format(*three)),
    ),
    max_leaves=4,
)


@settings(max_examples=500, deadline=None)
@given(conditions, st.lists(documents, min_size=1, max_size=3))
def test_three_evaluators_agree(
    evaluators: Evaluators, text: str, docs: list[dict[str, Any]]
) -> None:
    """Any condition gives the same answer for any document, in Python, JavaScript and SQL."""
    condition = parse(text)
    for doc in docs:
        everywhere(evaluators, condition, doc)


@settings(max_examples=300, deadline=None)
@given(comparisons, documents)
def test_not_is_the_opposite_where_the_field_has_a_place(text: str, doc: dict[str, Any]) -> None:
    """A comparison and its opposite never both match."""
    assert not (parse(text).matches(doc) and parse(f"not ({text})").matches(doc))


# --- meaning -------------------------------------------------------------------------------------

DOC = {
    "cores": 4,
    "half": 0.5,
    "site": "a",
    "ready": True,
    "nothing": None,
    "numeral": "4",
    "list": [1, 2],
    "huge": 2**53 + 1,
    "input": {"site": "b", "my-field": 1, "deep": {"er": "x"}},
    "class": 1,
    "doc": 2,
}

MEANING = [
    ("cores == 4", True),
    ("cores == 4.0", True),
    ("4 == cores", True),
    ('cores == "4"', False),
    ('cores != "4"', True),
    ("ready == 1", False),
    ("ready == true", True),
    ("ready == True", True),
    ("ready != false", True),
    ("numeral == 4", False),
    ("missing == 4", False),
    ("missing != 4", False),
    ("not missing == 4", False),
    ("nothing != 4", False),
    ("not (nothing == 4)", False),
    ("1 < cores <= 4", True),
    ("1 < cores < 4", False),
    ("not (1 < cores < 4)", True),
    ("not (1 < missing < 4)", False),
    ("half > -1", True),
    ("numeral > 3", False),
    ("not (numeral > 3)", False),
    ('"3" < numeral', True),
    ("ready > 0", False),
    ("list == 1", False),
    ("list != 1", True),
    ("list > 0", False),
    ("list != list", True),
    ("input == input", False),
    ("cores in [1, 4]", True),
    ("cores in (1, 4)", True),
    ("cores not in [1, 4]", False),
    ("not (cores in [1])", True),
    ("missing not in [1, 4]", False),
    ('site in [1, true, "a"]', True),
    ("ready in [1]", False),
    ('input.site == "b"', True),
    ("input.site != site", True),
    ('input.deep.er == "x"', True),
    ("site.er != 1", False),
    ("list.length != 1", False),
    ('doc["list"]["0"] == 1', False),
    ("site.length == 1", False),
    ("constructor != 1", False),
    ('constructor.name != ""', False),
    ("__proto__.toString != 1", False),
    ('input["my-field"] == 1', True),
    ("doc.cores == 4", True),
    ('doc["class"] == 1', True),
    ("doc.doc == 2", True),
    ("huge == 9007199254740992", True),
    ("cores == 1 or site == 'a' and ready == true", True),
    ("not (cores == 4 and site == 'b')", True),
    ("not not cores == 4", True),
    ("cores == 4\n  and site == 'a'", True),
    ('nothing == 1 or site == "a"', True),
]


@pytest.mark.parametrize(("text", "expected"), MEANING)
def test_meaning(evaluators: Evaluators, text: str, expected: bool) -> None:
    """Each condition selects, in all three readings, what the documentation says."""
    assert everywhere(evaluators, parse(text), DOC) is expected


def test_text_is_kept() -> None:
    """A condition remembers how it was written, on one line."""
    assert parse("  cores == 4\nand a == 1 ").text == "cores == 4 and a == 1"


def test_equal_texts_are_equal_conditions() -> None:
    """Conditions are values."""
    assert parse("cores == 4") == parse(" cores == 4")
    assert parse("cores == 1") != parse("cores == true")


def test_javascript_is_readable() -> None:
    """What stands in Fauxton is what a person would have written."""
    assert parse("cores == 4").javascript() == "doc.cores === 4"
    assert parse("mem > 2").javascript() == 'typeof doc.mem === "number" && doc.mem > 2'
    assert parse('site in ["a", "b"]').javascript() == '["a", "b"].indexOf(doc.site) !== -1'


def test_sql_names_the_column() -> None:
    """The column with the document can have another name."""
    sql = parse("ready == true").sql("t.doc")
    assert sql == "json_type(t.doc, '$.ready') = 'true'"


def test_every_name_that_objects_inherit_is_guarded(evaluators: Evaluators) -> None:
    """No property that JavaScript gives every object passes for a field."""
    inherited = evaluators[0].eval("Object.getOwnPropertyNames(Object.prototype).join()")
    for name in str(inherited).split(","):
        assert not everywhere(evaluators, parse(f"{name} != 1"), {})
        assert everywhere(evaluators, parse(f"{name} != 1"), {name: 2})


@pytest.mark.parametrize(
    "text",
    [
        "x'; DROP TABLE tokens; --",
        "' OR '1'='1",
        '"); emit(1, 1); ("',
        "\\",
        "\\'",
        '\\"',
        "\u2028; throw 1; //",
        "\u2029",
        "*/ throw 1 /*",
        "</script>",
        "?1 :name @x $y %s {0}",
        "\ufeff",
    ],
)
def test_texts_and_names_cannot_break_out(evaluators: Evaluators, text: str) -> None:
    """A text, as a literal or as a name, stays one whatever characters it holds."""
    quoted = json.dumps(text)
    assert everywhere(evaluators, parse(f"a == {quoted}"), {"a": text})
    assert not everywhere(evaluators, parse(f"a == {quoted}"), {"a": "x"})
    assert everywhere(evaluators, parse(f"doc[{quoted}] == 1"), {text: 1})
    assert everywhere(evaluators, parse(f"a[{quoted}].b in [1, {quoted}]"), {"a": {text: {"b": 1}}})
    assert not everywhere(evaluators, parse(f"a[{quoted}].b != 1"), {"a": text})


def test_largest_conditions_are_taken_everywhere(evaluators: Evaluators) -> None:
    """What the limits allow overflows no parser, in no language."""
    field = "a" + '["é"]' * 9
    nested = f"{field} != b"
    for depth in range(MAX_DEPTH // 2):
        nested = f"not ({nested} {'or' if depth % 2 else 'and'} b == {depth})"
    everywhere(evaluators, parse(nested), {"a": {"é": 1}, "b": 3})
    everywhere(evaluators, parse(" or ".join([f"{field} != b"] * 100)), {"b": 1})
    many = ", ".join(f'"t{number}"' for number in range(2000))
    assert everywhere(evaluators, parse(f"a in [{many}]"), {"a": "t1999"})


# --- errors --------------------------------------------------------------------------------------

ERRORS = [
    ("", 0, "empty"),
    ("  \n", 0, "empty"),
    ("a == 1" + " " * 20_000, 0, "longer than 20000"),
    ("cores", 1, "compare it"),
    ("input.ready", 1, "compare it"),
    ("not ready", 5, "compare it"),
    ("a == 1 and true", 12, "compare it"),
    ("cores = 4", 7, "write == instead of ="),
    ("cores === 4", 7, "write == instead of ==="),
    ("a <> 1", 3, "write != instead of <>"),
    ("a == 1 && b == 2", 8, "write and instead of &&"),
    ("a == 1 || b == 2", 8, "write or instead of ||"),
    ("!a", 1, "write not instead of !"),
    ("a == 1 & b == 2", 6, "instead of & and |"),
    ("(a == 1) | (b == 2)", 1, "instead of & and |"),
    ("a == 1, b == 2", 1, "not a comma"),
    ("class == 1", 1, 'doc["class"]'),
    ("input.lambda == 1", 7, '["lambda"]'),
    ("a == 1 if b == 2 else c == 3", 8, 'doc["if"]'),
    ("a is 4", 3, "write == or !="),
    ("a == None", 6, "missing or null never matches"),
    ("a != null", 6, "missing or null never matches"),
    ("a == NaN", 6, "no number"),
    ("true.x == 1", 1, 'doc["true"]'),
    ("doc == 1", 1, 'doc["doc"]'),
    ("a == 9007199254740993", 6, "2**53"),
    ("a in [1, -9007199254740993]", 10, "2**53"),
    ("a == 1e999", 6, "too large"),
    ("a == 1j", 6, "allowed are"),
    ("a == ...", 6, "allowed are"),
    ("f(a) == 1", 1, "functions"),
    ("a.lower() == 'x'", 1, "functions"),
    ("a + 1 == 2", 1, "arithmetic"),
    ("a == --1", 6, "arithmetic"),
    ("a == -b", 6, "arithmetic"),
    ("a == -true", 6, "arithmetic"),
    ("a == [1]", 6, "only after in"),
    ("a == (b == 1)", 7, "cannot be compared"),
    ("(a and b) == 1", 2, "join comparisons"),
    ("a < true", 1, "have an order"),
    ('"cores" == 4', 1, "without quotes"),
    ("1 < 2 < a", 1, "without quotes"),
    ("a in b", 6, "a list of literals"),
    ('a in "abc"', 6, "a list of literals"),
    ("a in []", 6, "a list of literals"),
    ("a in [b]", 6, "a text needs quotes"),
    ("1 in [1]", 1, "only a field"),
    ("a[0] == 1", 3, "in brackets stands a name"),
    ("a[b] == 1", 3, "in brackets stands a name"),
    ('a[""] == 1', 1, "none of them empty"),
    ("a" + ".b" * 10 + " == 1", 1, "1 to 10 names"),
    ('a == "x', 6, "no end"),
    (r'a == "\d"', 7, "for one backslash"),
    (r'a == "\ud800"', 6, "half a character"),
    (r'a == "\x00"', 6, "NUL"),
    ('a == f"x"', 6, "without a letter"),
    ('a == r"x"', 6, "without a letter"),
    ('a == b"x"', 6, "without a letter"),
    ("a == 4and b == 2", 6, "a space is missing"),
    ("a == 1 # note", 8, "no comments"),
    ("a == 1\0", 7, "control character"),
    ("a == '\ud800'", 7, "half a character"),
    ("a ==", 5, "allowed are"),
    ("a == 1 b", 8, "allowed are"),
    ("  é == 1 and 1 == 1", 14, "two literals"),
    ("{} == a", 1, "allowed are"),
    ("(" * 300 + "a == 1" + ")" * 300, 201, "allowed are"),
    ("not " * 13 + "a == 1", 53, "more than 12"),
    ("not " * 4990 + "a == 1", 0, "too deeply"),
    ("a == " + "-" * 19_000 + "1", 0, "too deeply"),
    ("a" + ".b" * 9000 + " == 1", 0, "too deeply"),
    (" or ".join(["a == 1"] * 101), 1006, "more than 100"),
]


@pytest.mark.parametrize(("text", "column", "says"), ERRORS, ids=lambda v: ascii(v)[:30])
def test_bad_conditions_are_explained(text: str, column: int, says: str) -> None:
    """An error is one line that names the column and what to write instead."""
    with pytest.raises(ConditionError) as caught:
        parse(text)
    message = str(caught.value)
    assert says in message
    assert message.isprintable()
    assert len(message) < 300
    if column:
        assert message.startswith(f"condition, column {column}, ")


def test_parentheses_alone_are_no_depth() -> None:
    """Parentheses around one another change nothing."""
    assert parse("(" * 150 + "a == 1" + ")" * 150).matches({"a": 1})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text("a.b=<>!()[]\"'\\ 1andornti,&|#-", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the parser raise anything but its own error."""
    with contextlib.suppress(ConditionError):
        assert parse(text).matches({}) is False
