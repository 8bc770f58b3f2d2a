"""How a large mapping behaves: run with `-m slow -s` for the full size; the small size guards the path."""

from __future__ import annotations

import asyncio
import resource
import time

import pytest
from redis.asyncio import Redis

from mapping.files import venue_event, venue_market
from wup.bus import LocalBus
from wup.events.publisher import Publisher
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.compile import Compiler
from wup.mapping.redis import MappingStore, connect
from wup.mapping.source import MappingSource

FACTS = {"min_order_size": "5", "neg_risk": "true", "tick": "0.01", "end_time": "2026-12-17T00:00:00Z"}


def event(number: int, markets: int = 5) -> VenueEventRecord:
    """One event with its markets."""
    listed = (venue_market(f"0x{number * 5 + k:064x}", facts=FACTS) for k in range(markets))
    return venue_event("polymarket", f"event-{number}", *listed)


def now() -> tuple[float, float]:
    """Wall and processor seconds: on a busy machine only the second can be compared."""
    return time.monotonic(), time.process_time()


class Stalls:
    """The longest time that this process's loop did nothing else: in `wup up` it may carry books."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - before - 0.01)

    async def taken(self) -> float:
        """The longest since the last question."""
        await asyncio.sleep(0.05)
        longest, self.longest = self.longest, 0.0
        return longest

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def since(began: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = now()
    return wall - began[0], cpu - began[1]


async def restore(store: MappingStore) -> None:
    """Nothing of an earlier run."""


async def end(publisher: Publisher, task: asyncio.Task[None]) -> None:
    """Stop a publisher."""
    publisher.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await publisher.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "events", [200, pytest.param(2_000, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.slow)]
)
async def test_many_events(redis_url: str, events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that was published is loaded, and a change of one event reaches a stage by itself. Only the
    large transaction has more than the second after which Redis counts as away."""
    patience: list[float] = []

    def connecting(url: str, *, timeout: float = 1.0) -> Redis:
        patience.append(timeout)
        return connect(url, timeout=timeout)

    monkeypatch.setattr("wup.events.publisher.connect", connecting)
    redis, bus, compiler = connect(redis_url), LocalBus(), Compiler()
    publisher = Publisher(redis_url, bus, compiler, ("polymarket",), restore)
    took: dict[str, tuple[float, float]] = {}
    began = now()
    for number in range(events):
        publisher.units_changed(compiler.set_event(event(number)))
        publisher.event_fetched(event(number))
    took["compile"], began, stalls = since(began), now(), Stalls()
    await stalls.taken()
    stalled: dict[str, float] = {}
    task = asyncio.create_task(publisher.run())
    await publisher.settled()
    assert min(patience) == 1.0
    assert max(patience) > 5.0 + events * 5 * 5 / 10_000
    took["publish"], stalled["publish"], began = since(began), await stalls.taken(), now()
    source = MappingSource(redis_url, bus)
    table = await source.start(wait_s=120)
    took["full load"], stalled["full load"] = since(began), await stalls.taken()
    assert len(table.legs) == len(table.books) == events * 5
    assert table == compiler.table(table.version)
    changed = asyncio.Event()
    source.on_change(lambda _: changed.set())
    await stalls.taken()
    began = now()
    publisher.units_changed(compiler.set_event(event(7, markets=4)))
    await changed.wait()
    took["one event"], stalled["one event"] = since(began), await stalls.taken()
    assert len(source.table.legs) == events * 5 - 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    valkey = (await redis.info("memory"))["used_memory"] // 2**20
    await source.stop()
    await end(publisher, task)
    again, began = Publisher(redis_url, bus, compiler, ("polymarket",), restore), now()
    await stalls.taken()
    task = asyncio.create_task(again.run())
    await again.settled()
    took["restart"], stalled["restart"] = since(began), await stalls.taken()
    assert again.version == publisher.version + 1
    await end(again, task)
    await stalls.stop()
    shown = ", ".join(f"{name} {wall:.2f} s wall, {cpu:.2f} s CPU" for name, (wall, cpu) in took.items())
    print(f"\n{events} events, {events * 5} markets: {shown}; {memory} MB here, {valkey} MB in Valkey")
    print(
        "longest stall of the loop: " + ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in stalled.items())
    )
    await redis.aclose()
