"""Rows W1 to W18 of the security check list, each over real sockets to a gateway as it ships."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conformance.conftest import Dial
from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, Engine
from gateway.raw import RawClient, frame
from security.conftest import entry, rss
from wup.cli import app
from wup.gateway import Gateway, Limits
from wup.gateway.session import Session

TEXT, CONT, CLOSE, PING = 1, 0, 8, 9
FULL, FED = "canary-token-for-everything", "canary-token-for-fed-only"
Tokens = Callable[..., str]


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


async def guarded(start: Starter, engine: Engine, path: str, **limits: Any) -> Gateway:
    gateway = await start(Limits(**limits), tokens_file=path)
    engine.marks()
    await ready(gateway)
    return gateway


async def rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What comes until the other side ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        found = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return found


def local_addresses(port: int) -> list[str]:
    """The addresses, in hex, on which this machine listens at a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]


async def test_w01_loopback_unless_tokens(gateway: Gateway) -> None:
    """Other addresses without tokens end every listening stage with exit 2 and a clear line; the default is
    loopback."""
    for stage in ("gateway", "orderbook", "events", "up"):
        ended = CliRunner().invoke(app, [stage], env={"BIND_HOST": "0.0.0.0"})
        assert ended.exit_code == 2, (stage, ended.output)
        assert "TOKENS_FILE" in ended.output
    assert local_addresses(gateway.port) == ["0100007F"]


async def test_w02_origins(start: Starter, engine: Engine, raw: Dial) -> None:
    """An Origin must be the gateway's own or listed, to the letter; who sends none is no browser."""
    gateway = await start(allowed_origins=("https://app.example",))
    own = f"http://127.0.0.1:{gateway.port}"
    allowed = [
        None,
        own,
        own.upper(),
        "https://app.example",
        "https://app.example:443",
        "HTTPS://APP.EXAMPLE",
    ]
    refused = [
        "null", "", "https://evil.example", "https://app.example.evil", "https://evilapp.example",
        "https://app.example:444", "http://app.example", "https://sub.app.example", "https://app.example/x",
        "https://user@app.example", "file://", "app.example", "https://app.example https://evil.example",
        own + "0",
    ]  # fmt: skip
    for origin in allowed:
        assert (await raw(gateway, more="" if origin is None else f"Origin: {origin}\r\n")).status == 101, (
            origin
        )
    for origin in refused:
        assert (await raw(gateway, more=f"Origin: {origin}\r\n")).status == 403, origin
    twice = f"Origin: {own}\r\nOrigin: https://evil.example\r\n"
    assert (await raw(gateway, more=twice)).status == 403


async def test_w02_browsers_of_other_sites_by_default(gateway: Gateway, raw: Dial) -> None:
    """With the settings as they ship every page but the gateway's own is refused."""
    for origin in ("https://app.example", "http://localhost:3000", f"http://127.0.0.1:{gateway.port + 1}"):
        assert (await raw(gateway, more=f"Origin: {origin}\r\n")).status == 403


async def test_w03_hosts(gateway: Gateway, raw: Dial) -> None:
    """A Host that is not ours is 421 before anything else, so a rebound name gets nothing."""
    port = gateway.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert (await raw(gateway, host=host)).status == 101, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.",
        "127.0.0.2",
        "x" * 300,
    ):
        assert (await raw(gateway, host=host)).status == 421, host


async def test_w04_tokens_come_by_header_or_message(
    start: Starter,
    engine: Engine,
    raw: Dial,
    dial: Opener,
    tokens: Tokens,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A token in the address is 400 and reaches no log; no cookie is set or read."""
    gateway = await guarded(start, engine, tokens(entry(FULL, ">")))
    for query in (f"token={FULL}", f"a=b&TOKEN={FULL}", f"token={FULL}&token=x", "token"):
        refused = await raw(gateway, path=f"/ws?{query}")
        assert refused.status == 400, query
    cookie = await raw(gateway, more=f"Cookie: token={FULL}; Authorization=Bearer {FULL}\r\n")
    assert cookie.status == 101
    assert "set-cookie" not in cookie.headers
    cookie.op("list", "1")
    assert (await cookie.message("error"))["code"] == "unauthorized"
    header = await raw(gateway, more=bearer(FULL))
    header.op("list", "1")
    assert (await header.message("books"))["books"]
    message = await dial(gateway)
    assert (await message.op("auth", token=FULL))["type"] == "authenticated"
    shown = capsys.readouterr()
    assert FULL not in shown.out + shown.err


async def test_w05_tokens(
    start: Starter,
    engine: Engine,
    raw: Dial,
    dial: Opener,
    tokens: Tokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes only, compared in constant time; expired 4401, out of scope `forbidden`, revoked within 5 s."""
    past, soon = 1, time.time_ns() // 1_000 + 2_500_000
    path = tokens(
        entry(FULL, ">"),
        entry(FED, "fed-2026-12.>"),
        entry("old", ">", expires=past),
        entry("soon", ">", expires=soon),
    )
    with open(path) as file:  # noqa: ASYNC230
        assert FULL not in file.read()
    gateway = await guarded(start, engine, path)
    compared: list[str] = []
    honest = hmac.compare_digest

    def counting(known: str, given: str) -> bool:
        compared.append(known)
        return honest(known, given)

    with monkeypatch.context() as patch:
        patch.setattr(hmac, "compare_digest", counting)
        expired = await raw(gateway, more=bearer("old"))
    assert len(compared) == 4
    assert await expired.close_code() == 4401
    narrow = await dial(gateway, additional_headers={"Authorization": f"Bearer {FED}"})
    assert (await narrow.op("subscribe", books=[">"]))["code"] == "forbidden"
    assert (await narrow.op("subscribe", books=["*.9b1c22d0a47e55f1.yes"]))["code"] == "forbidden"
    assert (await narrow.op("subscribe", books=[FED_25]))["type"] == "subscribed"
    short = await dial(gateway, additional_headers={"Authorization": "Bearer soon"})
    wide = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    tokens(entry(FED, "fed-2026-12.>"), entry("soon", ">", expires=soon))
    await wide.until(lambda: wide.closed is not None, 5)
    await short.until(lambda: short.closed is not None, 5)
    assert wide.closed is not None
    assert short.closed is not None
    assert (wide.closed[0], short.closed[0], narrow.closed) == (4401, 4401, None)


def command(*arguments: str) -> tuple[int, str]:
    """`wup token ...`: exit code and what was printed."""
    ended = CliRunner().invoke(app, ["token", *arguments])
    return ended.exit_code, ended.output


async def test_w05_made_tokens(start: Starter, engine: Engine, dial: Opener, tmp_path: Path) -> None:
    """`wup token` makes 256 random bits, shows them once, keeps the hash in a 0600 file, and revokes."""
    path = tmp_path / "made"
    file = f"--file={path}"
    code, made = command("add", file, "--scope", "fed-2026-12.>", "--days", "1")
    token = made.strip()
    assert (code, len(token), len(set(token)) > 16) == (0, 43, True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    gateway = await guarded(start, engine, str(path))
    client = await dial(gateway, additional_headers={"Authorization": f"Bearer {token}"})
    assert (await client.op("subscribe", books=["fed-2026-12.>"]))["matched"] == 2
    code, other = command("add", file)
    code, listed = command("list", file)
    first, second = listed.splitlines()
    assert (code, first.split()[1], second.split()[1]) == (0, "fed-2026-12.>", ">")
    assert token not in listed
    assert other.strip() not in listed
    assert command("revoke", file, first.split()[0]) == (0, "revoked\n")
    await client.until(lambda: client.closed is not None, 5)
    assert client.closed is not None
    assert client.closed[0] == 4401
    for wrong in (["add", file, "--scope", "a..b"], ["revoke", file, "ffff"], ["revoke", file, ""]):
        code, said = command(*wrong)
        assert (code, said[:5]) == (2, "wup: ")
    path.chmod(0o644)
    assert "chmod 600" in command("list", file)[1]


async def test_w06_forwarded_addresses(engine: Engine, start: Starter, raw: Dial) -> None:
    """`X-Forwarded-For` of a stranger is not believed; behind a trusted proxy each client is its own."""
    alone = await start(Limits(ws_per_address=1))
    assert (await raw(alone, more="X-Forwarded-For: 10.0.0.1\r\n")).status == 101
    assert (await raw(alone, more="X-Forwarded-For: 10.0.0.2\r\n")).status == 503
    behind = await start(Limits(ws_per_address=1), trusted_proxies=("127.0.0.0/8", "10.9.0.0/16"))
    for hops, status in (
        ("10.0.0.1", 101),
        ("10.0.0.2", 101),
        ("10.0.0.2", 503),
        ("1.2.3.4, 10.0.0.2", 503),  # what the client wrote itself stands to the left
        ("10.0.0.3, 10.9.1.1", 101),  # two trusted hops
        ("2001:db8::1", 101),
        ("2001:db8::2", 503),  # the same customer's /64
        ("2001:db8:0:1::2", 101),
    ):
        client = await raw(behind, more=f"X-Forwarded-For: {hops}\r\n")
        assert client.status == status, hops


async def test_w07_connection_caps(engine: Engine, start: Starter, raw: Dial, tokens: Tokens) -> None:
    """The 33rd connection of an address gets 503 with `Retry-After`; another address is not affected; a token
    has a cap of its own."""
    gateway = await start(Limits(ws_connects_per_second=1_000))
    assert {(await raw(gateway)).status for _ in range(32)} == {101}
    over = await raw(gateway)
    assert over.status == 503
    assert int(over.headers["retry-after"]) >= 1
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.2", 0))
    other = RawClient(reader, writer)
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    other.send(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"101"
    await other.close()
    limited = await guarded(start, engine, tokens(entry(FULL, ">"), entry(FED, ">")), ws_per_token=2)
    assert [(await raw(limited, more=bearer(FULL))).status for _ in range(3)] == [101, 101, 503]
    late = await raw(limited)
    late.op("auth", "1", token=FULL)
    assert (await late.message("error"))["code"] == "rate_limited"
    assert await late.close_code() == 1013
    assert (await raw(limited, more=bearer(FED))).status == 101


async def test_w07_places_are_given_back(engine: Engine, start: Starter, raw: Dial, tokens: Tokens) -> None:
    """However a connection ends, its places (address, token, all) are free again."""
    gateway = await guarded(start, engine, tokens(entry(FULL, ">")), ws_per_token=1, ws_per_address=3)
    for _ in range(5):
        client = await raw(gateway, more=bearer(FULL))
        assert client.status == 101
        client.op("list", "1")
        await client.message("books")
        client.writer.transport.abort()
        async with asyncio.timeout(3):
            while gateway._core.admission.total:
                await asyncio.sleep(0.002)
    assert (await raw(gateway, more=bearer("wrong"))).status == 101
    assert gateway._core.tokens is not None
    assert gateway._core.tokens._held == {}


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
    began = time.perf_counter()
    assert (await client.op("subscribe", books=bomb))["code"] == "too_many_patterns"
    assert (await client.op("subscribe", books=["a.*.*.*.*"] * 3_000))["code"] == "bad_pattern"
    assert (await client.op("subscribe", books=["*" * 200] * 200))["code"] == "bad_pattern"
    assert (await client.op("subscribe", books=[">" for _ in range(5_000)]))["code"] == "already_subscribed"
    took = time.perf_counter() - began
    (connection,) = gateway._core.connections()
    assert connection._session is not None
    assert connection._session._reading.subscriptions == {}
    assert gateway._core.hub._wild == {}
    assert took < 5  # four messages of 60 KB; quadratic work would be minutes
    assert client.count == 0


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
        patch.setattr("wup.gateway.session.Session._list", explode)
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
