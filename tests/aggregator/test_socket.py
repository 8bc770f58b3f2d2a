"""The venue socket on real TCP: what comes is handed on as it came, whatever way it came in."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import socket
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from wup.aggregator import socket as venue_socket
from wup.aggregator.socket import Refused, Unreachable, VenueSocket, open_socket, proxy_for
from wup.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


class Heard:
    """A reader that keeps what it is told."""

    def __init__(self) -> None:
        self.sockets: list[VenueSocket] = []
        self.frames: list[tuple[bytes, int]] = []
        self._came = asyncio.Event()

    def opened(self, venue: VenueSocket) -> None:
        assert self.frames == []
        self.sockets.append(venue)

    def frame(self, raw: bytes, rx_us: int) -> None:
        self.frames.append((raw, rx_us))
        self._came.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(10):
            while len(self.frames) < count:
                self._came.clear()
                await self._came.wait()
        return [raw for raw, _ in self.frames]


@asynccontextmanager
async def talking(
    handle: Callable[[ServerConnection], Awaitable[None]], **options: object
) -> AsyncIterator[tuple[Heard, VenueSocket]]:
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, **options) as server:  # type: ignore[arg-type]
        heard = Heard()
        port = next(iter(server.sockets)).getsockname()[1]
        scheme = "wss" if "ssl" in options else "ws"
        venue = await open_socket(f"{scheme}://127.0.0.1:{port}/x?y=1", {"X-Key": "1"}, heard, SYSTEM_CLOCK)
        try:
            yield heard, venue
        finally:
            venue.abort("done")
            await venue.wait_closed()


async def test_text_binary_and_fragments_arrive_whole_and_in_order() -> None:
    """Text, binary and fragmented messages come out byte for byte, pings in between are answered, and the
    close is answered too."""
    closed: list[int] = []

    async def handle(ws: ServerConnection) -> None:
        assert ws.request is not None
        assert ws.request.headers["X-Key"] == "1"
        assert "Sec-WebSocket-Extensions" not in ws.request.headers
        await ws.send("é\n")
        await ws.send(b"\x00\xff")
        await ws.send(["a" * 70_000, "", "b", "c" * 200])
        await (await ws.ping(b"heartbeat"))
        await ws.send("last")
        await ws.close(1012, "maintenance")
        closed.append(ws.close_code or 0)

    async with talking(handle) as (heard, venue):
        frames = await heard.until(4)
        assert frames == [
            "é\n".encode(),
            b"\x00\xff",
            b"a" * 70_000 + b"b" + b"c" * 200,
            b"last",
        ]
        await venue.wait_closed()
        assert "maintenance" in venue.ended
        assert heard.sockets == [venue]
    assert closed == [1012]


async def test_frames_behind_the_upgrade_and_in_one_read_have_one_stamp() -> None:
    """Frames that come with the answer to the upgrade are not lost, and those of one read carry the time of
    that read, however long the first of them took."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        magic = key.partition(":")[2].strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n\x81\x01a\x81\x01b\x81\x01c"
        )
        await reader.read()
        writer.close()

    class Slow(Heard):
        def frame(self, raw: bytes, rx_us: int) -> None:
            super().frame(raw, rx_us)
            time.sleep(0.01)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        heard = Slow()
        venue = await open_socket(f"ws://127.0.0.1:{port}/", {}, heard, SYSTEM_CLOCK)
        assert await heard.until(3) == [b"a", b"b", b"c"]
        assert len({rx_us for _, rx_us in heard.frames}) == 1
        venue.abort("done")
        await venue.wait_closed()


async def test_dead_peers_are_noticed_by_the_kernel() -> None:
    """TCP_USER_TIMEOUT is set on the socket: bytes that nobody acknowledges end it after 10 s."""

    async def handle(ws: ServerConnection) -> None:
        await ws.wait_closed()

    async with talking(handle) as (_, venue):
        assert venue._transport is not None
        raw = venue._transport.underlying_transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


@pytest.mark.parametrize("parts", [1, 8])
async def test_a_message_over_the_limit_ends_the_socket(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Neither one frame nor many fragments may bring more than the limit: nothing of it is handed on."""
    monkeypatch.setattr(venue_socket, "MAX_FRAME", 100_000)

    async def handle(ws: ServerConnection) -> None:
        await ws.send("small")
        size = 200_000 // parts
        await ws.send(["x" * size] * parts if parts > 1 else "x" * size)
        await ws.wait_closed()

    async with talking(handle) as (heard, venue):
        async with asyncio.timeout(10):
            await venue.wait_closed()
        assert {raw for raw, _ in heard.frames} <= {b"small"}


async def test_what_is_no_websocket_is_told_apart() -> None:
    """A refusal carries its status and `Retry-After`; a closed port, a server that hangs up and one that
    talks something else are unreachable."""

    async def refusing(ws: ServerConnection, request: object) -> object:
        response = ws.respond(429, "slow down\n")
        response.headers["Retry-After"] = "7"
        return response

    async def never(ws: ServerConnection) -> None:
        raise AssertionError

    with pytest.raises(Refused) as refused:
        async with talking(never, process_request=refusing):
            pass
    assert (refused.value.status, refused.value.retry_after_s) == (429, 7.0)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await reader.read()
        writer.close()

    for handler in (hang_up, other):
        async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Unreachable):
                await open_socket(f"ws://127.0.0.1:{port}/", {}, Heard(), SYSTEM_CLOCK)
    with pytest.raises(Unreachable):
        await open_socket(f"ws://127.0.0.1:{port}/", {}, Heard(), SYSTEM_CLOCK)


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade has a deadline, and a cancelled attempt tells nobody of a socket that comes about later."""
    monkeypatch.setattr(venue_socket, "OPEN_S", 0.3)
    late = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        late.set()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        heard = Heard()
        with pytest.raises(Unreachable):
            await open_socket(f"ws://127.0.0.1:{port}/", {}, heard, SYSTEM_CLOCK)
        async with asyncio.timeout(5):
            await late.wait()
        assert heard.sockets == []


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody trusts yet, and the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "venue.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)
    return cert, context


async def test_tls_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `wss` venue is spoken to when its certificate is trusted, and not otherwise."""

    async def handle(ws: ServerConnection) -> None:
        await ws.send("x" * 100_000)
        await ws.wait_closed()

    cert, context = certificate(tmp_path)
    with pytest.raises(Unreachable):
        async with talking(handle, ssl=context):
            pass
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with talking(handle, ssl=context) as (heard, _):
        assert await heard.until(1) == [b"x" * 100_000]


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http_proxy` is asked to connect, `no_proxy` leaves it out."""
    asked: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0]
        asked.append(line)
        host, _, port = line.split(" ")[1].rpartition(":")
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, to_writer), pipe(to_reader, writer))

    async def handle(ws: ServerConnection) -> None:
        await ws.send("through")
        await ws.wait_closed()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for name in (
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
            "ws_proxy",
            "wss_proxy",
            "socks_proxy",
        ):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        async with talking(handle) as (heard, _):
            assert await heard.until(1) == [b"through"]
        assert len(asked) == 1
        assert asked[0].startswith("CONNECT 127.0.0.1:")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with talking(handle) as (heard, _):
            await heard.until(1)
        assert len(asked) == 1
        assert proxy_for("wss://venue.test/ws") is None
        monkeypatch.setenv("https_proxy", "http://proxy.test:1")
        assert proxy_for("wss://venue.test/ws") == "http://proxy.test:1"
