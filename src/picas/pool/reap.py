"""Which pilots are gone, and which tokens they took with them (promise 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picas import token


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a reaping did.

    Attributes:
        pilots: Ids of the pilots that were found gone.
        tokens: Tokens given back.
        errors: Tokens closed as errors, lost too often running.
    """

    pilots: tuple[str, ...] = ()
    tokens: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """The pilots of a pool at one moment.

    Attributes:
        pilots: Their documents, by id.
        now: The pool's time, in epoch seconds.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
    """

    pilots: Mapping[str, Mapping[str, Any]]
    now: float
    lease: float

    def gone(self) -> list[str]:
        """The pilots not heard of for the lease time that may still hold tokens."""
        return [name for name, pilot in self.pilots.items() if self._owes(pilot)]

    def lost(self, doc: Mapping[str, Any]) -> bool:
        """Tell whether a locked token's pilot is gone; classic clients' tokens are left alone."""
        if not doc.get("lease"):
            return False
        pilot = self.pilots.get(str(doc.get("pilot")))
        if pilot is None:  # its document was deleted, or is younger than this census
            return token.locked_at(doc) + self.lease < self.now
        return self._silent(pilot)

    def _silent(self, pilot: Mapping[str, Any]) -> bool:
        heard = pilot.get("heartbeat")
        return not isinstance(heard, int | float) or heard + self.lease < self.now

    def _owes(self, pilot: Mapping[str, Any]) -> bool:
        ended_well = pilot.get("state") == "ended" and not pilot.get("unsettled")
        return self._silent(pilot) and not ended_well and pilot.get("state") != "lost"
