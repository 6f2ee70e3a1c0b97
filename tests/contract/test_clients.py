"""The client of the classic API, on every store."""

import base64
import logging
from typing import Any

import pytest

from picas.clients import CouchDB, DocumentMissing
from picas.couchdblogger import CouchDBLogger
from picas.documents import Document, Task
from picas.errors import Conflict, PoolMissing, Refused, TokenMissing, Unsupported, ViewMissing
from tests.contract.classic import client, fill

MAP = """
function(doc) {
  if (doc.type == 'token') {
    if (doc.lock == 0 && doc.done == 0 && doc.cores == 1) {
      emit(doc._id, doc._id);
    }
  }
}
"""


@pytest.fixture
def db(url: str) -> CouchDB:
    """A client of a fresh database with the standard views."""
    return client(url, create=True)


def ids(rows: Any) -> list[Any]:
    """The ids of rows."""
    return [row.id for row in rows]


def test_making_the_database_twice_is_no_error(url: str, db: CouchDB) -> None:
    """``create=True`` makes what is missing only."""
    fill(db, "a")
    assert client(url, create=True).get("a").id == "a"


def test_a_missing_database_is_told(url: str) -> None:
    """A CouchDB database that is not there is an error, and an embedded pool is made."""
    if url.startswith("sqlite:"):
        assert client(url).doc_count() >= 1
    else:
        with pytest.raises(PoolMissing):
            client(url)


def test_a_password_is_never_shown(url: str, db: CouchDB) -> None:
    """Neither client nor database show it."""
    password = url.split("@")[0].rpartition(":")[2] if "@" in url else "secret"
    assert password not in f"{db!r} {db.db!r} {vars(db)!r}"
    if "@" in url:
        server, _, name = url.rpartition("/")
        own = CouchDB(server, name)  # the login is in the URL
        assert password not in f"{own!r} {own.db!r} {vars(own)!r} {vars(own.copy())!r}"


def test_documents_in_and_out(db: CouchDB) -> None:
    """What is saved is read again, and has its revision."""
    doc = db.save(Document({"_id": "d", "n": 1, "deep": {"list": [1, 2]}}))
    assert db.get("d").value == doc.value == db["d"]
    assert doc.rev.startswith("1-")
    doc["n"] = 2
    assert db.save(doc).rev.startswith("2-")
    assert db.db["d"]["n"] == 2


def test_a_document_gets_an_id(db: CouchDB) -> None:
    """One without an id gets one that is unique."""
    first, second = db.save(Document({"a": 1})), db.save(Document({"a": 1}))
    assert first.id != second.id
    assert db.get(first.id)["a"] == 1


def test_a_missing_document_is_a_value_error(db: CouchDB) -> None:
    """As the classic client has it; and one of ours, too."""
    with pytest.raises(ValueError, match="gone"):
        db.get("gone")
    with pytest.raises(TokenMissing):
        db["gone"]
    assert issubclass(DocumentMissing, TokenMissing)
    assert db.db.get("gone") is None
    assert db.db.get("gone", 5) == 5
    assert "gone" not in db.db


def test_a_conflict_is_told(db: CouchDB) -> None:
    """A document that was changed meanwhile is not written over."""
    db.save(Document({"_id": "d", "n": 1}))
    mine, theirs = db.get("d"), db.get("d")
    theirs["n"] = 2
    db.save(theirs)
    mine["n"] = 3
    with pytest.raises(Conflict):
        db.save(mine)
    assert db["d"]["n"] == 2
    with pytest.raises(Conflict):
        db.delete(mine)
    db.delete(theirs)
    with pytest.raises(ValueError, match="d"):
        db.get("d")


def test_many_documents(db: CouchDB) -> None:
    """Each is written for itself; the answer tells which were."""
    fill(db, "b")
    docs = [Document({"_id": name}) for name in "abc"]
    assert db.save_documents(docs) == [True, False, True]
    assert docs[0].rev.startswith("1-")
    with pytest.raises(AttributeError):
        _ = docs[1].rev
    assert db.delete_documents([docs[0], docs[1], docs[2]]) == [True, False, True]
    assert "a" not in db.db
    assert "b" in db.db


def test_views(db: CouchDB) -> None:
    """A view's rows have id, key and value, and its parameters are those of CouchDB."""
    fill(db, *"abcde")
    found = db.view("todo")
    assert [(row.id, row.key, row.value) for row in found] == [(n, n, n) for n in "abcde"]
    assert (len(found), found.total_rows, found.offset) == (5, 5, 0)
    assert found.rows[0]["id"] == "a"
    assert ids(db.view("todo", limit=2)) == ["a", "b"]
    assert ids(db.view("todo", skip=3)) == ["d", "e"]
    assert ids(db.view("todo", startkey="b", endkey="d")) == ["b", "c", "d"]
    assert ids(db.view("todo", startkey="b", endkey="d", inclusive_end=False)) == ["b", "c"]
    assert ids(db.view("todo", descending=True, limit=2)) == ["e", "d"]
    assert ids(db.view("todo", descending=True, startkey="c", endkey="b")) == ["c", "b"]
    assert ids(db.view("todo", key="c")) == ["c"]
    assert ids(db.view("todo", keys=["d", "a"])) == ["d", "a"]
    assert db.view("todo", startkey="c", limit=1).offset == 2
    row = db.view("todo", key="c", include_docs=True).rows[0]
    assert row.doc is not None
    assert row.doc["input"] == "c"
    assert ids(db.view("locked")) == []
    with pytest.raises(ViewMissing, match="Monitor/todo"):
        db.view("nothing")
    with pytest.raises(ViewMissing):
        db.view("todo", design_doc="Nowhere")


def test_counting_views(db: CouchDB) -> None:
    """``overview_total`` counts, in all or by state, or gives a row a token."""
    assert db.view("overview_total").rows == []
    fill(db, *"abc")
    fill(db, "x", lock=1, done=2, exit_code=3)
    assert [(r.key, r.value) for r in db.view("overview_total")] == [(None, 4)]
    assert [(r.key, r.value) for r in db.view("overview_total", group=True)] == [
        ("error", 1),
        ("todo", 3),
    ]
    assert [(r.key, r.value) for r in db.view("overview_total", group=True, key="todo")] == [
        ("todo", 3)
    ]
    every = db.view("overview_total", reduce=False)
    assert [(r.id, r.key, r.value) for r in every][:2] == [("x", "error", 1), ("a", "todo", 1)]


def test_parameters_that_cannot_be(db: CouchDB) -> None:
    """They are refused, in both stores."""
    fill(db, "a")
    with pytest.raises(Refused):
        db.view("todo", group=True)
    with pytest.raises(Refused):
        db.view("todo", limit="many")


def test_all_documents(db: CouchDB) -> None:
    """``_all_docs`` is a view too, and the database can be iterated."""
    fill(db, *"abc")
    rows = db.db.view("_all_docs", startkey="a", endkey="c")
    assert ids(rows) == ["a", "b", "c"]
    assert rows.rows[0].value["rev"] == db["a"]["_rev"]
    assert [name for name in db.db if not name.startswith("_")] == ["a", "b", "c"]
    assert len(db.db) == db.doc_count() == db.db.info()["doc_count"] == 4


def test_documents_of_a_view(db: CouchDB) -> None:
    """They are read many at a time; one is chosen among the first rows."""
    fill(db, *"abc")
    assert [doc.id for doc in db.get_from_view("todo")] == ["a", "b", "c"]
    assert [doc.id for doc in db.get_from_view("todo", design_doc="Monitor", limit=1)] == ["a"]
    assert {db.get_single_from_view("todo", window_size=3).id for _ in range(40)} == set("abc")
    assert db.get_single_from_view("todo").id == "a"
    with pytest.raises(IndexError):
        db.get_single_from_view("done")


def test_whether_a_view_has_rows(db: CouchDB) -> None:
    """A view that is not there has none, unless the caller wants to know."""
    assert not db.is_view_nonempty("todo")
    fill(db, "a")
    assert db.is_view_nonempty("todo")
    assert db.is_view_nonempty("todo", design_doc="Monitor")
    assert not db.is_view_nonempty("nothing")
    with pytest.raises(ViewMissing):
        db.is_view_nonempty("nothing", strict=True)


def test_deleting_a_view_s_documents(db: CouchDB) -> None:
    """All are deleted by few requests, and no others."""
    fill(db, *(f"t{i:04}" for i in range(700)))
    fill(db, "done", lock=1, done=1, exit_code=0)
    assert db.delete_from_view("todo") == [True] * 700
    assert not db.is_view_nonempty("todo")
    assert db.get("done").id == "done"


def test_attachments(db: CouchDB) -> None:
    """They go in with the document or by themselves, and come out by a stub."""
    task = Task({"_id": "t", "type": "token"})
    task.put_attachment("a.txt", "words")
    task.put_attachment("b.bin", bytes(range(256)), "application/x-own")
    db.save(task)
    there = Task(db.get("t"))
    assert there.get_attachment("a.txt")["length"] == 5
    assert "data" not in there.get_attachment("a.txt")
    assert there.get_attachment("b.bin", db)["data"] == bytes(range(256))
    assert there.get_attachment("b.bin")["content_type"] == "application/x-own"
    there["note"] = 1
    db.save(there)
    assert Task(db.get("t")).get_attachment("a.txt", db)["data"] == b"words"
    db.save(there.remove_attachment("a.txt"))
    assert set(db["t"]["_attachments"]) == {"b.bin"}
    doc = db["t"]
    db.db.put_attachment(doc, "more", "c.txt")
    assert db.db.get_attachment("t", "c.txt").read() == b"more"
    assert db.db.get_attachment("t", "none", "nothing") == "nothing"
    db.db.delete_attachment(doc, "c.txt")
    assert db.db.get_attachment(doc, "c.txt") is None
    assert doc["_rev"] == db["t"]["_rev"]


def test_a_read_attachment_is_not_written_back(db: CouchDB) -> None:
    """Reading its bytes leaves the stub, so that the next save does not send them again."""
    task = Task({"_id": "t", "type": "token"})
    task.put_attachment("a.txt", "words")
    db.save(task)
    there = Task(db.get("t"))
    there.get_attachment("a.txt", db)
    assert base64.b64encode(b"words").decode() not in repr(there.value)


def test_a_copy_is_a_client_of_its_own(db: CouchDB) -> None:
    """It reaches the same database, and shares what is held."""
    fill(db, "a")
    other = db.copy()
    assert other.get("a").id == "a"
    assert other.pool is not db.pool
    assert other.holding is db.holding


def test_a_view_of_one_s_own(db: CouchDB) -> None:
    """A classic map function makes a view in both stores; again it is no change."""
    for name in ("one", "four"):
        fill(db, name, cores=1 if name == "one" else 4)
    db.add_view("todo", MAP, design_doc="SingleCore")
    rev = db["_design/SingleCore"]["_rev"]
    db.add_view("todo", MAP, design_doc="SingleCore")
    assert db["_design/SingleCore"]["_rev"] == rev
    assert ids(db.view("todo", design_doc="SingleCore")) == ["one"]


def test_a_view_of_one_s_own_with_or(db: CouchDB) -> None:
    """CouchDB runs the function, the embedded store reads it; both show the same tokens."""
    fill(db, "a", cores=1)
    fill(db, "b", cores=1, gpus=1)
    fill(db, "c", cores=2, gpus=1)
    code = MAP.replace("doc.cores == 1", "(doc.cores == 1 || doc.cores == 2) && doc.gpus == 1")
    db.add_view("todo", code, design_doc="Gpus")
    assert ids(db.view("todo", design_doc="Gpus")) == ["b", "c"]


def test_javascript_the_embedded_store_cannot_run(url: str, db: CouchDB) -> None:
    """It says so in one line, and CouchDB runs it."""
    code = "function(doc) { emit(doc.input, 1); }"
    fill(db, "a")
    if url.startswith("sqlite:"):
        with pytest.raises(Unsupported, match="no JavaScript"):
            db.add_view("by_input", code)
        with pytest.raises(Conflict, match="one condition"):
            db.add_view("todo", MAP)
    else:
        db.add_view("by_input", code, reduce_fun="_sum", design_doc="Own")
        assert [(r.key, r.value) for r in db.view("by_input", "Own", group=True)] == [("a", 1)]
        db.add_view("other", code, design_doc="Own")
        assert set(db["_design/Own"]["views"]) == {"by_input", "other"}


def test_users(url: str, db: CouchDB) -> None:
    """Who may use a CouchDB database is set list by list; a file has no users."""
    if url.startswith("sqlite:"):
        with pytest.raises(Unsupported):
            db.set_users(members=["anna"])
        return
    db.set_users(admins=["anna"], member_roles=["group"])
    db.set_users(members=["berta"])
    found = db.pool.store.security()
    assert found["admins"]["names"] == ["anna"]
    assert found["members"]["names"] == ["berta"]
    assert found["members"]["roles"] == ["group"]


def test_a_log_never_disturbs_the_program(
    db: CouchDB, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a record that cannot be formatted, nor one that writing a record makes."""
    log = logging.getLogger("tests.of.the.log")
    save, written = db.save, []

    def chatty(doc: Any) -> Any:
        log.warning("writing")
        written.append(doc["msg"])
        return save(doc)

    monkeypatch.setattr(db, "save", chatty)
    handler = CouchDBLogger("", "", client=db)
    log.addHandler(handler)
    try:
        log.propagate = False
        log.warning("%d", "no number")
        log.warning("after")
    finally:
        log.propagate = True
        log.removeHandler(handler)
    assert written == ["after"]
    assert "was not written" in capsys.readouterr().err


def test_a_log_in_the_database(db: CouchDB, capsys: pytest.CaptureFixture[str]) -> None:
    """Records become documents, each with an id of its own; a failure is told, not raised."""
    handler = CouchDBLogger("", "", client=db)
    log = logging.getLogger("tests.of.the.log")
    log.addHandler(handler)
    try:
        log.warning("one %s", "word")
        log.warning("two")
        db.db.save = None  # type: ignore[method-assign, assignment]
        log.warning("three")
    finally:
        log.removeHandler(handler)
    rows = db.db.view("_all_docs", startkey="log_", endkey="log_\uffff", include_docs=True)
    docs = [row.doc for row in rows if row.doc is not None]
    assert sorted(doc["msg"] for doc in docs) == ["one word", "two"]
    assert {doc["type"] for doc in docs} == {"log"}
    assert "was not written" in capsys.readouterr().err
