"""uvicorn inside our own event loop: bound before it starts, so that a busy port is a clear error."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from wup.errors import PortInUse

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone: the command line owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        PortInUse: the port is taken; the error names `setting`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(setting, host, port) from None
        raise
    listener.listen(2048)
    listener.setblocking(False)
    return listener


class HttpServer:
    """One ASGI application on one port.

    Args:
        app: the application.
        setting: the setting that names the port, for the error of a busy one.
        options: further `uvicorn.Config` options.
    """

    def __init__(self, app: Any, host: str, port: int, setting: str, **options: Any) -> None:
        self._app = app
        self._host = host
        self._wanted = port
        self._setting = setting
        self._options = options
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        """Listen; returns when requests are answered.

        Raises:
            PortInUse: the port is taken.
        """
        listener = bind(self._host, self._wanted, self._setting)
        self.port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=3,
            **self._options,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"http-{self._setting}")
        while not self._server.started:
            if self._task.done():
                await self._task
            # uvicorn offers no event for "started".
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish running requests (3 s at most) and close."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = None
