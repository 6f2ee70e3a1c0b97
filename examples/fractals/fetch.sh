#!/bin/sh
# Bring the pictures of finished tokens from the pool into a folder.
#
# usage: ./fetch.sh [VIEW [FOLDER]]       (default: Monitor/done, this folder)
set -eu

view=${1:-Monitor/done}
folder=${2:-.}

mkdir -p "$folder"
tokens=$(picas export "$view" --format jsonl)
ids=$(printf '%s\n' "$tokens" | python3 -c '
import json, sys

for line in sys.stdin:
    if line.strip():
        print(json.loads(line)["_id"])
')
printf '%s\n' "$ids" | while IFS= read -r id; do
    [ -z "$id" ] || picas get "$id" "output_$id.ppm" -o "$folder/output_$id.ppm" </dev/null
done
