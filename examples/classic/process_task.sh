#!/bin/bash
#
# The work of one token; local-example.py starts it.
#
# usage: process_task.sh INPUT TOKENID
#
# Standard output and error are attached to the token, and the exit status becomes its exit_code.

INPUT=$1
TOKENID=$2
OUTPUT=output_$TOKENID

date
hostname
echo "$INPUT"
echo "$TOKENID"
echo "$OUTPUT"

# The quick example: the input is a command.
bash -c "$INPUT"
# The fractals example: the input is the options of a program. Use this line instead:
# bin/fractals -o $OUTPUT $INPUT

status=$?
if [ "$status" -ne 0 ]; then
    echo "the work of $TOKENID failed: status $status" >&2
    exit "$status"
fi

# On the Grid, copy $OUTPUT to your storage here: what stays in this folder is gone with the job.

date
