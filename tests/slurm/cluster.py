"""A Slurm of several nodes on this machine, loopback only, with a munge of its own.

Needs the daemons (Debian: ``slurmctld slurmd slurm-client munge``) and neither systemd nor a
configured Slurm. Every daemon is a child of the test run, and is ended by its process id.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.slurm.config import slurm_conf

START_SECONDS = 60.0
STOP_SECONDS = 10.0
JOB_SECONDS = 120.0

_DAEMONS = ("slurmctld", "slurmd", "munged")
_CLIENTS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_SBIN = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])
_PLUGINS = ("/usr/lib/*/slurm-wlm", "/usr/lib*/slurm", "/usr/local/lib/slurm")


def missing() -> str:
    """What stands in the way of a Slurm here; empty if nothing does."""
    absent = [name for name in _DAEMONS if _daemon(name) is None]
    absent += [name for name in _CLIENTS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return "" if _plugin_folder() else "the folder of Slurm's plug-ins was not found"


class Slurm:
    """A running Slurm.

    Attributes:
        environment: Variables that its commands need, beside the usual ones.
        nodes: The names of its nodes.
    """

    def __init__(self, nodes: int = 3, cpus: int = 8) -> None:
        """Prepare one; `start` starts it.

        Args:
            nodes: How many nodes.
            cpus: Cores of each, whatever the machine really has.
        """
        # A short path: it holds a socket, whose path may have 107 bytes.
        self._root = Path(tempfile.mkdtemp(prefix="picas-slurm-", dir="/tmp"))
        self._root.chmod(0o755)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._cpus = cpus
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.environment = {"SLURM_CONF": str(self._root / "slurm.conf")}

    def __enter__(self) -> Self:
        """Start it; it is stopped at the end of the ``with``."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its files."""
        self.stop()

    def start(self) -> None:
        """Start the daemons, and wait until every node is ready.

        Raises:
            RuntimeError: They do not come up; the text ends with what their logs say.
        """
        for folder in ("log", "state", *(f"spool-{node}" for node in self.nodes)):
            (self._root / folder).mkdir()
        self._start_munge()
        ports = _free_ports(1 + len(self.nodes))
        text = slurm_conf(
            self._root,
            user=getpass.getuser(),
            plugins=_plugin_folder(),
            controller_port=ports[0],
            nodes=dict(zip(self.nodes, ports[1:], strict=True)),
            cpus=self._cpus,
        )
        (self._root / "slurm.conf").write_text(text)
        self._start("slurmctld", [_program("slurmctld"), "-D", "-i"])
        for node in self.nodes:
            self._start_node(node)
        self.until("nodes that are ready", self._is_ready, START_SECONDS)

    def stop(self) -> None:
        """End its jobs and daemons, and remove its files."""
        if "slurmctld" in self._daemons:
            with contextlib.suppress(RuntimeError, subprocess.SubprocessError):
                self.run("scancel", "--user", getpass.getuser())
                self.until("empty queue", lambda: not self.queue(), STOP_SECONDS)
        # The controller first: else it waits for nodes that are gone.
        for name in ("slurmctld", *self.nodes, "munged"):
            if daemon := self._daemons.pop(name, None):
                _end(daemon)
        for pid in self._step_daemons():
            _kill_tree(pid)
        shutil.rmtree(self._root, ignore_errors=True)

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run a command of Slurm, or one that calls them.

        Args:
            command: For example ``squeue --noheader``.
            cwd: The folder; jobs run there.
            environment: All of its variables but Slurm's; by default those of this process.
            check: Whether it must succeed.

        Returns:
            Its standard output.

        Raises:
            RuntimeError: It failed; the text has its output.
        """
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**(os.environ if environment is None else environment), **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def submit(
        self, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> str:
        """Hand a job to ``sbatch``.

        Args:
            arguments: Its options and the script.
            cwd: The folder in which the job runs, and in which its output appears.
            environment: As for `run`.

        Returns:
            The job's id.
        """
        told = self.run("sbatch", "--parsable", *arguments, cwd=cwd, environment=environment)
        return told.strip().split(";")[0]

    def queue(self) -> list[str]:
        """The ids of the jobs that wait or run; an array's jobs have one each."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()

    def job(self, job_id: str) -> list[dict[str, str]]:
        """What ``scontrol show job`` says: one entry for each job of an array."""
        told = self.run("scontrol", "--oneliner", "show", "job", job_id)
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in told.splitlines()]

    def wait(self, seconds: float = JOB_SECONDS) -> None:
        """Wait until no job waits or runs.

        Raises:
            RuntimeError: There are jobs after all that time.
        """
        self.until("empty queue", lambda: not self.queue(), seconds)

    def kill_node(self, node: str) -> None:
        """Let a node lose its power: its daemon and all that runs there is killed.

        Slurm notices by itself after a while; `mark_down` tells it at once.
        """
        steps = self._step_daemons(node)
        if daemon := self._daemons.pop(node, None):
            daemon.kill()
            daemon.wait()
        for pid in steps:
            _kill_tree(pid)

    def mark_down(self, node: str) -> None:
        """Tell Slurm that a node is down: its jobs are requeued."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=died")

    def revive_node(self, node: str) -> None:
        """Let a killed node come back, and wait until it is ready."""
        self._start_node(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.until(f"node {node} that is ready", self._is_ready, START_SECONDS)

    def _start_node(self, node: str) -> None:
        self._start(node, [_program("slurmd"), "-D", "-N", node])

    def _start(self, name: str, command: list[str]) -> None:
        with (self._root / "log" / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _start_munge(self) -> None:
        """Munge, whose key and socket are ours; it refuses to run as root."""
        folder = self._root / "munge"
        folder.mkdir()
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o600)
        switch: list[str] = []
        if os.getuid() == 0:
            for path in (folder, folder / "key"):
                shutil.chown(path, "munge", "munge")
            switch = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        options = [
            f"--key-file={folder}/key",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            f"--log-file={folder}/log",
            f"--seed-file={folder}/seed",
        ]
        self._start("munged", [*switch, _program("munged"), "--foreground", *options])
        self.until("socket of munge", (folder / "socket").exists, STOP_SECONDS)

    def _is_ready(self) -> bool:
        told = self.run("sinfo", "--noheader", "--Node", "--format=%T", check=False).split()
        return len(told) == len(self.nodes) and set(told) <= {"idle", "mixed", "allocated"}

    def until(self, wanted: str, ready: Callable[[], bool], seconds: float = JOB_SECONDS) -> None:
        """Wait for something.

        Args:
            wanted: What it is, in words.
            ready: Whether it is so; asked several times a second.
            seconds: At most.

        Raises:
            RuntimeError: It is not so after all that time; the text has the ends of the logs.
        """
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise RuntimeError(f"Slurm: no {wanted} after {seconds:.0f} s\n{self._told()}")
            time.sleep(0.1)

    def _told(self) -> str:
        """The ends of the daemons' logs."""
        parts = []
        for log in sorted((self._root / "log").iterdir()):
            lines = log.read_text(errors="replace").splitlines()[-8:]
            parts.append(f"--- {log.name}\n" + "\n".join(lines))
        return "\n".join(parts)

    def _step_daemons(self, node: str = "*") -> list[int]:
        """The processes that watch over jobs (``slurmstepd``): told by the log that is open."""
        logs = set(map(str, (self._root / "log").glob(f"slurmd-{node}.log")))
        return [pid for pid in _pids() if _name(pid) == "slurmstepd" and logs & _open_files(pid)]


def _daemon(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_SBIN)


def _program(name: str) -> str:
    found = _daemon(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


def _plugin_folder() -> str:
    for pattern in _PLUGINS:
        for folder in sorted(Path("/").glob(pattern[1:])):
            if (folder / "select_cons_tres.so").exists():
                return str(folder)
    return ""


def _free_ports(count: int) -> list[int]:
    """Different ports that are free now."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _open_files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(entry.readlink()))
    return found


def _kill_tree(pid: int) -> None:
    """Kill a process and all below it, from the top: none can start another one unseen."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGSTOP)
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, file.read_text().split())
        os.kill(pid, signal.SIGKILL)
    for child in children:
        _kill_tree(child)
