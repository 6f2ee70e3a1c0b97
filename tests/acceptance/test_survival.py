"""What a pilot survives: huge output, a full disk, a lost server, a reader that leaves."""

import itertools
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.cli import PICAS, clean_environment, run_picas
from tests.components import skipped_component
from tests.couchdb.server import InstalledCouch, installed

from picas.pool import connect
from picas.token import State

GIB = 1 << 30


def push(folder: Path, *lines: str, **env: str) -> None:
    """Push lines into the pool of a folder."""
    run_picas("push", "-", cwd=folder, input="".join(f"{x}\n" for x in lines), env=env, check=0)


def pilot(folder: Path, *options: str, **env: str) -> "subprocess.Popen[str]":
    """Start a real pilot."""
    return subprocess.Popen(
        [PICAS, "run", *options],
        cwd=folder,
        env=clean_environment(folder.with_name(f"{folder.name}.home"), env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def resident_peak(pid: int) -> int:
    """The most KiB a running process had; what `wait4` tells includes the size of its parent."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


def test_five_gigabytes_of_output(tmp_path: Path) -> None:
    """A task's log of 5 GiB costs no memory; the token has its head and tail, the disk all."""
    # The middle is a hole, so that the test needs neither the disk nor the time.
    push(tmp_path, "echo head; truncate -s 5G /dev/stdout; echo tail >>/dev/stdout")
    running = pilot(tmp_path)
    peak = 0
    while running.poll() is None:
        peak = max(peak, resident_peak(running.pid))
        time.sleep(0.005)
    assert running.stderr is not None
    with running.stderr:
        assert running.returncode == 0, running.stderr.read()
    assert 0 < peak < 120 * 1024, "KiB resident"
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        (doc,) = pool.find("Monitor/done")
        log = b"".join(pool.attachment(doc["_id"], f"logs_{doc['_id']}.out"))
    assert log.startswith(b"head\n")
    assert log.endswith(b"tail\n")
    assert len(log) < (1 << 20) + 500
    (kept,) = tmp_path.glob("picas-logs/*/*.out")
    assert kept.stat().st_size > 5 * GIB
    assert str(kept).encode() in log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        skipped_component("a full disk", "mounting a small file system needs root")
        pytest.skip("a full disk: mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill_with_files(folder: Path) -> None:
    """Make files until the disk refuses."""
    for number in itertools.count():
        (folder / str(number)).touch()


def test_disk_full_for_the_logs(tmp_path: Path, small_disk: Path) -> None:
    """A task that fills the disk fails by itself; the next ones are given back, and why is said."""
    push(tmp_path, *["head -c 3M /dev/zero"] * 3)
    done = run_picas("run", "--slots", "1", "--keep-logs", "--logs", str(small_disk), cwd=tmp_path)
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        counts = pool.counts()
        assert counts[State.LOCKED] == 0
        assert counts[State.ERROR] + counts[State.TODO] == 3
        assert counts[State.ERROR] >= 1
        failed = next(pool.find("Monitor/error"))
    assert failed["exit_code"] == 1
    assert "Traceback" not in done.stderr


def test_full_disk_does_not_eat_the_pool(tmp_path: Path, small_disk: Path) -> None:
    """On a disk that is full no token is failed: all are given back, and status 7 says so."""
    push(tmp_path, *(f"echo {number}" for number in range(100)))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(2 << 20))
    done = run_picas("run", "--logs", str(small_disk / "logs"), cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        assert pool.counts() == {State.TODO: 100, State.LOCKED: 0, State.DONE: 0, State.ERROR: 0}


def test_disk_that_fills_up_meanwhile(tmp_path: Path, small_disk: Path) -> None:
    """Tokens that fail for lack of room that others took are given back, and the pilot ends."""
    # Several: one alone may be the last, whose ids are by chance behind all others.
    grabs = [f"head -c 2M /dev/zero >{small_disk}/filler{i}; exit 0" for i in range(5)]
    push(tmp_path, *grabs, *(f"echo {number}" for number in range(50)))
    logs = small_disk / "logs"
    done = run_picas("run", "--slots", "1", "--logs", str(logs), cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        counts = pool.counts()
    assert counts[State.LOCKED] == 0
    assert counts[State.ERROR] <= 1
    assert counts[State.TODO] > 0


def test_no_room_to_begin_a_log(tmp_path: Path, small_disk: Path) -> None:
    """Where not even a log can be begun, tokens are given back and the status says it."""
    push(tmp_path, "true", "true")
    # A log is an empty file at first: it is the entries of the folder that must run out.
    with pytest.raises(OSError, match="No space"):
        fill_with_files(small_disk)
    done = run_picas("run", "--logs", str(small_disk / "logs"), cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "No space left on device" in done.stderr
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        assert pool.counts()[State.TODO] == 2


@pytest.mark.couchdb
def test_server_restarts_in_mid_run(tmp_path: Path) -> None:
    """A CouchDB that goes away for a while costs time, not tokens; the pilot says what it does."""
    if not installed():
        skipped_component("restarts of CouchDB", "only an installed server can be restarted")
        pytest.skip("restarts of CouchDB: only an installed server can be restarted")
    with InstalledCouch() as server:
        url = server.database_url(server.new_database())
        with connect(url, create=True):
            pass
        push(tmp_path, *["sleep 0.05; echo x >>ledger"] * 60, PICAS_POOL=url)
        running = pilot(tmp_path, "--slots", "2", PICAS_POOL=url)
        while not (tmp_path / "ledger").exists():
            time.sleep(0.01)
        server.stop()
        time.sleep(1.5)
        server.start()
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        assert "no answer from" in err
        assert "the pool is back" in err
        assert "Traceback" not in err
        with connect(url) as pool:
            assert pool.counts()[State.DONE] == 60
            assert all(len(doc["attempts"]) == 1 for doc in pool.find("Monitor/done"))
    assert (tmp_path / "ledger").read_text() == "x\n" * 60


def test_reader_that_leaves(tmp_path: Path) -> None:
    """A pilot whose messages nobody reads any more goes on with its tokens."""
    push(tmp_path, *["true"] * 50)
    running = pilot(tmp_path, "-v")
    assert running.stderr is not None
    running.stderr.close()
    assert running.wait(timeout=60) == 0
    with connect(f"sqlite:///{tmp_path}/picas.db") as pool:
        assert pool.counts()[State.DONE] == 50


def test_server_that_is_not_there(tmp_path: Path) -> None:
    """A pool that does not answer at the start is one clear line and status 3."""
    done = run_picas("--pool", "http://127.0.0.1:9/nothing", "run", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1].endswith("Connection refused")
    assert "http://127.0.0.1:9" in done.stderr
    assert not list(tmp_path.iterdir())
