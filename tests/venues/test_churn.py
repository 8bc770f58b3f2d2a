"""Markets come and go by the hundred thousand on one connection: nothing of those that went is kept."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import pytest

from venues.kal import delta, snapshot
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
