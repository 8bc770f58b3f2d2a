"""The fault menu: each fault does what its name says, once, and says so."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from sim.naive import KalshiReader
from wup.sim.exchange import Act, Exchange
from wup.sim.faults import Fault
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.sim.pump import advance
from wup.sim.world import KALSHI, POLYMARKET

START = 1_795_353_600_000_000
SECOND = 1_000_000


class Wire:
    """One venue on a virtual clock with one client that follows everything."""

    def __init__(self, venue: str, seed: int = 2, rate: float = 600) -> None:
        self.model = MarketModel(build_world(), seed=seed, start_us=START, rate=rate)
        self.exchange: Exchange = (
            KalshiExchange(self.model, seed=seed, jitter_us=0)
            if venue == KALSHI
            else PolymarketExchange(self.model, seed=seed, trade_delay_us=0, idle_us=0)
        )
        self.out: list[Any] = []
        self.exchange.attach(lambda _, items: self.out.extend(items))
        self.now_us = START
        self.connection = self.exchange.connect(START)
        names = list(self.exchange.markets)
        if venue == KALSHI:
            channels = ["orderbook_delta", "trade", "market_lifecycle_v2"]
            wish = [
                {"id": 1, "cmd": "subscribe", "params": {"channels": channels[:2], "market_tickers": names}},
                {"id": 2, "cmd": "subscribe", "params": {"channels": channels[2:]}},
            ]
        else:
            tokens = [market.listing.assets[0] for market in self.exchange.markets.values()]
            wish = [{"type": "market", "assets_ids": tokens, "custom_feature_enabled": True}]
        for one in wish:
            self.out += self.connection.client_frame(json.dumps(one), START)
        self.run(0.1)

    def run(self, seconds: float) -> list[Any]:
        """What came in this time."""
        before = len(self.out)
        self.now_us += round(seconds * SECOND)
        advance(self.model, {self.exchange.platform: self.exchange}, self.now_us)
        return self.out[before:]

    def fault(self, kind: str, **more: Any) -> None:
        self.exchange.fault(Fault(kind=kind, **more), self.now_us)  # type: ignore[arg-type]

    def market(self) -> Any:
        return next(iter(self.exchange.markets.values()))


def parsed(items: list[Any]) -> list[dict[str, Any]]:
    found = []
    for item in items:
        if isinstance(item, str) and item[:1] in "[{":
            message = json.loads(item)
            found += message if isinstance(message, list) else [message]
    return found


def seqs(items: list[Any], sid: int = 1) -> list[int]:
    return [m["seq"] for m in parsed(items) if m.get("sid") == sid and "seq" in m]


def holes(numbers: list[int]) -> int:
    return sum(b != a + 1 for a, b in pairwise(numbers))


def test_kalshi_numbers() -> None:
    """Drop and skip leave a hole, duplicate and repeat show a number twice, reset begins at 1 again."""
    for kind, check in (
        ("drop", lambda n: holes(n) == 1 and len(set(n)) == len(n)),
        ("skip_seq", lambda n: holes(n) == 1 and len(set(n)) == len(n)),
        ("duplicate", lambda n: len(n) - len(set(n)) == 1),
        ("repeat_seq", lambda n: len(n) - len(set(n)) == 1 and n[-1] == len(n)),
        ("reorder", lambda n: n != sorted(n) and holes(sorted(n)) == 0),
        ("reset_seq", lambda n: 1 in n),
    ):
        wire = Wire(KALSHI)
        assert holes(seqs(wire.out)) == 0
        wire.fault(kind, frames=("delta",) if kind in ("drop", "duplicate", "reorder") else ())
        wire.run(1)
        numbers = seqs(wire.out)
        assert check(numbers), (kind, numbers[:20])
        assert holes(seqs(wire.run(1))) == 0, kind
        assert [done.kind for done in wire.exchange.menu.done] == [kind]


def test_kalshi_early_delta() -> None:
    """Changes of a market can come before its first book."""
    model = MarketModel(build_world(), seed=1, start_us=START, rate=5_000)
    for early in (False, True):
        exchange = KalshiExchange(model, seed=2)
        out: list[str] = []
        exchange.attach(lambda _, items, out=out: out.extend(items))
        if early:
            exchange.fault(Fault(kind="early_delta"), START)
        # The start-up order with late books leaves room for changes before them.
        connection = exchange.connect(START)
        connection._book_delay_us = 20_000  # type: ignore[attr-defined]
        params = {"channels": ["orderbook_delta"], "market_tickers": list(exchange.markets)}
        connection.client_frame(json.dumps({"id": 1, "cmd": "subscribe", "params": params}), model.next_us)
        advance(model, {KALSHI: exchange}, model.next_us + 100_000)
        booked, before = set(), 0
        for message in parsed(out):
            if message["type"] == "orderbook_snapshot":
                booked.add(message["msg"]["market_ticker"])
            elif message["type"] == "orderbook_delta":
                before += message["msg"]["market_ticker"] not in booked
        assert bool(before) is early


def test_kalshi_negative() -> None:
    """A change below zero is sent, with its own number, and nothing else is wrong."""
    wire = Wire(KALSHI)
    wire.fault("negative")
    wire.run(1)
    reader = KalshiReader(yes_price=False)
    for text in wire.out:
        reader.frame(text)
    assert reader.negative >= 1
    assert reader.gaps == []


@pytest.mark.parametrize(("kind", "code"), [("channel_error", 10), ("overflow", 25)])
def test_kalshi_terminal_errors(kind: str, code: int) -> None:
    """After the error nothing more comes on that sid, and a new subscribe gets a new one."""
    wire = Wire(KALSHI)
    wire.fault(kind)
    got = parsed(wire.run(1))
    at = next(i for i, m in enumerate(got) if m["type"] == "error")
    assert got[at]["msg"]["code"] == code
    assert (got[at]["sid"], "seq" in got[at]) == (1, True)
    assert all(m["sid"] != 1 for m in got[at + 1 :])
    again = {
        "id": 9,
        "cmd": "subscribe",
        "params": {"channels": ["orderbook_delta"], "market_ticker": wire.market().listing.market_id},
    }
    answers = parsed(wire.connection.client_frame(json.dumps(again), wire.now_us))
    assert (answers[0]["type"], answers[0]["msg"]["sid"]) == ("subscribed", 4)


def test_kalshi_limits() -> None:
    """Error 26 above a set number of tickers, 27 for commands."""
    wire = Wire(KALSHI)
    names = list(wire.exchange.markets)
    wire.fault("market_limit", value=3)
    wish = {"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"], "market_tickers": names}}
    other = wire.exchange.connect(wire.now_us)
    assert parsed(other.client_frame(json.dumps(wish), wire.now_us))[0]["msg"]["code"] == 26
    wish["params"]["market_tickers"] = names[:3]  # type: ignore[index]
    assert parsed(other.client_frame(json.dumps(wish), wire.now_us))[0]["type"] == "subscribed"
    wire.fault("command_limit", count=1)
    assert (
        parsed(other.client_frame(json.dumps({"id": 5, "cmd": "list_subscriptions"}), wire.now_us))[0]["msg"][
            "code"
        ]
        == 27
    )


def test_kalshi_yes_price_switches() -> None:
    """The future default and the ignored flag change what a client gets; no frame shows it."""
    for kind, wanted in (("default_yes_price", {}), ("ignore_yes_price", {"use_yes_price": True})):
        wire = Wire(KALSHI)
        name = wire.market().listing.market_id

        def levels(wire: Wire = wire, name: str = name, more: dict[str, Any] = wanted) -> Any:
            wish = {
                "id": 1,
                "cmd": "subscribe",
                "params": {"channels": ["orderbook_delta"], "market_ticker": name, **more},
            }
            one = wire.exchange.connect(wire.now_us)
            out = one.client_frame(json.dumps(wish), wire.now_us) + one.poll(wire.now_us + 100_000)
            return parsed(out)[1]["msg"]["no_dollars_fp"]

        usual = levels()
        wire.fault(kind)
        assert levels() != usual


@pytest.mark.parametrize("venue", [KALSHI, POLYMARKET])
def test_silence_and_mute(venue: str) -> None:
    """Silence stops all data, mute that of one asset; both end by themselves."""
    wire = Wire(venue)
    wire.fault("silence", seconds=1)
    assert wire.run(0.9) == []
    assert parsed(wire.run(1.2))
    market = wire.market().listing
    name = market.assets[0]
    wire.fault("mute", asset=name, seconds=2)
    text = "".join(wire.run(1.9))
    assert name not in text
    assert text
    assert name in "".join(wire.run(3))


@pytest.mark.parametrize("venue", [KALSHI, POLYMARKET])
def test_broken_frames(venue: str) -> None:
    """Malformed and truncated frames cannot be read, unknown ones can; the frames around them are whole."""
    for kind in ("malformed", "truncate"):
        wire = Wire(venue)
        wire.fault(kind, count=2)
        bad = 0
        for item in wire.run(1):
            try:
                json.loads(item)
            except ValueError:
                bad += 1
        assert bad == 2, kind
    wire = Wire(venue)
    for kind in ("unknown_type", "unknown_field"):
        wire.fault(kind)
    wire.fault("huge", value=300_000)
    got = wire.run(1)
    assert sum("not_yet_known" in item for item in got) == 3
    assert sum(len(item) > 300_000 for item in got) == 1
    assert len(parsed(got)) >= len(got)


def test_polymarket_forms() -> None:
    """Objects without event_type, events mixed in one array, "" for decimals, arrays as strings."""
    wire = Wire(POLYMARKET)
    token = wire.market().listing.assets[0]
    for operation in ("unsubscribe", "subscribe"):
        if operation == "subscribe":
            wire.fault("no_event_type", count=1)
        out = wire.connection.client_frame(
            json.dumps({"operation": operation, "assets_ids": [token]}), wire.now_us
        )
    assert "event_type" not in parsed(out)[0]
    wire.fault("mixed_array", seconds=1)
    assert any(item.startswith("[") and item.count('"event_type"') > 1 for item in wire.run(1))
    wire.fault("empty_optional", seconds=1)
    assert '"fee_rate_bps":""' in "".join(wire.run(1.5))
    wire.fault("strings_for_arrays")
    wire.fault("new_market")
    (announced,) = [m for m in parsed(wire.run(0.2)) if m.get("event_type") == "new_market"]
    assert json.loads(announced["assets_ids"]) == list(wire.market().listing.assets)


def test_kalshi_announces_a_market() -> None:
    """A new market is `created`, with its event; nothing says that an existing one opens."""
    wire = Wire(KALSHI)
    wire.fault("new_market")
    (created,) = [m["msg"] for m in parsed(wire.run(0.2)) if m.get("type") == "market_lifecycle_v2"]
    assert (created["event_type"], created["market_ticker"]) == ("created", wire.market().listing.market_id)
    assert created["additional_metadata"]["event_ticker"] == wire.market().listing.event


@pytest.mark.parametrize("venue", [KALSHI, POLYMARKET])
def test_in_a_pause_books_only_shrink(venue: str) -> None:
    """Maintenance with the connections alive: orders are cancelled and none is placed or matched; after it
    trading goes on."""
    wire = Wire(venue, rate=3_000)

    def sizes() -> dict[Any, int]:
        return {
            (name, side, price): size
            for name, market in wire.exchange.markets.items()
            for side in ("bid", "ask")
            for price, size in market.book.side(side).ascending()
        }

    wire.fault("pause", seconds=1.0)
    before = sizes()
    got = wire.run(0.9)
    after = sizes()
    assert got
    assert len(after) < len(before)
    assert all(size <= before.get(level, 0) for level, size in after.items())
    wire.run(1.0)
    assert any(size > after.get(level, 0) for level, size in sizes().items())


def test_polymarket_missing_books_and_pongs() -> None:
    """First books can be missing above a number of assets, or for one asset; PING can stay unanswered."""
    wire = Wire(POLYMARKET)
    tokens = [asset for market in wire.exchange.markets.values() for asset in market.listing.assets]
    wire.fault("missing_books", value=3)
    big, small = wire.exchange.connect(wire.now_us), wire.exchange.connect(wire.now_us)
    assert big.client_frame(json.dumps({"type": "market", "assets_ids": tokens}), wire.now_us) == []
    assert parsed(small.client_frame(json.dumps({"type": "market", "assets_ids": tokens[:3]}), wire.now_us))
    wire.fault("skip_book", asset=tokens[0])
    third = wire.exchange.connect(wire.now_us)
    books = parsed(third.client_frame(json.dumps({"type": "market", "assets_ids": tokens[:2]}), wire.now_us))
    assert [book["asset_id"] for book in books] == [tokens[1]]
    wire.fault("no_pong", seconds=1)
    assert third.client_frame("PING", wire.now_us) == []
    assert third.client_frame("PING", wire.now_us + 2 * SECOND) == ["PONG"]
    wire.fault("close_on_large", value=150)
    assert third.client_frame(
        json.dumps({"operation": "subscribe", "assets_ids": ["1"] * 151}), wire.now_us
    ) == [Act("close", 1006, "")]


def test_trades_can_be_late_or_on_no() -> None:
    """late_trade holds `last_trade_price` back; trade_on_no names the NO token in its own price."""
    wire = Wire(POLYMARKET)
    wire.fault("late_trade", seconds=2)
    assert not [m for m in parsed(wire.run(1)) if m.get("event_type") == "last_trade_price"]
    assert [m for m in parsed(wire.run(4)) if m.get("event_type") == "last_trade_price"]
    other = Wire(POLYMARKET)
    token = other.market().listing.assets[1]
    for market in other.exchange.markets.values():
        other.connection.client_frame(
            json.dumps({"operation": "subscribe", "assets_ids": [market.listing.assets[1]]}), other.now_us
        )
    other.fault("trade_on_no", asset=token, seconds=5)
    told = [m for m in parsed(other.run(4)) if m.get("event_type") == "last_trade_price"]
    mine = [m for m in told if m["market"] == other.market().listing.market_id]
    assert mine
    assert {m["asset_id"] for m in mine} == {token}


def test_engine_faults() -> None:
    """Bursts cross, a restart stands still, a halt clears and comes back, the tick changes."""
    wire = Wire(POLYMARKET)
    market = wire.market()
    wire.fault("burst", asset=market.listing.market_id, value=4)
    assert sum(m.get("event_type") == "book" for m in parsed(wire.run(0.2))) >= 4
    wire.fault("restart", seconds=2)
    wire.run(0.2)
    assert wire.run(1.7) == []
    assert parsed(wire.run(1))
    wire.fault("halt", asset=market.listing.assets[0], seconds=1)
    wire.run(0.5)
    assert market.truth(market.listing.assets[0]) == ([], [])
    assert market.status == "halted"
    wire.run(2)
    assert market.status == "open"
    game = list(wire.exchange.markets.values())[-1]
    wire.fault("tick_change", asset=game.listing.market_id)
    assert any(m.get("event_type") == "tick_size_change" for m in parsed(wire.run(0.1)))


@pytest.mark.parametrize("venue", [KALSHI, POLYMARKET])
def test_close_of_a_market(venue: str) -> None:
    """Closed, emptied, resolved: the venue's own messages in the venue's own order; the truth is empty."""
    wire = Wire(venue)
    market = wire.market()
    wire.fault("close_market", asset=market.listing.market_id, seconds=2, result="no")
    got = parsed(wire.run(4))
    if venue == KALSHI:
        name = market.listing.market_id
        mine = [m for m in got if m["msg"].get("market_ticker") == name]
        kinds = [(m["type"], m["msg"].get("event_type")) for m in mine]
        empty = kinds.index(("orderbook_snapshot", None))
        assert set(mine[empty]["msg"]) == {"market_ticker", "market_id"}
        assert mine[empty - 1]["type"] == "orderbook_delta"
        assert [kind for _, kind in kinds if kind] == ["determined", "settled", "settled"]
        assert next(m["msg"] for m in mine if m["msg"].get("event_type") == "determined")["result"] == "no"
        assert holes(seqs(wire.out)) == 0
    else:
        (resolved,) = [m for m in got if m.get("event_type") == "market_resolved"]
        assert resolved["winning_outcome"] == "No"
        assert resolved["winning_asset_id"] == market.listing.assets[1]
    assert market.truth(market.listing.assets[0]) == ([], [])
    assert market.status == "resolved"
