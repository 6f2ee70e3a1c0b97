"""The state of the model: tokens, pilots, a reaper, and how much may still go wrong."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from picas.token import State
from tests.model import documents
from tests.model.documents import GONE, Number

Life = Literal["up", "suspended", "dead", "ended"]
At = Literal[
    "idle", "row", "seen", "doubt", "again", "held", "done", "failed", "unstarted", "broken"
]
Says = Literal["running", "unknown", "ended", "lost", "missing"]
Stage = Literal["rest", "find", "give", "bury"]


class Breach(str):
    """A promise that was broken."""

    __slots__ = ()


HANDED_TWICE = Breach("a token that was not free is claimed")
UNFENCED = Breach("a result is recorded without the lease")
OVERWRITTEN = Breach("a settled token is overwritten")
DROPPED = Breach("a recorded result disappears")
RUN_AGAIN = Breach("a token runs again, though it was never given back")
EDIT_LOST = Breach("a person's edit is lost")
TAKEN = Breach("a token is taken from a pilot that beats")
STUCK = Breach("from here on the token never ends, whoever runs on")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the actors do; the defaults are what PiCaS does.

    Attributes:
        claim_newest: Claim over whatever revision is newest, without looking if it is free.
        settle_unchecked: Record a result without looking at the lease.
        resend_claims: Send a claim without answer again, instead of reading back.
        read_back_once: Take a claim that is not there when it is read back for one that failed.
        settle_own_copy: Settle by writing the document as it was claimed over the newest revision.
        by_age: Reap by the age of the heartbeat alone, in touch with the pool or not.
        touch_outlasts: Count the time since somebody was found silent, in touch with the pool or
            not.
        trust_documents: Reap without a thorough look: a pilot whose document says that it ended,
            or was found gone, is taken to hold nothing.
        missing_is_silent: Take a pilot without a document for one that was silent for long.
    """

    claim_newest: bool = False
    settle_unchecked: bool = False
    resend_claims: bool = False
    read_back_once: bool = False
    settle_own_copy: bool = False
    by_age: bool = False
    touch_outlasts: bool = False
    trust_documents: bool = False
    missing_is_silent: bool = False


class Faults(NamedTuple):
    """How often each thing may still happen.

    Attributes:
        lost: A write gets no answer: its request or its reply was lost.
        late: A write gets no answer, and is applied some time later.
        crash: A pilot is killed.
        suspend: A pilot is suspended; it may be resumed.
        outage: Nobody reaches the pool for longer than the lease time.
        fail: A task fails.
        stop: A pilot is told to end.
        spare: A token claimed ahead is given back unstarted.
        edit: A person edits a token.
        reset: A person resets a token.
        delete: A person deletes a token, and may push it again.
        forget: A person deletes a pilot's document.
    """

    lost: int = 0
    late: int = 0
    crash: int = 0
    suspend: int = 0
    outage: int = 0
    fail: int = 0
    stop: int = 0
    spare: int = 0
    edit: int = 0
    reset: int = 0
    delete: int = 0
    forget: int = 0


class Pilot(NamedTuple):
    """A pilot, and its document in the pool.

    Attributes:
        life: Whether it runs.
        at: Where its program stands.
        token: Which token it is at; -1 if none.
        claimed: That token as it claimed it.
        fresh: The token was not written since the pilot last knew its revision: a write against
            that revision succeeds.
        told: It was told to end.
        leases: How many of its claims the pool granted.
        says: The state in its document.
        silent: The heartbeat in its document is older than the lease time.
        excused: It was suspended until it was silent, and may rightly lose its tokens until it is
            heard of.
    """

    life: Life = "up"
    at: At = "idle"
    token: int = -1
    claimed: Number = GONE
    fresh: bool = False
    told: bool = False
    leases: int = 0
    says: Says = "running"
    silent: bool = False
    excused: bool = False


class Reaper(NamedTuple):
    """Whoever looks for pilots that are gone.

    Attributes:
        at: The next thing it does.
        seen: The pilots that may hold tokens, as it read them.
        gone: Those of them that are gone.
        beaten: Those of the gone that were heard of since, until they are left out at the end.
        stale: It read them longer than the lease time ago.
        queue: Tokens to give back: which, its document as found, whether that is the newest.
        in_touch: It reached the pool, again and again, for as long as all that live need after an
            outage to say so.
    """

    at: Stage = "rest"
    seen: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    beaten: frozenset[int] = frozenset()
    stale: bool = False
    queue: tuple[tuple[int, Number, bool], ...] = ()
    in_touch: bool = True


class Late(NamedTuple):
    """A write on its way to the pool, against the newest revision: it will succeed."""

    sender: str
    token: int
    claimed: Number
    doc: Number
    is_claim: bool


class World(NamedTuple):
    """A state of the model.

    Attributes:
        tokens: The documents in the pool.
        runs: How often each token may still be run: once, and once more for each giving back.
        pilots: The pilots.
        reaper: The reaper.
        faults: What may still go wrong.
        late: Writes on their way, in the order of their fields.
        old: Tokens that are locked for longer than the lease time.
    """

    tokens: tuple[Number, ...]
    runs: tuple[int, ...]
    pilots: tuple[Pilot, ...]
    reaper: Reaper
    faults: Faults
    late: tuple[Late, ...] = ()
    old: frozenset[int] = frozenset()


class Step(NamedTuple):
    """One step of one actor.

    Attributes:
        label: What happens, for a person.
        after: The state after it.
        fair: It happens some time if everybody runs on and nothing more goes wrong.
        breaches: The promises it breaks.
    """

    label: str
    after: World
    fair: bool = True
    breaches: tuple[Breach, ...] = ()


def name(token: int) -> str:
    """What a token is called in a trace."""
    return "AB"[token]


def begin(tokens: int, faults: Faults) -> World:
    """Free tokens, and two pilots that just began."""
    docs = tuple(documents.new(name(i)) for i in range(tokens))
    return World(docs, (1,) * tokens, (Pilot(), Pilot()), Reaper(), faults)


def with_pilot(world: World, i: int, pilot: Pilot) -> World:
    """The state with another pilot in place of one."""
    pilots = list(world.pilots)
    pilots[i] = pilot
    return world._replace(pilots=tuple(pilots))


def spend(world: World, fault: str) -> World:
    """The state after one more thing went wrong."""
    left = {fault: getattr(world.faults, fault) - 1}
    return world._replace(faults=world.faults._replace(**left))


def buries(reaper: Reaper) -> Reaper:
    """The reaper at its last step: noting the gone that were not heard of meanwhile, if any."""
    gone = reaper.gone - reaper.beaten
    return Reaper("bury" if gone else "rest", gone=gone, in_touch=reaper.in_touch)


def delay(world: World, write: Late) -> World:
    """The state with one more write on its way."""
    return spend(world, "late")._replace(late=tuple(sorted((*world.late, write))))


def put(world: World, token: int, doc: Number) -> World:
    """Store a new revision of a token: whoever knew the last one knows it no longer.

    Writes on their way will meet a conflict, which changes nothing: they are forgotten.
    """
    old = world.tokens[token]
    given_back = documents.state(doc) is State.TODO and documents.state(old) is not State.TODO
    reaper = world.reaper
    if reaper.queue:
        queue = tuple((t, d, fresh and t != token) for t, d, fresh in reaper.queue)
        reaper = reaper._replace(queue=queue)
    return World(
        _with(world.tokens, token, doc),
        _with(world.runs, token, world.runs[token] + given_back),
        tuple(p._replace(fresh=False) if p.token == token else p for p in world.pilots),
        reaper,
        world.faults,
        tuple(late for late in world.late if late.token != token) if world.late else (),
        world.old if documents.state(doc) is State.LOCKED else world.old - {token},
    )


def is_good(world: World) -> bool:
    """Tell whether all has ended well: no token waits, unless there is no pilot to run it."""
    states = {documents.state(doc) for doc in world.tokens}
    if any(p.life == "up" for p in world.pilots):
        return not states & {State.TODO, State.LOCKED}
    return State.LOCKED not in states


def _with(values: tuple[int, ...], i: int, value: int) -> tuple[int, ...]:
    return (*values[:i], value, *values[i + 1 :])
