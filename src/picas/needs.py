"""What a token needs, what a pilot offers, and when the one may run on the other.

A token may say what it needs (``cores``, ``memory``, ``gpus``), that it waits (``not_before``), and
which hosts leave it to others for a while (``avoid`` until ``avoid_until``). What cannot be read
as such is the user's own field, and holds nothing up.
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

NEEDS = ("cores", "memory", "gpus")
_NEEDS = frozenset(NEEDS)

_DEVICE = re.compile(r"[0-9]+|(GPU|MIG)-.+")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a pilot has for its tokens; None where that is not known.

    Attributes:
        host: Its host.
        cores: Cores it may use.
        memory: Bytes it may use.
        gpus: GPUs it may use.
    """

    host: str
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None

    def lacks(self, doc: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """What a token needs more of than there is: the need and the offer, by name."""
        offers = {"cores": self.cores, "memory": self.memory, "gpus": self.gpus}
        return {
            name: (wanted, offers[name] or 0)
            for name, wanted in needs(doc).items()
            if (has := offers[name]) is not None and wanted > has
        }

    def ready_at(self, doc: Mapping[str, Any]) -> float:
        """From when on a free token may run here, in epoch seconds; infinite if never."""
        if not _NEEDS.isdisjoint(doc) and self.lacks(doc):
            return math.inf
        at = not_before(doc) if "not_before" in doc else 0.0
        if "avoid" in doc and self.host in avoided(doc):
            at = max(at, _epoch(doc.get("avoid_until")))
        return at


def here(host: str) -> Offer:
    """What this host offers, within the limits of the batch job and the control group."""
    return Offer(host, jobid.allowed_cores(), _memory(), _gpus())


def needs(doc: Mapping[str, Any]) -> dict[str, int]:
    """What a token says it needs, as numbers (memory: bytes)."""
    found = {}
    for name in NEEDS:
        try:
            found[name] = units.size(doc[name])
        except (KeyError, InputError):
            continue
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


def _gpus(environ: Mapping[str, str] = os.environ) -> int:
    """GPUs this process may use: what CUDA was told, else the devices that there are.

    Source: the CUDA C++ Programming Guide, CUDA_VISIBLE_DEVICES: indices, ``GPU-…`` or ``MIG-…``;
    schedulers write other words (``NoDevFiles``) for none.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(_DEVICE.fullmatch(name.strip()) is not None for name in visible.split(","))
    try:
        devices = [device.name for device in Path("/dev").iterdir()]
    except OSError:
        return 0
    return sum(re.fullmatch(r"nvidia\d+", name) is not None for name in devices)
