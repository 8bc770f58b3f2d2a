"""Which patterns a feed has asked for: each once, however many subscriptions share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wup.client.subscription import Subscription

_Key = tuple[str, frozenset[tuple[str, Any]]]


class Wanted:
    """Pattern with options to the subscriptions that want it. The gateway takes each pair only once."""

    def __init__(self) -> None:
        self._holders: dict[_Key, list[Subscription]] = {}

    def add(self, subscription: Subscription) -> list[str]:
        """Hold all its patterns; those that nobody held before."""
        fresh: list[str] = []
        for pattern in dict.fromkeys(subscription.patterns):
            holders = self._holders.setdefault((pattern, _options(subscription)), [])
            if not holders:
                fresh.append(pattern)
            holders.append(subscription)
        return fresh

    def remove(self, subscription: Subscription) -> list[str]:
        """Let go of all its patterns; those that nobody holds any more."""
        free: list[str] = []
        for pattern in dict.fromkeys(subscription.patterns):
            key = (pattern, _options(subscription))
            holders = self._holders.get(key, [])
            if subscription in holders:
                holders.remove(subscription)
                if not holders:
                    free.append(pattern)
                    del self._holders[key]
        return free

    def heirs(self, subscription: Subscription) -> list[Subscription]:
        """Who else counts on a pattern that this one asked for."""
        found: dict[Subscription, None] = {}
        for pattern in subscription.patterns:
            holders = self._holders.get((pattern, _options(subscription)), [])
            if holders[:1] == [subscription]:
                found.update(dict.fromkeys(holders[1:]))
        return list(found)

    def clear(self) -> None:
        """Nothing is in force: the connection is new."""
        self._holders.clear()


def _options(subscription: Subscription) -> frozenset[tuple[str, Any]]:
    return frozenset(subscription.options().items())
