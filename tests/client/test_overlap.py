"""Several subscriptions of one feed, and the limits that they share."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from client.liar import Liar
from client.test_feed import agrees, collect, liar, until_type, url
from gateway.conftest import Starter, ready
from gateway.engine import FED_25, FED_50, GAME, Engine
from wup.client import Event, FeedError, Refused, Subscription, connect, connect_sync
from wup.gateway import Gateway, Limits

__all__ = ["liar"]


async def until_exact(engine: Engine, feed: Any, events: Subscription, books: int) -> None:
    """Until so many books have come and all equal the store's."""
    async with asyncio.timeout(8):
        async for _ in events:
            if len(feed.books) == books and agrees(engine, feed):
                return


async def test_the_same_pattern_twice(engine: Engine, gateway: Gateway) -> None:
    """Two parts of a program may ask for the same: both get snapshot and deltas, and the end of one does not
    end the other."""
    async with connect(url(gateway)) as feed:
        first = feed.subscribe(">")
        await collect(first, 3)
        second = feed.subscribe(">", FED_25)
        assert {event.type for event in await collect(second, 3)} == {"snapshot"}
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
        assert [event.type for event in await collect(first, 1) + await collect(second, 1)] == ["delta"] * 2
        await first.close()
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "8"]], [])
        assert (await collect(second, 1))[0].type == "delta"
        await second.close()
        assert feed.books == {}
        third = feed.subscribe(FED_25)
        (event,) = await collect(third, 1)
        assert (event.type, event.data()["why"]) == ("snapshot", "subscribe")
        assert agrees(engine, feed)


async def test_a_held_book_is_shown_first(engine: Engine, gateway: Gateway) -> None:
    """A second, narrower subscription begins with the state that the feed holds."""
    async with connect(url(gateway)) as feed:
        await collect(feed.subscribe(FED_25, depth=5), 1)
        (event,) = await collect(feed.subscribe("fed-2026-12.*.yes", depth=5), 1)
        assert event.book is feed.book(FED_25, depth=5)
        body = event.data()
        assert len(body["bids"]) == 5
        assert (body["seq"], body["digest"]) == (event.book.seq, event.book.digest)


async def test_refused_does_not_take_others_along(engine: Engine, gateway: Gateway) -> None:
    """An operation is all or nothing; a subscription that counted on a refused one asks again for itself."""
    async with connect(url(gateway)) as feed:
        wrong = feed.subscribe(FED_25, "a..b")
        right = feed.subscribe(FED_25)
        with pytest.raises(Refused):
            await anext(wrong)
        assert (await collect(right, 1))[0].type == "snapshot"


async def test_many_subscriptions_survive_a_restart(engine: Engine, start: Starter) -> None:
    """More subscriptions than the gateway takes messages at once: none is refused, also after a reconnect."""
    limits = Limits(ws_rate=20, ws_burst=40)
    gateway = await start(limits)
    engine.marks()
    await ready(gateway)
    port = gateway.port
    async with connect(url(gateway), uniform=lambda low, high: 0.05) as feed:
        held = [feed.subscribe(FED_25, f"x.{i}.yes") for i in range(45)]
        last = feed.subscribe(FED_50)
        async with asyncio.timeout(8):
            assert (await anext(last)).type == "snapshot"
        await gateway.stop()
        await until_type(last, "disconnected")
        again = await start(limits, ws_port=port)
        engine.marks()
        await ready(again)
        await until_type(last, "snapshot")
        # Once of every subscription, and nothing was closed for being too fast.
        for subscription in held:
            assert (await anext(subscription)).type == "snapshot"
        assert feed.stats.connects == 2


async def test_what_may_pass_is_asked_again(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error with `retry` is no refusal: the same is asked again later."""
    monkeypatch.setattr("wup.client.operations._AGAIN_S", 0.01)

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        if len(liar.ops) < 3:
            body = {
                "type": "error",
                "id": op["id"],
                "code": "rate_limited",
                "message": "slow down",
                "retry": True,
            }
            await ws.send(json.dumps(body))
        else:
            await liar.agree(ws, op)

    liar.on_op = answer
    async with connect(liar.url) as feed:
        feed.subscribe(FED_25)
        await liar.until(lambda: len(liar.ops) == 3)
        assert len({op["id"] for op in liar.ops}) == 3


async def test_goodbye_says_how_to_spread(liar: Liar) -> None:
    """After `going_away` the wait before connecting is drawn from the span that the gateway names."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.01

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        await liar.agree(ws, op)
        if len(liar.connections) == 1:
            notice = {"type": "notice", "code": "going_away", "in_ms": 100, "jitter_ms": 7000}
            await ws.send(json.dumps(notice))
            await ws.close(1012)

    liar.on_op = answer
    async with connect(liar.url, uniform=uniform) as feed:
        events = feed.subscribe(FED_25)
        await until_type(events, "disconnected")
        await liar.until(lambda: len(liar.connections) == 2)
        assert drawn == [(0.0, 7.0)]


async def test_trades_of_every_form(engine: Engine, gateway: Gateway) -> None:
    """Trades reach the subscriptions that asked for them, each once, with the book in its form."""
    async with connect(url(gateway)) as feed:
        plain = feed.subscribe(FED_25)
        full = feed.subscribe("fed-2026-12.>", trades=True)
        top = feed.subscribe(FED_25, depth=1, trades=True)
        for subscription, count in ((plain, 1), (full, 2), (top, 1)):
            await collect(subscription, count)
        engine.normalised("trade", "kalshi", "KXFED-26DEC-C25", price="0.53", size="10", side="buy", id="t1")
        seen: list[Event] = [*await collect(full, 1), *await collect(top, 1)]
        assert [event.type for event in seen] == ["trade", "trade"]
        assert [event.book.depth if event.book else 0 for event in seen] == [None, 1]
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
        assert (await collect(plain, 1))[0].type == "delta"


async def test_list_books(engine: Engine, gateway: Gateway) -> None:
    """The books that match, with title, label and state; a bad pattern is refused."""
    async with connect(url(gateway)) as feed:
        rows = await feed.list_books("fed-2026-12.>")
        assert {row["book"] for row in rows} == {FED_25, FED_50}
        assert {row["state"] for row in rows} == {"live"}
        with pytest.raises(Refused, match="bad_pattern"):
            await feed.list_books("a..b")
        await gateway.stop()
        with pytest.raises(FeedError):
            await feed.list_books()


async def test_blocking_form(engine: Engine, gateway: Gateway) -> None:
    """The blocking form times out where nothing happens, goes on afterwards, and unsubscribes."""

    def script() -> list[str]:
        with connect_sync(url(gateway)) as feed:
            assert len(feed.list_books()) == 3
            events = feed.subscribe(GAME, timeout=0.05)
            kinds = [next(events).type]
            with pytest.raises(TimeoutError):
                next(events)
            loop.call_soon_threadsafe(engine.update, "kalshi", "KXNBA-LAL", [["0.41", "7"]], [])
            events.timeout = 5
            kinds.append(next(events).type)
            assert [book.id for book in feed.books] == [GAME]
            events.close()
            kinds += [event.type for event in events]
            assert feed.books == []
        with pytest.raises(RuntimeError, match="not open"):
            feed.subscribe(GAME)
        return kinds

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(script) == ["snapshot", "delta"]
