"""What every bus can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Message:
    """One message: payload bytes exactly as published, headers beside them."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] | None = None
    reply: str | None = None


Handler = Callable[[Message], None]
"""Handlers are plain functions: nothing is awaited per message."""


class Subscription(Protocol):
    """A running subscription."""

    async def stop(self) -> None:
        """No handler call after this returns."""
        ...


class Bus(Protocol):
    """Publish and subscribe, at most once, in order per publisher and subscription."""

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        """Hand over one message; False: it was dropped. Never blocks and never raises for want of a reader; a
        full outbound queue drops, counts, and tells the callbacks given to `on_loss`."""
        ...

    async def subscribe(self, pattern: str, handler: Handler) -> Subscription:
        """Call `handler` for each message whose subject matches `pattern` (NATS rules)."""
        ...

    async def request_many(self, subject: str, payload: bytes, *, timeout: float = 5.0) -> list[Message]:
        """All answers to a request. The answer with an empty payload ends the list.

        Raises:
            BusError: the end did not come within `timeout` seconds.
        """
        ...

    async def flush(self) -> None:
        """Returns when everything published before is out, and everything that had arrived is handled."""
        ...

    def on_loss(self, callback: Callable[[str], None]) -> None:
        """`callback(reason)` when messages were lost: queue overflow, slow reader, lost connection."""
        ...

    @property
    def connected(self) -> bool:
        """False while messages cannot travel."""
        ...

    async def close(self) -> None:
        """Flush what is queued, then stop."""
        ...
