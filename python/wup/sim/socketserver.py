"""The WebSocket side of one simulated venue: real sockets around its `Exchange`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConcurrencyError, ConnectionClosed

from wup.errors import PortInUse
from wup.sim.exchange import Act
from wup.sim.kalshi.protocol import KalshiConnection
from wup.sim.transport import FaultyTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.server import Server
    from websockets.http11 import Request, Response

    from wup.clock import Clock
    from wup.sim.exchange import Connection, Exchange, Output
    from wup.sim.kalshi.auth import KeyPair

_CLIENT_FRAME_BYTES = 16 * 2**20


class VenueSocketServer:
    """Accepts clients of one exchange and carries their frames."""

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        *,
        path: str,
        arm: Callable[[], None],
        key: KeyPair | None = None,
        buffer_bytes: int = 32 * 2**20,
    ) -> None:
        self.exchange = exchange
        self.path = path
        self.port = 0
        self._clock = clock
        self._arm = arm
        self._key = key
        self.buffer_bytes = buffer_bytes
        """What may wait for one slow client."""
        self._server: Server | None = None
        self._sockets: dict[str, ServerConnection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        exchange.attach(self._deliver)

    async def start(self, host: str, port: int, setting: str) -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken; names `setting`.
        """
        try:
            self._server = await serve(
                self._client,
                host,
                port,
                process_request=self._admit,
                compression=None,
                ping_interval=None,
                max_size=_CLIENT_FRAME_BYTES,
                close_timeout=1,
                server_header=None,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(setting, host, port) from None
            raise
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._server is None:
            return
        self._server.close(code=1001, reason="going away")
        await self._server.wait_closed()
        for task in self._closing:
            task.cancel()
        self._server = None

    # --- one client ---------------------------------------------------------------------------------

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path != self.path:
            return socket.respond(404, "not found\n")
        now_us = self._clock.now_us()
        refusal = self.exchange.refusal(now_us)
        if refusal is not None:
            response = socket.respond(refusal.status, refusal.body)
            for name, value in refusal.headers:
                if name in response.headers:
                    del response.headers[name]
                response.headers[name] = value
            return response
        if self._key is not None:
            headers = {name.lower(): value for name, value in request.headers.raw_items()}
            problem = self._key.problem(headers, "GET", self.path, now_us)
            if problem is not None:
                return socket.respond(401, problem + "\n")
        return None

    async def _client(self, socket: ServerConnection) -> None:
        faulty: Any = FaultyTransport(socket.transport)
        socket.transport = faulty
        connection = self.exchange.connect(self._clock.now_us())
        self._sockets[connection.name] = socket
        self._arm()
        pings = asyncio.create_task(self._ping(socket)) if self.exchange.ping_payload is not None else None
        try:
            async for message in socket:
                text = message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")
                self._deliver(connection, connection.client_frame(text, self._clock.now_us()))
                self._arm()
        except ConnectionClosed:
            pass
        finally:
            self.exchange.disconnect(connection)
            del self._sockets[connection.name]
            if pings is not None:
                pings.cancel()

    async def _ping(self, socket: ServerConnection) -> None:
        payload = self.exchange.ping_payload
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self.exchange.ping_every_s)
                if not self.exchange.pings(self._clock.now_us()):
                    continue
                try:
                    await socket.ping(payload)
                except ConcurrencyError:
                    # The last ping with this payload was not answered.
                    if self.exchange.close_without_pong:
                        await socket.close(1002, "no pong")
                        return

    def _deliver(self, connection: Connection, outputs: list[Output]) -> None:
        socket = self._sockets.get(connection.name)
        if socket is None:
            return
        for output in outputs:
            if isinstance(output, Act):
                self._act(socket, output)
            else:
                broadcast([socket], output)
        if socket.transport.get_write_buffer_size() > self.buffer_bytes:
            self._overflow(socket, connection)

    def _overflow(self, socket: ServerConnection, connection: Connection) -> None:
        """The client reads too slowly."""
        if isinstance(connection, KalshiConnection):
            for text in connection.overflow():
                if isinstance(text, str):
                    broadcast([socket], text)
        else:
            socket.transport.abort()

    def _act(self, socket: ServerConnection, act: Act) -> None:
        transport: Any = socket.transport
        if act.kind == "half_open":
            transport.half_open()
        elif act.kind == "slice":
            transport.slice_for(act.seconds)
        elif act.kind == "reset":
            transport.reset()
        elif act.code == 1006:
            transport.abort()
        else:
            task = asyncio.get_running_loop().create_task(socket.close(act.code, act.reason))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
