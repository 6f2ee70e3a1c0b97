"""The documents of the classic API, their modifiers, and its small helpers."""

import base64
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from picas import jobid, token
from picas.documents import Document, Job, Task, User
from picas.executers import execute, execute_old
from picas.generators import TokenGenerator
from picas.modifiers import BasicTokenModifier, NestedTokenModifier, TokenModifier
from picas.picaslogger import picaslogger
from picas.token import State
from picas.util import Timer, merge_dicts, seconds, time_elapsed


@pytest.fixture(autouse=True)
def _batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run in a batch job of their own."""
    monkeypatch.setenv("DIRACJOBID", "17")


def test_a_document_is_a_dict() -> None:
    """It reads and writes its fields like one, and says when it has no id."""
    doc = Document({"a": 1})
    doc["b"] = 2
    doc.update({"c": 3})
    del doc["a"]
    assert (dict(doc), len(doc), "b" in doc, doc.get("x")) == ({"b": 2, "c": 3}, 2, True, None)
    with pytest.raises(AttributeError, match="_id"):
        _ = doc.id
    with pytest.raises(AttributeError, match="_rev"):
        _ = doc.rev
    doc.id = "d"
    assert doc.id == "d"
    assert repr(doc) == "<Document 'd'>"
    assert Document(doc).value == doc.value


def test_a_base_is_for_new_documents() -> None:
    """One from the database stays the dict it was; a new one gets what it lacks, as a copy."""
    base: dict[str, Any] = {"list": []}
    made = Document({"a": 1}, base)
    made["list"].append(1)
    assert base == {"list": []}
    there = {"_rev": "1-x"}
    assert Document(there, base).value is there


def test_attachments_are_base64_texts() -> None:
    """Texts and bytes go in; bytes come out."""
    doc = Document()
    doc.put_attachment("a.json", "{}")
    doc.put_attachment("b", b"\xff")
    assert doc["_attachments"]["a.json"] == {
        "content_type": "application/json",
        "data": base64.b64encode(b"{}").decode(),
    }
    assert doc.get_attachment("b") == {"content_type": "text/plain", "data": b"\xff"}
    doc.remove_attachment("b")
    with pytest.raises(KeyError):
        doc.get_attachment("b")
    with pytest.raises(KeyError):
        Document().get_attachment("b")


def test_a_task_is_a_token_that_the_views_show() -> None:
    """A new one is todo, with an id of its own."""
    first, second = Task(), Task()
    assert first.id != second.id
    assert token.state(first.value) is State.TODO
    assert Task({"type": "task"})["type"] == "task"


def test_a_task_changes_its_state() -> None:
    """Locked, done, scrubbed, failed: as the standard views see it."""
    task = Task({"_id": "t"})
    assert token.state(task.lock().value) is State.LOCKED
    assert task["dirac_job_id"] == "17"
    task["exit_code"] = 0
    assert not task.is_done()
    assert token.state(task.done().value) is State.DONE
    assert task.is_done()
    assert token.state(task.scrub().value) is State.TODO
    assert task["scrub_count"] == 1
    assert "dirac_job_id" not in task
    assert not task.has_error()
    assert task.get_errors() == []
    task["exit_code"] = ""
    try:
        int("bad")
    except ValueError as error:
        task.error("it failed", exception=error)
    assert token.state(task.value) is State.ERROR
    assert task.has_error()
    (noted,) = task.get_errors()
    assert noted["message"] == "it failed"
    assert "ValueError: invalid" in noted["exception"]
    assert Task({"error": "text"}).get_errors() == ["text"]
    bare = Task()
    del bare["error"]
    assert bare.get_errors() == []


def test_the_parts_of_a_task() -> None:
    """Input, output and uploads are attributes, too."""
    task = Task()
    task.input, task.output, task.uploads = 1, 2, 3
    assert (task.input, task.output, task.uploads) == (1, 2, 3)
    assert (task["input"], task["output"], task["uploads"]) == (1, 2, 3)


def test_a_job_keeps_its_times() -> None:
    """Queued, started, finished and archived under another id."""
    job = Job({"_id": "j", "_rev": "1-x", "done": 0})
    job.queue("sbatch", "cluster").start().finish()
    assert job["method"] == "sbatch"
    assert job.is_done()
    job.archive()
    assert job.id.startswith("archived-j-")
    assert "_rev" not in job
    assert not Job({"_id": "k"}).is_done()
    assert Job({"_id": "k"}).archive().is_done()
    with pytest.raises(ValueError, match="_id"):
        Job({})


def test_a_user() -> None:
    """As CouchDB's database of users wants it."""
    user = User("anna", "secret", data={"more": 1})
    assert user.id == "org.couchdb.user:anna"
    assert (user["roles"], user["type"], user["more"]) == ([], "user", 1)
    assert "secret" not in repr(user)


@pytest.mark.parametrize("kind", [dict, Task])
def test_modifiers(kind: Any) -> None:
    """They change plain dicts and tasks alike, through all states."""
    made = kind({"_id": "t", **TokenGenerator.get_empty_token()})
    change = BasicTokenModifier()
    assert change.lock(made) is made
    assert token.is_locked(made)
    assert made["dirac_job_id"] == "17"
    change.add_output(made, {"exit_code": 0})
    assert token.state(change.close(made)) is State.DONE
    assert token.is_locked(change.unclose(made))
    assert token.state(change.unlock(made)) is State.TODO
    assert change.scrub(made)["scrub_count"] == 1
    del made["scrub_count"]
    assert change.scrub(made)["scrub_count"] == 1
    change.add_output(made, {"exit_code": ""})
    assert token.state(change.set_error(made)) is State.ERROR
    assert jobid.recorded_job(made) is None


def test_nested_modifiers() -> None:
    """A token inside a document is found by its name, or by the way to it."""
    empty = TokenGenerator.get_empty_token()
    record = {"top": dict(empty), "deep": [{"in": dict(empty)}]}
    change = NestedTokenModifier(timeout=5)
    assert change.timeout == 5
    for ref in ("top", ["record", "deep", 0, "in"]):
        assert change.lock(ref, record) is record
        assert token.is_locked(change.get_token(ref, record))
        change.add_output(ref, record, {"exit_code": 0})
        assert token.state(change.get_token(ref, change.close(ref, record))) is State.DONE
        change.unclose(ref, record)
        change.unlock(ref, record)
        change.scrub(ref, record)
        assert change.get_token(ref, record)["scrub_count"] == 1
        change.set_error(ref, record)
    assert record["top"] == record["deep"][0]["in"]  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["lock", "unlock", "close", "unclose", "add_output", "scrub", "set_error"]
)
def test_a_modifier_says_what_it_lacks(name: str) -> None:
    """The base class has none of the verbs."""
    with pytest.raises(NotImplementedError, match=name):
        getattr(TokenModifier(), name)()


def test_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopwatch, merged dicts, the time."""
    timer = Timer()
    assert 0 <= timer.elapsed() < 5
    assert not time_elapsed(timer, 60)
    assert time_elapsed(timer, -1)
    assert timer.reset() >= 0
    inner = {"a": [1]}
    merged = merge_dicts(inner, {"b": 2})
    merged["a"].append(2)
    assert (inner, merged) == ({"a": [1]}, {"a": [1, 2], "b": 2})
    assert isinstance(seconds(), int)
    assert deepcopy(inner) == inner


def test_executing() -> None:
    """Exit code and both streams come back, by a program or by a shell."""
    process, code, out, err = execute(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (process.returncode, code, out, err) == (3, 3, b"out\n", b"err\n")
    assert execute("echo $((1 + 1))", shell=True)[2] == b"2\n"
    assert execute_old("exit 4") == 4


def test_a_flood_of_output_is_bounded() -> None:
    """Head and tail come back, and how much is left out."""
    _, code, out, _ = execute(["seq", "100000"], limit=1000)
    assert code == 0
    assert out.startswith(b"1\n2\n")
    assert out.endswith(b"100000\n")
    assert b"bytes are left out" in out
    assert len(out) < 1500


@pytest.mark.parametrize(
    ("configured", "seen"),
    [
        ("pass", "PiCaS - INFO - hello"),
        ("logging.basicConfig(level=logging.INFO)", "INFO:PiCaS:hello"),
        ("logging.basicConfig(stream=sys.stdout, format='%(msg)s')", ""),
        ("logging.basicConfig(); root.handlers[0].setLevel('ERROR')", "PiCaS - INFO - hello"),
        ("logging.basicConfig(filename='file.log')", "PiCaS - INFO - hello"),
        ("picaslogger.setLevel('ERROR')", ""),
        ("sys.stderr = None", ""),
    ],
)
def test_the_classic_log_is_seen_once(tmp_path: Path, configured: str, seen: str) -> None:
    """Its lines reach the terminal once, whatever is configured; a log file has them too."""
    code = (
        "import logging, sys; root = logging.getLogger()\n"
        "from picas.picaslogger import picaslogger\n"
        f"{configured}\n"
        "picaslogger.info('hello'); picaslogger.debug('hidden')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.strip().endswith(seen)
    assert done.stderr.count("hello") == bool(seen)
    assert done.stdout == ("hello\n" if "stdout" in configured else "")
    if "filename" in configured:
        assert (tmp_path / "file.log").read_text() == "INFO:PiCaS:hello\n"


def test_the_classic_log_is_seen_by_tests(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """People's own tests find its lines in pytest's log, and on standard error as it is then."""
    picaslogger.info("for a test")
    assert "for a test" in caplog.text
    assert "PiCaS - INFO - for a test" in capsys.readouterr().err
