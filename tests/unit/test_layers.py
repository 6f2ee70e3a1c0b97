"""Arrows point one way: what a module of picas may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import picas

ROOT = Path(picas.__file__).parent

LAYERS: list[tuple[str, ...]] = [
    ("__init__",),
    ("cli", "__main__"),
    ("web",),
    ("autopilot",),
    ("actors", "srmclient", "couchdblogger"),
    ("iterators", "srm", "endings"),
    ("clients", "transfer", "by_hand"),
    ("database", "holding"),
    ("documents", "modifiers", "generators", "executers", "picas_config"),
    ("brood", "usage", "merge", "interop", "picaslogger", "util"),
    ("pilot",),
    ("explain",),
    ("figures",),
    ("pool",),
    ("sweeps",),
    ("inputs",),
    ("mapfunctions",),
    ("views",),
    ("conditions",),
    ("schedulers",),
    ("process",),
    ("proctree", "logs", "spawn"),
    ("config",),
    ("classic_config",),
    ("crypto",),
    ("credentials",),
    ("retry",),
    ("packing",),
    ("needs",),
    ("token",),
    ("jobid", "backoff", "cgroup", "javascript", "units", "wellformed"),
    ("errors", "version", "dice"),
]
"""Top to bottom: a module imports only from layers below its own, and from its own package."""

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(ROOT.rglob("*.py"))


def part(file: Path) -> str:
    """The module or package right below ``picas`` that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """The parts of picas that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "picas":
                first = rest.split(".")[0]
                yield first if first in RANK else "__init__"


def test_every_module_has_its_place() -> None:
    """A new module is put into a layer before it can be used."""
    assert {part(file) for file in FILES} <= RANK.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    """No module imports from beside or above its layer."""
    own = part(file)
    up = {name for name in imports(file) if name != own and RANK[name] <= RANK[own]}
    assert not up, f"{file.relative_to(ROOT)} is below {', '.join(sorted(up))}"


def test_a_pilot_stays_light() -> None:
    """A pilot on a worker node loads neither the command line nor its libraries."""
    code = "import sys, picas.pilot, picas.pool; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"click", "rich", "picas.cli", "picas.figures", "keyring"} & set(loaded)
