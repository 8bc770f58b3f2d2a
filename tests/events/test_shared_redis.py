"""A Redis with somebody else in it: nothing of theirs is deleted or trips us, whatever its name and type."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market, token
from wup import _core
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.service import EventService
from wup.mapping.redis import connect, load_epoch, save_epoch
from wup.mapping.source import MappingSource
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.polymarket.catalog import PolymarketCatalogue

HID = "0123456789abcdef"
STRANGERS: dict[str, str | bytes | dict[str, str] | set[str] | list[str]] = {
    # Names of ours, other values.
    "aggregate:42": {"total": "9.90", "title": "Order 42"},
    "aggregate:basket": "a string",
    "aggregate:basket:events": ["added", "paid"],
    "aggregate:shop:events": {"kalshi:opened", "polymarket:closed"},
    "aggregate:shop:markets": {HID, "fedcba9876543210"},
    "aggregate:monthly": {"title": "t", "status": "open", "exclusive": "true", "created_by": "erp"},
    f"market:{HID}": json.dumps({"key": "wup1|a|b|c|-|d", "title": "not what it hashes to"}),
    f"market:{HID}:members": {"anna": '{"role":"owner"}'},
    "market:00f067aa0ba902b7": b"\xff\xfe\x00",
    "market:00f067aa0ba902b8": ["a", "list"],
    "polymarket:market:BTC-USD": "42",
    "polymarket:market:0xabc": HID,
    "polymarket:token:session": "eyJhbGciOiJIUzI1NiJ9",
    "polymarket:token:x": f"{HID}:yes|2",
    "polymarket:event:login": {"user": "7"},
    "polymarket:event:cache": "a-pointer-like-ours",
    "kalshi:outcome:A:yes": "won",
    "kalshi:outcome:A:no": {"set", "of", "words"},
    "event:polymarket:page": '{"platform":"polymarket","slug":"other","markets":[],"raw":{},"fetched_us":1}',
    "event:polymarket:hash": {"a": "b"},
    "event:kalshi:text": "plain",
    f"suggest:{HID}": "you may also like",
    f"reject:{HID}": "no stock",
    # Names that only look alike.
    "aggregate:42:totals": {"x"},
    "aggregate:": "nothing",
    "market:7": "7",
    f"market:{HID}:prices": {"a": "1"},
    "user:event:1": "clicked",
    "limitless:market:0x1": f"{HID}|same|confirmed",
    "event:orders:1": '{"platform":"orders","slug":"1","markets":[],"raw":{},"fetched_us":1}',
    "event:1": "one",
    "suggest:anna": "bob",
    "mapping:notes": "mine",
    "orderbook:notes": ["mine"],
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


def service(rest: VenueRest, url: str, bus: LocalBus, folder: Path, *slugs: str) -> EventService:
    """A service that follows these."""
    settings = Settings(mappings=str(folder), events_http_port=0, event_slug=slugs, refresh_interval_secs=60)
    catalogues = {"kalshi": KalshiCatalogue(rest.urls), "polymarket": PolymarketCatalogue(rest.urls)}
    return EventService(settings, bus, url, catalogues)


async def move_in(redis: Redis) -> dict[bytes, bytes]:
    """Every stranger, and types that we have none of; each as `DUMP` tells it."""
    for key, value in STRANGERS.items():
        if isinstance(value, dict):
            await redis.hset(key, mapping=value)
        elif isinstance(value, set):
            await redis.sadd(key, *value)
        elif isinstance(value, list):
            await redis.rpush(key, *value)
        else:
            await redis.set(key, value)
    await redis.xadd("kalshi:event:STREAM", {"a": "1"})
    await redis.zadd("aggregate:scores:markets", {HID: 1})
    await redis.pfadd("polymarket:token:visitors", "anna", "bob")
    await redis.setbit("kalshi:market:BITS", 70, 1)
    await redis.hset("market:1111111111111111:members", mapping={str(n): "x" for n in range(3000)})
    await redis.set("event:polymarket:big", b"x" * 9_000_000)
    await redis.set(b"polymarket:market:\xff\xfe", "not text")
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def test_strangers_stay(redis: Redis, redis_url: str, rest: VenueRest, tmp_path: Path) -> None:
    """First publish, a publish after an error, an event that leaves and a restart delete what is ours and not
    wanted, and nothing else: every other key has its value of before, byte by byte."""
    theirs = await move_in(redis)
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1), gamma_market(2)])
    rest.gamma["cup"] = gamma_event("cup", [gamma_market(3)])
    rest.kalshi["KXFED"] = kalshi_event("KXFED", [kalshi_market("KXFED-A")])
    rest.series["KXFED"] = {}
    first = service(rest, redis_url, LocalBus(), tmp_path, "fed", "kalshi:KXFED")
    await first.start()
    await first.track(("polymarket", "cup"))
    await first.settled()
    version = first.version
    await redis.set("mapping:version", "a word")
    async with asyncio.timeout(20):
        while first.version == version:
            await asyncio.sleep(0.02)
    first.untrack(("polymarket", "cup"))
    await first.settled()
    ours = {key.decode() for key in set(await redis.keys("*")) - set(theirs)}
    assert not [key for key in ours if "cup" in key or token(6) in key]
    assert {"polymarket:event:fed", "event:kalshi:KXFED", f"polymarket:token:{token(2)}"} <= ours
    await first.stop()
    second = service(rest, redis_url, LocalBus(), tmp_path, "fed")
    await second.start()
    await second.settled()
    ours = {key.decode() for key in set(await redis.keys("*")) - set(theirs)}
    assert not [key for key in ours if "KXFED" in key]
    assert "polymarket:event:fed" in ours
    await second.stop()
    for key, dump in theirs.items():
        assert await redis.dump(key) == dump, key


async def test_our_names_with_other_types(
    redis: Redis, redis_url: str, rest: VenueRest, tmp_path: Path
) -> None:
    """Lists, streams and words where our own records belong are written over, and the service is complete."""
    hid = _core.market_hash(f"wup1|polymarket|0x{1:064x}")
    await redis.rpush("mapping:version", "1")
    await redis.hset("mapping:markets", "a", "b")
    await redis.set("mapping:rejected", "word")
    await redis.xadd("mapping:tracked", {"a": "b"})
    await redis.set("mapping:history", "word")
    await redis.sadd("polymarket:event:fed", "a")
    await redis.xadd(f"market:{hid}:members", {"a": "b"})
    await redis.zadd(f"market:{hid}", {"a": 1})
    await redis.rpush("aggregate:polymarket-fed", "a")
    await redis.rpush("event:polymarket:fed", "a")
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    rest.gamma["cup"] = gamma_event("cup", [gamma_market(3)])
    bus = LocalBus()
    running = service(rest, redis_url, bus, tmp_path, "fed")
    await running.start()
    await running.track(("polymarket", "cup"))
    source = MappingSource(redis_url, bus, poll_s=0.1)
    table = await source.start()
    await running.settled()
    assert running.redis_reachable
    assert await redis.smembers("mapping:tracked") == {b"polymarket:cup"}
    assert await redis.get("polymarket:event:fed") == b"polymarket-fed"
    async with asyncio.timeout(10):
        while {leg.asset_id for leg in table.legs} != {token(2), token(6)}:
            await asyncio.sleep(0.02)
            table = source.table
    await source.stop()
    await running.stop()


async def test_a_spoilt_index_ends_no_book(
    redis: Redis, redis_url: str, rest: VenueRest, tmp_path: Path
) -> None:
    """A stage that finds no list of markets keeps its table and says so; the service writes the list anew."""
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1), gamma_market(2)])
    bus = LocalBus()
    running = service(rest, redis_url, bus, tmp_path, "fed")
    await running.start()
    await running.settled()
    index = await redis.smembers("mapping:markets")
    source = MappingSource(redis_url, bus, poll_s=0.05)
    tables = [await source.start()]
    source.on_change(tables.append)
    for spoil in ("hash", "other members", "gone"):
        await redis.delete("mapping:markets")
        if spoil == "hash":
            await redis.hset("mapping:markets", "a", "b")
        elif spoil == "other members":
            await redis.sadd("mapping:markets", "x", "y")
        async with asyncio.timeout(20):
            while await redis.type("mapping:markets") != b"set" or index != await redis.smembers(
                "mapping:markets"
            ):
                await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        while source.table.version != running.version or not source.healthy:
            await asyncio.sleep(0.02)
    assert {frozenset(leg.asset_id for leg in table.legs) for table in tables} == {
        frozenset({token(2), token(4)})
    }
    await source.stop()
    await redis.delete("mapping:markets")
    await redis.hset("mapping:markets", "a", "b")
    await running.stop()
    alone = MappingSource(redis_url, bus, poll_s=0.05)
    assert (await alone.start(wait_s=0.3)).legs == ()
    assert not alone.healthy
    await alone.stop()


async def test_an_epoch_over_another_type(redis: Redis) -> None:
    """Another type under an epoch's name is no epoch, and is written over."""
    await redis.rpush("orderbook:epoch:0", "1")
    assert await load_epoch(redis, "0") == 0
    await save_epoch(redis, "0", 7)
    assert await load_epoch(redis, "0") == 7
