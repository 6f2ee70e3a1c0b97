#!/usr/bin/env python3
"""Delete the tokens of a view from the pool.

usage: python deleteTokens.py Monitor/error
"""

import argparse

import picasconfig

from picas.clients import CouchDB


def get_db():
    """Connect to the pool."""
    return CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )


def main():
    """Delete what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("view", help="design/view, for example Monitor/error")
    design_doc, _, view = parser.parse_args().view.rpartition("/")
    deleted = get_db().delete_from_view(view, design_doc=design_doc or "Monitor")
    print("Number of deleted tokens:", sum(deleted))


if __name__ == "__main__":
    main()
