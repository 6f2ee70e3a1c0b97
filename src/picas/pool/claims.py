"""Claims of which the pool must be asked again whose they are (promises 1 and 3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from picas import token
from picas.errors import Conflict, PoolUnreachable
from picas.pool.base import Leaf, Store, Written
from picas.token import Document, State


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim as it was sent.

    Attributes:
        doc: The document, with the revision that it follows.
        whole: Whether its reply said that most copies took it (see `Written`).
    """

    doc: Document
    whole: bool

    def found(self, leaves: Iterable[Leaf]) -> Leaf | None:
        """The revision that holds it."""
        return next((leaf for leaf in leaves if token.holds(leaf.doc, self.doc)), None)

    def is_open(self, leaves: Iterable[Leaf]) -> bool:
        """Tell whether the token still stands as it was seen free: the claim may yet arrive."""
        return any(leaf.doc["_rev"] == self.doc["_rev"] for leaf in leaves)

    def has_rival(self, leaves: Iterable[Leaf]) -> bool:
        """Tell whether another revision may be somebody's claim as good as this one.

        What is free is no claim. And of two claims that follow one same revision most copies can
        have taken only one, for each copy takes one: where it is this one, the other gives way.
        """
        for leaf in leaves:
            state = token.state(leaf.doc)
            gives_way = self.whole and leaf.parent == self.doc["_rev"] and state is State.LOCKED
            if not (state is State.TODO or gives_way or token.holds(leaf.doc, self.doc)):
                return True
        return False


class Doubts:
    """Claims that were sent and are not granted yet.

    On a store that is sure of its writes these are claims whose reply was lost: they are ours if
    the token carries their lease. If it stands as it was seen free, the request may still be on its
    way, and would lock the token for a pilot that does not know it: the claim is then written
    again, and of the two one fails. On a cluster every claim comes here. There it is ours if most
    copies have it and then, with all copies read, no other claim is seen: of two pilots that do
    this at least one sees the other.

    Args:
        store: Where the tokens are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims: dict[str, _Claim] = {}

    @property
    def ids(self) -> list[str]:
        """Ids of the tokens."""
        return list(self._claims)

    def add(self, doc: Document, *, whole: bool) -> None:
        """Take a claim as it was sent; without a reply it is not known to be whole."""
        self._claims[doc["_id"]] = _Claim(doc, whole)

    def resolve(self) -> list[Document]:
        """Find out whose they are; returns those that are ours, and gives back the others.

        Raises:
            PoolUnreachable: No answer, or too few nodes of a cluster run for a claim to be sure.
        """
        if not self._claims:
            return []
        granted: list[Document] = []
        others: list[Document] = []
        few: list[Leaf] = []
        late: list[Document] = []
        for claim, leaf, rival in self._look(self.ids):
            if leaf is None:
                late += [claim.doc] if rival else []
            elif rival:
                others.append(leaf.doc)
            elif claim.whole or self._store.sure:
                granted.append(leaf.doc)
            else:
                few.append(leaf)
        sent = [*(leaf.doc for leaf in few), *late]
        answers = self._write_again(few, late)
        confirmed = [a.id for a in answers if a.rev is not None and a.whole]
        for _, leaf, rival in self._look(confirmed):
            if leaf is not None:
                (others if rival else granted).append(leaf.doc)
        unsure = [
            {**doc, "_rev": answer.rev}
            for doc, answer in zip(sent, answers, strict=True)
            if answer.rev is not None and not answer.whole
        ]
        changed = _conflicts(answers) | self._give_back([*others, *unsure])
        self._claims = {name: self._claims[name] for name in changed}
        if unsure and not granted:
            raise PoolUnreachable(
                f"claiming: {self._store.url} has too few nodes running to be sure of a claim: "
                "most copies of a token must be within reach"
            )
        return granted

    def _look(self, ids: Sequence[str]) -> list[tuple[_Claim, Leaf | None, bool]]:
        """How the claims stand.

        Returns:
            Each with the revision that holds its token, and whether that has a rival; with None
            where there is no such revision, and whether it may yet come.
        """
        looked: list[tuple[_Claim, Leaf | None, bool]] = []
        for name, leaves in zip(ids, self._store.leaves(ids) if ids else (), strict=True):
            claim = self._claims[name]
            leaf = claim.found(leaves)
            told = claim.is_open(leaves) if leaf is None else claim.has_rival(leaves)
            looked.append((claim, leaf, told))
        return looked

    def _write_again(self, few: Sequence[Leaf], late: Sequence[Document]) -> list[Written]:
        """Write claims again: those that few copies may have, and those that did not arrive.

        The first are brought to all copies before; the write then tells if most have it.
        """
        if few:
            self._store.spread(few)
        docs = [*(leaf.doc for leaf in few), *late]
        return self._store.write(docs) if docs else []

    def _give_back(self, docs: Sequence[Document]) -> set[str]:
        """Make tokens free again; returns the ids of those that were changed meanwhile."""
        now = self._store.now()
        return _conflicts(
            self._store.write([token.release(d, now, "") for d in docs]) if docs else ()
        )


def _conflicts(answers: Iterable[Written]) -> set[str]:
    """Ids of the documents that met another revision."""
    return {answer.id for answer in answers if isinstance(answer.error, Conflict)}
