"""RFC 6455 at the socket: what a hostile or broken client may send."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.conftest import Starter
from gateway.engine import Engine
from gateway.raw import RawClient, frame
from wup.gateway import Gateway, Limits

Dial = Callable[..., Awaitable[RawClient]]
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


@pytest.fixture
async def raw() -> AsyncIterator[Dial]:
    clients: list[RawClient] = []

    async def begin(gateway: Gateway, **options: Any) -> RawClient:
        client = await RawClient.open(gateway.port, **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()


def ping(op_id: str) -> bytes:
    """A `ping` operation as JSON."""
    return json.dumps({"op": "ping", "id": op_id}).encode()


async def test_accept_key(gateway: Gateway, raw: Dial) -> None:
    """The handshake's answer is that of RFC 6455 section 1.3; compression is not taken up."""
    client = await raw(gateway, more="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert client.status == 101
    assert client.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-extensions" not in client.headers


async def test_fragments_and_control_frames_between(gateway: Gateway, raw: Dial) -> None:
    """A message in pieces, with a ping between them, is one message, and the ping is answered."""
    client = await raw(gateway)
    text = ping("frag")
    client.send(frame(TEXT, text[:5], fin=False) + frame(PING, b"mid"))
    client.send(frame(CONT, text[5:9], fin=False) + frame(CONT, text[9:]))
    await client.message("welcome")
    found = [await client.frame(), await client.frame()]
    assert (PONG, b"mid") in found
    assert any(opcode == TEXT and json.loads(payload)["id"] == "frag" for opcode, payload in found)


async def test_one_byte_at_a_time(gateway: Gateway, raw: Dial) -> None:
    """A frame that drips in byte by byte is read all the same."""
    client = await raw(gateway)
    for byte in frame(TEXT, ping("drip")):
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.message("pong"))["id"] == "drip"


@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536])
async def test_message_sizes(gateway: Gateway, raw: Dial, size: int) -> None:
    """Messages at the borders of the length forms, up to 64 KiB, are read."""
    client = await raw(gateway)
    text = json.dumps({"op": "ping", "id": "s", "x": ""}).encode()
    text = text[:-2] + b"y" * (size - len(text)) + text[-2:]
    assert len(text) == size
    client.send(frame(TEXT, text))
    assert (await client.message("pong"))["id"] == "s"


BROKEN: list[tuple[str, bytes, int]] = [
    ("unmasked", frame(TEXT, b"{}", mask=False), 1002),
    ("reserved bit", frame(TEXT, b"{}", rsv=4), 1002),
    ("unknown opcode", frame(3, b""), 1002),
    ("unknown control opcode", frame(11, b""), 1002),
    ("continuation of nothing", frame(CONT, b"x"), 1002),
    ("text inside a fragmented text", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    ("fragmented ping", frame(PING, b"x", fin=False), 1002),
    ("long ping", frame(PING, b"x" * 126), 1002),
    ("too many fragments", frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 16, 1002),
    ("binary", frame(BINARY, b"x"), 1003),
    ("bad UTF-8", frame(TEXT, b"\xc3\x28"), 1007),
    ("bad UTF-8 over fragments", frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\x28"), 1007),
    ("over 64 KiB", frame(TEXT, b"x" * 65537), 1009),
    ("over 64 KiB in fragments", frame(TEXT, b"x" * 40000, fin=False) + frame(CONT, b"x" * 40000), 1009),
    ("claims 2^62 bytes", struct.pack("!BBQ", 0x81, 0xFF, 2**62) + b"mask", 1009),
    ("close with a code nobody may send", frame(CLOSE, struct.pack("!H", 1005)), 1002),
    ("close of one byte", frame(CLOSE, b"x"), 1002),
]


async def test_broken_frames(gateway: Gateway, raw: Dial) -> None:
    """What breaks the protocol is answered by its close code and the end; others are not touched."""
    other = await raw(gateway)
    for name, data, code in BROKEN:
        client = await raw(gateway)
        client.send(data)
        assert await client.close_code() == code, name
    other.send(frame(TEXT, ping("alive")))
    assert (await other.message("pong"))["id"] == "alive"


async def test_valid_utf8_split_in_a_character(gateway: Gateway, raw: Dial) -> None:
    """A character cut by a fragment border is valid text."""
    client = await raw(gateway)
    text = json.dumps({"op": "ping", "id": "u", "x": "é"}, ensure_ascii=False).encode()
    cut = text.index(b"\xc3") + 1
    client.send(frame(TEXT, text[:cut], fin=False) + frame(CONT, text[cut:]))
    assert (await client.message("pong"))["id"] == "u"


async def test_close_is_echoed(gateway: Gateway, raw: Dial) -> None:
    """A client's close is answered with its code, and nothing follows."""
    client = await raw(gateway)
    client.op("subscribe", "1", books=[">"])
    await client.message("subscribed")
    client.send(frame(CLOSE, struct.pack("!H", 1000) + b"bye"))
    assert await client.close_code() == 1000


async def test_frames_after_close_are_ignored(gateway: Gateway, raw: Dial) -> None:
    """An operation in the same packet after a close frame is not done."""
    client = await raw(gateway)
    await client.message("welcome")
    client.send(frame(CLOSE, struct.pack("!H", 1000)) + frame(TEXT, ping("late")))
    opcode, payload = await client.frame()
    assert (opcode, payload) == (CLOSE, struct.pack("!H", 1000))


async def test_ping_flood(gateway: Gateway, raw: Dial) -> None:
    """Pings count as messages: a flood of them ends with 4429."""
    client = await raw(gateway)
    async with asyncio.timeout(8):
        while True:
            client.send(frame(PING, b"x") * 20)
            await asyncio.sleep(0.02)
            if client.reader.at_eof() or client.writer.is_closing():
                break
            if len(client.reader._buffer) > 20_000 or b"message rate" in bytes(client.reader._buffer):  # type: ignore[attr-defined]
                break
    assert await client.close_code() == 4429


async def test_no_pong_closes_4491(engine: Engine, start: Starter, raw: Dial) -> None:
    """A client that does not answer the session's ping in time is closed with 4491."""
    gateway = await start(Limits(ws_ping_s=0.2, ws_pong_s=0.3))
    client = await raw(gateway)
    payload = await client.until(PING)
    client.send(frame(PONG, payload))
    await client.until(PING)
    client.send(frame(PONG, b"something else"))
    assert await client.close_code() == 4491


async def test_unfinished_message_is_cut(engine: Engine, start: Starter, raw: Dial) -> None:
    """A message that is begun and not finished in time ends with 1002."""
    gateway = await start(Limits(ws_frame_s=0.3))
    client = await raw(gateway)
    client.send(frame(TEXT, b'{"op"', fin=False))
    assert await client.close_code() == 1002


async def test_slow_handshake_is_cut(engine: Engine, start: Starter) -> None:
    """A request head that does not end is cut at its deadline; nobody else waits for it."""
    gateway = await start(Limits(ws_handshake_s=0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: 127")
    async with asyncio.timeout(3):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_handshake_refusals(gateway: Gateway, raw: Dial) -> None:
    """Wrong path, Host, Origin, version, or a token in the address: refused before the upgrade."""
    port = gateway.port
    cases: list[tuple[dict[str, str], int]] = [
        ({"path": "/other"}, 404),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"more": "Origin: https://evil.example\r\n"}, 403),
        ({"more": "Origin: null\r\n"}, 403),
        ({"more": f"Origin: http://127.0.0.1:{port + 1}\r\n"}, 403),
        ({"more": f"Origin: http://127.0.0.1.evil.example:{port}\r\n"}, 403),
        ({"more": f"Origin: http://evil@127.0.0.1:{port}\r\n"}, 403),
        ({"path": "/ws?token=abc"}, 400),
        ({"path": "/ws?x=1&Token=abc"}, 400),
        ({"more": f"Origin: http://127.0.0.1:{port}\r\n"}, 101),
        ({"more": f"Origin: HTTP://127.0.0.1:{port}\r\n"}, 101),
        ({"host": f"LOCALHOST:{port}"}, 101),
    ]
    for options, status in cases:
        client = await raw(gateway, **options)
        assert client.status == status, options


async def test_connection_limits(engine: Engine, start: Starter, raw: Dial) -> None:
    """Connections beyond the limits get 503 with `Retry-After`, and a place that is left is free again."""
    gateway = await start(Limits(ws_per_address=2))
    first, second = await raw(gateway), await raw(gateway)
    assert (first.status, second.status) == (101, 101)
    third = await raw(gateway)
    assert third.status == 503
    assert int(third.headers["retry-after"]) >= 1
    await first.close()
    async with asyncio.timeout(3):
        while (await raw(gateway)).status != 101:
            await asyncio.sleep(0.01)


async def test_connection_rate(engine: Engine, start: Starter, raw: Dial) -> None:
    """More new connections a second than allowed get 503."""
    gateway = await start(Limits(ws_connects_per_second=3))
    statuses = [(await raw(gateway)).status for _ in range(5)]
    assert statuses[:3] == [101, 101, 101]
    assert 503 in statuses[3:]


async def test_a_fault_of_one_connection_stays_there(
    gateway: Gateway, raw: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception inside one operation is answered `internal`; the connection and the others go on."""
    client, other = await raw(gateway), await raw(gateway)

    def explode(*_: object) -> None:
        raise RuntimeError("injected")

    with monkeypatch.context() as patch:
        patch.setattr("wup.gateway.operations.Operations._list", explode)
        client.op("list", "1")
        error = await client.message("error")
    assert (error["id"], error["code"], error["retry"]) == ("1", "internal", True)
    assert "injected" not in json.dumps(error)
    for each in (client, other):
        each.send(frame(TEXT, ping("still")))
        assert (await each.message("pong"))["id"] == "still"
