#!/usr/bin/env python3
"""Push the tokens of the autopilot example: two that need 1 core, one that needs 4.

usage: python pushAutoPilotExampleTokens.py
"""

from pushTokens import CORES, get_db, push


def main():
    """Push them."""
    ids = push(get_db(), {"cores": CORES}, input="echo $SLURM_CPUS_PER_TASK")
    for token_id, cores in zip(ids, CORES, strict=True):
        print(f"{token_id}: {cores} core{'s' if cores > 1 else ''}")


if __name__ == "__main__":
    main()
