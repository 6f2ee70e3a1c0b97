#!/usr/bin/env python3
"""Give the tokens of a view back to todo; their logs are removed, scrub_count counts it.

usage: python resetTokens.py Monitor/locked        all that are locked, running or not
       python resetTokens.py Monitor/locked 24     those locked for more than 24 hours
       python resetTokens.py Monitor/error         all that failed
"""

import argparse
import sys
import time

import picasconfig

from picas.clients import CouchDB

HOUR = 3600
HOLDERS = ("lease", "pilot")
"""Fields that say who has the token: a pilot that still runs it cannot record its result then."""


def get_db():
    """Connect to the pool."""
    return CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )


def reset(db, view, hours=0.0):
    """Give tokens back.

    Args:
        db: The connection.
        view: ``design/view``.
        hours: Leave alone what was locked less than that ago.

    Returns:
        How many were reset.
    """
    design_doc, _, name = view.rpartition("/")
    before = time.time() - hours * HOUR
    found = db.get_from_view(name, design_doc=design_doc or "Monitor")
    old = [token for token in found if hours == 0 or token["lock"] < before]
    for token in old:
        token.update({"lock": 0, "done": 0, "hostname": "", "exit_code": ""})
        token["scrub_count"] = token.doc.get("scrub_count", 0) + 1
        for field in ("_attachments", *HOLDERS):
            token.doc.pop(field, None)
    return sum(db.save_documents(old)) if old else 0


def main():
    """Reset what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("view", help="design/view, for example Monitor/locked")
    parser.add_argument("hours", nargs="?", type=float, default=0.0, help="locked for longer")
    args = parser.parse_args()
    if not args.hours and sys.stdin.isatty():
        print(f"This resets all tokens in {args.view}, also those that run now.")
        input("Press Enter to continue, or Ctrl+C to leave it. ")
    print("Number of reset tokens:", reset(get_db(), args.view, args.hours))


if __name__ == "__main__":
    main()
