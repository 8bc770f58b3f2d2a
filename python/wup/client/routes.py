"""Which subscriptions of a feed a stream belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import matches

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def belongs(subscription: Subscription, key: StreamKey, assets: Iterable[str]) -> bool:
    """Did `subscription` ask for this stream? `assets` are `platform:asset_id` of the book's legs."""
    book, depth, every_ms = key
    if (depth, every_ms) != (subscription.depth, subscription.every_ms):
        return False
    for pattern in subscription.patterns:
        if ":" in pattern:
            if pattern in assets and not book.endswith(".no"):
                return True
        elif pattern_matches(pattern, book):
            return True
    return False
