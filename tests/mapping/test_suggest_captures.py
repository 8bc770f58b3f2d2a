"""What both venues really listed: events that are not one are not even proposed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from events.venue_rest import in_thread
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.file import NO_FILES
from wup.mapping.suggest import suggest
from wup.venues.identities import GAMES
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.polymarket.catalog import PolymarketCatalogue

PLATFORMS = ("kalshi", "polymarket")


async def test_captured_catalogues_have_nothing_in_common(captures: Path) -> None:
    """Over 259 baseball props of Kalshi and 9 Fed outcomes of Polymarket, in the venues' own words,
    nothing is proposed."""
    baseball = json.loads((captures / "kalshi/events_mlb_props_nested.json").read_text())
    fed = json.loads((captures / "polymarket/gamma-event.json").read_text())
    search = json.loads((captures / "polymarket/gamma-search.json").read_text())["events"]
    with in_thread() as rest:
        for event in (event for events in baseball["events_by_series"].values() for event in events):
            rest.kalshi[event["event_ticker"]] = event
        for event in (fed, *search):
            rest.gamma[event["slug"]] = event
        listed: list[VenueEventRecord] = []
        for catalogue in (KalshiCatalogue(rest.urls), PolymarketCatalogue(rest.urls)):
            listed += [event async for event in catalogue.events()]
            await catalogue.close()
    counts = {name: sum(len(e.markets) for e in listed if e.platform == name) for name in PLATFORMS}
    assert counts == {"kalshi": 259, "polymarket": 9}
    assert suggest(listed, NO_FILES, GAMES, PLATFORMS, at=datetime(2026, 6, 1, tzinfo=UTC)) == []
