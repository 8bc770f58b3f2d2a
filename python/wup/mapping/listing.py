"""Which followed events list a venue market: it has one book, in the event that listed it first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

EventKey = tuple[str, str]
"""(platform, slug)."""
MarketName = tuple[str, str]
"""(platform, market id)."""


class Listing:
    """The order in which followed events came to list each market."""

    def __init__(self) -> None:
        self._events: dict[MarketName, tuple[EventKey, ...]] = {}

    def holder(self, name: MarketName) -> EventKey:
        """The event that has the market's book.

        Raises:
            KeyError: no followed event lists it.
        """
        return self._events[name][0]

    def change(self, key: EventKey, was: Collection[str], now: Collection[str]) -> set[EventKey]:
        """An event listed these market ids and lists those now; the events that have more books by it."""
        heirs: set[EventKey] = set()
        for market in set(was) - set(now):
            name = (key[0], market)
            before = self._events.pop(name)
            if left := tuple(other for other in before if other != key):
                self._events[name] = left
                if before[0] == key:
                    heirs.add(left[0])
        for market in set(now) - set(was):
            name = (key[0], market)
            self._events[name] = (*self._events.get(name, ()), key)
        return heirs

    def contested(self) -> dict[MarketName, tuple[EventKey, ...]]:
        """Markets that several followed events list, with these, the holder first."""
        return {name: keys for name, keys in self._events.items() if len(keys) > 1}

    def prefer(self, name: MarketName, key: EventKey) -> EventKey | None:
        """Make one of the events that list a market its holder; the holder of before when that is another."""
        keys = self._events.get(name, ())
        if key not in keys or keys[0] == key:
            return None
        self._events[name] = (key, *(other for other in keys if other != key))
        return keys[0]
