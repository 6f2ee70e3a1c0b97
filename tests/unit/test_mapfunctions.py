"""Classic map functions are read as conditions, and what else they may be is refused."""

import pytest

from picas import views
from picas.conditions import parse
from picas.errors import Unsupported
from picas.mapfunctions import condition_of
from picas.views import Design

STATES = tuple(views.STATE_CONDITIONS)


def text_of(view: str, code: str) -> str | None:
    """The condition as text."""
    found = condition_of(view, code)
    return None if found is None else found.text


@pytest.mark.parametrize("view", [*STATES, views.OVERVIEW])
@pytest.mark.parametrize("where", [None, 'cores == 4 and input.site == "a b"'])
def test_our_own_views_are_read(view: str, where: str | None) -> None:
    """What we compile, we read: the same condition comes out, as it is compiled."""
    condition = None if where is None else parse(where)
    code = Design("D", condition).document()["views"][view]["map"]
    if where is None:
        assert condition_of(view, code) is None
    else:
        # Its JavaScript guards against missing fields, which no classic function does.
        with pytest.raises(Unsupported):
            condition_of(view, code)


@pytest.mark.parametrize(
    "code",
    [
        "function(doc){if(doc.type=='token'&&doc.lock==0&&doc.done==0&&doc.cores==1)"
        "{emit(doc._id,doc._id);}}",
        'function (doc) { if (doc.type === "token") { if ((doc.lock == 0) && (doc.done == 0)) '
        "{ if (doc.cores == 1) emit(doc._id, doc._id) } } }",
        """
        function(doc) {
           // tokens for one core
           if(doc.type == "token") {
            if(doc.cores == 1 && doc.lock == 0 && doc.done == 0 ) {
              emit(doc._id, doc._id);
            }
          } /* no others */
        }
        """,
    ],
)
def test_ways_of_writing_the_same(code: str) -> None:
    """Spaces, quotes, nesting, comments and order make no difference."""
    assert text_of("todo", code) == "doc.cores == 1"


def test_several_terms() -> None:
    """Joined by "and" and "or", with strings as they are."""
    code = (
        "function(doc) { if (doc.type == 'token' && doc.lock > 0 && doc.done == 0 && "
        "doc.site == 'a b' && (doc.n > 3 || doc.input.deep != 2)) { emit(doc._id, doc._id); } }"
    )
    found = condition_of("locked", code)
    assert found is not None
    assert found.matches({"site": "a b", "n": 4, "input": {"deep": 2}})
    assert not found.matches({"site": "ab", "n": 4, "input": {"deep": 2}})


TODO = 'doc.type == "token" && doc.lock == 0 && doc.done == 0'


@pytest.mark.parametrize(
    ("terms", "fits", "fits_not"),
    [
        ("(doc.a == 1 || doc.a == 2) && doc.b == 1", {"a": 2, "b": 1}, {"a": 1}),
        ("((doc.a == 1) || (doc.a == 2)) && doc.b == 1", {"a": 2, "b": 1}, {"a": 1}),
        ("(doc.a == 1 || doc.a == 2 && doc.b == 1)", {"a": 1}, {"a": 2}),
        ("(doc.a == 1 && doc.b == 1)", {"a": 1, "b": 1}, {"a": 1}),
        ("doc.site == 'x || y && z'", {"site": "x || y && z"}, {"site": "x or y and z"}),
    ],
)
def test_and_binds_before_or(
    terms: str, fits: dict[str, object], fits_not: dict[str, object]
) -> None:
    """Terms keep their meaning in JavaScript when they are joined; texts stay as they are."""
    found = condition_of(
        "todo", f"function(doc) {{ if ({TODO} && {terms}) {{ emit(doc._id, doc._id); }} }}"
    )
    assert found is not None
    assert found.matches(fits)
    assert not found.matches(fits_not)


@pytest.mark.parametrize(
    "terms", [f"{TODO} && doc.a == 1 || doc.a == 2", f"doc.a == 2 || {TODO}", f"({TODO}) || true"]
)
def test_tokens_in_any_state_are_refused(terms: str) -> None:
    """With an "or" beside the terms of the state, JavaScript emits other tokens, too."""
    with pytest.raises(Unsupported):
        condition_of("todo", f"function(doc) {{ if ({terms}) {{ emit(doc._id, doc._id); }} }}")


def test_an_overview_counts_the_same_tokens() -> None:
    """Its condition is that of its states."""
    code = """function(doc) { if (doc.type == "token" && doc.cores == 4) {
      if (doc.lock == 0 && doc.done == 0) { emit('todo', 1); }
      if (doc.lock > 0 && doc.done == 0) { emit('locked', 1); }
      if (doc.lock > 0 && doc.done > 0 && doc.exit_code == 0) { emit('done', 1); }
      if (doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code, 10) != 0) { emit('error', 1); }
    } }"""
    assert text_of(views.OVERVIEW, code) == "doc.cores == 4"


@pytest.mark.parametrize(
    ("view", "code"),
    [
        ("todo", ""),
        ("todo", "function(doc) { emit(doc._id, doc._id); }"),
        ("todo", "function(doc) { if (doc.type == 'token') { emit(doc._id, doc._id); } }"),
        (
            "todo",
            "function(doc) { if (doc.type == 'token' && doc.lock == 0 && doc.done == 0) "
            "{ emit(doc.input, 1); } }",
        ),
        (
            "locked",
            "function(doc) { if (doc.type == 'token' && doc.lock == 0 && doc.done == 0) "
            "{ emit(doc._id, doc._id); } }",
        ),
        (
            "mine",
            "function(doc) { if (doc.type == 'token' && doc.lock == 0 && doc.done == 0) "
            "{ emit(doc._id, doc._id); } }",
        ),
        ("todo", "function(doc) { var x = 1; }"),
        ("todo", "function(doc) { if (doc.type == 'token' && `x`) { emit(doc._id, doc._id); } }"),
        (
            "todo",
            "function(doc) { if (doc.type == 'token' && doc.lock == 0 && doc.done == 0 && "
            "doc.name.match('x')) { emit(doc._id, doc._id); } }",
        ),
        (views.OVERVIEW, "function(doc) { if (doc.type == 'token') { emit('todo', 1); } }"),
    ],
)
def test_what_cannot_be_read(view: str, code: str) -> None:
    """It is refused in one line, that says what to do."""
    with pytest.raises(Unsupported, match="picas views add") as caught:
        condition_of(view, code)
    assert "\n" not in str(caught.value)
