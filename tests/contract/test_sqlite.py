"""What only a file has: processes that share it or are killed, wrong files, missing folders."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from picas import token
from picas.conditions import parse
from picas.errors import (
    Forbidden,
    PoolMissing,
    ServerError,
    TokenMissing,
    Unsupported,
    ViewMissing,
)
from picas.needs import Offer
from picas.pool import Pool, Settlement, connect
from picas.pool.sqlite import SqliteStore
from picas.token import State
from picas.views import Design
from tests.contract.support import (
    TODO,
    claim_all,
    claim_one,
    content,
    edit,
    fill,
    numbered,
    outcome,
    settle,
)

CLAIMER = """
import sys
from picas.pool import Settlement, connect
from picas.token import Holder, Outcome

url, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
with connect(url) as pool:
    while docs := pool.claim("Monitor/todo", 3, Holder(name, "host")):
        done = Outcome(0, 1.0, 2.0, "exit code 0", 1.0)
        print(*(v.value for v in pool.settle([Settlement(d, done) for d in docs])), flush=False)
        print(*("id:" + d["_id"] for d in docs), flush=False)
"""

WRITER = """
import sys
from picas import token
from picas.pool import Settlement, connect
from picas.token import Holder, Outcome

with connect(sys.argv[1]) as pool:
    print("ready", flush=True)
    n = 0
    while True:
        n += 1
        ids = [f"{sys.argv[2]}-{n}-{i}" for i in range(20)]
        list(pool.push(token.new({"note": "x" * 2000}, i) for i in ids))
        docs = pool.claim("Monitor/todo", 10, Holder("pilot", "host"))
        done = Outcome(0, 1.0, 2.0, "exit code 0", 1.0)
        pool.settle([Settlement(d, done, files={"log": b"y" * 5000}) for d in docs])
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run a script in a Python process of its own; it says ``ready`` when it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where an embedded pool may be made."""
    return f"sqlite:///{tmp_path / 'pool.db'}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of that pool."""
    return tmp_path / "pool.db"


def test_processes_share_out_the_tokens(pool: Pool, url: str) -> None:
    """Several real processes at once get and settle every token exactly once."""
    ids = fill(pool, *numbered(300))
    processes = [start(CLAIMER, url, f"pilot_{n}") for n in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    words = [w for process in processes for w in process.communicate(timeout=60)[0].split()]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert Counter(w[3:] for w in words if w.startswith("id:")) == Counter(ids)
    assert words.count("recorded") == 300
    assert pool.counts()[State.DONE] == 300


def test_processes_that_make_the_same_pool(url: str) -> None:
    """Pilots that start together on a pool that is not there yet all find one."""
    processes = [start(CLAIMER, url, f"pilot_{n}") for n in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [p.returncode for p in processes] == [0] * 4
    with connect(url, create=False) as pool:
        assert "Monitor" in pool.designs()


def test_killed_while_writing(pool: Pool, url: str, file: Path) -> None:
    """Processes killed at any moment leave a pool that is whole and can be worked on."""
    for round_ in range(3):
        writers = [start(WRITER, url, f"{round_}{n}") for n in range(2)]
        seq = pool.changes(None, timeout=0).seq
        for _ in range(5 + round_ * 3):
            seq = pool.changes(seq, timeout=10).seq
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.communicate()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counts = pool.counts()
    docs = {state: list(pool.find(f"Monitor/{state.value}")) for state in State}
    assert {state: len(found) for state, found in docs.items()} == counts
    assert sum(counts.values()) % 20 == 0, "a bulk write was applied in part"
    for doc in docs[State.DONE]:
        assert content(pool, doc["_id"], "log") == b"y" * 5000
        assert len(token.attempts(doc)) == 1
    assert counts[State.DONE]
    assert len(claim_all(pool)) == counts[State.TODO]


def test_reopened_pool_has_everything(url: str, tmp_path: Path) -> None:
    """What was written is there after closing, and the log files of SQLite are gone."""
    with connect(url) as pool:
        fill(pool, "a", "b")
        settle(pool, claim_one(pool), files={"log": b"text"})
    assert [f.name for f in tmp_path.glob("pool*")] == ["pool.db"]
    with connect(url, create=False) as pool:
        (doc,) = pool.find("Monitor/done")
        assert content(pool, doc["_id"], "log") == b"text"
        assert pool.counts()[State.TODO] == 1


def test_half_made_pool_is_finished(url: str, file: Path) -> None:
    """A file left by a process that died while it made the pool becomes one."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    with connect(url) as pool:
        fill(pool, "a")
        assert pool.counts()[State.TODO] == 1


@pytest.mark.parametrize("create", [True, False])
def test_file_of_something_else(url: str, file: Path, create: bool) -> None:
    """A file that is no database is told, named, and left as it is."""
    text = "these are my notes\n" * 100
    file.write_text(text)
    with pytest.raises(Unsupported, match=r"pool\.db.*other file"):
        connect(url, create=create).counts()
    assert file.read_text() == text


@pytest.mark.parametrize("create", [True, False])
def test_database_of_something_else(url: str, file: Path, create: bool) -> None:
    """Another program's SQLite file is not taken for a pool, and gets no tables of ours."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(Unsupported, match=r"pool\.db"):
        connect(url, create=create).counts()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_pool_of_a_later_version(pool: Pool, url: str, file: Path) -> None:
    """A layout that this version does not know is refused, not guessed at."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Unsupported, match="layout 99"):
        connect(url).counts()


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    with pytest.raises(PoolMissing, match=r"no folder .*none"):
        connect(f"sqlite:///{tmp_path}/none/pool.db")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    """A folder is no pool."""
    with pytest.raises(ServerError, match="unable to open"):
        connect(f"sqlite:///{tmp_path}")


def test_damaged_file(url: str, file: Path) -> None:
    """A file whose pages were overwritten is an error of ours, not of the library."""
    with connect(url) as pool:
        fill(pool, *numbered(300))
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with connect(url, create=False) as pool, pytest.raises(ServerError, match=r"pool\.db"):
        pool.claim(TODO, 1, token.Holder("pilot", "host"))


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a while in which this process is an ordinary user."""
    with tempfile.TemporaryDirectory(prefix="picas-test-") as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o777)
        monkeypatch.setenv("XDG_CONFIG_HOME", name)
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)


def test_file_that_may_not_be_written(unprivileged: Path) -> None:
    """A read-only pool can be looked at; writing says that it may not be written."""
    file = unprivileged / "pool.db"
    with connect(f"sqlite:///{file}") as pool:
        fill(pool, "a")
    file.chmod(stat.S_IRUSR)
    with connect(f"sqlite:///{file}", create=False) as pool:
        assert pool.counts()[State.TODO] == 1
        with pytest.raises(Forbidden, match="permissions"):
            list(pool.push([token.new({}, "b")]))


def test_folder_that_may_not_be_written(unprivileged: Path) -> None:
    """Where no file can be made, the folder is the thing to check."""
    folder = unprivileged / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(ServerError, match="folder"):
        connect(f"sqlite:///{folder}/pool.db")


def test_removed_under_a_running_pilot(pool: Pool, file: Path) -> None:
    """A thread that comes to a pool whose file was removed is told that it is missing."""
    fill(pool, "a")
    file.rename(file.with_name("moved"))
    pool.close()
    with pytest.raises(PoolMissing):
        pool.counts()


def indexes(file: Path) -> set[str]:
    """Names of the indexes in a file."""
    with closing(sqlite3.connect(file)) as db:
        return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}


def test_deleted_design_leaves_no_index(pool: Pool, file: Path) -> None:
    """A design that was removed, or has no condition that an index can hold, costs no index."""
    before = indexes(file)
    pool.add_design(Design("Own", parse("cores > 4")))
    assert len(indexes(file)) == len(before) + 3
    pool.add_design(Design("Own", parse("größe > 4")))
    assert indexes(file) == before
    pool.add_design(Design("Own", parse("cores > 4")))
    pool.remove_design("Own")
    assert indexes(file) == before


def test_claims_go_in_the_order_of_pushes(pool: Pool) -> None:
    """What was pushed first runs first, whatever the ids; also in a view with a condition."""
    pool.add_design(Design("Big", parse("size > 5")))
    ids = fill(pool, "m", "z", "a", "k", size=9)
    fill(pool, "b", size=1)
    assert [claim_one(pool, view=view)["_id"] for view in ("Big/todo", TODO)] == ids[:2]
    assert [doc["_id"] for doc in pool.claim("Big/todo", 5, token.Holder("p", "h"))] == ids[2:]


def test_view_that_gets_another_condition(pool: Pool) -> None:
    """A process at work in a view goes on in it when somebody gives it another condition."""
    pool.add_design(Design("Some", parse("size > 5")))
    fill(pool, "a", "b", size=9)
    assert claim_one(pool, view="Some/todo")["_id"] == "a"
    fill(pool, "c", size=1)
    with connect(pool.store.url) as other:
        other.add_design(Design("Some", parse("size < 5")))
    assert claim_all(pool, view="Some/todo")[0]["_id"] == "c"
    with connect(pool.store.url) as other:
        # This name cannot be in an index: all rows are looked through.
        other.add_design(Design("Some", parse("size > 5 or größe == 1")))
    assert claim_all(pool, view="Some/todo")[0]["_id"] == "b"


def test_view_that_goes_during_a_look(pool: Pool) -> None:
    """A look for work sees the pool as it was when it began, whatever becomes of the view."""
    pool.add_design(Design("Some", parse("size > 5")))
    fill(pool, "a", size=1)
    ids = fill(pool, "b", "c", size=9)
    looks: list[str] = []

    def ready_at(doc: token.Document) -> float:
        if not looks:
            with connect(pool.store.url) as other:
                other.remove_design("Some")
                other.delete(["c"])
        looks.append(doc["_id"])
        return 0.0 if len(looks) > 2 else pool.now() + 100  # so that it looks again

    found = pool.store.candidates("Some/todo", 5, ready_at)
    assert (found.docs, looks) == ((), ids)
    with pytest.raises(ViewMissing):
        pool.store.candidates("Some/todo", 5, ready_at)


def test_look_that_fails_holds_nothing(pool: Pool) -> None:
    """An error in the middle of a look leaves no transaction behind, which would hold others up."""
    fill(pool, "a")

    def ready_at(_: token.Document) -> float:
        raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        pool.store.candidates(TODO, 1, ready_at)
    fill(pool, "b")
    with connect(pool.store.url) as other:
        assert other.counts()[State.TODO] == 2


def test_index_of_another_version(pool: Pool, file: Path) -> None:
    """A view whose index in the file is not what this version would make is read without it."""
    pool.add_design(Design("Some", parse("size > 5")))
    (name,) = [name for name in indexes(file) if name.startswith("free ")]
    with closing(sqlite3.connect(file)) as db:
        db.execute(f'DROP INDEX "{name}"')
        db.execute(f'CREATE INDEX "{name}" ON documents (number) WHERE state IS NULL')
    with connect(pool.store.url) as other:
        fill(other, "a", size=9)
        fill(other, "b", size=1)
        assert claim_all(other, view="Some/todo")[0]["_id"] == "a"


def test_refused_design_keeps_the_view(pool: Pool) -> None:
    """A design that cannot be written leaves the one before as it was, with its index."""
    pool.add_design(Design("Some", parse("size > 5")))
    fill(pool, "a", "b", size=9)
    assert claim_one(pool, view="Some/todo")["_id"] == "a"
    (doc,) = pool.store.read(["_design/Some"])
    assert doc is not None
    stub = {"_attachments": {"none": {"stub": True, "length": 1}}}
    broken = {**Design("Some", parse("size < 5")).document(), **stub, "_rev": doc["_rev"]}
    (answer,) = pool.store.write([broken])
    assert isinstance(answer.error, TokenMissing)
    assert claim_one(pool, view="Some/todo")["_id"] == "b"


@pytest.mark.parametrize("view", [TODO, "Big/todo"])
def test_oldest_tokens_are_not_left_behind(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    """However many come in behind: what was passed over, or given back, has its turn."""
    pool.add_design(Design("Big", parse("size > 5")))
    holder, now = token.Holder("p", "h"), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    fill(pool, "back", "large", *numbered(100), size=9)
    edit(pool, "large", cores=4)
    (back,) = pool.claim(view, 1, holder, Offer("h", cores=1))
    assert (back["_id"], claim_one(pool, view=view)["_id"]) == ("back", "large")
    edit(pool, "large", lock=0)
    (first,) = pool.claim(view, 1, holder, Offer("h", cores=1))
    pool.release([back])
    claimed = []
    for number in range(40):
        fill(pool, f"new-{number}", size=9)
        claimed += [doc["_id"] for doc in pool.claim(view, 1, holder)]
        now[0] += 0.5
    assert claimed[0] not in ("back", "large")
    assert {"back", "large"} <= set(claimed)
    assert first["_id"] == "t0000"


def test_leap_is_to_any_of_the_tokens(pool: Pool) -> None:
    """Where pilots meet, each goes on somewhere else."""
    fill(pool, *numbered(200))
    places = set()
    for _ in range(60):
        pool.store._work.crowded()  # type: ignore[attr-defined]
        pool.store._work._walks.clear()  # type: ignore[attr-defined]
        (doc,) = pool.store.candidates(TODO, 1, lambda _: 0.0).docs
        places.add(int(doc["_id"][1:]) // 50)
    assert places == {0, 1, 2, 3}


def steps(pool: Pool, work: Callable[[], object]) -> int:
    """What a verb costs SQLite: steps of its virtual machine, in hundreds."""
    store, counted = pool.store, [0]
    assert isinstance(store, SqliteStore)

    def count() -> int:
        counted[0] += 1
        return 0

    store._db.set_progress_handler(count, 100)
    work()
    store._db.set_progress_handler(None, 100)
    return counted[0]


@pytest.mark.parametrize("size", [1, 9])
def test_what_waits_does_not_hold_up_a_look_in_vain(pool: Pool, size: int) -> None:
    """When the first comes due is known, and thousands that wait in other views cost nothing."""
    pool.add_design(Design("Big", parse("size > 5")))
    until = pool.now() + 1000
    costs = []
    for number in (100, 3_000):
        fill(pool, *(f"{number}-{i}" for i in range(number)), size=size, not_before=until)
        due = steps(pool, lambda: pool.claim("Big/todo", 10, token.Holder("p", "h")))
        costs.append(due)
    assert pool.passed_over.due == (until if size == 9 else None)
    if size == 1:
        assert costs[1] <= costs[0] * 1.5 + 1


@pytest.mark.parametrize("view", [TODO, "Big/todo"])
@pytest.mark.parametrize("others", ["done", "waiting", "unfit"])
def test_looking_for_work_costs_the_same_in_a_full_pool(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, view: str, others: str
) -> None:
    """A claim and a look for changes take as many steps beside 3,000 tokens as beside 100."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    pool.add_design(Design("Big", parse("size > 5")))
    offer = Offer("h", cores=8)
    fields: dict[str, dict[str, Any]] = {
        "done": {},
        "waiting": {"not_before": pool.now() + 1000},
        "unfit": {"cores": 64},
    }

    def claim() -> list[token.Document]:
        return pool.claim(view, 10, token.Holder("p", "h"), offer)

    def costs(tokens: int) -> tuple[int, int]:
        fill(pool, *(f"{tokens}-{i}" for i in range(tokens)), size=9, **fields[others])
        if others == "done":
            pool.settle([Settlement(doc, outcome()) for doc in claim_all(pool)])
        fill(pool, *(f"{tokens}-last-{i}" for i in range(20)), size=9)
        assert len(claim()) == 10  # the first look finds the place
        since = pool.changes(None, timeout=0).seq
        fill(pool, f"{tokens}-new", size=9)
        changes = steps(pool, lambda: pool.changes(since, timeout=0, todo=True))
        cost = steps(pool, claim)
        pool.delete([doc["_id"] for doc in pool.find("Monitor/overview_total")])
        return cost, changes

    (claim_few, changes_few), (claim_many, changes_many) = costs(100), costs(3_000)
    assert claim_many <= claim_few * 1.5 + 2
    assert changes_many <= changes_few + 2


def test_closing_while_another_thread_waits(file: Path) -> None:
    """A pool can be closed under a thread that waits for changes: the wait ends, nothing breaks."""
    for _ in range(5):
        pool = connect(f"sqlite:///{file}")
        since = pool.changes(None, timeout=0).seq
        thread = threading.Thread(target=pool.changes, args=(since,), kwargs={"timeout": 30})
        thread.start()
        deadline = time.monotonic() + 20
        while thread.is_alive() and time.monotonic() < deadline:
            pool.close()  # again: the first may have come before the wait began
            thread.join(0.05)
        assert not thread.is_alive()
