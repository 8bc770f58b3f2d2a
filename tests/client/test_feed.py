"""The client library: exact books, and what it does when something is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection

from client.liar import Liar
from gateway.conftest import Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from wup.client import Event, Feed, FeedError, Refused, Subscription, connect, connect_sync
from wup.gateway import Gateway, Limits

NO_25 = FED_25.removesuffix(".yes") + ".no"


def url(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/ws"


async def collect(events: Subscription, count: int) -> list[Event]:
    """The next events."""
    async with asyncio.timeout(5):
        return [await anext(events) for _ in range(count)]


async def until_type(events: Subscription, kind: str) -> Event:
    """The next event of a type."""
    async with asyncio.timeout(8):
        while True:
            event = await anext(events)
            if event.type == kind:
                return event


def agrees(engine: Engine, feed: Feed) -> bool:
    """Every book of the feed is exact and equals the store's."""
    for (name, depth, _), book in feed.books.items():
        yes = name.removesuffix(".no") + ".yes" if name.endswith(".no") else name
        want = orjson.loads(engine.store.snapshot(yes, depth=depth))
        if not book.exact or (book.epoch, book.seq, book.digest) != (
            want["epoch"],
            want["seq"],
            want["digest"],
        ):
            return False
    return True


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    liar = Liar()
    await liar.start()
    yield liar
    await liar.stop()


async def test_books_are_exact(engine: Engine, gateway: Gateway) -> None:
    """YES and NO books of a feed equal the store's after many changes; nothing mismatched."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(">", "*.*.no")
        for turn in range(300):
            engine.step()
            if turn % 10 == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            async for _ in events:
                if len(feed.books) == 6 and agrees(engine, feed):
                    break
        assert feed.stats.messages > 300
        assert (feed.stats.mismatches, feed.stats.gaps, feed.stats.count_mismatches) == (0, 0, 0)


async def test_events_and_book(engine: Engine, gateway: Gateway) -> None:
    """Events tell what happened; the book's prices and sizes are exact decimals with their legs."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(FED_25, trades=True)
        (first,) = await collect(events, 1)
        assert (first.type, first.data()["why"]) == ("snapshot", "subscribe")
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.51", "300.5"]], [])
        engine.normalised("trade", "kalshi", "KXFED-26DEC-C25", price="0.53", size="10", side="buy", id="t1")
        delta, trade = await collect(events, 2)
        assert (delta.type, trade.type) == ("delta", "trade")
        assert trade.data()["id"] == "t1"
        book = delta.book
        assert book is not None
        assert book.best_bid is not None
        assert (book.best_bid.price, book.best_bid.size) == (Decimal("0.51"), Decimal("300.5"))
        assert book.best_bid.by_leg == {"kalshi": Decimal("300.5")}
        assert book.best_ask is not None
        assert book.best_ask.price == Decimal("0.53")
        assert (book.state, book.crossed, book.id) == ("live", False, FED_25)
        assert feed.book(FED_25) is book


async def test_depth_and_full_streams_side_by_side(engine: Engine, gateway: Gateway) -> None:
    """One feed can read a book in several forms; each subscription gets its own stream's events."""
    async with connect(url(gateway)) as feed:
        full = feed.subscribe(FED_25)
        top = feed.subscribe(FED_25, depth=1)
        await collect(full, 1)
        await collect(top, 1)
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.02", "5"]], [])
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.51", "5"]], [])
        assert [event.type for event in await collect(full, 2)] == ["delta", "delta"]
        (only,) = await collect(top, 1)
        assert [level[0] for level in only.data()["bids"]] == ["0.51", "0.5"]
        assert agrees(engine, feed)
        await top.close()
        assert (FED_25, 1, None) not in feed.books


async def test_asset_ids(engine: Engine, gateway: Gateway) -> None:
    """A venue's asset stands for the book that it feeds."""
    async with connect(url(gateway)) as feed:
        (event,) = await collect(feed.subscribe("kalshi:KXNBA-BOS"), 1)
        assert event.book is not None
        assert event.book.id == GAME


async def test_an_asset_that_moves(engine: Engine, gateway: Gateway) -> None:
    """A venue's asset feeds another book now: the old one is over for who named it, the new one comes."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe("kalshi:KXNBA-BOS")
        (event,) = await collect(events, 1)
        table = [(*row[:2], FED_25 if row[1] == "KXNBA-BOS" else row[2], row[3]) for row in TABLE]
        engine.publish(engine.store.set_mapping(413, table, engine.now_us))
        removed = await until_type(events, "removed")
        assert (removed.book, removed.why) == (event.book, "mapping")
        assert event.book is not None
        assert not event.book.exact
        back = await until_type(events, "snapshot")
        assert back.book is not None
        assert (back.book.id, [key[0] for key in feed.books]) == (FED_25, [FED_25])
        engine.step()
        async with asyncio.timeout(5):
            while not agrees(engine, feed):
                await asyncio.sleep(0.005)


async def test_a_book_that_leaves_the_mapping(engine: Engine, gateway: Gateway) -> None:
    """Its last status is followed by `removed`; what is kept is not exact, nor is anything once closed."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(">")
        await collect(events, 3)
        game = feed.book(GAME)
        kept = feed.book(FED_25)
        assert game is not None
        assert kept is not None
        table = [row for row in TABLE if row[2] != GAME]
        engine.publish(engine.store.set_mapping(413, table, engine.now_us))
        removed = await until_type(events, "removed")
        assert (removed.book, removed.why, game.exact, feed.book(GAME)) == (game, "unmapped", False, None)
        assert kept.exact
    assert not kept.exact
    assert kept.best_bid is None


async def test_gateway_says_gap(engine: Engine, gateway: Gateway) -> None:
    """When the gateway lost something the book is `lost`, then exact again with its snapshot."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(FED_25)
        await collect(events, 1)
        engine.lose = 1
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.42", "8"]], [])
        lost, back = await collect(events, 2)
        assert (lost.type, lost.why) == ("lost", "gateway")
        assert (back.type, back.data()["why"]) == ("snapshot", "gap")
        assert agrees(engine, feed)


async def test_gateway_restart(engine: Engine, start: Starter) -> None:
    """After a restart of the gateway the feed reconnects, subscribes again and is exact; meanwhile not."""
    first = await start()
    engine.marks()
    await ready(first)
    port = first.port
    async with connect(url(first), uniform=lambda low, high: 0.05) as feed:
        events = feed.subscribe(">")
        await collect(events, 3)
        await first.stop()
        lost = await until_type(events, "lost")
        assert lost.why == "disconnected"
        assert lost.book is not None
        assert not lost.book.exact
        assert (lost.book.state, lost.book.best_bid) == ("down", None)
        engine.step()
        second = await start(ws_port=port)
        engine.marks()
        await ready(second)
        await until_type(events, "connected")
        async with asyncio.timeout(5):
            async for _ in events:
                if agrees(engine, feed):
                    break
        assert feed.stats.connects == 2


async def test_refused(gateway: Gateway) -> None:
    """A pattern that the gateway refuses raises where the events are read, with the code."""
    async with connect(url(gateway)) as feed:
        with pytest.raises(Refused) as refused:
            await anext(feed.subscribe("a..b"))
        assert (refused.value.code, refused.value.at) == ("bad_pattern", 0)
        event = await anext(feed.subscribe(FED_25))
        assert event.type == "snapshot"
        with pytest.raises(ValueError, match="at least one"):
            feed.subscribe()


async def test_slow_program(engine: Engine, gateway: Gateway) -> None:
    """A program that reads too slowly loses old events, is told how many, and its books are exact."""
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(">", limit=10)
        await collect(events, 3)
        for _ in range(60):
            engine.step()
        async with asyncio.timeout(5):
            while not agrees(engine, feed):
                await asyncio.sleep(0.005)
        dropped = await anext(events)
        assert dropped.type == "dropped"
        assert dropped.count > 0
        rest = await collect(events, 10)
        assert {event.type for event in rest} <= {"delta", "status"}


async def test_fatal_close(engine: Engine, start: Starter, tmp_path: Any) -> None:
    """A close that trying again cannot help ends the feed with an error that says the code."""
    path = tmp_path / "tokens.json"
    path.write_bytes(b'{"tokens":[]}')
    path.chmod(0o600)
    gateway = await start(tokens_file=str(path))

    async def read() -> None:
        async with connect(url(gateway), token="wrong") as feed:
            async for event in feed.subscribe(">"):
                assert event.type in ("connected", "disconnected")

    async with asyncio.timeout(5):
        with pytest.raises(FeedError, match="4401"):
            await read()


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway at the address: entering the feed fails and names it."""
    monkeypatch.setattr("wup.client.feed._OPEN_S", 0.3)
    with pytest.raises(FeedError, match=r"127\.0\.0\.1:1/ws"):
        async with connect("ws://127.0.0.1:1/ws"):
            pass


def messages(engine: Engine) -> tuple[bytes, list[bytes]]:
    """A snapshot of one book, and the deltas that follow it."""
    snapshot = engine.store.snapshot(FED_25)
    deltas: list[bytes] = []
    for size in ("1", "2", "3", "4"):
        n = engine._n["KXFED-26DEC-C25"] = engine._n["KXFED-26DEC-C25"] + 1
        body = {
            "type": "update",
            "platform": "kalshi",
            "market_id": "m-KXFED-26DEC-C25",
            "asset_id": "KXFED-26DEC-C25",
            "epoch": 1_795_353_600_001,
            "n": n,
            "bids": [["0.41", size]],
            "asks": [],
            "ts": {},
        }
        deltas += [change.payload for change in engine.store.apply(orjson.dumps(body), engine.now_us)]
    assert len(deltas) == 4
    return snapshot, deltas


@pytest.mark.parametrize("fault", ["tampered", "missing"])
async def test_wrong_stream_is_noticed(engine: Engine, liar: Liar, fault: str) -> None:
    """A delta that does not fit, or is missing: the book is lost, `resync` is asked for, then exact again."""
    snapshot, deltas = messages(engine)
    if fault == "tampered":
        body = json.loads(deltas[1])
        body["digest"] ^= 1
        deltas[1] = json.dumps(body).encode()
    else:
        del deltas[1]
    final = engine.store.snapshot(FED_25, why="resync")

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        await liar.agree(ws, op)
        if op["op"] == "subscribe":
            for payload in (snapshot, *deltas):
                await ws.send(payload, text=True)
        elif op["op"] == "resync":
            await ws.send(final, text=True)

    liar.on_op = answer
    async with connect(liar.url) as feed:
        events = feed.subscribe(FED_25)
        kinds = [event.type for event in await collect(events, 4)]
        assert kinds == ["snapshot", "delta", "lost", "snapshot"]
        assert liar.ops[-1]["op"] == "resync"
        assert liar.ops[-1]["books"] == [FED_25]
        assert feed.stats.mismatches == (fault == "tampered")
        assert feed.stats.gaps == (fault == "missing")
        assert agrees(engine, feed)


async def test_a_book_that_is_gone_does_not_keep_others_from_repair(engine: Engine, liar: Liar) -> None:
    """A `resync` refused for one unknown book: the others of the operation are asked for again without it."""
    broken = {book: json.loads(engine.store.snapshot(book, why="subscribe")) for book in (FED_25, FED_50)}
    final = engine.store.snapshot(FED_50, why="resync")

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        if op["op"] == "resync" and FED_25 in op["books"]:
            at = op["books"].index(FED_25)
            error = {"type": "error", "id": op["id"], "code": "unknown_book", "message": "gone", "at": at}
            await ws.send(json.dumps({**error, "retry": False}))
            return
        await liar.agree(ws, op)
        if op["op"] == "subscribe":
            for body in broken.values():
                await ws.send(json.dumps({**body, "digest": body["digest"] ^ 1}))
        else:
            await ws.send(final, text=True)

    liar.on_op = answer
    async with connect(liar.url) as feed:
        events = feed.subscribe(">")
        event = await until_type(events, "snapshot")
        assert event.book.id == FED_50
        asked = [op["books"] for op in liar.ops if op["op"] == "resync"]
        assert sorted(asked[0]) == sorted(broken)
        assert asked[-1] == [FED_50]


async def test_a_message_like_no_other_leaves_nothing_exact(engine: Engine, liar: Liar) -> None:
    """A message that no rule foresaw ends the connection, not the feed: no book stays exact meanwhile."""
    snapshot, _ = messages(engine)

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        await liar.agree(ws, op)
        await ws.send(snapshot, text=True)
        if len(liar.connections) == 1:
            await ws.send(json.dumps({**json.loads(snapshot), "legs": {"x": 1}}))

    liar.on_op = answer
    async with connect(liar.url, uniform=lambda low, high: 0.01) as feed:
        events = feed.subscribe(FED_25)
        assert (await until_type(events, "lost")).book.exact is False
        event = await until_type(events, "disconnected")
        assert "unreadable" in str(event.why)
        await until_type(events, "snapshot")
        assert feed.stats.connects == 2


async def test_wrong_heartbeat_count(engine: Engine, liar: Liar) -> None:
    """A heartbeat whose count is not what was received means lost frames: the feed reconnects."""
    snapshot, _ = messages(engine)

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        await liar.agree(ws, op)
        await ws.send(snapshot, text=True)
        count = 1 if len(liar.connections) > 1 else 2
        await ws.send(json.dumps({"type": "heartbeat", "count": count, "ts": 1}))

    liar.on_op = answer
    async with connect(liar.url, uniform=lambda low, high: 0.01) as feed:
        events = feed.subscribe(FED_25)
        event = await until_type(events, "disconnected")
        assert event.why == "heartbeat count differs"
        await until_type(events, "snapshot")
        assert (feed.stats.count_mismatches, feed.stats.connects) == (1, 2)


async def test_silence_means_reconnect(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame for the silence limit: the feed connects anew."""
    monkeypatch.setattr("wup.client.feed._SILENT_S", 0.2)
    async with connect(liar.url, uniform=lambda low, high: 0.01) as feed:
        events = feed.subscribe(FED_25)
        await until_type(events, "disconnected")
        await liar.until(lambda: len(liar.ops) >= 2)
        assert [op["op"] for op in liar.ops[:2]] == ["subscribe", "subscribe"]


async def test_sync_feed(engine: Engine, gateway: Gateway) -> None:
    """The blocking form gives the same events and books, from a plain thread."""

    def script() -> tuple[list[str], Decimal | None]:
        with connect_sync(url(gateway)) as feed:
            events = feed.subscribe(FED_25)
            kinds = [next(events).type]
            loop.call_soon_threadsafe(engine.update, "kalshi", "KXFED-26DEC-C25", [["0.515", "7"]], [])
            kinds.append(next(events).type)
            book = feed.book(FED_25)
            assert book is not None
            return kinds, book.best_bid.price if book.best_bid else None

    loop = asyncio.get_running_loop()
    kinds, price = await asyncio.to_thread(script)
    assert kinds == ["snapshot", "delta"]
    assert price == Decimal("0.515")


async def test_limits_are_told(engine: Engine, start: Starter) -> None:
    """A notice of the gateway reaches the program."""
    gateway = await start(Limits(ws_books=3))
    engine.marks()
    await ready(gateway)
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(">")
        await collect(events, 3)
        table = [("kalshi", "KXCUP", "cup-2027.aaaabbbbccccdddd.yes", False)]
        from gateway.engine import TABLE

        engine.publish(engine.store.set_mapping(413, [*TABLE, *table], engine.now_us))
        assert (await until_type(events, "notice")).why == "books_limit"
