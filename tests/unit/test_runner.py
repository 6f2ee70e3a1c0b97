"""What a Python function makes of its token."""

from typing import Any

from picas import token
from picas.pilot import FunctionRunner
from picas.pilot.places import Place
from picas.token import Document, Holder


def claimed(**fields: Any) -> Document:
    """A claimed token with these fields."""
    return token.claim(token.new(fields, "t1"), 1.0, Holder("pilot_x", "here"), "l1")


def test_inner_changes_are_told_from_what_was_there() -> None:
    """A change deep inside a field is seen, since the function works on a copy of all of it."""
    doc = claimed(output={"parts": [{"n": 1}]}, input="x")

    def work(own: Document) -> None:
        own["output"]["parts"][0]["n"] = 2

    result = FunctionRunner(work).start(doc, None, Place()).run()
    assert result.outcome.fields == {"output": {"parts": [{"n": 2}]}}
    assert doc["output"] == {"parts": [{"n": 1}]}
