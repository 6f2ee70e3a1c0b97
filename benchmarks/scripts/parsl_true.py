# mypy: ignore-errors
"""`/bin/true` as Parsl bash apps on its HTEX: ``parsl_true.py TASKS WORKERS FOLDER``.

The time runs from the first submission to the last result; the workers run already.
"""

import json
import sys
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider

number, workers, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


@parsl.bash_app
def true():
    """The command."""
    return "/bin/true"


provider = LocalProvider(init_blocks=1, max_blocks=1, launcher=SimpleLauncher())
executor = HighThroughputExecutor(
    address="127.0.0.1", max_workers_per_node=workers, provider=provider, encrypted=False
)
with parsl.load(Config(executors=[executor], run_dir=folder, usage_tracking=0)):
    for future in [true() for _ in range(2 * workers)]:
        future.result()
    begun = time.monotonic()
    futures = [true() for _ in range(number)]
    assert all(future.result() == 0 for future in futures)
    seconds = time.monotonic() - begun
print(json.dumps({"tokens": number, "seconds": seconds}), flush=True)
