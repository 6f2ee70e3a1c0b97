"""Tokens to begin with, in the classic API."""

from typing import Any


class TokenGenerator:
    """Makes tokens that have nothing in them yet."""

    @staticmethod
    def get_empty_token() -> dict[str, Any]:
        """A token that is todo, without ``_id`` and ``input``."""
        return {"lock": 0, "done": 0, "hostname": "", "scrub_count": 0, "type": "token"}
