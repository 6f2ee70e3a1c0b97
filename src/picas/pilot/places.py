"""Where in a pilot a token runs: CPUs and GPUs that no other has."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from picas import jobid
from picas.needs import GPU_VARIABLES, gpu_devices, needs
from picas.packing import ONE_SLOT, Divided, Share, Stock
from picas.token import Document


@dataclass(frozen=True, slots=True)
class Place:
    """What a token has for itself while it runs.

    Attributes:
        share: How much of the pilot.
        cores: How many cores; 0: it shares them.
        cpus: The CPUs it is bound to; none: to those of the pilot.
        gpus: The devices; None: all that the pilot has, shared with others that did not ask.
    """

    share: Share = ONE_SLOT
    cores: int = 0
    cpus: frozenset[int] = frozenset()
    gpus: tuple[str, ...] | None = None

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Variables that tell a token of it.

        Args:
            environ: Those of the pilot.
        """
        told = {"PICAS_CORES": str(self.cores)} if self.cores else {}
        if self.gpus is not None:
            names = [name for name in GPU_VARIABLES if name in environ] or GPU_VARIABLES[:1]
            told |= dict.fromkeys(names, ",".join(self.gpus))
        return told


class Places:
    """The places of a pilot, taken and given back.

    Args:
        divided: How much there is.
        cpus: CPUs to be given out, each to one token; none: tokens are not bound.
        gpus: Devices to be given to those that ask for them.
    """

    def __init__(
        self, divided: Divided, cpus: Sequence[int] = (), gpus: Sequence[str] = ()
    ) -> None:
        self._divided = divided
        self._left = divided.left(Stock())
        self._binds = bool(cpus)
        self._cpus, self._gpus = sorted(cpus), list(gpus)
        self._plain = Place(ONE_SLOT, divided.cores(ONE_SLOT))

    def take(self, doc: Document) -> Place | None:
        """A place for a token; None while there is none."""
        share = self._divided.share(doc)
        if not share.fits(self._left):
            return None
        self._left.take(share)
        if share is ONE_SLOT and not self._binds:
            return self._plain
        cores, gpus = self._divided.cores(share), int(share.gpus)
        cpus = frozenset(self._cpus[:cores]) if self._binds else frozenset()
        del self._cpus[: len(cpus)]
        own = tuple(self._gpus[:gpus]) if "gpus" in needs(doc) else None
        del self._gpus[:gpus]
        return Place(share, cores, cpus, own)

    def give_back(self, place: Place) -> None:
        """Make it free for others."""
        self._left.put(place.share)
        if place.cpus:
            self._cpus = sorted([*self._cpus, *place.cpus])
        self._gpus += place.gpus or ()


def places(divided: Divided, *, bind: bool | None) -> Places:
    """The places of a pilot in this process.

    Args:
        divided: How much it has.
        bind: Bind tokens to CPUs of their own; None: in a batch job.
    """
    cpus: list[int] = []
    if hasattr(os, "sched_getaffinity") and (bind or (bind is None and jobid.batch_job())):
        cpus = sorted(os.sched_getaffinity(0))
        # Where a job may run on more CPUs than it was given, others count on some of them.
        if bind is None and len(cpus) != jobid.allowed_cores():
            cpus = []
    return Places(divided, cpus, gpu_devices())
