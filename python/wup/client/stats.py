"""What a feed has seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """What a feed has seen. `mismatches` are digests that did not agree: always 0, or something is wrong."""

    messages: int = 0
    mismatches: int = 0
    gaps: int = 0
    heartbeats: int = 0
    count_mismatches: int = 0
    connects: int = 0
