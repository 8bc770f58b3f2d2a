"""How often a connection usually brings data, and when its absence means something.

Heartbeats prove that a socket lives, not that its subscriptions do. What is usual is learnt, so a quiet
market is not called dead; and what is overdue is only asked for, since silence proves nothing.
"""

from __future__ import annotations

import math

FLOOR_S = 30.0
FACTOR = 20.0
"""Usual gaps without data until it is overdue."""
MEMORY_S = 60.0
"""Time constant of what is usual."""


class Expectation:
    """Fed with counts at times (monotonic seconds)."""

    __slots__ = ("_asked", "_at", "_count", "_last", "_rate", "_usual")

    def __init__(self, now: float) -> None:
        self._at = now
        self._last = now
        self._count = 0
        self._rate = 0.0
        self._usual = 0.0
        self._asked: float | None = None

    @property
    def per_second(self) -> float:
        """The usual rate, now."""
        return self._rate

    @property
    def asked(self) -> float | None:
        """Since when an answer is waited for."""
        return self._asked

    def count(self, total: int, now: float) -> None:
        """`total` messages so far."""
        passed = now - self._at
        if passed <= 0:
            return
        new = total - self._count
        self._rate += (new / passed - self._rate) * (1 - math.exp(-passed / MEMORY_S))
        self._count, self._at = total, now
        if new:
            # The rate keeps falling in a silence: what was usual is what it was before.
            self._last, self._usual, self._asked = now, self._rate, None

    def overdue(self, now: float) -> bool:
        """Is it time to ask? Never before the first message."""
        if not self._usual or self._asked is not None:
            return False
        return now - self._last >= max(FLOOR_S, FACTOR / self._usual)

    def ask(self, now: float) -> None:
        """A sign of life was asked for."""
        self._asked = now
