"""Changes of a token's state in the classic API, on plain dicts and on `picas.documents.Task`.

A modifier changes the token that it is given, and returns it. Saving it is the caller's.
"""

import socket
import time
from collections.abc import MutableMapping
from typing import Any

from picas import jobid

Token = MutableMapping[str, Any]


class TokenModifier:
    """What a modifier has to offer; make your own by overriding these.

    Args:
        timeout: Kept for subclasses; nothing here looks at it. Seconds.
    """

    def __init__(self, timeout: float = 86400) -> None:
        self.timeout = timeout

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Todo to locked."""
        raise self._missing("lock")

    def unlock(self, *args: Any, **kwargs: Any) -> Any:
        """Locked to todo."""
        raise self._missing("unlock")

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Locked to done."""
        raise self._missing("close")

    def unclose(self, *args: Any, **kwargs: Any) -> Any:
        """Done to locked."""
        raise self._missing("unclose")

    def add_output(self, *args: Any, **kwargs: Any) -> Any:
        """Write results into the token."""
        raise self._missing("add_output")

    def scrub(self, *args: Any, **kwargs: Any) -> Any:
        """Locked to todo, counted in ``scrub_count``."""
        raise self._missing("scrub")

    def set_error(self, *args: Any, **kwargs: Any) -> Any:
        """Any state to error."""
        raise self._missing("set_error")

    def _missing(self, name: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {name}()")


class BasicTokenModifier(TokenModifier):
    """Changes tokens whose fields stand at the top of their document."""

    def lock(self, token: Token) -> Token:
        """Todo to locked: the time, this host and the batch job are noted."""
        jobid.add_job_id(token)
        token.update({"hostname": socket.gethostname(), "lock": int(time.time())})
        return token

    def unlock(self, token: Token) -> Token:
        """Locked to todo; the batch job is forgotten."""
        token.update({"hostname": socket.gethostname(), "lock": 0})
        jobid.remove_job_id(token)
        return token

    def close(self, token: Token) -> Token:
        """Locked to done: the time is noted, the exit code is the caller's."""
        token["done"] = int(time.time())
        return token

    def unclose(self, token: Token) -> Token:
        """Done to locked; the batch job is forgotten."""
        token["done"] = 0
        jobid.remove_job_id(token)
        return token

    def add_output(self, token: Token, output: MutableMapping[str, Any]) -> Token:
        """Write fields into the token."""
        token.update(output)
        return token

    def scrub(self, token: Token) -> Token:
        """Locked to todo, counted in ``scrub_count``."""
        token["scrub_count"] = token.get("scrub_count", 0) + 1
        return self.unlock(token)

    def set_error(self, token: Token) -> Token:
        """Any state to error, as classic clients mark it."""
        token.update({"lock": 99, "done": 99})
        return token


class NestedTokenModifier(TokenModifier):
    """Changes tokens that lie inside a larger document.

    A reference says where: the name of a field, or a list whose first item is the document's id
    (it is passed over) and whose others are the names and indices on the way to the token. Every
    method returns the whole document.
    """

    def __init__(self, timeout: float = 86400) -> None:
        super().__init__(timeout)
        self.tokenmodifier = BasicTokenModifier()

    def get_token(self, ref: Any, record: Any) -> Any:
        """The token that a reference points to."""
        if not isinstance(ref, list):
            return record[ref]
        found = record
        for step in ref[1:]:
            found = found[step]
        return found

    def lock(self, ref: Any, record: Any) -> Any:
        """Todo to locked."""
        self.tokenmodifier.lock(self.get_token(ref, record))
        return record

    def unlock(self, ref: Any, record: Any) -> Any:
        """Locked to todo."""
        self.tokenmodifier.unlock(self.get_token(ref, record))
        return record

    def close(self, ref: Any, record: Any) -> Any:
        """Locked to done."""
        self.tokenmodifier.close(self.get_token(ref, record))
        return record

    def unclose(self, ref: Any, record: Any) -> Any:
        """Done to locked."""
        self.tokenmodifier.unclose(self.get_token(ref, record))
        return record

    def add_output(self, ref: Any, record: Any, output: MutableMapping[str, Any]) -> Any:
        """Write fields into the token."""
        self.tokenmodifier.add_output(self.get_token(ref, record), output)
        return record

    def scrub(self, ref: Any, record: Any) -> Any:
        """Locked to todo, counted in ``scrub_count``."""
        self.tokenmodifier.scrub(self.get_token(ref, record))
        return record

    def set_error(self, ref: Any, record: Any) -> Any:
        """Any state to error."""
        self.tokenmodifier.set_error(self.get_token(ref, record))
        return record
