"""What a subscription yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from wup.client.book import LiveBook

EventType = Literal[
    "snapshot", "delta", "status", "trade", "lost", "removed",
    "connected", "disconnected", "dropped", "notice",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `snapshot`, `delta` and `status` changed `book`, which is exact; `trade` tells of a trade in it; `lost`:
    `book` is not exact until its next snapshot, `why` says the reason; `removed`: the gateway serves `book`
    no more (or no pattern asks for it any more), it is not exact and not among the feed's books, and would
    come back with a `snapshot`; `connected` and `disconnected` are the connection's; `dropped`: this program
    read too slowly, `count` events were left out (the books are exact all the same).
    `message` is the message as received, when there is one.
    """

    type: EventType
    book: LiveBook | None = None
    message: bytes = b""
    why: str | None = None
    count: int = 0

    def data(self) -> dict[str, Any]:
        """The message, parsed."""
        parsed: dict[str, Any] = orjson.loads(self.message)
        return parsed
