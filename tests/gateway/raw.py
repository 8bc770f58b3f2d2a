"""A WebSocket spoken by hand over a raw socket, to send what no library would."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from typing import Any

WAIT_S = 8.0

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    """One client frame; every field may be wrong on purpose."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class RawClient:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(
        cls, port: int, path: str = "/ws", host: str | None = None, more: str = "", limit: int = 2**20
    ) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
        client = cls(reader, writer)
        head = HANDSHAKE.format(path=path, host=host or f"127.0.0.1:{port}", more=more)
        writer.write(head.encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = answer.split("\r\n")
        client.status = int(lines[0].split()[1])
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                client.headers[name.strip().lower()] = value.strip()
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def op(self, name: str, op_id: str, **more: Any) -> None:
        """One operation as a text frame."""
        self.send(frame(1, json.dumps({"op": name, "id": op_id, **more}).encode()))

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next frame; (-1, b"") at the end of the stream."""
        try:
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, "servers send whole frames without reserved bits"
            assert not second & 0x80, "servers do not mask"
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                assert size >= 126, "length not in its shortest form"
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                assert size >= 65536, "length not in its shortest form"
            return first & 0x0F, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return -1, b""

    async def until(self, opcode: int) -> bytes:
        """Payload of the next frame with this opcode."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found, payload = await self.frame()
                if found == opcode:
                    return payload
                assert found != -1, "the connection ended"

    async def message(self, kind: str) -> dict[str, Any]:
        """The next text message of a `type`."""
        while True:
            message: dict[str, Any] = json.loads(await self.until(1))
            if message["type"] == kind:
                return message

    async def close_code(self) -> int:
        """The code of the server's close frame; the stream must end after it."""
        payload = await self.until(8)
        self.send(frame(8, payload[:2]))
        async with asyncio.timeout(WAIT_S):
            while (await self.frame())[0] != -1:
                pass
        return int(struct.unpack("!H", payload[:2])[0])

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return
