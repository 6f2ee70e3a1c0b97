"""From a token to the arguments that run it."""

import glob
from typing import Any

import pytest

from picas import token
from picas.errors import InputError
from picas.pilot.command import check_template, command, fill


def made(**fields: Any) -> token.Document:
    """A token with these fields."""
    return token.new(fields, "t1")


@pytest.mark.parametrize(
    "line",
    [
        "echo hello",
        "OUT=/tmp/x /bin/true",
        "A=1 ./run.sh",
        "/bin/echo $HOME",
        "/bin/echo 'a b'",
        "/bin/echo a; /bin/false",
        "/bin/echo ~",
        "/bin/ls *.txt",
        "bin/x=1",
        "/bin/echo a\n/bin/echo b",
    ],
)
def test_input_is_run_by_bash(line: str) -> None:
    """A line goes to bash as it is."""
    assert command(made(input=line), None) == (["bash", "-c", line], [])


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("/bin/true", ["/bin/true"]),
        ("/bin/echo -a 1 --b=x,y", ["/bin/echo", "-a", "1", "--b=x,y"]),
        ("./no/such/program", ["./no/such/program"]),
    ],
)
def test_plain_input_is_tried_without_bash(line: str, argv: list[str]) -> None:
    """A line that means the same without the shell does without, if it can be executed so."""
    assert command(made(input=line), None) == (argv, ["bash", "-c", line])


@pytest.mark.parametrize("value", [{}, "", "   ", 7, ["a"], None])
def test_input_that_is_no_command(value: object) -> None:
    """What cannot be run says what to do instead."""
    with pytest.raises(InputError, match="picas run -- COMMAND"):
        command(made(input=value), None)


def test_template_fills_single_arguments() -> None:
    """Values with spaces, quotes and shell characters stay one argument; nothing is expanded."""
    doc = made(input="a 'b' $c; rm -rf /", q=0.5, site={"name": "x y"}, flag=True)
    parts = ["prog", "{input}", "-q{q}", "--site={site.name}", "{id}", "{{{q}}}", "{flag}"]
    argv, instead = command(doc, parts)
    assert instead == []
    assert argv == [
        "prog",
        "a 'b' $c; rm -rf /",
        "-q0.5",
        "--site=x y",
        "t1",
        "{0.5}",
        "true",
    ]


def test_object_is_filled_in_as_json() -> None:
    """A field that is an object arrives as JSON text."""
    assert fill("{input}", made(input={"a": [1, "é"]})) == '{"a": [1, "é"]}'


def test_missing_field_names_those_that_exist() -> None:
    """An unknown field is an error that lists the token's fields."""
    with pytest.raises(InputError, match=r"no field 'nope'.*input"):
        fill("{nope}", made(input="x"))


def test_escape_keeps_patterns_from_matching_more() -> None:
    """A star inside a value is no pattern when files are looked for."""
    assert fill("out_{input}*", made(input="a*b"), escape=glob.escape) == "out_a[*]b*"


def test_nul_is_refused() -> None:
    """A NUL cannot be passed to a program, so it is a clear error instead of a crash."""
    with pytest.raises(InputError, match="NUL"):
        command(made(input="a\0b"), None)
    with pytest.raises(InputError, match="NUL"):
        command(made(input="a\0b"), ["prog", "{input}"])


@pytest.mark.parametrize("part", ["{", "}", "{}", "a{b", "{{{", "{a}}"])
def test_single_brace_in_template(part: str) -> None:
    """A lone brace or an empty place is found before any token runs."""
    with pytest.raises(InputError, match="brace"):
        check_template([part])


@pytest.mark.parametrize("part", ["", "{input}", "{{}}", "awk {{print}}", "{a.b}-{id}"])
def test_good_templates(part: str) -> None:
    """Places and doubled braces pass."""
    check_template([part])
