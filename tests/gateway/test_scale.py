"""Five thousand books: fetched in one stream, given exactly and whole to one subscriber.

How long that takes is not judged here, where the reader shares a process and a busy machine with the gateway:
benches/gateway judges time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse

from gateway.conftest import Starter, ready
from gateway.engine import Engine
from gateway.raw import RawClient, frame
from wup._core import MirrorBook
from wup.bus import LocalBus
from wup.gateway import HttpSource, Limits
from wup.http_server import HttpServer

BOOKS = 5_000
TABLE = [("kalshi", f"KXB-{n}", f"big-{n % 50}.{n:016x}.yes", False) for n in range(BOOKS)]


class Orderbook:
    """`/v1/snapshots` of an engine's store, as the service streams it; counts who asks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[str] = []
        app = FastAPI()

        @app.get("/v1/snapshots")
        async def snapshots(match: str) -> Response:
            """One line per book, many lines per chunk."""
            self.asked.append(match)
            store = engine.store

            async def pieces() -> AsyncIterator[bytes]:
                books = store.books(match)
                for first in range(0, len(books), 64):
                    yield b"".join(store.snapshot(book) + b"\n" for book in books[first : first + 64])
                    await asyncio.sleep(0)

            return StreamingResponse(pieces(), media_type="application/x-ndjson")

        self.server = HttpServer(app, "127.0.0.1", 0, "HTTP_PORT")


@pytest.fixture
async def big(bus: LocalBus) -> AsyncIterator[Orderbook]:
    """5,000 books of 78 levels, marks every 200 ms, the service in front of them."""
    engine = Engine(bus)
    await engine.start(TABLE)
    bids = [[f"0.{n:02}", f"{1000 + n}.25"] for n in range(1, 40)]
    asks = [[f"0.{n:02}", f"{2000 + n}.75"] for n in range(60, 99)]
    for _, asset, _, _ in TABLE:
        engine.snapshot("kalshi", asset, bids, asks)
    orderbook = Orderbook(engine)
    await orderbook.server.start()

    async def tick() -> None:
        while True:
            engine.marks(full=False)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(tick())
    yield orderbook
    task.cancel()
    await orderbook.server.stop()


async def test_five_thousand_books_to_one_subscriber(big: Orderbook, start: Starter) -> None:
    """One request fills the mirror; one subscriber gets every book exact under a steady flow of changes,
    without a notice, a gap or a close."""
    engine = big.engine
    # Its bytes are judged as always; not how long this process, which is also the reader, was kept waiting.
    limits = Limits(ws_slow_ms=30_000)
    gateway = await start(limits, source=HttpSource([f"http://127.0.0.1:{big.server.port}"]))
    await ready(gateway)
    assert big.asked == [">"]
    assert len(gateway._mirrors.books) == BOOKS
    assert all(book.serving for book in gateway._mirrors.books.values())
    client = await RawClient.open(gateway.port, limit=1 << 20)
    client.op("subscribe", "1", books=[">"])
    mirrors: dict[str, MirrorBook] = {}
    changes = 0
    finished = False

    async def flow() -> None:
        nonlocal changes
        while not finished:
            _, asset, _, _ = TABLE[changes % BOOKS]
            engine.update("kalshi", asset, [["0.41", str(1 + changes % 9)]], [])
            changes += 1
            if changes % 4 == 0:
                await asyncio.sleep(0)

    flowing = asyncio.create_task(flow())
    matched = 0
    snapshots = deltas = 0
    async with asyncio.timeout(50):
        while snapshots < BOOKS or deltas < 2_000:
            opcode, payload = await client.frame()
            if opcode == 9:
                client.send(frame(10, payload))
                continue
            assert opcode == 1
            kind = payload[9:13]
            if kind in (b"snap", b"delt"):
                at = payload.index(b'"book":"') + 8
                name = payload[at : payload.index(b'"', at)].decode()
                mirror = mirrors.setdefault(name, MirrorBook())
                assert mirror.apply(payload) == "exact", payload[:200]
                snapshots += kind == b"snap"
                deltas += kind == b"delt"
            else:
                message = json.loads(payload)
                assert message["type"] in ("welcome", "subscribed", "heartbeat"), message
                matched = message.get("matched", matched)
    finished = True
    await flowing
    assert (matched, snapshots, len(mirrors)) == (BOOKS, BOOKS, BOOKS)
    assert big.asked == [">"]
    await client.close()


async def test_the_mirror_is_filled_from_the_real_service(bus: LocalBus, start: Starter) -> None:
    """The orderbook service's own `/v1/snapshots` is what fills it, again in one request."""
    from orderbook.feeding import Feed, leg, table
    from wup.orderbook import OrderbookHttp

    legs = [leg("kalshi", f"K{n}", book=f"fed-2026-12.{n:016x}.yes") for n in range(200)]
    async with Feed() as feed:
        await feed.start(table(*legs))
        for one in legs:
            feed.book(one, [["0.52", "500"]], [["0.54", "250"]])
        http = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await http.start()
        source = HttpSource([f"http://127.0.0.1:{http.port}"])
        lines = [json.loads(line) async for line in source.stream(">")]
        assert {line["book"] for line in lines} == {one.book for one in legs}
        async with httpx2.AsyncClient(trust_env=False) as client:
            one = await client.get(f"http://127.0.0.1:{http.port}/v1/books/{legs[7].book}")
        assert {**one.json(), "why": ""} == {
            **next(line for line in lines if line["book"] == legs[7].book),
            "why": "",
        }
        await http.stop()
