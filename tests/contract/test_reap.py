"""Tokens of pilots that are gone come back; those of pilots that live do not."""

import math
from collections.abc import Sequence

import pytest

from picas import token
from picas.errors import PoolUnreachable
from picas.pilot.reaper import Reaper
from picas.pilot.requeue import JobRun
from picas.pool import Pool, Reaped, Settlement, Verdict
from picas.pool.reap import KEPT, LOOKS, grace, pause
from picas.token import Document, Holder, Outcome, State
from tests.contract.support import edit

LEASE = 300.0
VIEW = "Monitor/todo"


def pilot(pool: Pool, name: str, silent: float, **facts: object) -> Holder:
    """A pilot that was last heard of so many seconds ago."""
    heard = pool.now() - silent
    doc: Document = {"_id": name, "type": "pilot", "state": "running", "heartbeat": heard}
    pool.save_pilot(doc | facts)
    return Holder(name, "host")


def watch(
    pool: Pool,
    seconds: float = grace(LEASE) + 1,
    step: float = pause(LEASE),
    *,
    thorough: bool = False,
) -> Reaped:
    """Look again and again for so long, by a clock that runs fast; returns the sum of it all."""
    real, start = pool.store.now, pool.now()
    looks = [pool.reap(LEASE, thorough=thorough)]
    for n in range(1, math.ceil(seconds / step) + 1):
        pool.store.now = lambda n=n: start + n * step  # type: ignore[method-assign, misc]
        looks.append(pool.reap(LEASE, thorough=thorough))
    pool.store.now = real  # type: ignore[method-assign]
    gone = sorted(name for look in looks for name in look.pilots)
    tokens, errors = sum(x.tokens for x in looks), sum(x.errors for x in looks)
    return Reaped(tuple(gone), tokens, errors, looks[-1].suspects, looks[-1].living)


def claimed(pool: Pool, holder: Holder, *ids: str) -> list[Document]:
    """Push tokens and claim all that are todo."""
    assert all(p.error is None for p in pool.push(token.new({"input": "x"}, i) for i in ids))
    docs: list[Document] = []
    while len(docs) < len(ids):  # a view may show some of them later
        docs += pool.claim(VIEW, len(ids), holder)
    return docs


def test_tokens_of_a_silent_pilot_come_back(pool: Pool) -> None:
    """A pilot silent for longer than the lease loses its tokens; it costs them no retry."""
    gone = pilot(pool, "pilot_gone", silent=LEASE + 10)
    claimed(pool, gone, "a", "b")
    assert watch(pool) == Reaped(("pilot_gone",), tokens=2)
    doc = pool.get("a")
    assert token.state(doc) is State.TODO
    assert doc["scrub_count"] == 0
    assert [entry["reason"] for entry in doc["attempts"]] == [token.LOST]
    (document,) = pool.pilots()
    assert document["state"] == "lost"
    assert watch(pool) == Reaped(), "a pilot is found gone once"


def test_a_living_pilot_keeps_its_tokens(pool: Pool) -> None:
    """A heartbeat within the lease time keeps the tokens, even while others are reaped."""
    alive = pilot(pool, "pilot_alive", silent=10)
    claimed(pool, alive, "a")
    gone = pilot(pool, "pilot_gone", silent=LEASE + 10)
    claimed(pool, gone, "b")
    assert watch(pool) == Reaped(("pilot_gone",), tokens=1, living=1)
    assert token.state(pool.get("a")) is State.LOCKED
    assert token.state(pool.get("b")) is State.TODO


def test_a_pilot_whose_job_has_ended_is_not_waited_for(pool: Pool) -> None:
    """By a scheduler's word its tokens are back at the first look; no other pilot's are."""
    dead = pilot(pool, "pilot_dead", silent=1)
    claimed(pool, dead, "a")
    alive = pilot(pool, "pilot_alive", silent=1)
    claimed(pool, alive, "b")
    reaped = pool.reap(LEASE, dead=["pilot_dead", "pilot_that_is_none"])
    assert reaped == Reaped(("pilot_dead",), tokens=1, living=1)
    assert token.state(pool.get("a")) is State.TODO
    assert token.state(pool.get("b")) is State.LOCKED


def test_after_an_outage_the_living_have_time_to_say_so(pool: Pool) -> None:
    """After an outage all pilots are silent: who says that it lives in time keeps its tokens."""
    slow = pilot(pool, "pilot_slow", silent=LEASE + 100)
    claimed(pool, slow, "a")
    gone = pilot(pool, "pilot_gone", silent=LEASE + 100)
    claimed(pool, gone, "b")
    first = pool.reap(LEASE)
    assert (first.tokens, first.suspects) == (0, ("pilot_gone", "pilot_slow"))
    assert pool.reap(LEASE).tokens == 0, "looking again at once changes nothing"
    pilot(pool, "pilot_slow", silent=0)  # its heartbeat
    assert watch(pool) == Reaped(("pilot_gone",), tokens=1, living=1)
    assert token.state(pool.get("a")) is State.LOCKED


def test_looks_far_apart_do_not_belong_together(pool: Pool) -> None:
    """A pool that was away between two looks may have kept all pilots from being heard."""
    claimed(pool, pilot(pool, "pilot_p", silent=LEASE + 100), "a")
    assert watch(pool, seconds=3 * LEASE, step=LEASE) == Reaped(suspects=("pilot_p",))


def test_outage_between_two_looks(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that gets no answer begins the watching anew."""
    claimed(pool, pilot(pool, "pilot_p", silent=LEASE + 100), "a")
    watch(pool, seconds=grace(LEASE) - pause(LEASE))
    with monkeypatch.context() as patch:
        patch.setattr(pool.store, "ids", unreachable)
        with pytest.raises(PoolUnreachable):
            pool.reap(LEASE)
    assert watch(pool, seconds=pause(LEASE)).tokens == 0
    assert watch(pool).tokens == 1


def unreachable(*_: object) -> list[str]:
    """A verb that gets no answer."""
    raise PoolUnreachable("no answer")


def test_late_result_of_a_reaped_token_is_fenced(pool: Pool) -> None:
    """A pilot that was only slow cannot record over what happened since."""
    (doc,) = claimed(pool, pilot(pool, "pilot_slow", silent=LEASE + 10), "a")
    watch(pool)
    outcome = Outcome(0, 1, 2, "exit code 0", 1)
    assert pool.settle([Settlement(doc, outcome)]) == [Verdict.FENCED]
    assert token.state(pool.get("a")) is State.TODO


def test_a_requeued_job_takes_back_what_its_former_run_held(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look of its pilot is at once; a job that was not requeued waits as ever."""
    monkeypatch.setenv("SLURM_JOB_ID", "61")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "red")
    former = pilot(pool, "pilot_former", silent=1, slurm_job_id="61", **JobRun.of().facts())
    claimed(pool, former, "a")
    assert not Reaper(pool, LEASE).is_due
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    reaper = Reaper(pool, LEASE)
    assert reaper.is_due
    assert reaper.reap() == Reaped(("pilot_former",), tokens=1)
    assert not reaper.is_due


def test_classic_locks_are_left_alone(pool: Pool) -> None:
    """A token locked by a classic client has no lease, and nobody but a person resets it."""
    classic = token.new({"input": "x"}, "classic")
    assert all(p.error is None for p in pool.push([{**classic, "lock": 5, "hostname": "theirs"}]))
    claimed(pool, pilot(pool, "pilot_gone", silent=LEASE + 10), "a")
    pool.reap(LEASE, thorough=True)
    assert watch(pool).tokens == 1
    assert token.state(pool.get("classic")) is State.LOCKED


def test_token_of_a_pilot_without_a_document(pool: Pool) -> None:
    """Where somebody deleted the pilot's document, a thorough look finds its tokens."""
    claimed(pool, Holder("pilot_unknown", "host"), "a")
    assert pool.reap(LEASE, thorough=True) == Reaped(), "it may be about to write it"
    edit(pool, "a", lock=1000)
    assert pool.reap(LEASE, thorough=True) == Reaped(), "it may live, and write it again"
    (noted,) = pool.pilots()
    assert noted["heartbeat"] == pytest.approx(pool.now(), abs=5)
    edit(pool, "pilot_unknown", heartbeat=pool.now() - LEASE)
    assert watch(pool).tokens == 1


@pytest.mark.parametrize("state", ["lost", "ended"])
def test_token_of_a_pilot_that_denies_it(pool: Pool, state: str) -> None:
    """A claim that came late may leave a token with a pilot that counts as past."""
    claimed(pool, pilot(pool, "pilot_p", silent=LEASE + 10, state=state), "a")
    assert watch(pool) == Reaped()
    edit(pool, "a", lock=1000)
    assert pool.reap(LEASE, thorough=True).suspects == ("pilot_p",)
    assert watch(pool).tokens == 1


def test_token_of_a_pilot_with_an_odd_name(pool: Pool) -> None:
    """Nobody's document is touched because a token names it as its pilot."""
    claimed(pool, Holder("victim", "host"), "a")
    edit(pool, "a", lock=1000)
    assert pool.reap(LEASE, thorough=True).tokens == 0, "it may live"
    assert watch(pool, thorough=True).tokens == 1
    assert pool.store.read(["victim"]) == [None]


def test_pilots_that_ended_long_ago_are_forgotten(pool: Pool) -> None:
    """The documents of past pilots do not pile up."""
    pilot(pool, "pilot_old", silent=KEPT + 10, state="ended")
    pilot(pool, "pilot_new", silent=KEPT - 100, state="ended")
    pool.reap(LEASE, tidy=True)
    assert [doc["_id"] for doc in pool.pilots()] == ["pilot_new"]


def test_third_loss_running_is_an_error(pool: Pool) -> None:
    """A token lost with its pilot three times in a row is closed, and says why."""
    assert all(p.error is None for p in pool.push([token.new({"input": "x"}, "a")]))
    for number in range(3):
        gone = pilot(pool, f"pilot_{number}", silent=LEASE + 10)
        assert len(pool.claim(VIEW, 1, gone)) == 1
        reaped = watch(pool)
    assert (reaped.tokens, reaped.errors) == (0, 1)
    doc = pool.get("a")
    assert token.state(doc) is State.ERROR
    assert "3 times running" in doc["error"][-1]["message"]


@pytest.mark.parametrize(("unsettled", "found"), [(0, 0), (1, 1)])
def test_pilot_that_ended(pool: Pool, unsettled: int, found: int) -> None:
    """One that ended owing tokens is looked after as well; one that ended well is not."""
    silent = pilot(pool, "pilot_p", silent=LEASE + 10, state="ended", unsettled=unsettled)
    claimed(pool, silent, "a")
    assert watch(pool).tokens == found


def test_past_pilots_are_read_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pilots a pool had, looking again reads those that may hold tokens."""
    for number in range(5):
        pilot(pool, f"pilot_{number}", silent=0, state="ended")
    pilot(pool, "pilot_alive", silent=0)
    assert all(p.error is None for p in pool.push([token.new({"input": "x"}, "pilot_token")]))
    pool.reap(LEASE)
    asked: list[str] = []
    real = pool.store.read

    def read(ids: Sequence[str]) -> list[Document | None]:
        asked.extend(ids)
        return real(ids)

    monkeypatch.setattr(pool.store, "read", read)
    pool.reap(LEASE)
    assert asked == ["pilot_alive"]


def test_slow_looks_are_looks(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pool where a look takes longer than the pause, pilots are found gone all the same."""
    claimed(pool, pilot(pool, "pilot_p", silent=LEASE + 100), "a")
    clock = pool.now()
    monkeypatch.setattr(pool.store, "now", lambda: clock)
    real = pool.store.ids

    def slow(prefix: str, limit: int) -> list[str]:
        nonlocal clock
        clock += 3 * pause(LEASE)
        return real(prefix, limit)

    monkeypatch.setattr(pool.store, "ids", slow)
    found = 0
    for _ in range(LOOKS):
        found += pool.reap(LEASE).tokens
        clock += pause(LEASE)
    assert found == 1


def test_heartbeat_of_the_far_future_is_none(pool: Pool) -> None:
    """A pilot whose clock ran wild does not count as alive for ever after."""
    claimed(pool, pilot(pool, "pilot_p", silent=-1e9), "a")
    assert watch(pool).tokens == 1


def test_reset_forgets_the_losses(pool: Pool) -> None:
    """A token that was lost three times, and reset by a person, may be lost again."""
    assert all(p.error is None for p in pool.push([token.new({"input": "x"}, "a")]))
    for number in range(3):
        pool.claim(VIEW, 1, pilot(pool, f"pilot_{number}", silent=LEASE + 10))
        watch(pool)
    assert pool.reset(["a"]) == 1
    pool.claim(VIEW, 1, pilot(pool, "pilot_4", silent=LEASE + 10))
    assert watch(pool).errors == 0
    assert token.state(pool.get("a")) is State.TODO


def test_last_word_of_a_pilot_stands(pool: Pool) -> None:
    """A heartbeat that hung until after the pilot's end does not call it back to life."""
    pilot(pool, "pilot_p", silent=0, state="ended")
    pool.save_pilot({"_id": "pilot_p", "type": "pilot", "state": "running", "heartbeat": 1})
    assert pool.pilots()[0]["state"] == "ended"
