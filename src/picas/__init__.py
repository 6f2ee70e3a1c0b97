"""PiCaS: the pilot-job framework with a token pool."""

from typing import TYPE_CHECKING, Any

from picas.version import __version__

if TYPE_CHECKING:
    from picas.pool import connect

__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> Any:
    """Import `connect` when it is asked for: other parts start without what it needs."""
    if name == "connect":
        from picas.pool import connect

        return connect
    raise AttributeError(f"module 'picas' has no attribute {name!r}")
