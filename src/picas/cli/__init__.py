"""The ``picas`` command."""

from picas.cli.main import main

__all__ = ["main"]
