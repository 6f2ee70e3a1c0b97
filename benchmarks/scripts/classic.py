# mypy: ignore-errors
# ruff: noqa: D101, D102
"""A pilot of the classic client as a worker of a fleet; runs in that client's environment.

It closes tokens for some seconds: ``classic.py SECONDS``. The database is in ``CLASSIC_*``.
"""

import json
import logging
import os
import sys
import time

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.modifiers import BasicTokenModifier


class NoOp(RunActor):
    def __init__(self, db, seconds):
        super().__init__(db)
        self.deadline = time.monotonic() + seconds
        self.executed, self.ended = [], []

    def process_task(self, task):
        self.executed.append(task.id)
        task["exit_code"] = 0
        BasicTokenModifier().close(task)

    def cleanup_run(self):
        """Right after the client saved the token."""
        if time.monotonic() <= self.deadline:
            self.ended.append(self.executed[-1])

    def is_over(self):
        return time.monotonic() > self.deadline


logging.disable(logging.INFO)
seconds = float(sys.argv[1])
db = CouchDB(
    url=os.environ["CLASSIC_SERVER"],
    db=os.environ["CLASSIC_DATABASE"],
    username=os.environ["CLASSIC_USER"],
    password=os.environ["CLASSIC_PASSWORD"],
)
print("ready", flush=True)
sys.stdin.readline()
actor = NoOp(db, seconds)
try:
    actor.run(stop_function=actor.is_over)
except OSError as gave_up:
    # Ten conflicts in a row, or an empty view that it drew a row from: the client ends so.
    print(f"a classic pilot gave up: {gave_up}", file=sys.stderr)
print(json.dumps({"executed": actor.executed, "ended": actor.ended, "window": seconds}), flush=True)
