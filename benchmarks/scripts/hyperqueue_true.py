# mypy: ignore-errors
"""`/bin/true` by HyperQueue, with its default capture: ``hyperqueue_true.py TASKS CORES``.

Server and worker run already. The time runs from the submission of the job to the start of its
last task, as the capture file of that tells: waiting for a job looks only once a second.
"""

import json
import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

number, cores = int(sys.argv[1]), int(sys.argv[2])


def job(tasks):
    """A job of so many tasks."""
    made = Job()
    for _ in range(tasks):
        made.program(["/bin/true"])
    return made


with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=cores))
    client = cluster.client()
    client.wait_for_jobs([client.submit(job(2 * cores))])
    work = job(number)
    begun = time.time()
    submitted = client.submit(work)
    assert client.wait_for_jobs([submitted], raise_on_error=False)
    captures = list(Path().glob("*.stderr"))
    assert len(captures) == number, f"{len(captures)} tasks were captured"
    seconds = max(path.stat().st_mtime for path in captures) - begun
print(json.dumps({"tokens": number, "seconds": seconds}), flush=True)
