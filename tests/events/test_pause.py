"""A venue that as a whole does not trade: its legs leave with the reason, and come back when it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from events.test_discovery import Listing, listed, running
from events.venue_rest import VenueRest, kalshi_event, kalshi_market
from wup import _core
from wup.bus import LocalBus
from wup.config import Settings
from wup.events import discovery
from wup.events import service as service_module
from wup.events.discovery import Discovery
from wup.events.service import EventService
from wup.mapping.apply import put_in_force
from wup.mapping.catalogue import Catalogue, CatalogueError, EventUnreadable, Pause
from wup.mapping.pauses import load_pauses, save_pauses
from wup.mapping.redis import connect
from wup.mapping.source import MappingSource
from wup.mapping.table import MappingTable
from wup.sim import SimSettings, Simulators
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.kalshi.exchange import resumes_us, stopped
from wup.venues.registry import VENUES

FLAGS = {"exchange_active": True, "trading_active": True}
THURSDAY = [{"open_time": "00:00", "close_time": "03:00"}, {"open_time": "05:00", "close_time": "00:00"}]
WHOLE = [{"open_time": "00:00", "close_time": "00:00"}]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SCHEDULE = {"standard_hours": [{day: THURSDAY if day == "thursday" else WHOLE for day in DAYS}]}


def us(text: str) -> int:
    """Microseconds of a time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def status(*shards: bool, **changes: bool) -> dict[str, Any]:
    """The venue's answer; one flag per shard: does it trade?"""
    entries = [
        {"exchange_index": number, "exchange_active": True, "trading_active": trades}
        for number, trades in enumerate(shards)
    ]
    return {**FLAGS, "exchange_index_statuses": entries, **changes}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (FLAGS, frozenset()),
        (status(True, True), frozenset()),
        (status(True, False, True), {"1"}),
        (status(False, True, trading_active=False), {"0"}),
        (status(False, False), {"0", "1"}),
        (status(False, False, trading_active=False), None),
        (status(True, True, exchange_active=False), None),
        ({**FLAGS, "trading_active": False}, None),
        (status(True, trading_active=False), None),
    ],
)
def test_what_of_the_exchange_is_stopped(answer: dict[str, Any], found: frozenset[str] | None) -> None:
    """Shards are paused one by one; without a word about shards the whole exchange is meant."""
    assert stopped(answer) == found


@pytest.mark.parametrize("answer", [None, [], {}, {**FLAGS, "trading_active": "true"}])
def test_a_status_that_does_not_say_is_no_answer(answer: object) -> None:
    """Neither trading nor paused is concluded from an answer without its flags."""
    with pytest.raises(EventUnreadable):
        stopped(answer)


@pytest.mark.parametrize(
    ("now", "resumes"),
    [
        # Eastern time is four hours behind in summer and five in winter.
        ("2026-07-16T07:00:00", "2026-07-16T09:00:00"),
        ("2026-11-26T08:00:00", "2026-11-26T10:00:00"),
        ("2026-11-26T09:59:59", "2026-11-26T10:00:00"),
        ("2026-11-26T07:59:59", None),
        ("2026-11-26T10:00:00", None),
        ("2026-11-25T12:00:00", None),
    ],
)
def test_the_end_of_a_planned_pause_is_in_the_schedule(now: str, resumes: str | None) -> None:
    """Hours are Eastern, with its summer time; outside the pause none was planned."""
    assert resumes_us(SCHEDULE, us(now)) == (None if resumes is None else us(resumes))


def test_a_maintenance_window_names_its_end() -> None:
    """A window beyond the weekly hours counts by its own end; what cannot be read is left out."""
    window = {"start_datetime": "2026-11-23T01:00:00Z", "end_datetime": "2026-11-23T04:30:00Z"}
    schedule = {**SCHEDULE, "maintenance_windows": ["none", {}, window]}
    assert resumes_us(schedule, us("2026-11-23T02:00:00")) == us("2026-11-23T04:30:00")
    assert resumes_us(schedule, us("2026-11-23T04:30:00")) is None
    odd = {"standard_hours": [7, {"thursday": [{}, {"open_time": "5 a.m.", "close_time": 6}]}]}
    assert resumes_us(odd, us("2026-11-26T08:00:00")) is None


def suspended(table: MappingTable) -> dict[str, str | None]:
    """By asset: why it is kept out of its book."""
    return {leg.asset_id: leg.suspended for leg in table.legs}


Until = Callable[[Callable[[MappingTable], bool]], Awaitable[MappingTable]]


@asynccontextmanager
async def followed(
    settings: Settings, redis_url: str, catalogues: dict[str, Catalogue], bus: LocalBus | None = None
) -> AsyncIterator[tuple[EventService, Until]]:
    """(a running event service, a wait for a table as a stage gets it)."""
    bus = bus or LocalBus()
    service = EventService(settings, bus, redis_url, catalogues)
    source = MappingSource(redis_url, bus, poll_s=0.2)
    news = asyncio.Event()
    source.on_change(lambda _: news.set())

    async def until(right: Callable[[MappingTable], bool]) -> MappingTable:
        async with asyncio.timeout(20):
            while not source.table.legs or not right(source.table):
                news.clear()
                await news.wait()
        return source.table

    await service.start()
    try:
        await source.start()
        yield service, until
    finally:
        await source.stop()
        await service.stop()


async def test_a_paused_shard_takes_its_own_markets_only(
    rest: VenueRest, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shard is paused: its legs leave their books as `halted` for `maintenance`, without their event
    being asked for again; others stay. While the venue does not say, what it said last holds."""
    monkeypatch.setattr(discovery, "PAUSE_S", 0.02)
    rest.exchange = {"status": status(True, True), "schedule": {"schedule": SCHEDULE}}
    markets = [kalshi_market("KXFED-1-A"), kalshi_market("KXFED-1-B", exchange_index=1)]
    rest.kalshi["KXFED-1"] = kalshi_event("KXFED-1", markets)
    rest.series["KXFED"] = {}
    (tmp_path / "mappings").mkdir()
    settings = Settings(
        mappings=str(tmp_path / "mappings"), events_http_port=0, event_slug=("kalshi:KXFED-1",)
    )
    async with followed(settings, redis_url, {"kalshi": KalshiCatalogue(rest.urls)}) as (service, until):
        await until(lambda t: suspended(t) == {"KXFED-1-A": None, "KXFED-1-B": None})
        asked = rest.hits["kalshi"]
        rest.exchange["status"] = status(True, False)
        table = await until(lambda t: suspended(t)["KXFED-1-B"] is not None)
        assert suspended(table) == {"KXFED-1-A": None, "KXFED-1-B": "maintenance"}
        said = [orjson.loads(change.payload) for change in put_in_force(_core.BookStore(1), table, 1)]
        found = [(one["why"], one["legs"]["kalshi"]) for one in said if one["type"] == "status"]
        assert [(why, leg["asset"], leg["state"]) for why, leg in found] == [
            ("maintenance", "KXFED-1-B", "halted")
        ]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as http:
            event = (await http.get("/v1/events/kalshi/KXFED-1")).json()
            assert [market["status"] for market in event["markets"]] == ["open", "maintenance"]
            assert event["status"] == "open"
            ready = (await http.get("/readyz")).json()
            assert ready["degraded"] == ["kalshi_paused"]
            assert ready["paused"]["kalshi"]["part"] == ["1"]
            assert ready["ready"]
        rest.exchange["status"] = None
        seen = rest.hits["status"]
        async with asyncio.timeout(10):
            while rest.hits["status"] < seen + 3:
                await asyncio.sleep(0.01)
        assert suspended(table) == {"KXFED-1-A": None, "KXFED-1-B": "maintenance"}
        rest.exchange["status"] = status(True, True)
        await until(lambda t: set(suspended(t).values()) == {None})
        assert rest.hits["kalshi"] == asked
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as http:
            ready = (await http.get("/readyz")).json()
            assert "paused" not in ready
            assert ready["degraded"] == []


@pytest.mark.parametrize("memory", ["kept", "lost"])
async def test_a_restart_in_a_pause_shows_nothing_open(
    rest: VenueRest, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """The service starts again while a shard is paused. Its venue does not say so at once, or Redis has
    forgotten it: no stage ever sees the leg in its book before the venue says that it trades again."""
    monkeypatch.setattr(discovery, "PAUSE_S", 0.02)
    monkeypatch.setattr(service_module, "_FIRST_ROUND_S", 60)
    rest.exchange = {"status": status(True, False), "schedule": {"schedule": SCHEDULE}}
    markets = [kalshi_market("KXFED-1-A"), kalshi_market("KXFED-1-B", exchange_index=1)]
    rest.kalshi["KXFED-1"] = kalshi_event("KXFED-1", markets)
    rest.series["KXFED"] = {}
    (tmp_path / "mappings").mkdir()
    settings = Settings(
        mappings=str(tmp_path / "mappings"), events_http_port=0, event_slug=("kalshi:KXFED-1",)
    )
    async with followed(settings, redis_url, {"kalshi": KalshiCatalogue(rest.urls)}) as (first, until):
        await until(lambda t: suspended(t) == {"KXFED-1-A": None, "KXFED-1-B": "maintenance"})
        await first.settled()
    bus = LocalBus()
    stage = MappingSource(redis_url, bus, poll_s=0.02)
    slow = KalshiCatalogue(rest.urls)
    ask = slow.pause

    async def later() -> Pause | None:
        # The answer comes when everything else is known for long.
        await asyncio.sleep(0.3)
        return await ask()

    monkeypatch.setattr(slow, "pause", later)
    tables = [await stage.start()]
    stage.on_change(tables.append)
    redis = connect(redis_url)
    if memory == "lost":
        assert await redis.delete("mapping:paused") == 1
    else:
        rest.exchange["status"] = None
    async with followed(settings, redis_url, {"kalshi": slow}, bus) as (second, until):
        await second.settled()
        monkeypatch.setattr(slow, "pause", ask)
        seen = rest.hits["status"]
        async with asyncio.timeout(10):
            while rest.hits["status"] < seen + 3:
                await asyncio.sleep(0.01)
        # Another version, to see what would be in it.
        rest.kalshi["KXFED-1"] = kalshi_event("KXFED-1", [*markets, kalshi_market("KXFED-1-C")])
        await second.track(("kalshi", "KXFED-1"))
        await until(lambda t: len(suspended(t)) == 3)
        assert await redis.hlen("mapping:paused") == 1
        assert {suspended(table)["KXFED-1-B"] for table in tables} == {"maintenance"}
        rest.exchange["status"] = status(True, True)
        await until(lambda t: set(suspended(t).values()) == {None})
        await second.settled()
        assert await redis.exists("mapping:paused") == 0
    await stage.stop()
    await redis.aclose()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b"{}",
        b'{"part":"ab","until_us":"soon"}',
        b'{"part":["a",[1]],"until_us":null}',
        b'{"part":["a"],"until_us":null}',
        b'{"part":null,"until_us":null,"x":"' + b"y" * 70_000 + b'"}',
    ],
)
async def test_a_stored_pause_that_cannot_be_read(redis_url: str, stored: bytes) -> None:
    """It is left out, the others are read; over another type the next pause is written."""
    redis = connect(redis_url)
    whole, part = Pause(None, None), Pause(("shard", frozenset({"1", "2"})), 7)
    await save_pauses(redis, {"kalshi": part, "polymarket": whole, "other": None})
    assert await load_pauses(redis) == {"kalshi": part, "polymarket": whole}
    await redis.hset("mapping:paused", "kalshi", stored)
    assert await load_pauses(redis) == {"polymarket": whole}
    await redis.delete("mapping:paused")
    await redis.rpush("mapping:paused", "word")
    assert await load_pauses(redis) == {}
    await save_pauses(redis, {"kalshi": part})
    assert await load_pauses(redis) == {"kalshi": part}
    await redis.aclose()


async def test_a_fault_of_the_question_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the venue trades is asked again and again: no answer, or a fault of ours over one, leaves what
    was known, and what could not be taken is taken the next time; another end of a pause is no news."""
    monkeypatch.setattr(discovery, "PAUSE_S", 0.0)
    listing = Listing()
    listing.answers = {"A": listed("A")}
    first = Pause(None, 1)
    listing.pauses = [
        CatalogueError("503"),
        first,
        first,
        KeyError("ours"),
        Pause(None, 2),
        CatalogueError("503"),
        None,
    ]
    told: list[Pause | None] = []
    faults = [ZeroDivisionError("a fault in taking it")]

    def take() -> None:
        if faults:
            raise faults.pop()
        told.append(watched.pause)

    watched = Discovery(listing, 60, lambda _: None, paused=take)
    watched.follow("A")
    async with running(watched), asyncio.timeout(10):
        while None not in told:
            await asyncio.sleep(0)
    assert told == [first, None]


async def test_the_simulated_exchange_pauses_and_resumes(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator's engine only cancels while connections live: every leg of that venue is kept out for
    `maintenance`, and is back when it goes on. A maintenance that ends at a known time says when."""
    monkeypatch.setattr(discovery, "PAUSE_S", 0.02)
    sims = Simulators(SimSettings(sim_seed=1))
    await sims.start()
    async with httpx2.AsyncClient() as http:
        for name, value in sims.env().items():
            monkeypatch.setenv(name, value)
        catalogue = VENUES["kalshi"].catalogue(VENUES["kalshi"].settings())
        slug = next(
            leg["event"] for pair in sims.pairs for leg in pair["legs"] if leg["platform"] == "kalshi"
        )
        (tmp_path / "mappings").mkdir()
        settings = Settings(
            mappings=str(tmp_path / "mappings"), events_http_port=0, event_slug=(f"kalshi:{slug}",)
        )
        faults = f"{sims.control_url()}/faults"
        async with followed(settings, redis_url, {"kalshi": catalogue}) as (service, until):
            await until(lambda t: set(suspended(t).values()) == {None})
            await http.post(faults, json=[{"kind": "pause", "venue": "kalshi", "seconds": 3600}])
            await until(lambda t: set(suspended(t).values()) == {"maintenance"})
            await http.delete(faults)
            await until(lambda t: set(suspended(t).values()) == {None})
            await http.post(faults, json=[{"kind": "maintenance", "venue": "kalshi", "seconds": 3600}])
            await until(lambda t: set(suspended(t).values()) == {"maintenance"})
            pause = service.discoveries["kalshi"].pause
            assert pause is not None
            assert pause.until_us is not None
            assert 3_500_000_000 < pause.until_us - service.clock.now_us() <= 3_600_000_000
    await sims.stop()
