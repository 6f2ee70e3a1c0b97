#!/usr/bin/env python3
"""Make the two files that a Grid job brings along, beside this script.

usage: python grid-sandbox/pack.py

picas.tar holds PiCaS as it is installed here. picasconfig.py holds the
values that ../picasconfig.py has here: a Grid job has no configuration file. The password is in
it: it is readable by you only, and a sandbox goes where you submit it.
"""

import importlib.util
import os
import sys
import tarfile
from pathlib import Path

SANDBOX = Path(__file__).resolve().parent
PACKAGE = "picas"
NAMES = ("PICAS_HOST_URL", "PICAS_DATABASE", "PICAS_USERNAME", "PICAS_PASSWORD")


def without_caches(member):
    """Leave out what Python makes itself, and who owns the files here."""
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def pack(file):
    """Write the package into a tar file."""
    with tarfile.open(file, "w") as tar:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            sys.exit(f"pack.py: the package {PACKAGE} is not installed here")
        tar.add(found.submodule_search_locations[0], PACKAGE, filter=without_caches)


def write_config(file):
    """Write the values of picasconfig as they are now."""
    sys.path.insert(0, str(SANDBOX.parent))
    import picasconfig

    if picasconfig.PICAS_HOST_URL.startswith("sqlite:"):
        sys.exit("pack.py: Grid jobs cannot reach a file of this machine: name a CouchDB database")
    lines = [f"{name} = {getattr(picasconfig, name)!r}\n" for name in NAMES]
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.writelines(lines)


def main():
    """Make both files."""
    write_config(SANDBOX / "picasconfig.py")
    pack(SANDBOX / "picas.tar")
    print("made picas.tar and picasconfig.py in", SANDBOX.name)


if __name__ == "__main__":
    main()
