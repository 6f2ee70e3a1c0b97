#!/usr/bin/env python3
"""A pilot: take tokens from the pool, one after the other, and run process_task.sh for each.

usage: python local-example.py [--design_doc Monitor] [--view todo] [--verbose]

It ends when nothing is left to do, or when one of the limits in main() is reached. It runs alike
here, in a Slurm job (slurm-example.sh) and in a Grid job (grid-example.jdl).
"""

import argparse
import logging
from pathlib import Path

import picasconfig

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute
from picas.iterators import EndlessViewIterator  # noqa: F401  (see ExampleActor.__init__)
from picas.modifiers import BasicTokenModifier

PROCESS_TASK = Path(__file__).with_name("process_task.sh")
LINE = "-" * 23


class ExampleActor(RunActor):
    """Runs process_task.sh with the token's input; example-template.py has all the methods."""

    def __init__(self, db, modifier, view="todo", **view_params):
        """Get ready to take tokens from a view.

        Args:
            db: The connection.
            modifier: Writes the state of tokens.
            view: Where the tokens come from.
            view_params: More about it: ``design_doc``, and what CouchDB knows of views.
        """
        super().__init__(db, view=view, **view_params)
        self.modifier = modifier
        # Wait for more tokens when there are none, until max_total_time is over:
        # self.iterator = EndlessViewIterator(self.iterator)

    def process_task(self, token):
        """Run one token: what is changed in it here goes back to the pool."""
        print(LINE)
        print("Working on token:", token["_id"])
        for field, value in token.doc.items():
            print(field, value)
        print(LINE, flush=True)

        command = ["bash", str(PROCESS_TASK), token["input"], token["_id"]]
        self.subprocess, exit_code, stdout, stderr = execute(command)

        token["exit_code"] = exit_code
        self.modifier.close(token)
        token.put_attachment(f"logs_{token['_id']}.out", stdout, "text/plain")
        token.put_attachment(f"logs_{token['_id']}.err", stderr, "text/plain")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--design_doc", default="Monitor", help="the design (default: Monitor)")
    parser.add_argument("--view", default="todo", help="a view of it (default: todo)")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell more")
    return parser.parse_args()


def main():
    """Connect, and work until a limit is reached."""
    args = arguments()
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("picas").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    client = CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )
    print(f"Connected to the database {picasconfig.PICAS_DATABASE}. Now starting work...")
    actor = ExampleActor(client, BasicTokenModifier(), view=args.view, design_doc=args.design_doc)
    # A token may take half an hour (in seconds) and has three tries; the pilot ends after an hour,
    # or ten tokens.
    actor.run(max_token_time=1800, max_total_time=3600, max_tasks=10, max_scrub=2)


if __name__ == "__main__":
    main()
