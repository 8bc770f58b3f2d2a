"""Markets come and go by the hundred thousand on one connection: nothing of those that went is kept."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import pytest

from normalizer.feed import Feed, table
from venues.kal import delta, snapshot
from venues.kal import raw as kal_raw
from venues.poly import Book, raw
from wup.model import Instrument
from wup.venues.following import Dropped
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.polymarket.normalise import PolymarketNormaliser

MARKETS = 400


def held(value: object, seen: set[int]) -> int:
    """How many objects hang on `value`."""
    if id(value) in seen or isinstance(value, type(sys) | type | str | bytes | int | float | bool | None):
        return 0
    seen.add(id(value))
    count = 1
    if isinstance(value, dict):
        count += sum(held(key, seen) + held(item, seen) for key, item in list(value.items()))
        return count + len(value)
    if isinstance(value, list | tuple | set | frozenset):
        return count + len(value) + sum(held(item, seen) for item in value)
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    fields = [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in names)]
    return count + sum(held(item, seen) for item in fields)


def polymarket(number: int, instruments: dict[str, Instrument], normaliser: Any) -> None:
    """One market's life: followed, a book, a loss, repaired, changed, not followed any more."""
    asset, market = str(10**70 + number), f"0x{number:064x}"
    instruments[asset] = Instrument("polymarket", asset, market, {})
    told = {"operation": "subscribe", "assets_ids": [asset]}
    normaliser.sent(orjson.dumps(told), number)
    item = {**Book({"0.3": "1"}, {"0.6": "2"}).book(), "asset_id": asset, "market": market}
    del item["hash"]
    normaliser.frame(raw([item]), number)
    normaliser.doubt([asset], "gap", number)
    normaliser.sent(orjson.dumps({**told, "operation": "unsubscribe"}), number)
    normaliser.sent(orjson.dumps(told), number)
    normaliser.frame(raw([item]), number)
    assert normaliser.book(asset) is not None
    del instruments[asset]
    normaliser.sent(orjson.dumps({**told, "operation": "unsubscribe"}), number)
    assert normaliser.frame(raw([item]), number) == []


def kalshi(number: int, instruments: dict[str, Instrument], normaliser: Any) -> None:
    """The same at the other venue."""
    ticker = f"KXA-{number}-B"
    instruments[ticker] = Instrument("kalshi", ticker, ticker, {})
    told = {
        "cmd": "update_subscription",
        "params": {"action": "add_markets", "sids": [1], "market_tickers": [ticker]},
    }
    normaliser.sent(orjson.dumps(told), number)
    normaliser.frame(snapshot(ticker, 4 * number + 1, [["0.4000", "5.00"]]), number)
    normaliser.doubt([ticker], "gap", number)
    normaliser.frame(snapshot(ticker, 4 * number + 2, [["0.4000", "5.00"]]), number)
    normaliser.frame(delta(ticker, 4 * number + 3, "yes", "0.4000", "1.00"), number)
    assert normaliser.book(ticker) is not None
    del instruments[ticker]
    told["params"] = {"action": "delete_markets", "sids": [1], "market_tickers": [ticker]}
    normaliser.sent(orjson.dumps(told), number)
    assert normaliser.frame(snapshot(ticker, 4 * number + 4), number) == []


@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
def test_what_a_market_left_behind_does_not_grow(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many markets were followed on a connection, it holds what it held after the first ones; what
    its checks counted goes on."""
    monkeypatch.setattr(Dropped, "KEPT", 50)
    instruments: dict[str, Instrument] = {}
    kind, live = (KalshiNormaliser, kalshi) if platform == "kalshi" else (PolymarketNormaliser, polymarket)
    normaliser: Any = kind({}, instruments)
    sizes = []
    for number in range(MARKETS):
        live(number, instruments, normaliser)
        if number in (100, MARKETS - 1):
            sizes.append(held(normaliser, set()))
    assert sizes[1] <= sizes[0] + 5
    if platform == "polymarket":
        assert normaliser.checks["unknown"] == 2 * MARKETS


BATCH = 200
ORDERS = 5


class Venue:
    """One connection's records about a market of either venue."""

    def __init__(self, platform: str, feed: Feed) -> None:
        self.platform, self.feed = platform, feed
        self.seq = 0

    def names(self, number: int) -> tuple[str, str]:
        """Asset and market."""
        if self.platform == "kalshi":
            return f"KXA-{number}-B", f"KXA-{number}-B"
        return str(10**70 + number), f"0x{number:064x}"

    def told(self, *numbers: int, subscribe: bool) -> None:
        """We subscribed, or unsubscribed."""
        assets = [self.names(number)[0] for number in numbers]
        frame: dict[str, Any]
        if self.platform == "kalshi":
            action = "add_markets" if subscribe else "delete_markets"
            params = {"action": action, "sids": [1], "market_tickers": assets}
            frame = {"cmd": "update_subscription", "params": params}
        else:
            frame = {"operation": "subscribe" if subscribe else "unsubscribe", "assets_ids": assets}
        self.feed.record("sent", self.platform, "c1", frame)

    def frame(self, make: Any) -> None:
        """The next frame, which `make` makes with its place in the sequence."""
        self.seq += 1
        self.feed.frame(self.platform, make(self.seq))

    def book(self, number: int) -> None:
        """A whole book."""
        asset, market = self.names(number)
        if self.platform == "kalshi":
            self.frame(lambda seq: snapshot(asset, seq, [["0.4000", "5.00"]]))
            return
        item = {**Book({"0.3": "1"}, {"0.6": "2"}).book(), "asset_id": asset, "market": market}
        del item["hash"]
        self.frame(lambda seq: raw([item]))

    def end(self, number: int) -> None:
        """The market is over."""
        asset, market = self.names(number)
        if self.platform == "kalshi":
            message = {"market_ticker": asset, "event_type": "determined", "result": "yes"}
            self.feed.frame("kalshi", kal_raw({"type": "market_lifecycle_v2", "sid": 3, "msg": message}))
            return
        names = {"market": market, "assets_ids": [asset], "winning_asset_id": asset}
        self.frame(lambda seq: raw({"event_type": "market_resolved", "timestamp": "1", **names}))

    def doubt(self, number: int) -> None:
        """A loss that was told of it."""
        fields = {"asset": self.names(number)[0], "state": "resync", "why": "gap"}
        self.feed.record("verdict", self.platform, "c1", fields)


@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
def test_whatever_the_order_in_which_markets_leave_nothing_grows(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 markets that end, are doubted, are unsubscribed before or after the mapping drops them, or send
    a last frame in between: a connection keeps no more of them than after the first thousand."""
    monkeypatch.setattr(Dropped, "KEPT", 50)
    feed = Feed()
    feed.open(platform, use_yes_price=False)
    venue = Venue(platform, feed)
    (connection,) = feed.engine._connections.values()
    sizes = []
    for first in range(0, 10_000, BATCH):
        batch = range(first, first + BATCH)
        of = [[number for number in batch if number % ORDERS == order] for order in range(ORDERS)]
        rows = {number: (platform, *venue.names(number)) for number in batch}
        feed.now_us += 1_000_000
        venue.told(*of[4], subscribe=True)
        feed.engine.set_table(table(*rows.values(), version=3 * first + 1))
        venue.told(*(number for order in of[:4] for number in order), subscribe=True)
        for number in batch:
            venue.book(number)
        assert len(connection.live) >= BATCH
        venue.told(*of[0], subscribe=False)
        for number in of[1]:
            venue.end(number)
        for number in of[2]:
            venue.doubt(number)
        stay = [row for number, row in rows.items() if number in of[4]]
        feed.engine.set_table(table(*stay, version=3 * first + 2))
        venue.book(of[3][0])
        for number in of[3]:
            venue.book(number)
        venue.told(*(number for order in of[1:] for number in order), subscribe=False)
        feed.engine.set_table(table(version=3 * first + 3))
        feed.engine.timer(feed.now_us)
        sizes.append(
            (
                held(connection.normaliser, set()),
                len(connection.live),
                len(connection.doubted),
                len(connection.told),
            )
        )
    early, late = sizes[:5], sizes[5:]
    for what in range(4):
        assert max(size[what] for size in late) <= max(size[what] for size in early) + BATCH, what
