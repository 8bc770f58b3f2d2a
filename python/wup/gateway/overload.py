"""When the gateway has more to do than it can: who is kept out, and who has to go.

Two signs: the event loop runs late all the time (too much work), and too many bytes wait for slow readers in
sum (too much memory). While the first lasts, new clients get 503 with `Retry-After`; at the second the
connections with the most waiting are closed 1013, so that what is left is served well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup.gateway.connection import Connection
    from wup.gateway.limits import Limits

_LATE_FOR_S = 1.0


class Overload:
    """Looked at with every tick; times are monotonic seconds."""

    def __init__(self, limits: Limits, slots: int) -> None:
        self._lag_s = limits.ws_lag_ms / 1000
        self._most = limits.ws_waiting_bytes
        self._waiting = [0] * slots
        self._late_since: float | None = None
        self.busy = False

    def ticked(self, now: float, lag_s: float) -> None:
        """A tick came `lag_s` later than it should have."""
        if lag_s <= self._lag_s:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now - lag_s
        busy = self._late_since is not None and now - self._late_since >= _LATE_FOR_S
        if busy != self.busy:
            self.busy = busy
            logs.log("gateway").warning("overloaded" if busy else "overload is over", lag_s=round(lag_s, 3))

    def weigh(self, slot: int, waiting: int) -> bool:
        """Note what waits for the connections of a slot; True when all slots together hold too much."""
        self._waiting[slot] = waiting
        return sum(self._waiting) > self._most

    def shed(self, connections: Iterable[Connection]) -> None:
        """Close the connections with the most waiting until the rest is within the limit."""
        by_size = sorted(((each.backlog(), each) for each in connections), key=lambda pair: pair[0])
        total = sum(size for size, _ in by_size)
        gone = 0
        while total > self._most and by_size:
            size, connection = by_size.pop()
            connection.close(1013, "overloaded")
            total -= size
            gone += 1
        # Every slot is weighed anew: what was noted before holds no longer.
        self._waiting = [0] * len(self._waiting)
        if gone:
            logs.log("gateway").warning("too many bytes waiting, slowest readers closed", clients=gone)
