"""What a pilot holds of the pool, and what more it has room for."""

from collections.abc import Iterable

from picas.packing import Divided, Room, Share, Stock
from picas.pilot.pace import Pace
from picas.token import Document


class Load:
    """Tokens that a pilot claimed and that did not end yet.

    Args:
        divided: The pilot.
        pace: Says how many tokens are worth holding.
    """

    def __init__(self, divided: Divided, pace: Pace) -> None:
        self._divided = divided
        self._pace = pace
        self._shares: dict[str, Share] = {}  # by lease
        self._held = Stock()
        self._cramped: list[Share] = []

    def __len__(self) -> int:
        """How many tokens."""
        return len(self._shares)

    def add(self, docs: Iterable[Document]) -> None:
        """Take note of tokens that were claimed."""
        for doc in docs:
            if doc["lease"] not in self._shares:
                share = self._shares[doc["lease"]] = self._divided.share(doc)
                self._held.put(share)

    def remove(self, docs: Iterable[Document]) -> None:
        """They ended, or were given back."""
        for doc in docs:
            if (share := self._shares.pop(doc["lease"], None)) is not None:
                self._held.take(share)

    def want(self, *, settling: bool) -> int:
        """How many to claim now, if they take a slot each; see `Pace.want`."""
        return self._pace.want(int(self._held.slots), settling=settling)

    @property
    def free(self) -> int:
        """Slots that are free now."""
        return max(0, int(self._divided.whole.slots - self._held.slots))

    def room(self) -> Room:
        """What a claim may fill: as many times the pilot as tokens are worth holding."""
        slots = self._divided.whole.slots
        return Room(
            self._divided, self._divided.left(self._held, (slots + self._pace.ahead) / slots)
        )

    def missed(self, room: Room | None) -> None:
        """Take note of what the latest claim passed over for want of room; None: of nothing."""
        self._cramped = room.cramped if room is not None else []

    @property
    def has_room_again(self) -> bool:
        """True if there is room now for something that was passed over."""
        left = self._divided.left(self._held)
        return any(share.fits(left) for share in self._cramped)
