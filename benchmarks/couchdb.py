"""Rows about claiming and settling on CouchDB, beside the classic client on the same server."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from tests.classic import PACKAGES, classic_python
from tests.couchdb.raw import Raw

from benchmarks import fleet
from benchmarks.bench import ROOT, Bench, Side
from benchmarks.fleet import Run
from benchmarks.pools import (
    MakeTokens,
    check_done,
    fill,
    only_classic_views,
    opened,
    push,
    scattered_tokens,
    tokens,
)
from benchmarks.report import Missing, Result, WrongCount, at_least
from picas import token
from picas.pool.couchdb.http import encode
from picas.pool.couchdb.ids import shard
from picas.token import Document, Holder, Outcome

CLASSIC = f"classic {PACKAGES[0].replace('==', ' ')}"
CLASSIC_SCRIPT = ROOT / "benchmarks" / "scripts" / "classic.py"
REST_SECONDS = 120.0
REST_LOOKS = 4
"""So many looks running, a second apart, must find the server without work of its own."""

CLASSIC_FASTEST = 200
"""Tokens a second that the classic client surely stays below: its pool must not run empty."""


@dataclass(frozen=True, slots=True)
class Team:
    """Pilots at work side by side.

    Attributes:
        pilots: How many; each a process with one slot.
        options: For pilots of ours (see `benchmarks.pilot`).
    """

    pilots: int
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        pilots = "1 pilot" if self.pilots == 1 else f"{self.pilots} pilots"
        return pilots + (", one token at a time" if self.options else "")


@dataclass(frozen=True, slots=True)
class Limit:
    """What the server can do at most.

    Attributes:
        name: What does it.
        side: Does it once.
        target: Which share of it is to be reached.
    """

    name: str
    side: Side
    target: float


BARE = "bare _bulk_docs, one a token"
_BESIDE = {"numbered": "beside", "scattered": "with scattered ids beside"}
EIGHT = Team(8)
ONE = Team(1, ("--one-at-a-time",))


def whole_fleet(bench: Bench) -> Iterator[Result | Missing]:
    """Eight pilot processes and no-op tokens, against eight of the classic client."""
    yield from _against_classic(bench, "couchdb-fleet", EIGHT, bench.size(20_000, 1_000), 15)


def single(bench: Bench) -> Iterator[Result | Missing]:
    """One pilot that claims one token at a time, against one of the classic client.

    And against a loop of bare writes, one a token: no claim that the server confirms before the
    token starts can take less.
    """
    number = bench.size(2_000, 100)
    limit = Limit(BARE, lambda: _bare_writes_anew(bench, number).rate, 0.75)
    yield from _against_classic(bench, "couchdb-single", ONE, number, 4, limit)


def full(bench: Bench) -> Iterator[Result | Missing]:
    """The same beside 100,000 done tokens, against an empty database.

    Once with tokens of a numbered series, which continues that of the done ones, and once with
    scattered ids. And the loop of bare writes in such databases: what that loses is the server's.
    """
    there = bench.size(100_000, 2_000)
    work = {ONE: (bench.size(500, 100), 4), EIGHT: (bench.size(20_000, 500), 1)}
    for team, (number, rounds) in work.items():
        rates = _beside(bench, there, team, number, rounds)
        tasks = f"{team}, {number:,} no-op tokens"
        for side, where in _BESIDE.items():
            yield Result(
                "couchdb-full",
                f"{tasks} {where} {there:,} done ones",
                "tokens/s",
                rates[side],
                "itself in an empty database",
                rates["empty"],
                at_least(0.9),
            )
        if "bare" in rates:
            share = statistics.median(rates["bare"]) / statistics.median(rates["bare, empty"])
            yield Result(
                "couchdb-full",
                f"{tasks} {_BESIDE['scattered']} {there:,} done ones",
                "tokens/s",
                rates["scattered"],
                f"{BARE}, there",
                rates["bare"],
                at_least(0.75),
                f"bare writes there reach {share:.3f} of what they do in an empty database",
            )


def _beside(
    bench: Bench, there: int, team: Team, number: int, rounds: int
) -> dict[str, list[float]]:
    """Rates in a database that has done tokens already, and in empty ones beside it.

    The machine's speed changes from minute to minute, and falls after much work. So each round
    begins with a rest, sides take turns at being first, and short ones go several rounds. The
    tokens of those that ran before are among the done ones.
    """
    figures: dict[str, list[float]] = {}
    for repetition in range(bench.repetitions):
        with bench.pool("couchdb") as url:
            bench.say(f"making {there:,} done tokens")
            with opened(url) as pool:
                fill(pool, there)
            sides: dict[str, Callable[[], Run]] = {
                "numbered": partial(run_ours, bench, url, team, number),
                "empty": partial(run_ours_anew, bench, team, number),
                "scattered": partial(run_ours, bench, url, team, number, scattered_tokens),
            }
            if team == ONE:
                sides["bare"] = partial(_bare_writes, url, number, scattered_tokens)
                sides["bare, empty"] = partial(_bare_writes_anew, bench, number)
            names = deque(sides)
            names.rotate(-repetition)
            for _ in range(rounds):
                _rest(bench)
                names.rotate(-1)
                for name in names:
                    figures.setdefault(name, []).append(sides[name]().rate)
    return figures


def _rest(bench: Bench) -> None:
    """Wait until the server has compacted what was filled: no later run has that work beside it."""
    calm, deadline = 0, time.monotonic() + REST_SECONDS
    with bench.server().raw() as raw:
        while calm < REST_LOOKS and time.monotonic() < deadline:
            calm = calm + 1 if raw.get("/_active_tasks").json == [] else 0
            time.sleep(1.0)


def run_ours_anew(bench: Bench, team: Team, number: int) -> Run:
    """Run tokens in a fresh database by pilots of ours."""
    with bench.pool("couchdb") as url:
        return run_ours(bench, url, team, number)


def run_ours(bench: Bench, url: str, team: Team, number: int, make: MakeTokens = tokens) -> Run:
    """Push tokens to a database, and run them by pilots of ours; only the pilots are timed."""
    with opened(url) as pool:
        before = sum(pool.counts().values())
        push(pool, number, make)
        run = fleet.ours(url, team.pilots, bench.folder / "ours.log", *team.options)
        check_done(pool, before + number)
    if run.ended != number:
        raise WrongCount(f"{run.ended:,} of {number:,} tokens are known to have ended")
    return run


def run_classic(bench: Bench, python: str, pilots: int, number: int, seconds: float) -> Run:
    """Push tokens to a fresh database, and let the classic client run them for some seconds.

    So its figure is that of the steady middle of a run, without a beginning and an end.
    """
    number = max(number, int(CLASSIC_FASTEST * seconds))
    with bench.pool("couchdb") as url, opened(url) as pool:
        only_classic_views(pool)
        push(pool, number)
        parts = urlsplit(url)
        environ = {
            "CLASSIC_SERVER": f"{parts.scheme}://{parts.hostname}:{parts.port}",
            "CLASSIC_DATABASE": parts.path.strip("/"),
            "CLASSIC_USER": parts.username or "",
            "CLASSIC_PASSWORD": parts.password or "",
            "PYTHONPATH": "",  # its package has the name of ours
        }
        command = [python, str(CLASSIC_SCRIPT), str(seconds)]
        run = fleet.run_together([command] * pilots, environ, bench.folder / "classic.log")
        if pool.count("Monitor/todo") == 0:
            raise WrongCount(f"{number:,} tokens were too few for {seconds:g} s")
        return run


def _bare_writes_anew(bench: Bench, number: int) -> Run:
    """`_bare_writes` in a fresh database."""
    with bench.pool("couchdb") as url:
        return _bare_writes(url, number)


def _bare_writes(url: str, number: int, make: MakeTokens = tokens) -> Run:
    """Push tokens, and write the result of each with the claim of the next; only that is timed.

    They are in order of their shards, so that nearly all of the writes touch only one.
    """
    holder = Holder("pilot_bare", "localhost")
    outcome = Outcome(0, 0.0, 0.0, "exit code 0", 0.0)
    with opened(url) as pool, Raw(url) as raw:
        before = sum(pool.counts().values())
        push(pool, number, make)
        shards = raw.get("").json["cluster"]["q"]
        free = sorted(pool.find("Monitor/todo"), key=lambda doc: shard(doc["_id"], shards))
        running: list[Document] = []
        begun = time.monotonic()
        for doc in [*free, None]:
            now = time.time()
            docs = [token.settle(claimed, now, outcome) for claimed in running]
            docs += [token.claim(doc, now, holder, token.new_lease())] if doc else []
            headers = {"Content-Type": "application/json"}
            answer = raw.call("POST", "/_bulk_docs", encode({"docs": docs}), headers).json
            running = [{**docs[-1], "_rev": answer[-1]["rev"]}] if doc else []
        seconds = time.monotonic() - begun
        check_done(pool, before + number)
    return Run(number, seconds, 0)


def _against_classic(
    bench: Bench, row: str, team: Team, number: int, target: float, *limits: Limit
) -> Iterator[Result | Missing]:
    server = bench.server()
    python = classic_python()
    seconds = bench.size(30, 4)
    runs: dict[str, list[Run]] = {"ours": [], "classic": []}

    def ours() -> float:
        runs["ours"].append(run_ours_anew(bench, team, number))
        return runs["ours"][-1].rate

    def classic(python: str) -> float:
        runs["classic"].append(run_classic(bench, python, team.pilots, number, seconds))
        return runs["classic"][-1].rate

    sides: dict[str, Side] = {limit.name: limit.side for limit in limits}
    if python is None:
        yield Missing(row, f"{CLASSIC} could not be installed")
    else:
        sides["classic"] = partial(classic, python)
    if not sides:
        return
    figures = bench.interleaved({"ours": ours, **sides})
    twice = {side: sum(run.twice for run in done) for side, done in runs.items()}
    ended = {side: sum(run.ended for run in done) for side, done in runs.items()}
    work, unit = f"{team}, {number:,} no-op tokens, CouchDB {server.version}", "tokens/s"
    if python is not None:
        yield Result(
            row,
            work,
            unit,
            figures["ours"],
            CLASSIC,
            figures["classic"],
            at_least(target),
            f"executed twice: {twice['ours']} of {ended['ours']:,}, "
            f"by the other {twice['classic']} of {ended['classic']:,}",
        )
    for limit in limits:
        share = at_least(limit.target)
        yield Result(row, work, unit, figures["ours"], limit.name, figures[limit.name], share)
