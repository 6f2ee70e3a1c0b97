"""Nothing of a task is left behind: real processes, real kills."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from picas import proctree
from picas.process import EndedBy, Finished, Task, adopt_orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def adopting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process adopts orphans for one test, as a pilot does for life."""
    adoption = proctree._Adoption()
    monkeypatch.setattr(proctree, "_adoption", adoption)
    adopt_orphans()
    adopt_orphans()
    assert adoption._list is not None
    yield
    os.close(adoption._list)
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture(params=["pidfd", "old kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without process file descriptors."""
    if request.param == "old kernel":
        monkeypatch.setattr(proctree, "have_pidfd", False)
    return str(request.param)


class Place:
    """Where a test's tasks run: logs, and files in which processes leave their numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def task(self, script: str, name: str = "task", **options: float) -> Task:
        """A shell script as a task; its directory holds what it writes."""
        return Task(
            ["sh", "-c", script],
            out=self.path / f"{name}.out",
            err=self.path / f"{name}.err",
            env={**os.environ, "PYTHON": sys.executable},
            cwd=self.path,
            time_limit=options.get("time_limit"),
            grace=options.get("grace", 10.0),
        )

    def run_into_limit(self, script: str, grace: float = 10.0) -> Finished:
        """Run a script into its time limit; a longer one, if nothing had started by then."""
        for limit in (0.3, 1, 4, 16):
            finished = self.task(script, time_limit=limit, grace=grace).run()
            if any(self.path.glob("pid*")):
                break
        assert (finished.exit_code, finished.ended_by) == (124, EndedBy.TIME_LIMIT)
        assert limit <= finished.wall < limit + 2 * proctree.KILL_SECONDS
        return finished

    def pids(self, minimum: int) -> list[int]:
        """The numbers that processes have written; waits for that many."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            texts = [path.read_text() for path in self.path.glob("pid*")]
            found = [int(text) for text in " ".join(texts).split()]
            if len(found) >= minimum:
                return found
            time.sleep(0.01)
        raise AssertionError(f"fewer than {minimum} processes started")

    def alive(self) -> list[int]:
        """Those of them that are alive."""
        looks = [proctree.look(pid) for pid in self.pids(0)]
        return [look.pid for look in looks if look is not None and look.alive]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A fresh place; what a failed test left alive in it is killed."""
    there = Place(tmp_path)
    yield there
    for pid in there.alive():
        os.kill(pid, signal.SIGKILL)


def zombies() -> list[int]:
    """Children of this process that nobody has reaped."""
    processes = proctree._processes().values()
    return [p.pid for p in processes if p.parent == os.getpid() and not p.alive]


SLEEPER = 'sh -c "echo \\$\\$ >pid1; exec sleep 60"'
UNMARKED = 'setsid env -i /bin/sh -c "echo \\$\\$ >pid{0}; exec /bin/sleep 60" &'
# Each starts a process that writes its number into pid1 and must not live on.
CHILDREN = {
    "child": f"{SLEEPER} &",
    "stubborn child": "sh -c 'trap \"\" TERM; echo $$ >pid1; sleep 60' &",
    "session": f"setsid {SLEEPER} &",
    "daemon": f"(setsid sh -c '({SLEEPER} &) &' &);",
    "stopped child": 'sh -c "echo \\$\\$ >pid1; kill -STOP \\$\\$; sleep 60" &',
    "unmarked session": UNMARKED.format(1),
}
WAIT = "\nwhile ! [ -s pid1 ]; do sleep 0.01; done\n"


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.usefixtures("adopting", "kernel")
def test_time_limit_ends_the_whole_tree(place: Place, kind: str) -> None:
    """The limit ends children that ignore TERM, changed session or were forked twice."""
    grace = 0.2 if kind == "stubborn child" else 10
    place.run_into_limit(f"{CHILDREN[kind]} sleep 60", grace=grace)
    assert place.pids(1)
    assert place.alive() == []
    assert zombies() == []


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.usefixtures("adopting", "kernel")
def test_leftovers_of_a_finished_command_are_ended(place: Place, kind: str) -> None:
    """What a command leaves in the background ends with it; its own exit code stands."""
    finished = place.task(f"{CHILDREN[kind]} {WAIT} exit 3", grace=0.2).run()
    assert (finished.exit_code, finished.ended_by) == (3, EndedBy.ITSELF)
    assert place.pids(1)
    assert place.alive() == []
    assert zombies() == []


@pytest.mark.usefixtures("adopting")
def test_leftovers_are_found_while_they_are_being_started(place: Place) -> None:
    """A daemon is ended too that was half-way through exec when its command ended."""
    for _ in range(20):
        place.task("setsid sleep 59.75 & exit 0").run()
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children()]
    assert not [name for name in names if b"59.75" in name]


def children() -> list[int]:
    """Living children of this process."""
    processes = proctree._processes().values()
    return [p.pid for p in processes if p.parent == os.getpid() and p.alive]


def test_time_limit_finds_a_daemon_that_init_adopted(place: Place) -> None:
    """Without adoption, the mark in the environment finds processes that went elsewhere."""
    place.run_into_limit(f"{CHILDREN['daemon']} sleep 60")
    assert place.pids(1)
    assert place.alive() == []


def test_without_proc_the_process_group_is_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no /proc, children in the command's group are ended all the same."""
    monkeypatch.setattr(proctree, "_have_proc", False)
    monkeypatch.setattr(proctree, "have_pidfd", False)
    finished = place.task(f"{CHILDREN['child']} {WAIT} exit 3").run()
    assert finished.exit_code == 3
    assert place.alive() == []


@pytest.mark.usefixtures("adopting")
def test_grace_lets_children_clean_up(place: Place) -> None:
    """TERM comes first: a child has the grace period to write its last words."""
    script = "sh -c 'trap \"sleep 0.2; echo saved; exit\" TERM; echo $$ >pid1; sleep 60 & wait' "
    place.run_into_limit(f"{script} & sleep 60")
    assert (place.path / "task.out").read_text() == "saved\n"


@pytest.mark.usefixtures("adopting")
def test_stop_now_cuts_the_grace_short(place: Place) -> None:
    """A second stop, now, does not wait for those that ignore the first."""
    task = place.task(f"trap '' TERM; {CHILDREN['stubborn child']} while :; do sleep 1; done")
    threads = [
        threading.Timer(0.3, task.stop),
        threading.Timer(0.5, task.stop, kwargs={"now": True}),
    ]
    for thread in threads:
        thread.start()
    finished = task.run()
    for thread in threads:
        thread.join()
    assert (finished.exit_code, finished.ended_by) == (137, EndedBy.STOPPED)
    assert finished.wall < 3
    assert place.pids(1)
    assert place.alive() == []


@pytest.mark.usefixtures("adopting")
def test_stop_now_ends_the_grace_of_leftovers(place: Place) -> None:
    """A slot that waits for a stubborn leftover is free as soon as it is told so."""
    task = place.task(f"{CHILDREN['stubborn child']} {WAIT} exit 0")
    timer = threading.Timer(0.5, task.stop, kwargs={"now": True})
    timer.start()
    begun = time.monotonic()
    finished = task.run()
    timer.join()
    assert finished.ended_by is EndedBy.ITSELF
    assert time.monotonic() - begun < 5
    assert place.alive() == []


def test_stop_from_a_signal_handler(place: Place) -> None:
    """A handler in the very thread that runs the task may stop it."""
    task = place.task("sleep 60")
    before = signal.signal(signal.SIGUSR1, lambda *_: task.stop())
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        finished = task.run()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert (finished.exit_code, finished.ended_by) == (143, EndedBy.STOPPED)


def test_exception_in_the_waiting_thread_leaves_nothing(place: Place) -> None:
    """A handler that raises (Ctrl-C) does not leave the command running."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            place.task(f"{CHILDREN['child']} sleep 60").run()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert place.pids(1)
    assert place.alive() == []


RESPAWNER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for generation in range(3000):
    with open("pids", "a") as file: print(os.getpid(), file=file)
    time.sleep(0.01)
    if os.fork(): os._exit(0)
    if len(sys.argv) > 1: os.setsid()
"""


@pytest.mark.parametrize("argument", ["", "setsid"])
@pytest.mark.usefixtures("adopting")
def test_respawning_processes_are_ended(place: Place, argument: str) -> None:
    """Processes that fork and leave faster than a person can kill them are ended."""
    (place.path / "respawn.py").write_text(RESPAWNER)
    place.run_into_limit(f'"$PYTHON" respawn.py {argument}; sleep 60', grace=0.1)
    generations = len(place.pids(1))
    time.sleep(0.1)
    assert place.alive() == []
    assert len(place.pids(1)) == generations


@pytest.fixture
def unmarked_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not let us mark the limits of a command."""
    monkeypatch.setattr(proctree.Mark, "onto", lambda *_: None)


@pytest.mark.usefixtures("adopting", "unmarked_limits")
def test_leftover_without_any_mark_is_ended(place: Place) -> None:
    """What only this task can have left behind is ended, though nothing on it says so."""
    assert place.task(f"{UNMARKED.format(1)} {WAIT} exit 3").run().exit_code == 3
    assert place.pids(1)
    assert place.alive() == []
    assert zombies() == []


@pytest.mark.usefixtures("adopting", "unmarked_limits")
def test_leftover_without_any_mark_is_ended_by_the_last_that_may_own_it(place: Place) -> None:
    """While another task that may have started it runs, nobody ends it; then it goes."""
    older = place.task("while ! [ -e go ]; do sleep 0.01; done", "older")
    thread = threading.Thread(target=older.run)
    thread.start()
    place.task(f"{UNMARKED.format(1)} {WAIT} exit 0", "leaves").run()
    younger = place.task("while ! [ -e go ]; do sleep 0.01; done; sleep 0.3", "younger")
    later = threading.Thread(target=younger.run)
    later.start()
    assert place.alive() == place.pids(1)
    (place.path / "go").touch()
    thread.join()
    assert place.alive() == []
    later.join()


@pytest.mark.usefixtures("adopting", "unmarked_limits")
def test_processes_of_others_than_tasks_are_spared(place: Place) -> None:
    """Our other children live on, and so does a daemon that was there before the task."""
    spawn = ["sh", "-c", "echo $$ >pid0; exec sleep 60"]
    early = ["sh", "-c", f"cd {place.path}; {UNMARKED.format(1)}"]
    os.waitpid(os.posix_spawn("/bin/sh", early, os.environ), 0)
    place.pids(1)
    time.sleep(0.02)  # the kernel's clock for processes has a hundred ticks a second
    task = place.task(f"{UNMARKED.format(2)} while ! [ -s pid2 ]; do sleep 0.01; done")
    child = os.posix_spawn("/bin/sh", [*spawn[:2], f"cd {place.path}; {spawn[2]}"], os.environ)
    expected = set(place.pids(2))
    task.run()
    assert set(place.alive()) == expected
    for pid in expected:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert child in expected


@pytest.mark.usefixtures("adopting", "unmarked_limits")
def test_what_cannot_be_ended_is_not_tried_again_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process in an uninterruptible wait holds up its own task only."""
    monkeypatch.setattr(proctree, "KILL_SECONDS", 0.05)
    following = place.task("exit 0", "following", grace=0)
    with monkeypatch.context() as patched:
        patched.setattr(proctree.Tree, "_signal_all", lambda *_: None)
        place.task(f"{UNMARKED.format(1)} {WAIT} exit 0", grace=0).run()
        # The task after it had begun before, so it may own what is left.
        following.run()
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot end the processes {place.pids(1)[0]} of a task; they are left running"
    ]


@pytest.mark.parametrize("daemon", ["marked", "unmarked"])
@pytest.mark.usefixtures("adopting")
def test_tasks_do_not_end_each_others_daemons(place: Place, daemon: str) -> None:
    """Each task ends its own leftovers only, though all are adopted by one process."""
    results: dict[str, Finished] = {}

    def slot(name: str, script: str) -> None:
        results[name] = place.task(script, name).run()

    marked = 'setsid sh -c "echo \\$\\$ >pid{0}; exec sleep 60" &'
    script = marked if daemon == "marked" else UNMARKED
    long = script.format(1) + WAIT + 'while ! [ -e go ]; do sleep 0.01; done; kill -0 "$(cat pid1)"'
    thread = threading.Thread(target=slot, args=("long", long))
    thread.start()
    first = place.pids(1)
    for _ in range(5):
        # The sleep: not in the moment before the limits are marked.
        slot(
            "short",
            "sleep 0.1; " + script.format(2) + " while ! [ -s pid2 ]; do sleep 0.01; done; exit 4",
        )
        assert results["short"].exit_code == 4
        assert place.alive() == first
        (place.path / "pid2").unlink()
    (place.path / "go").touch()
    thread.join()
    assert results["long"].exit_code == 0
    assert place.alive() == []


@pytest.mark.usefixtures("adopting")
def test_orphans_that_end_are_reaped_while_the_task_runs(place: Place) -> None:
    """A long task that sheds orphans does not fill the process table."""
    orphan = "sh -c 'echo $$ >pid$0'"
    orphans = f"for i in 1 2 3; do (setsid {orphan} a$i &); ({orphan} b$i &); done"
    task = place.task(f"{orphans}; while [ ! -e seen ]; do sleep 0.02; done", time_limit=60)
    thread = threading.Thread(target=task.run)
    thread.start()
    pids = place.pids(6)
    deadline = time.monotonic() + 10
    while (left := [p for p in pids if proctree.look(p)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    runs = thread.is_alive()
    (place.path / "seen").touch()
    thread.join()
    assert (left, runs) == ([], True)


@pytest.mark.usefixtures("adopting")
def test_children_of_other_code_are_not_stolen(place: Place) -> None:
    """A child that the main thread started otherwise keeps its exit code for its parent."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ)
    thread = threading.Thread(target=place.task("sleep 0.2; (true &) ; exit 0").run)
    thread.start()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.usefixtures("adopting")
def test_many_tasks_at_once_keep_their_own_exit_codes(place: Place) -> None:
    """Threads, the main thread among them, never reap each other's commands."""
    wrong: list[tuple[int, int]] = []

    def slot(number: int) -> None:
        for turn in range(25):
            code = (number * 25 + turn) % 100
            got = place.task(f"(true &) ; exit {code}", f"slot{number}").run().exit_code
            if got != code:
                wrong.append((code, got))

    threads = [threading.Thread(target=slot, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    slot(3)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert zombies() == []


@pytest.mark.usefixtures("adopting")
def test_cpu_of_killed_children_is_counted(place: Place) -> None:
    """CPU time of a child that died with its script at the limit is not lost."""
    code = "import time\nwhile time.process_time() < 0.1: pass\nopen('pid', 'w')\nwhile True: pass"
    finished = place.run_into_limit(f'"$PYTHON" -c "{code}"; true')
    assert finished.cpu >= 0.1


def test_zombie_leader_with_a_living_thread_is_alive(place: Place) -> None:
    """A process whose first thread has gone is ended at the limit, not taken for dead."""
    code = (
        "import ctypes, threading, time; "
        "threading.Thread(target=time.sleep, args=(60,)).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    finished = place.task(f'exec "$PYTHON" -c "{code}"', time_limit=0.5).run()
    assert finished.exit_code == 124
    assert 0.5 <= finished.wall < 5
