"""The mapping in a real Valkey: every key of the design, whole versions only, a source that keeps going."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup import _core, subjects
from wup.bus import LocalBus
from wup.mapping import records
from wup.mapping.compile import Compiler
from wup.mapping.file import parse
from wup.mapping.redis import MappingStore, NoIndex, connect, last_epoch, load_epoch, save_epoch
from wup.mapping.rest import number_text, read_json
from wup.mapping.source import MappingSource, announcement
from wup.mapping.state import State
from wup.mapping.table import EMPTY, MappingTable
from wup.metrics import BAD_INPUT

KEY = "wup1|g:1|moneyline|tex|-|game"
PLATFORMS = ("kalshi", "polymarket")
HID = _core.market_hash(KEY)
FILE = aggregate(
    "game",
    market(
        KEY,
        leg("kalshi", "KXGAME", "KXGAME-TEX"),
        leg("kalshi", "KXGAME", "KXGAME-NYY", polarity='"inverted"'),
        leg("polymarket", "tex-nyy", "0x01"),
        tie='"impossible"',
    ),
    category='"sports"',
    league='"mlb"',
    start="2026-07-10T23:05:00Z",
    exclusive="true",
)


def compiler() -> Compiler:
    """A game over both venues, and one unmapped market."""
    files, problems = parse("version = 412\n" + FILE, "game.toml")
    assert files is not None, problems
    made = Compiler()
    made.set_files(files)
    made.set_event(venue_event("kalshi", "KXGAME", venue_market("KXGAME-TEX"), venue_market("KXGAME-NYY")))
    made.set_event(venue_event("polymarket", "tex-nyy", venue_market("0x01"), venue_market("0x02")))
    return made


def everything(made: Compiler) -> dict[str, records.Record]:
    """All records of a compiler."""
    found: dict[str, records.Record] = {}
    for unit in made.units.values():
        found.update(records.unit_records(unit))
    return found


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def publish(redis: Redis, version: int, made: Compiler) -> None:
    """Write a compiler's mapping as one version."""
    await MappingStore(redis).publish(State("run", version), everything(made), [])


async def test_every_key_of_the_design(redis: Redis) -> None:
    """The keys and values in Redis are those that mapping.md lists."""
    await publish(redis, 412, compiler())
    own = _core.market_hash("wup1|polymarket|0x02")
    strings = {
        "mapping:version": "412",
        "mapping:run": "run",
        "kalshi:market:KXGAME-TEX": f"{HID}|same|confirmed",
        "kalshi:market:KXGAME-NYY": f"{HID}|inverted|confirmed",
        "polymarket:market:0x01": f"{HID}|same|confirmed",
        "polymarket:market:0x02": f"{own}|same|confirmed",
        "kalshi:outcome:KXGAME-TEX:yes": f"{HID}:yes|0",
        "kalshi:outcome:KXGAME-TEX:no": f"{HID}:yes|1",
        "kalshi:outcome:KXGAME-NYY:yes": f"{HID}:yes|1",
        "kalshi:outcome:KXGAME-NYY:no": f"{HID}:yes|0",
        "polymarket:token:0x01-y": f"{HID}:yes|0",
        "polymarket:token:0x01-n": f"{HID}:yes|1",
        "polymarket:token:0x02-y": f"{own}:yes|0",
        "polymarket:token:0x02-n": f"{own}:yes|1",
    }
    for key, value in strings.items():
        assert (await redis.get(key)).decode() == value, key
    fields = {
        name.decode(): value.decode() for name, value in (await redis.hgetall("aggregate:game")).items()
    }
    assert fields == {
        "title": "A title",
        "category": "sports",
        "league": "mlb",
        "start_ts_ms": "1783724700000",
        "status": "open",
        "exclusive": "true",
        "created_by": "file",
        "confirmed_by": "human:ab",
        "confirmed_at": "2026-11-20T10:00:00+00:00",
        "source": "game.toml:2",
    }
    assert await redis.smembers("aggregate:game:events") == {b"kalshi:KXGAME", b"polymarket:tex-nyy"}
    assert await redis.smembers("aggregate:game:markets") == {HID.encode()}
    assert await redis.smembers("mapping:markets") == {HID.encode(), own.encode()}
    body = json.loads(await redis.get(f"market:{HID}"))
    assert (body["aggregate_id"], body["kind"], body["subject"], body["line"], body["period"]) == (
        "game",
        "moneyline",
        "tex",
        "-",
        "game",
    )
    assert (body["tie_rule"], body["exclusive_group"]) == ("impossible", "game")
    members = {k.decode(): json.loads(v) for k, v in (await redis.hgetall(f"market:{HID}:members")).items()}
    assert set(members) == {"kalshi:KXGAME-TEX", "kalshi:KXGAME-NYY", "polymarket:0x01"}
    member = members["kalshi:KXGAME-NYY"]
    assert (member["polarity"], member["relation"], member["status"], member["mapping_version"]) == (
        "inverted",
        "identity",
        "confirmed",
        412,
    )


async def test_suggestions_and_rejections(redis: Redis) -> None:
    """Proposed markets stand under `suggest:`, rejected pairs with the reason under `reject:`; neither makes
    a market, and both are among the keys that are kept right."""
    key = "wup1|game|k|s|-|p"
    proposed = {"status": '"proposed"', "confirmed_by": "", "confirmed_at": "", "rules_sha256": ""}
    legs = [
        leg("kalshi", "E", "E-A", **proposed),
        leg("polymarket", "e", "0x01", **{**proposed, "status": '"rejected"'}, reason='"another day"'),
    ]
    files, problems = parse(aggregate("game", market(key, *legs)), "a.toml")
    assert files is not None, problems
    made = Compiler()
    made.set_files(files)
    await publish(redis, 1, made)
    body = json.loads(await redis.get(f"suggest:{_core.market_hash(key)}"))
    assert [(x["market"], x["status"]) for x in body["legs"]] == [("E-A", "proposed"), ("0x01", "rejected")]
    pair = records.pair_hash("polymarket:0x01", "kalshi:E-A")
    assert pair == records.pair_hash("kalshi:E-A", "polymarket:0x01")
    assert await redis.get(f"reject:{pair}") == b"another day"
    assert await redis.smembers("mapping:markets") == set()
    keys = {f"reject:{pair}", f"suggest:{_core.market_hash(key)}"}
    assert await MappingStore(redis).keys.ours(keys, PLATFORMS) == keys
    assert await redis.smembers("mapping:rejected") == {pair.encode()}


async def test_what_is_written_is_read(redis: Redis) -> None:
    """A table read back from Redis is the table that was compiled."""
    made = compiler()
    await publish(redis, 412, made)
    loaded = await MappingStore(redis).load()
    assert loaded is not None
    assert loaded.rejected == {}
    expected = {m.hid: m for unit in made.units.values() for m in unit.markets}
    assert loaded.markets == expected
    keys = MappingStore(redis).keys
    assert await keys.names(PLATFORMS) == set(everything(made))
    assert await keys.ours(everything(made), PLATFORMS) == set(everything(made))


async def test_an_event_is_read_as_it_was_written(redis: Redis) -> None:
    """A venue event comes back field by field, the venue's own JSON beside it digit by digit."""
    raw = read_json('{"slug":"e","tick":0.0010,"big":123456789012345678901234567890}')
    event = venue_event(
        "polymarket",
        "e",
        venue_market("0x01", status="resolved", result="no", close_us=5),
        venue_market("KX-1"),
        raw=raw,
        category="c",
    )
    store = MappingStore(redis)
    await store.save_events({("polymarket", "e"): records.event_record(event)}, [])
    found = await store.event("polymarket", "e")
    assert found is not None
    assert found[0] == replace(event, raw={})
    assert found[1]["raw"] == raw
    assert number_text(found[1]["raw"]["big"]) == "123456789012345678901234567890"
    assert await store.event("polymarket", "other") is None
    assert await store.event_keys(PLATFORMS) == {("polymarket", "e")}
    await redis.set("event:polymarket:e", b"{}")
    with pytest.raises(records.BadRecord):
        await store.event("polymarket", "e")
    await redis.delete("event:polymarket:e")
    await redis.sadd("event:polymarket:e", "x")
    with pytest.raises(records.BadRecord):
        await store.event("polymarket", "e")


async def test_a_huge_event_is_stored_without_its_raw_form(redis: Redis) -> None:
    """Over 4 MiB the venue's own JSON is left out; the normalised fields stay."""
    event = venue_event("polymarket", "e", venue_market("0x01"), raw={"x": "y" * 5_000_000})
    body = records.event_record(event)
    assert len(body) < 10_000
    assert records.read_event(body.encode())[0] == replace(event, raw={})


GARBAGE = [
    ("set", "market:{hid}", b"\xff\xfe not json"),
    ("set", "market:{hid}", b"[1,2]"),
    ("set", "market:{hid}", b'{"title":"t"}'),
    ("set", "market:{hid}", b'{"title":"t","label":5,"aggregate_id":"a","key":"k","exclusive":true}'),
    ("set", "market:{hid}", b"x" * 70_000),
    ("set", "market:{hid}:members", b"not a hash"),
    ("sadd", "market:{hid}", b"not a string"),
    ("hset", "market:{hid}:members", b"{}"),
    (
        "hset",
        "market:{hid}:members",
        b'{"platform":"kalshi","event":"E","market_id":"X","polarity":"sideways"}',
    ),
    ("delete", "market:{hid}", b""),
]


@pytest.mark.parametrize(("command", "key", "value"), GARBAGE)
async def test_garbage_is_rejected_record_by_record(
    redis: Redis, command: str, key: str, value: bytes
) -> None:
    """A record that is not what it should be is named with the reason; the others are read."""
    await publish(redis, 412, compiler())
    name = key.format(hid=HID)
    if command != "hset":
        await redis.delete(name)
    if command == "set":
        await redis.set(name, value)
    elif command == "sadd":
        await redis.sadd(name, value)
    elif command == "hset":
        await redis.hset(name, "kalshi:KXGAME-TEX", value)
    loaded = await MappingStore(redis).load()
    assert loaded is not None
    assert set(loaded.rejected) == {HID}
    assert loaded.rejected[HID]
    assert set(loaded.markets) == {_core.market_hash("wup1|polymarket|0x02")}


async def test_a_garbage_version_is_no_mapping(redis: Redis) -> None:
    """Without a readable version nothing is loaded."""
    await publish(redis, 412, compiler())
    await redis.set("mapping:version", "four hundred")
    assert await MappingStore(redis).load() is None


@pytest.mark.parametrize("spoilt", ["gone", "fewer", "more", "others", "another type"])
async def test_a_spoilt_index_is_no_mapping(redis: Redis, spoilt: str) -> None:
    """A list of markets that is not the one published is refused, whole: nothing left the mapping by it."""
    made = compiler()
    own = _core.market_hash("wup1|polymarket|0x02")
    whole = records.markets_sum(*records.sum_of([HID, own]))
    store = MappingStore(redis)
    await store.publish(State("run", 412), everything(made), [], markets_sum=whole)
    loaded = await store.load()
    assert loaded is not None
    assert len(loaded.markets) == 2
    assert await store.index_holds([HID], 2, whole)
    if spoilt == "gone":
        await redis.delete("mapping:markets")
    elif spoilt == "fewer":
        await redis.srem("mapping:markets", own)
    elif spoilt == "more":
        await redis.sadd("mapping:markets", "x")
    elif spoilt == "others":
        await redis.srem("mapping:markets", own)
        await redis.sadd("mapping:markets", "0" * 15 + "1")
    else:
        await redis.delete("mapping:markets")
        await redis.set("mapping:markets", "word")
    with pytest.raises(NoIndex):
        await store.load()
    if spoilt != "others":
        with pytest.raises(NoIndex):
            await store.load([own])
    assert not await store.index_holds([HID, own], 2, whole)
    await store.publish(State("run", 413), {}, [], anew={"mapping:markets": [HID, own]}, markets_sum=whole)
    again = await store.load([own])
    assert again is not None
    assert (set(again.markets), again.gone) == ({own}, set())


async def test_a_reader_never_sees_half_a_mapping(redis: Redis, redis_url: str) -> None:
    """While versions with all legs one way, then the other, are written, every read is all one way."""
    writer, stop = MappingStore(redis), asyncio.Event()
    reader_redis = connect(redis_url)
    reader = MappingStore(reader_redis)
    both: list[dict[str, records.Record]] = []
    for first, second in (("same", "inverted"), ("inverted", "same")):
        made = Compiler()
        markets = [
            market(
                f"wup1|g|k|s{n}|-|p",
                leg("kalshi", "E", f"E-{n}", polarity=f'"{first}"'),
                leg("polymarket", "e", f"0x{n}", polarity=f'"{second}"'),
                tie='"impossible"',
            )
            for n in range(40)
        ]
        files, problems = parse(aggregate("g", *markets), "g.toml")
        assert files is not None, problems
        made.set_files(files)
        made.set_event(venue_event("kalshi", "E", *(venue_market(f"E-{n}") for n in range(40))))
        made.set_event(venue_event("polymarket", "e", *(venue_market(f"0x{n}") for n in range(40))))
        both.append(everything(made))
    await writer.publish(State("run", 1), both[1], [])

    async def write() -> None:
        version = 1
        while not stop.is_set():
            version += 1
            await writer.publish(State("run", version), both[version % 2], [])

    task = asyncio.create_task(write())
    versions = set()
    wanted = [_core.market_hash(f"wup1|g|k|s{n}|-|p") for n in range(40)]
    try:
        while len(versions) < 20:
            loaded = await reader.load(wanted)
            assert loaded is not None
            versions.add(loaded.version)
            seen = {(m.platform, m.polarity) for u in loaded.markets.values() for m in u.members}
            one_way = "same" if loaded.version % 2 == 0 else "inverted"
            other = "inverted" if one_way == "same" else "same"
            assert seen == {("kalshi", one_way), ("polymarket", other)}
            assert len(loaded.markets) == 40
    finally:
        stop.set()
        await task
        await reader_redis.aclose()


async def test_epochs_never_go_back(redis: Redis) -> None:
    """The last epoch of a shard is kept, and only a larger one replaces it."""
    assert await load_epoch(redis, "0") == 0
    await save_epoch(redis, "0", 1795353600123)
    await save_epoch(redis, "0", 1795353600000)
    await save_epoch(redis, "1", 7)
    assert await load_epoch(redis, "0") == 1795353600123
    assert await load_epoch(redis, "1") == 7
    await redis.set("orderbook:epoch:0", "garbage")
    assert await load_epoch(redis, "0") == 0


# --- the source -----------------------------------------------------------------------------------


class Seen:
    """Tables as a stage gets them."""

    def __init__(self, source: MappingSource) -> None:
        self.tables: list[MappingTable] = []
        self._more = asyncio.Event()
        source.on_change(self._take)

    def _take(self, table: MappingTable) -> None:
        self.tables.append(table)
        self._more.set()

    async def version(self, version: int) -> MappingTable:
        """Wait for a version."""
        while not self.tables or self.tables[-1].version != version:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 10)
        return self.tables[-1]


async def test_source_gives_the_first_table_and_every_later_one(redis: Redis, redis_url: str) -> None:
    """The table at the start, the next by announcement, and one without announcement by the poll."""
    made = compiler()
    await publish(redis, 412, made)
    bus = LocalBus()
    source = MappingSource(redis_url, bus, poll_s=0.2)
    first = await source.start()
    assert first.version == 412
    assert first == made.table(412)
    assert source.healthy
    seen = Seen(source)
    touched = made.set_event(venue_event("polymarket", "tex-nyy", venue_market("0x02")))
    write = {k: v for name in touched for k, v in records.unit_records(made.units[name]).items()}
    await MappingStore(redis).publish(State("run", 413), write, [])
    bus.publish(subjects.MAPPING_CHANGED, announcement(State("run", 413), State("run", 412), [HID]))
    assert await seen.version(413) == made.table(413)
    await redis.set("mapping:version", 500)
    assert await seen.version(500) == made.table(500)
    await source.stop()


async def test_source_forgets_markets_that_leave(redis: Redis, redis_url: str) -> None:
    """A market that an announced version deleted is gone from the table."""
    made = compiler()
    await publish(redis, 1, made)
    bus = LocalBus()
    source = MappingSource(redis_url, bus)
    await source.start()
    seen = Seen(source)
    own = _core.market_hash("wup1|polymarket|0x02")
    await MappingStore(redis).publish(State("run", 2), {}, [f"market:{own}", f"market:{own}:members"])
    bus.publish(subjects.MAPPING_CHANGED, announcement(State("run", 2), State("run", 1), [own]))
    table = await seen.version(2)
    assert {x.asset_id for x in table.legs} == {"KXGAME-TEX", "KXGAME-NYY", "0x01-y"}
    await source.stop()


async def test_source_survives_lost_and_wrong_announcements(redis: Redis, redis_url: str) -> None:
    """Garbage on the subject, and a chain of announcements with a hole, end in the right table."""
    made = compiler()
    await publish(redis, 1, made)
    bus = LocalBus()
    source = MappingSource(redis_url, bus, poll_s=30)
    await source.start()
    seen = Seen(source)
    for payload in (b"", b"nonsense", b"[]", b'{"version":"x"}', b'{"version":2,"previous":1,"markets":[5]}'):
        bus.publish(subjects.MAPPING_CHANGED, payload)
    made.set_files(parse("version = 9", "g.toml")[0] or pytest.fail("file"))
    await MappingStore(redis).publish(
        State("run", 4), everything(made), [f"market:{HID}", f"market:{HID}:members"]
    )
    bus.publish(subjects.MAPPING_CHANGED, announcement(State("run", 4), State("run", 3), []))
    assert await seen.version(4) == made.table(4)
    await source.stop()


async def test_source_waits_then_gives_the_empty_table(redis_url: str) -> None:
    """Nothing published: the empty table after the wait, healthy, and the first version when it comes."""
    source = MappingSource(redis_url, LocalBus(), poll_s=0.1)
    assert await source.start(wait_s=0.3) is EMPTY
    assert source.healthy
    seen = Seen(source)
    client = connect(redis_url)
    await publish(client, 1, compiler())
    await client.aclose()
    assert len((await seen.version(1)).legs) == 4
    await source.stop()


async def test_source_keeps_the_last_good_record(redis: Redis, redis_url: str) -> None:
    """A record that turns to garbage keeps its last good form, and health says so until it is repaired."""
    made = compiler()
    await publish(redis, 1, made)
    source = MappingSource(redis_url, LocalBus(), poll_s=0.1)
    await source.start()
    seen = Seen(source)
    good = await redis.get(f"market:{HID}")
    await redis.set(f"market:{HID}", "garbage")
    await redis.set("mapping:version", 2)
    assert (await seen.version(2)).legs == made.table(2).legs
    assert not source.healthy
    assert source.problem == "mapping_records_rejected:1"
    await redis.set(f"market:{HID}", good)
    await redis.set("mapping:version", 3)
    await seen.version(3)
    assert source.healthy
    assert source.table == made.table(3)
    await source.stop()


async def test_a_failing_callback_does_not_stop_the_source(redis: Redis, redis_url: str) -> None:
    """One stage's error does not keep the others from the new table."""
    made = compiler()
    await publish(redis, 1, made)
    source = MappingSource(redis_url, LocalBus(), poll_s=0.1)
    await source.start()

    def fail(_: MappingTable) -> None:
        raise RuntimeError("a stage's own problem")

    source.on_change(fail)
    seen = Seen(source)
    await redis.set("mapping:version", 2)
    await seen.version(2)
    await redis.set("mapping:version", 3)
    await seen.version(3)
    await source.stop()


async def test_equal_numbers_of_two_runs_are_two_versions(redis: Redis, redis_url: str) -> None:
    """The number that a stage has, given by another run for another content: the stage takes that content;
    also where runs had no ids yet, and where a part of it is announced under numbers that would fit."""
    made = compiler()
    await publish(redis, 412, made)
    bus = LocalBus()
    source = MappingSource(redis_url, bus, poll_s=0.05)
    await source.start()
    seen: asyncio.Queue[MappingTable] = asyncio.Queue()
    source.on_change(seen.put_nowait)
    store = MappingStore(redis)
    for number, run in enumerate(("other", None, "third")):
        made.set_event(venue_event("polymarket", "tex-nyy", venue_market(f"0x1{number}")))
        made.set_event(venue_event("polymarket", "more", venue_market(f"0x2{number}")))
        own = _core.market_hash(f"wup1|polymarket|0x1{number}")
        await redis.flushall()
        await store.publish(State(run, 412), everything(made), [])
        bus.publish(subjects.MAPPING_CHANGED, announcement(State(run, 412), State(run, 411), [own]))
        async with asyncio.timeout(10):
            assert await seen.get() == made.table(412)
    await source.stop()


@pytest.mark.parametrize("version", [b"9" * 30, str(2**60).encode(), b"-1", b"1.5", b"", "\u0663".encode()])
async def test_a_version_that_no_service_gives_is_none(redis: Redis, version: bytes) -> None:
    """What is no number, or so large that none could follow, counts as nothing published."""
    await publish(redis, 1, compiler())
    await redis.set("mapping:version", version)
    assert await MappingStore(redis).state() is None
    assert await MappingStore(redis).load() is None


async def test_an_old_copy_of_redis_brings_nothing_back(redis: Redis, redis_url: str) -> None:
    """Redis restarts from a copy of before a leg was suspended: a stage keeps the leg suspended and says that
    Redis went back, until the event service has written again."""
    made = compiler()
    store = MappingStore(redis)
    await store.publish(State("run", 5), everything(made), [])
    made.set_event(venue_event("polymarket", "tex-nyy", venue_market("0x01", status="halted")))
    source = MappingSource(redis_url, LocalBus(), poll_s=0.02)
    seen = Seen(source)
    await source.start()
    await store.publish(State("run", 6), everything(made), [])
    table = await seen.version(6)
    assert next(leg.suspended for leg in table.legs if leg.platform == "polymarket") == "halted"
    await redis.flushall()
    await store.publish(State("run", 5), everything(compiler()), [])
    async with asyncio.timeout(10):
        while source.healthy:
            await asyncio.sleep(0.01)
    assert source.problem == "mapping_went_back"
    assert source.table is table
    await store.publish(State("run", 7), everything(made), [])
    assert (await seen.version(7)).legs == table.legs
    assert source.healthy
    await source.stop()


async def test_a_copy_of_an_earlier_run_brings_nothing_back_either(redis: Redis, redis_url: str) -> None:
    """The copy that Redis restarts from may be of the event service's run before the present one: what a
    stage has left behind stays behind, and the next version of the present run is taken."""
    made, store = compiler(), MappingStore(redis)
    source = MappingSource(redis_url, LocalBus(), poll_s=0.02)
    seen = Seen(source)
    await store.publish(State("first", 50), everything(made), [])
    await source.start()
    await seen.version(50)
    made.set_event(venue_event("polymarket", "tex-nyy", venue_market("0x01", status="halted")))
    await store.publish(State("second", 60), everything(made), [])
    await seen.version(60)
    await redis.flushall()
    await store.publish(State("first", 50), everything(compiler()), [])
    async with asyncio.timeout(10):
        while source.problem != "mapping_went_back":
            await asyncio.sleep(0.01)
    assert source.table.version == 60
    assert next(leg.suspended for leg in source.table.legs if leg.platform == "polymarket") == "halted"
    await store.publish(State("second", 61), everything(made), [])
    await seen.version(61)
    assert source.problem is None
    await source.stop()


@pytest.mark.parametrize("stored", [b"9" * 30, b"9" * 16, str(2**63 - 1).encode(), b"soon", b""])
async def test_an_epoch_that_no_clock_gives_is_none(redis: Redis, stored: bytes) -> None:
    """A value above which no epoch could be given is counted, taken for unknown, and written over."""
    await redis.set(records.epoch_key("0"), stored)
    counted = BAD_INPUT.labels("orderbook", "", "bad_record")
    before = counted._value.get()
    assert await load_epoch(redis, "0") == 0
    assert counted._value.get() == before + 1
    assert await last_epoch(redis, 1) == 0
    await save_epoch(redis, "0", 1_800_000_000_000)
    assert await last_epoch(redis, 1) == 1_800_000_000_000
