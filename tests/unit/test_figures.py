"""The numbers that a person is shown."""

from typing import Any

import click
import pytest

from picas import figures
from picas.cli.params import Duration, Size
from picas.cli.table import Column, plain, safe, table
from picas.figures import Counts, Fleet, PilotState, RateMeter
from picas.token import State

NOW = 1_800_000_000.0


def a_pilot(**fields: Any) -> dict[str, Any]:
    """The document of a pilot that has run for ten minutes, and wrote half a minute ago."""
    return {
        "_id": "pilot_h_1_00",
        "type": "pilot",
        "hostname": "h",
        "state": "running",
        "view": "Monitor/todo",
        "slots": 4,
        "running": ["a", "b"],
        "started": NOW - 630,
        "heartbeat": NOW - 30,
        "done": 90,
        "error": 10,
        "scrubbed": 5,
        **fields,
    }


def test_counts_of_states() -> None:
    """A state that the pool did not name has no tokens; shares and sums follow."""
    counts = Counts.of("Monitor", {State.TODO: 5, State.DONE: 3, State.ERROR: 2})
    assert (counts.todo, counts.locked, counts.done, counts.error) == (5, 0, 3, 2)
    assert (counts.total, counts.settled, counts.open, counts.share) == (10, 5, 5, 0.3)
    assert Counts.of("Monitor", {}).share == 0


def test_counts_for_a_program() -> None:
    """The names are those of the states."""
    counts = Counts.of("D", {State.LOCKED: 1})
    assert counts.as_dict() == {
        "design": "D",
        "todo": 0,
        "locked": 1,
        "done": 0,
        "error": 0,
        "total": 1,
    }


def test_a_fleet_is_the_pilots_that_live() -> None:
    """Past pilots do not count; those that fell silent are lost until their tokens are back."""
    fleet = Fleet.of(
        [
            a_pilot(),
            a_pilot(hostname="other", slots=2, running=[]),
            a_pilot(state="ended"),
            a_pilot(heartbeat=NOW - 301),
            a_pilot(heartbeat=NOW - 301, state="lost"),
        ],
        NOW,
    )
    assert fleet == Fleet(pilots=2, hosts=2, slots=6, running=2, lost=1)
    assert fleet.as_dict()["lost"] == 1


def test_a_pilot_lives_while_its_heartbeat_is_younger_than_three_minutes() -> None:
    """At five minutes it is taken for dead."""
    assert figures.is_alive(a_pilot(heartbeat=NOW - 299), NOW)
    assert not figures.is_alive(a_pilot(heartbeat=NOW - 300), NOW)
    assert not figures.is_alive({}, NOW)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, PilotState.RUNNING),
        ({"health": "5 different tokens failed"}, PilotState.SLOW),
        ({"heartbeat": NOW - 60}, PilotState.SILENT),
        ({"heartbeat": NOW - 60, "health": "5 different tokens failed"}, PilotState.SILENT),
        ({"heartbeat": "odd"}, PilotState.SILENT),
        ({"state": "unknown"}, PilotState.UNKNOWN),
        ({"state": "lost"}, PilotState.LOST),
        ({"state": "ended", "heartbeat": NOW - 900}, PilotState.ENDED),
    ],
)
def test_how_a_pilot_is(fields: dict[str, Any], state: PilotState) -> None:
    """What its document says of its end goes first, then its heartbeat, then its health."""
    pilot = a_pilot(**fields)
    assert figures.pilot_state(pilot, NOW, 60) is state
    assert figures.is_alive(pilot, NOW, 60) == (state in figures.LIVING)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"health": "5 tokens failed"}, "5 tokens failed"),
        ({"state": "ended", "reason": "SIGTERM", "health": ""}, "SIGTERM"),
        (
            {"state": "ended", "reason": "SIGTERM", "unsettled": 2},
            "SIGTERM; results not recorded: 2",
        ),
        ({"state": "unknown"}, "tokens name it as their holder, and it did not say so itself"),
        ({"health": ["odd"]}, ""),
    ],
)
def test_why_a_pilot_is_so(fields: dict[str, Any], why: str) -> None:
    """Its own words: of its health while it lives, of its end then."""
    assert figures.pilot_why(a_pilot(**fields)) == why


def test_a_pilot_that_was_drained() -> None:
    """Its reason says so."""
    assert figures.is_drained("drained: 20 different tokens failed")
    assert not figures.is_drained("no work left in Monitor/todo")
    assert not figures.is_drained(None)


@pytest.mark.parametrize(
    ("pilot_id", "name"),
    [
        ("pilot_node_3.example.org_4711_9f3ae2b1", "9f3ae2b1"),
        ("pilot_p", "pilot_p"),
        ("somebody", "somebody"),
    ],
)
def test_the_short_name_of_a_pilot(pilot_id: str, name: str) -> None:
    """The random part of its id; an id of another form stays whole."""
    assert figures.pilot_name(pilot_id) == name


def test_the_rate_of_pilots_is_the_sum_of_their_own() -> None:
    """Each pilot's rate is over its own life, up to its last heartbeat."""
    assert figures.pilots_rate([a_pilot()], NOW, "Monitor") == pytest.approx(10)
    second = a_pilot(started=NOW - 90, done=60, error=0)
    assert figures.pilots_rate([a_pilot(), second], NOW, "Monitor") == pytest.approx(70)


def test_a_pilot_without_a_history_tells_no_rate() -> None:
    """It has written its document once, at its start: nobody can say how fast it is."""
    assert figures.pilots_rate([a_pilot(started=NOW, heartbeat=NOW)], NOW, "Monitor") is None
    assert figures.pilots_rate([a_pilot(state="ended")], NOW, "Monitor") is None


def test_the_rate_of_a_design_counts_its_own_pilots() -> None:
    """Monitor has every token, so every pilot works for it; another design has its own."""
    pilots = [a_pilot(), a_pilot(view="Big/todo")]
    assert figures.pilots_rate(pilots, NOW, "Monitor") == pytest.approx(20)
    assert figures.pilots_rate(pilots, NOW, "Big") == pytest.approx(10)
    assert figures.pilots_rate(pilots, NOW, "Bi") is None


def test_a_measured_rate_needs_two_looks() -> None:
    """The second one must be far enough from the first."""
    meter = RateMeter(span=60, least=10)
    assert meter.per_minute is None
    meter.saw(0, 100)
    meter.saw(5, 200)
    assert meter.per_minute is None
    meter.saw(30, 200)
    assert meter.per_minute == pytest.approx(200)


def test_a_measured_rate_forgets_what_is_long_past() -> None:
    """It looks back over its span, not over all that it saw."""
    meter = RateMeter(span=60, least=10)
    for second in range(0, 301, 10):
        meter.saw(second, min(second, 200) * 10)
    assert meter.per_minute == 0


def test_a_measured_rate_begins_anew_where_tokens_were_reset() -> None:
    """A count that falls is no negative rate."""
    meter = RateMeter(span=60, least=10)
    meter.saw(0, 100)
    meter.saw(20, 40)
    assert meter.per_minute is None
    meter.saw(40, 50)
    assert meter.per_minute == pytest.approx(30)


@pytest.mark.parametrize(
    ("tokens", "rate", "left"),
    [(0, None, 0.0), (10, None, None), (10, 0.0, None), (10, 20.0, 30.0)],
)
def test_time_left(tokens: int, rate: float | None, left: float | None) -> None:
    """Nothing open needs no time; without a rate nobody can tell."""
    assert figures.time_left(tokens, rate) == left


def test_a_distribution() -> None:
    """Quantiles between two values are interpolated."""
    spread = figures.distribution([4.0, 1.0, 3.0, 2.0, 5.0])
    assert spread is not None
    assert (spread.count, spread.least, spread.most, spread.mean) == (5, 1, 5, 3)
    assert spread.quantiles == {
        0.05: pytest.approx(1.2),
        0.25: 2,
        0.5: 3,
        0.75: 4,
        0.95: pytest.approx(4.8),
    }
    assert figures.distribution([]) is None


def test_wall_times_are_those_of_the_last_finished_attempt() -> None:
    """A released attempt says nothing about how long the work takes."""
    ran = {"n": 1, "exit_code": 0, "wall": 3}
    released = {"n": 2, "reason": "released: SIGTERM", "wall": 9}
    docs: list[dict[str, Any]] = [
        {"attempts": [ran, released]},
        {"attempts": [released]},
        {},
        {"attempts": "odd"},
    ]
    assert figures.wall_times(docs) == [3.0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.26, "0.3 s"),
        (9.96, "10 s"),
        (99, "99 s"),
        (99.6, "2 min"),
        (3599, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (86400 * 3 + 3600, "3 d 1 h"),
    ],
)
def test_durations_as_texts(seconds: float, text: str) -> None:
    """Two figures are enough."""
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_400_000, "20 MB"),
        (999_600, "1.0 MB"),
        (5e12, "5.0 TB"),
    ],
)
def test_sizes_as_texts(number: float, text: str) -> None:
    """A kB is 1000 bytes."""
    assert figures.size(number) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.5, "0.5/min"), (42.2, "42/min"), (600, "10/s"), (90_000, "1,500/s")]
)
def test_rates_as_texts(rate: float, text: str) -> None:
    """Fast ones are told by the second."""
    assert figures.rate(rate) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("30m", 1800),
        ("24H", 86400),
        ("1h30m", 5400),
        ("0", 0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A number is seconds; units can be combined."""
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "5 min", "1e3", "nan", "1h30", "9" * 400])
def test_what_is_no_duration_is_told(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(click.BadParameter, match="90s, 30m, 24h"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512K", 524288), ("1m", 1 << 20), ("2.5GiB", 5 << 29), ("0", 0), ("8B", 8)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """A number is bytes; a K is 1024."""
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 M"])
def test_what_is_no_size_is_told(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(click.BadParameter, match="512K"):
        Size().convert(text, None, None)


def test_what_could_steer_a_terminal_is_spelled_out() -> None:
    """Escape sequences, line ends and marks that turn the direction of writing round."""
    assert safe("a\x1b[2Jb\r\n\u202ec") == r"a\x1b[2Jb\r\n\u202ec"
    assert safe("naïve 日本語 [red]") == "naïve 日本語 [red]"


COLUMNS = (
    Column("id", least=6),
    Column("state"),
    Column("n", right=True, optional=True),
    Column("empty"),
    Column("input", least=5),
)
ROWS = [["token_1", "done", "12", "", "x" * 50], ["token_22", "error", "3", "", "[red]y"]]


def test_a_table_with_room_cuts_nothing() -> None:
    """Columns stand below each other; those with nothing in them are left out."""
    lines = plain(table(COLUMNS, ROWS, width=200)).splitlines()
    assert lines == [
        "id        state   n  input",
        f"token_1   done   12  {'x' * 50}",
        "token_22  error   3  [red]y",
    ]


def test_a_narrow_table_cuts_the_widest_column() -> None:
    """The others stay whole."""
    lines = plain(table(COLUMNS, ROWS, width=40)).splitlines()
    assert max(map(len, lines)) == 40
    assert lines[1].startswith("token_1   done   12  xxx")
    assert lines[1].endswith("x…")


def test_a_very_narrow_table_leaves_out_what_is_optional() -> None:
    """And cuts all that may be cut."""
    lines = plain(table(COLUMNS, ROWS, width=20)).splitlines()
    assert lines == ["id      state  input", "token…  done   xxxx…", "token…  error  [red…"]
