"""A normalizer that cannot know whether a market trades has its catalogue asked."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from events.test_discovery import Listing, listed
from events.test_service import Start, follow, redis, rest, start
from events.venue_rest import VenueRest, kalshi_event, kalshi_market
from wup import subjects
from wup.bus import LocalBus
from wup.clock import ManualClock
from wup.events.discovery import Discovery
from wup.mapping.table import MappingTable

__all__ = ["follow", "redis", "rest", "start"]


def halted(table: MappingTable) -> list[str]:
    """Assets that the mapping keeps out because the venue lists them as halted."""
    return [leg.asset_id for leg in table.legs if leg.suspended == "halted"]


async def test_doubt_that_goes_on_asks_no_more_often() -> None:
    """All events are asked for soon and once more, however often that is said meanwhile: a venue whose
    connections come and go is not asked all the time. What is known to have changed is asked for anew."""
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
        return listing.asked.copy()

    assert await at(0) == ["A", "B"]
    asked: list[str] = []
    for _ in range(20):
        watched.doubted()
        asked += await at(1)
    assert sorted(asked) == ["A", "A", "B", "B"]
    watched.doubted(["A", "C"])
    assert await at(2) == ["A"]
    watched.doubted(["A"])
    assert await at(2) == ["A"]
    assert await at(18) == ["A"]
    assert await at(37) == []


@pytest.mark.parametrize("assets", ["all", ["KXFED-26DEC-C25", "SOMEBODY-ELSES"]])
async def test_a_halt_is_listed_when_it_is_asked_for(
    start: Start,
    follow: object,
    rest: VenueRest,
    assets: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event of a market in doubt is asked for soon, and not in the next round; others ask for nothing."""
    monkeypatch.setattr("wup.events.discovery.SOON_S", (0.0, 3600.0))
    bus = LocalBus()
    await start(bus, event_slug=("kalshi:KXFED-26DEC",), refresh_interval_secs=3600)
    assert callable(follow)
    follower = await follow(bus)
    await follower.until(lambda table: len(table.legs) == 2 and not halted(table))
    rest.kalshi["KXFED-26DEC"] = kalshi_event(
        "KXFED-26DEC",
        [kalshi_market("KXFED-26DEC-C25", status="inactive"), kalshi_market("KXFED-26DEC-H0")],
    )
    bus.publish(subjects.discover("kalshi"), b'{"assets":["SOMEBODY-ELSES"]}')
    await asyncio.sleep(0.2)
    assert halted(follower.source.table) == []
    bus.publish(subjects.discover("kalshi"), orjson.dumps({"assets": assets}))
    await follower.until(lambda table: halted(table) == ["KXFED-26DEC-C25"])
