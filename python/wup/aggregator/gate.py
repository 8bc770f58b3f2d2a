"""When a venue may be connected to: one gate for all connections of a venue.

Three things hold a connection back: the venue's own word (`Retry-After`), the rate at which it may be
connected to, and a circuit breaker. The breaker opens after failures in a row with no success between them,
whatever connection they happened on; then one connection at a time tries, ever more rarely, and all the
others wait. A success is a socket on which the venue has said something, not one that merely opened.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from wup import backoff, logs
from wup.metrics import BREAKER

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.clock import Clock
    from wup.venues.base import Limits

FAILURES = 5
"""In a row, until the breaker opens."""
LONGEST_RETRY_AFTER_S = 900.0
"""What a venue can hold us back with one header; after that one connection asks again."""
PROBE_S = 60.0
"""After so long an undecided attempt no longer holds the others back."""
_STEP_S = 0.05
_SAY_S = 60.0

BreakerState = Literal["closed", "half_open", "open"]
_LEVEL: dict[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}


class Gate:
    """The breaker and the rate limit of one venue."""

    def __init__(
        self, platform: str, limits: Limits, clock: Clock, uniform: Callable[[float, float], float]
    ) -> None:
        self._platform = platform
        self._clock = clock
        self._uniform = uniform
        self._rate = limits.connects_per_minute / 60
        self._burst = float(limits.connects_at_once)
        self._tokens = self._burst
        self._at = clock.monotonic()
        self._failures = 0
        self._opened = 0
        self._until = 0.0
        self._held_until = 0.0
        self._attempts = 0
        self._probe: int | None = None
        """The attempt on which everybody waits while the breaker is half open."""
        self._probed_at = 0.0
        self._state: BreakerState = "closed"
        self._turn = asyncio.Lock()
        self._said: dict[str, tuple[float, int]] = {}
        """Event -> when it was logged, and how often it has happened since."""
        BREAKER.labels(platform).set(0)

    @property
    def state(self) -> BreakerState:
        """`open`: nobody tries; `half_open`: one connection tries; `closed`: all as usual."""
        if self._state == "open" and self._clock.monotonic() >= self._until:
            self._set("half_open")
        return self._state

    def held_s(self) -> float:
        """Seconds for which the venue or the breaker holds everybody back."""
        now = self._clock.monotonic()
        until = max(self._held_until, self._until if self._state == "open" else 0.0)
        return max(0.0, until - now)

    async def enter(self) -> int:
        """Wait until one attempt may be made; its number, which `succeeded`, `failed` or `left` must follow:
        attempts that began before the breaker opened, or last for long, decide nothing about later ones."""
        async with self._turn:
            while True:
                wait = self._wait_s()
                if wait <= 0:
                    break
                await asyncio.sleep(wait)
            self._tokens -= 1
            self._attempts += 1
            if self.state == "half_open":
                self._probe = self._attempts
                self._probed_at = self._clock.monotonic()
            return self._attempts

    def _wait_s(self) -> float:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        held = self.held_s()
        if held > 0:
            return held
        if self.state == "half_open" and self._probe is not None and now - self._probed_at < PROBE_S:
            # Another one's attempt decides first.
            return _STEP_S
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        return 0.0

    def tell(self, event: str, connection: str, detail: str) -> None:
        """Log what went wrong; a venue that is away for hours gets a line a minute for each kind of event."""
        now = self._clock.monotonic()
        at, unsaid = self._said.get(event, (-_SAY_S, 0))
        if now - at < _SAY_S:
            self._said[event] = (at, unsaid + 1)
            return
        self._said[event] = (now, 0)
        logs.log("aggregator").warning(
            event, platform=self._platform, connection=connection, detail=logs.clean(detail), unsaid=unsaid
        )

    def left(self, attempt: int) -> None:
        """An attempt was given up before it said anything about the venue."""
        if attempt == self._probe:
            self._probe = None

    def succeeded(self) -> None:
        """The venue has spoken on a new socket, whichever attempt it was."""
        self._probe = None
        self._failures = self._opened = 0
        if self._state != "closed":
            self._set("closed")

    def failed(self, attempt: int, retry_after_s: float | None) -> None:
        """No connection came about, or it ended before a word; `retry_after_s` is the venue's own wish."""
        now = self._clock.monotonic()
        self._failures += 1
        if retry_after_s is not None:
            self._held_until = max(self._held_until, now + min(retry_after_s, LONGEST_RETRY_AFTER_S))
        if attempt == self._probe or (self._state == "closed" and self._failures >= FAILURES):
            longest = min(backoff.CAP_S, 2.0**self._opened)
            self._opened = min(self._opened + 1, 30)
            # Never near zero: a venue in maintenance gets a few attempts a minute. Its own word wins.
            pause = self._uniform(longest / 2, longest) if retry_after_s is None else 0.0
            self._until = now + pause
            self._probe = None
            self._set("open")

    def _set(self, state: BreakerState) -> None:
        if state == self._state:
            return
        if "closed" in (state, self._state):
            # Each probe of a long outage is no news.
            logs.log("aggregator").warning("breaker", platform=self._platform, state=state)
        self._state = state
        BREAKER.labels(self._platform).set(_LEVEL[state])
