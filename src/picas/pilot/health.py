"""Is this host broken? Tokens that fail one after another, as soon as they start, say so."""

import time

from picas import token
from picas.token import Document, Outcome

QUICK_SECONDS = 10.0
"""A token that fails within this time may have met a broken host; a later failure is its own."""

SLOW_AFTER = 5
"""So many quick failures in a row slow the pilot down."""

LONGEST_PAUSE = 10.0


class Health:
    """Counts the different tokens that failed quickly, one after another.

    A token that failed before is no witness: it may be its own fault. One success clears the host.

    Args:
        drain_after: So many in a row are enough to end the pilot; 0: no number is.
    """

    def __init__(self, drain_after: int) -> None:
        self._drain_after = drain_after
        self._failed = 0
        self._last = ""
        self._pause_until = 0.0

    def saw(self, doc: Document, outcome: Outcome, *, final: bool) -> None:
        """Take note of a token that ended.

        Args:
            doc: The token as it was claimed.
            outcome: How it ended.
            final: The retry policy says that this failure is the token's own.
        """
        if outcome.exit_code == 0:
            self._failed = 0
            return
        failed_before = any(entry.get("exit_code") for entry in token.attempts(doc))
        if final or failed_before or outcome.wall > QUICK_SECONDS:
            return
        self._failed += 1
        self._last = outcome.reason
        if self.is_slow:
            pause = min(LONGEST_PAUSE, 0.5 * 2.0 ** min(self._failed - SLOW_AFTER, 10))
            self._pause_until = time.monotonic() + pause

    @property
    def is_slow(self) -> bool:
        """True while the pilot is to take tokens one at a time, with a pause between."""
        return self._drain_after > 0 and self._failed >= SLOW_AFTER

    @property
    def pause(self) -> float:
        """Seconds until the next token may be taken."""
        return max(0.0, self._pause_until - time.monotonic()) if self.is_slow else 0.0

    @property
    def is_broken(self) -> bool:
        """True if the pilot is to end."""
        return 0 < self._drain_after <= self._failed

    @property
    def note(self) -> str:
        """What a person should know; empty while all is well."""
        if not (self.is_slow or self.is_broken):
            return ""
        return (
            f"{self._failed} different tokens failed one after another as soon as they started, "
            f"the last with {self._last}"
        )
