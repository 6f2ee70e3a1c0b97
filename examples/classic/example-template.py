#!/usr/bin/env python3
"""An actor to begin with: copy it, and fill in the methods that you need.

A run goes like this:

    prepare_env()                   once
    for each token:
        prepare_run()
        process_task(token)         yours
        cleanup_run()
    cleanup_env()                   once, also when the pilot is told to stop
"""

import picasconfig

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute
from picas.modifiers import BasicTokenModifier


class MyActor(RunActor):
    """What you do with a token."""

    def __init__(self, db, **view_params):
        """Take what your work needs, and keep it in self."""
        super().__init__(db, **view_params)
        self.modifier = BasicTokenModifier()

    def prepare_env(self, *args, **kwargs):
        """Before the first token: unpack software, make a scratch folder."""

    def prepare_run(self, *args, **kwargs):
        """Before each token: fetch its input. The token is in self.current_task."""

    def process_task(self, token):
        """The work. Change the token as you like: it is saved when this returns."""
        # Keep the process in self.subprocess: it is ended first when the pilot is told to stop.
        self.subprocess, exit_code, stdout, stderr = execute(["echo", str(token["input"])])

        # The result: 0 makes the token done, anything else an error (or another try: max_scrub).
        token["exit_code"] = exit_code
        self.modifier.close(token)

        # A small result is a field of the token, a larger one is attached as text or bytes.
        token["output"] = {"bytes": len(stdout)}
        token.put_attachment(f"logs_{token['_id']}.out", stdout, "text/plain")
        token.put_attachment(f"logs_{token['_id']}.err", stderr, "text/plain")

        # An exception that leaves this method makes the token an error too, with its traceback.

    def cleanup_run(self, *args, **kwargs):
        """After each token: remove its files."""

    def cleanup_env(self, *args, **kwargs):
        """At the end: remove the scratch folder."""


def main():
    """Connect and start; run() says when to stop, without limits it ends when no token is left."""
    db = CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )
    actor = MyActor(db, view="todo", design_doc="Monitor")
    actor.run(max_token_time=1800, max_total_time=3600, max_tasks=100, max_scrub=2)


if __name__ == "__main__":
    main()
