"""Books and frames of every size that a venue may send, exact from the frame to the normalised message."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import Decimal

import pytest

from normalizer.feed import Feed, Reader, table
from venues.kal import A, delta, snapshot
from venues.poly import MARKET, YES, Book
from venues.poly import raw as poly_raw
from venues.twin import twins
from wup import subjects
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message
from wup.clock import SystemClock
from wup.config import load
from wup.normalizer.service import NormalizerService
from wup.sim.faults import Fault
from wup.sim.service import SimSettings, Simulators
from wup.venues.registry import VENUES

SIZES = {
    "empty": (0, 0),
    "bids only": (40, 0),
    "asks only": (0, 40),
    "999 levels": (500, 499),
    "9,999 levels": (5_000, 4_999),
}


def ladders(bids: int, asks: int) -> tuple[dict[int, str], dict[int, str]]:
    """Sizes by price in ten-thousandths: levels without gaps, best prices next to each other."""
    best = 5_000
    return (
        {best - place: f"{place + 1}.25" for place in range(bids)},
        {best + 1 + place: f"{place + 1}.5" for place in range(asks)},
    )


def shown(ladder: dict[int, str]) -> dict[str, str]:
    """As the normalised message has it."""
    return {f"0.{price:04d}".rstrip("0"): size for price, size in ladder.items()}


@pytest.mark.parametrize("size", SIZES)
def test_kalshi_books_of_every_size(size: str) -> None:
    """One-sided, empty, 999 and 9,999 levels: the snapshot message is the book, and so it is after a change
    at either end of what there can be; both decoders read it alike."""
    bids, asks = ladders(*SIZES[size])
    feed = Feed(("kalshi", A, A), venues={"kalshi": twins("kalshi", Counter())})
    feed.open("kalshi", use_yes_price=True)
    yes, no = ([[f"0.{price:04d}", count] for price, count in side.items()] for side in (bids, asks))
    feed.frame("kalshi", snapshot(A, 1, yes or None, no or None))
    assert feed.reader.state[A] == "live"
    assert feed.reader.books[A] == (shown(bids), shown(asks))
    feed.frame("kalshi", delta(A, 2, "yes", "0.0001", "2.25"))
    feed.frame("kalshi", delta(A, 3, "no", "0.9999", "0.50"))
    bids[1] = format((Decimal(bids.get(1, "0")) + Decimal("2.25")).normalize(), "f")
    asks[9_999] = format((Decimal(asks.get(9_999, "0")) + Decimal("0.5")).normalize(), "f")
    assert feed.reader.books[A] == (shown(bids), shown(asks))
    assert feed.bad == []


@pytest.mark.parametrize("size", SIZES)
def test_polymarket_books_of_every_size(size: str) -> None:
    """The same, with the hash of the whole book verified on the first frame and after a change."""
    bids, asks = ladders(*SIZES[size])
    book = Book(shown(bids), shown(asks), tick="0.0001")
    read: Counter[str] = Counter()
    feed = Feed(("polymarket", YES, MARKET), venues={"polymarket": twins("polymarket", read)})
    feed.open("polymarket")
    feed.frame("polymarket", poly_raw([book.book()]))
    assert feed.reader.state[YES] == "live"
    assert feed.reader.books[YES] == (shown(bids), shown(asks))
    feed.frame("polymarket", poly_raw(book.move(("BUY", "0.0001", "77.125"))))
    feed.frame("polymarket", poly_raw(book.move(("SELL", "0.9999", "0.000001"))))
    assert feed.reader.books[YES] == (book.bids, book.asks)
    assert feed.engine.checks() == {
        ("polymarket", "match"): 3,
        ("polymarket", "mismatch"): 0,
        ("polymarket", "unknown"): 0,
    }
    assert read["native"] == 3
    assert feed.bad == []


@pytest.mark.timeout(180)
async def test_a_first_frame_of_two_megabytes_and_500_assets_over_several_connections() -> None:
    """Over 500 markets of each venue in books of 600 levels, over real sockets: on as many connections as the
    venues' limits ask for, with a first frame of more than 2 MB, every leg is live with the true book."""
    simulators = Simulators(SimSettings(sim_extra_events=124, sim_depth=600, sim_rate=20))
    await simulators.start()
    bus, clock, reader, news = LocalBus(), SystemClock(), Reader(), asyncio.Event()
    largest: Counter[str] = Counter()
    carried: dict[str, dict[str, set[str]]] = {"kalshi": {}, "polymarket": {}}

    def raw(message: Message) -> None:
        platform = message.subject.split(".")[1]
        largest[platform] = max(largest[platform], len(message.payload))

    def take(message: Message) -> None:
        reader.take(message.subject, message.payload)
        reader.messages.clear()
        news.set()

    await bus.subscribe(subjects.RAW_ALL, raw)
    await bus.subscribe(subjects.NORMALIZED_ALL, take)
    assets = {
        market.listing.assets[0]: (name, market.listing.market_id)
        for name, exchange in simulators.exchanges.items()
        for market in exchange.markets.values()
    }
    mapping = table(*((name, asset, market) for asset, (name, market) in assets.items()))
    overrides = {name.lower(): value for name, value in simulators.env().items()}
    venues = {}
    for name, venue in VENUES.items():
        own = {key: value for key, value in overrides.items() if key in venue.settings.model_fields}
        venues[name] = (venue, load(venue.settings, **own))
    normalizer = NormalizerService(bus, clock, "n", table=mapping)
    aggregator = Aggregator(bus, venues, clock, random.Random(1))
    await normalizer.start()
    await aggregator.start()
    try:
        await aggregator.set_table(mapping)
        async with asyncio.timeout(120):
            while any(reader.state.get(asset) != "live" for asset in assets):
                news.clear()
                await news.wait()
            simulators.fault(Fault(kind="restart", seconds=600))

            def different() -> list[str]:
                return [
                    asset
                    for asset, (name, _) in assets.items()
                    if reader.books[asset] != truth(simulators, name, asset)
                ]

            while different():
                news.clear()
                await news.wait()
        for name, exchange in simulators.exchanges.items():
            carried[name] = {connection.name: set() for connection in exchange.connections.values()}
    finally:
        await aggregator.stop()
        await normalizer.stop()
        await simulators.stop()
    count = Counter(name for name, _ in assets.values())
    assert min(count.values()) >= 500
    for name, venue in VENUES.items():
        assert len(carried[name]) == -(-count[name] // venue.limits.assets_per_connection)
        assert len(carried[name]) > 1
    assert largest["polymarket"] > 2_000_000
    assert reader.state.keys() == assets.keys()


def truth(simulators: Simulators, platform: str, asset: str) -> tuple[dict[str, str], dict[str, str]]:
    """The simulator's book in the reader's form."""
    book = simulators.truth(platform, asset)
    assert book is not None
    return dict(map(tuple, book["bids"])), dict(map(tuple, book["asks"]))  # type: ignore[arg-type]
