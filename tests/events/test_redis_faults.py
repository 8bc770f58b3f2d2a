"""Redis killed, frozen, and restarted empty: known mappings keep working, and what waits is written later."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from events.venue_rest import VenueRest, gamma_event, gamma_market, token
from wup import servers
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.service import EventService
from wup.mapping.redis import connect
from wup.mapping.source import MappingSource
from wup.venues.polymarket.catalog import PolymarketCatalogue


class Stack:
    """A service and a stage's source over one Valkey address."""

    def __init__(self, service: EventService, source: MappingSource, port: int) -> None:
        self.service = service
        self.source = source
        self.port = port


async def eventually(right: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something without an event of its own is so."""
    async with asyncio.timeout(seconds):
        while not right():
            await asyncio.sleep(0.02)


@pytest.fixture
def rest(rest: VenueRest) -> VenueRest:
    """Three events."""
    for number in range(3):
        rest.gamma[f"e{number}"] = gamma_event(f"e{number}", [gamma_market(number)])
    return rest


@pytest.fixture
async def stack(rest: VenueRest, tmp_path: Path) -> AsyncIterator[Stack]:
    port = servers.free_port()
    bus = LocalBus()
    settings = Settings(
        mappings=str(tmp_path), events_http_port=0, event_slug=("e0",), refresh_interval_secs=0.2
    )
    url = f"redis://127.0.0.1:{port}"
    service = EventService(settings, bus, url, {"polymarket": PolymarketCatalogue(rest.urls)})
    source = MappingSource(url, bus, poll_s=0.2)
    stack = Stack(service, source, port)
    await service.start()
    yield stack
    await source.stop()
    await service.stop()


def legs(stack: Stack) -> set[str]:
    """Assets in the stage's table."""
    return {leg.asset_id for leg in stack.source.table.legs}


async def test_redis_comes_late(stack: Stack) -> None:
    """Service and stage start without Redis, say so, and are complete when it comes."""
    await stack.source.start(wait_s=0.1)
    assert stack.source.problem == "redis_unreachable"
    assert not stack.service.redis_reachable
    async with servers.embedded_valkey(port=stack.port):
        await eventually(lambda: legs(stack) == {token(0)})
        assert stack.source.healthy
        assert stack.service.redis_reachable


async def test_redis_killed_and_restarted_empty(stack: Stack) -> None:
    """The table stays while Redis is gone; what was tracked meanwhile joins when an empty one comes back."""
    async with servers.embedded_valkey(port=stack.port):
        await stack.source.start()
        await eventually(lambda: legs(stack) == {token(0)})
        version = stack.source.table.version
    await eventually(lambda: not stack.source.healthy and not stack.service.redis_reachable, 5)
    assert legs(stack) == {token(0)}
    await stack.service.track(("polymarket", "e1"))
    assert ("polymarket", "e1") in stack.service.events
    assert stack.service.waiting > 0
    assert legs(stack) == {token(0)}
    url = f"http://127.0.0.1:{stack.service.port}"
    async with httpx2.AsyncClient(base_url=url) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["redis_unreachable"])
        assert answer.json()["waiting"] > 0
        assert (await client.get("/v1/events/polymarket/e1")).status_code == 200
    async with servers.embedded_valkey(port=stack.port) as url:
        await eventually(lambda: legs(stack) == {token(0), token(2)})
        assert stack.source.table.version > version
        await eventually(lambda: stack.source.healthy)
        await stack.service.settled()
        async with httpx2.AsyncClient() as client:
            ready = await client.get(f"http://127.0.0.1:{stack.service.port}/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (200, [])
        redis = connect(url)
        assert await redis.smembers("mapping:tracked") == {b"polymarket:e1"}
        assert await redis.exists("event:polymarket:e0", "event:polymarket:e1") == 2
        await redis.aclose()


async def test_service_and_redis_lost_together(stack: Stack, rest: VenueRest, tmp_path: Path) -> None:
    """Service and Redis both start again, over an emptied memory, and the number of the version is the one
    that a stage of before has: a leg that was suspended between is suspended in that stage too."""
    fed = gamma_market(0, acceptingOrders=False)
    async with servers.embedded_valkey(port=stack.port):
        await stack.source.start()
        await eventually(lambda: legs(stack) == {token(0)})
        await stack.service.settled()
        before = stack.source.table
        assert [leg.suspended for leg in before.legs] == [None]
        await stack.service.stop()
    rest.gamma["e0"] = gamma_event("e0", [fed])
    await eventually(lambda: not stack.source.healthy)
    bus = LocalBus()
    settings = Settings(mappings=str(tmp_path), events_http_port=0, event_slug=("e0",))
    url = f"redis://127.0.0.1:{stack.port}"
    second = EventService(settings, bus, url, {"polymarket": PolymarketCatalogue(rest.urls)})
    async with servers.embedded_valkey(port=stack.port):
        await second.start()
        await second.settled()
        assert second.version == before.version
        await eventually(lambda: [leg.suspended for leg in stack.source.table.legs] == ["halted"])
        assert stack.source.healthy
        await second.stop()


async def test_redis_emptied_while_running(stack: Stack) -> None:
    """A FLUSHALL is noticed; the stage keeps its table, and everything is written again."""
    async with servers.embedded_valkey(port=stack.port) as url:
        await stack.source.start()
        await eventually(lambda: legs(stack) == {token(0)})
        version = stack.source.table.version
        redis = connect(url)
        await redis.flushall()
        await redis.set("market:0123456789abcdef", "garbage of a stranger")
        await eventually(lambda: stack.source.table.version > version)
        assert legs(stack) == {token(0)}
        assert await redis.exists("market:0123456789abcdef") == 1
        await redis.aclose()


async def test_redis_frozen(stack: Stack, rest: VenueRest) -> None:
    """A stopped Redis counts as away within 5 s, and nothing waits for it; it thaws and all is written."""
    async with servers.embedded_valkey(port=stack.port) as url:
        await stack.source.start()
        await eventually(lambda: legs(stack) == {token(0)})
        redis = connect(url)
        pid = int((await redis.info("server"))["process_id"])
        await redis.aclose()
        os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not stack.source.healthy and not stack.service.redis_reachable, 5)
            async with asyncio.timeout(1):
                await stack.service.track(("polymarket", "e2"))
            assert legs(stack) == {token(0)}
        finally:
            os.kill(pid, signal.SIGCONT)
        await eventually(lambda: legs(stack) == {token(0), token(4)})
        await eventually(lambda: stack.source.healthy and stack.service.redis_reachable)
