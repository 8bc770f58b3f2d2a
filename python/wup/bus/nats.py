"""NATS core: push, at most once.

nats-py connects, reconnects for ever and reads. Outbound messages wait in a bounded queue that is written to
its socket at the end of the loop's turn, many at once, so that publishing is a plain call; what does not fit,
or cannot travel while the server is away, is dropped and counted: the counters and marks of wire.md find it
at the other end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from wup import logs
from wup.bus.base import Handler, Message, Queue, whole
from wup.bus.command import publish_command
from wup.bus.reader import Reader, ReadingClient
from wup.errors import BusError
from wup.logs import redacted
from wup.metrics import DROPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.subscription import Subscription as ClientSubscription

NEEDED_PAYLOAD = 4 * 1024 * 1024
"""Bytes of one message that a server must take (its default is a quarter): the first books of one connection
come in one frame, of 2 MB with busy markets, and would be lost again at each attempt."""
_QUEUE_BYTES = 64 * 1024 * 1024
_MESSAGE_BYTES = 512
"""What a waiting message takes beside its payload."""
_BATCH_BYTES = 256 * 1024
"""Written at once; then others have their turn."""
_SOCKET_BYTES = 1024 * 1024
"""What may wait in the socket: more waits in the queue, whose bound counts."""
_RETRY_S = 0.005
_READER_BYTES = 64 * 1024 * 1024
_READER_MESSAGES = 65_536


def _too_small(client: Client) -> str | None:
    """What is wrong with the server's bound on messages, if anything."""
    if client.max_payload >= NEEDED_PAYLOAD:
        return None
    where = "in the server's configuration"
    return f"max_payload is {client.max_payload} bytes, set it to {NEEDED_PAYLOAD} or more {where}"


class _Ages:
    """How long the oldest message of a queue has waited, from looks at how many came and how many wait."""

    __slots__ = ("_looks",)

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=600)

    def oldest(self, now: float, came: int, waiting: int) -> float:
        """Seconds since the first look at which the oldest of `waiting` had come already."""
        gone = came - waiting
        while self._looks and self._looks[0][1] <= gone:
            self._looks.popleft()
        age = now - self._looks[0][0] if self._looks and waiting else 0.0
        self._looks.append((now, came))
        return age


class NatsSubscription:
    """Handle of one NATS subscription."""

    __slots__ = ("_bus", "_inner")

    def __init__(self, inner: ClientSubscription, bus: NatsBus) -> None:
        self._inner = inner
        self._bus = bus

    async def stop(self) -> None:
        self._bus._stopped(self._inner)
        try:
            await self._inner.unsubscribe()
        except NatsError:
            return


class NatsBus:
    """One NATS connection.

    Raises:
        BusError: from `connect`, when no server answers within `timeout` seconds, or it does not take
            messages of `NEEDED_PAYLOAD` bytes.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._queue: deque[tuple[str, bytes, Mapping[str, str] | None, str | None]] = deque()
        self._queued = 0
        self._in = _Ages()
        self._out = _Ages()
        self._handled = 0  # by readers that are gone
        self._left = 0
        self._slow_told = 0.0
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None
        self._framing: asyncio.Task[None] | None = None
        self._closing = False
        self._losses: list[Callable[[str], None]] = []
        self._readers: dict[ClientSubscription, Reader] = {}

    @classmethod
    async def connect(
        cls, url: str, *, name: str = "wup", no_echo: bool = False, timeout: float = 10.0
    ) -> NatsBus:
        """Connect to `url` (comma separated list allowed)."""
        holder: list[NatsBus] = []

        async def error(problem: Exception) -> None:
            if isinstance(problem, SlowConsumerError):
                DROPPED.labels("nats_in").inc()
                if holder:
                    holder[0]._slow_reader()
                return
            if holder:
                logs.log("bus").warning("nats error", error=repr(problem), name=name)

        async def disconnected() -> None:
            if holder and not holder[0]._closing:
                logs.log("bus").warning("nats disconnected", name=name)
                holder[0]._lost("disconnected")

        async def reconnected() -> None:
            logs.log("bus").info("nats reconnected", name=name)
            if holder:
                problem = _too_small(holder[0]._client)
                if problem is not None:
                    logs.log("bus").error("nats takes too little", name=name, detail=problem)
                holder[0]._lost("reconnected")

        client = ReadingClient()
        try:
            await asyncio.wait_for(
                client.connect(
                    [part.strip() for part in url.split(",") if part.strip()],
                    name=name,
                    no_echo=no_echo,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]
                    ping_interval=2,
                    max_outstanding_pings=2,
                    # Nothing is kept for a server that is away: a late quote is worse than a known hole.
                    pending_size=0,
                    error_cb=error,
                    disconnected_cb=disconnected,
                    reconnected_cb=reconnected,
                ),
                timeout,
            )
        except (TimeoutError, NatsError, OSError) as error_met:
            raise BusError(f"NATS at {redacted(url)}: {type(error_met).__name__}") from error_met
        problem = _too_small(client)
        if problem is not None:
            await client.close()
            raise BusError(f"NATS at {redacted(url)}: {problem}")
        bus = cls(client, name)
        holder.append(bus)
        return bus

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        if self._queued + len(payload) + _MESSAGE_BYTES > _QUEUE_BYTES or not self._client.is_connected:
            DROPPED.labels("nats_out").inc()
            self._lost("overflow" if self._client.is_connected else "disconnected")
            return False
        self._queue.append((subject, payload, headers, reply))
        self._queued += len(payload) + _MESSAGE_BYTES
        if self._turn is None:
            self._turn = self._loop.call_soon(self._write)
        return True

    def _write(self) -> None:
        """Write what waits, as far as the socket takes it."""
        self._turn = None
        if self._framing is not None:
            return
        queue, client = self._queue, self._client
        if not client.is_connected:
            self._forget()
            return
        writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
        if not isinstance(writer, asyncio.StreamWriter):
            # NATS over WebSocket: the client frames it.
            self._framing = self._loop.create_task(self._by_client(), name=f"nats-writer-{self._name}")
            return
        room = min(_BATCH_BYTES, _SOCKET_BYTES - writer.transport.get_write_buffer_size())
        full = room <= 0
        limit = client.max_payload
        parts: list[bytes] = []
        while queue and room > 0:
            subject, payload, headers, reply = queue.popleft()
            self._took(payload)
            try:
                command = publish_command(subject, payload, headers, reply, limit)
            except BusError as problem:
                self._unsent(subject, problem)
                continue
            parts += command
            room -= len(command[0]) + len(payload)
        if parts:
            writer.write(b"".join(parts))
        if full:
            self._turn = self._loop.call_later(_RETRY_S, self._write)
        elif queue:
            self._turn = self._loop.call_soon(self._write)

    async def _by_client(self) -> None:
        queue, client = self._queue, self._client
        while queue:
            subject, payload, headers, reply = queue.popleft()
            self._took(payload)
            try:
                await client.publish(
                    subject, payload, reply or "", headers=dict(headers) if headers is not None else None
                )
            except Exception as problem:
                self._unsent(subject, problem)
        self._framing = None

    def _took(self, payload: bytes) -> None:
        self._queued -= len(payload) + _MESSAGE_BYTES
        self._left += 1

    def _unsent(self, subject: str, problem: Exception) -> None:
        """One message that cannot be sent must not end the writing."""
        DROPPED.labels("nats_out").inc()
        self._lost("unsent")
        logs.bad_input("bus", "", "unsent", subject, error=repr(problem))

    def _forget(self) -> None:
        """The server is away: what waited for it is too late."""
        DROPPED.labels("nats_out").inc(len(self._queue))
        self._left += len(self._queue)
        self._queue.clear()
        self._queued = 0
        self._lost("disconnected")

    def _slow_reader(self) -> None:
        """Told for each message that is lost: one line of log a second."""
        self._lost("slow_reader")
        now = time.monotonic()
        if now - self._slow_told >= 1.0:
            self._slow_told = now
            logs.log("bus").warning("reading too slowly, messages dropped", name=self._name)

    def _lost(self, why: str) -> None:
        for callback in self._losses:
            callback(why)

    async def subscribe(self, pattern: str, handler: Handler) -> NatsSubscription:
        reader = Reader(handler)
        inner = await self._client.subscribe(
            pattern,
            cb=reader.queued,
            pending_msgs_limit=_READER_MESSAGES,
            pending_bytes_limit=_READER_BYTES,
        )
        self._readers[inner] = reader
        # The server has the subscription before anyone is told so.
        try:
            await self._client.flush()
        except BaseException:
            await NatsSubscription(inner, self).stop()
            raise
        return NatsSubscription(inner, self)

    def _stopped(self, inner: ClientSubscription) -> None:
        reader = self._readers.pop(inner, None)
        self._handled += 0 if reader is None else reader.handled

    async def request_many(self, subject: str, payload: bytes, *, timeout: float = 5.0) -> list[Message]:
        inbox = self._client.new_inbox()
        answers: list[Message] = []
        nobody = False
        end: Message | None = None
        done = asyncio.Event()

        def collect(message: Message) -> None:
            nonlocal nobody, end
            if message.payload:
                answers.append(message)
                return
            end = message
            # The server itself answers for a subject without readers.
            nobody = message.headers is not None and message.headers.get("Status") == "503"
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
        if nobody:
            raise BusError(f"nobody answers on {subject}")
        if not whole(answers, end):
            raise BusError(f"answers on {subject} were lost")
        return answers

    async def flush(self) -> None:
        while self._queue and self._client.is_connected:  # noqa: ASYNC110 - the writer runs meanwhile
            await asyncio.sleep(0)
        try:
            await self._client.flush()
        except NatsError as problem:
            raise BusError(f"flush: {problem!r}") from problem
        while any(s.pending_msgs for s in self._readers):  # noqa: ASYNC110 - the readers run meanwhile
            await asyncio.sleep(0)

    def on_loss(self, callback: Callable[[str], None]) -> None:
        self._losses.append(callback)

    @property
    def waiting_bytes(self) -> int:
        return self._queued

    def queues(self) -> tuple[Queue, Queue]:
        now = time.monotonic()
        coming = sum(s.pending_msgs for s in self._readers)
        leaving = len(self._queue)
        handled = self._handled + sum(reader.handled for reader in self._readers.values())
        return (
            Queue(
                coming,
                sum(s.pending_bytes for s in self._readers),
                self._in.oldest(now, handled + coming, coming),
            ),
            Queue(leaving, self._queued, self._out.oldest(now, self._left + leaving, leaving)),
        )

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    async def close(self) -> None:
        self._closing = True
        for _ in range(200):
            if not self._queue or not self._client.is_connected:
                break
            await asyncio.sleep(0.01)
        for waiting in (self._turn, self._framing):
            if waiting is not None:
                waiting.cancel()
        try:
            if self._client.is_connected:
                await asyncio.wait_for(self._client.flush(), 2)
        except (TimeoutError, NatsError):
            logs.log("bus").info("nats flush at close failed", name=self._name)
        try:
            await self._client.close()
        except (RuntimeError, OSError) as problem:
            # The client writes its last bytes even when the server has closed the socket before.
            logs.log("bus").info("nats was gone at close", name=self._name, error=repr(problem))
