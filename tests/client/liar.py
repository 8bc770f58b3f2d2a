"""A server that says what a test tells it to: true, false, or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

Answerer = Callable[["Liar", ServerConnection, dict[str, Any]], Any]


class Liar:
    """Greets, notes every operation, answers as it is told."""

    def __init__(self) -> None:
        self.ops: list[dict[str, Any]] = []
        self.connections: list[ServerConnection] = []
        self.on_op: Callable[[ServerConnection, dict[str, Any]], Any] = self.agree
        self.changed = asyncio.Event()
        self._server: Server | None = None
        self.url = ""

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, ws: ServerConnection) -> None:
        self.connections.append(ws)
        await ws.send(json.dumps({"type": "welcome", "protocol": "wup.v1"}))
        async for text in ws:
            op = json.loads(text)
            self.ops.append(op)
            await self.on_op(ws, op)
            self.changed.set()

    async def agree(self, ws: ServerConnection, op: dict[str, Any]) -> None:
        """The answer that says yes."""
        kind = {"subscribe": "subscribed", "resync": "resynced", "unsubscribe": "unsubscribed"}[op["op"]]
        await ws.send(json.dumps({"type": kind, "id": op["id"], "books": op["books"]}))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition over the operations seen holds."""
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()
