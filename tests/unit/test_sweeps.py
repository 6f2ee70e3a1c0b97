"""Sweeps, templates and `--set`: what each text means, and which are refused in which words."""

import itertools
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.errors import InputError
from picas.inputs import Identifier, tokens
from picas.sweeps import Sweep, parse_set, parse_sweep


def texts(sweep: str) -> list[str]:
    """The values of an axis as a template shows them."""
    return [value.text for value in parse_sweep(sweep)]


def values(sweep: str) -> list[Any]:
    """The values of an axis as a token holds them."""
    return [value.json for value in parse_sweep(sweep)]


@pytest.mark.parametrize("sweep", ["q=0.1-0.3", "n=1-10", "n=-2-5,7"])
def test_a_range_with_a_dash_is_refused(sweep: str) -> None:
    """The message shows how a range is written."""
    with pytest.raises(InputError, match=r"did you mean .+:.+:STEP"):
        parse_sweep(sweep)


def test_texts_with_dashes_are_values() -> None:
    """Several of them, dates, and names are meant as they are."""
    for sweep in ("chunk=1-10,11-20", "day=2024-01-31", "month=2024-01", "name=a-1"):
        assert texts(sweep) == sweep.partition("=")[2].split(",")


def test_the_size_of_a_sweep_has_an_end() -> None:
    """It is known before any token is made."""
    axes = [parse_sweep("a=1:10000"), parse_sweep("b=1:10000")]
    assert Sweep(axes).count() == 100_000_000
    with pytest.raises(InputError, match="makes 200,000,000 tokens, and 100,000,000 is the most"):
        Sweep([*axes, parse_sweep("c=1,2")])


def filled(template: str, *sweeps: str) -> list[Any]:
    """The inputs of a sweep's tokens."""
    sweep = Sweep([parse_sweep(text) for text in sweeps], template)
    return [entry.fields["input"] for entry in sweep]


@pytest.mark.parametrize(
    ("sweep", "shown"),
    [
        ("q=0.1:0.9:0.2", "0.1 0.3 0.5 0.7 0.9"),
        ("q=0.10:0.30:0.1", "0.10 0.20 0.30"),
        ("q=0:1:0.25", "0.00 0.25 0.50 0.75 1.00"),
        ("q=0.1:1:0.3", "0.1 0.4 0.7 1.0"),
        ("q=0:0.99:0.5", "0.0 0.5"),
        ("q=1:-0.5:-0.5", "1.0 0.5 0.0 -0.5"),
        ("q=0:-0.99:-0.5", "0.0 -0.5"),
        ("n=1:4", "1 2 3 4"),
        ("n=4:1:-2", "4 2"),
        ("n=5:5", "5"),
        ("n=1:1.5", "1"),
        ("n= 1 : 2 ", "1 2"),
        ("lr=1e-5:3e-5:1e-5", "0.00001 0.00002 0.00003"),
        ("n=1e3:2e3:5e2", "1000 1500 2000"),
        ("d=256,512", "256 512"),
        ("d=a, b", "a b"),
        ("d=1.50", "1.50"),
        ("t=T10:30,T11:30", "T10:30 T11:30"),
    ],
)
def test_values_are_shown_as_the_user_wrote_numbers(sweep: str, shown: str) -> None:
    """Ranges include their stop, and have the decimals of start or step."""
    assert texts(sweep) == shown.split()
    assert len(parse_sweep(sweep)) == len(shown.split())


@pytest.mark.parametrize(
    ("sweep", "held"),
    [
        ("q=0.1:0.9:0.2", [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("q=0:1:0.5", [0.0, 0.5, 1.0]),
        ("n=1:3", [1, 2, 3]),
        ("d=1,2", [1, 2]),
        ("d=1,2.5", [1.0, 2.5]),
        ("d=1e-5,-0.25", [1e-5, -0.25]),
        ("d=1,2,X", ["1", "2", "X"]),
        ("d=007,8", ["007", "8"]),
        ("d=1234567890123456", ["1234567890123456"]),
        ("d=1e999", ["1e999"]),
    ],
)
def test_a_token_holds_numbers_of_one_type(sweep: str, held: list[Any]) -> None:
    """All values of a name are integers, all decimals or all texts: a view can compare them."""
    assert values(sweep) == held
    assert [type(value) for value in values(sweep)] == [type(value) for value in held]


@given(
    st.integers(-(10**6), 10**6),
    st.integers(1, 10**4),
    st.integers(0, 50),
    st.integers(0, 6),
    st.sampled_from([1, -1]),
)
def test_steps_add_up_exactly(start: int, step: int, count: int, places: int, sign: int) -> None:
    """Each value is start + i * step in decimals, and the float in the token shows no other."""
    first, by = (Decimal(n).scaleb(-places) for n in (start, sign * step))
    axis = parse_sweep(f"q={first:f}:{first + by * count:f}:{by:f}")
    assert [Decimal(value.text) for value in axis] == [first + by * i for i in range(count + 1)]
    assert all(Decimal(json.dumps(value.json)) == Decimal(value.text) for value in axis)


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        ("q", "write NAME=START:STOP:STEP or NAME=VALUE,VALUE"),
        ("=1,2", "a name has letters, digits, _ and -, and begins with a letter"),
        ("_x=1", "begins with a letter"),
        ("a.b=1", "begins with a letter"),
        ("lock=1,2", "PiCaS keeps the field 'lock'; choose another name"),
        ("input=a,b", "PiCaS keeps the field 'input'"),
        ("attempts=1:2", "PiCaS keeps the field 'attempts'"),
        ("slurm_job_id=1:2", "PiCaS keeps the field 'slurm_job_id'"),
        ("q=", "a value is empty"),
        ("q=1,,2", "a value is empty"),
        ("q=1:2,5", "'1:2' is a range; write one range, or a list of values"),
        ("q=0.1:x", "a range is START:STOP or START:STOP:STEP"),
        ("q=1:2:3:4", "a range is START:STOP or START:STOP:STEP"),
        ("q=001:010", "without leading zeros"),
        ("q=0:NaN", "three plain numbers"),
        ("q=0:1234567890123456", "of up to 15 digits"),
        ("q=1:1e300", "a value would have over 15 digits"),
        ("q=1:5:1e-15", "a value would have over 15 digits"),
        ("q=1:5:0.0", "the step is 0; give another one"),
        ("q=5:1", "no values, the step leads away from 1; give a negative step"),
        ("q=1:5:-1", "no values, the step leads away from 5; give a positive step"),
    ],
)
def test_a_sweep_that_means_nothing_is_refused(sweep: str, problem: str) -> None:
    """The message begins with the text and says what to write."""
    with pytest.raises(InputError) as caught:
        parse_sweep(sweep)
    assert str(caught.value).startswith(f"sweep {sweep!r}: ")
    assert problem in str(caught.value)


def test_the_last_name_varies_fastest() -> None:
    """Every combination, in the order of the options."""
    sweep = Sweep([parse_sweep("q=0.1:0.2:0.1"), parse_sweep("d=256,512"), parse_sweep("s=x")])
    assert sweep.count() == 4
    assert [entry.fields["input"] for entry in sweep] == [
        {"q": q, "d": d, "s": "x"} for q, d in itertools.product([0.1, 0.2], [256, 512])
    ]
    assert len(list(sweep)) == 4


def test_each_value_is_a_field_that_views_can_select() -> None:
    """The entry says which combination it is."""
    (entry,) = Sweep([parse_sweep("q=0.10"), parse_sweep("d=a")], "run -q {q} -d {d}")
    assert entry.fields == {"q": 0.1, "d": "a", "input": "run -q 0.10 -d a"}
    assert entry.where == "sweep, q=0.10 d=a"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("-n {n} -q {q}", "-n 7 -q 0.50"),
        ("{n}{n}", "77"),
        ("awk '{{print ${n}}}'", "awk '{print $7}'"),
        ("in_{n:03d}.dat {q:.1f} {n:5}|", "in_007.dat 0.5     7|"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_a_template_is_filled(template: str, expected: str) -> None:
    """Values stand in it as they were written, or formatted; doubled braces are braces."""
    assert filled(template, "n=7:7", "q=0.50:0.50:0.01") == [expected]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{x}", "the template's {x} is not in the sweep; it has n, s (write {{ or }} for a brace"),
        ("{}", "the template's {} is not in the sweep"),
        ("{0}", "the template's {0} is not in the sweep"),
        ("{n.__class__}", "the template's {n.__class__} is not in the sweep"),
        ("{n", "expected '}' before end of string; write {{ or }} for a brace itself"),
        ("n}", "Single '}' encountered in format string; write {{ or }} for a brace itself"),
        ("{n!r}", "formats 'n' in a way PiCaS does not know; use {name}, {name:03d} or {name:.2f}"),
        ("{n:{s}}", "formats 'n' in a way PiCaS does not know"),
        ("{n:999999999d}", "formats 'n' in a way PiCaS does not know"),
        ("{s:03d}", "the template's {s:03d} for x: Unknown format code 'd'"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_at_once(template: str, problem: str) -> None:
    """Before the first token is made, with the names that exist."""
    with pytest.raises(InputError) as caught:
        Sweep([parse_sweep("n=1:2"), parse_sweep("s=x")], template)
    assert problem in str(caught.value)


def test_a_sweep_needs_names_and_each_once() -> None:
    """A name given twice is a slip: which of the two would the field hold?"""
    with pytest.raises(InputError, match="a sweep needs at least one NAME=VALUES"):
        Sweep([])
    with pytest.raises(InputError, match="the sweep names 'n' twice; list all its values once"):
        Sweep([parse_sweep("n=1"), parse_sweep("n=2")])


def test_a_sweep_becomes_tokens() -> None:
    """It is a source like any other, and can be read twice."""
    sweep = Sweep([parse_sweep("n=1:3")], "run {n}")
    passes = []
    for _ in range(2):
        with Identifier() as ids:
            passes.append(list(tokens(sweep, sets={"cores": 2}, ids=ids)))
    assert passes[0] == passes[1]
    assert [(doc["n"], doc["cores"]) for doc in passes[0] if isinstance(doc, dict)] == [
        (1, 2),
        (2, 2),
        (3, 2),
    ]


def test_a_sweep_of_a_million_is_not_held_in_memory() -> None:
    """Its size is known at once, and its values come one by one."""
    tracemalloc.start()
    sweep = Sweep([parse_sweep("q=0:1:0.1"), parse_sweep("n=1:1000000")], "{n}")
    assert sweep.count() == 11_000_000
    assert len(list(itertools.islice(sweep, 2000))) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cores=4", ("cores", 4)),
        ("q=0.5", ("q", 0.5)),
        ("site=sara", ("site", "sara")),
        ('site="4"', ("site", "4")),
        ("flag=true", ("flag", True)),
        ("note=", ("note", "")),
        ("a=b=c", ("a", "b=c")),
        ('needs={"os": [1]}', ("needs", {"os": [1]})),
        ("input.site=a", ("input.site", "a")),
        ("input=run", ("input", "run")),
        ("id=007", ("id", "007")),
        ("x=NaN", ("x", "NaN")),
        ("x=1e999", ("x", "1e999")),
        ("x=" + "[" * 200_000, ("x", "[" * 200_000)),
        ("priority=-1", ("priority", -1)),
    ],
)
def test_a_value_to_set_is_json_or_a_text(text: str, expected: tuple[str, Any]) -> None:
    """Quotes make a text of a number, as in JSON."""
    assert parse_set(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cores", "write NAME=VALUE, as in --set cores=4"),
        ("=4", "a part of the name before '=' is empty"),
        ("a..b=4", "a part of the name before '=' is empty"),
        ("a.=4", "a part of the name before '=' is empty"),
        *[
            (f"{name}=1", f"the field {name.split('.')[0]!r} is kept by PiCaS itself")
            for name in (
                *("lock", "done", "exit_code", "scrub_count", "attempts", "pilot", "lease"),
                *("_rev", "_id", "_x", "type", "hostname", "output.a", "slurm_job_id"),
            )
        ],
    ],
)
def test_a_field_that_cannot_be_set_is_refused(text: str, problem: str) -> None:
    """The message begins with the option."""
    with pytest.raises(InputError) as caught:
        parse_set(text)
    assert str(caught.value).startswith(f"--set {text!r}: {problem}")
