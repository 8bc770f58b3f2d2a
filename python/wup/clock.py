"""Time, replaceable: every stage takes a `Clock`, so that tests and replay set the time themselves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations (a stepped wall clock must not fire a timer)."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to: for tests and replay."""

    __slots__ = ("us",)

    def __init__(self, us: int = 1_795_353_600_000_000) -> None:
        self.us = us

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1_000_000

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self.us += round(seconds * 1_000_000)


SYSTEM_CLOCK = SystemClock()
