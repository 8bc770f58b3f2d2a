"""A network and a clock that exist only here: minutes of a gateway and its clients in a fraction of a second.

The gateway's own connection class and the client library's own socket code run on it unchanged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from aggregator.virtual import LoopClock, VirtualLoop
from wup.gateway import Gateway
from wup.gateway.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopClock", "VirtualNet", "VirtualServer"]

LATENCY_S = 0.001
KERNEL = 24_000
"""Bytes that the two kernels hold of one direction; real ones, and the real limits, are ten times that."""
HIGH = 8_000
CHUNK = 16_000


class End(asyncio.Transport):
    """One end of a connection. What is written here arrives at the other end's protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        super().__init__()
        self._loop = loop
        self._port = port
        self.protocol: Any = None
        self.other: End
        self._out: deque[bytes] = deque()
        self._size = 0
        self._scheduled = False
        self._paused = False
        self._reading = True
        self._closing = False
        self._gone = False

    # --- asyncio.Transport ------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", self._port) if name in ("peername", "sockname") else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast("asyncio.BaseProtocol", self.protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The network's own limits are small enough."""

    def get_write_buffer_size(self) -> int:
        return max(0, self._size - KERNEL)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._out.append(bytes(data))
        self._size += len(data)
        self._arrange()
        if not self._paused and self.get_write_buffer_size() > HIGH:
            self._paused = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.other._arrange()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._arrange()

    def abort(self) -> None:
        self._closing = True
        self._out.clear()
        self._size = 0
        self._end(None)
        self._loop.call_later(LATENCY_S, self.other._end, ConnectionResetError("reset"))

    # --- the wire ---------------------------------------------------------------------------------

    def _arrange(self) -> None:
        if not self._scheduled and not self._gone and (self.other._reading or self._closing):
            self._scheduled = True
            self._loop.call_later(LATENCY_S, self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._gone or self.other._gone:
            return
        if self._size and self.other._reading:
            parts: list[bytes] = []
            size = 0
            while self._out and size < CHUNK:
                parts.append(self._out.popleft())
                size += len(parts[-1])
            self._size -= size
            self.other.protocol.data_received(b"".join(parts))
            if self._paused and self.get_write_buffer_size() <= HIGH // 4:
                self._paused = False
                self.protocol.resume_writing()
        if self._size:
            if self.other._reading:
                self._arrange()
        elif self._closing:
            self._end(None)
            self.other.protocol.eof_received()
            self.other._closing = True
            self.other._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._closing = True
            self.protocol.connection_lost(error)


class VirtualNet(VirtualLoop):
    """Ports that lead to servers of this process, on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[int, Callable[[], asyncio.Protocol]] = {}
        self.opened = 0

    def dial(self, protocol: asyncio.Protocol, port: int) -> None:
        """Connect `protocol` to a server.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        accept = self.servers.get(port)
        if accept is None:
            raise ConnectionRefusedError(f"nobody at {port}")
        self.opened += 1
        here, there = End(self, self.opened), End(self, self.opened)
        here.other, there.other = there, here
        there.protocol = accept()
        there.protocol.connection_made(there)
        here.protocol = protocol
        protocol.connection_made(here)

    async def create_connection(self, protocol_factory: Any, *_: Any, **options: Any) -> Any:
        """What client libraries call."""
        await asyncio.sleep(LATENCY_S)
        protocol = protocol_factory()
        self.dial(protocol, int(options["port"]))
        return protocol.transport, protocol


class VirtualServer:
    """Stands where a gateway's HTTP server does; every connection is a WebSocket."""

    def __init__(self, net: VirtualNet, gateway: Gateway, port: int) -> None:
        self._net = net
        self._core = gateway._core
        self._state = SimpleNamespace(connections=set())
        self.port = port

    def _accept(self) -> asyncio.Protocol:
        return Connection(cast("Any", None), cast("Any", self._state), {}, core=self._core)

    async def start(self) -> None:
        self._net.servers[self.port] = self._accept

    async def stop(self) -> None:
        del self._net.servers[self.port]
        for connection in list(self._state.connections):
            connection.shutdown()
        async with asyncio.timeout(10):
            while self._state.connections:
                await asyncio.sleep(0.05)

    def crash(self) -> None:
        """The process dies: every connection is reset, nothing is said."""
        self._net.servers.pop(self.port, None)
        for connection in list(self._state.connections):
            connection._transport.abort()
