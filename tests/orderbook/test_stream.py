"""What only this place can tell, on the stream: crossings, trades of all legs, how old each leg is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orderbook.feeding import BOOK, Feed, leg, table
from wup import subjects

K = leg("kalshi", "KXFED-26DEC-C25")
NYY = leg("kalshi", "KX-NYY", inverted=True)
P = leg("polymarket", "6519")


async def test_a_crossing_is_flagged_and_kept() -> None:
    """Best bid of one venue above best ask of another: every message says `crossed`, both levels stay, and
    the flag goes with the crossing; equal prices do not cross."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "5"]], [["0.54", "5"]])
        feed.book(P, [["0.5", "5"]], [["0.55", "5"]])
        assert {m["crossed"] for m in feed.take()} == {False}
        feed.send(P, "update", bids=[["0.54", "2"]], asks=[])
        assert feed.take()[-1]["crossed"] is False
        feed.send(P, "update", bids=[["0.545", "3"]], asks=[])
        crossed = feed.take()[-1]
        assert crossed["crossed"] is True
        shown = orjson.loads(feed.service.store.snapshot(BOOK, None, "subscribe", 0))
        assert (shown["bids"][0][0], shown["asks"][0][0], shown["crossed"]) == ("0.545", "0.54", True)
        feed.send(K, "update", bids=[], asks=[["0.54", "0"], ["0.56", "1"]])
        assert feed.take()[-1]["crossed"] is False


@pytest.mark.parametrize(
    ("one", "price", "side", "shown"),
    [
        (K, "0.53", "buy", ("0.53", "buy")),
        (NYY, "0.47", "buy", ("0.53", "sell")),
        (NYY, "0.4", "sell", ("0.6", "buy")),
        (P, "0.531", "sell", ("0.531", "sell")),
    ],
)
async def test_trades_of_every_leg_are_in_yes_coordinates(
    one: Any, price: str, side: str, shown: tuple[str, str]
) -> None:
    """A trade goes out on the book's own subject with the venue's id and size; one of an inverted leg is
    turned round, price and side; the book's sequence stays as it was."""
    async with Feed() as feed:
        subjects_seen: list[str] = []
        await feed.bus.subscribe("orderbook.trades.>", lambda m: subjects_seen.append(m.subject))
        await feed.start(table(K, NYY, P))
        for each in (K, NYY, P):
            feed.book(each, [], [])
        seq = feed.take()[-1]["seq"]
        feed.send(one, "trade", price=price, size="10.5", side=side, id="0723be0d", ts={"recv": 1})
        trade = feed.take()[-1]
        assert trade["type"] == "trade"
        assert (trade["price"], trade["side"], trade["size"], trade["id"]) == (*shown, "10.5", "0723be0d")
        assert (trade["platform"], trade["asset"]) == (one.platform, one.asset_id)
        assert subjects_seen == [f"orderbook.trades.{BOOK}"]
        assert feed.service.store.book(BOOK).seq == seq


async def test_each_leg_says_how_old_it_is() -> None:
    """`age_ms` is the time since something was heard of that leg, in snapshots and statuses; a leg that was
    never heard has none."""
    async with Feed() as feed:
        await feed.start(table(K, NYY, P))
        feed.book(K, [["0.5", "1"]], [])
        feed.clock.advance(1.25)
        feed.book(P, [], [])
        feed.clock.advance(0.5)
        status = [m for m in feed.take() if m["type"] == "status"][-1]
        assert status["legs"]["kalshi"]["age_ms"] == 1250
        now_us = feed.clock.now_us()
        legs = orjson.loads(feed.service.store.snapshot(BOOK, None, "subscribe", now_us))["legs"]
        ages = {name: body.get("age_ms") for name, body in legs.items()}
        assert ages == {"kalshi": 1750, "kalshi-2": None, "polymarket": 500}


async def test_one_venue_message_is_one_delta() -> None:
    """However many levels a message changes, one delta has them all, with the leg that caused it and the
    stamps of every stage."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.5", "1"]], [])
        feed.take()
        stamps = {"venue": 11, "recv": 22, "norm": 33}
        feed.send(K, "update", bids=[["0.5", "0"], ["0.49", "2"]], asks=[["0.6", "1"]], ts=stamps)
        out = feed.take()
        assert len(out) == 1
        assert (len(out[0]["bids"]), len(out[0]["asks"]), out[0]["cause"]) == (2, 1, "kalshi")
        assert out[0]["ts"] == {**stamps, "book": feed.clock.now_us()}


async def test_without_publishing_nothing_goes_out() -> None:
    """`PUBLISH_CHANGES` off: books are kept and can be asked for, and the bus carries neither changes nor
    marks."""
    async with Feed(publish=False) as feed:
        await feed.start(table(K))
        feed.book(K, [["0.5", "1"]], [])
        feed.service.tick()
        assert feed.take() == []
        assert feed.marks == []
        answers = await feed.bus.request_many(subjects.orderbook_snapshot("0"), b'{"match":">"}')
        assert orjson.loads(answers[0].payload)["bids"] == [["0.5", "1", {"kalshi": "1"}]]
