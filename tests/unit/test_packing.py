"""What tokens take of a pilot, side by side, and where in it they run."""

import pytest

from picas import token
from picas.needs import Offer
from picas.packing import ONE_SLOT, Divided, Room, Share, Stock, smallest
from picas.pilot.load import Load
from picas.pilot.pace import Pace
from picas.pilot.places import Places
from picas.token import Document

GB = 1 << 30
OFFER = Offer("here", cores=8, memory=16 * GB, gpus=2)


def doc(name: str = "a", **fields: object) -> Document:
    """A token as it is claimed."""
    return token.new(fields, name) | {"lease": f"lease-{name}"}


@pytest.mark.parametrize(
    ("slots", "cores", "share", "own"),
    [
        (8, None, 1, 1),
        (8, 4, 4, 4),
        (2, None, 1, 4),  # a slot stands for four cores
        (2, 3, 1, 4),
        (2, 5, 2, 8),
        (3, None, 1, 2),
        (3, 4, 2, 5),
        (16, 1, 2, 0),  # more slots than cores: nobody has one for himself
        (16, 8, 16, 0),
        (8, 9, 8, 8),  # it will not be claimed; it could not take more than all
    ],
)
def test_shares_of_cores(slots: int, cores: int | None, share: int, own: int) -> None:
    """A token takes as many slots as stand for the cores it needs, and has these for itself."""
    divided = Divided(OFFER, slots)
    taken = divided.share(doc() if cores is None else doc(cores=cores))
    assert (taken, divided.cores(taken)) == (Share(share), own)


def test_what_is_not_known_has_no_end() -> None:
    """A pilot that does not know its memory has room for whatever a token asks."""
    divided = Divided(Offer("here"), 2)
    room = Room(divided, divided.left(Stock()))
    assert len(room.fill([doc("a", memory="1T", cores=1), doc("b", gpus=9)])) == 2


def test_a_claim_fills_the_room_largest_needs_first() -> None:
    """Of tokens that have room each by itself those are taken that have it together."""
    divided = Divided(OFFER, 8)
    docs = [doc("a"), doc("b", cores=4), doc("c", memory="10G"), doc("d", cores=4), doc("e")]
    room = Room(divided, divided.left(Stock()))
    assert all(room.has(one) for one in docs)
    assert [one["_id"] for one in room.fill(docs)] == ["b", "d"]
    by_memory = Room(divided, divided.left(Stock()))
    chosen = by_memory.fill([doc("a", memory="10G"), doc("b", memory="10G"), doc("c")])
    assert [one["_id"] for one in chosen] == ["a", "c"]


def test_what_had_no_room_is_noted() -> None:
    """The smallest of what was passed over tells when it is worth while to ask again."""
    divided = Divided(OFFER, 8)
    room = Room(divided, Stock(2, 4 * GB, 0))
    for one in (doc(cores=8), doc(cores=4), doc(cores=6, memory="8G"), doc(gpus=1), doc()):
        room.has(one)
    assert room.cramped == [Share(4), Share(1, 0, 1)]


def test_smallest() -> None:
    """Only those stay of which none of the others is no larger."""
    assert smallest([Share(4), Share(2, GB), Share(2, GB), Share(2, 2 * GB), Share(1, 0, 1)]) == [
        Share(4),
        Share(2, GB),
        Share(1, 0, 1),
    ]


def test_load() -> None:
    """A pilot knows what it holds, and asks again once there is room for what was passed over."""
    divided = Divided(OFFER, 8)
    load = Load(divided, Pace(8, 0))
    big, small = doc("big", cores=6), doc("small")
    load.add([big, small, big])
    assert (len(load), load.free, load.want(settling=False)) == (2, 1, 1)
    room = load.room()
    assert not room.has(doc("next", cores=4))
    load.missed(room)
    assert not load.has_room_again
    load.remove([small])
    assert not load.has_room_again
    load.remove([big, big])
    assert load.has_room_again
    assert (len(load), load.free) == (0, 8)
    load.missed(None)
    assert not load.has_room_again


def test_load_ahead() -> None:
    """Of short tokens more are held than run at once, in all that they need."""
    divided, pace = Divided(OFFER, 8), Pace(8, 0.5)
    pace.saw(0.1)
    room = Load(divided, pace).room()
    assert len(room.fill(doc(str(i), memory="1G") for i in range(100))) == 8 + pace.ahead


def test_places_are_kept_apart() -> None:
    """Each token has CPUs and GPUs of its own, and gives them back."""
    places = Places(Divided(OFFER, 8), range(8), ["0", "1"])
    first, second = places.take(doc(cores=4, gpus=1)), places.take(doc(cores=3, gpus=1))
    third = places.take(doc())
    assert first is not None
    assert second is not None
    assert third is not None
    assert [sorted(place.cpus) for place in (first, second, third)] == [
        [0, 1, 2, 3],
        [4, 5, 6],
        [7],
    ]
    assert (first.gpus, second.gpus, third.gpus) == (("0",), ("1",), None)
    assert places.take(doc()) is None
    places.give_back(first)
    assert places.take(doc(gpus=2)) is None
    again = places.take(doc(gpus=1, cores=2))
    assert again is not None
    assert (sorted(again.cpus), again.gpus) == ([0, 1], ("0",))


def test_a_token_is_told_its_place() -> None:
    """The variables name its cores and devices; without a word on GPUs those stay as they are."""
    places = Places(Divided(OFFER, 4), (), ["GPU-a", "GPU-b"])
    plain, one, none = (places.take(one) for one in (doc(), doc(gpus=1), doc(gpus=0)))
    assert plain is not None
    assert one is not None
    assert none is not None
    assert plain.share == ONE_SLOT
    assert plain.environ({}) == {"PICAS_CORES": "2"}
    assert one.environ({}) == {"PICAS_CORES": "2", "CUDA_VISIBLE_DEVICES": "GPU-a"}
    amd = {"ROCR_VISIBLE_DEVICES": "0,1"}
    assert one.environ(amd) == {"PICAS_CORES": "2", "ROCR_VISIBLE_DEVICES": "GPU-a"}
    assert none.environ({})["CUDA_VISIBLE_DEVICES"] == ""
