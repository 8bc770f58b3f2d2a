"""RFC 6455 at the socket, beyond tests/gateway/test_raw.py: lengths, reserved bits, close races."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest

from conformance.conftest import Dial
from gateway.engine import FED_25, Engine
from gateway.raw import RawClient, frame
from wup.gateway import Gateway
from wup.gateway.frame import text_frame

TEXT, CONT, CLOSE, PING, PONG = 1, 0, 8, 9, 10


def ping(op_id: str) -> bytes:
    """A `ping` operation as JSON."""
    return json.dumps({"op": "ping", "id": op_id}).encode()


async def alive(client: RawClient) -> None:
    """The connection answers."""
    client.op("ping", "alive")
    assert (await client.message("pong"))["id"] == "alive"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 70_000])
def test_our_frames_use_the_shortest_length(size: int) -> None:
    """What the server frames has the shortest length form, FIN, no reserved bit and no mask."""
    data = text_frame(b"x" * size)
    assert data[0] == 0x81
    if size < 126:
        assert data[1:2] == bytes([size])
    elif size < 65_536:
        assert data[1:4] == struct.pack("!BH", 126, size)
    else:
        assert data[1:10] == struct.pack("!BQ", 127, size)
    assert data.endswith(b"x" * size)
    assert len(data) - size in (2, 4, 10)


async def test_received_sizes_around_every_border(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """Snapshots of many sizes, over both borders of the length forms, arrive whole."""
    client = await raw(gateway)
    client.op("subscribe", "1", books=[FED_25], depth=1)
    small = await client.message("snapshot")
    client.op("subscribe", "2", books=[FED_25])
    await client.message("snapshot")
    for cents in (1, 20, 40):
        engine.snapshot(
            "polymarket", "6519", [[f"0.{n:04}", "1234567.654321"] for n in range(1, cents * 100)], []
        )
        message = await client.message("delta")
        assert message["book"] == FED_25
    assert len(json.dumps(small)) < len(json.dumps(message))
    assert len(json.dumps(message)) > 65_536


async def test_reserved_bits(gateway: Gateway, raw: Dial) -> None:
    """Each reserved bit, on data and on control frames, ends with 1002: nothing was negotiated for it."""
    for rsv in (1, 2, 4, 7):
        for opcode in (TEXT, PING):
            client = await raw(gateway)
            client.send(frame(opcode, b"x", rsv=rsv))
            assert await client.close_code() == 1002, (rsv, opcode)


async def test_unknown_opcodes(gateway: Gateway, raw: Dial) -> None:
    """Every opcode that RFC 6455 reserves ends with 1002."""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        client = await raw(gateway)
        client.send(frame(opcode, b""))
        assert await client.close_code() == 1002, opcode


async def test_pings_of_every_size(gateway: Gateway, raw: Dial) -> None:
    """A ping is answered with its own payload."""
    client = await raw(gateway)
    for size in (0, 1, 125):
        client.send(frame(PING, b"p" * size))
        assert await client.until(PONG) == b"p" * size


async def test_pong_of_nobody(gateway: Gateway, raw: Dial) -> None:
    """A pong that nobody asked for is no error."""
    client = await raw(gateway)
    client.send(frame(PONG, b"unasked"))
    await alive(client)


async def test_empty_pieces_and_pings_between(gateway: Gateway, raw: Dial) -> None:
    """Empty fragments are fragments; control frames between them are answered at once, the message after."""
    client = await raw(gateway)
    await client.message("welcome")
    text = ping("f")
    client.send(frame(TEXT, b"", fin=False) + frame(CONT, text, fin=False) + frame(PING, b"1"))
    assert await client.frame() == (PONG, b"1")
    client.send(frame(PONG, b"x") + frame(CONT, b""))
    assert (await client.message("pong"))["id"] == "f"


async def test_sixteen_pieces_are_the_most(gateway: Gateway, raw: Dial) -> None:
    """A message in 16 pieces is read; the seventeenth ends with 1002."""
    client = await raw(gateway)
    text = ping("sixteen")
    pieces = [text[n : n + 2] for n in range(0, 30, 2)]
    client.send(frame(TEXT, pieces[0], fin=False) + b"".join(frame(CONT, p, fin=False) for p in pieces[1:]))
    client.send(frame(CONT, text[30:]))
    assert (await client.message("pong"))["id"] == "sixteen"
    client.send(frame(TEXT, b" ", fin=False) + frame(CONT, b" ", fin=False) * 16)
    assert await client.close_code() == 1002


async def test_many_frames_in_one_packet(gateway: Gateway, raw: Dial) -> None:
    """Frames that arrive together are all answered, in order."""
    client = await raw(gateway)
    client.send(b"".join(frame(TEXT, ping(str(n))) for n in range(30)))
    assert [(await client.message("pong"))["id"] for _ in range(30)] == [str(n) for n in range(30)]


async def test_a_mask_of_zeros(gateway: Gateway, raw: Dial) -> None:
    """A mask of four zero bytes is a mask."""
    client = await raw(gateway)
    text = ping("zero")
    client.send(struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4) + text)
    assert (await client.message("pong"))["id"] == "zero"


async def test_closes_that_are_allowed(gateway: Gateway, raw: Dial) -> None:
    """Every close that a client may send is echoed, then the stream ends."""
    for payload in (b"", *(struct.pack("!H", code) + b"x" * 123 for code in (1000, 1001, 3000, 4999))):
        client = await raw(gateway)
        await client.message("welcome")
        client.send(frame(CLOSE, payload))
        opcode, echoed = await client.frame()
        assert opcode == CLOSE
        assert echoed[:2] == payload[:2]
        assert await client.frame() == (-1, b"")


async def test_closes_that_are_not(gateway: Gateway, raw: Dial) -> None:
    """A close code that nobody may send ends with 1002."""
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535):
        client = await raw(gateway)
        client.send(frame(CLOSE, struct.pack("!H", code)))
        assert await client.close_code() == 1002, code


async def test_a_reason_that_is_not_utf8(gateway: Gateway, raw: Dial) -> None:
    """A close reason must be UTF-8 like any text."""
    client = await raw(gateway)
    client.send(frame(CLOSE, struct.pack("!H", 1000) + b"\xff"))
    assert await client.close_code() in (1002, 1007)


BAD_TEXT = [b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b'{"\xc3']


async def test_invalid_utf8(gateway: Gateway, raw: Dial) -> None:
    """Overlong forms, surrogates, values beyond U+10FFFF and cut characters end with 1007."""
    for text in BAD_TEXT:
        client = await raw(gateway)
        client.send(frame(TEXT, text))
        assert await client.close_code() == 1007, text


async def test_close_while_the_server_is_sending(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """A client that closes under full flow gets whole frames, then the close, then the end."""
    client = await raw(gateway)
    client.op("subscribe", "1", books=[">"])
    await client.message("subscribed")
    for _ in range(50):
        engine.bulk()
    client.send(frame(CLOSE, struct.pack("!H", 1000)))
    for _ in range(50):
        engine.bulk()
        await asyncio.sleep(0)
    kinds = []
    async with asyncio.timeout(8):
        while (found := await client.frame())[0] != -1:
            kinds.append(found[0])
    assert kinds.count(CLOSE) == 1
    assert kinds[-1] == CLOSE
    assert set(kinds[:-1]) == {TEXT}
    assert gateway._core.connections() == []


async def test_both_close_at_once(gateway: Gateway, raw: Dial) -> None:
    """A close of ours that crosses the client's ends the connection once, without an answer to the answer."""
    client = await raw(gateway)
    await client.message("welcome")
    (connection,) = gateway._core.connections()
    client.send(frame(CLOSE, struct.pack("!H", 1001)))
    connection.close(1012, "restart")
    opcode, payload = await client.frame()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1012))
    assert await client.frame() == (-1, b"")


async def test_a_reset_in_the_middle_of_a_frame(gateway: Gateway, raw: Dial) -> None:
    """A client whose connection is reset inside a frame leaves nothing behind."""
    client, other = await raw(gateway), await raw(gateway)
    client.op("subscribe", "1", books=[">"])
    await client.message("subscribed")
    client.send(frame(TEXT, ping("x"))[:7])
    await asyncio.sleep(0.01)
    sock: socket.socket = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()
    async with asyncio.timeout(3):
        while len(gateway._core.connections()) > 1:
            await asyncio.sleep(0.005)
    await alive(other)
    assert gateway._core.admission.total == 1


async def test_end_of_stream_without_a_close(gateway: Gateway, raw: Dial) -> None:
    """A client that ends its side without a close frame is let go."""
    client = await raw(gateway)
    await client.message("welcome")
    client.writer.write_eof()
    async with asyncio.timeout(3):
        while (await client.frame())[0] != -1:
            pass
        while gateway._core.connections():
            await asyncio.sleep(0.005)


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HANDSHAKES = [
    ("no key", b"Sec-WebSocket-Version: 13\r\n", {400}),
    ("short key", b"Sec-WebSocket-Key: YWJj\r\nSec-WebSocket-Version: 13\r\n", {400}),
    ("no version", KEY, {400, 426}),
    (
        "old version",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n",
        {400, 426},
    ),
]


async def test_broken_handshakes(gateway: Gateway) -> None:
    """A handshake without a right key and version 13 is refused over HTTP, and the connection ends."""
    host = f"Host: 127.0.0.1:{gateway.port}\r\n".encode()
    for name, lines, statuses in HANDSHAKES:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(b"GET /ws HTTP/1.1\r\n" + host + upgrade + lines + b"\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert int(answer.split()[1]) in statuses, name
        writer.close()
        await writer.wait_closed()
    assert gateway._core.admission.total == 0
