"""Rows W8 to W18 of the security check list: what a client may do. Real sockets to a gateway as it ships."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct

import pytest

from conformance.conftest import Dial
from gateway.conftest import Opener, Starter
from gateway.desk import Calls, Client, Desk, table
from gateway.engine import Engine
from gateway.raw import frame
from security.conftest import entry, rss
from security.doors import FED, FULL, Tokens, guarded, rest
from wup.gateway import Gateway, Limits
from wup.gateway.session import Session

TEXT, CONT, CLOSE, PING = 1, 0, 8, 9


async def test_w08_sizes_are_checked_on_the_header(gateway: Gateway, raw: Dial) -> None:
    """A frame that claims 2^63-1 bytes, or a byte over 64 KiB, is 1009 before anything is set aside."""
    before = rss()
    for claim in (65_537, 2**31, 2**62, 2**63 - 1):
        client = await raw(gateway)
        client.send(struct.pack("!BBQ", 0x81, 0xFF, claim) + b"mask" + b"x" * 100)
        assert await client.close_code() == 1009, claim
    assert rss() - before < 8 * 1024 * 1024


async def test_w09_fragments_and_masks(engine: Engine, start: Starter, raw: Dial) -> None:
    """Seventeen fragments, no mask, a control frame over 125 bytes and a dripping message end 1002."""
    gateway = await start(Limits(ws_frame_s=0.4))
    cases = {
        "fragments": frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * 16,
        "unmasked": frame(TEXT, b"{}", mask=False),
        "long control": frame(PING, b"x" * 126),
        "cut control": frame(PING, b"x", fin=False),
    }
    for name, data in cases.items():
        client = await raw(gateway)
        client.send(data)
        assert await client.close_code() == 1002, name
    drip = await raw(gateway)
    await drip.message("welcome")
    text = frame(TEXT, b'{"op":"ping","id":"drip-drip-drip-drip"}')
    closing = asyncio.create_task(drip.until(CLOSE))
    sent = 0
    while not closing.done() and sent < len(text) - 1:
        drip.send(text[sent : sent + 1])
        sent += 1
        await asyncio.wait({closing}, timeout=0.05)
    assert struct.unpack("!H", (await closing)[:2]) == (1002,)
    assert 5 < sent < len(text) - 1


async def test_w10_message_rate(gateway: Gateway, raw: Dial) -> None:
    """Beyond 40 at once an error, and who goes on is closed 4429; pings and pongs count like messages."""
    for flood in (frame(TEXT, b'{"op":"ping","id":"1"}'), frame(PING, b"x"), frame(10, b"x")):
        client = await raw(gateway)
        await client.message("welcome")
        closed = False
        async with asyncio.timeout(8):
            while not closed:
                client.send(flood * 30)
                await asyncio.sleep(0.06)
                closed = b"message rate" in bytes(client.reader._buffer)  # type: ignore[attr-defined]
        assert await client.close_code() == 4429


@pytest.mark.parametrize(
    "flood",
    [frame(PING), frame(TEXT, b"{}"), frame(TEXT, b'{"op":"ping","id":"1"}')],
    ids=["pings", "bad messages", "operations"],
)
async def test_w10_a_flood_in_one_packet_delays_nobody(
    gateway: Gateway, raw: Dial, monkeypatch: pytest.MonkeyPatch, flood: bytes
) -> None:
    """Tens of thousands of frames at one go: those beyond two bursts are not even looked at, the connection
    is closed 4429 or cut, and no turn of the event loop takes long."""
    seen = 0
    honest = Session._within_rate

    def count(session: Session, now: float) -> bool:
        nonlocal seen
        seen += 1
        return honest(session, now)

    monkeypatch.setattr(Session, "_within_rate", count)
    client, friend = await raw(gateway), await raw(gateway)
    (ours, _) = gateway._core.connections()
    with Calls() as calls:
        client.send(flood * (400_000 // len(flood)))
        async with asyncio.timeout(8):
            while ours in gateway._core.connections():
                await asyncio.sleep(0.01)
    assert ours._code in (4429, 4400)
    assert seen <= 2 * 40 + 1
    assert calls.most < 60_000, calls.most
    friend.op("ping", "1")
    await friend.message("pong")


async def test_w11_json(gateway: Gateway, dial: Opener) -> None:
    """Depth, ranges, duplicate keys, ids, random damage: an error or an answer, never a crash or silence."""
    rng = random.Random(11)
    good = json.dumps({"op": "subscribe", "id": "1", "books": ["fed-2026-12.>"], "depth": 5, "every_ms": 100})
    cases = [
        '{"op":"ping","id":"1","id":"2"}', "[" * 9 + "]" * 9, '{"a":' * 2_000 + "1" + "}" * 2_000,
        '{"op":"subscribe","id":"1","books":[">"],"depth":1e400}',
        '{"op":"subscribe","id":"1","books":[">"],"depth":5.0}',
        '{"op":"subscribe","id":"1","books":[">"],"depth":' + "9" * 5_000 + "}",
        '{"op":"ping","id":"\\ud800"}',
        '{"op":"ping","id":"\\u0000"}', '{"op":"ping","id":"é"}', '{"op":"ping","id":null}',
        "NaN", '{"op":NaN,"id":"1"}', "", " ", "\ufeff{}",
    ]  # fmt: skip
    for _ in range(150):
        broken = list(good)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = chr(rng.choice((rng.randrange(128), rng.randrange(0x2FF))))
        cases.append("".join(broken))
    for first in range(0, len(cases), 15):
        client = await dial(gateway)
        for text in cases[first : first + 15]:
            client.answers.clear()
            await client.ws.send(text)
            await client.until(lambda c=client: c.answers)  # type: ignore[misc]
            assert client.answers[0]["type"] in ("error", "subscribed", "pong"), text
        assert (await client.op("ping"))["type"] == "pong"
        await client.close()


async def test_w12_subscription_explosion(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """Matches are counted before anything is registered: thousands of patterns are refused at once, and
    a refused op leaves nothing behind."""
    client = await dial(gateway)
    bomb = [f"a{n}.*.*" for n in range(3_000)]
    assert (await client.op("subscribe", books=bomb))["code"] == "too_many_patterns"
    assert (await client.op("subscribe", books=["a.*.*.*.*"] * 3_000))["code"] == "bad_pattern"
    assert (await client.op("subscribe", books=["*" * 200] * 200))["code"] == "bad_pattern"
    assert (await client.op("subscribe", books=[">" for _ in range(5_000)]))["code"] == "already_subscribed"
    (connection,) = gateway._core.connections()
    assert connection._session is not None
    assert connection._session._reading.subscriptions == {}
    assert gateway._core.hub._wild == {}
    assert client.count == 0


async def test_w12_large_operations_delay_nobody() -> None:
    """While others have everything counted, joined, listed and taken back, a client's ping has its answer a
    few turns of the event loop later, and no turn does more than its portion."""
    desk = Desk()
    desk.map(*table(500))
    hostile = [Client(desk) for _ in range(3)]
    friend = Client(desk)
    forms = [">", "*.>", "*.*.no"]
    with Calls() as calls:
        for client in hostile:
            for n, depth in enumerate((None, 5)):
                client.op("subscribe", f"s{n}", books=forms, **({"depth": depth} if depth else {}))
                client.op("list", f"l{n}")
                client.op("unsubscribe", f"u{n}", books=forms)
        for ping in range(5):
            friend.op("ping", str(ping))
            turns = 0
            while friend.answered(str(ping)) is None:
                await desk.turns(1)
                turns += 1
            assert turns <= 5
        assert {client.answered("u1") for client in hostile} == {None}, "they were done already"
        await desk.settled()
    assert {client.answered("u1") for client in hostile} == {"unsubscribed"}
    assert calls.most < 20_000 < calls.total / 10, (calls.most, calls.total)


async def test_w12_leading_wildcards_need_a_wide_scope(
    engine: Engine, start: Starter, dial: Opener, tokens: Tokens
) -> None:
    """A token of some aggregates cannot ask with a leading wildcard, only one whose scope has it too."""
    gateway = await guarded(start, engine, tokens(entry(FED, "fed-2026-12.>"), entry(FULL, "*.*.yes")))
    for token, code in ((FED, "forbidden"), (FULL, None)):
        client = await dial(gateway, additional_headers={"Authorization": f"Bearer {token}"})
        for pattern in (">", "*.9b1c22d0a47e55f1.yes", "*.>"):
            assert (await client.op("subscribe", books=[pattern])).get("code") == code


async def test_w13_slow_handshakes(engine: Engine, start: Starter, raw: Dial) -> None:
    """300 sockets that drip or say nothing: a new client still gets in, and all of them are cut in time."""
    gateway = await start(Limits(ws_handshake_s=1.0))
    slow = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
    head = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    async def drip() -> None:
        for byte in head * 10:
            for _, writer in slow[:150]:
                if not writer.is_closing():
                    writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    client = await raw(gateway)
    assert client.status == 101
    client.op("ping", "1")
    await client.message("pong")
    async with asyncio.timeout(10):
        for reader, writer in slow:
            assert await rest(reader, writer) == b""
    dripping.cancel()


async def test_w13_a_second_request_has_a_deadline_too(engine: Engine, start: Starter) -> None:
    """On a kept connection the next request's head, and a body, must come in time as well."""
    gateway = await start(Limits(ws_handshake_s=0.4))
    good = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n".encode()
    for part in (
        b"GET /healthz HTT",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nab",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(good + b"\r\n")
        assert (await reader.readuntil(b'ok"}')).startswith(b"HTTP/1.1 200")
        writer.write(part)
        async with asyncio.timeout(4):
            await rest(reader, writer)


async def test_w14_a_stopped_reader_costs_little(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """What one stopped reader ties up stays under 1 MiB and the pacing limits, however much is published."""
    client = await raw(gateway, limit=65_536)
    client.op("subscribe", "s", books=[">"])
    await client.message("subscribed")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (connection,) = gateway._core.connections()
    most = 0
    for _ in range(80):
        for _ in range(15):
            engine.bulk()
        await asyncio.sleep(0.002)
        most = max(most, connection.backlog())
    assert 65_536 < most < 1_048_576 + 262_144 + 2 * 65_536
    sock: socket.socket = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 262_144


async def test_w15_no_compression(gateway: Gateway, raw: Dial) -> None:
    """Compression is not taken up in any form, and a compressed frame is 1002: nothing is ever inflated."""
    for offer in (
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "x-webkit-deflate-frame",
    ):
        client = await raw(gateway, more=f"Sec-WebSocket-Extensions: {offer}\r\n")
        assert client.status == 101
        assert "sec-websocket-extensions" not in client.headers
        before = rss()
        client.send(frame(TEXT, b"\x00" * 65_000, rsv=4))
        assert await client.close_code() == 1002
        assert rss() - before < 4 * 1024 * 1024


async def test_w16_errors_tell_nothing(
    gateway: Gateway, raw: Dial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors hold no path, type or text of ours; what a client sends is never echoed raw or logged raw."""
    nasty = 'x\r\nset-cookie: a=b\x1b[31m"' + "y" * 10_000

    def explode(*_: object) -> None:
        raise RuntimeError(f"{nasty} at /secret/path.py")

    client = await raw(gateway)
    client.op("subscribe", "1", books=[nasty[:200]])
    client.op(nasty[:30], "2")
    client.op("ping", nasty)
    with monkeypatch.context() as patch:
        patch.setattr("wup.gateway.operations.Operations._list", explode)
        client.op("list", "3")
        told = [await client.message("error") for _ in range(4)]
    assert [message["code"] for message in told] == ["bad_pattern", "unknown_op", "bad_request", "internal"]
    for message in told:
        assert len(message["message"]) <= 200
        assert not re.search(r"secret|\.py|Traceback|RuntimeError|\x1b|\r|\n|yyy", message["message"])
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert "operation failed" in text
    assert '\x1b[31m"' not in text
    assert "y" * 300 not in text


async def test_w17_what_the_log_says(
    engine: Engine,
    start: Starter,
    raw: Dial,
    dial: Opener,
    tokens: Tokens,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Connects, authentication, refusals, limits and close codes are logged with connection and peer; tokens,
    their hashes and payloads never are."""
    gateway = await guarded(start, engine, tokens(entry(FULL, ">")))
    client = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    await client.op("subscribe", books=["canary-payload.>"])
    wrong = await dial(gateway)
    await wrong.op("auth", token="canary-wrong-token")
    await wrong.until(lambda: wrong.closed is not None)
    assert (await raw(gateway, more="Origin: https://evil.example\r\n")).status == 403
    flood = await raw(gateway)
    for _ in range(20):
        flood.send(frame(TEXT, b"{canary"))
    assert await flood.close_code() == 4400
    await client.close()
    await asyncio.sleep(0.05)
    shown = capsys.readouterr()
    text = shown.out + shown.err
    name = client.answers[0]["connection"]
    for line in (
        rf"connected .*connection={name} peer=127\.0\.0\.1 .*token=True",
        r"auth .*accepted=False",
        r"refused .*peer=127\.0\.0\.1 .*status=403",
        r"closed .*code=4400",
        r"closed .*code=4401",
        rf"closed .*code=1000 connection={name}",
    ):
        assert re.search(line, text), (line, text)
    assert "canary" not in text
    assert entry(FULL)["sha256"] not in text


async def test_w18_a_crash_stays_with_its_connection(
    gateway: Gateway, raw: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the frame handler, the handshake or the timer ends that one connection."""
    other = await raw(gateway)

    def explode(*_: object) -> None:
        raise RuntimeError("injected")

    for where in ("Connection._frame", "Connection._handshake"):
        with monkeypatch.context() as patch:
            if where == "Connection._frame":
                client = await raw(gateway)
                await client.message("welcome")
                patch.setattr(f"wup.gateway.connection.{where}", explode)
                client.send(frame(PING, b"x"))
                assert struct.unpack("!H", (await client.until(CLOSE))[:2]) == (1011,)
            else:
                patch.setattr(f"wup.gateway.connection.{where}", explode)
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(
                    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                )
                async with asyncio.timeout(3):
                    assert await rest(reader, writer) == b""
    client = await raw(gateway)
    name = (await client.message("welcome"))["connection"]
    honest = Session.check

    def check(session: Session, now: float) -> None:
        if session.name == name:
            explode()
        honest(session, now)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "check", check)
        assert await client.close_code() == 1011
    again = await raw(gateway)
    again.op("ping", "1")
    assert (await again.message("pong"))["id"] == "1"
    other.op("ping", "2")
    assert (await other.message("pong"))["id"] == "2"
