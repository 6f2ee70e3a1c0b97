"""Several worker processes that begin at the same moment, and what they report.

A worker prints a line when it is ready, waits for a line, works, and prints a line of JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT
from benchmarks.report import WrongCount

PATIENCE_SECONDS = 1_200.0
"""Workers that take longer hang."""


@dataclass(frozen=True, slots=True)
class Run:
    """What workers did together.

    Attributes:
        ended: Tokens that they ended within the time that counts, each counted once.
        seconds: That time: from the moment when all were told to begin.
        twice: Executions beyond the first of a token.
    """

    ended: int
    seconds: float
    twice: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.ended / self.seconds


def run_together(commands: Sequence[Sequence[str]], environ: Mapping[str, str], log: Path) -> Run:
    """Start workers, let them begin when all are ready, and wait for them.

    Args:
        commands: One worker each.
        environ: Variables beside this process's own.
        log: Where their standard error goes.

    Raises:
        WrongCount: One of them failed.
    """
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab"))
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            )
            for command in commands
        ]
        watchdog = threading.Timer(PATIENCE_SECONDS, _kill, [workers])
        stack.callback(watchdog.cancel)
        watchdog.start()
        try:
            for worker in workers:
                _read(worker, log)
            begun = time.monotonic()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            reports = [json.loads(_read(worker, log)) for worker in workers]
        except BaseException:
            _kill(workers)
            raise
    return added_up(reports, begun)


def added_up(reports: Sequence[Mapping[str, Any]], begun: float) -> Run:
    """What workers did together.

    Args:
        reports: What each printed: the ids of the tokens that it ``executed`` and ``ended``, and
            either how many seconds count (``window``) or when it ended its ``last``.
        begun: When they were told to begin.
    """
    executed = Counter(token for report in reports for token in report["executed"])
    ended = {token for report in reports for token in report["ended"]}
    if "window" in reports[0]:
        seconds = reports[0]["window"]
    else:
        seconds = max(report["last"] for report in reports) - begun
    return Run(len(ended), seconds, executed.total() - len(executed))


def ours(url: str, pilots: int, log: Path, *options: str, slots: int = 1) -> Run:
    """Run pilots of ours on a pool until it is empty."""
    command = [sys.executable, "-m", "benchmarks.pilot", f"--slots={slots}", *options]
    return run_together([command] * pilots, {"PICAS_POOL": url}, log)


def _kill(workers: Sequence["subprocess.Popen[str]"]) -> None:
    for worker in workers:
        worker.kill()


def _read(worker: "subprocess.Popen[str]", log: Path) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        worker.wait()
        tail = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise WrongCount(f"a worker ended with status {worker.returncode}: {tail}")
    return line
