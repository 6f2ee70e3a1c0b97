"""Tokens for the pilots under test."""

from typing import Any

from picas import token
from picas.pool import Pool


def push(pool: Pool, *inputs: Any, **fields: Any) -> None:
    """Push tokens t0, t1, … with these inputs."""
    docs = [token.new({"input": line, **fields}, f"t{i}") for i, line in enumerate(inputs)]
    assert all(pushed.error is None for pushed in pool.push(docs))
