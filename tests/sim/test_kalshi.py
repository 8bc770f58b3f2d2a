"""The simulated Kalshi on real sockets, read by a plain client written from the venue note."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sim.naive import KalshiReader, kalshi_headers
from wup.sim.fixed import short
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.pump import advance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from wup.sim import Simulators

PATH = "/trade-api/ws/v2"
START = 1_795_353_600_000_000


def signed(simulators: Simulators, **more: Any) -> dict[str, str]:
    env = simulators.env()
    pem = Path(env["KALSHI_PRIVATE_KEY_PATH"]).read_bytes()
    return kalshi_headers(pem, env["KALSHI_API_KEY_ID"], time.time_ns() // 1_000_000, PATH, **more)


@asynccontextmanager
async def client(simulators: Simulators) -> AsyncIterator[ClientConnection]:
    async with connect(
        simulators.env()["KALSHI_WS_URL"],
        additional_headers=signed(simulators),
        compression=None,
        max_size=2**24,
    ) as socket:
        yield socket


async def command(socket: ClientConnection, number: int, cmd: str, **params: Any) -> None:
    await socket.send(json.dumps({"id": number, "cmd": cmd, "params": params}))


async def read_until(socket: ClientConnection, reader: KalshiReader, done: Any) -> dict[str, Any]:
    while True:
        text = await socket.recv()
        assert isinstance(text, str)
        assert text.endswith("\n")
        message = reader.frame(text)
        if done(message):
            return message


async def test_handshake_is_verified(simulators: Simulators) -> None:
    """No, foreign, late or wrong signatures are answered 401; any salt length is accepted."""
    url = simulators.env()["KALSHI_WS_URL"]
    good = signed(simulators)
    late = {**good, "KALSHI-ACCESS-TIMESTAMP": str(time.time_ns() // 1_000_000 - 60_000)}
    wrong = {**good, "KALSHI-ACCESS-SIGNATURE": good["KALSHI-ACCESS-SIGNATURE"][::-1]}
    foreign = {**good, "KALSHI-ACCESS-KEY": "someone-else"}
    for headers in ({}, late, wrong, foreign):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, additional_headers=headers):
                pass
        assert refused.value.response.status_code == 401
    for salt in (0, 20, 32, 222):
        async with connect(url, additional_headers=signed(simulators, salt=salt)):
            pass


async def test_books_equal_the_truth(simulators: Simulators) -> None:
    """Every book read naively equals the true book of the same engine millisecond; numbers have no hole."""
    env = simulators.env()
    tickers = [
        item["market_id"]
        for pair in simulators.pairs
        for item in pair["legs"]
        if item["platform"] == "kalshi"
    ]
    for yes_price in (True, False):
        reader = KalshiReader(yes_price=yes_price)
        async with client(simulators) as socket:
            for number, ticker in enumerate(tickers, 1):
                await command(
                    socket, number, "subscribe", channels=["orderbook_delta", "trade", "ticker"],
                    market_ticker=ticker, use_yes_price=yes_price,
                )  # fmt: skip
            deltas = 0

            def enough(message: dict[str, Any]) -> bool:
                nonlocal deltas
                deltas += message["type"] == "orderbook_delta"
                return deltas >= 400

            await read_until(socket, reader, enough)
        assert set(reader.books) == set(tickers)
        assert reader.gaps == []
        assert reader.negative == 0
        # The last millisecond of a market may still be under way: the one before is complete.
        latest = reader.times
        queries = [["kalshi", ticker, ms * 1000] for ticker, ms in reader.history if ms < latest[ticker]]
        async with httpx2.AsyncClient() as http:
            answer = await http.post(
                env["KALSHI_API_URL"].replace("/trade-api/v2", "/_sim/truth"), json={"queries": queries}
            )
        truth = answer.json()
        assert len(truth) > 200
        for (_, ticker, at_us), book in zip(queries, truth, strict=True):
            assert reader.history[ticker, at_us // 1000] == book
        kinds = {frame["type"] for frame in reader.frames}
        assert {"subscribed", "ok", "orderbook_snapshot", "orderbook_delta", "trade", "ticker"} <= kinds
        assert all("seq" not in frame for frame in reader.frames if frame["type"] in ("ticker", "subscribed"))


def test_a_first_book_never_holds_what_is_told_after_it() -> None:
    """However books and changes interleave, reading them in order gives the true book at every stamp."""
    for seed in range(8):
        model = MarketModel(build_world(), seed=seed, start_us=START, rate=5_000)
        exchange = KalshiExchange(model, seed=seed)
        out: list[str] = []
        exchange.attach(lambda _, items, out=out: out.extend(items))
        connection = exchange.connect(START)
        for number, ticker in enumerate(exchange.markets, 1):
            params = {"channels": ["orderbook_delta"], "market_ticker": ticker}
            connection.client_frame(json.dumps({"id": number, "cmd": "subscribe", "params": params}), START)
        advance(model, {"kalshi": exchange}, START + 15_000)
        asked = {"sid": 1, "action": "get_snapshot", "market_tickers": list(exchange.markets)}
        connection.client_frame(
            json.dumps({"id": 99, "cmd": "update_subscription", "params": asked}), START + 15_000
        )
        advance(model, {"kalshi": exchange}, START + 60_000)
        reader = KalshiReader(yes_price=False)
        for text in out:
            reader.frame(text)
        assert len(reader.history) > 50
        for (ticker, ms), book in reader.history.items():
            bids, asks = exchange.markets[ticker].truth(ticker, ms * 1_000) or ([], [])
            assert book["bids"] == [[short(price), short(size)] for price, size in bids]
            assert book["asks"] == [[short(price), short(size)] for price, size in asks]


async def test_repeated_subscribe_merges(simulators: Simulators) -> None:
    """One sid per channel: the second subscribe is answered ok with the full list and takes a number."""
    a, b = list(simulators.exchanges["kalshi"].markets)[:2]
    reader = KalshiReader(yes_price=True)
    async with client(simulators) as socket:
        await command(
            socket, 1, "subscribe", channels=["orderbook_delta"], market_tickers=[a], use_yes_price=True
        )
        await read_until(socket, reader, lambda m: m["type"] == "orderbook_snapshot")
        await command(
            socket, 2, "subscribe", channels=["orderbook_delta"], market_tickers=[a, b], use_yes_price=True
        )
        ok = await read_until(socket, reader, lambda m: m.get("id") == 2)
        assert ok["type"] == "ok"
        assert ok["sid"] == 1
        assert ok["msg"] == {"market_tickers": sorted([a, b])}
        await read_until(socket, reader, lambda m: b in reader.books)
        await command(socket, 3, "list_subscriptions")
        listed = await read_until(socket, reader, lambda m: m.get("id") == 3)
        assert listed["msg"] == [{"channel": "orderbook_delta", "sid": 1}]
    assert reader.gaps == []


def quiet() -> tuple[MarketModel, KalshiExchange]:
    """An exchange on a virtual clock that answers at once."""
    model = MarketModel(build_world(), seed=3, start_us=START, rate=300)
    exchange = KalshiExchange(model, seed=3, jitter_us=0)
    return model, exchange


def ask(exchange: KalshiExchange, *commands: dict[str, Any] | str) -> list[dict[str, Any]]:
    """All frames that a fresh connection gets for these commands, first books included."""
    connection = exchange.connect(START)
    out = []
    for one in commands:
        out += connection.client_frame(one if isinstance(one, str) else json.dumps(one), START)
        out += connection.poll(START + 100_000)
    return [json.loads(item) for item in out if isinstance(item, str)]


BOOK = "KXFEDDECISION-26DEC-C25"
SUBSCRIBE = {"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"], "market_ticker": BOOK}}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{nonsense", 1),
        ({"id": 1, "cmd": "subscribe"}, 2),
        ({"id": 1, "cmd": "subscribe", "params": {"market_ticker": BOOK}}, 3),
        ({"id": 1, "cmd": "unsubscribe", "params": {"sid": 1}}, 4),
        ({"id": 1, "cmd": "dance", "params": {}}, 5),
        ({"id": 1, "cmd": "unsubscribe", "params": {"sids": [9]}}, 7),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["ticker_v2"]}}, 8),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["trade"], "market_tickers": "x"}}, 11),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
    ],
)
def test_error_codes(command: dict[str, Any] | str, code: int) -> None:
    """A wrong command is answered by its code and closes nothing."""
    (answer,) = ask(quiet()[1], command)
    assert answer["type"] == "error"
    assert answer["msg"]["code"] == code
    assert answer.get("id") == (None if isinstance(command, str) else 1)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"action": "add_markets", "market_ticker": BOOK}, 12),
        ({"sids": [1, 2], "action": "add_markets", "market_ticker": BOOK}, 12),
        ({"sid": 1, "action": "rename", "market_ticker": BOOK}, 13),
        ({"sid": 1, "action": "add_markets"}, 14),
        ({"sid": 1, "market_ticker": BOOK}, 15),
        ({"sid": 1, "action": "get_snapshot", "market_ticker": BOOK}, 11),
    ],
)
def test_update_errors_take_a_number_when_scoped(params: dict[str, Any], code: int) -> None:
    """Errors about a sequenced sid carry sid and the next number; errors about none carry neither."""
    frames = ask(quiet()[1], SUBSCRIBE, {"id": 2, "cmd": "update_subscription", "params": params})
    answer = frames[-1]
    assert answer["msg"]["code"] == code
    assert (answer.get("sid"), answer.get("seq")) == ((None, None) if code == 12 else (1, 2))


def test_update_subscription() -> None:
    """Changes answer ok with the list, get_snapshot with its id; an unknown ticker gets silence."""
    other = "KXFEDDECISION-26DEC-H0"

    def update(number: int, action: str, *tickers: str) -> dict[str, Any]:
        return {
            "id": number, "cmd": "update_subscription",
            "params": {"sid": 1, "action": action, "market_tickers": list(tickers)},
        }  # fmt: skip

    frames = ask(
        quiet()[1],
        SUBSCRIBE,
        update(2, "add_markets", other, "KXNOSUCH-1"),
        update(3, "get_snapshot", BOOK, "KXNOSUCH-1"),
        update(4, "delete_markets", BOOK),
        {"id": 5, "cmd": "unsubscribe", "params": {"sids": [1]}},
    )
    told = [(f["type"], f.get("id"), f.get("seq"), f.get("msg", {}).get("market_ticker")) for f in frames]
    assert told == [
        ("subscribed", 1, None, None),
        ("orderbook_snapshot", None, 1, BOOK),
        ("ok", 2, 2, None),
        ("orderbook_snapshot", None, 3, other),
        ("orderbook_snapshot", 3, 4, BOOK),
        ("ok", 4, 5, None),
        ("unsubscribed", 5, 6, None),
    ]
    assert frames[2]["msg"]["market_tickers"] == sorted([BOOK, other, "KXNOSUCH-1"])
    assert frames[5]["msg"]["market_tickers"] == sorted([other, "KXNOSUCH-1"])


def test_short_acks_and_the_ticker_channel() -> None:
    """skip_ticker_ack leaves the list out; ticker takes ids, sends its state when asked, has no numbers."""
    exchange = quiet()[1]
    other = exchange.markets["KXFEDDECISION-26DEC-H0"].listing
    frames = ask(
        exchange,
        {"id": 1, "cmd": "subscribe", "params": {**SUBSCRIBE["params"], "skip_ticker_ack": True}},
        {
            "id": 2,
            "cmd": "subscribe",
            "params": {"channels": ["orderbook_delta"], "market_ticker": other.market_id},
        },
        {
            "id": 3,
            "cmd": "subscribe",
            "params": {"channels": ["ticker"], "market_ids": [other.uuid], "send_initial_snapshot": True},
        },
        {"id": 4, "cmd": "subscribe", "params": {"channels": ["ticker"], "market_ticker": BOOK}},
    )
    by_id = {frame["id"]: frame for frame in frames if "id" in frame}
    assert by_id[2]["msg"] == {}
    (ticker,) = [frame for frame in frames if frame["type"] == "ticker"]
    assert ticker["msg"]["market_ticker"] == other.market_id
    assert "seq" not in ticker
    assert "seq" not in by_id[4]
    assert by_id[4]["msg"]["market_tickers"] == sorted([other.market_id, BOOK])


def test_large_acks() -> None:
    """The full list of a large subscription passes 64 KiB, as in production."""
    model = MarketModel(build_world(600), seed=1, start_us=START)
    exchange = KalshiExchange(model, seed=1, jitter_us=0)
    names = list(exchange.markets)
    connection = exchange.connect(START)
    longest = 0
    for number, part in enumerate((names[:-1], names[-1:]), 1):
        params = {"channels": ["orderbook_delta"], "market_tickers": part}
        wish = {"id": number, "cmd": "subscribe", "params": params}
        for text in connection.client_frame(json.dumps(wish), START):
            assert isinstance(text, str)
            if text.startswith('{"type":"ok"'):
                longest = max(longest, len(text))
    assert longest > 65_536


def test_yes_price_mode() -> None:
    """The NO side is 1 - price by default and in YES prices when asked; nothing in the frame says which."""
    plain = ask(quiet()[1], SUBSCRIBE)[1]["msg"]
    flagged = ask(quiet()[1], {**SUBSCRIBE, "params": {**SUBSCRIBE["params"], "use_yes_price": True}})[1][
        "msg"
    ]
    assert plain["yes_dollars_fp"] == flagged["yes_dollars_fp"]
    assert {(1 - Decimal(p), s) for p, s in plain["no_dollars_fp"]} == {
        (Decimal(p), s) for p, s in flagged["no_dollars_fp"]
    }
    assert list(plain) == list(flagged)


def test_key_order_and_decimals() -> None:
    """Frames have the key order, the four and two decimals and the times of the captured ones."""
    model, exchange = quiet()
    connection = exchange.connect(START)
    out: list[str] = []
    exchange.attach(lambda _, items: out.extend(item for item in items if isinstance(item, str)))
    wish = {
        "id": 1,
        "cmd": "subscribe",
        "params": {"channels": ["orderbook_delta"], "market_tickers": list(exchange.markets)},
    }
    out += [item for item in connection.client_frame(json.dumps(wish), START) if isinstance(item, str)]
    advance(model, {"kalshi": exchange}, START + 3_000_000)
    deltas = [json.loads(text) for text in out if '"orderbook_delta"' in text and '"seq"' in text]
    assert len(deltas) > 200
    for frame in deltas:
        assert list(frame) == ["type", "sid", "seq", "msg"]
        body = frame["msg"]
        assert list(body) == [
            "market_ticker", "market_id", "price_dollars", "delta_fp", "side", "ts", "ts_ms"
        ]  # fmt: skip
        assert len(body["price_dollars"].partition(".")[2]) == 4
        assert len(body["delta_fp"].partition(".")[2]) == 2
        assert body["ts"].endswith("Z")
        assert not body["ts"][:-1].endswith("0") or "." not in body["ts"]
    assert any(not frame["msg"]["delta_fp"].endswith(".00") for frame in deltas)
    together = {}
    for frame in deltas:
        key = (frame["msg"]["market_ticker"], frame["msg"]["ts_ms"])
        together.setdefault(key, []).append(frame["msg"]["ts"])
    assert any(len(stamps) == 2 for stamps in together.values())
    assert all(len(set(stamps)) == 1 for stamps in together.values())


def test_empty_sides_are_absent() -> None:
    """A side without orders has no key, an empty book has neither."""
    model, exchange = quiet()
    market = exchange.markets[BOOK]
    for price in list(market.book.bids.prices):
        market.book.bids.put(price, 0)
    assert set(ask(exchange, SUBSCRIBE)[1]["msg"]) == {"market_ticker", "market_id", "no_dollars_fp"}
    for price in list(market.book.asks.prices):
        market.book.asks.put(price, 0)
    assert set(ask(exchange, SUBSCRIBE)[1]["msg"]) == {"market_ticker", "market_id"}
    assert model.next_us > START


def test_acks_out_of_order_and_books_between_changes() -> None:
    """Commands complete in any order; first books come between the changes of markets that have theirs."""
    orders, mixed = set(), False
    for seed in range(6):
        model = MarketModel(build_world(), seed=seed, start_us=START, rate=20_000)
        exchange = KalshiExchange(model, seed=seed)
        out: list[str] = []
        exchange.attach(lambda _, items, out=out: out.extend(items))
        connection = exchange.connect(START)
        for number, ticker in enumerate(exchange.markets, 1):
            wish = {
                "id": number,
                "cmd": "subscribe",
                "params": {"channels": ["orderbook_delta"], "market_ticker": ticker},
            }
            connection.client_frame(json.dumps(wish), START)
        advance(model, {"kalshi": exchange}, START + 50_000)
        reader = KalshiReader(yes_price=False)
        kinds = [reader.frame(text)["type"] for text in out]
        assert reader.gaps == []
        assert len(reader.books) == len(exchange.markets)
        orders.add(tuple(frame["id"] for frame in reader.frames if "id" in frame))
        first_delta = kinds.index("orderbook_delta")
        mixed = mixed or "orderbook_snapshot" in kinds[first_delta:]
    assert len(orders) > 1
    assert any(list(order) != sorted(order) for order in orders)
    assert mixed


async def test_pings_have_the_payload(simulators: Simulators) -> None:
    """The server's pings say `heartbeat`."""
    simulators.exchanges["kalshi"].ping_every_s = 0.05
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    async with client(simulators) as socket:
        plain = socket.protocol.recv_frame

        def watched(frame: Any) -> None:
            if frame.opcode == 9:
                seen.put_nowait(bytes(frame.data))
            plain(frame)

        socket.protocol.recv_frame = watched  # type: ignore[method-assign]
        reading = asyncio.create_task(socket.recv())
        assert await seen.get() == b"heartbeat"
        assert await seen.get() == b"heartbeat"
        reading.cancel()


async def test_rest(simulators: Simulators) -> None:
    """Events, markets, books and status have the forms of section 5, and pages lead through everything."""
    base = simulators.env()["KALSHI_API_URL"]
    async with httpx2.AsyncClient(base_url=base) as http:
        event = (
            await http.get("/events/KXFEDDECISION-26DEC", params={"with_nested_markets": "true"})
        ).json()["event"]
        assert [m["ticker"].rpartition("-")[2] for m in event["markets"]] == [
            "C26",
            "C25",
            "H0",
            "H25",
            "H26",
        ]
        assert event["mutually_exclusive"] is True
        market = event["markets"][1]
        assert market["status"] == "active"
        assert market["rules_primary"]
        assert market["price_ranges"] == [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}]
        listed, cursor = [], ""
        while True:
            page = (await http.get("/markets", params={"limit": 3, "cursor": cursor})).json()
            listed += [item["ticker"] for item in page["markets"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert listed == list(simulators.exchanges["kalshi"].markets)
        books = (await http.get("/markets/orderbooks", params=[("tickers", t) for t in listed])).json()[
            "orderbooks"
        ]
        assert [item["ticker"] for item in books] == listed
        assert set(books[0]["orderbook_fp"]) == {"yes_dollars", "no_dollars"}
        assert (
            len(
                (await http.get(f"/markets/{listed[0]}/orderbook", params={"depth": 2})).json()[
                    "orderbook_fp"
                ]["yes_dollars"]
            )
            == 2
        )
        assert (await http.get("/exchange/status")).json()["trading_active"] is True
        assert "thursday" in (await http.get("/exchange/schedule")).json()["schedule"]["standard_hours"][0]
        assert (await http.get("/series/KXFEDDECISION")).json()["series"]["ticker"] == "KXFEDDECISION"
        missing = await http.get("/events/KXNOSUCH")
        assert missing.status_code == 404
        assert set(missing.json()) == {"code", "message", "details"}


async def test_unknown_path_is_not_served(simulators: Simulators) -> None:
    """Only the documented path upgrades."""
    url = simulators.env()["KALSHI_WS_URL"].replace("/v2", "/v1")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=signed(simulators)):
            pass
    assert refused.value.response.status_code == 404


async def test_closes_with_1001_at_stop(simulators: Simulators) -> None:
    """A stopping simulator closes its clients."""
    async with client(simulators) as socket:
        await simulators.stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001
