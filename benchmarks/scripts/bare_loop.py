"""The limit: `/bin/true` from a bare loop of threads: ``bare_loop.py TASKS THREADS FOLDER``.

Standard output and error go into a file each, as a record of a run needs.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

number, threads, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])


def loop(thread: int) -> None:
    """Start commands, one after another."""
    for i in range(thread, number, threads):
        with (folder / f"{i}.out").open("wb") as out, (folder / f"{i}.err").open("wb") as err:
            subprocess.run(
                ["/bin/true"], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=True
            )


begun = time.monotonic()
workers = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(json.dumps({"tokens": number, "seconds": time.monotonic() - begun}))
