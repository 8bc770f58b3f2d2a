"""A gateway's end of a connection that a test writes by hand, on the virtual network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

_COUNTED = frozenset({"snapshot", "delta", "status", "trade"})


class Peer(asyncio.Protocol):
    """One connection: `ops` are what the client asked, `say` sends a message and counts it."""

    def __init__(self) -> None:
        self.ops: list[dict[str, Any]] = []
        self.count = 0
        self._protocol = ServerProtocol(subprotocols=["wup.v1"])  # type: ignore[list-item]
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
                self.say({"type": "welcome", "protocol": "wup.v1"})
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.ops.append(json.loads(bytes(event.data)))
        self._flush()

    def say(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.count += message["type"] in _COUNTED
        self._protocol.send_text(orjson.dumps(message))
        self._flush()

    def end(self, code: int) -> None:
        """Close the connection."""
        self._protocol.send_close(code)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
