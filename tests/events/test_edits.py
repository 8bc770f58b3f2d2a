"""Random edits of everything at once: what a stage holds is always one whole version, and ends up right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup.bus import LocalBus
from wup.events.publisher import Publisher
from wup.mapping import records
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.compile import Compiler
from wup.mapping.file import MappingFiles, parse
from wup.mapping.redis import MappingStore, connect
from wup.mapping.source import MappingSource
from wup.mapping.stored import fingerprint
from wup.mapping.table import MappingTable

EVENTS = 6
PLATFORMS = ("kalshi", "polymarket")
STATUSES = [
    ("open", None),
    ("open", None),
    ("open", None),
    ("halted", None),
    ("resolved", "yes"),
    ("resolved", "no"),
]


async def restore(store: MappingStore) -> None:
    """Nothing of an earlier run."""


@dataclass
class World:
    """A service without its HTTP, and a stage, over one Valkey."""

    redis: Redis
    bus: LocalBus
    compiler: Compiler
    publisher: Publisher
    source: MappingSource
    dice: random.Random
    tables: list[MappingTable] = field(default_factory=list)

    def venue_event(self, platform: str, number: int) -> VenueEventRecord:
        """An event of two markets as the venue may show it next."""
        markets = []
        for side in "AB":
            status, result = self.dice.choice(STATUSES)
            name = f"K{number}-{side}" if platform == "kalshi" else f"0x{number}{side}"
            rules = f"rules of {name}" if self.dice.random() < 0.8 else "other rules"
            markets.append(venue_market(name, status=status, result=result, rules=rules))
        if self.dice.random() < 0.2:
            markets.pop()
        if self.dice.random() < 0.4:
            # A market that other events list too.
            shared = self.dice.randrange(2)
            markets.append(venue_market(f"KS{shared}" if platform == "kalshi" else f"0xS{shared}"))
        return venue_event(platform, f"{platform}-{number}", *markets)

    def files(self) -> MappingFiles:
        """A mapping of some of the events, one market kept same, its mate inverted."""
        entries = []
        for number in range(EVENTS):
            if self.dice.random() < 0.3:
                continue
            legs = [leg("kalshi", f"kalshi-{number}", f"K{number}-A")]
            if self.dice.random() < 0.5:
                legs.append(leg("kalshi", f"kalshi-{number}", f"K{number}-B", polarity='"inverted"'))
            if self.dice.random() < 0.7:
                legs.append(leg("polymarket", f"polymarket-{number}", f"0x{number}A"))
            self.dice.shuffle(legs)
            entries.append(
                aggregate(f"agg-{number}", market(f"wup1|e{number}|k|s|-|p", *legs, tie='"impossible"'))
            )
        files, problems = parse(f"version = {self.dice.randrange(5)}\n" + "\n".join(entries), "x.toml")
        assert files is not None, problems
        return files

    async def edit(self) -> None:
        """One random change of the venues, the files, or Redis."""
        what = self.dice.random()
        if what < 0.6:
            event = self.venue_event(self.dice.choice(["kalshi", "polymarket"]), self.dice.randrange(EVENTS))
            self.publisher.units_changed(self.compiler.set_event(event))
        elif what < 0.75:
            key = self.dice.choice(["kalshi", "polymarket"])
            dropped = (key, f"{key}-{self.dice.randrange(EVENTS)}")
            self.publisher.units_changed(self.compiler.drop_event(dropped))
        elif what < 0.9:
            self.publisher.units_changed(self.compiler.set_files(self.files()))
        elif what < 0.97:
            keys = sorted(await self.redis.keys("*:*"))
            victim = self.dice.choice([k for k in keys if not k.startswith(b"mapping:tracked")] or [b"x:y"])
            await self.redis.delete(victim)
            if self.dice.random() < 0.5:
                await self.redis.set(victim, "garbage")
        else:
            await self.redis.flushall()


@pytest.fixture
async def world(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    redis, bus, compiler = connect(redis_url), LocalBus(), Compiler()
    publisher = Publisher(redis_url, bus, compiler, PLATFORMS, restore)
    world = World(
        redis,
        bus,
        compiler,
        publisher,
        MappingSource(redis_url, bus, poll_s=0.05),
        random.Random(request.param),
    )
    world.source.on_change(world.tables.append)
    task = asyncio.create_task(publisher.run())
    yield world
    await world.source.stop()
    publisher.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await publisher.close()
    await redis.aclose()


def whole(table: MappingTable) -> None:
    """What every table of one version has: each asset once, each leg's book known, its own polarity."""
    assets = [(x.platform, x.asset_id) for x in table.legs]
    assert len(assets) == len(set(assets)), "an asset feeds two books: two versions are mixed"
    assert {x.book for x in table.legs} <= set(table.books)
    for x in table.legs:
        if x.book.startswith("agg-"):
            assert x.inverted == x.market_id.endswith("B")
        else:
            assert not x.inverted


@pytest.mark.parametrize("world", [1, 2, 3], indirect=True)
async def test_random_edits(world: World) -> None:
    """After any edits each table that a stage saw was whole, and the last is what files and venues say."""
    await world.publisher.settled()
    await world.source.start()
    for _ in range(25):
        for _ in range(world.dice.randrange(1, 5)):
            await world.edit()
            if world.dice.random() < 0.3:
                await asyncio.sleep(world.dice.random() * 0.03)
        await world.publisher.settled()
    wanted: dict[str, records.Record] = {}
    for name, unit in world.compiler.units.items():
        wanted.update(records.unit_records(unit))
        kind, platform, slug = [*name.split(":", 2), ""][:3]
        if kind == "event":
            wanted[records.home_key(platform, slug)] = world.compiler.home((platform, slug))
    right = {key: fingerprint(value) for key, value in wanted.items()}
    store = MappingStore(world.redis)
    markets = {m.hid for unit in world.compiler.units.values() for m in unit.markets}

    async def complete() -> bool:
        there = await store.keys.names(PLATFORMS)
        return (
            await store.keys.fingerprints_of(list(right)) == right
            and await store.keys.ours(there - right.keys(), PLATFORMS) == set()
            and await store.holds(records.MARKETS, markets)
        )

    async with asyncio.timeout(20):
        # What was destroyed in Redis at last is found by the publisher's audit.
        while not await complete() or not world.source.healthy:
            await asyncio.sleep(0.05)
        while world.source.table.version != world.publisher.version:
            await asyncio.sleep(0.05)
    assert world.source.table == world.compiler.table(world.publisher.version)
    assert len(world.tables) > 10
    versions = [table.version for table in world.tables]
    assert versions == sorted(set(versions))
    for table in world.tables:
        whole(table)


@pytest.mark.parametrize("world", [0], indirect=True)
async def test_what_another_unit_holds_stays(world: World) -> None:
    """A key that two units make is deleted when the second of them leaves, not before."""
    one, two = "event:polymarket:one", "event:polymarket:two"
    world.compiler.set_event(venue_event("polymarket", "one", venue_market("0x01")))
    unit = world.compiler.units[one]
    world.compiler.units[two] = unit
    world.publisher.units_changed({one, two})
    await world.publisher.settled()
    keys = list(records.unit_records(unit))
    assert await world.redis.exists(*keys) == len(keys)
    del world.compiler.units[one]
    world.publisher.units_changed({one})
    await world.publisher.settled()
    assert await world.redis.exists(*keys) == len(keys)
    assert await world.redis.exists(records.home_key("polymarket", "one")) == 0
    del world.compiler.units[two]
    world.publisher.units_changed({two})
    await world.publisher.settled()
    assert await world.redis.exists(*keys) == 0
