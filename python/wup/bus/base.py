"""What every bus can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

COUNT = "Wup-Count"
"""Header of the empty message that ends an answer: how many messages came before it."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits at one end of a bus."""

    messages: int
    bytes: int
    age_s: float
    """Of the oldest, as far as it is known: what came in between two looks is younger than the first."""


EMPTY_QUEUE = Queue(0, 0, 0.0)


def whole(answers: list[Message], end: Message | None) -> bool:
    """Did all messages of an answer arrive? An end without a count tells nothing."""
    said = None if end is None or end.headers is None else end.headers.get(COUNT)
    return said is None or said == str(len(answers))


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
            BusError: the end did not come within `timeout` seconds, or says that some were lost.
        """
        ...

    async def flush(self) -> None:
        """Returns when everything published before is out, and everything that had arrived is handled."""
        ...

    def on_loss(self, callback: Callable[[str], None]) -> None:
        """`callback(reason)` when messages were lost: queue overflow, slow reader, lost connection."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes published that have not left yet."""
        ...

    def queues(self) -> tuple[Queue, Queue]:
        """What waits to be handled here, and what waits to leave; look about once a second."""
        ...

    @property
    def connected(self) -> bool:
        """False while messages cannot travel."""
        ...

    async def close(self) -> None:
        """Flush what is queued, then stop."""
        ...
