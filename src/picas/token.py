"""The token document and its changes of state.

Pure functions of (document, now, who): no I/O, no clock, and the document given is never changed.
A field that this module does not know is the user's and survives every change.

The classic fields (``type lock done exit_code hostname scrub_count input output uploads error``
and the batch job ids) keep the meaning they have in the classic PiCaS client. Added by us:
``pilot`` and ``lease`` while a token is locked, and the append-only history ``attempts``.
"""

import enum
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picas import javascript, units, wellformed
from picas.jobid import JOB_ID_FIELDS, recorded_job

Document = dict[str, Any]

MAX_TOKEN_BYTES = 7_900_000
"""The longest token taken: CouchDB's default ``max_document_size`` of 8,000,000, less room for
what runs write into it."""

MAX_ATTEMPTS = 20
"""Entries kept in a token's history; the oldest leave first, numbers go on counting."""

LOST = "lost with its pilot"
"""The reason in the history of a token whose pilot was not heard of any more."""

MOST_LOST = 3
"""So often running a token may be lost with its pilot."""

_AHEAD = "ahead-"

TIME_LIMIT_EXIT_CODE = 124
"""Exit code of a token that reached its own time limit (as ``timeout(1)`` has it)."""

CLASSIC_DEFAULTS: Mapping[str, Any] = {
    "type": "token",
    "lock": 0,
    "done": 0,
    "hostname": "",
    "scrub_count": 0,
    "input": {},
    "exit_code": "",
    "output": {},
    "uploads": {},
    "error": [],
}


class State(enum.Enum):
    """Where a token stands; derived from its fields, never stored beside them."""

    TODO = "todo"
    LOCKED = "locked"
    DONE = "done"
    ERROR = "error"


_WAITING = frozenset(("not_before", "avoid", "avoid_until"))
"""Fields that keep a free token from being claimed."""

_JOB = frozenset(JOB_ID_FIELDS)

_STANDING = frozenset(("type", "lock", "done", "pilot", "lease", "attempts"))
"""Fields that only the changes of state write: a task that meddles must not lose its token."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims: a pilot, its host and its batch job.

    Attributes:
        pilot: Id of the pilot's document.
        host: Host name, recorded as the token's ``hostname``.
        job: The field that names the batch job (see `picas.jobid.batch_job`); empty outside one.
    """

    pilot: str
    host: str
    job: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended.

    Attributes:
        exit_code: The command's exit code; 128+n for signal n, 124 for the token's time limit;
            None if the attempt was broken off (released, reset).
        start: Epoch seconds.
        end: Epoch seconds.
        reason: One line for a person: ``exit code 3``, ``time limit of 60 s``.
        wall: Wall-clock seconds.
        cpu: CPU seconds (user and system) of the command and its children, if known.
        memory: Peak resident bytes of its largest process, if known.
        out_of_memory: The kernel killed it for want of memory.
        error: A message for the classic ``error`` list, for failures the exit code cannot tell.
        fields: Fields to write into the token (an actor's ``output``, …).
    """

    exit_code: int | None
    start: float
    end: float
    reason: str
    wall: float
    cpu: float | None = None
    memory: int | None = None
    out_of_memory: bool = False
    error: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """How a failed token is given back for another try.

    Attributes:
        delay: Seconds before anybody may claim it.
        avoid: Seconds for which the host that it failed on leaves it to others.
        memory: Bytes it asks for from now on; None: as before.
    """

    delay: float = 0.0
    avoid: float = 0.0
    memory: int | None = None


def state(doc: Mapping[str, Any]) -> State | None:
    """Tell a token's state; None for a document that no standard view shows.

    The rules are those of the classic views, JavaScript's loose comparison and ``parseInt``
    included, so that every store shows a token in the same state as a classic ``Monitor``.
    """
    if doc.get("type") != "token":
        return None
    lock, done = doc.get("lock"), doc.get("done")
    if type(lock) is not int or type(done) is not int:  # else JavaScript sees what Python sees
        lock, done = javascript.number(lock), javascript.number(done)
    if lock == 0 and done == 0:
        return State.TODO
    if lock > 0 and done == 0:
        return State.LOCKED
    if lock > 0 and done > 0:
        code = doc.get("exit_code")
        code = code if type(code) is int else javascript.parse_int(code)
        return State.DONE if code == 0 else State.ERROR
    return None


def new(fields: Mapping[str, Any], token_id: str | None = None) -> Document:
    """Make a token from the user's fields.

    Args:
        fields: Any JSON object; ``_id`` in it is the token's id unless `token_id` is given.
        token_id: The id.

    Raises:
        InputError: It cannot be a token: no id, a field that starts with ``_``, NaN or infinity.
    """
    doc = {**CLASSIC_DEFAULTS, **fields}
    if token_id is not None:
        doc["_id"] = token_id
    wellformed.check(doc)
    return {"_id": doc.pop("_id"), **doc}


def claim(doc: Document, now: float, holder: Holder, lease: str) -> Document:
    """Todo to locked: hand the token to a pilot under a fresh lease."""
    claimed = {name: value for name, value in doc.items() if name not in _JOB}
    claimed |= {"lock": int(now), "done": 0, "exit_code": "", "hostname": holder.host}
    claimed |= {"pilot": holder.pilot, "lease": lease, **holder.job}
    return claimed


def settle(doc: Document, now: float, outcome: Outcome) -> Document:
    """Locked to done or error: record the outcome and end the lease.

    What is done needs its checkpoint no more.
    """
    settled = _with_fields(doc, outcome.fields)
    if outcome.exit_code == 0:
        _drop_checkpoint(settled)
    settled |= {"done": max(1, int(now)), "exit_code": outcome.exit_code}
    return _end_attempt(settled, now, outcome)


def scrub(doc: Document, now: float, outcome: Outcome, again: Again) -> Document:
    """Locked to todo after a failure: another try, counted in ``scrub_count``."""
    scrubbed = _with_fields(doc, outcome.fields)
    scrubbed |= {"lock": 0, "done": 0, "exit_code": ""}
    scrubbed["scrub_count"] = scrub_count(doc) + 1
    if again.delay:
        scrubbed["not_before"] = round(now + again.delay, 3)
    if again.avoid:
        avoided = doc.get("avoid") if javascript.number(doc.get("avoid_until")) > now else None
        hosts = [*_as_list(avoided), doc.get("hostname", "")]
        scrubbed |= {"avoid": hosts, "avoid_until": round(now + again.avoid, 3)}
    if again.memory:
        scrubbed["memory"] = again.memory
    return _without_job(_end_attempt(scrubbed, now, outcome))


def release(doc: Document, now: float, reason: str) -> Document:
    """Locked to todo, untouched: costs the token no retry; the history says why.

    Args:
        doc: The locked token.
        now: Epoch seconds.
        reason: One line for a person; empty if the token never started, then no attempt is noted.
    """
    released = {**doc, "lock": 0, "done": 0, "exit_code": ""}
    if reason:
        wall = max(0.0, now - javascript.number(doc.get("lock")))
        broken_off = Outcome(None, now - wall, now, reason, wall)
        return _without_job(_end_attempt(released, now, broken_off))
    return _without_job(_without_lease(released))


def lost(doc: Document, now: float) -> Document:
    """Locked to todo because its pilot is gone: costs the token no retry.

    The third time running it becomes an error: it may be what kills its pilots. Where it was
    claimed ahead this does not count: perhaps it never ran.
    """
    back = release(doc, now, LOST)
    before = doc.get("lost_from")
    first = before if isinstance(before, int) else 0
    in_a_row = 0
    for entry in reversed(attempts(back)):
        if entry.get("reason") != LOST or javascript.number(entry.get("n")) < first:
            break
        in_a_row += not claimed_ahead(entry)
    if claimed_ahead(doc) or in_a_row < MOST_LOST:
        return back
    return error(back, now, f"{LOST} {in_a_row} times running: it may be what kills them")


def error(doc: Document, now: float, message: str) -> Document:
    """Any state to error, with a message in the classic ``error`` list; ends the lease."""
    failed = _with_message(doc, now, message)
    failed |= {"lock": failed.get("lock") or int(now), "done": int(now)}
    if not isinstance(failed.get("exit_code"), int) or failed["exit_code"] == 0:
        failed["exit_code"] = 1
    return _without_lease(failed)


def reset(doc: Document, now: float) -> Document:
    """Any state to todo, on a person's word: counted as a scrub; history and logs stay.

    It may run at once, anywhere, has all its tries again, and starts without a checkpoint.
    """
    again = {name: value for name, value in doc.items() if name not in _WAITING}
    again |= {"lock": 0, "done": 0, "exit_code": "", "hostname": ""}
    if state(doc) is not State.TODO:
        again["scrub_count"] = again["tries_from"] = scrub_count(doc) + 1
        again["lost_from"] = next_attempt(doc)
        _drop_checkpoint(again)
    if doc.get("lease"):
        wall = max(0.0, now - javascript.number(doc.get("lock")))
        broken_off = Outcome(None, now - wall, now, "reset by a person", wall)
        return _without_job(_end_attempt(again, now, broken_off))
    return _without_job(again)


def why_not_reset(doc: Mapping[str, Any], locked_before: float | None = None) -> str | None:
    """Why a token is left alone by a reset; None if it is not.

    Args:
        doc: The token.
        locked_before: Only tokens that were locked at or before this epoch second are reset.
    """
    standing = state(doc)
    if standing is None:
        return "in none of the four states"
    if standing is State.TODO and _WAITING.isdisjoint(doc):
        return "todo already"
    if locked_before is not None and not 0 < locked_at(doc) <= locked_before:
        return "claimed later than that"
    return None


def is_locked(doc: Mapping[str, Any]) -> bool:
    """Tell whether somebody has a document, be it a token or of another type."""
    return javascript.number(doc.get("lock")) > 0 and javascript.number(doc.get("done")) == 0


def closed(doc: Document, now: float, outcome: Outcome) -> Document:
    """End the lease of a token whose state its own script has written: that stands."""
    return _end_attempt(dict(doc), now, outcome)


def holds(doc: Mapping[str, Any] | None, claimed: Mapping[str, Any]) -> bool:
    """Tell whether a token is still locked by a claim.

    A classic client that resets and locks a token again leaves our lease standing in it, but not
    the second of our claim: so both must be there.

    Args:
        doc: The token as it is now; None if it is gone.
        claimed: The token as it was claimed.
    """
    if doc is None or not is_locked(doc):
        return False
    return (doc.get("lease"), doc.get("lock")) == (claimed["lease"], claimed["lock"])


def ended(doc: Mapping[str, Any] | None, lease: str) -> bool:
    """Tell whether the history already holds the result of the attempt made under that lease.

    An attempt that was broken off (released, reset) is in the history too, without an exit code.
    """
    history = () if doc is None else attempts(doc)
    return any(entry.get("lease") == lease and "exit_code" in entry for entry in history)


def locked_at(doc: Mapping[str, Any]) -> float:
    """When the token was claimed, in epoch seconds; 0 or NaN if it is not locked."""
    return javascript.number(doc.get("lock"))


def attempts(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The history: one entry an attempt, oldest first; empty for a token never run by us."""
    history = doc.get("attempts")
    return [e for e in history if isinstance(e, dict)] if isinstance(history, list) else []


def next_attempt(doc: Mapping[str, Any]) -> int:
    """The number of the attempt that comes next, from 1."""
    return _next_number(attempts(doc))


def last_run(doc: Mapping[str, Any]) -> int | None:
    """The number of the latest attempt that ended with an exit code, and so has logs."""
    ended_ones = [e.get("n") for e in attempts(doc) if e.get("exit_code") is not None]
    return next((n for n in reversed(ended_ones) if isinstance(n, int)), None)


def scrub_count(doc: Mapping[str, Any]) -> int:
    """How often the token was given back after failing (0 where the field is missing or odd)."""
    return _whole(doc.get("scrub_count"))


def failed_tries(doc: Mapping[str, Any]) -> int:
    """How often it failed since it was pushed, or reset by a person."""
    return max(0, scrub_count(doc) - _whole(doc.get("tries_from")))


def was_lost(doc: Mapping[str, Any]) -> bool:
    """Tell whether the token's latest attempt was lost with its pilot."""
    history = attempts(doc)
    return bool(history) and history[-1].get("reason") == LOST


def new_lease(*, ahead: bool = False) -> str:
    """A fresh nonce for a claim: 64 random bits as 16 hexadecimal digits.

    Args:
        ahead: The token is claimed before there is a free slot for it; the lease tells.
    """
    return f"{_AHEAD if ahead else ''}{secrets.token_hex(8)}"


def claimed_ahead(held: Mapping[str, Any]) -> bool:
    """Tell of a token, or an entry of its history, if there was no slot for it when claimed."""
    return str(held.get("lease")).startswith(_AHEAD)


def log_name(token_id: str, stream: str, attempt: int | None = None) -> str:
    """Name of the attachment that holds a log; with `attempt`, of one before the latest.

    Args:
        token_id: The token's id.
        stream: ``out`` or ``err``.
        attempt: Number of an earlier attempt.
    """
    middle = "" if attempt is None else f".{attempt}"
    return f"logs_{token_id}{middle}.{stream}"


def checkpoint_name(token_id: str) -> str:
    """Name of the attachment that holds what the next attempt goes on from."""
    return f"checkpoint_{token_id}.tar"


def _drop_checkpoint(doc: Document) -> None:
    """Leave out the checkpoint, in place; the attachments of the document given before stay."""
    attached, name = doc.get("_attachments") or {}, checkpoint_name(doc["_id"])
    if name in attached:
        doc["_attachments"] = {n: entry for n, entry in attached.items() if n != name}


def _next_number(history: Sequence[Mapping[str, Any]]) -> int:
    return max((e["n"] for e in history if isinstance(e.get("n"), int)), default=0) + 1


def _end_attempt(doc: Document, now: float, outcome: Outcome) -> Document:
    """Append the attempt to the history, end the lease, note the error message; in place."""
    history = attempts(doc)
    entry: dict[str, Any] = {
        "n": _next_number(history),
        "start": round(outcome.start, 3),
        "end": round(outcome.end, 3),
        "host": doc.get("hostname", ""),
        "job": recorded_job(doc),
        "pilot": doc.pop("pilot", None),
        "lease": doc.pop("lease", None),
        "exit_code": outcome.exit_code,
        "reason": _utf8(outcome.reason),
        "wall": round(outcome.wall, 3),
        "cpu": None if outcome.cpu is None else round(outcome.cpu, 3),
        "memory": outcome.memory,
    }
    entry = {name: value for name, value in entry.items() if value is not None}
    doc["attempts"] = [*history, entry][-MAX_ATTEMPTS:]
    return doc if outcome.error is None else _with_message(doc, now, outcome.error)


def _with_fields(doc: Document, fields: Mapping[str, Any]) -> Document:
    """Write a task's fields, but for those that say where the token stands."""
    if not fields:
        return dict(doc)
    return {**doc, **{name: v for name, v in fields.items() if name not in _STANDING}}


def _with_message(doc: Document, now: float, message: str) -> Document:
    """Append to the classic ``error`` list, whatever stood there before."""
    errors = doc.get("error")
    return {**doc, "error": [*_as_list(errors), {"time": int(now), "message": _utf8(message)}]}


def _utf8(text: str) -> str:
    """Text that can be stored: file names and error messages may hold bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _whole(value: object) -> int:
    """A count in a document, 2.0 like 2: JSON does not tell them apart."""
    number = units.number(value)
    return int(number) if number is not None and number.is_integer() else 0


def _as_list(value: Any) -> Iterable[Any]:
    if value in (None, "", {}, []):
        return []
    return value if isinstance(value, list) else [value]


def _without_lease(doc: Document) -> Document:
    return {name: value for name, value in doc.items() if name not in ("lease", "pilot")}


def _without_job(doc: Document) -> Document:
    return {name: value for name, value in doc.items() if name not in _JOB}
