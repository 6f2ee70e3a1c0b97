"""Why a pilot ends although it was not told to, in the words of its last line."""

from contextlib import suppress

from picas import views
from picas.errors import ViewMissing
from picas.pool import Candidates, Pool


def nothing_left(pool: Pool, view: str, over: Candidates) -> str:
    """Why there is nothing to do: the view is empty, or what it has is not for now, or here.

    Args:
        pool: The pool.
        view: The view of which tokens were claimed.
        over: What the last claim passed over.
    """
    parts = [f"no work left in {view}"]
    if over.unfit:
        tokens = "1 token needs" if over.unfit == 1 else f"{over.unfit:,} tokens need"
        parts.append(f"{tokens} more than this pilot has")
    if over.due is not None:
        minutes = (over.due - pool.now()) / 60
        parts.append(f"a token waits for another {minutes:,.0f} min")
    if len(parts) > 1:
        parts[0] += " for now"
    if locked := _locked(pool, view):
        tokens = "1 token is" if locked == 1 else f"{locked:,} tokens are"
        parts.append(f"{tokens} locked by other pilots (picas pilots)")
    return "; ".join(parts)


def _locked(pool: Pool, view: str) -> int:
    """How many tokens of the view others hold."""
    with suppress(ViewMissing):
        return pool.count(f"{views.split(view)[0]}/{views.LOCKED}")
    return 0
