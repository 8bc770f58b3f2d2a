"""The same stream served the two plain ways, for comparison: `await websocket.send_text` of FastAPI on
uvicorn, and `websockets.broadcast`. Neither verifies, limits or drops anything: the least that a server
can do.

`python peers.py send_text|broadcast --nats URL --http URL` prints one JSON line with its port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections import deque
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from wup import MirrorBook
from wup.bus import Message, NatsBus
from wup.gateway import HttpSource
from wup.subjects import CHANGES_ALL

BOOK = "hot.00000000000000ff.yes"


class Hot:
    """The one book that the comparison is about, so that who joins gets a snapshot."""

    def __init__(self) -> None:
        self.mirror = MirrorBook()

    async def load(self, url: str) -> None:
        async for payload in HttpSource((url,)).stream(BOOK):
            self.mirror.apply(payload)

    def hello(self) -> list[str]:
        return [
            '{"type":"subscribed","id":"1","books":["hot.>"],"matched":1}',
            self.mirror.snapshot().decode(),
        ]


def say(port: int) -> None:
    print(json.dumps({"type": "ready", "ws": port}), flush=True)


async def send_text(arguments: argparse.Namespace) -> None:
    hot = Hot()
    clients: set[WebSocket] = set()
    waiting: deque[str] = deque()
    wake = asyncio.Event()
    app = FastAPI()

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
            for text in hot.hello():
                await websocket.send_text(text)
            clients.add(websocket)
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            clients.discard(websocket)

    def take(message: Message) -> None:
        if message.subject.endswith(BOOK):
            hot.mirror.apply(message.payload)
            waiting.append(message.payload.decode())
            wake.set()

    async def fan_out() -> None:
        while True:
            await wake.wait()
            wake.clear()
            while waiting:
                text = waiting.popleft()
                for client in list(clients):
                    try:
                        await client.send_text(text)
                    except (WebSocketDisconnect, RuntimeError):
                        clients.discard(client)  # gone in between

    bus = await NatsBus.connect(arguments.nats, name="bench-send-text")
    await hot.load(arguments.http)
    await bus.subscribe(CHANGES_ALL, take)
    sender = asyncio.create_task(fan_out())
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    say(sock.getsockname()[1])
    config: Any = uvicorn.Config(app, ws="websockets-sansio", log_level="error", ws_ping_interval=None)
    await uvicorn.Server(config).serve(sockets=[sock])
    sender.cancel()
    await bus.close()


async def broadcasting(arguments: argparse.Namespace) -> None:
    hot = Hot()
    clients: set[ServerConnection] = set()

    async def ws(connection: ServerConnection) -> None:
        await connection.recv()
        for text in hot.hello():
            await connection.send(text)
        clients.add(connection)
        await connection.wait_closed()
        clients.discard(connection)

    def take(message: Message) -> None:
        if message.subject.endswith(BOOK):
            hot.mirror.apply(message.payload)
            broadcast(clients, message.payload.decode())

    bus = await NatsBus.connect(arguments.nats, name="bench-broadcast")
    await hot.load(arguments.http)
    await bus.subscribe(CHANGES_ALL, take)
    async with serve(ws, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=2048) as server:
        say(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["send_text", "broadcast"])
    parser.add_argument("--nats", required=True)
    parser.add_argument("--http", required=True)
    arguments = parser.parse_args()
    uvloop.run((send_text if arguments.kind == "send_text" else broadcasting)(arguments))
