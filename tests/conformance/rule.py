"""A rule of the wire contract."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One testable sentence."""

    key: str
    text: str
    tests: tuple[str, ...]
