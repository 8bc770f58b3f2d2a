"""Which orderbook services are heard: each publishes the marks of its shard every second, also when empty.

They are looked at each quarter of a second, so the books of a silent one are flagged within 3 s.
"""

from __future__ import annotations

from wup import logs
from wup.subjects import TWO_MARKS_S

_NO_MARKS_S = 5.0


class Shards:
    """When each shard's marks came last; times are monotonic seconds. A silent one vouches for no book."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._heard: dict[str, float] = {}
        self._silent: set[str] = set()
        self._mute = False  # nobody is heard at all
        self._warned = False

    def begin(self, now: float) -> None:
        """From now on marks are expected."""
        self._started = now

    @property
    def complete(self) -> bool:
        """Everybody who was ever heard is heard."""
        return bool(self._heard) and not self._silent

    def problems(self, now: float) -> list[str]:
        """`no_marks`, or `marks_late`."""
        if not self._heard:
            return ["no_marks"]
        return ["marks_late"] if any(now - at > _NO_MARKS_S for at in self._heard.values()) else []

    def marked(self, shard: str, now: float) -> bool:
        """Its marks came; True when that ends a silence, after which everything is to be fetched."""
        self._heard[shard] = now
        silence = self._mute or shard in self._silent
        self._mute = False
        self._silent.discard(shard)
        return silence

    def look(self, now: float) -> None:
        """Find out who has fallen silent."""
        log = logs.log("gateway")
        if not self._heard:
            self._mute = now - self._started > TWO_MARKS_S
            if not self._warned and now - self._started > _NO_MARKS_S:
                self._warned = True
                log.error("no marks from the orderbook service for 5 s; set PUBLISH_CHANGES=true there")
        for shard, at in self._heard.items():
            if now - at > TWO_MARKS_S and shard not in self._silent:
                self._silent.add(shard)
                log.error("marks of the orderbook service stopped (PUBLISH_CHANGES)", shard=shard)

    def vouch(self, shard: str | None) -> bool:
        """Is the producer heard? `shard` is None where a book's is not known yet."""
        if self._mute:
            return False
        if shard is None:
            return not self._silent or len(self._silent) < len(self._heard)
        return shard not in self._silent
