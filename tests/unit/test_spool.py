"""Results on disk: each entry whole or not at all, and read back as it was."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from picas import token
from picas.errors import InputError
from picas.logs import Excerpt
from picas.pilot.entry import Entry
from picas.pilot.runner import Result
from picas.pilot.slots import Ended
from picas.pilot.spool import Spool
from picas.pool import Settlement
from picas.token import Again, Document, Holder, Outcome

POOL = "https://couch.example/db"
Content = bytes | Path | Excerpt


def claimed(token_id: str = "t0", lease: str = "0123456789abcdef") -> Document:
    """A token as the pool gives it to a pilot."""
    doc = {**token.new({"input": "true", "note": "ü"}, token_id), "_rev": "3-x"}
    doc["_attachments"] = {f"logs_{token_id}.out": {"stub": True, "length": 3}}
    return token.claim(doc, 1000.0, Holder("pilot_a", "host", {"slurm_job_id": "7"}), lease)


def result(
    doc: Document | None = None, again: Again | None = None, **files: Content
) -> tuple[Ended, Settlement]:
    """A result as a pilot has it."""
    outcome = Outcome(3, 1.5, 2.5, "exit code 3", 1.0, cpu=0.25, memory=4096)
    return made(doc or claimed(), outcome, files, again=again)


def made(
    doc: Document,
    outcome: Outcome,
    files: Mapping[str, Content],
    scratch: tuple[Path, ...] = (),
    again: Again | None = None,
) -> tuple[Ended, Settlement]:
    """A result of these parts."""
    ended = Ended(doc, Result(outcome, files, scratch=scratch))
    return ended, Settlement(doc, outcome, again, files)


def read(folder: Path) -> tuple[list[Entry], list[str]]:
    """What is in a spool, and what is said of the rest."""
    problems: list[InputError] = []
    entries = list(Spool(folder).entries(problems.append))
    return entries, [str(problem) for problem in problems]


def contents(settlement: Settlement) -> dict[str, bytes]:
    """The bytes of a result's files."""
    files = settlement.files.items()
    return {name: f if isinstance(f, bytes) else f.read_bytes() for name, f in files}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool that is not there yet."""
    return Spool(tmp_path / "logs" / "spool", POOL)


@pytest.mark.parametrize("again", [None, Again(), Again(3.5, 300.0, 1 << 30)])
@pytest.mark.parametrize("token_id", ["t0", "a/b c", "..", "ünï", "x" * 400, "a\nb"])
def test_round_trip(spool: Spool, token_id: str, again: Again | None) -> None:
    """An entry is read back as the result that was kept, whatever the token's name."""
    ended, settlement = result(claimed(token_id), again, short=b"\0\xff")
    assert spool.keep(ended, settlement) == ended
    (entry,), problems = read(spool.folder)
    assert (entry.settlement, entry.pool, problems) == (settlement, POOL, [])
    assert settlement.lease in spool


def test_names_and_contents_of_files(spool: Spool, tmp_path: Path) -> None:
    """Files are copied before a later task overwrites them; names need not be UTF-8."""
    odd = tmp_path / os.fsdecode(b"x_\xff.txt")
    odd.write_bytes(b"mine")
    names = {os.fsdecode(b"\xfe"): odd, "../up": odd, "a/b\0c": odd, f"{'ü' * 300}": odd}
    long = os.urandom(100_000)
    ended, settlement = made(claimed(), result()[1].outcome, {**names, "long": long})
    kept = spool.keep(ended, settlement)
    odd.write_bytes(b"another's")
    (entry,), _ = read(spool.folder)
    assert contents(entry.settlement) == {**dict.fromkeys(names, b"mine"), "long": long}
    assert entry.settlement.files == kept.result.files, "the pilot records the copies, too"


def test_logs_are_named_and_move_with_their_folder(spool: Spool, tmp_path: Path) -> None:
    """Logs stay where they are, with their limit, and are found when their folder was moved.

    Of logs elsewhere, what goes into the token is kept.
    """
    logs = spool.folder.parent
    logs.mkdir()
    log = logs / os.fsdecode(b"logs_\xff.out")
    log.write_bytes(b"line\n" * 100)
    far, link = tmp_path / "far.log", logs / "link.log"
    far.write_bytes(b"far\n")
    link.symlink_to(far)
    files = {"out": Excerpt(log, 50), "far": Excerpt(far, 70), "link": Excerpt(link, 70)}
    spool.keep(*made(claimed(), result()[1].outcome, files, (log, far, link)))
    moved = logs.rename(tmp_path / "moved")
    (entry,), _ = read(moved / "spool")
    there = moved / log.name
    assert entry.settlement.files == {
        "out": Excerpt(there, 50),
        "far": b"far\n",
        "link": b"far\n",
    }
    assert entry.scratch == (there,), "what is not among the logs is not deleted"
    entry.delete_logs()
    assert not there.exists()


@pytest.mark.parametrize(
    "fields", [{"x": {1, 2}}, {"x": math.nan}, {"_x": 1}, {"x": "\udcff"}], ids=str
)
def test_fields_that_no_pool_takes(spool: Spool, fields: dict[str, Any]) -> None:
    """A result that the pool would record without its fields and files is kept so."""
    outcome = Outcome(0, 1.0, 2.0, "exit code 0", 1.0, fields=fields)
    ended, settlement = made(claimed(), outcome, {})
    assert spool.keep(ended, settlement) is ended
    (entry,), _ = read(spool.folder)
    assert entry.settlement.is_bare
    assert "were not stored" in (entry.settlement.outcome.error or "")


def test_file_that_is_gone(spool: Spool, tmp_path: Path) -> None:
    """It costs the result its files, as in the pool, and not the result itself."""
    ended, settlement = result(table=tmp_path / "gone.csv")
    spool.keep(ended, settlement)
    (entry,), _ = read(spool.folder)
    assert entry.settlement.is_bare
    assert "gone.csv" in (entry.settlement.outcome.error or "")


def test_folder_comes_and_goes(spool: Spool, tmp_path: Path) -> None:
    """There is no folder before the first entry and none behind the last one."""
    spool.drop("unknown")
    assert not spool.folder.exists()
    (tmp_path / "table").write_bytes(b"x")
    leases = ["a" * 16, "b" * 16]
    for lease in leases:
        spool.keep(*result(claimed("t0", lease), table=tmp_path / "table"))
        spool.keep(*result(claimed("t0", lease)))
    assert sorted(path.name for path in spool.folder.iterdir()) == [
        *sorted(f"{lease}.{end}" for lease in leases for end in ("files", "json")),
        "lock",
    ]
    spool.drop(leases[0])
    assert [entry.settlement.lease for entry in read(spool.folder)[0]] == leases[1:]
    spool.drop(leases[1])
    assert list(spool.folder.parent.iterdir()) == []
    spool.keep(*result())
    assert len(read(spool.folder)[0]) == 1, "it can begin anew"


def test_files_that_are_nowhere_else_stay(spool: Spool, tmp_path: Path) -> None:
    """Where the token says that its files are on the host, they are."""
    (tmp_path / "table").write_bytes(b"x")
    ended, settlement = result(table=tmp_path / "table")
    copy = spool.keep(ended, settlement).result.files["table"]
    spool.drop(settlement.lease, leave_files=True)
    assert isinstance(copy, Path)
    assert copy.read_bytes() == b"x"
    assert read(spool.folder) == ([], [])


@pytest.mark.parametrize("token_id", ["t0", "a/b", "x" * 400, "ünï"])
def test_fenced(spool: Spool, tmp_path: Path, token_id: str) -> None:
    """A result that nobody will record goes beside the logs, with its files, for a person."""
    (tmp_path / "table").write_bytes(b"x")
    ended, settlement = result(claimed(token_id), table=tmp_path / "table", short=b"y")
    spool.keep(ended, settlement)
    path = spool.fence(settlement)
    logs = spool.folder.parent
    assert (path.parent, path.suffix) == (logs / "fenced", ".json")
    assert settlement.lease in path.name
    assert json.loads(path.read_text())["token"]["_id"] == token_id
    (copy,) = path.with_suffix(".files").iterdir()
    assert copy.read_bytes() == b"x"
    assert not spool.folder.exists()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda d: b"", "is damaged: it is no JSON"),
        (lambda d: json.dumps(d).encode()[:-20], "is damaged: it is no JSON"),
        (lambda d: b'"\xff"', "is damaged: it is no JSON"),
        (lambda d: b"[" * 100_000, "is damaged: it is no JSON"),
        (lambda d: b"{}", "is no result that a pilot kept"),
        (lambda d: b"[1]", "is no result that a pilot kept"),
        (lambda d: d | {"format": 99}, "is of a later version of PiCaS"),
        (lambda d: d | {"token": {}}, "is damaged: it has no '_id'"),
        (lambda d: d | {"token": None}, "is damaged"),
        (lambda d: d | {"token": d["token"] | {"lease": "other"}}, "its lease is other"),
        (lambda d: d | {"token": d["token"] | {"lock": "x"}}, "its token was not claimed"),
        (lambda d: d | {"outcome": d["outcome"] | {"wall": "x"}}, "its outcome is none"),
        (lambda d: d | {"outcome": d["outcome"] | {"new": 1}}, "is damaged"),
        (lambda d: d | {"again": {"new": 1}}, "is damaged"),
        (lambda d: d | {"files": {"a": {"bytes": "?"}}}, "is damaged"),
        (lambda d: d | {"files": {"a": {"copy": "../x"}}}, "../x is outside its folder"),
        (lambda d: d | {"files": {"a": {}}}, "it has no 'log'"),
        (lambda d: d | {"files": []}, "is damaged"),
        (lambda d: d | {"scratch": ["/etc/passwd"]}, "/etc/passwd is outside its folder"),
        (lambda d: d | {"scratch": ["../../x"]}, "../../x is outside its folder"),
    ],
)
def test_damaged_entry(spool: Spool, damage: Any, text: str) -> None:
    """What is no entry is told in one line with its name and left alone; the others are read."""
    spool.keep(*result(claimed("good", "f" * 16)))
    spool.keep(*result())
    path = spool.folder / "0123456789abcdef.json"
    spoilt = damage(json.loads(path.read_bytes()))
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode())
    entries, (problem,) = read(spool.folder)
    assert [entry.settlement.token["_id"] for entry in entries] == ["good"]
    assert problem.startswith(f"{path} ")
    assert text in problem
    assert path.exists()


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"files": {"a": {"log": "{outside}/secret", "limit": 9}}}, "{outside}/secret"),
        ({"files": {"a": {"log": "../outside/secret", "limit": 9}}}, "../outside/secret"),
        ({"files": {"a": {"log": "link/secret", "limit": 9}}}, "link/secret"),
        ({"files": {"a": {"log": "dangling", "limit": 9}}}, "dangling"),
        ({"files": {"a": {"copy": "{outside}/secret"}}}, "{outside}/secret"),
        ({"files": {"a": {"copy": "0_x"}}}, "0_x"),
        ({"files": {"a": {"copy": "../good.json"}}}, "../good.json"),
        ({"scratch": ["link/secret"]}, "link/secret"),
        ({"scratch": ["spool/../../outside/secret"]}, "spool/../../outside/secret"),
        ({"scratch": ["loop/secret"]}, "loop/secret"),
    ],
    ids=str,
)
def test_entry_that_leads_out_of_the_logs(
    spool: Spool, tmp_path: Path, part: dict[str, Any], named: str
) -> None:
    """It is damaged, by name or by symbolic links: nothing outside is attached or deleted."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    spool.keep(*result(claimed("good", "f" * 16)))
    spool.keep(*result())
    path = spool.folder / "0123456789abcdef.json"
    logs = spool.folder.parent
    (logs / "link").symlink_to(outside)
    (logs / "dangling").symlink_to(outside / "later")
    (logs / "loop").symlink_to("loop")
    path.with_suffix(".files").mkdir()
    (path.with_suffix(".files") / "0_x").symlink_to(outside / "secret")
    text = json.dumps(json.loads(path.read_bytes()) | part)
    path.write_text(text.replace("{outside}", str(outside)))
    entries, problems = read(spool.folder)
    assert [entry.settlement.token["_id"] for entry in entries] == ["good"]
    named = named.replace("{outside}", str(outside))
    assert problems == [f"{path} is damaged: {named} is outside its folder"]


def test_logs_behind_a_link(spool: Spool, tmp_path: Path) -> None:
    """The folder of the logs may itself be reached by a symbolic link."""
    log = spool.folder.parent / "x.log"
    log.parent.mkdir()
    log.write_bytes(b"x")
    spool.keep(*made(claimed(), result()[1].outcome, {"x": Excerpt(log, 5)}, (log,)))
    link = tmp_path / "link"
    link.symlink_to(log.parent)
    (entry,), problems = read(link / "spool")
    assert (contents(entry.settlement), problems) == ({"x": b"x"}, [])


def test_entry_of_another_user(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, to root too: it would be recorded, and files deleted, with their rights."""
    spool.keep(*result())
    path = spool.folder / "0123456789abcdef.json"
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    refused = f"{path} belongs to another user (uid {owner}), who may recover it"
    assert read(spool.folder) == ([], [refused])


def test_entry_that_is_a_link(spool: Spool, tmp_path: Path) -> None:
    """An entry of one's own that somebody links to from a folder of theirs is none there."""
    spool.keep(*result())
    path = spool.folder / "0123456789abcdef.json"
    path.rename(tmp_path / "mine.json")
    path.symlink_to(tmp_path / "mine.json")
    assert read(spool.folder) == ([], [f"cannot read {path}: it is a symbolic link"])


def test_lock_that_is_a_link(spool: Spool, tmp_path: Path) -> None:
    """No file is made where somebody else's link leads."""
    spool.folder.mkdir(parents=True)
    (spool.folder / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        spool.lock()
    assert not (tmp_path / "elsewhere").exists()


def test_unreadable_entry(spool: Spool) -> None:
    """So it is with what cannot be read."""
    spool.keep(*result())
    path = spool.folder / f"{'0' * 16}.json"
    path.mkdir()
    entries, problems = read(spool.folder)
    assert (len(entries), problems) == (1, [f"cannot read {path}: Is a directory"])


def test_full_disk(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written as a whole leaves nothing, and can be written later."""
    (tmp_path / "table").write_bytes(b"x")
    ended, settlement = result(table=tmp_path / "table")
    spool.folder.mkdir(parents=True)

    def full(self: Path, target: Path) -> Path:
        if self.name.endswith(".json.tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        spool.keep(ended, settlement)
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]
    assert settlement.lease not in spool
    monkeypatch.undo()
    spool.keep(ended, settlement)
    assert len(read(spool.folder)[0]) == 1


# --- the lock ----------------------------------------------------------------------------------


def test_pilots_share_a_spool_and_recovery_has_it_alone(spool: Spool) -> None:
    """Two pilots may use one folder of logs; nobody recovers their results as long as they live."""
    other, recovery = Spool(spool.folder, POOL), Spool(spool.folder)
    spool.keep(*result(claimed("t0", "a" * 16)))
    other.keep(*result(claimed("t1", "b" * 16)))
    assert not recovery.lock()
    spool.drop("a" * 16)
    assert len(read(spool.folder)[0]) == 1, "the last entry of one is not that of the other"
    assert not recovery.lock()
    other.close()
    assert recovery.lock()
    assert not Spool(spool.folder).lock()
    spool.keep(*result(claimed("t2", "c" * 16)))
    assert len(read(spool.folder)[0]) == 2, "what is kept meanwhile is there"
    recovery.close()


def test_folder_that_is_removed(spool: Spool) -> None:
    """A task that tidies up too much does not keep later results from the disk."""
    spool.keep(*result(claimed("t0", "a" * 16)))
    subprocess.run(["rm", "-r", spool.folder.parent], check=True)
    spool.keep(*result(claimed("t1", "b" * 16)))
    assert len(read(spool.folder)[0]) == 1
    assert not Spool(spool.folder).lock(), "and that the lock is held again"
    spool.drop("a" * 16)
    spool.drop("b" * 16)
    assert not spool.folder.exists()


def test_task_does_not_inherit_the_lock(spool: Spool) -> None:
    """A task that outlives its pilot does not keep the results from being recovered."""
    spool.keep(*result())
    task = subprocess.Popen(["sleep", "60"])
    try:
        spool.close()
        assert Spool(spool.folder).lock()
    finally:
        task.kill()
        task.wait()


# --- real deaths -------------------------------------------------------------------------------

WRITER = """
    import itertools, sys
    from pathlib import Path
    from tests.unit.test_spool import claimed, result
    from picas.pilot.spool import Spool

    spool = Spool(Path(sys.argv[1]), "pool")
    table = Path(sys.argv[2])
    print("ready", flush=True)
    for number in itertools.count():
        lease = f"{number:016x}"
        kept = spool.keep(*result(claimed(f"t{number}", lease), table=table, long=bytes(70_000)))
        if number >= 5:
            spool.drop(f"{number - 5:016x}")
"""


def test_killed_in_mid_write(tmp_path: Path) -> None:
    """Whenever a writer is killed, each entry that is there is whole, and the lock is free."""
    table = tmp_path / "table"
    table.write_bytes(os.urandom(200_000))
    seen = 0
    for number in range(6):
        folder = tmp_path / str(number) / "spool"
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), str(table)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        with writer, writer.stdout:
            writer.stdout.readline()
            time.sleep(random.uniform(0.001, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
        if not folder.is_dir():
            continue
        recovery = Spool(folder)
        assert recovery.lock()
        problems: list[InputError] = []
        for entry in recovery.entries(problems.append):
            there = contents(entry.settlement)
            assert there == {"table": table.read_bytes(), "long": bytes(70_000)}
            recovery.drop(entry.settlement.lease)
            seen += 1
        assert problems == []
        recovery.tidy()
        leftovers = [path for path in folder.glob("*") if path.suffix != ".files"]
        assert leftovers == []
    assert seen > 0
