"""Local delivery first, then NATS: stages of one process meet by a call, everybody else by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wup.bus.base import Bus, Handler, Message, Queue, Subscription
    from wup.bus.local import LocalBus


class _Both:
    __slots__ = ("_subscriptions",)

    def __init__(self, *subscriptions: Subscription) -> None:
        self._subscriptions = subscriptions

    async def stop(self) -> None:
        for subscription in self._subscriptions:
            await subscription.stop()


class LinkedBus:
    """A `LocalBus` joined to a remote bus.

    `forward` are the beginnings of subjects that also go out; answers to outside requests always do.
    `listen` are the beginnings of patterns that are also read from outside. The remote connection must not
    echo, or local readers would get their own process's messages twice.
    """

    def __init__(
        self, local: LocalBus, remote: Bus, forward: tuple[str, ...], listen: tuple[str, ...]
    ) -> None:
        self._local = local
        self._remote = remote
        self._forward = forward
        self._listen = listen

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        if subject.startswith("_INBOX.") and not subject.startswith("_INBOX.local."):
            return self._remote.publish(subject, payload, headers, reply)
        self._local.publish(subject, payload, headers, reply)
        if not subject.startswith(self._forward) or self._remote.publish(subject, payload, headers, reply):
            return True
        # Dropped is what no reader got: those here are the ones whose state depends on it. Readers outside
        # find lost frames by their numbers, other records not at all (docs/recording.md).
        return self._local.read_by_anyone(subject)

    async def subscribe(self, pattern: str, handler: Handler) -> Subscription:
        here = await self._local.subscribe(pattern, handler)
        if not pattern.startswith(self._listen):
            return here
        return _Both(here, await self._remote.subscribe(pattern, handler))

    async def request_many(self, subject: str, payload: bytes, *, timeout: float = 5.0) -> list[Message]:
        if subject.startswith(self._forward):
            return await self._remote.request_many(subject, payload, timeout=timeout)
        return await self._local.request_many(subject, payload, timeout=timeout)

    async def flush(self) -> None:
        await self._remote.flush()

    def on_loss(self, callback: Callable[[str], None]) -> None:
        """Never called: local delivery loses nothing, and what comes from outside are requests, whose senders
        ask again."""

    @property
    def waiting_bytes(self) -> int:
        return self._remote.waiting_bytes

    def queues(self) -> tuple[Queue, Queue]:
        return self._remote.queues()

    @property
    def connected(self) -> bool:
        return self._remote.connected

    async def close(self) -> None:
        await self._local.close()
        await self._remote.close()
