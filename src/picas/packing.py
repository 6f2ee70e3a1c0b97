"""Tokens side by side in one pilot: what each takes of it, and what is left for others.

A pilot is divided into slots. A token that says nothing takes one of them; one that needs more
cores than a slot stands for takes several. Memory and GPUs count for those that ask for them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picas.needs import Offer, needs
from picas.token import Document


@dataclass(frozen=True, slots=True)
class Share:
    """What a token takes of its pilot, or what there is to take.

    Attributes:
        slots: Slots.
        memory: Bytes.
        gpus: GPUs.
    """

    slots: float = 1
    memory: float = 0
    gpus: float = 0

    def fits(self, room: "Share | Stock") -> bool:
        """Tell whether there is room for it."""
        return self.slots <= room.slots and self.memory <= room.memory and self.gpus <= room.gpus


ONE_SLOT = Share()


class Stock:
    """What is left of something, or held of it: shares go in and out, for every token."""

    __slots__ = ("gpus", "memory", "slots")

    def __init__(self, slots: float = 0, memory: float = 0, gpus: float = 0) -> None:
        self.slots, self.memory, self.gpus = slots, memory, gpus

    def put(self, share: Share) -> None:
        """Add a share."""
        self.slots += share.slots
        self.memory += share.memory
        self.gpus += share.gpus

    def take(self, share: Share) -> None:
        """Take one away."""
        self.slots -= share.slots
        self.memory -= share.memory
        self.gpus -= share.gpus


class Divided:
    """A pilot, divided among its tokens.

    Args:
        offer: What the pilot has.
        slots: How many tokens run at once, if none needs more than a slot.

    Attributes:
        whole: All of it.
    """

    def __init__(self, offer: Offer, slots: int) -> None:
        self.whole = Share(slots, _known(offer.memory), _known(offer.gpus))
        self._slots = slots
        self._cores = offer.cores or slots

    def share(self, doc: Mapping[str, Any]) -> Share:
        """What a token takes; never more slots than there are."""
        if not ("cores" in doc or "memory" in doc or "gpus" in doc):
            return ONE_SLOT
        wanted = needs(doc)
        slots = math.ceil(wanted.get("cores", 0) * self._slots / self._cores)
        return Share(
            min(max(1, slots), self._slots), wanted.get("memory", 0), wanted.get("gpus", 0)
        )

    def left(self, held: Stock, times: float = 1.0) -> Stock:
        """What is left of it, or of so many times as much, beside what is held."""
        whole = self.whole
        return Stock(
            whole.slots * times - held.slots,
            whole.memory * times - held.memory,
            whole.gpus * times - held.gpus,
        )

    def cores(self, share: Share) -> int:
        """How many cores a token with that share has for itself; 0: it shares them with others."""
        return int(share.slots * self._cores // self._slots) if self._slots <= self._cores else 0


class Room:
    """What a claim may fill.

    Args:
        divided: The pilot.
        left: What is left of it.

    Attributes:
        cramped: What those take that were passed over for want of room, the smallest of them.
    """

    def __init__(self, divided: Divided, left: Stock) -> None:
        self.cramped: list[Share] = []
        self._divided = divided
        self._left = left

    def has(self, doc: Document) -> bool:
        """Tell whether there is room for a token; if not, that is noted."""
        share = self._divided.share(doc)
        if share.fits(self._left):
            return True
        self.cramped = smallest([*self.cramped, share])
        return False

    def slots(self, doc: Document) -> float:
        """How many slots a token takes."""
        return self._divided.share(doc).slots

    def fill(self, docs: Iterable[Document]) -> list[Document]:
        """Those of some tokens that fit in together; each has room by itself.

        The room stays as it is: a claim that others were faster with is made again.
        """
        left, chosen = Stock(self._left.slots, self._left.memory, self._left.gpus), []
        # Large ones first: it is they who seldom have room.
        shares = sorted(((self._divided.share(doc), doc) for doc in docs), key=_by_slots)
        for share, doc in shares:
            if share.fits(left):
                left.take(share)
                chosen.append(doc)
        return chosen


def smallest(shares: Sequence[Share]) -> list[Share]:
    """The shares that take no more than any other does: where none of them fits, none does."""
    different = list(dict.fromkeys(shares))
    return [one for one in different if not any(o != one and o.fits(one) for o in different)]


def _by_slots(entry: tuple[Share, Document]) -> float:
    return -entry[0].slots


def _known(amount: int | None) -> float:
    """An amount; where it is not known there is no end of it."""
    return math.inf if amount is None else amount
