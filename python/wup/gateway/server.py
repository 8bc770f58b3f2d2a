"""uvicorn in our own loop: signals left alone, slow handshakes cut, our WebSocket protocol class."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from wup.errors import PortInUse
from wup.gateway.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h11
    from uvicorn._types import ASGIApplication

    from wup.gateway.core import Core

_START_S = 10.0
_GRACE_S = 5
_KEEP_ALIVE_S = 15


class _Http(H11Protocol):
    """uvicorn's HTTP protocol with a deadline for the request's head, which uvicorn does not have."""

    head_s = 5.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.head_s, self._late)

    def handle_events(self) -> None:
        super().handle_events()
        if self.headers is not None:
            self._head_timer.cancel()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._head_timer.cancel()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Leaves signals to the process, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class Server:
    """One listening socket with HTTP and WebSocket."""

    def __init__(self, app: ASGIApplication, core: Core, host: str, port: int) -> None:
        self._app = app
        self._core = core
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            PortInUse: names WS_PORT.
        """
        sock = self._bind()
        http = type("Http", (_Http,), {"head_s": self._core.limits.ws_handshake_s})
        config = uvicorn.Config(
            self._app,
            http=http,
            # Config stores the class and calls it; a partial is called the same way.
            ws=cast("Any", functools.partial(Connection, core=self._core)),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="gateway-server")
        up = asyncio.create_task(self._server.up.wait())
        done, _ = await asyncio.wait({up, self._task}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if up not in done:
            up.cancel()
            sock.close()
            raise RuntimeError("the gateway's server did not start")

    def _bind(self) -> socket.socket:
        host = self._host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, self._port))
            sock.listen(2048)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse("WS_PORT", self._host, self._port) from None
            raise
        sock.setblocking(False)
        self._port = int(sock.getsockname()[1])
        return sock

    async def stop(self) -> None:
        """Close the listener and every connection; returns within seconds."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        try:
            await asyncio.wait_for(asyncio.shield(self._task), _GRACE_S + 3)
        except TimeoutError:
            self._server.force_exit = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._server = None
        self._task = None
