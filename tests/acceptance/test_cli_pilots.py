"""``picas pilots``: who works, who is stuck or broken, on both stores."""

import json
import re
import signal
from typing import Any

import pytest
from tests.acceptance.work import Work, on_a_terminal, until, watched

from picas.pool import connect

NOTE = "6 different tokens failed one after another, the last with exit code 127"


def save_pilot(work: Work, name: str, silent: float = 30, **fields: Any) -> None:
    """The document of a pilot on a host of its own, which has run for two hours."""
    with connect(work.url) as pool:
        now = pool.now()
        ended = {"ended": now - silent} if fields.get("state") == "ended" else {}
        pool.save_pilot(
            {
                "_id": f"pilot_{name}_4711_{name.encode().hex()}",
                "type": "pilot",
                "hostname": f"{name}.example.org",
                "view": "Monitor/todo",
                "slots": 8,
                "running": [],
                "state": "running",
                "started": now - 7200,
                "heartbeat": now - silent,
                "done": 100,
                **ended,
                **fields,
            }
        )


def fleet(work: Work) -> None:
    """One pilot in each state."""
    save_pilot(work, "n1", running=["t0", "t1"], error=2, scrubbed=3, slurm_job_id="12_3")
    save_pilot(work, "n2", health=NOTE)
    save_pilot(work, "n3", 400)
    save_pilot(work, "n4", 290, state="unknown")
    save_pilot(work, "n5", 4000, state="lost")
    save_pilot(work, "n6", 5000, state="ended", reason="no work left in Monitor/todo")
    save_pilot(work, "n7", 6000, state="ended", reason=f"drained: {NOTE}")
    save_pilot(work, "n8", 7000, state="ended", reason="SIGTERM", unsettled=2)


def table(said: str) -> list[list[str]]:
    """The rows of the table, split at the gaps."""
    lines = said.split("\n\n")[0].splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines[1:]]


def test_no_pilots(work: Work) -> None:
    """What to do is told."""
    assert work.picas("pilots").stdout == "no pilots at work; 'picas run' starts one\n"


def test_pilots_of_all_states(work: Work) -> None:
    """Those first that ask for attention, with why; past ones with --all."""
    fleet(work)
    said = work.picas("pilots").stdout
    assert [row[0] for row in table(said)] == ["silent", "unknown", "slow", "running", "ended"]
    assert table(said)[3][:7] == [
        *("running", "6e31", "n1.example.org", "2/8", "100", "5"),
        table(said)[3][6],
    ]
    lines = said.splitlines()
    assert f"slow 6e32: {NOTE}" in lines
    assert "ended 6e38: SIGTERM; results not recorded: 2" in lines
    assert "1 silent, 1 unknown, 1 slow, 1 running" in lines
    assert "past: 3 ended (1 of them drained), 1 lost; 'picas pilots --all' shows them" in lines
    assert any("'picas reap' does it now" in line for line in lines)
    everyone = work.picas("pilots", "--all").stdout
    assert [row[0] for row in table(everyone)][4:] == ["lost", "ended", "ended", "ended"]
    assert f"ended 6e37: drained: {NOTE}" in everyone
    assert "'picas pilots --all'" not in everyone


def test_a_reason_that_many_have_is_told_once(local: Work) -> None:
    """With a few of them."""
    for n in range(5):
        save_pilot(local, f"h{n}", 1000 + n, state="ended", reason="SIGTERM")
    said = local.picas("pilots", "--all").stdout
    assert "ended 6830, 6831, 6832 and 2 more: SIGTERM\n" in said


def test_pilots_for_programs(work: Work) -> None:
    """Raw numbers, whole ids, and the counts of all states."""
    fleet(work)
    facts = json.loads(work.picas("pilots", "--json").stdout)
    assert facts["lease"] == 300
    assert facts["states"] == {
        **{"silent": 1, "unknown": 1, "slow": 1, "running": 1},
        **{"lost": 1, "ended": 3},
    }
    assert len(facts["pilots"]) == 5
    running = facts["pilots"][3]
    assert running["id"] == "pilot_n1_4711_6e31"
    assert running["running"] == ["t0", "t1"]
    assert (running["error"], running["scrubbed"], running["job"]) == (2, 3, "12_3")
    assert 29 < running["silent_seconds"] < 60
    assert len(json.loads(work.picas("pilots", "--all", "--json").stdout)["pilots"]) == 8


def test_the_lease_of_the_pool_counts(local: Work) -> None:
    """A shorter one makes pilots silent sooner."""
    save_pilot(local, "n1", 100)
    assert local.picas("pilots").stdout.startswith("state    pilot")
    assert table(local.picas("pilots").stdout)[0][0] == "running"
    local.picas("settings", "lease=1m")
    assert table(local.picas("pilots").stdout)[0][0] == "silent"


def test_a_real_pilot(work: Work) -> None:
    """While it works, and when it has ended."""
    work.push("sleep 30")
    with work.started("run", "--slots", "3") as process:
        until(lambda: "busy" in work.picas("pilots").stdout)
        (row,) = table(work.picas("pilots").stdout)
        assert row[0] == "running"
        assert row[3] in ("0/3", "1/3")
        process.terminate()
        process.wait(timeout=20)
    said = work.picas("pilots", "--all").stdout
    assert table(said)[0][0] == "ended"
    assert "past: 1 ended" in said


def test_a_pilot_whose_host_fails_everything(work: Work) -> None:
    """It ends with status 7 and says what to look at; so does the table, and the rest is left."""
    work.push(*[f"exit 4{n % 10}" for n in range(40)])
    ran = work.picas("run", "--slots", "1", "--drain-after", "6", check=7)
    *_, last, words = ran.stderr.splitlines()
    assert last.endswith("failed (picas list Monitor/error), 0 given back; stopped")
    assert words.startswith("picas: error: drained: 6 different tokens failed one after another")
    assert words.endswith(
        "Is it this host, or the command? 'picas list Monitor/error', 'picas logs ID --err' and "
        "'picas explain ID' tell"
    )
    said = work.picas("pilots", "--all").stdout
    assert "past: 1 ended (1 of them drained)\n" in said
    assert ": drained: 6 different tokens failed" in said
    left = work.picas("list", "todo", "--json").stdout.splitlines()
    assert len(left) > 20
    told = work.picas("explain", json.loads(left[0])["_id"]).stdout
    assert "No pilot is at work on this pool" in told
    assert "(drained: 6 different tokens" in told


def test_what_pilots_hold_cannot_steer_the_terminal(local: Work) -> None:
    """Anyone may write anything into a document."""
    save_pilot(local, "n1", health="\x1b[2Jx", hostname="\x1b]0;t\x07", slots="many", running=5)
    said = local.picas("pilots").stdout
    assert not set(said) & set("\x1b\x07")
    assert r"\x1b[2Jx" in said


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_pilots_fit_the_terminal(local: Work, columns: int) -> None:
    """No line is wider than it; id and state are whole."""
    fleet(local)
    said = on_a_terminal(local, "pilots", "--all", columns=columns)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.splitlines()]
    assert max(map(len, lines)) <= columns
    assert lines[2].startswith("unknown  6e34")


def test_watching_pilots_on_a_terminal(work: Work) -> None:
    """A pilot that comes shows at once, where the table stands; Ctrl-C leaves in good order."""
    with watched(work, "pilots", "--watch", "--interval", "60") as screen:
        until(lambda: "no pilots at work" in screen())
        save_pilot(work, "n1", running=["t0", "t1"], slurm_job_id="12_3")
        until(lambda: "12_3" in screen())
        # The cursor went up to write over what was there.
        assert "\x1b[1A" in screen() or "\x1b[2K" in screen()


def test_many_pilots_on_a_low_terminal(local: Work) -> None:
    """Those that ask for attention stay in sight, and so does the summary."""
    for n in range(30):
        save_pilot(local, f"h{n}", 1000 if n == 17 else 10)
    with watched(local, "pilots", "--watch", rows=12) as screen:
        until(lambda: "1 silent, 29 running" in screen())
        said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen())
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("state"))
    assert lines[first + 1].startswith("silent")
    assert "… and 24 more" in lines
    assert len(lines) - first < 12


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_pilots_without_a_terminal(local: Work, as_json: bool) -> None:
    """The table again and again with the time, or a JSON object a line."""
    save_pilot(local, "n1")
    json_option = ("--json",) if as_json else ()
    with local.started("pilots", "--watch", "--interval", "0.1", *json_option) as watching:
        assert watching.stdout is not None
        first = [watching.stdout.readline() for _ in range(6)]
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)
    assert watching.returncode == 0
    if as_json:
        assert [json.loads(line)["states"] for line in first] == [{"running": 1}] * 6
    else:
        assert first[0].endswith(f" {local.url}\n")
        assert [line.split()[:2] for line in first[1:3]] == [
            ["state", "pilot"],
            ["running", "6e31"],
        ]
        assert first[3:] == ["\n", "1 running\n", "\n"]
