"""Reads the map functions of classic views: which of our views they are, and of which tokens.

The embedded store runs no JavaScript. But the functions in classic scripts have one shape: they
emit tokens in a state, perhaps only those that meet a condition on their fields. Such a function
says the same as a view of ours (see `picas.views`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from picas.conditions import Condition, parse
from picas.errors import ConditionError, Unsupported
from picas.views import DONE, ERROR, LOCKED, OVERVIEW, TODO

_WORD = re.compile(
    r"""\s+|//[^\n]*|/\*.*?\*/|(?P<word>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
    r"""|[\w$]+(?:\.[\w$]+)*|[=!]==?|[<>]=?|&&|\|\||[(){};,\[\]!-])""",
    re.S,
)

_IS_TOKEN = 'doc.type == "token"'
_FREE, _UNDONE = "doc.lock == 0", "doc.done == 0"
_LOCKED, _CLOSED = "doc.lock > 0", "doc.done > 0"
_STATES: Mapping[str, frozenset[str]] = {
    TODO: frozenset((_FREE, _UNDONE)),
    LOCKED: frozenset((_LOCKED, _UNDONE)),
    DONE: frozenset((_LOCKED, _CLOSED, "doc.exit_code == 0")),
    ERROR: frozenset((_LOCKED, _CLOSED, "doc.exit_code != 0")),
}
_STATE_TERMS = frozenset.union(*_STATES.values())

_OR = re.compile(r"\bor\b")

_Terms = tuple[str, ...]
_Emit = tuple[_Terms, str, str]
"""What is emitted: under which terms, the key and the value."""


def condition_of(view: str, map_function: str) -> Condition | None:
    """Which tokens a design has, told by the map function of one of its views.

    Args:
        view: The view's name behind the slash.
        map_function: Its JavaScript.

    Returns:
        The condition that narrows its views; None if they are of all tokens.

    Raises:
        Unsupported: It is no view of tokens in one state, or of their numbers.
    """
    try:
        return _condition(view, list(_Reader(map_function).emits()))
    except (ConditionError, _NotRead) as why:
        raise Unsupported(
            f"the map function of {view!r} is no view of tokens in one state, as far as it can be "
            f"read ({why}); the embedded store runs no JavaScript: use 'picas views add NAME "
            "--where CONDITION', or a CouchDB pool"
        ) from why


class _NotRead(Exception):
    """What of a function is not understood."""


def _condition(view: str, emits: Sequence[_Emit]) -> Condition | None:
    if view == OVERVIEW:
        states = {key.strip("\"'"): terms for terms, key, _ in emits}
        if states.keys() != _STATES.keys() or len(emits) != len(_STATES):
            raise _NotRead("it does not count the four states")
        found = {_rest(state, terms) for state, terms in states.items()}
    elif view in _STATES:
        if [(key, value) for _, key, value in emits] != [("doc._id", "doc._id")]:
            raise _NotRead("it does not emit (doc._id, doc._id), once")
        found = {_rest(view, emits[0][0])}
    else:
        raise _NotRead(f"a design has the views {', '.join(_STATES)} and {OVERVIEW}")
    if len(found) > 1:
        raise _NotRead("its states have different conditions")
    terms = found.pop()
    if not terms:
        return None
    # "or" binds less than the "and" between the terms.
    return parse(" and ".join(f"({t})" if len(terms) > 1 and _OR.search(t) else t for t in terms))


def _rest(state: str, terms: _Terms) -> _Terms:
    """The terms that say nothing about the state."""
    if _IS_TOKEN not in terms:
        raise _NotRead(f"it is not about documents with {_IS_TOKEN}")
    if frozenset(terms) & _STATE_TERMS != _STATES[state]:
        raise _NotRead(f"it is not about tokens that are {state}")
    return tuple(term for term in terms if term not in _STATE_TERMS and term != _IS_TOKEN)


class _Reader:
    """Reads ``function (doc) { if (…) { emit(…); } }``, with ifs in ifs and one after another."""

    def __init__(self, text: str) -> None:
        self._words: list[str] = []
        at = 0
        while at < len(text):
            match = _WORD.match(text, at)
            if match is None:
                raise _NotRead(f"at {text[at : at + 20]!r}")
            at = match.end()
            if word := match["word"]:
                self._words.append(_normal(word))

    def emits(self) -> Iterator[_Emit]:
        """What the function emits, in order."""
        self._expect("function", "(", "doc", ")")
        yield from self._block(())
        if self._words and self._words != [";"]:
            raise _NotRead(f"at {self._words[0]!r}")

    def _block(self, terms: _Terms) -> Iterator[_Emit]:
        self._expect("{")
        while self._next() != "}":
            yield from self._statement(terms)
        self._expect("}")

    def _statement(self, terms: _Terms) -> Iterator[_Emit]:
        match self._next():
            case "if":
                self._expect("if", "(")
                inner = (*terms, *self._terms())
                yield from self._block(inner) if self._next() == "{" else self._statement(inner)
            case "emit":
                self._expect("emit", "(")
                key = self._until(",")
                yield terms, key, self._until(")")
            case ";":
                self._expect(";")
            case other:
                raise _NotRead(f"at {other!r}")

    def _terms(self) -> Iterator[str]:
        """The terms of a condition, up to its closing parenthesis, joined by ``&&``."""
        depth = 0
        words: list[str] = []
        while (word := self._take()) != ")" or depth:
            depth += (word == "(") - (word == ")")
            words.append(word)
        yield from _and_terms(words)

    def _until(self, end: str) -> str:
        words = []
        while (word := self._take()) != end:
            words.append(word)
        return " ".join(words)

    def _expect(self, *words: str) -> None:
        for word in words:
            if (there := self._take()) != word:
                raise _NotRead(f"at {there!r}, where {word!r} was expected")

    def _next(self) -> str:
        if not self._words:
            raise _NotRead("it ends too early")
        return self._words[0]

    def _take(self) -> str:
        word = self._next()
        del self._words[0]
        return word


def _and_terms(words: Sequence[str]) -> Iterator[str]:
    """The terms that ``&&`` joins, also within parentheses of their own."""
    words = _bare(words)
    if len(_split(words, "||")) > 1:
        # One term in all: "&&" binds tighter in both languages, and `_rest` puts it in parentheses.
        yield _term(words)
        return
    parts = _split(words, "&&")
    for part in parts:
        yield from _and_terms(part) if len(parts) > 1 else [_term(part)]


def _split(words: Sequence[str], sign: str) -> list[Sequence[str]]:
    """The words between signs that stand in no parentheses."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == sign and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return list(parts)


def _bare(words: Sequence[str]) -> Sequence[str]:
    """Words without the parentheses around them all."""
    while len(words) > 2 and words[0] == "(" and words[-1] == ")":
        depth = 0
        for word in words[:-1]:
            depth += (word == "(") - (word == ")")
            if depth == 0:  # the first one is closed before the end
                return words
        words = words[1:-1]
    return words


def _term(words: Sequence[str]) -> str:
    """A term as it is compared: without what is mere style."""
    text = " ".join({"||": "or", "&&": "and"}.get(word, word) for word in words)
    return re.sub(r"^parseInt \( doc\.exit_code(?: , 10)? \)", "doc.exit_code", text)


def _normal(word: str) -> str:
    if word.startswith("'"):
        return '"' + word[1:-1].replace('"', '\\"') + '"'
    return {"===": "==", "!==": "!="}.get(word, word)
