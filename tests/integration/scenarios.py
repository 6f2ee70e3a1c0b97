"""Scenarios of the classic API, to be run by the classic client and by ours.

``python scenarios.py NAME URL DATABASE USER PASSWORD``: each works on an empty database with the
standard views and the tokens ``t0`` to ``t4``, and returns what its calls returned. That is printed
as JSON, with all documents as they are then.
"""

import json
import sys
from typing import Any

from picas.actors import AbstractRunActor, RunActor
from picas.clients import CouchDB
from picas.documents import Document, Job, Task, User
from picas.executers import execute
from picas.generators import TokenGenerator
from picas.iterators import EndlessViewIterator, PrioritizedViewIterator, TaskViewIterator
from picas.modifiers import BasicTokenModifier, NestedTokenModifier
from picas.util import Timer, merge_dicts, time_elapsed

VIEWS = {
    "todo": "doc.lock == 0 && doc.done == 0",
    "locked": "doc.lock > 0 && doc.done == 0",
    "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}
MAP = "function(doc) { if (doc.type == 'token' && %s) { emit(doc._id, doc._id); } }"


class Actor(RunActor):
    """Closes tokens as the examples of the classic client do."""

    modifier = BasicTokenModifier()

    def process_task(self, token: Any) -> None:
        work = token["input"]
        if work == "raise":
            raise ValueError("no luck")
        _, token["exit_code"], out, err = execute(["sh", "-c", str(work)])
        token.put_attachment(f"logs_{token.id}.out", out)
        token.put_attachment(f"logs_{token.id}.err", err)
        self.modifier.close(token)


def told(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call returns, or the kinds of its error that scripts catch."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - to be compared
        # Ours are the couchdb package's too, where a script has loaded that; here none has.
        same = {"Conflict": "ResourceConflict", "NotFound": "ResourceNotFound"}
        names = {same.get(kind.__name__, kind.__name__) for kind in type(error).__mro__}
        known = ("IndexError", "ValueError", "KeyError", "AttributeError", "NotImplementedError")
        return [
            "raised",
            *(n for n in (*known, "ResourceConflict", "ResourceNotFound") if n in names),
        ]


def documents(db: Any) -> Any:
    doc = db.get("t0")
    doc["note"] = [1, {"a": None}]
    first = db.save(doc)
    stale = Document({"_id": "t0", "_rev": "1-0"})
    return [
        first["note"],
        told(db.save, stale),
        told(db.get, "nothing"),
        told(lambda: db["nothing"]),
        db["t0"]["note"],
        "t0" in db.get("t0").value["_id"],
        len(db.get("t1")),
        sorted(db.get("t1")),
    ]


def saving(db: Any) -> Any:
    docs = [Document({"_id": name}) for name in ("n0", "t0", "n1")]
    saved = db.save_documents(docs)
    return [saved, db.doc_count(), sorted(docs[0].value), sorted(docs[1].value)]


def deleting(db: Any) -> Any:
    deleted = db.delete_documents([db.get("t0"), db.get("t1")])
    db.delete(db.get("t2"))
    stale = told(db.delete, Document({"_id": "t3", "_rev": "1-0"}))
    return [deleted, stale, db.doc_count(), db.delete_from_view("todo"), db.doc_count()]


def deleting_what_was_changed(db: Any) -> Any:
    try:
        return db.delete_documents([Document({"_id": "t1", "_rev": "1-0"})])
    except TypeError as error:
        return str(error)


def views(db: Any) -> Any:
    rows = db.view("todo", limit=2)
    return [
        [[r.id, r.key, r.value] for r in rows],
        [r.id for r in db.view("todo", descending=True)],
        [r.id for r in db.view("todo", startkey="t1", endkey="t3")],
        [r.key for r in db.view("todo", design_doc="Monitor", skip=3)],
        rows.total_rows,
        rows.offset,
        [doc.id for doc in db.get_from_view("todo", limit=3)],
        db.get_single_from_view("todo").id,
        told(db.get_single_from_view, "done"),
        told(lambda: db.view("nothing").rows),
        db.is_view_nonempty("todo"),
        db.is_view_nonempty("error"),
        db.is_view_nonempty("nothing"),
    ]


def adding_views(db: Any) -> Any:
    db.add_view("by_input", "function(doc) { emit(doc.input, 1); }", reduce_fun="_sum")
    db.add_view("other", "function(doc) { emit(doc._id, 1); }", design_doc="Own")
    rows = db.view("by_input", group=True)
    design = db.db["_design/Own"]
    return [[[r.key, r.value] for r in rows], design["views"], design["language"]]


def users(db: Any) -> Any:
    db.set_users(admins=["anna"], members=["berta"], member_roles=["group"])
    return "set"


def states_of_a_task(db: Any) -> Any:
    task = Task({"_id": "x", "type": "token", "input": "a"})
    log = [task.is_done(), task.has_error(), task.get_errors()]
    task.lock()
    task.done()
    log += [task.is_done(), sorted(task.value)]
    task.scrub()
    log += [task["scrub_count"], task["lock"], task["done"]]
    task.error("it failed")
    log += [task.has_error(), len(task.get_errors()), sorted(task.get_errors()[0])]
    task.output, task.uploads = {"o": 1}, {"u": 2}
    db.save(task)
    return log


def defaults_of_a_task(db: Any) -> Any:
    task = Task()
    return [{k: v for k, v in task.value.items() if k != "_id"}, task.id.startswith("task_")]


def jobs_and_users(db: Any) -> Any:
    job = Job({"_id": "j"})
    job.queue("sbatch", "here").start().finish()
    db.save(job)
    job.archive()
    user = User("anna", "secret", ["role"])
    return [user.value, told(Job, {}), job.is_done(), job.id.startswith("archived-j-")]


def attachments(db: Any) -> Any:
    task = Task(db.get("t0"))
    task.put_attachment("a.txt", "words")
    task.put_attachment("b.json", b"{}")
    task.put_attachment("c", b"\x00\xff", "application/own")
    db.save(task)
    there = Task(db.get("t0"))
    there.remove_attachment("a.txt")
    db.save(there)
    return [
        there.get_attachment("c", db)["data"].hex(),
        sorted(Task(db.get("t0"))["_attachments"]),
        told(there.get_attachment, "none"),
        db.db.get_attachment("t0", "b.json").read().decode(),
    ]


def modifiers(db: Any) -> Any:
    token = db.get("t0")
    change = BasicTokenModifier()
    change.lock(token)
    locked = token["lock"] > 0
    change.close(token)
    change.unclose(token)
    change.add_output(token, {"output": 5})
    change.scrub(token)
    change.set_error(token)
    db.save(token)
    record: Any = {
        "token": TokenGenerator.get_empty_token(),
        "list": [TokenGenerator.get_empty_token()],
    }
    nested = NestedTokenModifier()
    nested.lock("token", record)
    nested.close(["id", "list", 0], record)
    nested.scrub(["id", "list", 0], record)
    return [locked, nested.get_token("token", record)["done"], record["list"][0]["scrub_count"]]


def small_things(db: Any) -> Any:
    a = {"x": {"y": 1}}
    merged = merge_dicts(a, {"z": 2})
    merged["x"]["y"] = 5
    _, code, out, err = execute(["sh", "-c", "echo o; echo e >&2; exit 3"])
    return [a, merged, time_elapsed(Timer(), 60), code, out.decode(), err.decode()]


def iterator(db: Any) -> Any:
    tasks = list(TaskViewIterator(db, "todo"))
    locked = [task["lock"] > 0 for task in tasks]
    for task in sorted(tasks, key=lambda task: task.id)[:2]:
        task["exit_code"] = 0
        db.save(task.done())
    return [sorted(task.id for task in tasks), locked]


def endless(db: Any) -> Any:
    looks: list[int] = []

    def enough(limit: int) -> bool:
        looks.append(1)
        return len(looks) > limit

    inner = TaskViewIterator(db, "todo")
    found = [task.id for task in EndlessViewIterator(inner, 0.01, enough, limit=7)]
    return [sorted(found), len(looks)]


def prioritized(db: Any) -> Any:
    doc = db.get("t4")
    doc["type"], doc["high"] = "token", True
    doc["lock"] = 0
    db.save(doc)
    db.add_view("high", MAP % (VIEWS["todo"] + " && doc.high"))
    return next(task.id for task in PrioritizedViewIterator(db, "high", "todo"))


def actor(db: Any) -> Any:
    made = Actor(db)
    made.run()
    return [made.tasks_processed, made.current_task]


def actor_with_tries(db: Any) -> Any:
    made = Actor(db)
    made.run(max_scrub=2)
    return made.tasks_processed


def actor_that_stops(db: Any) -> Any:
    made = Actor(db)
    made.run(max_tasks=2)
    other = Actor(db)
    asked: list[str] = []

    def enough(word: str) -> bool:
        asked.append(word)
        return True

    other.run(stop_function=enough, word="enough")
    left = len(db.get_from_view("todo"))
    for view in VIEWS:
        db.delete_from_view(view)  # which tokens it were is left to chance
    return [made.tasks_processed, other.tasks_processed, asked, left]


def actor_that_marks_nothing(db: Any) -> Any:
    class Bare(AbstractRunActor):
        def process_task(self, token: Any) -> None:
            token["output"] = "seen"

    made = Bare(db)
    made.run()
    return made.tasks_processed


def actor_out_of_time(db: Any) -> Any:
    class Slow(RunActor):
        def process_task(self, token: Any) -> None:
            import time

            for _ in range(200):
                time.sleep(0.05)

    made = Slow(db, startkey="t0", endkey="t0")
    made.run(max_token_time=1)
    return made.tasks_processed


INPUTS = ["echo hello", "exit 3", "raise", "echo err >&2", "true"]


def main(name: str, url: str, database: str, username: str, password: str) -> None:
    db = CouchDB(url=url, db=database, username=username, password=password)
    for view, condition in VIEWS.items():
        db.add_view(view, MAP % condition)
    tokens = [
        Task({"_id": f"t{i}", "type": "token", "input": work}) for i, work in enumerate(INPUTS)
    ]
    assert all(db.save_documents(tokens))
    returned = globals()[name](db)
    rows = db.db.view("_all_docs", include_docs=True)
    docs = {row["id"]: dict(row["doc"]) for row in rows if not row["id"].startswith("_design/")}
    print(json.dumps({"returned": returned, "documents": docs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
