"""Results of a pilot whose pool is away: kept on disk, recorded later, by it or by somebody."""

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.couchdb.double import DoubleCouch
from tests.couchdb.double.http import Fault, Request
from tests.integration.tokens import push

from picas import token
from picas.errors import Forbidden, PoolMissing, PoolUnreachable, Refused
from picas.pilot import CommandRunner, FunctionRunner, Pilot, Summary
from picas.pilot.entry import Entry
from picas.pilot.places import Place
from picas.pilot.spool import Spool
from picas.pool import Pool, Verdict, Written, connect
from picas.token import Document, State


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools that are away are asked again soon, and not for long."""
    monkeypatch.setattr("picas.pilot.outage.delays", lambda *_: itertools.repeat(0.05))
    monkeypatch.setattr("picas.pilot.loop.OUTAGE_SECONDS", 0.3)


class Away:
    """Lets the settling writes of a pool fail, after its claims.

    Args:
        pool: The pool.
        error: What they fail with.
        times: How often.
    """

    def __init__(self, pool: Pool, error: Exception, times: float = float("inf")) -> None:
        self._pool, self._write, self.error, self.times = pool, pool.store.write, error, times
        self.seen: Callable[[], object] = lambda: None
        pool.store.write = self._failing  # type: ignore[method-assign]

    def back(self) -> None:
        """Let them pass."""
        self._pool.store.write = self._write  # type: ignore[method-assign]

    def _failing(self, docs: Sequence[Document]) -> list[Written]:
        settles = docs and docs[0].get("type") == "token" and "lease" not in docs[0]
        if settles and self.times > 0:
            self.times -= 1
            self.seen()
            raise self.error
        return self._write(docs)


def pilot(pool: Pool, tmp_path: Path, slots: int = 1, **options: Any) -> Pilot:
    """A pilot of commands, with a spool among its logs."""
    runner = CommandRunner(pool.url, logs=tmp_path / "logs", grace=0.5, **options)
    return Pilot(pool, runner, slots=slots, spool=runner.logs / "spool")


def entries(tmp_path: Path) -> list[Entry]:
    """What is in the spool now."""

    def broken(problem: Exception) -> None:
        raise problem

    found = list(Spool(tmp_path / "logs" / "spool").entries(broken))
    return sorted(found, key=lambda entry: str(entry.settlement.token["_id"]))


def left_by_a_pilot(pool: Pool, tmp_path: Path, **options: Any) -> Summary:
    """Let a pilot run what is there, and give up because its results are not taken."""
    away = Away(pool, PoolUnreachable("no answer"))
    summary = pilot(pool, tmp_path, **options).run()
    away.back()
    return summary


def log_of(pool: Pool, token_id: str) -> bytes:
    """A token's stored log."""
    return b"".join(pool.attachment(token_id, token.log_name(token_id, "out")))


def test_outage_that_passes(pool: Pool, tmp_path: Path) -> None:
    """While the pool is away results are on disk; once they are recorded there is no trace."""
    push(pool, "echo a", "echo b", "echo c")
    away = Away(pool, PoolUnreachable("no answer"), times=3)
    on_disk: list[int] = []
    away.seen = lambda: on_disk.append(len(entries(tmp_path)))
    summary = pilot(pool, tmp_path, slots=3).run()
    assert (summary.counters.done, summary.kept, summary.unsettled) == (3, [], [])
    assert on_disk[0] == 0
    assert on_disk[1:] == sorted(on_disk[1:])
    assert 1 <= on_disk[-1] <= 3
    assert [log_of(pool, f"t{i}") for i in range(3)] == [b"a\n", b"b\n", b"c\n"]
    assert not (tmp_path / "logs").exists()


def test_server_that_goes_away(double: DoubleCouch, tmp_path: Path) -> None:
    """What ends while CouchDB does not answer is kept as it comes, and recorded afterwards."""
    with connect(double.database_url(double.new_database()), create=True) as pool:
        push(pool, "echo a", "echo b")
        mine = pilot(pool, tmp_path, slots=2)
        seen: list[list[str]] = []

        settling = itertools.count()

        def before(request: Request) -> Fault | None:
            if b'"exit_code":0' in request.body and next(settling) < 3:
                seen.append([entry.settlement.token["_id"] for entry in entries(tmp_path)])
                return Fault.DROP
            return None

        double.before = before
        try:
            summary = mine.run()
        finally:
            double.no_faults()
        assert summary.counters.done == 2
        assert any(seen)
        assert pool.counts()[State.DONE] == 2
    assert not (tmp_path / "logs").exists()


def test_pilot_that_gives_up(pool: Pool, tmp_path: Path) -> None:
    """Its results and logs stay on disk, it says so, and they can be recorded by another."""
    push(pool, "echo a", "echo b; exit 4")
    summary = left_by_a_pilot(pool, tmp_path, slots=2)
    assert (sorted(summary.kept), summary.unsettled) == (["t0", "t1"], [])
    assert f"'picas recover {tmp_path / 'logs'}'" in summary.kept_line()
    found = entries(tmp_path)
    assert [entry.pool for entry in found] == [pool.address] * 2
    assert pool.settle([entry.settlement for entry in found]) == [Verdict.RECORDED] * 2
    assert [pool.get(f"t{i}")["exit_code"] for i in range(2)] == [0, 4]
    assert log_of(pool, "t1") == b"b\n"
    again = pool.settle([entry.settlement for entry in found])
    assert again == [Verdict.RECORDED] * 2, "a second time is the same"
    assert len(pool.get("t0")["attempts"]) == 1


def test_files_that_tasks_overwrite(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token gets its own file, though the next task wrote another of that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("picas.pilot.loop.OUTAGE_SECONDS", 60.0)
    push(pool, *(f"sleep {i * 0.4}; echo {i} >table" for i in range(3)))
    away = Away(pool, PoolUnreachable("no answer"))
    seen = itertools.count()

    def back_at_last() -> None:
        if (tmp_path / "table").read_text() == "2\n" and next(seen) > 3:
            away.back()

    away.seen = back_at_last
    summary = pilot(pool, tmp_path, slots=3, attach=["table"]).run()
    assert summary.counters.done == 3
    tables = [b"".join(pool.attachment(f"t{i}", "table")) for i in range(3)]
    assert tables == [b"0\n", b"1\n", b"2\n"]


def test_result_of_a_token_that_was_deleted(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept for a person at any time, with its log, and the pilot says where."""
    push(pool, "echo mine")

    class Deleting(CommandRunner):
        def start(self, doc: Document, time_limit: float | None, place: Place) -> Any:
            pool.delete([doc["_id"]])
            return super().start(doc, time_limit, place)

    runner = Deleting(pool.url, logs=tmp_path / "logs")
    with caplog.at_level(logging.WARNING, "picas.pilot"):
        summary = Pilot(pool, runner, spool=runner.logs / "spool").run()
    assert (summary.counters.fenced, summary.kept) == (1, [])
    (kept,) = (tmp_path / "logs" / "fenced").iterdir()
    assert kept.name.startswith("t0.")
    assert f"so its result was not recorded; it is kept in {kept}" in caplog.text
    assert (tmp_path / "logs" / "logs_t0.out").read_bytes() == b"mine\n"
    assert not (tmp_path / "logs" / "spool").exists()


def test_result_that_the_pool_refuses(pool: Pool, tmp_path: Path) -> None:
    """It stays in the spool and is named; the pilot's document says that it owes something."""
    push(pool, "echo a", "echo b")
    write = pool.store.write

    def refuse(docs: Sequence[Document]) -> list[Written]:
        refused = [d["_id"] == "t0" and "lease" not in d for d in docs]
        passed = iter(write([d for d, bad in zip(docs, refused, strict=True) if not bad]))
        no = Forbidden("a rule of this database")
        return [
            Written(d["_id"], None, no) if bad else next(passed)
            for d, bad in zip(docs, refused, strict=True)
        ]

    pool.store.write = refuse  # type: ignore[method-assign]
    summary = pilot(pool, tmp_path).run()
    assert (summary.kept, summary.unsettled, summary.counters.done) == (["t0"], [], 1)
    assert [doc["unsettled"] for doc in pool.pilots()] == [1]
    (entry,) = entries(tmp_path)
    pool.store.write = write  # type: ignore[method-assign]
    assert pool.settle([entry.settlement]) == [Verdict.RECORDED]
    assert log_of(pool, "t0") == b"a\n"


def test_logs_that_cannot_be_stored(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the token says that its files are on the host, they are still there."""
    monkeypatch.chdir(tmp_path)
    push(pool, "echo out; echo err >&2; echo table >table")

    def refuse(*args: object) -> None:
        raise Refused("not this name")

    monkeypatch.setattr(pool.store, "attach", refuse)
    monkeypatch.setattr("picas.pool.settle.INLINE_LIMIT", 1)
    Away(pool, PoolUnreachable("no answer"), times=1)
    summary = pilot(pool, tmp_path, attach=["table"]).run()
    assert summary.counters.done == 1
    message = pool.get("t0")["error"][-1]["message"]
    places = [Path(word.strip(";,")) for word in message.split() if word.startswith("/")]
    assert len(places) == 3
    assert all(place.exists() for place in places)


def test_disk_that_cannot_be_written(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning: the results are in memory then, and recorded when the pool is back."""
    push(pool, *["echo a"] * 4)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "spool").touch()
    Away(pool, PoolUnreachable("no answer"), times=3)
    assert pilot(pool, tmp_path, slots=2).run().counters.done == 4
    assert caplog.text.count("may be in memory only: cannot write") == 1


def test_neither_pool_nor_disk(pool: Pool, tmp_path: Path) -> None:
    """What is kept nowhere counts as lost, and its token is named."""
    push(pool, "echo a")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "spool").touch()
    summary = left_by_a_pilot(pool, tmp_path)
    assert (summary.unsettled, summary.kept) == (["t0"], [])


def test_pool_that_is_deleted(pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error that ends the pilot does not end its results."""
    push(pool, "echo a")
    Away(pool, PoolMissing("there is no pool"))
    with pytest.raises(PoolMissing):
        pilot(pool, tmp_path).run()
    assert len(entries(tmp_path)) == 1
    assert "1 result kept on disk" in caplog.text


def test_function_with_a_spool(pool: Pool, tmp_path: Path) -> None:
    """Pilots from Python keep results where they are told; what was changed is in them."""
    push(pool, "x")

    def work(doc: Document) -> None:
        doc["output"] = {"n": 1}

    Away(pool, PoolUnreachable("no answer"))
    folder = tmp_path / "logs" / "spool"
    summary = Pilot(pool, FunctionRunner(work), spool=folder).run()
    assert (summary.kept, summary.kept_in) == (["t0"], folder.parent)
    (entry,) = entries(tmp_path)
    assert entry.settlement.outcome.fields == {"output": {"n": 1}}


def test_function_without_a_spool(pool: Pool, tmp_path: Path) -> None:
    """Without a folder nothing is written, and what is not recorded is named."""
    push(pool, "x")
    Away(pool, PoolUnreachable("no answer"))
    before = sorted(tmp_path.iterdir())
    summary = Pilot(pool, FunctionRunner(lambda _: 0)).run()
    assert (summary.unsettled, summary.kept) == (["t0"], [])
    assert sorted(tmp_path.iterdir()) == before


def test_no_outage_no_file(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot whose pool answers never touches the spool."""

    def never(*args: object) -> None:
        raise AssertionError("the spool was used")

    monkeypatch.setattr(Spool, "keep", never)
    monkeypatch.setattr(Spool, "_open", never)
    push(pool, *["true"] * 5)
    assert pilot(pool, tmp_path, slots=2).run().counters.done == 5
