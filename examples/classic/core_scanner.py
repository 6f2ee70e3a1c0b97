#!/usr/bin/env python3
"""An autopilot: if a view has tokens, submit pilots with the cores that they need to Slurm.

usage: python core_scanner.py                                     1 core, SingleCore/todo
       python core_scanner.py --cores 4 --design_doc MultiCore    4 cores, MultiCore/todo

It looks once; let cron or scrontab start it again and again. Nothing is submitted while pilots of
an earlier look still wait in the queue. Where there is no sbatch, it says what it would submit.
"""

import argparse
import logging
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import picasconfig

from picas.clients import CouchDB

JOB_SCRIPT = "slurm-example.sh"


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--design_doc", default="SingleCore", help="the design to look at")
    parser.add_argument("--view", default="todo", help="a view of it (default: todo)")
    parser.add_argument("--cores", type=int, default=1, help="cores of each pilot (default: 1)")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell more")
    return parser.parse_args()


def is_waiting(name):
    """Whether jobs of that name wait in Slurm's queue; without an answer nothing is submitted."""
    command = ["squeue", "--noheader", "--me", "--states=PENDING", f"--name={name}"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if answer.returncode != 0:
        sys.exit("core_scanner.py: squeue does not tell what is in the queue: nothing is submitted")
    return bool(answer.stdout.strip())


def submit(cores, design_doc, view):
    """Hand the job script to sbatch, from its own folder.

    Returns:
        An exit status.
    """
    name = f"picas-{design_doc}-{view}"
    command = [
        "sbatch",
        f"--job-name={name}",
        f"--cpus-per-task={cores}",
        f"--export=ALL,DESIGN_DOC={design_doc},VIEW={view}",
        JOB_SCRIPT,
    ]
    if shutil.which("sbatch") is None:
        print("There is no sbatch here; I would submit:", shlex.join(command))
        return 0
    if is_waiting(name):
        print(f"Pilots for {design_doc}/{view} are waiting already: nothing is submitted.")
        return 0
    return subprocess.run(command, cwd=Path(__file__).parent, check=False).returncode


def main():
    """Look, and submit if there is work."""
    args = arguments()
    logging.getLogger("PiCaS").setLevel(logging.DEBUG if args.verbose else logging.WARNING)
    client = CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )
    if not client.is_view_nonempty(args.view, design_doc=args.design_doc):
        print(f"Nothing to do in {args.design_doc}/{args.view}.")
        return 0
    print(f"There is work in {args.design_doc}/{args.view}.", flush=True)
    return submit(args.cores, args.design_doc, args.view)


if __name__ == "__main__":
    sys.exit(main())
