"""The simulated Polymarket on real sockets, read by a plain client written from the venue note."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx2
from websockets.asyncio.client import connect

from sim.naive import PolymarketReader
from wup.sim.exchange import Act
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.sim.pump import advance
from wup.sim.world import POLYMARKET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from wup.sim import Simulators

START = 1_795_353_600_000_000


@asynccontextmanager
async def client(simulators: Simulators) -> AsyncIterator[ClientConnection]:
    async with connect(simulators.env()["POLYMARKET_WS_URL"], compression=None, max_size=2**25) as socket:
        yield socket


def hello(assets: list[str], **more: Any) -> str:
    return json.dumps({"assets_ids": assets, "type": "market", "initial_dump": True, "level": 2, **more})


def tokens(exchange: PolymarketExchange) -> list[str]:
    return [asset for market in exchange.markets.values() for asset in market.listing.assets]


def facts(exchange: PolymarketExchange) -> dict[str, tuple[str, bool]]:
    return {
        asset: ("5", market.listing.outcomes == ("Yes", "No"))
        for market in exchange.markets.values()
        for asset in market.listing.assets
    }


class Virtual:
    """An exchange on a virtual clock with one reader of some tokens."""

    def __init__(self, *, rate: float = 300, both: bool = False, seed: int = 5, **more: Any) -> None:
        self.model = MarketModel(build_world(), seed=seed, start_us=START, rate=rate)
        self.exchange = PolymarketExchange(self.model, seed=seed, **more)
        self.out: list[Any] = []
        self.exchange.attach(lambda _, items: self.out.extend(items))
        self.connection = self.exchange.connect(START)
        self.assets = [
            a
            for a in tokens(self.exchange)
            if both or self.model.by_asset[POLYMARKET, a].listing.assets[0] == a
        ]

    def say(self, text: str, at_us: int = START) -> list[Any]:
        answers = self.connection.client_frame(text, at_us)
        self.out.extend(answers)
        return answers

    def run(self, seconds: float) -> None:
        advance(self.model, {POLYMARKET: self.exchange}, START + round(seconds * 1_000_000))


async def test_books_and_hashes_equal_the_truth(simulators: Simulators) -> None:
    """Recomputed hashes agree wherever they can be told, and every book is the true one."""
    exchange = simulators.exchanges["polymarket"]
    assert isinstance(exchange, PolymarketExchange)
    assets = tokens(exchange)
    url = simulators.env()["POLYMARKET_CLOB_URL"]
    async with httpx2.AsyncClient() as http:
        rest = (
            await http.post(f"{url}/books", json=[{"token_id": asset} for asset in [*assets, "123"]])
        ).json()
        assert {item["asset_id"] for item in rest} == set(assets)
        found = {item["asset_id"]: (item["min_order_size"], item["neg_risk"]) for item in rest}
        reader = PolymarketReader(set(assets), found)
        async with client(simulators) as socket:
            await socket.send(hello(assets))
            first = await socket.recv()
            assert isinstance(first, str)
            assert first.startswith('[{"market":')
            reader.frame(first)
            assert reader.hashes_checked == len(assets)
            while reader.hashes_checked < 500:
                text = await socket.recv()
                assert isinstance(text, str)
                reader.frame(text)
            latest = dict(reader.times)
        assert reader.crossed_inside > 0
        # Between a trade's book and its late `last_trade_price` the hash cannot be told: few, never all.
        assert reader.hashes_wrong < reader.hashes_checked // 2
        queries = [["polymarket", asset, ms * 1000] for asset, ms in reader.history if ms < latest[asset]]
        truth = (await http.post(f"{url}/_sim/truth", json={"queries": queries})).json()
        assert len(truth) > 250
        for (_, asset, at_us), book in zip(queries, truth, strict=True):
            assert reader.history[asset, at_us // 1000] == book


def test_every_hash_when_trades_are_not_late() -> None:
    """With trades reported before the next transaction, every single hash reproduces, YES and NO."""
    virtual = Virtual(both=True, trade_delay_us=0, rate=100)
    virtual.say(hello(virtual.assets))
    virtual.run(12)
    reader = PolymarketReader(set(virtual.assets), facts(virtual.exchange))
    # The note's order is book first, trade later; told the trade first, a reader can check everything.
    texts = [text for text in virtual.out if isinstance(text, str)]
    last: dict[tuple[str, str], str] = {}
    for text in texts:
        message = json.loads(text)
        if isinstance(message, dict) and message["event_type"] == "last_trade_price":
            last[message["market"], message["timestamp"]] = message["price"]
    for text in texts:
        message = json.loads(text)
        if isinstance(message, dict):
            price = last.get((message["market"], message["timestamp"]))
            if price is not None:
                reader.last_trade[message["market"]] = price
        reader.frame(text)
    reader.settle()
    assert reader.hashes_checked > 900
    assert reader.hashes_wrong == 0


def test_captured_books_hash_with_the_recipe(captures: Path) -> None:
    """The recipe used by the simulator reproduces the hashes of real books."""
    from wup.sim.polymarket.frames import _levels, book_hash

    class Listing:
        outcomes = ("Yes", "No")

    class Market:
        listing = Listing()
        tick = 0

    for book in json.loads((captures / "polymarket" / "clob-books.json").read_text()):
        market = Market()
        market.listing.market_id = book["market"]  # type: ignore[attr-defined]
        market.tick = int(Decimal(book["tick_size"]) * 1_000_000)
        texts = tuple(
            _levels((int(Decimal(x["price"]) * 10**6), int(Decimal(x["size"]) * 10**6)) for x in book[side])
            for side in ("bids", "asks")
        )
        made = book_hash(market, book["asset_id"], texts, int(book["timestamp"]), book["last_trade_price"])  # type: ignore[arg-type]
        assert made == book["hash"]


def test_transactions_span_messages() -> None:
    """One level per message, the rest of a crossing order first; same hash and best; then the book."""
    virtual = Virtual()
    virtual.say(hello(virtual.assets))
    virtual.run(30)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for text in virtual.out[1:]:
        message = json.loads(text)
        if message["event_type"] in ("price_change", "book"):
            groups.setdefault((message["market"], message["timestamp"]), []).append(message)
    crossing = 0
    for messages in groups.values():
        changes = [item for item in messages if item["event_type"] == "price_change"]
        assert messages[: len(changes)] == changes
        assert len({item["hash"] for m in changes for item in m["price_changes"]}) <= 2
        for message in changes:
            a, b = message["price_changes"]
            assert Decimal(a["price"]) + Decimal(b["price"]) == 1
            assert {a["side"], b["side"]} == {"BUY", "SELL"}
            assert a["size"] == b["size"]
            assert Decimal(a["best_bid"]) + Decimal(b["best_ask"]) == 1
        if (
            len(messages) > len(changes)
            and len(changes) > 1
            and changes[0]["price_changes"][0]["size"] != "0"
        ):
            crossing += 1
    assert crossing > 10
    assert any(
        m["price_changes"][0]["asset_id"] not in virtual.assets
        for g in groups.values()
        for m in g
        if "price_changes" in m
    )


def test_key_orders() -> None:
    """Keys come in the captured order; tick size and last trade only in the first book."""
    virtual = Virtual()
    virtual.say(hello(virtual.assets, custom_feature_enabled=True))
    virtual.run(20)
    orders = {}
    for text in virtual.out:
        message = json.loads(text)
        for event in message if isinstance(message, list) else [message]:
            kind = "first" if "tick_size" in event else event["event_type"]
            orders.setdefault(kind, set()).add(",".join(event))
    assert orders == {
        "first": {"market,asset_id,timestamp,hash,bids,asks,tick_size,event_type,last_trade_price"},
        "book": {"market,asset_id,bids,asks,hash,timestamp,event_type"},
        "price_change": {"market,price_changes,timestamp,event_type"},
        "last_trade_price": {
            "market,asset_id,price,size,fee_rate_bps,side,timestamp,event_type,transaction_hash"
        },
        "best_bid_ask": {"market,asset_id,best_bid,best_ask,spread,timestamp,event_type"},
    }


def test_conversation() -> None:
    """PING gets PONG, a repeat a text notice, unsubscribe then subscribe a fresh book, slips nothing."""
    virtual = Virtual()
    a, b = virtual.assets[:2]
    assert virtual.say("PING") == ["PONG"]
    assert virtual.say(json.dumps({"asset_ids": [a], "type": "market"})) == []
    (books,) = virtual.say(hello([a, "123456"]))
    assert [item["asset_id"] for item in json.loads(books)] == [a]
    assert virtual.say(json.dumps({"operation": "subscribe", "assets_ids": [a]})) == ["NO NEW ASSETS"]
    (book,) = virtual.say(json.dumps({"operation": "subscribe", "assets_ids": [a, b]}))
    assert json.loads(book)["asset_id"] == b
    assert virtual.say(json.dumps({"operation": "unsubscribe", "assets_ids": [a]})) == []
    (again,) = virtual.say(json.dumps({"operation": "subscribe", "assets_ids": [a]}))
    assert json.loads(again)["asset_id"] == a
    assert virtual.say(hello(virtual.assets[2:], initial_dump=False)) == []
    assert virtual.say("hello?") == ["INVALID OPERATION"]


def test_flag_is_connection_wide_and_applied_before_the_refusal() -> None:
    """custom_feature_enabled on an already active asset answers NO NEW ASSETS and yet takes effect."""
    virtual = Virtual()
    virtual.say(hello(virtual.assets))
    wish = {"operation": "subscribe", "assets_ids": virtual.assets[:1], "custom_feature_enabled": True}
    assert virtual.say(json.dumps(wish)) == ["NO NEW ASSETS"]
    virtual.run(5)
    assert any('"event_type":"best_bid_ask"' in text for text in virtual.out)


def test_tick_change_at_the_border() -> None:
    """A market of ticks 0.01 whose price passes 0.96 gets ticks of 0.001, told once per token."""
    virtual = Virtual(both=True, idle_us=0)
    game = next(m for m in virtual.exchange.markets.values() if m.tick == 10_000)
    virtual.say(hello(virtual.assets))
    virtual.model.fair[game.listing.outcome] = 985_000
    virtual.model._walk = lambda market: None  # type: ignore[method-assign]
    virtual.run(60)
    told = [json.loads(t) for t in virtual.out[1:] if '"tick_size_change"' in t]
    assert [item["asset_id"] for item in told] == list(game.listing.assets)
    assert {(item["old_tick_size"], item["new_tick_size"]) for item in told} == {("0.01", "0.001")}
    assert list(told[0]) == [
        "event_type",
        "asset_id",
        "market",
        "old_tick_size",
        "new_tick_size",
        "timestamp",
    ]
    assert game.tick == 1_000


def test_silent_clients_are_closed() -> None:
    """No first frame within ten seconds, or nothing for the idle time: closed."""
    virtual = Virtual(idle_us=30_000_000)
    assert virtual.connection.poll(START + 9_999_999) == []
    assert virtual.connection.poll(START + 10_000_000) == [Act("close", 1008, "no subscription")]
    other = virtual.exchange.connect(START)
    other.client_frame(hello(virtual.assets), START)
    other.client_frame("PING", START + 25_000_000)
    assert [x for x in other.poll(START + 54_000_000) if isinstance(x, Act)] == []
    assert other.poll(START + 55_000_000) == [Act("close", 1001, "idle")]


async def test_binary_and_nonsense_do_not_hurt(simulators: Simulators) -> None:
    """Whatever a client sends, the connection and the other clients live on."""
    exchange = simulators.exchanges["polymarket"]
    assert isinstance(exchange, PolymarketExchange)
    async with client(simulators) as good, client(simulators) as bad:
        await good.send(hello(tokens(exchange)[:1]))
        for item in (
            b"\xff\x00",
            "[]",
            "{}",
            '{"assets_ids":[1]}',
            '{"assets_ids":"x","type":"market"}',
            "null",
        ):
            await bad.send(item)
        await bad.send("PING")
        while await bad.recv() != "PONG":
            pass
        await good.recv()
        await simulators.stop()
        async for _ in good:
            pass
        assert good.close_code == 1001


async def test_rest(simulators: Simulators) -> None:
    """Gamma's lists are strings holding JSON, pages lead through everything, CLOB answers as documented."""
    url = simulators.env()["POLYMARKET_GAMMA_URL"]
    slug = "fed-decision-in-december-2026"
    async with httpx2.AsyncClient(base_url=url) as http:
        event = (await http.get(f"/events/slug/{slug}")).json()
        assert (await http.get("/events", params={"slug": slug})).json()[0]["slug"] == slug
        assert (await http.get("/events", params={"slug": "nothing"})).json() == []
        assert (await http.get(f"/events/{event['id']}")).json()["slug"] == slug
        assert event["negRisk"] is True
        market = event["markets"][1]
        assert json.loads(market["outcomes"]) == ["Yes", "No"]
        yes, no = json.loads(market["clobTokenIds"])
        assert market["orderPriceMinTickSize"] == 0.001
        assert market["orderMinSize"] == 5
        assert market["description"]
        slugs, cursor = [], None
        while True:
            params = {"limit": 1, "closed": "false", **({"after_cursor": cursor} if cursor else {})}
            page = (await http.get("/events/keyset", params=params)).json()
            slugs += [item["slug"] for item in page["events"]]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        assert slugs == [slug, "mlb-tex-nyy-2026-12-01"]
        assert len((await http.get("/markets/keyset")).json()["markets"]) == 6
        book = (await http.get("/book", params={"token_id": yes})).json()
        mirror = (await http.get("/book", params={"token_id": no})).json()
        assert list(book)[:4] == ["market", "asset_id", "timestamp", "hash"]
        if book["timestamp"] == mirror["timestamp"]:
            assert [Decimal(x["price"]) for x in book["bids"]] == [
                1 - Decimal(x["price"]) for x in mirror["asks"]
            ]
        assert (await http.get("/tick-size", params={"token_id": yes})).json() == {"minimum_tick_size": 0.001}
        assert (await http.get("/neg-risk", params={"token_id": yes})).json() == {"neg_risk": True}
        compact = (await http.get(f"/clob-markets/{market['conditionId']}")).json()
        assert [item["t"] for item in compact["t"]] == [yes, no]
        assert compact["mos"] == 5
        assert set((await http.get("/price", params={"token_id": yes, "side": "BUY"})).json()) == {"price"}
        for path, status in (
            (f"/book?token_id={'9' * 70}", 404),
            ("/book?token_id=abc", 400),
            ("/events/slug/none", 404),
        ):
            answer = await http.get(path)
            assert answer.status_code == status
            assert set(answer.json()) == {"error"}
        assert (await http.post("/books", json={"a": 1})).status_code == 400
