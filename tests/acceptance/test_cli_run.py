"""``picas run``: real commands, real processes, real signals, on both stores."""

import base64
import json
import re
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.acceptance.cli import run_picas
from tests.acceptance.work import Work, on_a_terminal, until

from picas import token
from picas.pool import connect
from picas.token import State


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pids_in(file: Path) -> list[int]:
    """The process ids that a task wrote."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_three_lines_run_and_the_failed_one_runs_again(work: Work) -> None:
    """A failure does not change the status; once it is reset and repaired, it succeeds."""
    work.push("echo one", "cat data.txt", "echo three")
    ran = work.picas("run")
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[-1] == (
        "picas: 2 tokens done, 1 failed (picas list Monitor/error), 0 given back; "
        "no work left in Monitor/todo"
    )
    assert work.log("t0") == b"one\n"
    assert token.state(work.get("t1")) is State.ERROR
    (work.folder / "data.txt").write_text("data\n")
    with connect(work.url) as pool:
        assert pool.reset(["t1"]) == 1
    assert "picas: 1 token done, 0 failed, 0 given back;" in work.picas("run").stderr
    assert work.log("t1") == b"data\n"
    assert [entry["exit_code"] for entry in work.get("t1")["attempts"]] == [1, 0]
    assert not (work.folder / "picas-logs").exists()


def test_the_first_line_tells_what_runs_where(work: Work) -> None:
    """Slots, view, pool and pilot, and no password."""
    said = work.picas("run", "--slots", "3", "--view", "todo").stderr.splitlines()[0]
    assert said.startswith("picas: 3 slots on Monitor/todo in ")
    assert "(pilot_" in said
    password = urlsplit(work.url).password
    assert password is None or password not in said


def test_verbose_shows_a_line_for_each_token(local: Work) -> None:
    """What became of it, and how long it took; its id cannot steer a terminal."""
    local.push("true", "exit 3")
    with connect(local.url) as pool:
        list(pool.push([token.new({"input": "true"}, "\x1b[2J")]))
    said = local.picas("run", "-v").stderr
    assert " t0 done: exit code 0, 0.0 s\n" in said
    assert " t1 error: exit code 3, 0.0 s\n" in said
    assert r" \x1b[2J done" in said
    assert "\x1b" not in said


def test_log_json_is_json(local: Work) -> None:
    """Every line is an object; the last one counts."""
    local.push("true", "false")
    said = local.picas("run", "--log-json", "-v").stderr
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[0]["view"] == "Monitor/todo"
    assert {(line["token"], line["outcome"]) for line in lines if "token" in line} == {
        ("t0", "done"),
        ("t1", "error"),
    }
    assert (lines[-1]["done"], lines[-1]["error"]) == (1, 1)


def test_a_failing_token_is_tried_again(work: Work) -> None:
    """--max-scrub N allows N more tries, each with its log and its attempt."""
    work.push("echo $PICAS_ATTEMPT; false")
    said = work.picas("run", "--max-scrub", "2").stderr.splitlines()[-1]
    assert (
        "0 tokens done, 1 failed (picas list Monitor/error), 2 failures to be tried again" in said
    )
    doc = work.get()
    assert (token.state(doc), doc["scrub_count"], len(doc["attempts"])) == (State.ERROR, 2, 3)
    assert work.log() == b"3\n"


def test_a_token_over_its_time_is_ended_though_it_ignores_term(work: Work) -> None:
    """Exit code 124, and none of its processes is left."""
    work.push("trap '' TERM; sleep 300 & echo $$ $! > pids; wait; wait; sleep 300")
    work.picas("run", "--max-token-time", "0.5", "--grace", "0.2")
    doc = work.get()
    assert (doc["exit_code"], doc["attempts"][-1]["reason"]) == (124, "time limit of 0.5 s")
    pids = pids_in(work.folder / "pids")
    assert len(pids) == 2
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)]
)
def test_a_signal_releases_what_runs(work: Work, number: signal.Signals, status: int) -> None:
    """The token is free again, it cost no try, the history says why, the process is gone."""
    work.push("echo $$ > pid; sleep 300; true")
    with work.started("run") as pilot:
        until(lambda: pids_in(work.folder / "pid"))
        pilot.send_signal(number)
        _, said = pilot.communicate(timeout=30)
    assert pilot.returncode == status
    assert said.splitlines()[-1] == (
        f"picas: 0 tokens done, 0 failed, 1 given back; stopped by {number.name}"
    )
    doc = work.get()
    assert (token.state(doc), doc["scrub_count"]) == (State.TODO, 0)
    (attempt,) = doc["attempts"]
    assert attempt["reason"] == f"released: {number.name}"
    assert "exit_code" not in attempt
    assert not any(map(alive, pids_in(work.folder / "pid")))


def test_a_second_interrupt_allows_no_grace(work: Work) -> None:
    """A task that ignores TERM is killed at once, and released."""
    work.push("trap '' TERM; echo $$ > pid; while true; do sleep 0.1; done")
    with work.started("run", "--grace", "100") as pilot:
        until(lambda: pids_in(work.folder / "pid"))
        pilot.send_signal(signal.SIGINT)
        # Sent before the first one is handled, the second would be one with it.
        assert pilot.stderr is not None
        while "SIGINT: ending" not in (line := pilot.stderr.readline()):
            assert line, "the pilot ended"
        assert pilot.poll() is None
        pilot.send_signal(signal.SIGINT)
        pilot.communicate(timeout=30)
    assert pilot.returncode == 130
    assert token.state(work.get()) is State.TODO
    assert not any(map(alive, pids_in(work.folder / "pid")))


def test_a_template_fills_fields_into_single_arguments(work: Work) -> None:
    """Blanks, quotes and what a shell would expand arrive as they are; objects as JSON."""
    sample = 'it\'s "a"  b; $HOME `id` *\n{id}'
    work.push({"k": [1, 2]}, sample=sample)
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    work.picas(
        "run", "--", sys.executable, "-c", show, "{sample}", "x-{id}", "{input}", "{{}}", "--"
    )
    assert json.loads(work.log()) == [sample, "x-t0", '{"k": [1, 2]}', "{}", "--"]


def test_a_template_needs_no_dashes_in_front(local: Work) -> None:
    """Options behind the command are the command's."""
    local.push("hello")
    local.picas("run", "--slots", "1", "echo", "--slots", "-v", "{input}", "--")
    assert local.log() == b"--slots -v hello --\n"


def test_a_bad_template_is_told_before_anything_runs(local: Work) -> None:
    """Status 2, and the token is untouched."""
    local.push("x")
    said = local.picas("run", "--", "echo", "{input", check=2).stderr
    assert "{input" in said
    assert "attempts" not in local.get()


def test_files_are_attached(work: Work) -> None:
    """The patterns may hold the token's id."""
    work.push("echo result > out_$PICAS_TOKEN_ID.txt; echo no > out_other.txt")
    work.picas("run", "--attach", "out_{id}.txt", "--attach", "missing*")
    with connect(work.url) as pool:
        assert b"".join(pool.attachment("t0", "out_t0.txt")) == b"result\n"
    assert "out_other.txt" not in work.get()["_attachments"]


def test_output_that_is_no_text_is_kept_as_it_is(work: Work) -> None:
    """Every byte comes back."""
    everything = bytes(range(256))
    encoded = base64.b64encode(everything).decode()
    work.push(f"echo {encoded} | base64 -d; echo {encoded} | base64 -d >&2")
    work.picas("run")
    assert work.log() == everything
    assert work.log(stream="err") == everything


def test_a_daemon_does_not_outlive_its_task(local: Work) -> None:
    """Though it left its session and its parent ended."""
    local.push(
        "setsid bash -c 'sleep 300 & echo $! > pid' & wait; until [ -s pid ]; do sleep 0.01; done"
    )
    local.picas("run")
    (pid,) = pids_in(local.folder / "pid")
    assert not alive(pid)
    assert local.get()["exit_code"] == 0


def test_two_pilots_run_a_token_once(work: Work) -> None:
    """One of them gets it, the other finds nothing."""
    work.push("echo ran >> ran; sleep 0.5; true")
    with work.started("run") as one, work.started("run") as two:
        said = [pilot.communicate(timeout=30)[1] for pilot in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0)
    assert (work.folder / "ran").read_text() == "ran\n"
    assert sorted("1 token done" in text for text in said) == [False, True]


def test_a_missing_view_names_those_that_there_are(work: Work) -> None:
    """Status 5."""
    work.push("true")
    said = work.picas("run", "--view", "Monitor/tody", check=5).stderr
    assert "Monitor/todo" in said.splitlines()[-1]


def test_the_password_is_not_in_the_tasks_environment(database: str, tmp_path: Path) -> None:
    """Neither from the URL nor from the variable; the pool's address is."""
    work = Work(tmp_path / "work", database)
    work.push("env; cat /proc/$PPID/cmdline")
    parts = urlsplit(database)
    bare = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"
    assert parts.password
    assert parts.username
    work.picas("run")
    with connect(database) as pool:
        pool.reset(["t0"])
    first = work.log()
    login = {"PICAS_USERNAME": parts.username, "PICAS_PASSWORD": parts.password}
    run_picas("run", cwd=work.folder, env={"PICAS_POOL": bare, **login}, check=0)
    for log in (first, work.log()):
        assert f"PICAS_POOL={bare}\n".encode() in log
        assert parts.password.encode() not in log


def test_a_wrong_password_is_told(database: str, tmp_path: Path) -> None:
    """Status 4; neither password shows."""
    parts = urlsplit(database)
    wrong = f"{parts.scheme}://{parts.username}:wrong-one@{parts.hostname}:{parts.port}{parts.path}"
    (tmp_path / "work").mkdir()
    done = run_picas("run", cwd=tmp_path / "work", env={"PICAS_POOL": wrong}, check=4)
    assert "wrong-one" not in done.stderr


def test_a_missing_pool_is_told(local: Work) -> None:
    """Status 5, and none is made."""
    said = local.picas("run", "--pool", "sqlite:///other.db", check=5).stderr
    assert "other.db" in said
    assert not (local.folder / "other.db").exists()


def test_a_host_that_cannot_write_logs_ends_with_7(local: Work) -> None:
    """The token is given back, and the message says what to do."""
    local.push("true")
    (local.folder / "file").write_text("")
    done = local.picas("run", "--logs", "file/logs", check=7)
    assert "error: this host could not run tasks" in done.stderr
    assert token.state(local.get()) is State.TODO


def test_a_number_of_tasks_is_not_exceeded(local: Work) -> None:
    """The others stay in todo."""
    local.push("true", "true", "true")
    assert "2 tokens done" in local.picas("run", "--max-tasks", "2").stderr
    with connect(local.url) as pool:
        assert pool.counts()[State.TODO] == 1


def test_an_endless_pilot_takes_what_comes_later(work: Work) -> None:
    """It waits for a token that is pushed after it started, and ends in good order when told."""
    with work.started("run", "--endless") as pilot:
        assert pilot.stderr is not None
        pilot.stderr.readline()
        work.push("true")
        until(lambda: token.state(work.get()) is State.DONE)
        pilot.send_signal(signal.SIGTERM)
        pilot.communicate(timeout=30)
    assert pilot.returncode == 0


def test_logs_can_stay_on_disk(local: Work) -> None:
    """In the folder that was named, and those too long for the token in any case."""
    local.push("echo kept", "head -c 5000 /dev/zero | tr '\\0' x")
    local.picas("run", "--logs", "here", "--keep-logs", "--log-limit", "1K")
    assert (local.folder / "here" / "logs_t0.out").read_text() == "kept\n"
    assert (local.folder / "here" / "logs_t1.out").stat().st_size == 5000
    assert len(local.log("t1")) < 2000


def test_on_a_terminal_progress_is_one_line_that_changes(local: Work) -> None:
    """It is there while tokens run, and gone at the end."""
    local.push(*["sleep 0.4"] * 4)
    said = on_a_terminal(local, "run", "--slots", "1")
    assert "running" in said
    last = said.rstrip().splitlines()[-1]
    assert last.endswith("4 tokens done, 0 failed, 0 given back; no work left in Monitor/todo")
    assert "running" not in last.split("\x1b[K")[-1]


def test_starting_a_pilot_imports_nothing_for_the_eyes(local: Work) -> None:
    """Neither rich nor anything of the web pages, nor the other commands."""
    local.push("true")
    said = local.picas("run", env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines() if "|" in line}
    assert "picas.pilot.loop" in imported
    roots = {name.partition(".")[0] for name in imported}
    assert not roots & {"rich", "jinja2", "starlette", "uvicorn"}
    assert "picas.cli.look" not in imported


def test_a_word_that_is_no_program_stops_before_any_token(local: Work) -> None:
    """A view given as if it were an argument fails no token; the message tells the option."""
    local.push("true")
    ran = local.picas("run", "todo", check=2)
    assert "there is no program 'todo'" in ran.stderr
    assert "--view" in ran.stderr
    assert token.state(local.get("t0")) is State.TODO


def test_a_view_of_tokens_that_are_not_free_is_told(local: Work) -> None:
    """A pilot that claims nothing there says why, and what gives them back."""
    local.push("true")
    local.picas("run")
    told = "tokens of Monitor/done are not free: a pilot claims none; 'picas reset Monitor/done'"
    assert told in local.picas("run", "--view", "done").stderr
    assert "not free" not in local.picas("run").stderr


def test_the_line_on_a_terminal_tells_what_is_left_from_the_start(local: Work) -> None:
    """It counts at once, and tells the time left as soon as there is a rate."""
    local.push("sleep 1.2", "sleep 1.5", "sleep 0.8")
    assert re.search(r"running  \d left", on_a_terminal(local, "run", "--slots", "1"))


def test_patterns_that_match_nothing_are_told(local: Work) -> None:
    """A mistyped pattern does not pass in silence."""
    local.push("touch a.txt")
    ran = local.picas("run", "--attach", "*.txt", "--attach", "*.zip")
    assert "--attach '*.zip' matched no file" in ran.stderr
    assert "*.txt" not in ran.stderr


def test_logs_that_stay_are_told(local: Work) -> None:
    """Where a log was too long for its token, the last words say where all of it is."""
    local.push("seq 10000")
    ran = local.picas("run", "--log-limit", "1K")
    assert "kept on disk: 1 log in" in ran.stderr
