"""What a NATS connection reads goes to its handler in the turn in which it was read.

nats-py hands each message to a task of its subscription by way of a queue: one more turn of the loop for each
read and a good part of the cost of a small message. A handler of ours is a plain function, so the first of a
turn are given to it directly; what comes beyond takes the queue, whose bound and overflow are as before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client

from wup import logs
from wup.bus.base import Message

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from wup.bus.base import Handler

PER_TURN = 64
"""Messages that a subscription's handler is given directly in one turn of the loop; 0: none."""


class Reader:
    """Gives the messages of one subscription to `handler`; `handled` counts them."""

    __slots__ = ("_handler", "_left", "_loop", "handled")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._left = PER_TURN
        self.handled = 0

    async def queued(self, msg: Msg) -> None:
        """A message that went through the queue."""
        self.take(Message(msg.subject, msg.data, msg.headers, msg.reply or None))

    def take(self, message: Message) -> None:
        """Never raises for what the handler does."""
        self.handled += 1
        try:
            self._handler(message)
        except (Exception, asyncio.CancelledError) as error:
            # Nothing is awaited here, so no cancellation is meant for us; it would end the reading of all.
            platform = message.subject.split(".", 2)[1] if "." in message.subject else ""
            logs.bad_input("bus", platform, "handler_error", message.payload, error=repr(error))

    def has_room(self) -> bool:
        """Whether one more message may be handled in this turn."""
        if self._left == PER_TURN > 0:
            self._loop.call_soon(self._turn)
        self._left -= 1
        return self._left >= 0

    def _turn(self) -> None:
        self._left = PER_TURN


class ReadingClient(Client):
    """nats-py's client; messages for a `Reader` take the short way while nothing of it waits in the queue.

    The method is nats-py's own and not public: where it were called no more, everything would take the queue.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        sub = self._subs.get(sid)
        reader = None if sub is None else getattr(sub._cb, "__self__", None)
        if (
            sub is None
            or not isinstance(reader, Reader)
            or sub._pending_queue.qsize()
            or not reader.has_room()
        ):
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        sub._received += 1
        found = await self._process_headers(headers) if headers else None
        reader.take(Message(subject.decode(), data, found, reply.decode() or None))
