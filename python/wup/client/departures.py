"""Books that the gateway serves no more: closed ones after their time, those that a new connection lacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wup.client.errors import FeedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wup.client.operations import Operations
    from wup.client.routes import Routes, StreamKey

_CLOSED_S = 65.0
"""A closed book is dropped after 60 s (wire.md section 3 rule 5), without a word; here a little later."""
_CENSUS_S = 10.0
_CENSUS_MAX_S = 300.0
_LAST_WHYS = frozenset({"unmapped", "mapping"})


def is_last(status: dict[str, object]) -> bool:
    """Is this the last word about a book that left the mapping? Then it has no leg any more."""
    if status.get("by") == "gateway":
        return status.get("why") == "unmapped"
    return status.get("legs") == {} and status.get("why") in _LAST_WHYS


class Departures:
    """Finds out which books of a feed are over, and says so to `removed(key, why)`."""

    def __init__(
        self, operations: Operations, routes: Routes, removed: Callable[[StreamKey, str], None]
    ) -> None:
        self._operations = operations
        self._routes = routes
        self._removed = removed
        self._closed: dict[StreamKey, asyncio.TimerHandle] = {}
        self._unheard: set[StreamKey] = set()
        self._census: asyncio.Task[None] | None = None

    def began(self, held: Iterable[StreamKey]) -> None:
        """A new connection: what was held before is expected to come again."""
        self._unheard = set(held)
        if self._unheard:
            self._census = asyncio.create_task(self._look(), name="wup-feed-census")

    def heard(self, key: StreamKey, state: str) -> None:
        """A book came, or its state did."""
        self._unheard.discard(key)
        if state != "closed":
            self.gone(key)
        elif key not in self._closed:
            loop = asyncio.get_running_loop()
            self._closed[key] = loop.call_later(_CLOSED_S, self._removed, key, "closed")

    def gone(self, key: StreamKey) -> None:
        """Nobody waits for the end of this book."""
        self._unheard.discard(key)
        timer = self._closed.pop(key, None)
        if timer is not None:
            timer.cancel()

    def forget(self) -> None:
        """The connection is gone."""
        for timer in self._closed.values():
            timer.cancel()
        self._closed.clear()
        self._unheard.clear()
        if self._census is not None:
            self._census.cancel()
            self._census = None

    async def _look(self) -> None:
        """Ask which books there are while some do not come: the others are over."""
        delay = _CENSUS_S
        while self._unheard:
            before = len(self._unheard)
            await asyncio.sleep(delay)
            if len(self._unheard) < before:
                continue  # they are coming: a question would only add to what the gateway has to do
            delay = min(2 * delay, _CENSUS_MAX_S)
            patterns = {pattern for key in self._unheard for pattern in self._routes.patterns(key)}
            try:
                rows = [row for match in sorted(patterns) for row in await self._operations.books(match)]
                known = {row["book"] for row in rows}
            except (FeedError, KeyError, TypeError):
                continue  # refused, or an answer like no other
            if not known:
                continue  # a gateway that knows no book at all is not ready
            for key in [key for key in self._unheard if key[0] not in known]:
                self._removed(key, "unknown_book")
