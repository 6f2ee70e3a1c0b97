"""Why a token does not run, or why it failed, as a person is told."""

from typing import Any

import pytest

from picas import token
from picas.conditions import parse
from picas.explain import Finding, Scene, explain
from picas.pool import PoolSettings
from picas.token import Again, Document, Holder, Outcome
from picas.views import MONITOR, Design

NOW = 1_800_000_000.0
LEASE = 300.0
HOLDER = Holder("pilot_node1_7_aaaaaaaa", "node1")
NOTE = "6 different tokens failed one after another, the last with exit code 127"


def a_pilot(pilot_id: str = HOLDER.pilot, **fields: Any) -> Document:
    """The document of a pilot that lives and has nothing to do."""
    return {
        "_id": pilot_id,
        "type": "pilot",
        "hostname": pilot_id.split("_")[1],
        "view": "Monitor/todo",
        "slots": 2,
        "running": [],
        "cores": 4,
        "memory": 16_000_000_000,
        "gpus": 0,
        "state": "running",
        "started": NOW - 1000,
        "heartbeat": NOW - 20,
        **fields,
    }


PAST = a_pilot("pilot_node9_7_99999999", state="ended", heartbeat=NOW - 7200, reason="SIGTERM")


def scene(*pilots: Document, **more: Any) -> Scene:
    """A pool with these pilots."""
    designs = {"Monitor": MONITOR, "Big": Design("Big", parse("cores >= 4"))}
    about = {"designs": designs, **more}
    return Scene(NOW, LEASE, lambda moment: f"T{moment - NOW:+.0f}", pilots, **about)


def free(**fields: Any) -> Document:
    """A token in todo."""
    return token.new({"input": "true", **fields}, "t")


def held(**fields: Any) -> Document:
    """A token that the pilot claimed ten minutes ago."""
    return {**token.claim(free(), NOW - 600, HOLDER, "nonce"), **fields}


def outcome(code: int = 3, reason: str = "", **more: Any) -> Outcome:
    """An attempt that ended an hour ago, after two minutes."""
    return Outcome(code, NOW - 3720, NOW - 3600, reason or f"exit code {code}", 120.0, **more)


def failed(code: int = 3, reason: str = "", **fields: Any) -> Document:
    """A token that failed an hour ago."""
    return token.settle(held(**fields), NOW - 3600, outcome(code, reason))


def told(doc: Document, where: Scene) -> dict[str, Finding]:
    """What is found, by its kind, in its order."""
    found = explain(doc, where)
    assert len({finding.kind for finding in found}) == len(found)
    return {finding.kind: finding for finding in found}


def text(doc: Document, where: Scene) -> str:
    """The most important sentence."""
    return explain(doc, where)[0].text


# --- todo --------------------------------------------------------------------------------------


def test_nothing_is_in_its_way() -> None:
    """A pilot on its view with a free slot; how many wait is told."""
    found = told(free(), scene(a_pilot(), waiting={"Monitor/todo": 12}))
    assert list(found) == ["free"]
    assert found["free"].text == (
        "Nothing is in its way: a pilot may take it at any moment. It is one of 12 that wait, in "
        "no order."
    )
    assert found["free"].facts["waiting"] == {"Monitor/todo": 12}


def test_no_pilot_at_all() -> None:
    """The advice is to start one."""
    assert told(free(), scene()).keys() == {"no-pilot"}
    assert text(free(), scene()) == "No pilot is at work on this pool: 'picas run' starts one."


@pytest.mark.parametrize(
    ("pilots", "more"),
    [
        ([PAST], "The latest one, 99999999 on node9, ended 2 h 00 min ago (SIGTERM)."),
        ([PAST, a_pilot(heartbeat=NOW - 400)], "1 pilot fell silent: 'picas pilots' tells more."),
    ],
)
def test_no_pilot_any_more(pilots: list[Document], more: str) -> None:
    """What became of the last ones is told."""
    assert text(free(), scene(*pilots)).endswith(f" {more}")


def test_no_pilot_on_its_view() -> None:
    """Those at work ask for other tokens; the view that has it is named."""
    pilots = [a_pilot(view="Big/todo"), a_pilot("pilot_b_1_0b", view="Gone/todo")]
    found = told(free(cores=1), scene(*pilots))["no-view"]
    assert "ask for Big/todo (1) and Gone/todo (1)" in found.text
    assert "It is in Monitor/todo: 'picas run --view Monitor/todo' takes it." in found.text
    assert told(free(cores=4), scene(*pilots)).keys() == {"free"}
    assert told(free(), scene(a_pilot(view="Monitor/error"))).keys() == {"no-view"}


def test_views_that_only_couchdb_can_tell() -> None:
    """Whether JavaScript selects the token is left to the pool."""
    raw = {"Mine": Design("Mine", raw=True, views=("todo",))}
    found = told(free(), scene(a_pilot(view="Mine/todo"), designs=raw))
    assert "'picas list Mine/todo' tells" in found["unknown-view"].text


def test_no_pilot_has_what_it_needs() -> None:
    """The need, the most there is, and the past pilots that had it."""
    big = a_pilot("pilot_node8_7_88888888", cores=64, state="ended", heartbeat=NOW - 7200)
    found = told(free(cores=32), scene(a_pilot(), a_pilot("pilot_b_1_0b", cores=2), big))["needs"]
    assert found.text == (
        "It needs 32 cores: no pilot at work has that. The most is 4 cores (aaaaaaaa on node1). "
        "Of past pilots it had 88888888 on node8 (2 h 00 min ago)."
    )
    assert found.facts["needs"] == {"cores": 32}
    assert found.facts["most"] == {"cores": 4}
    assert "No past pilot had it." in text(free(gpus=1), scene(a_pilot(), PAST))
    assert told(free(cores=32), scene(PAST)).keys() == {"no-pilot", "needs"}


def test_no_single_pilot_has_all_that_it_needs() -> None:
    """Each need is met by some pilot, all of them by none."""
    pilots = [a_pilot(cores=64), a_pilot("pilot_b_1_0b", memory=1 << 40)]
    said = text(free(cores=32, memory="100G"), scene(*pilots))
    assert "32 cores and 107 GB of memory: no pilot at work has all of that" in said
    assert "64 cores (aaaaaaaa on node1) and 1.1 TB of memory (0b on b)" in said


def test_offers_that_are_not_known_hold_nothing_up() -> None:
    """A pilot that did not tell its memory may have enough."""
    assert told(free(memory="1T"), scene(a_pilot(memory=None))).keys() == {"free"}


def test_back_off() -> None:
    """Until when, after which failure, and which try comes then."""
    settings = PoolSettings(retry={"tries": 3})
    doc = token.scrub(held(), NOW - 10, outcome(3), Again(delay=100))
    found = told(doc, scene(a_pilot(), settings=settings))
    assert list(found) == ["waits", "history"]
    assert found["waits"].text == (
        "It waits until T+90 (in 90 s): attempt 1 ended with exit code 3; then comes try 2 of 3. "
        "'picas reset t' ends the wait."
    )
    assert found["waits"].facts == {"not_before": NOW + 90, "seconds": 90}
    assert list(told(doc, scene())) == ["no-pilot", "waits", "history"]


def test_a_wait_that_a_person_wrote() -> None:
    """No failure is behind it."""
    said = text(free(not_before=NOW + 3600), scene(a_pilot()))
    assert said.startswith("It waits until T+3600 (in 1 h 00 min): its field not_before says so.")


def test_hosts_that_leave_it_to_others() -> None:
    """Whether a pilot on another host is at work is told."""
    doc = token.scrub(held(), NOW - 10, outcome(127), Again(avoid=100))
    found = told(doc, scene(a_pilot()))
    assert list(found) == ["avoid", "hosts", "history"]
    assert found["avoid"].text == (
        "Until T+90 (in 90 s) it is left to other hosts than node1, where it failed."
    )
    found = told(doc, scene(a_pilot(), a_pilot("pilot_b_1_0b")))
    assert list(found) == ["free", "avoid", "history"]


def test_busy_pilots() -> None:
    """All slots had a token at the last heartbeat."""
    found = told(free(), scene(a_pilot(running=["a", "b"])))
    assert found["busy"].text == (
        "No slot is free: 1 pilot could take it, with 2 slots, all busy at the last heartbeat."
    )
    assert found["busy"].facts["busy"] == 2


def test_slow_pilots() -> None:
    """A pilot on whose host all fails takes few tokens; why is told."""
    found = told(free(), scene(a_pilot(health=NOTE)))
    assert found.keys() == {"slow"}
    assert found["slow"].text == f"Pilot aaaaaaaa on node1 slowed down: {NOTE}."
    several = [a_pilot(health=NOTE), a_pilot("pilot_b_1_0b", health=NOTE)]
    said = text(free(), scene(*several))
    assert said == f"Pilot aaaaaaaa on node1 and 1 other slowed down: {NOTE}."
    assert list(told(free(), scene(*several, a_pilot("pilot_c_1_0c", slots=0)))) == ["busy", "slow"]


# --- locked ------------------------------------------------------------------------------------


def test_a_token_that_runs() -> None:
    """Where, for how long, as which attempt; that its pilot lives."""
    found = told(held(), scene(a_pilot(running=["t"])))
    assert found["running"].text == (
        "It has been running on node1 for 10 min, as attempt 1. The pilot lives: its last "
        "heartbeat was 20 s ago."
    )


def test_a_token_that_is_claimed() -> None:
    """It waits for a slot, or was claimed after the last heartbeat; a slow pilot is named so."""
    assert "had not begun it, or had ended it" in text(held(), scene(a_pilot()))
    fresh = held(lock=int(NOW - 5))
    said = text(fresh, scene(a_pilot(health=NOTE)))
    assert said.startswith("Pilot aaaaaaaa on node1 took it 5.0 s ago, to run it as attempt 1.")
    assert said.endswith(f"It slowed down: {NOTE}.")


@pytest.mark.parametrize(
    ("fields", "kind", "parts", "back_in"),
    [
        (
            {"heartbeat": NOW - 400},
            "pilot-silent",
            [
                "it is silent: its last heartbeat was 7 min ago, and the lease is 5 min",
                "Another pilot gives it back when it looks next; 'picas reap' does it now.",
            ],
            0,
        ),
        (
            {"state": "unknown", "heartbeat": NOW - 100},
            "pilot-unknown",
            ["it may be gone, with its document", "gives it back after T+200 (in 3 min)"],
            200,
        ),
        (
            {"state": "ended", "reason": "SIGTERM", "unsettled": 1, "logs": "/scratch/l o"},
            "pilot-ended",
            [
                "but ended 20 s ago (SIGTERM; results not recorded: 1).",
                "in /scratch/l o: 'picas recover' with that folder records it",
                "or 'picas reap', gives it back after T+280 (in 5 min)",
            ],
            280,
        ),
        (
            {"state": "lost", "heartbeat": NOW - 400},
            "pilot-lost",
            ["but was given up: its last heartbeat was 7 min ago"],
            75,
        ),
    ],
)
def test_a_token_whose_pilot_is_gone(
    fields: dict[str, Any], kind: str, parts: list[str], back_in: float
) -> None:
    """What became of the pilot, and when the token comes back."""
    found = told(held(), scene(a_pilot(**fields), a_pilot("pilot_b_1_0b")))[kind]
    for part in parts:
        assert part in found.text
    assert found.facts["back_at"] == NOW + back_in
    alone = text(held(), scene(a_pilot(**fields)))
    assert "No pilot is at work that could give it back: 'picas reap' does" in alone


def test_a_pilot_without_a_document() -> None:
    """Its token comes back all the same, later."""
    found = told(held(lock=int(NOW - 100)), scene())["unknown-pilot"]
    assert "has no document in the pool" in found.text
    assert "give it back 5 min later. 'picas reset t' does it now." in found.text


def test_a_token_of_a_classic_client() -> None:
    """There is no heartbeat to wait for: a person decides."""
    doc = free(lock=int(NOW - 7200), hostname="grid7")
    found = told(doc, scene(a_pilot()))["classic"]
    assert found.text.startswith("A classic client on grid7 has had it since T-7200 (2 h 00 min ag")
    assert "'picas reset t' gives it back" in found.text
    assert "'picas reset locked --locked-for 24h'" in found.text


# --- error and done ----------------------------------------------------------------------------


def test_a_failed_token() -> None:
    """How its last attempt ended, why there is no other, and what to do."""
    found = told(failed(127), scene())
    assert list(found) == ["failed", "tries", "next"]
    assert found["failed"].text == (
        "Attempt 1 failed on node1 1 h 00 min ago, after 2 min: exit code 127; there is no such "
        "command there."
    )
    assert found["tries"].text == (
        "It had its only try: 'picas settings tries=3' gives all tokens more."
    )
    assert found["next"].text == (
        "'picas show t' tells more. When the cause is gone, 'picas reset t' has it run again."
    )
    with_log = {**failed(), "_attachments": {"logs_t.err": {"stub": True}}}
    assert told(with_log, scene())["next"].text.startswith("'picas logs t --err' tells more.")


@pytest.mark.parametrize(
    ("scrubs", "retry", "said"),
    [
        (2, {"tries": 3}, "It had all of its 3 tries."),
        (0, {"tries": 3, "final": [3]}, "Exit code 3 is final by its retry policy"),
        (0, {"tries": 3}, "It had 1 of 3 tries: its pilot was told to give it fewer, or the"),
        (4, {"tries": 3}, "It had 5 tries: its pilot was told to give it more"),
    ],
)
def test_why_there_is_no_other_try(scrubs: int, retry: dict[str, Any], said: str) -> None:
    """By the token's own policy, or the pool's; those of a pilot are not known."""
    where = scene(settings=PoolSettings(retry=retry))
    assert told(failed(scrub_count=scrubs), where)["tries"].text.startswith(said)
    own = failed(scrub_count=scrubs, retry=retry)
    assert told(own, scene())["tries"].text.startswith(said)


def test_the_policy_is_that_of_the_view_it_ran_from() -> None:
    """Its last pilot tells which."""
    where = scene(a_pilot(view="Big/todo"), settings=PoolSettings(designs={"Big": {"final": [3]}}))
    assert told(failed(), where)["tries"].facts["final"] is True
    assert told(failed(), scene(settings=where.settings))["tries"].facts["final"] is False


def test_out_of_memory() -> None:
    """What it had, what it asks for, and how to give it more."""
    doc = token.settle(
        held(memory="1G"),
        NOW,
        outcome(137, "out of memory (exit code 137)", memory=2_000_000_000, out_of_memory=True),
    )
    found = told(doc, scene())
    assert list(found)[:2] == ["failed", "memory"]
    assert found["failed"].text.endswith("out of memory (exit code 137).")
    assert found["memory"].text == (
        "Its largest process had 2.0 GB then. It asks for 1.1 GB: give its field 'memory' more, or "
        "'picas settings tries=3 memory_factor=2' to have that done by itself."
    )
    settings = PoolSettings(retry={"tries": 3, "memory_factor": 2})
    assert told(doc, scene(settings=settings))["memory"].text.endswith("field 'memory' more.")


def test_lost_with_its_pilots() -> None:
    """Three times running: it may be what kills them."""
    doc = held()
    for host in ("n1", "n2", "n3"):
        doc = token.lost({**held(), "attempts": token.attempts(doc), "hostname": host}, NOW)
    found = told(doc, scene())
    assert list(found) == ["lost", "next", "history"]
    assert "lost 3 times running (on n1, n2 and n3)" in found["lost"].text
    assert found["history"].facts["lost"] == 3


def test_an_error_without_a_history() -> None:
    """A classic client leaves a message, or nothing."""
    classic = free(lock=99, done=99, hostname="grid7")
    assert text(classic, scene()).startswith("It failed on grid7, and has no history")
    trace = {"time": 1, "message": "Traceback (most recent call last):\n  x\nValueError: bad.\n"}
    assert text({**classic, "error": [trace]}, scene()) == "It failed on grid7: ValueError: bad."


def test_a_done_token() -> None:
    """There is nothing to explain."""
    doc = token.settle(held(), NOW - 60, outcome(0))
    assert [finding.text for finding in explain(doc, scene())] == [
        "It was done T-60 (60 s ago) on node1, in 2 min: there is nothing to explain."
    ]


def test_the_history_in_brief() -> None:
    """How many attempts, how they ended, and what cost no try."""
    doc = token.scrub(held(), NOW, outcome(3), Again())
    for _ in range(2):
        doc = token.release({**doc, "lock": 5, "lease": "x"}, NOW, "released: SIGTERM")
    found = told(doc, scene(a_pilot()))["history"]
    assert found.text == (
        "So far: 3 attempts, 1 failed and 2 released. The last failure: exit code 3. "
        "What was released or lost cost no try."
    )
    assert found.facts == {"attempts": 3, "failed": 1, "lost": 0, "released": 2, "scrubs": 1}


# --- no token ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lock": "x"}, 'lock is "x", where a number should stand'),
        ({"lock": 5, "done": -1}, "done is -1, which is below 0"),
        ({"done": 4}, "done is 4, though lock is 0"),
    ],
)
def test_fields_that_keep_a_token_out_of_all_views(fields: dict[str, Any], said: str) -> None:
    """The field is named."""
    assert f"No view shows it, so no pilot takes it: {said}." in text(free(**fields), scene())


def test_a_token_without_a_lock() -> None:
    """A field that is missing is named, too."""
    doc = {name: value for name, value in free().items() if name != "done"}
    assert "it has no field done" in text(doc, scene())


def test_documents_that_are_no_tokens() -> None:
    """Pilots and others are told for what they are."""
    assert text(a_pilot(), scene()).startswith("This is a pilot, no token")
    assert 'its type is "settings", not "token"' in text({"_id": "s", "type": "settings"}, scene())


def test_ids_are_quoted_in_commands() -> None:
    """A command can be typed as it is shown."""
    doc = {**failed(), "_id": "a b"}
    assert "picas reset 'a b'" in explain(doc, scene())[-1].text


def test_a_finding_for_a_program() -> None:
    """Kind and text, and the numbers beside them."""
    found = Finding("kind", "Text.", {"seconds": 1.5})
    assert found.as_dict() == {"kind": "kind", "text": "Text.", "seconds": 1.5}
