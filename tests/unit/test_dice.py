"""Choices at random are each pilot's own, whatever else is at work in its process."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import picas
from picas.backoff import delays
from picas.pool.couchdb.ids import between

SOURCES = Path(picas.__file__).parent

FORKED = """
import os
from picas.dice import dice
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, repr(dice.random()).encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode() != repr(dice.random()))
"""


@pytest.mark.parametrize(
    "choose",
    [lambda: next(islice(delays(), 3, 4)), lambda: between("00000000", "ffffffff")],
    ids=["waits", "places"],
)
def test_seeds_of_the_user_do_not_bring_pilots_into_step(choose: Callable[[], object]) -> None:
    """Tasks that run in the pilot may seed Python's generator: pilots still choose apart."""
    chosen = set()
    for _ in range(3):
        random.seed(17)
        chosen.add(choose())
    assert len(chosen) == 3


def test_nothing_uses_the_generator_that_users_seed() -> None:
    """Only one module imports Python's `random`."""
    imports = re.compile(r"^\s*(import|from) random\b", re.MULTILINE)
    found = [file for file in SOURCES.rglob("*.py") if imports.search(file.read_text())]
    assert found == [SOURCES / "dice.py"]


def test_a_forked_process_draws_other_numbers() -> None:
    """A child is not in step with its parent."""
    command = [sys.executable, "-c", FORKED]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "True\n"
