"""Sphinx's settings for the documentation; ``make docs`` builds it."""

import re
from pathlib import Path

_init = Path(__file__).parents[1] / "src/picas/__init__.py"
_version = re.search(r'__version__ = "(.+)"', _init.read_text(encoding="utf-8"))

project = "PiCaS"
author = "The PiCaS developers"
release = _version[1] if _version else ""

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"PiCaS {release}"
html_copy_source = False
