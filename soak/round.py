"""One round: a seed, a store, pilots, faults, and then the check."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.cli import PICAS, clean_environment
from tests.couchdb.server import CouchServer

from picas import token
from picas.pool import Pool, connect
from picas.token import Document, State
from soak import checker, clock
from soak.fleet import Fleet, Setting
from soak.hands import Hands, Pusher
from soak.history import Fault, History, Verdict, Violation
from soak.injector import FaultsLog, Injector
from soak.plan import make_plan
from soak.sites import CouchSite, Site, SmallDisk, SqliteSite, can_mount, left_out
from soak.work import MAX_SCRUB, Work, first_line, is_big

LEASE_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
LOGS_MEGABYTES = 16
POOL_MEGABYTES = 128
DRAIN_SECONDS = 180.0
END_SECONDS = 45.0
"""How long a pilot may take to end when there is no work left; it may wait 30 s in an outage."""

REAP_SECONDS = 2.0
PUSH_SHARE = 0.7
"""In what part of the time of the faults tokens are pushed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a round is to be like.

    Attributes:
        store: ``sqlite`` or ``couchdb``.
        seed: Decides the faults, the tokens and the pilots.
        tokens: How many.
        pilots: How many at a time.
        seconds: How long faults are injected.
        keep: Keep the folder, whatever is found.
    """

    store: str
    seed: int
    tokens: int
    pilots: int
    seconds: float
    keep: bool = False


@dataclass(slots=True)
class Figures:
    """What came out.

    Attributes:
        store: The store.
        seed: The seed.
        tokens: Tokens pushed.
        states: How many tokens stand where in the end.
        pilots: Pilots started.
        executions: Commands that were started.
        explained: Executions that were not a token's last, by what made another one necessary.
        fenced: Executions that ended after their token was taken away.
        faults: Faults injected, by kind.
        left_out: Kinds that this machine cannot have, with the reason.
        lost: Tokens that are nowhere.
        violations: Promises that were not kept.
        reaped: Tokens that ``picas reap`` gave back, after the faults.
        recovered: Results that ``picas recover`` recorded, of pilots that were killed.
        seconds: Wall time.
        folder: Where everything is, if it was kept.
    """

    store: str
    seed: int
    tokens: int
    states: Counter[str]
    pilots: int
    executions: int
    explained: Counter[str]
    fenced: int
    faults: Counter[str]
    left_out: Mapping[str, str]
    lost: int
    violations: list[Violation]
    reaped: int
    recovered: int
    seconds: float
    folder: str | None = None


def run_round(order: Order, server: CouchServer | None) -> Figures:
    """Do it, and say what came out."""
    folder = Path(tempfile.mkdtemp(prefix=f"picas-soak-{order.store}-{order.seed}-"))
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        round_ = _Round(order, folder, server, stack)
        history = round_.play()
        verdict = checker.check(history)
        figures = round_.figures(history, verdict)
    figures.seconds = time.monotonic() - begun
    if order.keep or verdict.violations:
        figures.folder = str(folder)
        (folder / "tokens.jsonl").write_text(
            "".join(f"{json.dumps(doc)}\n" for doc in history.documents.values())
        )
        (folder / "violations").write_text("".join(f"{v}\n" for v in verdict.violations))
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


@dataclass(slots=True)
class _Round:
    """The parts of a round, and its course."""

    order: Order
    folder: Path
    server: CouchServer | None
    stack: contextlib.ExitStack
    reaped: int = 0
    recovered: int = 0
    logs: list[Path] = field(init=False)
    work: Work = field(init=False)
    log: FaultsLog = field(init=False)
    disk: SmallDisk | None = field(init=False)
    site: Site = field(init=False)
    fleet: Fleet = field(init=False)
    missing: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        order, folder = self.order, self.folder
        mounts, shift = can_mount(folder), clock.build(folder)
        self.missing = left_out(order.store, mounts=mounts, clocks=shift is not None)
        self.work = Work(folder, order.seed, order.tokens, LEASE_SECONDS)
        self.log = FaultsLog(folder / "faults.jsonl")
        self.stack.callback(self.log.close)
        self.disk = SmallDisk(folder / "small", LOGS_MEGABYTES) if mounts else None
        if self.disk is not None:
            self.stack.callback(self.disk.close)
        self.site = self._site(mounts)
        self.logs = [where / "logs" for where in (folder, folder / "small") if where.is_dir()]
        for logs in self.logs:
            logs.mkdir()
        setting = Setting(
            folder,
            self._environ(self.site.faulty),
            ("--max-scrub", str(MAX_SCRUB), "--attach", f"{self.work.big}/{{lease}}.dat"),
            self.logs[0],
            self.logs[1] if self.disk else None,
            shift if order.store == "couchdb" else None,
        )
        self.fleet = Fleet(setting, order.seed)
        self.stack.callback(self.fleet.close)

    def play(self) -> History:
        """Push, hurt, heal, drain; returns what is known then."""
        order = self.order
        docs = list(self.work.tokens())
        pusher = Pusher(self.site.faulty, docs, order.seconds * PUSH_SHARE)
        pusher.start()
        hands = Hands(self.site.direct, pusher.pushed, self.log.note)
        injector = Injector(self.fleet, self.site, hands, self.disk, self.log, self.missing)
        plan = make_plan(order.seed, order.store, order.seconds, LEASE_SECONDS)
        injector.run(plan, order.seconds, order.pilots)
        hands.close()
        pusher.finish()
        self._recover()
        with connect(self.site.direct) as pool:
            self._drain(pool)
            self.fleet.wait(END_SECONDS)
            self._drain(pool)  # what pilots gave back at their very end
            self.fleet.wait(END_SECONDS)
            return self._history(pool, pusher.pushed)

    def figures(self, history: History, verdict: Verdict) -> Figures:
        """The round in numbers."""
        return Figures(
            store=self.order.store,
            seed=self.order.seed,
            tokens=len(history.pushed),
            states=verdict.states,
            pilots=len(self.fleet.pilots),
            executions=len(history.executions),
            explained=verdict.explained,
            fenced=verdict.fenced,
            faults=self.log.counts(),
            left_out=self.missing,
            lost=sum(v.promise == checker.LOST for v in verdict.violations),
            violations=verdict.violations,
            reaped=self.reaped,
            recovered=self.recovered,
            seconds=0.0,
        )

    def _site(self, mounts: bool) -> Site:
        order = self.order
        site: Site
        if order.store == "couchdb":
            if self.server is None:
                raise ValueError("a round on CouchDB needs a server")
            site = CouchSite(self.server, order.seed, self.log.meet)
        else:
            disk = SmallDisk(self.folder / "pool", POOL_MEGABYTES) if mounts else None
            site = SqliteSite(self.folder, disk)
        self.stack.callback(lambda: site.close(self.folder / "kept"))
        return site

    def _environ(self, url: str) -> dict[str, str]:
        times = {"PICAS_LEASE": f"{LEASE_SECONDS:g}", "PICAS_HEARTBEAT": f"{HEARTBEAT_SECONDS:g}"}
        return clean_environment(self.folder / "home", {"PICAS_POOL": url, **times})

    def _drain(self, pool: Pool) -> None:
        """Work until nothing waits and nothing is locked: pilots first, then ``picas reap``."""
        for pilot in self.fleet.alive():
            if pilot.endless and not pilot.terminated:
                self.fleet.terminate(pilot)
                self.log.note(Fault("term", time.time(), target=pilot.name))
        deadline = time.monotonic() + DRAIN_SECONDS
        reap_at = time.monotonic() + 2 * LEASE_SECONDS
        while time.monotonic() < deadline:
            counts = pool.counts()
            if not (counts[State.TODO] or counts[State.LOCKED]):
                return
            if counts[State.TODO]:
                self.fleet.keep(self.order.pilots, plain=True)
            elif time.monotonic() > reap_at:
                self.reaped += self._reap()
                reap_at = time.monotonic() + REAP_SECONDS
            time.sleep(0.1)

    def _reap(self) -> int:
        """Give back the tokens of pilots that are gone, as a person would."""
        return int(self._picas("reap")["tokens"])

    def _recover(self) -> int:
        """Record what killed pilots kept on disk, as a person would; tells how many are left."""
        found = self._picas("recover", *map(str, self.logs))
        self.recovered += found["recorded"]
        return int(found["left"])

    def _picas(self, *arguments: str) -> Any:
        """What a command prints."""
        done = subprocess.run(
            [PICAS, *arguments, "--json"],
            env=self._environ(self.site.faulty),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout:
            raise RuntimeError(f"picas {arguments[0]}: {done.stderr}")
        return json.loads(done.stdout)

    def _history(self, pool: Pool, pushed: list[str]) -> History:
        docs = {d["_id"]: d for d in pool.store.read(pushed) if d is not None}
        found = self.site.attachments(docs.values())
        files = {(token_id, name): content for token_id, name, content in found}
        logs = {key: first_line(files[key]) for key in files if key[1].endswith(".out")}
        return History(
            pushed=pushed,
            documents=docs,
            executions=self.work.executions(),
            faults=self.log.faults,
            logs=logs,
            files=list(_spoiled(docs.values(), files)),
            left=self._recover(),
            ends=[pilot.end() for pilot in self.fleet.pilots],
            names=self.fleet.names(),
            lease=LEASE_SECONDS,
            small=frozenset(pilot.name for pilot in self.fleet.pilots if pilot.small),
        )


def _spoiled(
    docs: Iterable[Document], files: Mapping[tuple[str, str], bytes]
) -> Iterator[tuple[str, str]]:
    """Attached files that are missing, or not what the task wrote."""
    for key, content in files.items():
        if key[1].endswith(".dat") and not is_big(key[1].removesuffix(".dat"), content):
            yield key
    for doc in docs:
        if doc["input"].endswith(" big") and token.state(doc) is State.DONE:
            wanted = f"{token.attempts(doc)[-1].get('lease')}.dat"
            if (doc["_id"], wanted) not in files:
                yield doc["_id"], wanted
