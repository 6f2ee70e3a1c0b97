#!/usr/bin/env python3
"""Put tokens into the pool: one for each line of a file, or those of an example.

usage: python pushTokens.py quickExample.txt    one token for each line
       python pushTokens.py quick               the same: three quick commands
       python pushTokens.py fractals            what createTokens makes
       python pushTokens.py autopilot           two tokens for 1 core, one for 4
"""

import argparse
import subprocess
import sys
from pathlib import Path

import picasconfig
from create_tokens import create_tokens

from picas.clients import CouchDB

FOLDER = Path(__file__).parent
CORES = [1, 1, 4]


def get_db():
    """Connect to the pool."""
    return CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )


def read_lines(file):
    """The lines of a file that are not empty; ``-`` is the standard input."""
    text = sys.stdin.read() if file == "-" else Path(file).read_text()
    return [line for line in text.splitlines() if line.strip()]


def push(db, fields, **common):
    """Put tokens into the pool, each under a number that is free.

    Args:
        db: The connection.
        fields: As `create_tokens` wants them.
        common: Fields that all of the tokens get.

    Returns:
        The ids.
    """
    todo = create_tokens(fields)
    for token in todo:
        token.update(common)
    ids = []
    number = len(todo)
    while todo:
        saved = db.save_documents(todo)
        ids += [token.id for token, is_new in zip(todo, saved, strict=True) if is_new]
        todo = [token for token, is_new in zip(todo, saved, strict=True) if not is_new]
        # Those were taken: go on behind what is there.
        number = max(number, db.doc_count()) if todo else number
        for token in todo:
            token.id = f"token_{number}"
            number += 1
    return ids


def main():
    """Push what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="quick", metavar="FILE|quick|fractals|autopilot")
    what = parser.parse_args().what
    common = {}
    if what == "quick":
        fields = {"input": read_lines(FOLDER / "quickExample.txt")}
    elif what == "fractals":
        made = subprocess.run(
            [FOLDER / "createTokens", "-p"], stdout=subprocess.PIPE, text=True, check=True
        )
        fields = {"input": made.stdout.splitlines()}
    elif what == "autopilot":
        fields, common = {"cores": CORES}, {"input": "echo $SLURM_CPUS_PER_TASK"}
    elif what == "-" or Path(what).is_file():
        fields = {"input": read_lines(what)}
    else:
        parser.error(f"there is no file {what!r}, and no example of that name")
    ids = push(get_db(), fields, **common)
    print(f"{len(ids)} tokens pushed: {ids[0]} … {ids[-1]}" if ids else "nothing to push")


if __name__ == "__main__":
    main()
