"""The REST side of one simulated venue: FastAPI on uvicorn inside the running loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, Request, Response

from wup.errors import PortInUse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fastapi import APIRouter

    from wup.clock import Clock
    from wup.sim.exchange import Exchange


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that runs us."""
        yield


def application(exchange: Exchange, clock: Clock, *routers: APIRouter) -> FastAPI:
    """The venue's routes, refused while a fault says so; `/_sim` always answers."""
    app = FastAPI(title=f"{exchange.platform} simulator", openapi_url=None)

    @app.middleware("http")
    async def refuse(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not request.url.path.startswith("/_sim"):
            refusal = exchange.refusal(clock.now_us(), rest=True)
            if refusal is not None:
                return Response(refusal.body, refusal.status, dict(refusal.headers))
        return await call_next(request)

    for router in routers:
        app.include_router(router)
    return app


class VenueHttpServer:
    """Serves one application on one port."""

    def __init__(self, app: FastAPI) -> None:
        self.port = 0
        self._app = app
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, setting: str) -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken; names `setting`.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Named, or asyncio does not see that what it accepts is TCP and leaves Nagle's algorithm on.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(256)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(setting, host, port) from None
            raise
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="warning",
            lifespan="off",
            ws="none",
            access_log=False,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Stop listening and wait for the server to end."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = None
