"""How long a pilot may be silent before its tokens are given to others."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from picas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The two times of a pool's leases; the same for all its pilots.

    Attributes:
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        heartbeat: Seconds between a pilot's heartbeats.
    """

    lease: float = 300.0
    heartbeat: float = 60.0

    @staticmethod
    def from_environ(environ: Mapping[str, str] = os.environ) -> "LeaseTimes":
        """The times that ``PICAS_LEASE`` and ``PICAS_HEARTBEAT`` set, in seconds.

        Raises:
            ConfigError: One is no time, or a pilot would be gone after two missed heartbeats.
        """
        lease = _seconds(environ, "PICAS_LEASE", 300.0)
        heartbeat = _seconds(environ, "PICAS_HEARTBEAT", min(60.0, lease / 5))
        if heartbeat * 2 > lease:
            raise ConfigError(
                f"PICAS_HEARTBEAT ({heartbeat:g} s) is more than half of PICAS_LEASE "
                f"({lease:g} s): a single heartbeat that is late would cost a pilot its tokens"
            )
        return LeaseTimes(lease, heartbeat)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name}={text!r} is no time; write seconds, like {name}={default:g}")
    return value
