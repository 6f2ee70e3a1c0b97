"""The model behind the page on scale: its formulas, its simulation, and that both agree."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.scale.__main__ import COSTS, RESULT, main
from benchmarks.scale.costs import Costs, Row
from benchmarks.scale.engine import Command, Cores, Engine, Index, Shard
from benchmarks.scale.model import Demands, Load, Server, bend, bounds, listening
from benchmarks.scale.simulate import Outcome, Site, simulate
from benchmarks.scale.sweep import SERVER, SETTINGS, load, start
from benchmarks.scale.table import computed, measured

from picas.errors import InputError

ROOT = Path(__file__).parents[2]
TURN, READ, BEAT = 0.004, 0.001, 0.002
"""Processor seconds of the requests of `plain`."""


def plain(shards: int = 2, *, commit: float = 0.0, update: float = 0.0) -> Costs:
    """Costs that are easy to reckon with: a turn is a turn, however many tokens it has."""
    rows = [Row("turn", 1, shards, "crowd", TURN, TURN, {"grown": 3.0})]
    for n in (1, 10, 100):
        touched = shards * (1 - (1 - 1 / shards) ** (2 * n))
        turn = TURN + commit * touched
        rows += [Row("turn", n, shards, kind, turn, turn, {"grown": 0.0}) for kind in ("", "large")]
        rows += [Row("turn", n, shards, kind, turn, turn) for kind in ("log", "bare")]
        rows.append(Row("turn", n, shards, "cluster", 3 * turn, turn))
        rows += [Row(op, n, shards, "", READ, READ) for op in ("read", "get")]
        rows.append(Row("get", n, shards, "cluster", 3 * READ, READ))
    for n in (2, 20, 200):
        touched = shards * (1 - (1 - 1 / shards) ** n)
        turn = Costs({}, tuple(rows)).cpu("turn", n / 2, shards)
        rows.append(Row("index", n, shards, "", turn + READ + update * touched, 0.0))
    rows += [Row("beat", n, shards, "", BEAT + commit, BEAT) for n in (1, 20, 1000)]
    rows += [Row("ids", n, shards, "", READ, READ) for n in (100, 1_000)]
    rows += [Row("pilots", 200, shards, kind, READ, READ) for kind in ("", "old")]
    rows += [
        Row("compact", 1, shards, kind, 0.001, 0.0, {"grown": 3.0, "left": 1.0})
        for kind in ("", "log")
    ]
    rows += [Row("listen", n, shards, "_selector", 0.001 * n, 0.0) for n in (0, 10)]
    return Costs({}, tuple(rows))


QUIET = Server(cores=2, shards=2, ratio=0.0, flush=0.0)
"""Nothing but processors takes time there."""


def calm(pilots: int, seconds: float, slots: int = 1) -> Load:
    """Pilots that do nothing beside their tokens."""
    return Load(pilots, seconds, slots, log=False, heartbeat=1e9, lease=1e9, due=1e9)


def run(pilots: int, seconds: float, *, seed: int = 1, costs: Costs | None = None) -> Outcome:
    """Simulate pilots with nothing but tokens on the quiet server."""
    return simulate(costs or plain(), QUIET, calm(pilots, seconds), seed=seed)


# --- costs ---------------------------------------------------------------------------------------


def test_costs_between_two_measurements_lie_on_a_line() -> None:
    """Between, before and behind what was measured; never below nothing."""
    rows = (Row("get", 1, 2, "", 2.0, 1.0), Row("get", 11, 2, "", 12.0, 6.0))
    costs = Costs({}, rows)
    assert [costs.cpu("get", n) for n in (1, 6, 11, 21)] == [2.0, 7.0, 12.0, 22.0]
    assert costs.cpu("get", -100) == 0.0
    assert costs.wall("get", 6) == 3.5


def test_costs_that_were_not_measured_are_named() -> None:
    """The message says which operation, and with how many shards."""
    with pytest.raises(InputError, match=r"'get' with 3 shards"):
        plain().cpu("get", 1, 3)


def test_costs_survive_a_file(tmp_path: Path) -> None:
    """What was saved is loaded again."""
    plain().save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == plain()


@pytest.mark.parametrize("text", ["", "[]", '{"about": {}}', '{"about": {}, "rows": [{"op": 1}]}'])
def test_a_file_without_costs_is_one_line_on_stderr(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another file, or half of one, ends the command with status 1 and its name."""
    (tmp_path / "costs.json").write_text(text)
    assert main(["simulate", str(tmp_path / "costs.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error:")
    assert "costs.json has no costs" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_file_without_a_result_is_one_line_on_stderr(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Charts of another file end the command with status 1 and its name."""
    (tmp_path / "result.json").write_text(text)
    assert main(["charts", str(tmp_path / "result.json")]) == 1
    said = capsys.readouterr().err
    assert "result.json has no result" in said
    assert said.count("\n") == 1


def test_numbers_that_cannot_be_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """No rounds, no pilots: as other wrong arguments."""
    for arguments in (["measure", "--rounds", "0"], ["validate", "--pilots", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "at least 1" in capsys.readouterr().err


def test_the_lower_of_two_measurements_counts() -> None:
    """Other work on the machine only adds to what is measured."""
    one, other = Row("get", 1, 2, "", 2.0, 3.0), Row("get", 1, 2, "", 1.0, 4.0)
    assert one.least(other) == Row("get", 1, 2, "", 1.0, 3.0)


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"cores": 0}, {"shards": 0}, {"copies": 3}, {"revs_limit": 0}])
def test_a_server_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    """Nothing of something, or more copies than nodes."""
    with pytest.raises(InputError):
        Server(**wrong)


@pytest.mark.parametrize("wrong", [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)])
def test_pilots_that_cannot_be_are_refused(wrong: tuple[int, float, int]) -> None:
    """No pilots, tokens that take no time, pilots without slots."""
    with pytest.raises(InputError):
        Load(*wrong)


# --- the engine ----------------------------------------------------------------------------------


def test_events_come_in_the_order_of_time() -> None:
    """Whatever the order in which they were announced; those of one moment as announced."""
    engine, seen = Engine(), list[str]()
    for delay, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "late")):
        engine.after(delay, lambda name=name: seen.append(name))  # type: ignore[misc]
    engine.run(5.0)
    assert (seen, engine.now) == (["a", "b", "c"], 5.0)


def test_two_processors_serve_three_in_two_rounds() -> None:
    """The third waits for the first that is free, and all that was served is counted."""
    engine = Engine()
    cores, ends = Cores(engine, 2), list[float]()
    for _ in range(3):
        cores.serve("work", 1.0)(lambda: ends.append(engine.now))
    engine.run(10.0)
    assert ends == [1.0, 1.0, 2.0]
    assert cores.busy == {"work": 3.0}


def test_writes_that_meet_share_a_commit() -> None:
    """What comes while a shard commits goes into the next commit, all of it together."""
    engine = Engine()
    cores, ends = Cores(engine, 4), list[float]()
    shard = Shard(engine, cores, once=1.0, each=0.0, flush=0.5, spread=1.0)
    for _ in range(5):
        shard.write(1)(lambda: ends.append(engine.now))
    engine.run(10.0)
    assert ends == [1.5, 3.0, 3.0, 3.0, 3.0]
    assert cores.busy == {"commit": 2.0}


@pytest.mark.parametrize(("asked", "updates"), [(Index.ask, 2), (Index.notice, 1)])
def test_views_that_are_asked_for_while_busy(asked: Callable[[Index], None], updates: int) -> None:
    """For a reader they go on with what came meanwhile; the background indexer takes a rest."""
    engine = Engine()
    cores = Cores(engine, 1)
    index = Index(engine, cores, once=1.0, each=0.0)
    index.behind = 1
    asked(index)
    engine.run(0.5)
    index.behind += 1
    asked(index)
    engine.run(10.0)
    assert cores.busy == {"indexes": float(updates)}
    assert index.behind == 2 - updates


def test_a_process_waits_for_what_it_yields() -> None:
    """It goes on when that is done, and ends when it has no more to wait for."""
    engine, seen = Engine(), list[float]()

    def process() -> Iterator[Command]:
        for _ in range(2):
            yield engine.sleep(1.5)
            seen.append(engine.now)

    engine.start(process())
    engine.run(10.0)
    assert seen == [1.5, 3.0]


# --- the laws ------------------------------------------------------------------------------------


def test_few_pilots_are_limited_by_their_tokens() -> None:
    """Then a slot ends a token in the time of the token and of its claim, no more."""
    outcome = run(10, 1.0)
    alone = TURN + 2 * READ
    assert outcome.rate == pytest.approx(10 / (1.0 + alone), rel=0.05)
    assert outcome.median == pytest.approx(alone, abs=2 * READ)


def test_many_pilots_are_limited_by_the_processors() -> None:
    """Then all are busy, and each token takes its time there, no less."""
    costs, load = plain(), calm(2_000, 1.0)
    outcome = simulate(costs, QUIET, load)
    assert outcome.load == pytest.approx(1.0, abs=0.02)
    assert outcome.rate == pytest.approx(QUIET.processors / (TURN + 2 * READ), rel=0.1)
    assert outcome.rate <= bounds(costs, QUIET, load).rate * 1.05


@pytest.mark.parametrize("pilots", [30, 100, 200])
def test_busy_processors_are_rate_times_demand(pilots: int) -> None:
    """The utilisation law."""
    outcome = run(pilots, 1.0)
    demand = bounds(plain(), QUIET, calm(pilots, 1.0)).token
    assert outcome.busy == pytest.approx(outcome.rate * demand, rel=0.12)


@pytest.mark.parametrize("pilots", [30, 300, 1_000])
def test_a_cycle_is_slots_over_rate(pilots: int) -> None:
    """The response time law: what a slot waits is what its cycle takes beside the token."""
    outcome = run(pilots, 1.0)
    assert pilots / outcome.rate == pytest.approx(1.0 + outcome.median, rel=0.1)


def test_the_bend_lies_where_both_bounds_meet() -> None:
    """Below it pilots still bring more tokens a second, above it they only wait."""
    costs, load = plain(), calm(1, 1.0)
    pilots = bend(costs, QUIET, load)
    low, high = (run(round(pilots * factor), 1.0) for factor in (0.5, 2.0))
    assert low.median < 0.02 < 0.2 < high.median
    assert high.rate < 1.25 * bounds(costs, QUIET, replace(load, pilots=pilots)).rate


def test_longer_tokens_carry_more_pilots() -> None:
    """The bend goes with the time of a token, as long as pilots cost nothing else."""
    short, long = (bend(plain(), QUIET, calm(1, seconds)) for seconds in (10.0, 100.0))
    assert long == pytest.approx(10 * short, rel=0.25)


def test_heartbeats_are_a_load_of_their_own() -> None:
    """Pilots with tokens of days cost a heartbeat a minute each, and nothing else."""
    site = Site(plain(), QUIET, Load(600, 1e7, heartbeat=60.0, lease=1e9))
    site.engine.run(600.0)
    assert site.cores.busy["heartbeats"] == pytest.approx(600 * 10 * BEAT, rel=0.02)
    assert sum(site.cores.busy.values()) == pytest.approx(site.cores.busy["heartbeats"], rel=0.02)


def test_pilots_that_start_together_come_together() -> None:
    """Their claims fill the server at once, and later it is as calm as ever."""
    load = start(plain(), QUIET, calm(600, 1e7))["load"]
    assert load[0] > 0.1
    assert load[0] > 10 * load[1]


# --- the simulation ------------------------------------------------------------------------------


def test_a_seed_gives_the_same_run() -> None:
    """Everything that is random comes from it."""
    assert run(50, 1.0, seed=3) == run(50, 1.0, seed=3)
    assert run(50, 1.0, seed=3) != run(50, 1.0, seed=4)


def test_several_slots_share_requests() -> None:
    """A pilot with many slots needs fewer requests a token, and holds some tokens ahead."""
    one = simulate(plain(), QUIET, calm(64, 1.0))
    many = simulate(plain(), QUIET, calm(1, 1.0, slots=64))
    assert many.rate == pytest.approx(one.rate, rel=0.1)
    assert many.busy < one.busy / 2
    assert many.median == 0.0


def test_commits_are_shared_under_load() -> None:
    """A commit takes less of each token's time the busier the server is."""
    costs = plain(commit=0.01)
    few, many = (run(pilots, 1.0, costs=costs) for pilots in (4, 400))
    assert many.parts["commit"] / many.rate < 0.8 * few.parts["commit"] / few.rate


def test_indexes_catch_up_in_larger_steps_under_load() -> None:
    """So they take less of each token's time the busier the server is."""
    costs = plain(update=0.01)
    few, many = (simulate(costs, QUIET, replace(calm(pilots, 1.0), due=2.0)) for pilots in (4, 200))
    assert many.parts["indexes"] / many.rate < 0.8 * few.parts["indexes"] / few.rate


def test_copies_multiply_what_is_written() -> None:
    """On three nodes with three copies each commit is made three times."""
    cluster = replace(QUIET, nodes=3, copies=3)
    load = calm(20, 1.0)
    costs = plain(commit=0.002)
    one, three = (simulate(costs, server, load).parts["commit"] for server in (QUIET, cluster))
    assert three == pytest.approx(3 * one, rel=0.15)


def test_looking_at_every_pilot_costs_more_the_more_there_are() -> None:
    """Looks by an index do not."""
    costs = plain()
    by = {
        how: [sum(Demands(costs, QUIET, Load(n, 1.0, looks=how)).look()) for n in (200, 2_000)]
        for how in ("all", "view")
    }
    assert by["all"][1] > 4 * by["all"][0]
    assert by["view"][1] == by["view"][0]


def test_compaction_is_paid_by_what_the_file_grows() -> None:
    """Three times its data grown is three compactions at a ratio of 2, one and a half at 3."""
    costs, load = plain(), Load(1, 1.0)
    each = [
        Demands(costs, replace(QUIET, ratio=ratio), load).compaction() for ratio in (0.0, 2.0, 3.0)
    ]
    assert each == pytest.approx([0.0, 0.003, 0.0015])


def test_listeners_cost_with_every_change() -> None:
    """Twice the pilots with a heartbeat each: four times the work."""
    one, two = (listening(plain(), n, n / 60) for n in (100, 200))
    assert one == pytest.approx(100 * 100 / 60 * 0.001)
    assert two == pytest.approx(4 * one)


# --- what was measured ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_the_measured_costs_have_all_that_the_page_shows(name: str) -> None:
    """Each setting of the page can be computed from the costs that are kept here."""
    server, load = SETTINGS[name]
    found = bounds(Costs.load(COSTS), server, load)
    assert 0 < found.token <= found.alone < 1
    assert math.isfinite(found.rate)


def test_the_page_has_the_figures_that_are_kept_here() -> None:
    """Both tables of the page are those of the measurement and of the simulation beside it."""
    page = (ROOT / "docs/explanation/scale.md").read_text()
    assert "\n".join(measured(Costs.load(COSTS))) in page
    assert "\n".join(computed(load(RESULT))) in page


def test_the_result_was_computed_from_the_costs_beside_it() -> None:
    """One of its points comes out again, and it tells of the same measurement."""
    costs, result = Costs.load(COSTS), load(RESULT)
    assert result["about"] == costs.about
    told = result["curves"][1]["points"][2]
    again = simulate(costs, SERVER, Load(told["pilots"], result["curves"][1]["seconds"]))
    assert (told["rate"], told["median"]) == pytest.approx((again.rate, again.median), rel=1e-3)
