"""How long a pilot may be silent before its tokens are given to others."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from picas import units
from picas.errors import ConfigError, InputError
from picas.pool import PoolSettings

LEASE_SECONDS = 300.0
HEARTBEAT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of a pool's leases; the same for all its pilots.

    Attributes:
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        heartbeat: Seconds between a pilot's heartbeats.
    """

    lease: float = LEASE_SECONDS
    heartbeat: float = HEARTBEAT_SECONDS

    @staticmethod
    def of(settings: PoolSettings, environ: Mapping[str, str] = os.environ) -> "LeaseTimes":
        """The times that the pool sets, unless ``PICAS_LEASE`` and ``PICAS_HEARTBEAT`` do.

        Raises:
            ConfigError: One is no time, or the heartbeat is too long for the lease.
        """
        lease = _seconds(environ, "PICAS_LEASE") or settings.lease or LEASE_SECONDS
        heartbeat = _seconds(environ, "PICAS_HEARTBEAT") or settings.heartbeat
        heartbeat = heartbeat or min(HEARTBEAT_SECONDS, lease / 5)
        if heartbeat * 5 > lease:
            raise ConfigError(
                f"the heartbeat ({heartbeat:g} s) is more than a fifth of the lease time "
                f"({lease:g} s): a pilot could lose its tokens to a few that are late; "
                "see PICAS_LEASE, PICAS_HEARTBEAT and 'picas settings'"
            )
        return LeaseTimes(lease, heartbeat)


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name, "")
    if not text:
        return None
    try:
        value = units.seconds(text)
    except InputError:
        value = 0.0
    if value <= 0:
        raise ConfigError(f"{name}={text!r} is no time; write it like {name}=300 or {name}=5m")
    return value
