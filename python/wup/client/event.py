"""What a subscription yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from wup.client.book import LiveBook

EventType = Literal[
    "snapshot", "delta", "status", "trade", "lost", "connected", "disconnected", "dropped", "notice"
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `snapshot`, `delta` and `status` changed `book`, which is exact; `trade` tells of a trade in it; `lost`:
    `book` is not exact until its next snapshot, `why` says the reason; `connected` and `disconnected` are
    the connection's; `dropped`: this program read too slowly, `count` events were left out (the books are
    exact all the same). `message` is the message as received, when there is one.
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
