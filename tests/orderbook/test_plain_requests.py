"""The short way of plain requests, byte for byte on real sockets."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from orderbook.feeding import BOOK, Feed, leg, table
from wup import http_plain
from wup.clock import ManualClock
from wup.http_guard import HttpGuard
from wup.orderbook import OrderbookHttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

K = leg("kalshi", "KXFED-26DEC-C25")
PATH = f"/v1/books/{BOOK}".encode()
PLAIN = b"GET " + PATH + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, list[bool]]]:
    """A port, and for each request that the short way was offered whether it took it."""
    taken: list[bool] = []
    original = http_plain.PlainRequests.answer

    def noted(self: http_plain.PlainRequests, *arguments: object) -> bytes | None:
        found = original(self, *arguments)  # type: ignore[arg-type]
        taken.append(found is not None)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_plain.PlainRequests, "answer", noted)
        async with Feed() as feed:
            await feed.start(table(K))
            feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
            http = OrderbookHttp(feed.service, "127.0.0.1", 0)
            await http.start()
            try:
                yield http.port, taken
            finally:
                await http.stop()


async def ask(port: int, *pieces: bytes, answers: int = 1) -> list[tuple[int, bytes]]:
    """Send pieces, each a packet of its own; (status, body) of the answers until so many came or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for index, piece in enumerate(pieces):
        if index:
            await asyncio.sleep(0.05)
        writer.write(piece)
        await writer.drain()
    found: list[tuple[int, bytes]] = []
    async with asyncio.timeout(10):
        while len(found) < answers:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = re.search(rb"content-length: (\d+)", head.lower())
            body = await reader.readexactly(int(length[1])) if length is not None else b""
            found.append((int(head[9:12]), body))
    writer.close()
    return found


async def test_requests_one_after_the_other_stay_on_the_short_way() -> None:
    """A kept-alive connection: each plain request is answered at once, and one that is not plain in between
    disturbs neither itself nor the others."""
    async with serving() as (port, taken):
        odd = PLAIN.replace(b"Host:", b"X-Odd: 1\r\nHost:")
        found = await ask(port, PLAIN, PLAIN, odd, PLAIN, answers=4)
        assert [status for status, _ in found] == [200] * 4
        assert len({body for _, body in found}) == 1
        assert taken == [True, True, False, True]


@pytest.mark.parametrize(
    ("pieces", "statuses"),
    [
        ((PLAIN[:30], PLAIN[30:]), [200]),
        ((PLAIN[:-2], PLAIN[-2:]), [200]),
        ((PLAIN + PLAIN,), [200, 200]),
        ((PLAIN + PLAIN[:20], PLAIN[20:]), [200, 200]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),), [200]),
        ((PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),), [200]),
        ((PLAIN.replace(b"Host: localhost\r\n", b""),), [400]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nHost: localhost\r\n\r\n"),), [400]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nOrigin: http://evil.example\r\n\r\n"),), [403]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n") + b"body",), [400]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nAccept : x\r\n\r\n"),), [400]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nAccept: a\r\n folded\r\n\r\n"),), [200]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nAccept: a\x01\r\n\r\n"),), [200]),
        ((PLAIN.replace(b"GET ", b"GET  "),), [400]),
        ((PLAIN.replace(b"\r\n", b"\n"),), [200]),
        ((PLAIN.replace(b".yes", b".%79es"),), [200]),
        ((PLAIN.replace(BOOK.encode(), b"a" * 201),), [400]),
        ((PLAIN.replace(BOOK.encode(), b""),), [307]),
        ((PLAIN.replace(b".yes ", b".yes?depth=x "),), [400]),
        ((PLAIN.replace(b"\r\n\r\n", b"\r\nAccept: " + b"a" * 5_000 + b"\r\n\r\n"),), [200]),
    ],
)
async def test_unusual_requests_get_what_they_always_got(
    pieces: tuple[bytes, ...], statuses: list[int]
) -> None:
    """Requests in pieces, two in one packet, other versions, wrong hosts, bodies, broken headers: the short
    way leaves them alone, and each gets the status of the long way."""
    async with serving() as (port, taken):
        found = await ask(port, *pieces, answers=len(statuses))
        assert [status for status, _ in found] == statuses
        assert True not in taken


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (PLAIN, 200),
        (PLAIN.replace(b".yes ", b".no?depth=5 "), 200),
        (PLAIN.replace(b".yes", b".maybe"), 404),
        (PLAIN.replace(b"books", b"bbo"), 200),
        (PLAIN.replace(b"books", b"bbo").replace(b".yes", b".maybe"), 404),
        (PLAIN.replace(b"localhost", b"evil.example"), 421),
    ],
)
async def test_the_short_way_writes_what_the_long_way_would(request_: bytes, status: int) -> None:
    """Answers, refusals and unknown books are byte for byte those of the long way, the date aside."""
    async with serving() as (port, taken):
        found = []
        for one in (request_, request_.replace(b"Host:", b"X-Odd: 1\r\nHost:")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(one)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            body = await reader.readexactly(int(length[1]))
            writer.close()
            found.append((sorted(re.sub(rb"date: [^\r]*", b"", head).split(b"\r\n")), body))
        assert taken == [True, False]
        assert found[0] == found[1]
        assert any(line.startswith(b"HTTP/1.1 %d " % status) for line in found[0][0])


async def test_a_fault_on_the_short_way_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails there is a 500 as on the long way, and the connection goes on."""

    def fail(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(OrderbookHttp, "_snapshot", fail)
    async with serving() as (port, taken):
        found = await ask(port, PLAIN, PLAIN.replace(b"books", b"bbo"), answers=2)
        assert [status for status, _ in found] == [500, 200]
        assert taken == [True, True]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /v1/books HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (PLAIN, 200),
        (PLAIN.replace(b"Host:", b"X-Odd: 1\r\nHost:"), 200),
        (PLAIN.replace(b".yes", b".maybe"), 404),
        (PLAIN.replace(b".yes ", b".yes?depth=x "), 400),
        (PLAIN.replace(b"localhost", b"evil.example"), 421),
        (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    ],
)
async def test_each_request_counts_once(
    request_: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a burst of eight, exactly eight requests of one address are answered, whichever way they go and
    whatever the answer is."""
    monkeypatch.setenv("HTTP_RATE", "1")
    monkeypatch.setenv("HTTP_BURST", "8")
    # Time stands still: nothing comes back.
    monkeypatch.setitem(HttpGuard.__init__.__kwdefaults__, "clock", ManualClock())
    async with serving() as (port, _):
        found = [await ask(port, request_) for _ in range(12)]
        assert [each[0][0] for each in found] == [status] * 8 + [429] * 4
