"""Which fault or policy explains that an attempt was broken off, so that its token ran again."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from picas import token
from soak.history import Fault, History

ENDED = {
    "kill": "pilot killed",
    "kill_tree": "pilot killed with its tasks",
    "stop": "pilot frozen",
    "term": "pilot told to stop",
}
"""Faults of one pilot after which its tokens may be lost with it."""

AWAY = {
    "server_kill": "server killed",
    "black_hole": "network silent",
    "lock_held": "database locked",
    "disk_pool": "disk of the pool full",
}
"""Faults of the pool in which no pilot can say that it lives."""

NETWORK = frozenset(
    ("cut", "delay", "half_close", "reply_lost", "late_request", "error_500", "error_503")
)
"""Faults that meet some requests only: a pilot is heard of in between."""

RESET = "reset by hand"
RETRY = "retry after a failure"
DISK = "disk of the logs full"
LATE = "claim that came late"
CLOCK_SECONDS = 2.0
"""How far pilots' readings of the server's clock may be apart."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What explains that an attempt was broken off.

    Attributes:
        label: In a few words.
        since: Epoch second from which on nothing kept the token from going back.
    """

    label: str
    since: float


class Explanations:
    """The faults of a round, asked for what they explain."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._by_target: dict[str, list[Fault]] = defaultdict(list)
        for fault in history.faults:
            self._by_target[fault.target].append(fault)
        self._of_all = [f for f in history.faults if not f.target]

    def of_token(self, token_id: str, kind: str) -> list[Fault]:
        """What a person did to one token."""
        return [fault for fault in self._by_target[token_id] if fault.kind == kind]

    def broken_off(self, token_id: str, entry: Mapping[str, Any]) -> Cause | None:
        """Why an attempt has no exit code, by its entry in the history; None: nothing explains it.

        Args:
            token_id: The token.
            entry: The attempt.
        """
        reason, ended = str(entry.get("reason", "")), _time(entry, "end")
        if reason == token.LOST:
            return self._lost(entry, ended) or self._late(entry)
        if "reset" in reason:
            return Cause(RESET, ended) if self.of_token(token_id, "reset") else None
        if reason.startswith("released: SIG"):
            told = any(f.at <= ended + CLOCK_SECONDS for f in self._faults(entry, "term"))
            return Cause(ENDED["term"], ended) if told else None
        return Cause(DISK, ended) if self._disk_was_full(entry, ended) else None

    def away(self, start: float, end: float) -> float:
        """Seconds of a span in which the pool could not be reached, or only badly."""
        faults = (f for f in self._of_all if f.kind in AWAY or f.kind in NETWORK)
        return sum(_overlap(fault, start, end) for fault in faults)

    def killed_task(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether tasks of that attempt's pilot were killed."""
        return any(self._faults(entry, "kill_task"))

    def log_may_lack(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether that attempt's log may have found no room."""
        name = self._history.names.get(str(entry.get("pilot")), "")
        return name in self._history.small and any(f.kind == "disk_logs" for f in self._of_all)

    def _lost(self, entry: Mapping[str, Any], lost_at: float) -> Cause | None:
        """Who is not heard of for the lease time was silenced by something shortly before."""
        earliest = lost_at - 2 * self._history.lease - 2 * CLOCK_SECONDS
        for kind, label in ENDED.items():
            for fault in self._faults(entry, kind):
                if fault.at <= lost_at + CLOCK_SECONDS and fault.until >= earliest:
                    return Cause(label, fault.at)
        for fault in self._of_all:
            if fault.kind in AWAY and _overlap(fault, earliest, lost_at) > 0:
                return Cause(AWAY[fault.kind], max(fault.at, earliest))
        network = [f for f in self._of_all if f.kind in NETWORK]
        bad = sum(_overlap(fault, earliest, lost_at) for fault in network)
        return Cause("bad network", earliest) if bad > self._history.lease / 2 else None

    def _late(self, entry: Mapping[str, Any]) -> Cause | None:
        """A claim that reached the pool after its pilot had given it up: nobody knows of it."""
        claimed = _time(entry, "start")
        for fault in self._of_all:
            near = _overlap(fault, claimed - CLOCK_SECONDS, claimed + CLOCK_SECONDS)
            if fault.kind in ("late_request", "server_kill", "black_hole") and near > 0:
                return Cause(LATE, claimed)
        return None

    def _faults(self, entry: Mapping[str, Any], kind: str) -> Iterator[Fault]:
        """Faults of one kind on an attempt's pilot."""
        name = self._history.names.get(str(entry.get("pilot")), "")
        return (f for f in self._by_target[name] if name and f.kind == kind)

    def _disk_was_full(self, entry: Mapping[str, Any], ended: float) -> bool:
        name = self._history.names.get(str(entry.get("pilot")), "")
        told = str(entry.get("reason", ""))
        about_disk = "space" in told or "write" in told
        return (
            about_disk
            and name in self._history.small
            and any(f.kind == "disk_logs" and f.at <= ended + CLOCK_SECONDS for f in self._of_all)
        )


def _time(entry: Mapping[str, Any], name: str) -> float:
    """A time of an attempt; never, if its history does not say."""
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else math.inf


def _overlap(fault: Fault, start: float, end: float) -> float:
    """Seconds of a span in which a fault lasted."""
    return max(0.0, min(fault.until, end) - max(fault.at, start))
