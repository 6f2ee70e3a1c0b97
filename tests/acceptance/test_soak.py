"""A short round of fault injection on each store; ``make soak`` has the long ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from soak.plan import KINDS, PERSON, make_plan
from tests.components import skipped_component

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--seed", "1", "--seeds", "1", "--tokens", "200", "--pilots", "4", "--seconds", "6")


@pytest.mark.parametrize("store", ["sqlite", pytest.param("couchdb", marks=pytest.mark.couchdb)])
def test_promises_are_kept_under_faults(store: str) -> None:
    """Pilots are killed and frozen, the pool fails, a person meddles: no promise is broken."""
    done = subprocess.run(
        [sys.executable, "-m", "soak", "--store", store, "--json", *SHORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout)
    for kind, why in figures["left_out"].items():
        skipped_component(f"fault injection on {store}: {kind}", why)
    assert figures["violations"] == [], figures["folder"]
    assert done.returncode == 0, done.stderr
    assert figures["lost"] == 0
    assert figures["tokens"] == 200
    assert sum(figures["states"].values()) == 200
    assert sum(figures["faults"].values()) > 5


@pytest.mark.parametrize("store", ["sqlite", "couchdb"])
def test_the_plan_comes_from_the_seed(store: str) -> None:
    """The same seed gives the same faults at the same times, another one others."""
    plan = make_plan(1, store, 30.0, 5.0)
    assert plan == make_plan(1, store, 30.0, 5.0)
    assert plan != make_plan(2, store, 30.0, 5.0)
    assert KINDS[store].keys() | PERSON.keys() == {step.kind for step in plan}
