#!/bin/sh
# What a Grid job starts (grid-example.jdl): unpack PiCaS and what it needs, start a pilot.
#
# usage: sh startpilot.sh [options of local-example.py]
#
# It needs a Python 3.11 or newer with ssl, and nothing else of the machine. PICAS_PYTHON names one.

cd "$(dirname "$0")" || exit 1

usable() {
    "$1" -c 'import sys, ssl, sqlite3, zlib; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

for python in "$PICAS_PYTHON" python3 python3.14 python3.13 python3.12 python3.11 \
    /cvmfs/softdrive.nl/*/bin/python3 /cvmfs/sft.cern.ch/lcg/releases/Python/3.1[1-9]*/x86_64-el9-gcc*/bin/python3; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 && usable "$python"; then
        "$python" -m tarfile -e picas.tar picas-packages || exit 1
        PYTHONPATH=$PWD/picas-packages PYTHONDONTWRITEBYTECODE=1
        export PYTHONPATH PYTHONDONTWRITEBYTECODE
        exec "$python" local-example.py "$@"
    fi
done

echo "startpilot.sh: no Python 3.11 or newer on $(hostname)" >&2
exit 222 # DIRAC then sends the job elsewhere
