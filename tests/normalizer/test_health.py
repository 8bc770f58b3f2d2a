"""How each leg stands, as the process says it over HTTP beside its metrics."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from normalizer.feed import Feed, table
from normalizer.test_service import LEVELS, Publisher
from venues.kal import A, B, delta, snapshot, subscribed
from venues.poly import MARKET, YES, Book
from venues.poly import raw as poly_raw
from wup import runtime
from wup.clock import SYSTEM_CLOCK, ManualClock
from wup.config import Settings

P, K, K2 = ("polymarket", YES, MARKET), ("kalshi", A, A), ("kalshi", B, B)


def get(port: int, path: str) -> list[dict[str, Any]]:
    """The JSON lines of an answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return [orjson.loads(line) for line in answer.read().splitlines()]


@pytest_asyncio.fixture
async def process() -> AsyncIterator[tuple[runtime.Process, int]]:
    """(a process with a normalizer, the port of its metrics)."""
    async with runtime.Process(Settings(metrics_port=0), {}) as started:
        port = started.metrics(0)
        service = await started.start_normalizer("n1")
        service.set_table(table(P, K, K2))
        yield started, port


async def test_a_legs_health_says_what_its_hash_and_its_sequence_said(
    process: tuple[runtime.Process, int],
) -> None:
    """`/legs` beside the metrics: per leg its state and the last verdict of its check with age and counts,
    the hash where the venue sends one, the sequence where it sends that; `/healthz` sums it up."""
    started, port = process
    venue = Publisher(started.bus, ManualClock(SYSTEM_CLOCK.now_us()), "polymarket")
    book = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50"})
    venue.say("open", b"{}")
    venue.say("frame", poly_raw([book.book()]))
    venue.say("frame", poly_raw(book.move(("BUY", "0.2", "1"))))
    (leg,) = await asyncio.to_thread(get, port, f"/legs?platform=polymarket&asset={YES}")
    age_ms = leg["check"].pop("age_ms")
    assert 0 <= age_ms < 60_000
    assert leg == {
        "platform": "polymarket",
        "asset": YES,
        "market_id": MARKET,
        "state": "live",
        "why": "leg_snapshot",
        "connection": "c1",
        "check": {
            "kind": "hash",
            "verdict": "match",
            "match": 2,
            "mismatch": 0,
            "unknown": 0,
            "best_mismatch": 0,
        },
    }
    book.apply(("BUY", "0.25", "1"))
    for size in "45":
        # The frame before them is lost; the second one ends the wait for the rest of the first.
        venue.say("frame", poly_raw(book.move(("BUY", "0.2", size))))
    (leg,) = await asyncio.to_thread(get, port, "/legs?platform=polymarket")
    assert (leg["state"], leg["why"], leg["check"]["verdict"]) == ("resync", "hash_mismatch", "mismatch")
    assert (leg["check"]["match"], leg["check"]["mismatch"]) == (2, 1)

    kalshi = Publisher(started.bus, ManualClock(SYSTEM_CLOCK.now_us()))
    kalshi.say("open", b"{}")
    kalshi.say("frame", subscribed(1, "orderbook_delta"))
    kalshi.say("frame", snapshot(A, 1, LEVELS))
    kalshi.say("frame", snapshot(B, 2, LEVELS))
    legs = await asyncio.to_thread(get, port, "/legs?platform=kalshi")
    assert [(leg["asset"], leg["check"]["kind"], leg["check"]["verdict"]) for leg in legs] == [
        (A, "sequence", "match"),
        (B, "sequence", "match"),
    ]
    kalshi.say("frame", delta(A, 9, "yes", "0.4000", "1.00"))
    kalshi.say("frame", snapshot(B, 10, LEVELS))
    first, second = await asyncio.to_thread(get, port, "/legs?platform=kalshi")
    assert (first["state"], first["why"], first["check"]["verdict"]) == ("resync", "seq_gap", "mismatch")
    assert (second["state"], second["check"]["verdict"]) == ("live", "match")
    assert (second["check"]["match"], second["check"]["mismatch"]) == (3, 1)

    (health,) = await asyncio.to_thread(get, port, "/healthz")
    assert health["normalizer"] == {
        "kalshi": {
            "legs": {"resync": 1, "live": 1},
            "checks": {"sequence": {"mismatch": 1, "match": 1}},
        },
        "polymarket": {"legs": {"resync": 1}, "checks": {"hash": {"mismatch": 1}}},
    }
    assert len(await asyncio.to_thread(get, port, "/legs")) == 3
    assert await asyncio.to_thread(get, port, "/legs?platform=nobody") == []


async def test_a_process_without_a_normalizer_has_no_legs() -> None:
    """Where nothing is normalised `/legs` is not found, and the health has nothing about it."""
    async with runtime.Process(Settings(metrics_port=0), {}) as started:
        port = started.metrics(0)
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(get, port, "/legs")
        with refused.value as answer:
            assert answer.code == 404
        (health,) = await asyncio.to_thread(get, port, "/healthz")
        assert "normalizer" not in health


def test_what_checks_said_outlives_their_connection_and_its_subscription() -> None:
    """Counts of a leg go on over unsubscribe, subscribe and another connection; the last verdict stays until
    there is another."""
    feed = Feed(P)
    book = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50"})

    def check() -> dict[str, Any]:
        (leg,) = feed.engine.health.legs(feed.now_us)
        found = leg["check"]
        assert isinstance(found, dict)
        return found

    feed.open("polymarket")
    feed.frame("polymarket", poly_raw([book.book()]))
    book.apply(("BUY", "0.25", "1"))
    feed.frame("polymarket", poly_raw(book.move(("BUY", "0.2", "1"))))
    feed.wait(0.3)
    assert (check()["verdict"], check()["age_ms"]) == ("mismatch", 0)
    feed.record("sent", "polymarket", "c1", {"operation": "unsubscribe", "assets_ids": [YES]})
    feed.record("sent", "polymarket", "c1", {"operation": "subscribe", "assets_ids": [YES]})
    feed.wait(0.2)
    assert (check()["verdict"], check()["age_ms"]) == ("mismatch", 200)
    feed.record("close", "polymarket", "c1", {"why": "disconnected"})
    assert (check()["verdict"], check()["match"], check()["mismatch"]) == ("mismatch", 1, 1)
    feed.open("polymarket", "c2")
    feed.frame("polymarket", poly_raw([book.book()]), "c2")
    assert (check()["verdict"], check()["match"], check()["mismatch"]) == ("match", 2, 1)


def test_what_no_hash_can_tell_is_unknown() -> None:
    """A book without a hash is shown, and the leg's health says that nothing could tell."""
    feed = Feed(P)
    feed.open("polymarket")
    item = Book({"0.3": "1"}, {"0.6": "2"}).book()
    del item["hash"]
    feed.frame("polymarket", poly_raw([item]))
    (leg,) = feed.engine.health.legs(feed.now_us)
    assert (leg["state"], leg["check"]["verdict"], leg["check"]["unknown"]) == ("live", "unknown", 1)


def test_the_last_verdict_is_the_last_changes() -> None:
    """A change without a hash cannot be told, the next one with it is a match again, each at its time."""
    feed = Feed(P)
    feed.open("polymarket")
    book = Book({"0.3": "1"}, {"0.6": "2"})
    feed.frame("polymarket", poly_raw([book.book()]))
    seen = []
    for price, known in (("0.2", False), ("0.25", True)):
        frame = book.move(("BUY", price, "1"))
        if not known:
            for change in frame["price_changes"]:
                del change["hash"]
        feed.wait(1)
        feed.frame("polymarket", poly_raw(frame))
        (leg,) = feed.engine.health.legs(feed.now_us)
        seen.append((leg["check"]["verdict"], leg["check"]["age_ms"], leg["check"]["match"]))
    assert seen == [("unknown", 0, 1), ("match", 0, 2)]


def test_a_sampled_hash_that_was_not_looked_at_takes_no_verdict_back() -> None:
    """With `HASH_CHECK=sampled` the last verdict is the last comparison's; the others only count."""
    feed = Feed(P)
    feed.open("polymarket", hash_check="sampled")
    book = Book({"0.3": "1"}, {"0.6": "2"})
    feed.frame("polymarket", poly_raw([book.book()]))
    feed.frame("polymarket", poly_raw(book.move(("BUY", "0.2", "1"))))
    (leg,) = feed.engine.health.legs(feed.now_us)
    assert (leg["check"]["verdict"], leg["check"]["match"], leg["check"]["unknown"]) == ("match", 1, 1)


def test_a_normaliser_that_cannot_say_costs_no_close() -> None:
    """A check that raises at the end of a connection is counted; the legs leave as always."""
    feed = Feed(K)
    feed.open("kalshi")
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    normaliser = feed.engine._connections["kalshi", "c1"].normaliser
    normaliser.check = lambda _: 1 / 0  # type: ignore[method-assign,return-value,assignment]
    feed.record("close", "kalshi", "c1", {"why": "disconnected"})
    assert feed.reader.state == {A: "down"}
    assert ("kalshi", "normaliser_error") in feed.bad
