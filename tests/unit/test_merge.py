"""What two sides made of a document is brought together."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from picas.merge import merge

_FIELDS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


def test_each_side_keeps_what_it_changed() -> None:
    """Mine goes first where both changed a field; id and revision are theirs."""
    base = {"_id": "t", "_rev": "1", "same": 1, "mine": 1, "theirs": 1, "both": 1, "gone": 1}
    mine = {"_id": "t", "_rev": "1", "same": 1, "mine": 2, "theirs": 1, "both": 2, "new": 2}
    theirs = {**base, "_rev": "2", "theirs": 3, "both": 3}
    assert merge(base, mine, theirs) == {
        **{"_id": "t", "_rev": "2", "same": 1, "mine": 2, "theirs": 3, "both": 2, "new": 2}
    }


def test_attachments_are_merged_one_by_one() -> None:
    """One that I added, one that I removed, and one that they added."""
    base = {"_attachments": {"old": {"stub": True}, "mine": {"stub": True}}}
    mine = {"_attachments": {"old": {"stub": True}, "new": {"data": "eA=="}}}
    theirs = {"_attachments": {**base["_attachments"], "theirs": {"stub": True}}}
    merged = merge(base, mine, theirs)
    assert set(merged["_attachments"]) == {"old", "new", "theirs"}
    assert "_attachments" not in merge({}, {}, {"_attachments": {}})


@given(_FIELDS, _FIELDS, _FIELDS)
def test_any_fields(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """A side that changed nothing changes nothing; what I changed is as I left it."""
    assert merge(base, base, theirs) == theirs
    assert merge(base, mine, base) == mine
    merged = merge(base, mine, theirs)
    for name in set("abcd"):
        changed = mine.get(name) != base.get(name)
        assert merged.get(name) == (mine if changed else theirs).get(name)
