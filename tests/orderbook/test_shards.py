"""Three shards and two gateways on one NATS."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx2
import orjson
import pytest
from websockets.asyncio.client import connect

from end_to_end.plain import PlainClient
from orderbook.feeding import PatientClock, leg, table
from wup import config, subjects
from wup.bus import NatsBus
from wup.clock import SYSTEM_CLOCK
from wup.gateway.service import Gateway
from wup.gateway.source import HttpSource
from wup.orderbook import OrderbookHttp, OrderbookService
from wup.orderbook.shard import shard_of

SHARDS = 3
BOOKS = [f"agg-{i}.{i:016x}.yes" for i in range(24)]
LEGS = [leg("kalshi", f"KX-{i}", book=book) for i, book in enumerate(BOOKS)]


async def test_shards_and_gateways_share_one_stream(nats_url: str) -> None:
    """Each book is served by exactly one shard, each gateway shows all of them exactly, and the wrong shard's
    answer names the right one."""
    async with AsyncExitStack() as stack:

        async def bus() -> NatsBus:
            made = await NatsBus.connect(nats_url)
            stack.push_async_callback(made.close)
            return made

        urls: list[str] = []
        for index in range(SHARDS):
            service = OrderbookService(
                await bus(),
                clock=PatientClock(),
                shard=(index, SHARDS),
                epoch_ms=SYSTEM_CLOCK.now_us() // 1000,
            )
            stack.push_async_callback(service.stop)
            await service.start()
            await service.set_table(table(*LEGS))
            http = OrderbookHttp(service, "127.0.0.1", 0)
            stack.push_async_callback(http.stop)
            await http.start()
            urls.append(f"http://127.0.0.1:{http.port}")

        settings = config.load(config.Settings, ws_port=0, orderbook_service_url=tuple(urls))
        plains = [PlainClient(), PlainClient()]
        sockets = []
        for _ in plains:
            gateway = Gateway(settings, await bus(), HttpSource(urls), SYSTEM_CLOCK)
            stack.push_async_callback(gateway.stop)
            await gateway.start()
            socket = await stack.enter_async_context(
                connect(f"ws://127.0.0.1:{gateway.port}/ws", max_size=None)
            )
            await socket.send('{"op":"subscribe","id":"1","books":[">"]}')
            sockets.append(socket)

        feed = await bus()
        for round_ in range(1, 6):
            for one in LEGS:
                body = {
                    "type": "snapshot" if round_ == 1 else "update",
                    "platform": one.platform,
                    "market_id": one.market_id,
                    "asset_id": one.asset_id,
                    "epoch": 1,
                    "n": round_,
                    "bids": [["0.4", str(round_)]],
                    "asks": [["0.6", str(round_ + 1)]],
                }
                subject = subjects.normalized(one.platform, one.market_id, one.asset_id)
                feed.publish(subject, orjson.dumps(body))

        last = {(0, 400_000): {"kalshi": 5_000_000}, (1, 600_000): {"kalshi": 6_000_000}}
        for plain, socket in zip(plains, sockets, strict=True):
            async with asyncio.timeout(20):
                while not (
                    len(plain.books) == len(BOOKS)
                    and all(b.exact and b.levels == last for b in plain.books.values())
                ):
                    plain.receive(await socket.recv())
            assert plain.wrong == []

        async with httpx2.AsyncClient() as client:
            for book in BOOKS:
                right = shard_of(book.split(".")[0], SHARDS)
                for index, url in enumerate(urls):
                    answer = await client.get(f"{url}/v1/books/{book}")
                    if index == right:
                        assert answer.status_code == 200
                    else:
                        assert answer.status_code == 421
                        assert f"shard {right}/{SHARDS}" in answer.json()["detail"]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_every_aggregate_has_one_shard(shards: int) -> None:
    """The shard of an aggregate is one of them, and always the same."""
    found = {shard_of(f"agg-{i}", shards) for i in range(500)}
    assert found == set(range(shards))
