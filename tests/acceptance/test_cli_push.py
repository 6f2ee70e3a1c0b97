"""``picas push``: what goes in, what is refused, and what is said about it."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.cli import (
    PICAS,
    answer_picas,
    clean_environment,
    fresh_pool,
    home_of,
    run_picas,
)

from picas import token
from picas.pool import connect
from picas.token import Document

QUICK = "echo 'this is token A'\necho 'this is token B'\necho 'this is token C'\n"


@pytest.fixture(params=["embedded", "couchdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty pool of each kind."""
    return fresh_pool(request, request.param, tmp_path)


def tokens(url: str) -> list[Document]:
    """All tokens of a pool that are todo."""
    with connect(url, create=False) as pool:
        return list(pool.find("Monitor/todo"))


def local(folder: Path) -> str:
    """The embedded pool that commands use in a folder."""
    return f"sqlite:///{folder}/picas.db"


def test_lines_become_tokens_once(url: str, tmp_path: Path) -> None:
    """Each line is a token; the same push again adds nothing; both are counted."""
    (tmp_path / "quick.txt").write_text(QUICK)
    env = {"PICAS_POOL": url}
    first = run_picas("push", "quick.txt", cwd=tmp_path, env=env, check=0)
    again = run_picas("push", "quick.txt", cwd=tmp_path, env=env, check=0)
    assert first.stdout.startswith("pushed 3 tokens to ")
    assert first.stdout.endswith(" (Monitor/todo)\n")
    assert again.stdout.startswith("pushed 0 tokens to ")
    assert again.stdout.endswith("; 3 were there already\n")
    assert first.stderr == again.stderr == ""
    assert sorted(doc["input"] for doc in tokens(url)) == QUICK.splitlines()


def test_equal_lines_are_tokens_of_their_own(url: str, tmp_path: Path) -> None:
    """Three equal lines are three tokens, and the same three when they are pushed again."""
    for _ in range(2):
        done = run_picas("push", "-", "--pool", url, cwd=tmp_path, input="x\nx\nx\n", check=0)
    assert "pushed 0 tokens" in done.stdout
    assert [doc["input"] for doc in tokens(url)] == ["x", "x", "x"]


def test_other_work_under_an_id_is_left_alone(url: str, tmp_path: Path) -> None:
    """An id that has other work is listed, kept as it is, and the status is 6."""
    run_picas("push", "--prefix", "t", "--pool", url, cwd=tmp_path, input="a\nb\n", check=0)
    done = run_picas(
        "push", "--prefix", "t", "--pool", url, cwd=tmp_path, input="a\nB\nc\n", check=6
    )
    assert "pushed 1 token to" in done.stdout
    assert "; 1 was there already" in done.stdout
    assert "1 token not pushed: the pool has other work under the same id" in done.stderr
    assert done.stderr.splitlines()[-1] == "  t1"
    assert [doc["input"] for doc in tokens(url)] == ["a", "b", "c"]


def test_the_summary_for_programs(url: str, tmp_path: Path) -> None:
    """--summary-json tells the same figures."""
    args = ("push", "--summary-json", "--pool", url)
    run_picas(*args, cwd=tmp_path, input="a\n", check=0)
    told = json.loads(run_picas(*args, cwd=tmp_path, input="a\nb\n", check=0).stdout)
    assert told["view"] == "Monitor/todo"
    assert told.pop("pool").split(":")[0] in ("sqlite", "http")
    figures = {"pushed": 1, "present": 1, "different": 0, "refused": 0, "skipped": 0}
    assert figures.items() <= told.items()


def test_more_than_ten_clashes_are_counted(tmp_path: Path) -> None:
    """Ten ids are listed, the others are a number."""
    lines = "".join(f"{i}\n" for i in range(15))
    run_picas("push", "--prefix", "t", cwd=tmp_path, input=lines, check=0)
    done = run_picas("push", "--prefix", "t", cwd=tmp_path, input=lines.replace("\n", "x\n"))
    assert done.returncode == 6
    assert [line for line in done.stderr.splitlines() if line.startswith("  t")] == [
        f"  t{i}" for i in range(10)
    ]
    assert done.stderr.endswith("  … and 5 more\n")


def test_json_lines_and_an_array(tmp_path: Path) -> None:
    """Objects keep their fields, and both forms of JSON give the same tokens."""
    rows = [{"input": "x", "q": 1.5, "tags": ["a"]}, {"_id": "mine", "input": {"n": 1}}]
    lines = "\n".join(json.dumps(row) for row in rows)
    run_picas("push", "--json", cwd=tmp_path, input=lines, check=0)
    done = run_picas("push", "--json", cwd=tmp_path, input=json.dumps(rows), check=0)
    assert "2 were there already" in done.stdout
    mine, other = tokens(local(tmp_path))
    assert mine["_id"] == "mine"
    assert mine["input"] == {"n": 1}
    assert (other["q"], other["tags"]) == (1.5, ["a"])


def test_csv_with_set(tmp_path: Path) -> None:
    """A row is a token; its cells and what --set says are fields."""
    run_picas(
        *("push", "--csv", "--set", "cores=4", "--set", "site.name=sara"),
        cwd=tmp_path,
        input='input,q\n"a, b",0.5\n',
        check=0,
    )
    (doc,) = tokens(local(tmp_path))
    assert (doc["input"], doc["q"], doc["cores"]) == ("a, b", 0.5, 4)
    assert doc["site"] == {"name": "sara"}


def test_a_sweep(tmp_path: Path) -> None:
    """All combinations, the template filled in, each value a field."""
    args = ("push", "--sweep", "q=0.1:0.3:0.1", "--sweep", "d=256,512", "--template", "f {q} {d}")
    done = run_picas(*args, cwd=tmp_path, check=0)
    assert done.stdout == "pushed 6 tokens to sqlite:///picas.db (Monitor/todo)\n"
    wanted = {f"f {q} {d}" for q in ("0.1", "0.2", "0.3") for d in (256, 512)}
    docs = tokens(local(tmp_path))
    assert {doc["input"] for doc in docs} == wanted
    assert {doc["q"] for doc in docs} == {0.1, 0.2, 0.3}


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    """It shows the first tokens and the count; no pool is made or asked."""
    lines = "".join(f"run {i}\n" for i in range(8))
    args = ("push", "--dry-run", "--set", "cores=2", "--pool", "http://127.0.0.1:9/nothing")
    done = run_picas(*args, cwd=tmp_path, input=lines, check=0)
    shown = done.stdout.splitlines()
    assert shown[0].split(maxsplit=1)[1] == '{"input": "run 0", "cores": 2}'
    assert shown[5:] == ["… and 3 more", "8 tokens would be pushed (--dry-run)"]
    told = run_picas(*args, "--summary-json", cwd=tmp_path, input=lines, check=0)
    assert json.loads(told.stdout) == {"tokens": 8, "skipped": 0, "dry_run": True}
    assert list(tmp_path.iterdir()) == []


BAD = {
    "line-too-long": ((), b"a\n" + b"x" * 9_000_000 + b"\nb\n", "line 2: 9,000,000 bytes"),
    "not-utf8": ((), b"a\nb\nc\xff\n", "line 3: not UTF-8: byte 0xff at byte 2"),
    "broken-json": (("--json",), b'{"input": 1}\n{"input": \n', "line 2: not JSON"),
    "nan": (("--json",), b'{"input": "x", "q": NaN}\n', "line 1: "),
    "field-of-couchdb": (("--json",), b'{"_secret": 1}\n', "line 1: "),
    "bad-id": (("--json",), b'{"_id": "_design/x"}\n', "line 1: "),
    "id-twice": (("--json",), b'{"_id": "a"}\n\n{"_id": "a"}\n', "line 3: the id 'a' comes twice"),
    "field-of-the-pool": (("--json",), b'{"lock": 5}\n', "line 1: the field 'lock'"),
    "name-twice": (("--json",), b'{"a": 1, "a": 2}\n', "line 1: the name 'a' stands twice"),
    "no-object": (("--json",), b"[1]", "line 1: not a JSON object"),
    "open-array": (("--json",), b'[{"a": 1},', "line 1: not JSON"),
    "csv-cells": (("--csv",), b"input,q\na,1\nb,1,2\n", "line 3: number of cells 3"),
    "csv-quote": (("--csv",), b'input\n"a\n', "not CSV"),
    "csv-header": (("--csv",), b"input,input\na,b\n", "names the column 'input' twice"),
    "csv-id": (("--csv",), b"id,q\na,1\n", "line 1: a column 'id', but none '_id': did you mean"),
    "empty": ((), b"", "no tokens in work.txt"),
    "blank": ((), b"\n  \n", "no tokens in work.txt"),
    "prefix": (("--prefix", "_x"), b"a\n", "prefix"),
    "set": (("--set", "cores"), b"a\n", "write NAME=VALUE"),
    "set-of-the-pool": (("--set", "lock=1"), b"a\n", "kept by PiCaS itself"),
}


@pytest.mark.parametrize(("options", "content", "told"), BAD.values(), ids=BAD)
def test_malformed_input(
    options: tuple[str, ...], content: bytes, told: str, tmp_path: Path
) -> None:
    """One line says what and where, nothing is pushed, no pool is made; the status is 2."""
    (tmp_path / "work.txt").write_bytes(content)
    done = run_picas("push", *options, "work.txt", cwd=tmp_path, check=2)
    assert told in done.stderr
    assert done.stderr.startswith("picas: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["work.txt"]


@pytest.mark.parametrize(
    ("name", "told"), [("missing", "No such file"), (".", "Is a directory"), ("a/b", "No such")]
)
def test_a_file_that_cannot_be_read(name: str, told: str, tmp_path: Path) -> None:
    """The message names the file and why."""
    done = run_picas("push", name, cwd=tmp_path, check=2)
    assert done.stderr.startswith(f"picas: cannot read {name}: {told}")


USAGE = {
    "two-formats": ("--json", "--csv"),
    "file-and-sweep": ("work.txt", "--sweep", "q=1:2"),
    "sweep-as-csv": ("--csv", "--sweep", "q=1:2"),
    "template-without-sweep": ("--template", "x"),
    "sweep-of-nothing": ("--sweep", "q=2:1"),
    "unknown-option": ("--fast",),
}


@pytest.mark.parametrize("args", USAGE.values(), ids=USAGE)
def test_wrong_options(args: tuple[str, ...], tmp_path: Path) -> None:
    """What makes no sense is a usage error, and nothing is made."""
    run_picas("push", *args, cwd=tmp_path, input="x\n", check=2)
    assert list(tmp_path.iterdir()) == []


def test_nothing_named_on_a_terminal(tmp_path: Path) -> None:
    """Without FILE a terminal is not waited for: the usage says what to give."""
    done = answer_picas("push", cwd=tmp_path)
    assert done.returncode == 2
    assert "name a FILE, or - for standard input, or --sweep" in done.stderr


def test_bad_lines_are_left_out_on_request(tmp_path: Path) -> None:
    """--skip-bad lists the first ten, counts them all, and pushes the rest."""
    lines = ['{"input": "good"}', *["{"] * 12, '{"input": "too"}']
    args = ("push", "--json", "--skip-bad", "--summary-json")
    done = run_picas(*args, cwd=tmp_path, input="\n".join(lines), check=0)
    assert "picas: left out what cannot become a token, 12 in all:" in done.stderr
    assert done.stderr.count("standard input, line ") == 10
    assert done.stderr.endswith("  … and 2 more\n")
    assert json.loads(done.stdout)["skipped"] == 12
    assert {doc["input"] for doc in tokens(local(tmp_path))} == {"good", "too"}


def test_nothing_but_bad_lines(tmp_path: Path) -> None:
    """If everything is left out there is nothing to push: the status is 2."""
    done = run_picas("push", "--json", "--skip-bad", cwd=tmp_path, input="{\n", check=2)
    assert done.stderr.endswith("picas: no tokens in standard input\n")


def test_a_line_over_the_limit(tmp_path: Path) -> None:
    """A byte too many is a mistake of the input: nothing is pushed, and the status is 2."""
    content = "small\n" + "x" * (token.MAX_TOKEN_BYTES + 1)
    done = run_picas("push", cwd=tmp_path, input=content, check=2)
    assert "line 2: 7,900,001 bytes, and a token can have 7,900,000" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_token_too_large_for_the_pool(url: str, tmp_path: Path) -> None:
    """What only the fields of --set make too large is listed, the others are pushed: status 6."""
    content = "x" * token.MAX_TOKEN_BYTES + "\nsmall\n"
    notes = [f"--set=note{n}={'y' * 60_000}" for n in range(2)]
    done = run_picas("push", *notes, "--pool", url, cwd=tmp_path, input=content, check=6)
    assert done.stdout.startswith("pushed 1 token to")
    assert "1 token not pushed: refused by the pool" in done.stderr
    assert [doc["input"] for doc in tokens(url)] == ["small"]


def test_a_missing_database(database: str, tmp_path: Path) -> None:
    """On CouchDB nothing is made silently: the message says how, without the password."""
    done = run_picas("push", "--pool", f"{database}x", cwd=tmp_path, input="x\n", check=5)
    assert "'picas init' makes it" in done.stderr
    assert "broken off" not in done.stderr
    assert database.split("@")[0].rpartition(":")[2] not in done.stderr


def test_a_wrong_password(database: str, tmp_path: Path) -> None:
    """The status tells a refusal from an absent server."""
    wrong = database.replace("@", "wrong@")
    run_picas("push", "--pool", wrong, cwd=tmp_path, input="x\n", check=4)


def test_a_server_that_is_away(tmp_path: Path) -> None:
    """It is told at once, not after a minute of trying."""
    start = time.monotonic()
    done = run_picas("push", "--pool", "http://127.0.0.1:9/x", cwd=tmp_path, input="x\n", check=3)
    assert time.monotonic() - start < 20
    assert "no answer from http://127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_pipe_is_a_file_too(tmp_path: Path) -> None:
    """A named pipe (or ``<(…)`` of a shell) can be read only once; it is pushed all the same."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["/bin/sh", "-c", "printf 'a\\nb\\n' > pipe"], cwd=tmp_path):
        run_picas("push", "pipe", cwd=tmp_path, check=0)
    assert {doc["input"] for doc in tokens(local(tmp_path))} == {"a", "b"}


def test_interrupted_and_pushed_again(tmp_path: Path) -> None:
    """Ctrl-C says how far it came and what to do; the same command then pushes the rest."""
    (tmp_path / "work.txt").write_text("".join(f"run {i}\n" for i in range(20_000)))
    command = [PICAS, "push", "work.txt"]
    env = clean_environment(home_of(tmp_path))
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=-1, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for_tokens(tmp_path / "picas.db", process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert " of 20,000 tokens pushed so far. The same command again pushes the rest" in said
    before = len(tokens(local(tmp_path)))
    assert 0 < before < 20_000
    done = run_picas("push", "work.txt", cwd=tmp_path, check=0)
    assert done.stdout.startswith(f"pushed {20_000 - before:,} tokens to ")
    assert len(tokens(local(tmp_path))) == 20_000


def _wait_for_tokens(database: Path, process: subprocess.Popen[str]) -> None:
    """Until the first ones are in the pool."""
    while process.poll() is None and not _has_tokens(database):
        time.sleep(0.01)


def _has_tokens(database: Path) -> bool:
    if not database.exists():
        return False
    query = "SELECT count(*) FROM documents"
    with contextlib.closing(sqlite3.connect(database)) as db, contextlib.suppress(sqlite3.Error):
        return bool(db.execute(query).fetchone()[0] > 1)
    return False


def test_memory_stays_flat(tmp_path: Path) -> None:
    """100,000 tokens need no more memory than 10,000, give or take 30 MB."""
    peaks = []
    for number in (10_000, 100_000):
        work = tmp_path / f"{number}.txt"
        work.write_text("".join(f"echo {i}\n" for i in range(number)))
        peaks.append(_peak("push", work.name, "--pool", f"sqlite:///{number}.db", cwd=tmp_path))
    with connect(f"sqlite:///{tmp_path}/100000.db") as pool:
        assert pool.counts()[token.State.TODO] == 100_000
    assert peaks[1] - peaks[0] < 30 * 1024


def _peak(*args: str, cwd: Path) -> int:
    """The largest memory a command had, in kB."""
    process = subprocess.Popen(
        [PICAS, *args],
        cwd=cwd,
        env=clean_environment(home_of(cwd)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss
