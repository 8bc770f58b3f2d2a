"""Two writers over one Redis: a transaction that somebody else's came before is refused and made anew."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from mapping.files import venue_event, venue_market
from wup import _core
from wup.bus import LocalBus
from wup.events import publisher as module
from wup.events.publisher import Publisher
from wup.mapping import records
from wup.mapping import redis as store_module
from wup.mapping.compile import Compiler
from wup.mapping.redis import MappingStore, connect
from wup.mapping.source import MappingSource
from wup.mapping.state import State, watch_state

PLATFORMS = ("kalshi", "polymarket")


async def restore(store: MappingStore) -> None:
    """Nothing of an earlier run."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


def made(*markets: str) -> tuple[Compiler, set[str]]:
    """(a compiler of these markets, the units that changed)."""
    compiler = Compiler()
    return compiler, compiler.set_event(venue_event("polymarket", "e", *map(venue_market, markets)))


async def other_writes(url: str, version: int) -> None:
    """What another service publishes: a market of its own and another form of ours."""
    compiler, _ = made("0xA", f"0xT{version}")
    write: dict[str, records.Record] = {}
    for unit in compiler.units.values():
        write.update(records.unit_records(unit))
    redis = connect(url)
    count = records.markets_sum(*records.sum_of(m.hid for u in compiler.units.values() for m in u.markets))
    await MappingStore(redis).publish(State("other", version), write, [], markets_sum=count)
    await redis.aclose()


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 1), ("after", 5)])
async def test_another_writer_between(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, when: str, times: int, bulk: bool
) -> None:
    """Another service publishes after we compared with Redis, before or after we began to write: nothing of
    ours is written over it unseen. What stands there in the end is ours alone, whole, without any repair."""
    monkeypatch.setattr(module, "_GUARD_S", 3600)
    if bulk:
        monkeypatch.setattr(module, "_BULK_KEYS", 0)
    left, numbers = [0], iter(range(1000, 1100))

    async def watched(pipe: Pipeline) -> State | None:
        found = await watch_state(pipe) if when == "after" else None
        if left[0]:
            left[0] -= 1
            await other_writes(redis_url, next(numbers))
        return found if when == "after" else await watch_state(pipe)

    monkeypatch.setattr(store_module, "watch_state", watched)
    compiler, changed = made("0xA", "0xB")
    publisher = Publisher(redis_url, LocalBus(), compiler, PLATFORMS, restore)
    publisher.units_changed(changed)
    task = asyncio.create_task(publisher.run())
    await publisher.settled()
    left[0] = times
    publisher.units_changed(
        compiler.set_event(venue_event("polymarket", "e", venue_market("0xA", tick="0.1")))
    )
    await publisher.settled()
    assert left == [0]
    assert publisher.reachable
    state = await MappingStore(redis).state()
    assert state is not None
    assert state.version == publisher.version > 1000
    assert state.run != "other"
    source = MappingSource(redis_url, LocalBus())
    assert await source.start() == compiler.table(publisher.version)
    assert source.healthy
    assert await redis.smembers("mapping:markets") == {_core.market_hash("wup1|polymarket|0xA").encode()}
    await source.stop()
    await end(publisher, task)


async def end(publisher: Publisher, task: asyncio.Task[None]) -> None:
    publisher.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await publisher.close()


async def test_the_same_by_another_is_taken_over_only_while_it_stands(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another run left is compared whole: when it changes meanwhile it is not taken for ours."""
    first, changed = made("0xA")
    one = Publisher(redis_url, LocalBus(), first, PLATFORMS, restore)
    one.units_changed(changed)
    task = asyncio.create_task(one.run())
    await one.settled()
    await end(one, task)
    second, changed = made("0xA")
    two = Publisher(redis_url, LocalBus(), second, PLATFORMS, restore)
    monkeypatch.setattr(module, "_GUARD_S", 3600)
    held = MappingStore.index_holds

    async def holds(self: MappingStore, *args: Any) -> bool:
        found = await held(self, *args)
        monkeypatch.setattr(MappingStore, "index_holds", held)
        await other_writes(redis_url, 7)
        return found

    monkeypatch.setattr(MappingStore, "index_holds", holds)
    two.units_changed(changed)
    task = asyncio.create_task(two.run())
    await two.settled()
    assert two.version > 7
    loaded = await MappingStore(redis).load()
    assert loaded is not None
    assert [market.key for market in loaded.markets.values()] == ["wup1|polymarket|0xA"]
    await end(two, task)


async def test_a_large_transaction_ends_before_close_does(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops in the middle of a large transaction waits for it: nothing is written after the end."""
    monkeypatch.setattr(module, "_BULK_KEYS", 0)
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def watched(pipe: Pipeline) -> State | None:
        loop.call_soon_threadsafe(begun.set)
        await asyncio.to_thread(go_on.wait, 20)
        return await watch_state(pipe)

    monkeypatch.setattr(store_module, "watch_state", watched)
    compiler, changed = made("0xA")
    publisher = Publisher(redis_url, LocalBus(), compiler, PLATFORMS, restore)
    publisher.units_changed(changed)
    task = asyncio.create_task(publisher.run())
    await begun.wait()
    ending = asyncio.create_task(end(publisher, task))
    # Time enough to end without it, if it could.
    early, _ = await asyncio.wait({ending}, timeout=0.2)
    go_on.set()
    await ending
    assert not early
    state = await MappingStore(redis).state()
    assert state is not None
    assert state.version == 1


async def test_what_is_followed_by_request_outlives_the_loss_of_redis(redis: Redis, redis_url: str) -> None:
    """Redis is emptied while the service runs: what was tracked before is written again."""
    await redis.sadd("mapping:tracked", "kalshi:OLD", "kalshi:OUT")
    compiler, changed = made("0xA")
    publisher: Publisher

    async def taking_over(store: MappingStore) -> None:
        assert await publisher.tracked() == {("kalshi", "OLD"), ("polymarket", "e")}

    publisher = Publisher(redis_url, LocalBus(), compiler, PLATFORMS, taking_over)
    publisher.units_changed(changed)
    task = asyncio.create_task(publisher.run())
    publisher.track(("polymarket", "e"), True)
    publisher.track(("kalshi", "OUT"), False)
    await publisher.settled()
    version = publisher.version
    await redis.flushall()
    publisher.units_changed(changed)
    await publisher.settled()
    assert publisher.version > version
    assert await redis.smembers("mapping:tracked") == {b"kalshi:OLD", b"polymarket:e"}
    await end(publisher, task)


async def test_a_version_whose_answer_was_lost_is_left_behind(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is written, its answer lost, a stage takes it; then Redis comes back from a copy of before
    and the change is taken back too. What the service publishes is above all that stages may have."""
    compiler, changed = made("0xA")
    publisher = Publisher(redis_url, LocalBus(), compiler, PLATFORMS, restore)
    publisher.units_changed(changed)
    task = asyncio.create_task(publisher.run())
    await publisher.settled()
    copy = {key: await redis.dump(key) for key in await redis.keys("*")}
    write, lost, go_on = MappingStore.publish, asyncio.Event(), asyncio.Event()

    async def answer_lost(self: MappingStore, *args: object, **more: object) -> None:
        await write(self, *args, **more)  # type: ignore[arg-type]
        monkeypatch.setattr(MappingStore, "publish", write)
        lost.set()
        await go_on.wait()
        raise TimeoutError("answer lost")

    monkeypatch.setattr(MappingStore, "publish", answer_lost)
    publisher.units_changed(
        compiler.set_event(venue_event("polymarket", "e", venue_market("0xA", tick="0.1")))
    )
    await lost.wait()
    taken = await MappingStore(redis).state()
    assert taken is not None
    await redis.flushall()
    for key, value in copy.items():
        await redis.restore(key, 0, value)
    publisher.units_changed(compiler.set_event(venue_event("polymarket", "e", venue_market("0xA"))))
    go_on.set()
    async with asyncio.timeout(20):
        await publisher.settled()
    now = await MappingStore(redis).state()
    assert now is not None
    assert now.version > taken.version
    await end(publisher, task)
