"""``picas export``, and the demonstration: results for other programs, and for a first look."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.cli import PICAS, clean_environment, fresh_pool, home_of, run_picas

from picas import token
from picas.pool import connect

TOKENS = (
    {"_id": "a", "input": "one, two", "params": {"q": 0.5, "tag": None}},
    {"_id": "b", "input": {"deep": [1]}, "note": 'say "é"\nand more', "params.q": 7},
    {"_id": "c", "input": "three", "ok": True},
)


@pytest.fixture(params=["embedded", "couchdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A pool of each kind with three tokens."""
    url = fresh_pool(request, request.param, tmp_path)
    _fill(url)
    return url


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose embedded pool has three tokens."""
    _fill(fresh_pool(request, "embedded", tmp_path))
    return tmp_path


def _fill(url: str) -> None:
    with connect(url, create=False) as pool:
        list(pool.push(token.new(fields) for fields in TOKENS))


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_jsonl_is_the_documents(url: str, tmp_path: Path) -> None:
    """A line a token, in the order of the ids, with all that the pool has of it."""
    with connect(url) as pool:
        (doc,) = pool.store.read(["a"])
        assert doc is not None
        stub = {"content_type": "text/plain", "data": "aGk="}
        pool.store.write([{**doc, "_attachments": {"hi.txt": stub}}])
        wanted = list(pool.find("Monitor/todo"))
    done = run_picas("export", "Monitor/todo", "--pool", url, cwd=tmp_path, check=0)
    assert [json.loads(line) for line in done.stdout.splitlines()] == wanted
    assert wanted[0]["_attachments"]["hi.txt"]["length"] == 2
    assert "data" not in wanted[0]["_attachments"]["hi.txt"]


def test_csv_has_every_column(url: str, tmp_path: Path) -> None:
    """The columns are those of any token; what is no text is JSON, what is not there is empty."""
    done = run_picas("export", "todo", "--format", "csv", "--pool", url, cwd=tmp_path, check=0)
    a, b, c = rows(done.stdout)
    assert {"_id", "_rev", "note", "ok", "params", "params.q"} <= a.keys()
    assert json.loads(a["params"]) == {"q": 0.5, "tag": None}
    assert a["input"] == "one, two"
    assert (a["note"], a["ok"], c["ok"]) == ("", "", "true")
    assert b["input"] == '{"deep":[1]}'
    assert b["note"] == 'say "é"\nand more'


def test_chosen_fields(folder: Path) -> None:
    """Inner fields by dots (unless a field is called so), in the order asked; as CSV and JSON."""
    args = ("export", "todo", "--fields", "params.q,_id,nowhere.x")
    text = run_picas(*args, "--format", "csv", cwd=folder, check=0).stdout
    assert text == "params.q,_id,nowhere.x\n0.5,a,\n7,b,\n,c,\n"
    lines = run_picas(*args, cwd=folder, check=0).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"params.q": 0.5, "_id": "a"},
        {"params.q": 7, "_id": "b"},
        {"_id": "c"},
    ]


def test_utf8_whatever_the_locale(folder: Path) -> None:
    """What is exported does not depend on the terminal's encoding."""
    env = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run_picas("export", "todo", cwd=folder, env=env, check=0)
    assert "é" in done.stdout


def test_a_file_appears_whole(folder: Path) -> None:
    """The name's ending tells the format; nothing but the file is left in the folder."""
    before = {path.name for path in folder.iterdir()}
    (folder / "out.csv").write_text("old")
    done = run_picas("export", "todo", "-o", "out.csv", cwd=folder, check=0)
    assert done.stdout == "wrote 3 tokens of Monitor/todo to out.csv\n"
    assert len(rows((folder / "out.csv").read_text())) == 3
    assert {path.name for path in folder.iterdir()} - before == {"out.csv"}


def test_a_failure_keeps_the_old_file(folder: Path) -> None:
    """A view that is not there leaves what was written before."""
    (folder / "out.jsonl").write_text("old")
    run_picas("export", "Monitor/nothing", "-o", "out.jsonl", cwd=folder, check=5)
    assert (folder / "out.jsonl").read_text() == "old"
    assert not list(folder.glob(".*"))


def test_links_and_devices_are_kept(folder: Path) -> None:
    """A link is followed, and what is no plain file is written, not replaced."""
    (folder / "link").symlink_to("target")
    run_picas("export", "todo", "-o", "link", cwd=folder, check=0)
    assert (folder / "link").is_symlink()
    assert len((folder / "target").read_text().splitlines()) == 3
    run_picas("export", "todo", "-o", "/dev/null", cwd=folder, check=0)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("todo", "-o", "missing/out.csv"), 2),
        (("todo", "-o", "."), 2),
        (("todo", "--fields", "a,,b"), 2),
        (("todo", "--fields", "a,a"), 2),
        (("todo", "--fields", "a..b"), 2),
        (("todo", "--format", "xml"), 2),
        (("a/b/c",), 2),
        (("Other/todo",), 5),
        ((), 2),
    ],
)
def test_what_cannot_be_exported(args: tuple[str, ...], status: int, folder: Path) -> None:
    """A clear message, the right status, nothing on standard output."""
    done = run_picas("export", *args, cwd=folder, check=status)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_empty_view(folder: Path) -> None:
    """No tokens: no lines, or a header alone."""
    assert run_picas("export", "done", cwd=folder, check=0).stdout == ""
    assert run_picas("export", "done", "--format", "csv", cwd=folder, check=0).stdout == "_id\n"


def test_a_reader_that_leaves_early(tmp_path: Path) -> None:
    """``picas export … | head -1`` ends quietly, with status 141, however much there is."""
    lines = "".join(f"run {i}\n" for i in range(3_000))
    run_picas("push", cwd=tmp_path, input=lines, check=0)
    with subprocess.Popen(
        [PICAS, "export", "todo"],
        cwd=tmp_path,
        env=clean_environment(home_of(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["type"] == "token"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_the_demo(tmp_path: Path) -> None:
    """It shows every command and what comes of it, in a folder of its own."""
    done = run_picas(
        "demo", "--folder", "demo", cwd=tmp_path, env={"PICAS_POOL": "sqlite:///mine.db"}, check=0
    )
    for shown in (
        "$ export PICAS_POOL=sqlite:///picas.db",
        "$ picas push quick.txt\npushed 3 tokens to sqlite:///picas.db",
        "$ picas run --slots 2",
        "$ picas status",
        "$ picas logs token_",
        "\nthis is token ",
    ):
        assert shown in done.stdout
    with connect(f"sqlite:///{tmp_path}/demo/picas.db") as pool:
        assert pool.counts()[token.State.DONE] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_demo_wants_an_empty_folder(folder: Path) -> None:
    """Files that are there are never overwritten."""
    before = {path.name for path in folder.iterdir()}
    done = run_picas("demo", "--folder", ".", cwd=folder, check=2)
    assert "not empty" in done.stderr
    assert {path.name for path in folder.iterdir()} == before
