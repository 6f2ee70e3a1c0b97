"""What `picas push` reads: lines, JSON, CSV, ids; and what it says about what it cannot read."""

import io
import json
import random
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas import inputs
from picas.errors import ConfigError, InputError
from picas.inputs import (
    Bad,
    Entry,
    Identifier,
    cell_value,
    read_csv,
    read_json,
    read_lines,
    tokens,
)
from picas.token import CLASSIC_DEFAULTS, MAX_TOKEN_BYTES, Document

Reader = Callable[[BinaryIO, str], Iterator[Entry | Bad]]


def read(reader: Reader, data: bytes | str) -> list[Entry | Bad]:
    """All that a reader makes of some bytes, called ``f``."""
    raw = data.encode() if isinstance(data, str) else data
    return list(reader(io.BytesIO(raw), "f"))


def fields(reader: Reader, data: bytes | str) -> list[Document]:
    """The fields of all entries; nothing may be bad."""
    return [entry.fields for entry in read(reader, data) if isinstance(entry, Entry)]


def push(
    items: list[Entry | Bad], prefix: str | None = None, sets: Mapping[str, Any] | None = None
) -> list[Document | Bad]:
    """One pass of a push."""
    with Identifier(prefix) as ids:
        return list(tokens(items, sets=sets or {}, ids=ids))


def entries(*documents: Document) -> list[Entry | Bad]:
    """Entries that stand in lines 1, 2, … of ``f``."""
    return [Entry(f"f, line {n}", document) for n, document in enumerate(documents, 1)]


def ids_of(pushed: list[Document | Bad]) -> list[str]:
    """The ids of all tokens; nothing may be bad."""
    assert not [item for item in pushed if isinstance(item, Bad)]
    return [item["_id"] for item in pushed if isinstance(item, dict)]


def problems(pushed: list[Document | Bad]) -> list[str]:
    """What is said of those that are no tokens."""
    return [str(item) for item in pushed if isinstance(item, Bad)]


# Lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", []),
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\r\r\n", ["a\r"]),
        ("\n  \n\t\r\na\n\n", ["a"]),
        ("  a b  \n", ["  a b  "]),
        ("#SBATCH\n", ["#SBATCH"]),
        ("\ufeffa\n", ["a"]),
        ("a\x0bb\u2028c\x85d\n", ["a\x0bb\u2028c\x85d"]),
        ("é €\n", ["é €"]),
    ],
)
def test_a_line_is_the_input_of_a_token(data: str, expected: list[str]) -> None:
    """Only line ends and blank lines are taken away; everything else is the user's."""
    assert fields(read_lines, data) == [{"input": text} for text in expected]


def test_an_entry_knows_its_line() -> None:
    """Blank lines count, as they do in an editor."""
    assert read(read_lines, "a\n\nb\n")[1] == Entry("f, line 3", {"input": "b"})


@pytest.mark.parametrize("reader", [read_lines, read_json])
def test_a_line_that_is_not_utf8_is_bad_and_the_next_is_read(reader: Reader) -> None:
    """The message has file, line, byte and a way out."""
    bad, good = read(reader, b'{"a": "caf\xe9"}\n{"a": 1}\n')
    assert str(bad) == (
        "f, line 1: not UTF-8: byte 0xe9 at byte 11; convert it, for example with iconv"
    )
    assert isinstance(good, Entry)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_the_limit_is_read_and_a_longer_one_is_bad(end: bytes) -> None:
    """The size of the line is told, and what to do."""
    limit = b"x" * MAX_TOKEN_BYTES
    assert isinstance(read(read_lines, limit + end)[0], Entry)
    long = read(read_lines, b"a\n" + limit * 2 + b"xyz" + (end or b"\n") + b"b")
    assert [entry.where for entry in long] == ["f, line 1", "f, line 2", "f, line 3"]
    assert "bytes, and a token can have 7,900,000; put the data in a file" in str(long[1])
    assert str(long[1]).startswith("f, line 2: 15,800,003 bytes")


# JSON


@pytest.mark.parametrize(
    "data",
    [
        '{"input": "a"}\n\n{"_id": "x", "n": [1, 2.5, null]}\n',
        '\ufeff{"input": "a"}\r\n  {"_id": "x", "n": [1, 2.5, null]}',
        '[{"input": "a"}, {"_id": "x", "n": [1, 2.5, null]}]',
        '\ufeff \n[\n{"input": "a"}\n,\n{"_id": "x", "n":\n[1, 2.5, null]}\n]\n',
    ],
)
def test_json_lines_and_an_array_give_the_same_tokens(data: str) -> None:
    """The first character that is no space decides which of the two it is."""
    assert fields(read_json, data) == [{"input": "a"}, {"_id": "x", "n": [1, 2.5, None]}]


@pytest.mark.parametrize("data", ["", " \n ", "[]", " [ ]\n"])
def test_json_without_objects_gives_no_tokens(data: str) -> None:
    """Nothing in, nothing out."""
    assert read(read_json, data) == []


def test_white_space_before_an_array_may_be_long() -> None:
    """The kind of JSON is found behind any amount of space."""
    assert fields(read_json, " " * 200_000 + "[{}]") == [{}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1 "b": 2}', "not JSON: Expecting ',' delimiter (column 9)"),
        ('{"a": 1} {"b": 2}', "not JSON: Extra data (column 10)"),
        ("./run.sh", "not JSON: Expecting value (column 1)"),
        ('"text"', 'not a JSON object; write {"input": …}'),
        ('{"b": {"a": 1, "c": 2, "a": 3}}', "the name 'a' stands twice in one object"),
        ('{"a": ' + "9" * 5000 + "}", "a number of thousands of digits; write it as a text"),
        ('{"a": ' + "[" * 200_000 + "}", "nested too deeply for a token"),
    ],
)
def test_a_line_that_is_no_object_is_bad_and_the_next_is_read(line: str, problem: str) -> None:
    """The message has file, line and column."""
    first, bad, last = read(read_json, f"{{}}\n{line}\n{{}}\n")
    assert str(bad).startswith(f"f, line 2: {problem}")
    assert isinstance(first, Entry)
    assert isinstance(last, Entry)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('[{},\n{"a": 1 "b"}]', "f, line 2: not JSON: Expecting ',' delimiter (column 9)"),
        ("[{}\n{}]", "f, line 2: not JSON: Expecting ',' delimiter (column 1)"),
        ("[{},\n]", "f, line 2: not JSON: Expecting value (column 1)"),
        ("[{}", "f, line 1: not JSON: Expecting ',' delimiter (column 4)"),
        ("[", "f, line 1: not JSON: Expecting value (column 2)"),
        ("[{}]\n {}", "f, line 2: not JSON: Extra data (column 2)"),
        ('[{},\n\n{"a": 1, "a": 2}]', "f, line 3: the name 'a' stands twice in one object"),
        ("[" * 200_000, "f, line 1: nested too deeply for a token"),
        (b'\xef\xbb\xbf[{},\n{"a": "\xff"}]', "f, line 2: not UTF-8: byte 0xff at byte 8"),
    ],
)
def test_a_broken_array_is_an_error(data: bytes | str, problem: str) -> None:
    """Behind the break nothing can be read, so nothing can be skipped."""
    with pytest.raises(InputError) as caught:
        read(read_json, data)
    assert str(caught.value).startswith(problem)


def test_elements_of_an_array_know_their_lines() -> None:
    """An element that is no object is bad alone."""
    assert read(read_json, '[{"a":\n1},\n\n7, {}]') == [
        Entry("f, line 1", {"a": 1}),
        Bad("f, line 4", 'not a JSON object; write {"input": …}'),
        Entry("f, line 4", {}),
    ]


def test_a_large_element_is_bad_and_a_huge_array_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both say the limit; the array's says how to write it otherwise."""
    monkeypatch.setattr(inputs, "MAX_TOKEN_BYTES", 10)
    assert [type(item) for item in read(read_json, '[{"a": "ééé"}, {"a": "e"}]')] == [Bad, Entry]
    monkeypatch.setattr(inputs, "MAX_ARRAY_BYTES", 10)
    with pytest.raises(InputError, match=r"f: an array of over 10 bytes; .*jq -c '\.\[\]'"):
        read(read_json, '[{"a": "éé"}]')


# CSV


def test_a_row_is_a_token() -> None:
    """Cells become JSON values, but for ``input`` and ``_id``; empty ones are left out."""
    data = (
        "\ufeff_id, input,cores,q,flag,a.b\r\n"
        "1,2,4,0.10,true,x\r\n"
        "\r\n"
        'b,"say ""hi"",\r\nthere",,,,\r\n'
    )
    assert read(read_csv, data) == [
        Entry(
            "f, line 2",
            {"_id": "1", "input": "2", "cores": 4, "q": 0.1, "flag": True, "a.b": "x"},
        ),
        Entry("f, line 4", {"_id": "b", "input": 'say "hi",\nthere'}),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("999999999999999", 999999999999999),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("0.10", 0.1),
        ("true", True),
        ("false", False),
        *[
            (text, text)
            for text in ("007", "+1", "-0", "1.", ".5", "1e5", "12e5", "True", " 1", "1 ", "nan")
        ],
        *[(text, text) for text in ("1_000", "٣", "1234567890123456", "0.1234567890123456")],
    ],
)
def test_a_cell_is_a_number_only_if_nothing_is_lost(text: str, value: Any) -> None:
    """Names that look like numbers stay texts."""
    assert cell_value(text) == value
    assert type(cell_value(text)) is type(value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1", "number of cells 1, but the header has 2; put a cell that holds a comma in quotes"),
        ("1,2,3", "number of cells 3, but the header has 2"),
        (",", "all cells are empty"),
    ],
)
def test_a_row_that_does_not_fit_is_bad_and_the_next_is_read(row: str, problem: str) -> None:
    """The message has file and line."""
    bad, good = read(read_csv, f"a,b\n{row}\n1,2\n")
    assert str(bad).startswith(f"f, line 2: {problem}")
    assert good == Entry("f, line 3", {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "f: empty; the first row must name the columns"),
        ("\n\n", "f: empty; the first row must name the columns"),
        ("a,,b\n", "f, line 1: column 2 has no name in the header row"),
        ("\na,b,a\n", "f, line 2: the header row names the column 'a' twice"),
        ('a\n1\n"2\n3\n', "f, line 3: not CSV: unexpected end of data; is a quote not closed"),
        ('a\n"1"2\n', "f, line 2: not CSV: ',' expected after '\"'; is a quote not closed"),
        ('a\n"' + "x\n" * 70_000, "f, line 2: not CSV: field larger than field limit (131072)"),
        (b"a\n1\n\xe9\n", "f, line 3: not UTF-8: byte 0xe9 at byte 1; convert it"),
    ],
)
def test_a_csv_that_cannot_be_read_on_is_an_error(data: bytes | str, problem: str) -> None:
    """Behind a stray quote nobody knows what is a row, so nothing can be skipped."""
    with pytest.raises(InputError) as caught:
        read(read_csv, data)
    assert str(caught.value).startswith(problem)


# Tokens


def test_a_token_has_the_classic_fields_and_the_users() -> None:
    """What an older client reads is there; the user's fields are untouched."""
    (made,) = push(entries({"input": "x", "cores": 2}), prefix="p")
    assert made == {**CLASSIC_DEFAULTS, "_id": "p0", "input": "x", "cores": 2}


def test_sets_win_and_reach_into_objects() -> None:
    """The entry itself is not changed: it may be read again."""
    given_fields = {"cores": 1, "input": {"a": {"b": 1}}}
    sets = {"cores": 4, "input.a.c": 2, "tags.site": "x"}
    (made,) = push(entries(given_fields), sets=sets)
    assert isinstance(made, dict)
    assert made["cores"] == 4
    assert made["input"] == {"a": {"b": 1, "c": 2}}
    assert made["tags"] == {"site": "x"}
    assert given_fields == {"cores": 1, "input": {"a": {"b": 1}}}


@pytest.mark.parametrize(
    ("document", "sets", "problem"),
    [
        ({"_rev": "1-a"}, {}, "the field '_rev' is written by the pool only; leave it out"),
        ({"_attachments": {}}, {}, "the field '_attachments' is written by the pool only"),
        ({"lock": 1}, {}, "the field 'lock' is written by the pool only"),
        ({"exit_code": 0}, {}, "the field 'exit_code' is written by the pool only"),
        ({"lease": ""}, {}, "the field 'lease' is written by the pool only"),
        ({"slurm_job_id": "1"}, {}, "the field 'slurm_job_id' is written by the pool only"),
        ({"_x": 1, "_id": "t"}, {}, "token 't': the field '_x' starts with '_'"),
        ({"_id": "_t"}, {}, "the _id '_t' starts with '_'"),
        ({"_id": 5}, {}, "the _id 5 must be a text that is not empty"),
        ({"_id": ""}, {}, "the _id '' must be a text that is not empty"),
        ({"type": "task", "_id": "t"}, {}, "token 't' has type 'task'; it must be \"token\""),
        ({"_id": "t", "a": [float("nan")]}, {}, "token 't': the field a[0] is nan"),
        ({"_id": "t", "a": float("inf")}, {}, "token 't': the field a is inf"),
        ({"_id": "t", "a": "\ud800"}, {}, "token 't': the field a holds half a character"),
        ({"_id": "\ud800"}, {}, "token '\\ud800': the field _id holds half a character"),
        ({"input": "x"}, {"input.a": 1}, "input.a cannot be set: 'input' is not an object here"),
        ({"retry": {"tris": 3}}, {}, "a retry policy has no setting 'tris'"),
        ({"retry": {"delay": "soon"}}, {}, "the retry setting delay: 'soon' is no duration"),
    ],
)
def test_a_document_that_is_no_token_is_bad(
    document: Document, sets: dict[str, Any], problem: str
) -> None:
    """The message has file and line, and says which field and why."""
    bad, good = push(entries(document, {"input": {}}), sets=sets)
    assert str(bad).startswith(f"f, line 1: {problem}")
    assert isinstance(good, dict)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks_are_refused(value: str) -> None:
    """Python reads them; no pool can keep them."""
    (bad,) = push(read(read_json, f'{{"a": {{"b": {value}}}}}'), prefix="p")
    assert str(bad).startswith("f, line 1: token 'p0': the field a.b is ")


def test_classic_fields_in_their_first_state_are_taken() -> None:
    """Scripts for the classic client write the whole token."""
    assert ids_of(push(entries({"_id": "t", **CLASSIC_DEFAULTS}))) == ["t"]


@pytest.mark.parametrize("value", [{"tries": 3, "final": [2, "64-78"]}, {}, "never", 3, None])
def test_a_retry_policy_is_taken_and_so_is_a_field_of_that_name(value: Any) -> None:
    """Only an object is a policy."""
    (made,) = push(entries({"retry": value}))
    assert not isinstance(made, Bad)
    assert made["retry"] == value


def test_deep_nesting_is_bad_not_a_crash() -> None:
    """A value may be too deep for Python to walk."""
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    assert problems(push(entries({"a": deep}))) == ["f, line 1: nested too deeply for a token"]


def test_what_a_reader_found_bad_stays_bad() -> None:
    """The command counts them or stops at the first."""
    bad = Bad("f, line 1", "not JSON")
    assert push([bad, *entries({})])[0] is bad


# Ids


def test_ids_stay_the_same_over_versions() -> None:
    """From now on: a changed one is pushed again. Expected: sha256 by hand, 3 and 16 digits."""
    pushed = ids_of(push(entries({"input": "a"}, {"input": "a"}, {"n": 1, "input": {"é": [1.5]}})))
    assert pushed == [
        "token_ffae8c400d944253f35",
        "token_ffa057d9a37a98dc8e5",
        "token_257b1f490f69299b9d8",
    ]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half characters are refused elsewhere.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=5,
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from(["input", "a", "b"]), JSON), max_size=8)


@given(DOCUMENTS)
def test_the_same_push_twice_has_the_same_ids(documents: list[Document]) -> None:
    """Through JSON and back, with names in another order: so a second push adds nothing."""
    backwards = [dict(reversed(document.items())) for document in documents]
    text = "\n".join(json.dumps(document) for document in backwards)
    first = ids_of(push(entries(*documents)))
    assert ids_of(push(read(read_json, text))) == first
    assert len(set(first)) == len(documents)


@given(st.lists(st.sampled_from("abc"), max_size=30), st.randoms(use_true_random=False))
def test_equal_lines_are_tokens_of_their_own_in_any_order(
    lines: list[str], rng: random.Random
) -> None:
    """K equal lines are k ids, the same ones wherever the lines stand among others."""
    first = ids_of(push(entries(*[{"input": line} for line in lines])))
    assert len(set(first)) == len(lines)
    rng.shuffle(lines)
    assert set(ids_of(push(entries(*[{"input": line} for line in lines])))) == set(first)


def test_more_equal_lines_keep_the_ids_of_the_first() -> None:
    """Adding lines to a file and pushing it again adds those lines only."""
    two = ids_of(push(entries({"input": "a"}, {"input": "a"})))
    assert ids_of(push(entries({"input": "a"}, {"input": "a"}, {"input": "a"})))[:2] == two


def test_ids_keep_a_numbered_series_together() -> None:
    """A thousand of them lie together, whatever else is in the pool; other words, other places."""
    made = ids_of(push(entries(*[{"input": f"run L{n} 0.{n % 7}"} for n in range(61_000, 64_000)])))
    families = [made_id[: len("token_abc")] for made_id in made]
    assert [len(set(families[start : start + 1_000])) for start in (0, 1_000, 2_000)] == [1, 1, 1]
    assert len(set(families)) == 3
    others = ids_of(push(entries({"input": "run M61000 0.1"}, {"input": "go L61000 0.1"})))
    assert len({*families, *(made_id[: len("token_abc")] for made_id in others)}) == 5


def test_sets_count_in_the_id() -> None:
    """The same lines for another site are other tokens."""
    one, two = (push(entries({"input": "a"}), sets={"site": site}) for site in "ab")
    assert ids_of(one) != ids_of(two)
    assert ids_of(one) == ids_of(push(entries({"site": "a", "input": "a"})))


def test_a_prefix_numbers_by_position() -> None:
    """A bad line keeps its number, so that the others' ids hold when it is mended."""
    items = [*entries({"a": 1}), Bad("f, line 2", "x"), *entries({"_id": "own"}, {"lock": 1}, {})]
    pushed = push(items, prefix="P")
    assert [item["_id"] for item in pushed if isinstance(item, dict)] == ["P0", "own", "P4"]


@pytest.mark.parametrize("prefix", ["", "_x"])
def test_a_prefix_that_cannot_begin_an_id_is_refused(prefix: str) -> None:
    """Once, before anything is read."""
    with pytest.raises(InputError, match="cannot begin an id; begin it with a letter"):
        Identifier(prefix)


def test_an_id_that_comes_twice_is_bad_and_names_the_first() -> None:
    """Otherwise the second token would be taken for pushed already."""
    pushed = push(entries({"_id": "a"}, {"_id": "b"}, {"_id": "a", "input": "other"}))
    assert problems(pushed) == [
        "f, line 3: the id 'a' comes twice in this push, first in f, line 1; "
        "give each token its own"
    ]


@pytest.mark.parametrize("prefix", [None, "P"])
def test_given_ids_and_made_ids_do_not_meet(prefix: str | None) -> None:
    """A given id that a made one would take costs no token, silently."""
    (made,) = ids_of(push(entries({"input": "a"}), prefix=prefix))
    own: Document = {"_id": made, "input": "other"}
    after = push(entries({"input": "a"}, own), prefix=prefix)
    assert f"the id {made!r} comes twice in this push, first in " in problems(after)[0]
    if prefix is None:
        before = ids_of(push(entries(own, {"input": "a"})))
        assert before[0] == made
        assert before[1] != made


def test_no_room_for_the_temporary_file_is_an_error() -> None:
    """It is not the line's fault, so no line is skipped for it."""
    with Identifier() as ids:
        ids._seen.execute("DROP TABLE seen")
        with pytest.raises(ConfigError, match="point SQLITE_TMPDIR to a directory") as caught:
            ids.assign({}, 0, "f, line 1")
    assert isinstance(caught.value.__cause__, sqlite3.Error)


class Growing(io.RawIOBase):
    """A stream of many different lines that takes no memory itself."""

    def __init__(self, lines: int) -> None:
        self._numbers = iter(range(lines))

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give one more line."""
        line = b'"%d"\n' % number if (number := next(self._numbers, None)) is not None else b""
        buffer[: len(line)] = line
        return len(line)


@pytest.mark.parametrize("reader", [read_lines, read_csv])
def test_memory_stays_flat(reader: Reader) -> None:
    """Ten times the lines take no more memory in Python."""

    def peak(lines: int) -> int:
        stream = io.BufferedReader(Growing(lines))
        tracemalloc.start()
        with Identifier() as ids:
            for _ in tokens(reader(stream, "f"), sets={}, ids=ids):
                pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(10_000) < peak(1_000) + 50_000
