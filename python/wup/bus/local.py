"""The in-process bus: a publish is a function call, the bytes are the same object."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wup import logs, subjects
from wup.bus.base import EMPTY_QUEUE, Handler, Message, Queue, whole
from wup.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CACHE_LIMIT = 262_144


class LocalSubscription:
    """Handle of one local subscription."""

    __slots__ = ("_bus", "_entry")

    def __init__(self, bus: LocalBus, entry: tuple[str, Handler]) -> None:
        self._bus = bus
        self._entry = entry

    async def stop(self) -> None:
        self._bus.remove(self._entry)


class LocalBus:
    """Delivers synchronously, in subscription order.

    A handler that raises is counted and logged; the other handlers and the publisher go on.
    Which handlers match is worked out once per subject.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[str, Handler]] = []
        self._routes: dict[str, tuple[Handler, ...]] = {}
        self._inboxes = 0
        self._closed = False

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        handlers = self._routes.get(subject)
        if handlers is None:
            handlers = self._route(subject)
        if not handlers:
            return True
        message = Message(subject, payload, headers, reply)
        for handler in handlers:
            try:
                handler(message)
            except Exception as error:
                platform = subject.split(".", 2)[1] if "." in subject else ""
                logs.bad_input("bus", platform, "handler_error", payload, error=repr(error))
        return True

    def read_by_anyone(self, subject: str) -> bool:
        """Would a message on `subject` reach a handler?"""
        handlers = self._routes.get(subject)
        return bool(self._route(subject) if handlers is None else handlers)

    def _route(self, subject: str) -> tuple[Handler, ...]:
        handlers = tuple(h for pattern, h in self._entries if subjects.subject_matches(pattern, subject))
        if len(self._routes) >= _CACHE_LIMIT:
            self._routes.clear()
        if not subject.startswith("_INBOX."):
            self._routes[subject] = handlers
        return handlers

    async def subscribe(self, pattern: str, handler: Handler) -> LocalSubscription:
        entry = (pattern, handler)
        self._entries.append(entry)
        self._routes.clear()
        return LocalSubscription(self, entry)

    def remove(self, entry: tuple[str, Handler]) -> None:
        """Forget one subscription."""
        if entry in self._entries:
            self._entries.remove(entry)
            self._routes.clear()

    async def request_many(self, subject: str, payload: bytes, *, timeout: float = 5.0) -> list[Message]:
        self._inboxes += 1
        inbox = f"_INBOX.local.{self._inboxes}"
        answers: list[Message] = []
        end: Message | None = None
        done = asyncio.Event()

        def collect(message: Message) -> None:
            nonlocal end
            if message.payload:
                answers.append(message)
            else:
                end = message
                done.set()

        subscription = await self.subscribe(inbox, collect)
        try:
            self.publish(subject, payload, reply=inbox)
            # Not wait_for: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(timeout):
                await done.wait()
        except TimeoutError:
            raise BusError(f"no complete answer on {subject} within {timeout} s") from None
        finally:
            await subscription.stop()
        if not whole(answers, end):
            raise BusError(f"answers on {subject} were lost")
        return answers

    async def flush(self) -> None:
        """Delivery is synchronous: nothing is ever waiting."""

    def on_loss(self, callback: Callable[[str], None]) -> None:
        """Nothing is ever lost here; kept for the interface."""

    @property
    def waiting_bytes(self) -> int:
        return 0

    def queues(self) -> tuple[Queue, Queue]:
        return EMPTY_QUEUE, EMPTY_QUEUE

    @property
    def connected(self) -> bool:
        return not self._closed

    async def close(self) -> None:
        self._closed = True
        self._entries.clear()
        self._routes.clear()
