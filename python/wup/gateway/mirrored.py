"""One book of the mirror, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import orjson

from wup._core import MirrorBook

if TYPE_CHECKING:
    from wup.gateway.stream import Stream, TradeFeed

Kind = Literal["snapshot", "delta", "status", "other"]

_HEADS: dict[bytes, Kind] = {
    b'{"type":"del': "delta",
    b'{"type":"sna': "snapshot",
    b'{"type":"sta': "status",
}


def kind_of(payload: bytes) -> Kind:
    """The `type` of a consolidated message; our own publisher writes it first, others need not."""
    kind = _HEADS.get(payload[:12])
    if kind is not None:
        return kind
    body = orjson.loads(payload)
    name = body.get("type") if isinstance(body, dict) else None
    return name if name in ("snapshot", "delta", "status") else "other"


class MirroredBook:
    """One YES book: its mirror, and who reads it.

    `serving` is true while the mirror is exact and vouched for; only then is anything sent from it.
    """

    __slots__ = (
        "assets",
        "behind",
        "book",
        "buffer",
        "closed_at",
        "high",
        "label",
        "marked_at",
        "mirror",
        "no_book",
        "said",
        "serving",
        "shard",
        "streams",
        "title",
        "trades",
        "unanswered",
    )

    def __init__(self, book: str, now: float) -> None:
        self.book = book
        self.no_book = book.removesuffix(".yes") + ".no"
        self.mirror = MirrorBook()
        self.serving = False
        self.buffer: list[bytes] = []
        self.high = (0, 0)
        self.shard: str | None = None
        self.title: str | None = None
        self.label: str | None = None
        self.assets: frozenset[str] = frozenset()
        """The assets by which it is subscribed to, and below those that its last message named."""
        self.said: frozenset[str] = frozenset()
        self.streams: dict[tuple[bool, int | None, int | None], Stream] = {}
        self.trades: dict[bool, TradeFeed] = {}
        self.marked_at = now
        self.closed_at: float | None = None
        self.unanswered = 0
        self.behind = 0

    def state(self) -> str:
        """The book's state as a reader may be told it."""
        return self.mirror.state if self.serving else "down"
