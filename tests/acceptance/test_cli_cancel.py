"""``picas cancel``: real pilots on both stores are asked to end, by way of the pool."""

import pytest
from tests.acceptance.test_actors import script
from tests.acceptance.work import Work, until

from picas import token
from picas.pool import connect
from picas.token import State


@pytest.fixture(autouse=True)
def _times(work: Work) -> None:
    """Pilots of the pool are heard of often."""
    work.picas("settings", "lease=10", "heartbeat=0.2")


def begun(work: Work, *names: str) -> None:
    """Wait until tasks have made their files."""
    until(lambda: all((work.folder / name).exists() for name in names))


def test_stopped_by_name(work: Work) -> None:
    """One of two pilots ends; its token is back at once, and no try is counted."""
    work.push(*["touch begun_$PICAS_TOKEN_ID; sleep 60"] * 2)
    with work.started("run", "--slots", "1", "--claim-ahead", "0") as first:
        until(lambda: len(list(work.folder.glob("begun_*"))) == 1)
        (mine,) = (file.name.removeprefix("begun_") for file in work.folder.glob("begun_*"))
        with work.started("run", "--slots", "1", "--claim-ahead", "0") as second:
            until(lambda: len(list(work.folder.glob("begun_*"))) == 2)
            (name,) = [doc["_id"] for doc in _running(work) if doc["pid"] == first.pid]
            told = work.picas("cancel", name).stdout
            assert told == "asked 1 pilot to stop; they hear of it within 0.2 s\n"
            assert first.wait(timeout=30) == 0
            until(lambda: token.state(work.get(mine)) is State.TODO)
            assert work.get(mine)["scrub_count"] == 0
            reason = token.attempts(work.get(mine))[0]["reason"]
            assert reason == "released: it was asked to stop"
            assert second.poll() is None
            second.terminate()
            second.wait()


def test_all_are_drained(work: Work) -> None:
    """They finish what runs, take nothing more, and say why they ended."""
    work.push(*["touch begun_$PICAS_TOKEN_ID; sleep 2"] * 3)
    with work.started("run", "--slots", "2", "--claim-ahead", "0") as pilot:
        until(lambda: len(list(work.folder.glob("begun_*"))) == 2)
        assert "asked 1 pilot to drain" in work.picas("cancel", "--all", "--drain", "--yes").stdout
        _, err = pilot.communicate(timeout=30)
    assert "it was asked to drain" in err
    with connect(work.url) as pool:
        assert pool.counts()[State.DONE] == 2
        assert pool.counts()[State.TODO] == 1


def test_an_actor_too(work: Work) -> None:
    """A script of the classic API gives its token back and ends with status 0."""
    work.push("hold")
    with script(work) as actor:
        begun(work, "begun")
        work.picas("cancel", "--all", "--yes")
        out, err = actor.communicate(timeout=30)
    assert (actor.returncode, out) == (0, "cleaned up\n"), err
    assert token.state(work.get()) is State.TODO


def test_an_actor_is_drained(work: Work) -> None:
    """A script finishes its token, and takes no other."""
    work.push("nap", "nap")
    with script(work) as actor:
        begun(work, "begun")
        work.picas("cancel", "--all", "--drain", "--yes")
        _, err = actor.communicate(timeout=30)
    assert actor.returncode == 0, err
    with connect(work.url) as pool:
        assert (pool.counts()[State.DONE], pool.counts()[State.TODO]) == (1, 1)


def test_whom_nobody_knows(work: Work) -> None:
    """A name that is none, no name, and a pool without pilots."""
    assert "picas pilots" in work.picas("cancel", "nobody", check=5).stderr
    assert "--all" in work.picas("cancel", check=2).stderr
    assert work.picas("cancel", "--all").stdout == "asked 0 pilots to stop\n"


def _running(work: Work) -> list[token.Document]:
    with connect(work.url) as pool:
        return [doc for doc in pool.pilots() if doc["state"] == "running"]
