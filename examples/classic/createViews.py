#!/usr/bin/env python3
"""Make the views of the pool: questions like "which tokens are still to do?".

usage: python createViews.py              the design Monitor, for all tokens
       python createViews.py autopilot    also SingleCore (cores = 1) and MultiCore (cores = 4)

Each design holds the views todo, locked, done, error and overview_total.
"""

import argparse

import picasconfig

from picas.clients import CouchDB

AUTOPILOT_CORES = {"SingleCore": 1, "MultiCore": 4}

STATES = {
    "todo": "doc.lock == 0 && doc.done == 0",
    "locked": "doc.lock > 0 && doc.done == 0",
    "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}


def get_db():
    """Connect to the pool; an embedded one is made if it is missing."""
    return CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
        create=picasconfig.PICAS_HOST_URL.startswith("sqlite:"),
    )


def create_views(db, design_doc, cores=None):
    """Make the views of one design.

    Args:
        db: The connection.
        design_doc: The part before the slash in ``Monitor/todo``.
        cores: Only tokens that say they need so many cores; None for all.
    """
    also = f" && doc.cores == {cores}" if cores else ""
    counted = ""
    for view, condition in STATES.items():
        db.add_view(view, map_function(condition + also, "doc._id, doc._id"), design_doc=design_doc)
        counted += branch(condition + also, f'"{view}", 1')
    db.add_view("overview_total", of_tokens(counted), reduce_fun="_sum", design_doc=design_doc)
    print(f"views of {design_doc}: {', '.join(STATES)}, overview_total")


def map_function(condition, row):
    """A map function that emits one row for each token that matches."""
    return of_tokens(branch(condition, row))


def branch(condition, row):
    """One condition of a map function."""
    return f"    if ({condition}) {{\n      emit({row});\n    }}\n"


def of_tokens(branches):
    """A map function over documents that are tokens."""
    return f'function (doc) {{\n  if (doc.type == "token") {{\n{branches}  }}\n}}'


def main():
    """Make the designs that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("example", nargs="?", choices=["autopilot"])
    args = parser.parse_args()
    db = get_db()
    create_views(db, "Monitor")
    if args.example == "autopilot":
        for design_doc, cores in AUTOPILOT_CORES.items():
            create_views(db, design_doc, cores)


if __name__ == "__main__":
    main()
