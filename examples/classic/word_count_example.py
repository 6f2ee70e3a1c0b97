#!/usr/bin/env python3
"""A pilot whose work is Python: the input of a token names a file, whose words are counted.

usage: python pushTokens.py wordCountExample.txt
       python word_count_example.py
"""

from pathlib import Path

import picasconfig

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.modifiers import BasicTokenModifier


class WordCountActor(RunActor):
    """Counts the words of a file."""

    modifier = BasicTokenModifier()

    def process_task(self, token):
        """Count; a file that cannot be read is the token's error, and the pilot goes on."""
        print("Working on token:", token["_id"], flush=True)
        try:
            words = len(Path(token["input"]).read_text().split())
        except OSError as error:
            token["output"] = f"{token['input']}: {error.strerror}"
            token["exit_code"] = 1
        else:
            token["output"] = {"words": words}
            token["exit_code"] = 0
            token.put_attachment("word_count", f"{words}\n")
        self.modifier.close(token)


def main():
    """Count until no file is left."""
    db = CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )
    WordCountActor(db, view="todo", design_doc="Monitor").run()


if __name__ == "__main__":
    main()
