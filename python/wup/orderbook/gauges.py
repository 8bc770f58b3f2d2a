"""What the orderbook service shows of itself, brought up to date once a second (docs/orderbook.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.metrics import (
    BOOKS,
    MARKS_LATE,
    QUEUE_AGE,
    QUEUE_BYTES,
    QUEUE_MESSAGES,
    STORE,
    UNANSWERED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup._core import BookStore
    from wup.bus import Bus

_STATES = ("live", "degraded", "down", "closed")
_COUNTS = ("messages", "changes", "ignored", "holes", "bad", "unknown_asset", "panics")


class Gauges:
    """Reads the store and the bus; the hot path counts natively and never comes here."""

    def __init__(self, bus: Bus, store: BookStore) -> None:
        self._bus = bus
        self._store = store
        self._counted = dict.fromkeys(_COUNTS, 0)

    def tick(self, marks_late: Mapping[str, float], unanswered: int) -> None:
        """`marks_late`: seconds by platform; `unanswered`: legs that wait for a snapshot."""
        stats = self._store.stats()
        for state in _STATES:
            BOOKS.labels(state).set(stats[f"books_{state}"])
        for what, before in self._counted.items():
            STORE.labels(what).inc(stats[what] - before)
        self._counted = {what: stats[what] for what in _COUNTS}
        for platform, late_s in marks_late.items():
            MARKS_LATE.labels(platform).set(late_s)
        UNANSWERED.set(unanswered)
        for name, queue in zip(("in", "out"), self._bus.queues(), strict=True):
            QUEUE_MESSAGES.labels(name).set(queue.messages)
            QUEUE_BYTES.labels(name).set(queue.bytes)
            QUEUE_AGE.labels(name).set(queue.age_s)
