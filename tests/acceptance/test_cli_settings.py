"""``picas settings``: what all pilots of a pool share, on both stores."""

import json
import time
from typing import Any

import pytest
from tests.acceptance.work import Work, on_a_terminal

from picas import token
from picas.conditions import parse
from picas.pool import connect
from picas.token import State
from picas.views import Design


def values(work: Work, *args: str) -> dict[str, tuple[Any, str]]:
    """The settings as a program reads them: value and where it is from."""
    facts = json.loads(work.picas("settings", "--json", *args).stdout)
    return {name: (one["value"], one["from"]) for name, one in facts["settings"].items()}


def rows(said: str) -> dict[str, list[str]]:
    """The table: value and source by name."""
    lines = said.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("setting "))
    cells = [line.split() for line in lines[start + 1 :] if line]
    return {cell[0]: cell[1:3] for cell in cells}


def big(work: Work) -> None:
    """A design of large tokens."""
    with connect(work.url) as pool:
        pool.add_design(Design("Big", parse("cores >= 4")))


def test_nothing_is_set_at_first(work: Work) -> None:
    """Each setting is there with its default."""
    said = work.picas("settings").stdout
    assert said.startswith("pool ")
    assert rows(said) == {
        "lease": ["5m", "default"],
        "heartbeat": ["1m", "default"],
        "tries": ["1", "default"],
        "delay": ["0s", "default"],
        "longest_delay": ["1h", "default"],
        "final": ["none", "default"],
        "elsewhere": ["none", "default"],
        "elsewhere_time": ["5m", "default"],
        "memory_factor": ["1", "default"],
    }


def test_settings_are_set_and_taken_out(work: Work) -> None:
    """Several at once; what is set is marked, and NAME= brings the default back."""
    said = work.picas("settings", "tries=3", "delay=90s", "final=2,64-78", "lease=1h30m").stdout
    assert rows(said)["delay"] == ["1m30s", "pool"]
    there = values(work)
    assert there["tries"] == (3, "pool")
    assert there["final"] == ([2, "64-78"], "pool")
    assert there["lease"] == (5400, "pool")
    assert there["heartbeat"] == (60, "default")
    assert rows(work.picas("settings", "tries=", "lease=20").stdout)["tries"] == ["1", "default"]
    assert values(work)["heartbeat"] == (4, "default")


def test_a_design_has_a_policy_of_its_own(work: Work) -> None:
    """What it does not set is that of the pool; --view takes a view's name as well."""
    big(work)
    work.picas("settings", "tries=3", "delay=5")
    said = work.picas("settings", "--view", "Big/todo", "tries=5").stdout
    assert said.startswith("pool ")
    assert said.splitlines()[0].endswith(", tokens of Big/…")
    assert rows(said)["tries"] == ["5", "Big"]
    assert rows(said)["delay"] == ["5s", "pool"]
    assert "lease" not in rows(said)
    assert values(work)["tries"] == (3, "pool")
    assert "with a retry policy of their own: Big (--view)" in work.picas("settings").stdout
    work.picas("settings", "--view", "Big", "tries=")
    assert values(work, "--view", "Big")["tries"] == (3, "pool")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("tris=3", "there is no setting 'tris'; there are: lease, heartbeat, tries, delay"),
        ("tries=0", "the retry setting tries: 0 is no number of tries"),
        ("tries=many", "'many' is no number"),
        ("delay=soon", "'soon' is no duration"),
        ("final=2-1", "'2-1' is no exit code"),
        ("memory_factor=0.5", "0.5 is no factor"),
        ("heartbeat=4m", "the heartbeat (240 s) is more than a fifth of the lease time (300 s)"),
        ("lease=0", "lease cannot be 0"),
        ("lease=9s", "lease: 9 s is less than 10 s, and pilots' clocks may differ by two"),
        ("lease", "'lease': write NAME=VALUE to set it, or NAME= to take it out"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(change: str, told: str, work: Work) -> None:
    """Status 2, and nothing is set: not what was right beside it either."""
    refused = work.picas("settings", "elsewhere=127", change, check=2)
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert values(work)["elsewhere"] == ([], "default")


def test_times_are_the_same_for_all_views(local: Work) -> None:
    """A design has no lease of its own."""
    big(local)
    told = local.picas("settings", "--view", "Big", "lease=5m", check=2).stderr
    assert "lease is the same for all views: leave --view out" in told


def test_a_design_that_is_not_there(work: Work) -> None:
    """Those that are there are named, and what may have been meant."""
    big(work)
    told = work.picas("settings", "--view", "Bigg", "tries=2", check=5).stderr
    assert "the designs are: Big, Monitor; did you mean the design Big?" in told


def test_the_policy_of_a_removed_design_can_be_taken_out(local: Work) -> None:
    """It is still in the settings."""
    big(local)
    local.picas("settings", "--view", "Big", "tries=2")
    with connect(local.url) as pool:
        pool.remove_design("Big")
    local.picas("settings", "--view", "Big", "tries=")
    assert json.loads(local.picas("settings", "--json").stdout)["designs"] == {}


def test_pilots_at_work_keep_what_they_began_with(local: Work) -> None:
    """So it is said, and so it is if the environment names another time."""
    now = time.time()
    pilot = {"_id": "pilot_a_1_0a", "type": "pilot", "state": "running", "heartbeat": now}
    with connect(local.url) as pool:
        pool.save_pilot(pilot)
    told = local.picas("settings", "lease=1m").stderr
    assert told == (
        "picas: 1 pilot at work: the old settings hold there to the end; new ones may take them "
        "for gone too early, so let them end first\n"
    )
    assert local.picas("settings", "lease=1m").stderr == ""
    told = local.picas("settings", "tries=2", env={"PICAS_LEASE": "60"}).stderr
    assert "PICAS_LEASE is set here" in told


def test_pilots_follow_the_settings(work: Work) -> None:
    """Tries, back-off and final codes, unless --max-scrub says otherwise."""
    work.picas("settings", "tries=2", "final=3", "delay=0.1s")
    work.push("exit 1", "exit 3")
    work.picas("run")
    assert [len(work.get(t)["attempts"]) for t in ("t0", "t1")] == [2, 1]
    work.picas("reset", "t0", "--yes")
    work.picas("run", "--max-scrub", "0")
    assert len(work.get("t0")["attempts"]) == 3
    assert token.state(work.get("t0")) is State.ERROR


def test_a_policy_that_is_none_is_not_pushed(local: Work) -> None:
    """The place and the mistake are told; a field of that name that is no object is taken."""
    (local.folder / "w").write_text("true\n")
    local.picas("push", "--set", 'retry={"tries": 3, "final": [2, "64-78"]}', "w")
    local.picas("push", "--set", "retry=never", "w")
    told = local.picas("push", "--set", "retry.tris=3", "w", check=2).stderr
    assert "w, line 1: a retry policy has no setting 'tris'" in told
    with connect(local.url) as pool:
        assert pool.counts()[State.TODO] == 2


@pytest.mark.parametrize("columns", [40, 80])
def test_settings_fit_the_terminal(local: Work, columns: int) -> None:
    """At 80 columns all of each line is there."""
    big(local)
    local.picas("settings", "--view", "Big", "final=1-9,64-78", "delay=1h30m", "tries=3")
    for args in ([], ["--view", "Big"]):
        said = on_a_terminal(local, "settings", *args, columns=columns)
        lines = said.splitlines()[1:10]
        assert all("tries" not in line or "3" in line or "1" in line for line in lines)
        assert columns < 80 or "…" not in "".join(lines)


def test_spoiled_settings_are_told_and_mended(local: Work) -> None:
    """What somebody wrote there by hand is one clear line, which says how to mend it."""
    local.picas("settings", "tries=3", "lease=10m")
    with connect(local.url) as pool:
        (doc,) = pool.store.read(["picas_settings"])
        assert doc is not None
        pool.store.write([{**doc, "lease": "soon"}])
    told = local.picas("run", check=2).stderr
    assert "the pool's settings (document 'picas_settings') cannot be used: lease: 'soon'" in told
    assert told.endswith("; 'picas settings lease=' takes it out\n")
    assert (
        "lease: 'soon' is no duration" in local.picas("settings", "heartbeat=30s", check=2).stderr
    )
    local.picas("settings", "lease=", "heartbeat=30s")
    settings = json.loads(local.picas("settings", "--json").stdout)["settings"]
    assert (settings["lease"]["from"], settings["tries"]["value"]) == ("default", 3)


def stored(work: Work, **fields: Any) -> dict[str, Any]:
    """The settings' document; with fields, after somebody wrote those into it."""
    with connect(work.url) as pool:
        (doc,) = pool.store.read(["picas_settings"])
        doc = {"_id": "picas_settings", "type": "settings", **(doc or {}), **fields}
        if fields:
            pool.store.write([doc])
    return {name: value for name, value in doc.items() if not name.startswith("_")}


def test_what_is_not_known_survives(work: Work) -> None:
    """A newer version may have written it: it is named, and only the named setting changes."""
    before = stored(work, note="ours", retry={"tries": 3, "delay": 60, "future": 1})
    told = work.picas("settings", "lease=10m").stderr
    assert told == (
        "picas: not known to this version of PiCaS, and left as it is: note, retry.future\n"
    )
    assert stored(work) == {**before, "lease": 600.0}
    assert values(work)["tries"] == (3, "pool")
    work.picas("settings", "lease=", "tries=", "delay=")
    assert stored(work) == {**before, "retry": {"future": 1}}


def test_a_pilot_passes_over_what_it_does_not_know(local: Work) -> None:
    """It says so once, follows the rest, and works."""
    stored(local, note="ours", retry={"tries": 2, "future": 1})
    local.push("exit 1")
    told = local.picas("run").stderr
    assert told.count("the settings of the pool have note, retry.future, which this version") == 1
    assert len(local.get("t0")["attempts"]) == 2


def test_several_mistakes_are_mended_one_after_another(local: Work) -> None:
    """Each command in the message works as it stands, and tells what is left."""
    big(local)
    stored(local, lease=5, retry={"tries": "x", "delay": 7}, designs={"Big": 3, "Gone": {}})
    told = local.picas("run", check=2).stderr
    assert len(told.splitlines()) == 1
    assert "'picas settings lease= tries=' and 'picas settings --view Big tries=' take" in told
    told = local.picas("settings", "lease=", "tries=").stderr
    assert told == (
        "picas: still not right: designs.Big: 3 is no JSON object; "
        "'picas settings --view Big tries=' takes it out\n"
    )
    assert local.picas("settings", "--view", "Big", "tries=").stderr == ""
    assert stored(local) == {"type": "settings", "retry": {"delay": 7}, "designs": {"Gone": {}}}
    assert "no work" in local.picas("run").stderr
