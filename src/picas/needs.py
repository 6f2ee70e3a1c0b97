"""What a token needs, what a pilot offers, and when the one may run on the other.

A token may say what it needs (``cores``, ``memory``, ``gpus``, ``time``), that it waits
(``not_before``), and which hosts leave it to others for a while (``avoid`` until ``avoid_until``).
What cannot be read as such is the user's own field, and holds nothing up.
"""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picas import cgroup, jobid, units
from picas.errors import InputError

NEEDS = ("cores", "memory", "gpus", "time")
_NEEDS = frozenset(NEEDS)

GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""What tells a process which GPUs are its own."""

_DEVICE = re.compile(r"[0-9]+|(GPU|MIG)-.+")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a pilot has for its tokens; None where that is not known.

    Attributes:
        host: Its host.
        cores: Cores it may use.
        memory: Bytes it may use.
        gpus: GPUs it may use.
        time: Seconds until it has to end.
        usual: Seconds that a token takes which does not say; 0 where that is not known either.
    """

    host: str
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None
    time: float | None = None
    usual: float = 0.0

    def lacks(self, doc: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """What a token needs more of than there is: the need and the offer, by name."""
        wants = needs(doc)
        if self.usual:
            wants.setdefault("time", self.usual)
        return {
            name: (wanted, has)
            for name, wanted in wants.items()
            if (has := getattr(self, name)) is not None and wanted > has
        }

    def ready_at(self, doc: Mapping[str, Any]) -> float:
        """From when on a free token may run here, in epoch seconds; infinite if never.

        Of an empty document nothing is known, and so nothing is in its way.
        """
        if (self.usual or not _NEEDS.isdisjoint(doc)) and doc and self.lacks(doc):
            return math.inf
        at = not_before(doc) if "not_before" in doc else 0.0
        if "avoid" in doc and self.host in avoided(doc):
            at = max(at, _epoch(doc.get("avoid_until")))
        return at


def here(host: str) -> Offer:
    """What this host offers, within the limits of the batch job and the control group."""
    return Offer(host, jobid.allowed_cores(), _memory(), len(gpu_devices()))


def needs(doc: Mapping[str, Any]) -> dict[str, float]:
    """What a token says it needs, as numbers (memory: bytes; time: seconds)."""
    found: dict[str, float] = {}
    for name in NEEDS:
        if name in doc:
            with suppress(InputError):
                read = units.seconds if name == "time" else units.size
                found[name] = read(doc[name])
    return found


def not_before(doc: Mapping[str, Any]) -> float:
    """The epoch second before which a token is left alone; 0 if there is none."""
    return _epoch(doc.get("not_before"))


def avoided(doc: Mapping[str, Any]) -> list[str]:
    """Hosts that leave the token to others until its ``avoid_until``."""
    hosts = doc.get("avoid")
    return [host for host in hosts if isinstance(host, str)] if isinstance(hosts, list) else []


def _epoch(value: object) -> float:
    return units.number(value) or 0.0


def _memory(environ: Mapping[str, str] = os.environ) -> int | None:
    """Bytes this process may use.

    Source: the manual of ``sbatch``: SLURM_MEM_PER_NODE and SLURM_MEM_PER_CPU are megabytes.
    """
    limits = []
    if (megabytes := _megabytes(environ, "SLURM_MEM_PER_NODE")) is not None:
        limits.append(megabytes << 20)
    elif (megabytes := _megabytes(environ, "SLURM_MEM_PER_CPU")) is not None:
        limits.append((megabytes << 20) * jobid.allowed_cores(environ))
    if (limit := cgroup.memory_limit()) is not None:
        limits.append(limit)
    with suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit > 0), default=None)


def _megabytes(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def gpu_devices(environ: Mapping[str, str] = os.environ) -> list[str]:
    """GPUs this process may use: what CUDA or ROCm was told, else the devices that there are.

    Source: the CUDA C++ Programming Guide, CUDA_VISIBLE_DEVICES: indices, ``GPU-…`` or ``MIG-…``;
    schedulers write other words (``NoDevFiles``) for none. ROCm's documentation of
    ROCR_VISIBLE_DEVICES: the same.
    """
    for variable in GPU_VARIABLES:
        if (visible := environ.get(variable)) is not None:
            names = [name.strip() for name in visible.split(",")]
            return [name for name in names if _DEVICE.fullmatch(name)]
    try:
        devices = [re.fullmatch(r"nvidia(\d+)", device.name) for device in Path("/dev").iterdir()]
    except OSError:
        return []
    return sorted((match[1] for match in devices if match), key=int)
