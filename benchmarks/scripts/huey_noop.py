# mypy: ignore-errors
"""No-op tasks in huey's SQLite queue: ``huey_noop.py TASKS WORKERS process|thread FILE``.

The time runs from the start of the first task to the end of the last.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from huey import SqliteHuey

number, workers, kind, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
huey = SqliteHuey(filename=str(folder / "huey.db"))


def note(what):
    """Leave the time for the process that waits; it is the same clock in all processes."""
    part = folder / f"{what}.part"
    part.write_text(str(time.monotonic()))
    part.rename(folder / what)


@huey.task()
def noop(i):
    """Do nothing, but for the first and the last."""
    if i == 0:
        note("first")
    elif i == number - 1:
        note("last")


def end_when_done():
    """Stop the consumer when the last task is done and nothing waits."""
    while not (folder / "last").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


for i in range(number):
    noop(i)
consumer = huey.create_consumer(workers=workers, worker_type=kind, periodic=False)
threading.Thread(target=end_when_done, daemon=True).start()
try:
    consumer.run()
finally:
    first, last = (float((folder / what).read_text()) for what in ("first", "last"))
    assert huey.pending_count() == 0, huey.pending_count()
    print(json.dumps({"tokens": number, "seconds": last - first}), flush=True)
