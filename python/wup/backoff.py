"""Attempt -> delay with full jitter (reliability.md section 2): pure, seeded by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_S = 0.25
CAP_S = 30.0


def full_jitter(
    attempt: int, uniform: Callable[[float, float], float], *, base: float = BASE_S, cap: float = CAP_S
) -> float:
    """Seconds to wait before retry number `attempt` (0 = the first): uniform(0, min(cap, base*2^attempt))."""
    return uniform(0.0, min(cap, base * 2 ** min(attempt, 30)))
