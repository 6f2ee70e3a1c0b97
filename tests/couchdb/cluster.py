"""A cluster of CouchDB nodes on this machine.

Every node has a loopback address of its own (127.0.0.1, 127.0.0.2, …). So all of them use one same
port for Erlang's distribution, and none needs the port mapper that everything written in Erlang on
a machine shares. The cookie by which they know each other is in a file of each.
"""

import contextlib
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from tests.couchdb.server import INSTALLED, START_SECONDS, InstalledCouch

NODES = 3
JOIN_SECONDS = 30.0

VM_ARGS = """\
-name {name}
-start_epmd false
-erl_epmd_port {dist}
-kernel inet_dist_use_interface {{{address}}}
-kernel prevent_overlapping_partitions false
-kernel error_logger silent
-sasl sasl_error_logger false
+SDio 4
+S 1:1
+Bd -noinput
-os_mon start_cpu_sup false
-os_mon start_memsup false
-os_mon start_disksup false
"""

LOCAL_INI = """\
[couchdb]
uuid = {uuid}
database_dir = {home}/data
view_index_dir = {home}/data
uri_file = {home}/couch.uri
{engine}
[chttpd]
bind_address = {host}
port = {port}
[cluster]
q = 2
n = {copies}
[mem3]
sync_delay = 500
[smoosh]
state_dir = {home}/data
[log]
writer = file
file = {home}/couch.log
[chttpd_auth]
iterations = 1000
[chttpd_auth_lockout]
mode = off
[admins]
admin = {password}
"""


class Node(InstalledCouch):
    """One node of a cluster, which can be stopped, killed and started by itself.

    Args:
        cluster: Whose node it is.
        number: From 1; also the last byte of its address.
    """

    def __init__(self, cluster: "InstalledCluster", number: int) -> None:
        super().__init__(installed=cluster.installed)
        self.cluster = cluster
        self.host = f"127.0.0.{number}"
        self.name = f"node{number}@{self.host}"
        self.password, self.uuid = cluster.password, cluster.uuid
        self.origin = f"{self.name} of a cluster from {self.installed}"

    def launch(self) -> None:
        """Start it without waiting for anything."""
        if self.home is None:
            self.home = self.cluster.folder / self.name
            self.home.mkdir()
        self._configure(self.home)
        with (self.home / "output.log").open("ab") as output:
            self.process = self._launch(self.home, output)

    def wait(self) -> None:
        """Wait until it answers."""
        assert self.home is not None, "it was never started"
        self._wait(self.home, time.monotonic() + START_SECONDS)

    def start(self) -> None:
        """Start it, and wait until all nodes that run see each other."""
        if self.process is None:
            self.launch()
            self.wait()
            self.cluster.wait_connected()

    def sees(self) -> set[str]:
        """Names of the nodes that it is connected with, its own included."""
        with self.raw() as raw:
            return set(raw.get("/_membership").json["all_nodes"])

    def has(self, name: str, doc_id: str, rev: str) -> bool:
        """Tell whether its own copy of a document is at a revision.

        Args:
            name: The database.
            doc_id: The document.
            rev: The revision.
        """
        with self.raw() as raw:
            own = raw.get("/_node/_local/_all_dbs").json
            paths = [quote(path, safe="") for path in own if f"/{name}." in path]
            found = [raw.get(f"/_node/_local/{path}/{doc_id}").json for path in paths]
        return any(doc.get("_rev") == rev for doc in found)

    def _configure(self, home: Path) -> None:
        (home / "data").mkdir(exist_ok=True)
        text = LOCAL_INI.format(
            uuid=self.uuid,
            home=home,
            engine=self._engine(),
            host=self.host,
            port=self.port,
            copies=NODES,
            password=self.password,
        )
        (home / "local.ini").write_text(text)
        address = self.host.replace(".", ",")
        vm_args = VM_ARGS.format(name=self.name, dist=self.cluster.port, address=address)
        (home / "vm.args").write_text(vm_args)
        cookie = home / ".erlang.cookie"
        cookie.touch(mode=0o600)
        cookie.write_text(self.cluster.cookie)
        (home / "couch.uri").unlink(missing_ok=True)

    def _ready(self, home: Path) -> bool:
        address = home / "couch.uri"
        if not address.exists() or not address.read_text().startswith("http"):
            return False
        self.port = urlsplit(address.read_text().split()[0]).port or 0
        self.url = f"http://admin:{self.password}@{self.host}:{self.port}"
        try:
            with self.raw() as raw:
                self.version = raw.get("/").json["version"]
                return raw.get("/_up").status == 200
        except OSError:
            return False


class InstalledCluster:
    """Three nodes of the installed CouchDB; each database has a copy on each of them.

    Attributes:
        nodes: The nodes.
        folder: Where their data are.
    """

    def __init__(self, *, installed: Path = INSTALLED) -> None:
        self.installed = installed
        self.password, self.cookie = secrets.token_hex(12), secrets.token_hex(12)
        self.uuid = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="picas-cluster-", dir="/tmp"))
        self.nodes = tuple(Node(self, number) for number in range(1, NODES + 1))
        self.port = _port_free_on([node.host for node in self.nodes])

    def __enter__(self) -> Self:
        """Start the nodes and join them."""
        try:
            self._launch()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def start(self) -> None:
        """Start the nodes that do not run, and wait until all see each other."""
        self._launch()
        self.wait_connected()

    def _launch(self) -> None:
        stopped = [node for node in self.nodes if node.process is None]
        for node in stopped:
            node.launch()
        for node in stopped:
            node.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the nodes and remove what they left on the disk."""
        self.close()

    def close(self) -> None:
        """Stop the nodes and remove what they left on the disk."""
        for node in self.nodes:
            if node.process is not None:
                node.process.terminate()
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def running(self) -> list[Node]:
        """The nodes that run."""
        return [node for node in self.nodes if node.process is not None]

    def wait_connected(self) -> None:
        """Wait until all nodes that run see each other."""
        names = {node.name for node in self.running()}
        until(lambda: all(names <= node.sees() for node in self.running()), "the nodes to meet")

    def _join(self) -> None:
        first, *others = self.nodes
        with first.raw() as raw:
            for node in others:
                raw.put(f"/_node/_local/_nodes/{node.name}", {})
            self.wait_connected()
            for system in ("_users", "_replicator"):
                reply = raw.put(f"/{system}")
                assert reply.status in (201, 202), reply.body


def until(condition: Callable[[], bool], what: str, seconds: float = JOIN_SECONDS) -> None:
    """Wait until a condition holds; fails by name if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


def _port_free_on(hosts: list[str]) -> int:
    """A port that is free on every one of these addresses."""
    while True:
        with contextlib.ExitStack() as stack:
            port = 0
            try:
                for host in hosts:
                    sock = stack.enter_context(socket.socket())
                    sock.bind((host, port))
                    port = sock.getsockname()[1]
            except OSError:
                continue
            return port
