#!/bin/bash
#SBATCH --array=0-5
#SBATCH --time=01:30:00
#
# Pilots in Slurm: six jobs, each of which takes tokens until none is left.
#
# usage: sbatch slurm-example.sh        in the folder with local-example.py
#
# DESIGN_DOC and VIEW say which tokens: sbatch --export=ALL,DESIGN_DOC=MultiCore,VIEW=todo …
# The time above is an hour of tokens (max_total_time in local-example.py), and the half hour that
# the last of them may take.

# What your site needs for Python goes here, for example: module load Python; . venv/bin/activate

# exec: the pilot takes the place of this shell, so that Slurm's signals reach it and it can give
# its token back.
exec python3 local-example.py --design_doc "${DESIGN_DOC:-Monitor}" --view "${VIEW:-todo}"
