"""Conditions on a token's fields: one text, read by Python, JavaScript and SQL alike."""

from picas.conditions.meaning import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_PATH,
    MAX_TEXT,
    Condition,
)
from picas.conditions.parser import parse

__all__ = [
    "MAX_COMPARISONS",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MAX_PATH",
    "MAX_TEXT",
    "Condition",
    "parse",
]
