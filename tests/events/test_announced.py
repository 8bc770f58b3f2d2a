"""A market that a venue's stream announces is found at once, and not at the next refresh."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from events.test_discovery import Listing, listed
from events.test_pause import followed, suspended
from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market, token
from normalizer.feed import Feed
from normalizer.test_service import Publisher
from venues.kal import A, snapshot, subscribed
from venues.kal import raw as kal_raw
from venues.poly import Book
from venues.poly import raw as poly_raw
from wup.bus import LocalBus
from wup.clock import ManualClock
from wup.config import Settings
from wup.events import discovery
from wup.events.discovery import Discovery
from wup.metrics import BAD_INPUT, MARKETS_LISTED
from wup.normalizer.service import NormalizerService
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.polymarket.catalog import PolymarketCatalogue


def created(ticker: str, event: object, seq: int) -> bytes:
    """Kalshi's lifecycle frame of a new market (venue notes, section 3.5)."""
    message = {
        "market_ticker": ticker,
        "event_type": "created",
        "open_ts": 1790363638,
        "close_ts": 1790367238,
        "additional_metadata": {"name": "A", "title": "t", "event_ticker": event},
    }
    return kal_raw({"type": "market_lifecycle_v2", "sid": 4, "seq": seq, "msg": message})


def new_market(number: int, event: object) -> bytes:
    """Polymarket's announcement (venue notes, section 1.6)."""
    return poly_raw(
        {
            "id": str(number),
            "question": "?",
            "market": f"0x{number:064x}",
            "slug": "outcome",
            "assets_ids": [token(2 * number), token(2 * number + 1)],
            "outcomes": ["Yes", "No"],
            "event_message": {"id": "1", "ticker": event, "slug": event, "title": "t"},
            "timestamp": "1766790415550",
            "event_type": "new_market",
        }
    )


def count(platform: str) -> float:
    """Announcements counted so far."""
    return MARKETS_LISTED.labels(platform)._value.get()


async def test_an_announced_market_is_followed_at_once(
    rest: VenueRest, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both venues announce a market of a followed event: its event is asked for soon, an hour before its
    refresh, and the market is in the mapping; so is another tick. Others are counted, no more."""
    monkeypatch.setattr(discovery, "SOON_S", (0.01, 0.1))
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    rest.kalshi["KXFED-1"] = kalshi_event("KXFED-1", [kalshi_market("KXFED-1-A")])
    rest.series["KXFED"] = {}
    (tmp_path / "mappings").mkdir()
    settings = Settings(
        mappings=str(tmp_path / "mappings"),
        events_http_port=0,
        event_slug=("fed", "kalshi:KXFED-1"),
        refresh_interval_secs=3600,
    )
    catalogues: dict[str, Any] = {
        "kalshi": KalshiCatalogue(rest.urls),
        "polymarket": PolymarketCatalogue(rest.urls),
    }
    bus, clock = LocalBus(), ManualClock()
    normalizer = NormalizerService(bus, clock, "n1")
    kalshi, polymarket = Publisher(bus, clock), Publisher(bus, clock, "polymarket")
    async with followed(settings, redis_url, catalogues, bus) as (_, until):
        await until(lambda t: suspended(t).keys() == {"KXFED-1-A", token(2)})
        await normalizer.start()
        try:
            before = count("kalshi"), count("polymarket")
            asked = rest.hits["kalshi"], rest.hits["gamma"]
            for venue in (kalshi, polymarket):
                venue.say("open", b"{}")
            kalshi.say("frame", created("KXOTHER-1-A", "KXOTHER-1", 1))
            kalshi.say("frame", created("KXODD", 7, 2))
            polymarket.say("frame", new_market(8, "another"))
            polymarket.say("frame", new_market(9, None))
            normalizer.mark()
            assert (count("kalshi"), count("polymarket")) == (before[0] + 2, before[1] + 2)
            rest.kalshi["KXFED-1"] = kalshi_event(
                "KXFED-1", [kalshi_market("KXFED-1-A"), kalshi_market("KXFED-1-B")]
            )
            rest.gamma["fed"] = gamma_event("fed", [gamma_market(1), gamma_market(2)])
            assert (rest.hits["kalshi"], rest.hits["gamma"]) == asked
            kalshi.say("frame", created("KXFED-1-B", "KXFED-1", 3))
            polymarket.say("frame", new_market(2, "fed"))
            normalizer.mark()
            table = await until(
                lambda t: suspended(t).keys() == {"KXFED-1-A", "KXFED-1-B", token(2), token(4)}
            )
            async with asyncio.timeout(10):
                while rest.hits["gamma"] < asked[1] + 2:
                    await asyncio.sleep(0.01)
            rest.gamma["fed"] = gamma_event(
                "fed", [gamma_market(1, orderPriceMinTickSize=0.0001), gamma_market(2)]
            )
            normalizer.set_table(table)
            book = Book({"0.3": "1"}, {"0.6": "2"}).book()
            polymarket.say("frame", poly_raw([{**book, "asset_id": token(2), "market": f"0x{1:064x}"}]))
            change = {"event_type": "tick_size_change", "asset_id": token(2), "new_tick_size": "0.0001"}
            polymarket.say("frame", poly_raw(change))
            normalizer.mark()
            await until(lambda t: {leg.tick for leg in t.legs if leg.asset_id == token(2)} == {"0.0001"})
        finally:
            await normalizer.stop()


async def test_the_normalizer_tells_each_event_once_a_second() -> None:
    """However many connections bring an announcement and however many markets an event gets, one message a
    venue goes out with the next marks; none when nothing was announced. (A connection that opened goes out
    beside it.)"""
    bus, clock = LocalBus(), ManualClock()
    said: list[tuple[str, Any]] = []
    await bus.subscribe("control.discover.*", lambda m: said.append((m.subject, orjson.loads(m.payload))))
    normalizer = NormalizerService(bus, clock, "n1")
    await normalizer.start()
    venue = Publisher(bus, clock)
    venue.say("open", b"{}")
    for seq, (ticker, event) in enumerate(
        [("KXB-1-A", "KXB-1"), ("KXA-1-A", "KXA-1"), ("KXB-1-B", "KXB-1")], 1
    ):
        venue.say("frame", created(ticker, event, seq))
    normalizer.mark()
    normalizer.mark()
    await normalizer.stop()
    assert said == [
        ("control.discover.kalshi", {"events": ["KXA-1", "KXB-1"]}),
        ("control.discover.kalshi", {"assets": "all"}),
    ]


async def test_an_announcement_is_looked_for_twice() -> None:
    """The venue's REST may know a market later than its stream, and may answer from a cache: the event is
    asked for soon, and once more; then as always. What is not followed is not asked for."""
    clock = ManualClock()
    listing = Listing()
    listing.answers = {"A": listed("A"), "B": listed("B")}
    watched = Discovery(listing, 60, lambda _: None, clock)
    watched.follow(["A", "B"])

    async def at(seconds: float) -> list[str]:
        clock.advance(seconds)
        listing.asked.clear()
        for slug in [slug for slug, due in watched._due.items() if due <= clock.monotonic()]:
            await watched._one(slug)
        return listing.asked

    assert await at(0) == ["A", "B"]
    assert not watched.announced("C")
    assert watched.announced("A")
    assert [list(await at(seconds)) for seconds in (1.9, 0.1, 17.9, 0.1, 39.0, 1.0, 20.0)] == [
        [],
        ["A"],
        [],
        ["A"],
        [],
        ["B"],
        ["A"],
    ]


async def test_an_announcement_that_cannot_be_read_is_counted(
    rest: VenueRest, redis_url: str, tmp_path: Path
) -> None:
    """Whatever comes on the subject, the service goes on."""
    (tmp_path / "mappings").mkdir()
    settings = Settings(mappings=str(tmp_path / "mappings"), events_http_port=0, event_slug=("fed",))
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    bus = LocalBus()

    def bad() -> float:
        return sum(
            BAD_INPUT.labels("events", platform, "bad_announcement")._value.get()
            for platform in ("polymarket", "nobody")
        )

    async with followed(settings, redis_url, {"polymarket": PolymarketCatalogue(rest.urls)}, bus) as (
        service,
        until,
    ):
        await until(lambda t: bool(t.legs))
        before = bad()
        for payload in (
            b"{",
            b"[]",
            b"7",
            b'{"events":7}',
            b'{"events":[{"a":1},"nobody"]}',
            b'{"assets":1}',
        ):
            bus.publish("control.discover.polymarket", payload)
        bus.publish("control.discover.nobody", b'{"events":["A"]}')
        assert bad() == before + 6
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as http:
            assert (await http.get("/v1/events")).status_code == 200


def test_nothing_of_an_announcement_touches_a_book() -> None:
    """A market announced in the middle of a stream changes no leg."""
    feed = Feed(("kalshi", A, A))
    feed.open("kalshi")
    feed.frame("kalshi", subscribed(1, "orderbook_delta"))
    feed.frame("kalshi", subscribed(4, "market_lifecycle_v2", 3))
    feed.frame("kalshi", snapshot(A, 1, [["0.4000", "5.00"]]))
    feed.frame("kalshi", created(A, "KXFED-26DEC", 1))
    assert feed.reader.state == {A: "live"}
    assert feed.bad == []
