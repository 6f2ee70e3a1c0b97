"""What tokens need against what a pilot offers."""

import math
from pathlib import Path
from typing import Any

import pytest

from picas import needs, token
from picas.needs import Offer

OFFER = Offer("here", cores=4, memory=8 << 30, gpus=0)


def ready_at(offer: Offer = OFFER, **fields: Any) -> float:
    """From when on a token with these fields may run."""
    return offer.ready_at(token.new(fields, "a"))


@pytest.mark.parametrize(
    "fields", [{}, {"cores": 4}, {"cores": "2"}, {"memory": "8G"}, {"gpus": 0}, {"memory": "much"}]
)
def test_what_fits_is_ready(fields: dict[str, Any]) -> None:
    """A token that needs no more than there is may run at once; odd fields are the user's own."""
    assert ready_at(**fields) == 0


@pytest.mark.parametrize("fields", [{"cores": 5}, {"memory": "9G"}, {"gpus": 1}])
def test_what_does_not_fit_never_is(fields: dict[str, Any]) -> None:
    """A token that needs more than the pilot has is not for this pilot."""
    assert ready_at(**fields) == math.inf
    (name,) = fields
    assert name in OFFER.lacks(fields)


def test_time_that_is_left() -> None:
    """A token that takes longer than is left is not for this pilot, by its word or as is usual."""
    offer = Offer("here", time=3600, usual=1800)
    assert ready_at(offer, time="1h") == 0
    assert ready_at(offer, time="2h") == math.inf
    assert ready_at(offer) == 0
    late = Offer("here", time=600, usual=1800)
    assert ready_at(late) == math.inf
    assert ready_at(late, time=500) == 0
    assert late.ready_at({}) == 0
    assert late.lacks({"time": "20m"}) == {"time": (1200, 600)}


def test_unknown_offer_takes_all() -> None:
    """A pilot that does not know what it has turns no token away."""
    assert ready_at(Offer("here"), cores=1000, gpus=9) == 0


def test_waiting() -> None:
    """A token waits for its time, and on a host that is to leave it alone for longer."""
    waits: dict[str, Any] = {"not_before": 50, "avoid": ["here", 7], "avoid_until": 80.5}
    assert ready_at(**waits) == 80.5
    assert ready_at(Offer("there"), **waits) == 50


@pytest.mark.parametrize("odd", ["soon", None, [1], float("1e400")])
def test_odd_times_hold_nothing_up(odd: object) -> None:
    """What is no time is no reason to wait."""
    doc = {"_id": "a", "type": "token", "not_before": odd, "avoid": "here", "avoid_until": odd}
    assert OFFER.ready_at(doc) == 0


def test_memory_is_the_smallest_limit() -> None:
    """The batch job's word counts where it is less than what the machine has."""
    all_of_it = needs._memory({})
    assert all_of_it is not None
    assert needs._memory({"SLURM_MEM_PER_NODE": "64"}) == 64 << 20
    assert needs._memory({"SLURM_MEM_PER_CPU": "8", "SLURM_CPUS_ON_NODE": "2"}) == 16 << 20
    assert needs._memory({"SLURM_MEM_PER_NODE": "999999999"}) == all_of_it
    assert needs._memory({"SLURM_MEM_PER_NODE": "²", "SLURM_MEM_PER_CPU": "9" * 5000}) == all_of_it


@pytest.mark.parametrize(
    ("text", "number"),
    [("0,1", 2), ("", 0), ("-1", 0), ("GPU-ab, MIG-7", 2), ("NoDevFiles", 0), ("²", 0)],
)
def test_gpus_that_cuda_was_told(text: str, number: int) -> None:
    """A pilot offers the GPUs that are visible to it."""
    assert len(needs.gpu_devices({"CUDA_VISIBLE_DEVICES": text})) == number


def test_gpus_of_the_machine() -> None:
    """Without such a word the devices are counted."""
    there = [d.name for d in Path("/dev").iterdir() if d.name.removeprefix("nvidia").isdigit()]
    assert len(needs.gpu_devices({})) == len([n for n in there if n.startswith("nvidia")])
