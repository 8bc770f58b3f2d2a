"""One `subscribe` of a feed, as an iterator of its events."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from wup.client.event import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wup.client.feed import Feed


OnSlow = Literal["conflate", "disconnect"]


class Subscription:
    """One `subscribe` of a feed: iterate over it for its events.

    Events wait in a queue of `limit`; a program that reads slower loses the oldest and gets one `dropped`
    event. The books stay exact meanwhile.
    """

    def __init__(
        self,
        feed: Feed,
        patterns: tuple[str, ...],
        depth: int | None,
        every_ms: int | None,
        trades: bool,
        on_slow: OnSlow,
        limit: int,
    ) -> None:
        self.patterns = patterns
        self.depth = depth
        self.every_ms = every_ms
        self.trades = trades
        self.on_slow = on_slow
        self._feed = feed
        self._limit = limit
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._ready = asyncio.Event()
        self._error: Exception | None = None
        self._ended = False

    def options(self) -> dict[str, Any]:
        """The options of the `subscribe` message that are not the defaults."""
        options: dict[str, Any] = {}
        if self.depth is not None:
            options["depth"] = self.depth
        if self.every_ms is not None:
            options["every_ms"] = self.every_ms
        if self.trades:
            options["trades"] = True
        if self.on_slow != "conflate":
            options["on_slow"] = self.on_slow
        return options

    def put(self, event: Event) -> None:
        """Queue one event."""
        if len(self._events) >= self._limit:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._ready.set()

    def fail(self, error: Exception) -> None:
        """End the iteration with an error once what is queued was read."""
        self._error = error
        self._ended = True
        self._ready.set()

    def end(self) -> None:
        """End the iteration."""
        self._ended = True
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._dropped:
                count, self._dropped = self._dropped, 0
                return Event("dropped", count=count)
            if self._events:
                return self._events.popleft()
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()

    async def close(self) -> None:
        """Unsubscribe."""
        await self._feed.unsubscribe(self)
