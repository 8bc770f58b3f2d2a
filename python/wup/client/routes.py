"""Which subscriptions of a feed a stream belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wup.client.subscription import Subscription

StreamKey = tuple[str, int | None, int | None]
"""(book id, depth, every_ms)."""

_BOOK_AT = {
    b'{"type":"del': ("delta", 24),
    b'{"type":"sna': ("snapshot", 27),
    b'{"type":"sta': ("status", 25),
    b'{"type":"tra': ("trade", 24),
}


def head(message: bytes) -> tuple[str, str | None]:
    """(`type`, book id) of a message, without parsing it when it is written the usual way."""
    known = _BOOK_AT.get(message[:12])
    if known is not None:
        kind, start = known
        if message[start - 8 : start] == b'"book":"':
            end = message.find(b'"', start, start + 210)
            if end > 0:
                return kind, message[start:end].decode("ascii", "replace")
    body: dict[str, Any] = orjson.loads(message)
    return str(body.get("type")), body.get("book")


def pattern_matches(pattern: str, book: str) -> bool:
    """Does `pattern` (not an asset) match a book id, YES or NO, by the rules of wire.md section 1?"""
    tokens = pattern.split(".")
    wants_no = len(tokens) == 3 and tokens[2] == "no"
    is_no = book.endswith(".no")
    if wants_no != is_no:
        return False
    if wants_no:
        return matches(".".join([*tokens[:2], "yes"]), book.removesuffix(".no") + ".yes")
    return matches(pattern, book)


def belonging(subscription: Subscription, key: StreamKey, assets: Iterable[str]) -> Iterator[str]:
    """By which of its patterns `subscription` asked for this stream; `assets` are `platform:asset_id` of the
    book's legs."""
    book, depth, every_ms = key
    if (depth, every_ms) != (subscription.depth, subscription.every_ms):
        return
    for pattern in subscription.patterns:
        if ":" in pattern:
            if pattern in assets and not book.endswith(".no"):
                yield pattern
        elif pattern_matches(pattern, book):
            yield pattern


def belongs(subscription: Subscription, key: StreamKey, assets: Iterable[str]) -> bool:
    """Did `subscription` ask for this stream?"""
    return any(True for _ in belonging(subscription, key, assets))


def _assets(legs: dict[str, dict[str, Any]]) -> frozenset[str]:
    return frozenset(f"{leg.get('platform')}:{leg.get('asset')}" for leg in legs.values())


class Routes:
    """Which subscriptions get a stream's messages, and a book's trades; worked out once for each."""

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self._assets: dict[str, frozenset[str]] = {}
        self._streams: dict[StreamKey, list[Subscription]] = {}
        self._trades: dict[str, list[Subscription]] = {}

    def add(self, subscription: Subscription) -> None:
        """One more."""
        self.subscriptions.append(subscription)
        self._forget()

    def remove(self, subscription: Subscription) -> bool:
        """One fewer; False when it was none of ours any more."""
        if subscription not in self.subscriptions:
            return False
        self.subscriptions.remove(subscription)
        self._forget()
        return True

    def legs(self, book: str, legs: dict[str, dict[str, Any]]) -> None:
        """The legs of a book, by which a subscription may have named it."""
        assets = _assets(legs)
        if self._assets.get(book) != assets:
            self._assets[book] = assets
            self._forget()

    def relinks(self, book: str, legs: dict[str, dict[str, Any]]) -> bool:
        """Are these other legs than those known of the book?"""
        known = self._assets.get(book)
        return known is not None and known != _assets(legs)

    def stream(self, key: StreamKey) -> list[Subscription]:
        """Who reads a stream."""
        found = self._streams.get(key)
        if found is None:
            assets = self._assets.get(key[0], frozenset())
            found = [held for held in self.subscriptions if belongs(held, key, assets)]
            self._streams[key] = found
        return found

    def patterns(self, key: StreamKey) -> set[str]:
        """The patterns by which a stream is read."""
        assets = self._assets.get(key[0], frozenset())
        return {pattern for held in self.subscriptions for pattern in belonging(held, key, assets)}

    def trades(self, book: str) -> list[Subscription]:
        """Who reads the trades of a book."""
        found = self._trades.get(book)
        if found is None:
            assets = self._assets.get(book, frozenset())
            found = [
                held
                for held in self.subscriptions
                if held.trades and belongs(held, (book, held.depth, held.every_ms), assets)
            ]
            self._trades[book] = found
        return found

    def _forget(self) -> None:
        self._streams.clear()
        self._trades.clear()
