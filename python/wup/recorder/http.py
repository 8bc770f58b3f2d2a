"""Health of a recorder that runs alone: `/healthz` and `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from wup import __version__, problem
from wup.http_guard import HttpGuard
from wup.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Response

    from wup.access import Access


class RecorderHttp:
    """Serves the health of one recorder.

    Args:
        reasons: why nothing is recorded; empty while all is well.
        access: who may ask.
    """

    def __init__(self, host: str, port: int, reasons: Callable[[], list[str]], access: Access) -> None:
        app = FastAPI(title="WUP recorder", version=__version__, docs_url=None, redoc_url=None)
        problem.install(app)

        @app.get("/healthz")
        async def healthz() -> Response:
            return JSONResponse({"status": "ok"})

        @app.get("/readyz")
        async def readyz() -> Response:
            found = reasons()
            if found:
                return problem.problem(503, "not recording", reasons=found)
            return JSONResponse({"status": "ready"})

        self._server = HttpServer(HttpGuard(app, access), host, port, "HTTP_PORT")

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._server.port

    async def start(self) -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken.
        """
        await self._server.start()

    async def stop(self) -> None:
        """Close."""
        await self._server.stop()
