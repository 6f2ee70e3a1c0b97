"""``picas status``, ``list``, ``show``, ``logs`` and ``get``: what a person and a program see."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.cli import PICAS, clean_environment, home_of
from tests.acceptance.work import Work, on_a_terminal, until, watched

from picas import token
from picas.conditions import parse
from picas.config import parse_pool
from picas.errors import Forbidden
from picas.pool import Settlement, connect
from picas.pool.sqlite import SqliteStore
from picas.token import Holder, Outcome
from picas.views import Design

NASTY = "\x1b[2J\x1b]0;title\x07 [red]x[/red] \u202etxt\r\n日本語"


def claimed(work: Work, count: int = 1) -> list[dict[str, Any]]:
    """Tokens that some pilot on another host has."""
    with connect(work.url) as pool:
        return pool.claim("Monitor/todo", count, Holder("pilot_far_1_00", "far.example.org"))


def save_pilot(work: Work, **fields: Any) -> None:
    """The document of a pilot that has run for ten minutes, thirty seconds ago."""
    with connect(work.url) as pool:
        now = int(pool.now())
        pool.save_pilot(
            {
                "_id": "pilot_far_1_00",
                "type": "pilot",
                "hostname": "far.example.org",
                "view": "Monitor/todo",
                "slots": 8,
                "state": "running",
                "started": now - 630,
                "heartbeat": now - 30,
                "done": 100,
                "error": 0,
                **fields,
            }
        )


# --- status ------------------------------------------------------------------------------------


def test_status_counts_the_tokens(work: Work) -> None:
    """States, their sum, the share done, and that nobody is at work."""
    work.push("true", "true", "false", "true")
    work.picas("run", "--max-tasks", "3", "--slots", "1")
    lines = work.picas("status").stdout.splitlines()
    assert lines[0].split() == ["pool", parse_pool(work.url).url]
    assert lines[1].split() == ["design", "todo", "locked", "done", "error", "total"]
    assert lines[2].split()[0] == "Monitor"
    numbers = dict(zip(lines[1].split()[1:], map(int, lines[2].split()[1:6]), strict=True))
    assert sum(numbers[s] for s in ("done", "error")) == 3
    assert (numbers["todo"], numbers["locked"], numbers["total"]) == (1, 0, 4)
    assert "no pilots at work" in lines


def test_status_tells_rate_and_time_left(local: Work) -> None:
    """From the documents of the pilots that live; those that fell silent are named."""
    local.push(*["true"] * 20)
    save_pilot(local)
    said = local.picas("status").stdout
    assert "1 pilot with 8 slots on 1 host\n10/min, about 2 min left\n" in said
    save_pilot(local, _id="pilot_far_2_00", heartbeat=1)
    assert "1 pilot gone without a word; no token is locked" in local.picas("status").stdout
    facts = json.loads(local.picas("status", "--json").stdout)
    (design,) = facts["designs"]
    assert (design["todo"], design["tokens_per_minute"]) == (20, pytest.approx(10))
    assert design["seconds_left"] == pytest.approx(120, rel=0.01)
    assert facts["fleet"] == {"pilots": 1, "hosts": 1, "slots": 8, "running": 0, "lost": 1}


def test_status_says_when_the_time_left_can_be_told(local: Work) -> None:
    """A pilot tells nothing in its first minute, and no rate before a token has ended."""
    local.push("true", "true")
    now = int(time.time())
    save_pilot(local, started=now, heartbeat=now)
    assert "\ntime left: known after a minute\n" in local.picas("status").stdout
    save_pilot(local, _id="pilot_far_2_00", done=0)
    assert "time left: known when tokens have ended" in local.picas("status").stdout


def test_status_tells_how_to_free_what_lost_pilots_have(local: Work) -> None:
    """Only where tokens are locked is there something to give back."""
    local.push("true", "true")
    with connect(local.url) as pool:
        pool.claim("Monitor/todo", 2, Holder("pilot_far_2_00", "far"))
    save_pilot(local, heartbeat=1)
    told = "1 pilot gone without a word, 2 tokens locked: picas reap\n"
    assert told in local.picas("status").stdout


def test_status_shows_every_design_or_one(work: Work) -> None:
    """A design with a condition counts its own tokens; Monitor comes first."""
    work.push("true", "true", cores=1)
    with connect(work.url) as pool:
        pool.add_design(Design("Big", parse("cores >= 4")))
        list(pool.push([token.new({"input": "true", "cores": 8}, "big")]))
    facts = json.loads(work.picas("status", "--json").stdout)
    assert [(d["design"], d["total"]) for d in facts["designs"]] == [("Monitor", 3), ("Big", 1)]
    facts = json.loads(work.picas("status", "Big", "--json").stdout)
    assert [d["design"] for d in facts["designs"]] == ["Big"]
    assert len(work.picas("status").stdout.splitlines()) == 6


def test_status_of_a_missing_design_names_those_that_there_are(work: Work) -> None:
    """Status 5."""
    assert "Monitor/" in work.picas("status", "Nope", check=5).stderr
    told = work.picas("status", "monitor", check=5).stderr
    assert told.endswith("; did you mean the design Monitor?\n")


@pytest.mark.parametrize(
    ("view", "hint"),
    [
        ("Monitor", "Monitor is a group of views: say Monitor/todo, or Monitor/overview_total"),
        ("erro", "did you mean Monitor/error?"),
        ("Montor/done", "did you mean the design Monitor?"),
    ],
)
def test_a_view_that_is_misspelled(view: str, hint: str, work: Work) -> None:
    """The message names what was meant, if something is near."""
    assert f"; {hint}" in work.picas("list", view, check=5).stderr


def test_watching_without_a_terminal_gives_plain_lines(local: Work) -> None:
    """One now and then, until Ctrl-C, which is a good end."""
    local.push("true", "true")
    with local.started("status", "--watch", "--interval", "0.1") as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        second = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)
    assert watching.returncode == 0
    text = "Monitor: 2 todo, 0 locked, 0 done, 0 error of 2; no pilots at work\n"
    assert first.partition(" ")[2] == second.partition(" ")[2] == text


def test_watching_on_a_terminal_follows_the_pool(work: Work) -> None:
    """What changes shows; Ctrl-C leaves in good order."""
    work.push("sleep 1; true", "true")
    with watched(work, "status", "--watch", "--interval", "60") as screen:
        until(lambda: "Monitor" in screen())
        work.picas("run", "--slots", "1")
        until(lambda: "100 %" in screen())


# --- list --------------------------------------------------------------------------------------


def test_a_list_shows_tokens_and_how_many_more(work: Work) -> None:
    """In the order of their ids; a bare state is a view of Monitor."""
    work.push(*[f"echo {i}" for i in range(9)])
    lines = work.picas("list", "todo", "--limit", "3").stdout.splitlines()
    assert lines[0].split() == ["id", "state", "input"]
    assert [line.split()[0] for line in lines[1:4]] == ["t0", "t1", "t2"]
    assert lines[4] == "… and 6 more"
    assert "more" not in work.picas("list", "Monitor/todo", "--limit", "9").stdout
    assert work.picas("list", "error").stdout == "no tokens in Monitor/error\n"


def test_a_list_tells_how_tokens_ended(work: Work) -> None:
    """State, tries, exit code, host, and what was run."""
    work.push("exit 7")
    work.picas("run", "--max-scrub", "1")
    heads, row = (line.split() for line in work.picas("list", "error").stdout.splitlines())
    assert heads == ["id", "state", "tries", "exit", "took", "age", "host", "input"]
    assert (row[:4], row[-2:]) == (["t0", "error", "2", "7"], ["exit", "7"])


def test_a_list_for_programs_has_every_token(work: Work) -> None:
    """One document a line, all of them unless a limit is given; or only some fields."""
    work.push(*["true"] * 60, sample={"name": "x"})
    lines = work.picas("list", "todo", "--json").stdout.splitlines()
    assert len({json.loads(line)["_id"] for line in lines}) == 60
    assert json.loads(lines[0])["sample"] == {"name": "x"}
    (line,) = work.picas(
        "list", "todo", "--json", "--limit", "1", "--fields", "sample.name,no"
    ).stdout.splitlines()
    assert json.loads(line) == {"_id": "t0", "sample.name": "x", "no": None}


def test_a_list_of_chosen_fields(local: Work) -> None:
    """The columns are the id and the fields, in the order asked."""
    local.push("true", size=3, sample={"name": "some thing"})
    said = local.picas("list", "todo", "--fields", "sample.name, size").stdout
    assert said == "id  sample.name  size\nt0  some thing   3\n"


@pytest.mark.parametrize(
    ("names", "told"), [("size,size", "'size' stands twice"), ("a,,b", "a name is empty")]
)
def test_fields_that_make_no_list(names: str, told: str, local: Work) -> None:
    """A field twice, or one without a name, is told; the status is 2."""
    local.push("true", size=3)
    assert told in local.picas("list", "todo", "--fields", names, check=2).stderr


def test_a_missing_view_names_those_that_there_are(work: Work) -> None:
    """Status 5."""
    assert "Monitor/error" in work.picas("list", "Monitor/eror", check=5).stderr


def test_what_tokens_hold_cannot_steer_the_terminal(local: Work) -> None:
    """Escape sequences, markup and line ends are shown, not obeyed, in every table."""
    local.push(NASTY, field=NASTY)
    for args in (["list", "todo"], ["list", "todo", "--fields", "field"], ["show", "t0"]):
        said = local.picas(*args).stdout
        assert not set(said) & set("\x1b\x07\r\u202e")
        assert r"\x1b[2J\x1b]0;title\x07 [red]x[/red] \u202etxt\r\n日本語" in said


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_list_fits_the_terminal(local: Work, columns: int) -> None:
    """No line is wider than it, whatever the tokens hold."""
    local.push(*[f"echo {NASTY * 5}", "x" * 500, "false"], sample="y" * 300)
    local.picas("run", "--max-tasks", "2")
    for args in (["list", "todo"], ["list", "error"], ["status"]):
        said = on_a_terminal(local, *args, columns=columns)
        lines = [_without_colours(line) for line in said.splitlines()]
        assert any("t0" in line or "Monitor" in line or "t2" in line for line in lines)
        table = [line for line in lines if "pilot" not in line]
        assert max(map(len, table)) <= columns


def _without_colours(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


# --- show --------------------------------------------------------------------------------------


def test_show_tells_the_whole_story(work: Work) -> None:
    """State, input, the user's fields, needs, attempts and files; a beginning of the id will do."""
    work.push("echo x; exit 3", cores=2, sample="s 1")
    work.picas("run", "--max-scrub", "1")
    lines = work.picas("show", "t").stdout.splitlines()
    said = "\n".join(lines)
    assert lines[0] == "t0  error (exit code 3)"
    assert "  input        echo x; exit 3" in lines
    assert "  cores        2" in lines
    assert "  sample       s 1" in lines
    assert "  scrub_count  1" in lines
    start = lines.index("attempts") + 2
    assert [line.split()[0] for line in lines[start : start + 2]] == ["1", "2"]
    assert "logs_t0.out" in said
    assert "logs_t0.1.out" in said
    assert "2 B" in said


def test_show_tells_why_a_token_was_released_or_failed(local: Work) -> None:
    """The reason stands beside the attempt, and the messages above."""
    local.push("sleep 30; true")
    local.picas("run", "--max-token-time", "0.2", "--grace", "0")
    (doc,) = _reset_and_claim(local)
    with connect(local.url) as pool:
        pool.release([doc], "released: SIGTERM")
    said = local.picas("show", "t0").stdout
    assert "released: SIGTERM" in said
    assert "time limit of 0.2 s" in said
    assert said.startswith("t0  todo\n")


def _reset_and_claim(work: Work) -> list[dict[str, Any]]:
    with connect(work.url) as pool:
        pool.reset(["t0"])
    return claimed(work)


def test_show_for_programs_is_the_document(work: Work) -> None:
    """As the pool has it."""
    work.push("true", sample=[1, {"a": None}])
    assert json.loads(work.picas("show", "t0", "--json").stdout) == work.get("t0")


def test_the_end_of_a_traceback_is_shown(local: Work) -> None:
    """Where the exception was raised: file and line, below the attempts, of the last one only."""
    local.push("true")
    (doc,) = claimed(local)
    frames = "".join(f'  File "deep.py", line {n}, in f\n    f()\n' for n in range(9))
    trace = f"Traceback (most recent call last):\n{frames}ValueError: \x1b[2Jx\n"
    now = time.time()
    with connect(local.url) as pool:
        pool.settle([Settlement(doc, Outcome(1, now, now, "ValueError", 0.0, error=trace))])
    said = local.picas("show", "t0").stdout
    shown = said.rpartition("the end of the last traceback\n")[2].splitlines()
    assert shown[-3:] == [
        '    File "deep.py", line 8, in f',
        "      f()",
        "  ValueError: \\x1b[2Jx",
    ]
    assert len(shown) == 6
    assert "'picas show t0' tells what it has" in local.picas("logs", "t0", check=5).stderr


def test_an_unknown_id_is_told(work: Work) -> None:
    """Status 5; so is a beginning that fits several tokens, which are named."""
    work.push("true", "true")
    assert "no token 'x'" in work.picas("show", "x", check=5).stderr
    assert "t0, t1" in work.picas("show", "t", check=5).stderr


# --- logs --------------------------------------------------------------------------------------


def _bytes(work: Work, *args: str) -> bytes:
    env = clean_environment(home_of(work.folder), {"PICAS_POOL": work.url})
    return subprocess.run(
        [PICAS, *args], cwd=work.folder, env=env, capture_output=True, check=True, timeout=60
    ).stdout


def test_logs_come_as_they_are(work: Work) -> None:
    """Byte by byte where they are piped; standard error is asked for."""
    work.push(r"printf 'a\0\377\033[2Jb'; echo oops >&2; false")
    work.picas("run")
    assert _bytes(work, "logs", "t0") == b"a\0\xff\x1b[2Jb"
    assert _bytes(work, "logs", "t0", "--err") == b"oops\n"


def test_logs_of_earlier_attempts_stay(work: Work) -> None:
    """By their number; an attempt without a log says which ones have one."""
    work.push("echo try $PICAS_ATTEMPT; false")
    work.picas("run", "--max-scrub", "1")
    for number in "12":
        assert work.picas("logs", "t0", "--attempt", number).stdout == f"try {number}\n"
    assert work.picas("logs", "t0").stdout == "try 2\n"
    (doc,) = _reset_and_claim(work)
    with connect(work.url) as pool:
        pool.release([doc], "released: SIGTERM")
    latest = work.picas("logs", "t0")
    assert latest.stdout == "try 2\n"
    assert "t0 is to run again; this is the log of attempt 2" in latest.stderr
    said = work.picas("logs", "t0", "--attempt", str(doc_attempts(work)), check=5).stderr
    assert "has no log (it was released: SIGTERM); there are logs of: 1, 2" in said


def doc_attempts(work: Work) -> int:
    """The number of the token's last attempt."""
    return int(work.get()["attempts"][-1]["n"])


def test_a_token_without_logs_says_why(work: Work) -> None:
    """It has not run, or it is running, and where."""
    work.push("true")
    assert "has not run yet (todo)" in work.picas("logs", "t0", check=5).stderr
    claimed(work)
    assert "is running on far.example.org" in work.picas("logs", "t0", check=5).stderr


def test_a_log_cannot_steer_the_terminal(local: Work) -> None:
    """Colours pass, all else is spelled out; what is no text is replaced."""
    local.push(r"printf '\033[31mred\033[0m \033[2J\033]0;t\007 \377\n'")
    local.picas("run")
    assert on_a_terminal(local, "logs", "t0").startswith(
        "\x1b[31mred\x1b[0m \\x1b[2J\\x1b]0;t\\x07 \ufffd\r\n"
    )


# --- get ---------------------------------------------------------------------------------------


def test_get_takes_files_out(work: Work) -> None:
    """To standard output, into a file, into a folder; without a name it lists them."""
    work.push(r"printf 'a\0b\377' > data.bin; head -c 3000000 /dev/zero > large.bin; true")
    work.picas("run", "--attach", "*.bin")
    listed = work.picas("get", "t0").stdout
    assert "data.bin" in listed
    assert "3.0 MB" in listed
    assert _bytes(work, "get", "t0", "data.bin") == b"a\0b\xff"
    work.picas("get", "t0", "large.bin", "-o", "copy")
    assert (work.folder / "copy").read_bytes() == bytes(3_000_000)
    (work.folder / "out").mkdir()
    work.picas("get", "t0", "data.bin", "-o", "out")
    assert (work.folder / "out" / "data.bin").read_bytes() == b"a\0b\xff"
    assert not list(work.folder.glob(".*part"))


def test_files_for_programs(work: Work) -> None:
    """Names, bytes and types; of a token without files an empty list."""
    work.push("printf 123 > data.csv")
    assert json.loads(work.picas("get", "t0", "--json").stdout) == []
    work.picas("run", "--attach", "*.csv")
    files = json.loads(work.picas("get", "t0", "--json").stdout)
    assert [(file["name"], file["size"]) for file in files] == [
        ("data.csv", 3),
        ("logs_t0.err", 0),
        ("logs_t0.out", 0),
    ]
    assert files[1]["type"] == "text/plain"
    assert "leave NAME out" in work.picas("get", "t0", "data.csv", "--json", check=2).stderr


def test_get_names_the_files_that_there_are(work: Work) -> None:
    """Status 5; an existing file is left as it was."""
    work.push("true")
    work.picas("run")
    (work.folder / "there").write_text("old")
    said = work.picas("get", "t0", "nope", "-o", "there", check=5).stderr
    assert "logs_t0.err, logs_t0.out" in said
    assert (work.folder / "there").read_text() == "old"


def test_get_into_a_missing_folder_is_told(local: Work) -> None:
    """In one line."""
    local.push("true")
    local.picas("run")
    said = local.picas("get", "t0", "logs_t0.out", "-o", "no/file", check=1).stderr
    assert "No such file or directory" in said
    assert "Traceback" not in said


def test_get_shows_no_binary_on_a_terminal(local: Work) -> None:
    """It says how to write it into a file; text is shown."""
    local.push(r"printf 'a\0b' > data.bin; echo text > data.txt")
    local.picas("run", "--attach", "data.*")
    assert "-o FILE" in on_a_terminal(local, "get", "t0", "data.bin")
    assert on_a_terminal(local, "get", "t0", "data.txt").startswith("text\r\n")


# --- output that cannot be written, pools that cannot be looked into ---------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("list", "done"),
        ("list", "done", "--json"),
        ("export", "done"),
        ("logs", "t0"),
        ("doctor",),
        ("--help",),
    ],
    ids=" ".join,
)
def test_a_full_disk_behind_the_output(args: tuple[str, ...], unbuffered: str, local: Work) -> None:
    """One line says so, and the status is 1; the interpreter adds nothing."""
    local.push("head -c 100000 /dev/zero")
    local.picas("run")
    done = _into(Path("/dev/full"), local, *args, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.stderr == "picas: cannot write the output: No space left on device\n"
    assert done.returncode == 1


def test_messages_that_cannot_be_written(local: Work) -> None:
    """The status stays what it is."""
    local.push("true")
    with Path("/dev/full").open("w") as full:
        command = [PICAS, "show", "nothing"]
        env = clean_environment(home_of(local.folder))
        done = subprocess.run(command, cwd=local.folder, env=env, stderr=full, check=False)
    assert done.returncode == 5


def test_streams_that_were_closed(local: Work) -> None:
    """Nothing is written, least of all into the pool, whose file must not get their numbers."""
    local.push("true")
    for args in ("status", "doctor", "push", "run"):
        subprocess.run(
            ["/bin/sh", "-c", f"{PICAS} {args} <&- >&- 2>&-"],
            cwd=local.folder,
            env=clean_environment(home_of(local.folder)),
            check=args != "push",
        )
    assert "done" in local.picas("show", "t0").stdout


@pytest.mark.parametrize("args", [("status",), ("push", "--sweep", "n=1:3"), ("init",)])
@pytest.mark.parametrize(
    ("place", "told"), [("file/x.db", "Not a directory"), (f"{'n' * 300}/x.db", "name too long")]
)
def test_a_pool_where_there_can_be_none(
    place: str, told: str, args: tuple[str, ...], local: Work
) -> None:
    """One line says why; the status is 5."""
    (local.folder / "file").touch()
    done = local.picas("--pool", f"sqlite:///{place}", *args, check=5)
    assert done.stderr.startswith(f"picas: there can be no pool at {local.folder}/{place}: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("ask", [SqliteStore.exists, SqliteStore.create])
def test_a_pool_in_a_folder_that_we_may_not_enter(
    ask: Callable[[SqliteStore], bool], tmp_path: Path
) -> None:
    """It is forbidden to us, whether or not it is there."""
    closed = tmp_path / "closed"
    closed.mkdir(0)
    store = SqliteStore(closed / "x.db")
    with _as_nobody(), pytest.raises(Forbidden, match=r"closed/x\.db: you may not look there"):
        ask(store)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Without the rights of root, where the tests run as root."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def _into(
    file: Path, local: Work, *args: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output into a file."""
    with file.open("w") as stdout:
        return subprocess.run(
            [PICAS, *args],
            cwd=local.folder,
            env=clean_environment(home_of(local.folder), env),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
