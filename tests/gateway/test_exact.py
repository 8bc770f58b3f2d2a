"""A client written against wire.md alone keeps every book exact."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.conftest import Opener
from gateway.engine import FED_25, Engine
from gateway.plain import PlainBook, PlainClient, cell
from wup.gateway import Gateway


def truth(engine: Engine, book: str, depth: int | None = None) -> PlainBook:
    """The store's own book, read with the plain reader (NO: mirrored by hand)."""
    yes = book.removesuffix(".no") + ".yes" if book.endswith(".no") else book
    message = orjson.loads(engine.store.snapshot(yes, depth=depth))
    found = PlainBook(yes, False)
    assert found.apply(message) == "ok"
    if book.endswith(".no"):
        found.bids, found.asks = (
            {1_000_000 - price: legs for price, legs in found.asks.items()},
            {1_000_000 - price: legs for price, legs in found.bids.items()},
        )
    return found


def agrees(engine: Engine, client: PlainClient) -> bool:
    """Every book of the client equals the store's, now."""
    for (name, depth, _), book in client.books.items():
        want = truth(engine, name, depth)
        if not book.exact or (book.bids, book.asks) != (want.bids, want.asks):
            return False
    return True


async def test_digest_vectors() -> None:
    """The plain reader's digest gives the vectors of wire.md, so it may judge the gateway."""
    assert cell("kalshi", 0, 520_000, 500_000_000) == 2847660764
    assert cell("kalshi-2", 0, 520_000, 500_000_000) == 1198482198
    assert cell("polymarket", 1, 999_900, 5_000_000_250_000) == 2001326314


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_all_views_stay_exact(engine: Engine, gateway: Gateway, dial: Opener, seed: int) -> None:
    """YES and NO views of all books are exact after thousands of changes, without a gap or a repeat."""
    engine._rng.seed(seed)
    client = await dial(gateway)
    answer = await client.op("subscribe", books=[">"])
    assert answer == {"type": "subscribed", "id": answer["id"], "books": [">"], "matched": 3}
    await client.op("subscribe", books=["*.*.no"])
    for turn in range(1_000):
        engine.step()
        if turn % 7 == 0:
            await asyncio.sleep(0)
    await client.until(lambda: agrees(engine, client))
    assert len(client.books) == 6
    assert set(client.verdicts) == {"ok"}
    assert client.count > 1_500
    for book in client.books.values():
        assert book.history[0] == "snapshot:subscribe"
        assert book.history.count("snapshot:subscribe") == 1


async def test_bytes_are_the_published_bytes(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """The full YES stream carries the very bytes of the bus."""
    published: list[bytes] = []
    await engine.bus.subscribe("orderbook.changes.>", lambda message: published.append(message.payload))
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    await client.until(lambda: len(client.books) == 3)
    for _ in range(200):
        engine.step()
    await client.until(lambda: agrees(engine, client))
    deltas = [raw for raw in client.raw if not raw.startswith(b'{"type":"snapshot"')]
    assert deltas == published
    assert deltas


async def test_heartbeat_counts_agree(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """A heartbeat comes within 1.3 s of silence, and its count is what was received."""
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    for _ in range(100):
        engine.step()
    await client.until(lambda: len(client.heartbeats) >= 2, 4)
    assert client.count >= 80
    assert all(count == received for count, received in client.heartbeats)


@pytest.mark.parametrize("depth", [1, 5])
async def test_depth_stream_holds_the_best_levels(
    engine: Engine, gateway: Gateway, dial: Opener, depth: int
) -> None:
    """A depth stream always holds exactly the n best levels a side, YES and NO (rule 2)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[">", "*.*.no"], depth=depth)
    for turn in range(500):
        engine.step()
        if turn % 5 == 0:
            await asyncio.sleep(0)
    await client.until(lambda: len(client.books) == 6 and agrees(engine, client))
    assert set(client.verdicts) == {"ok"}
    assert {key[1] for key in client.books} == {depth}


async def test_interval_stream(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """An interval stream sends at most one delta per book and interval and ends exact (rule 2)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25], every_ms=50)
    await client.op("subscribe", books=[FED_25], every_ms=100, depth=5)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 0.5:
        for _ in range(5):
            engine.step()
        await asyncio.sleep(0.002)
    took = loop.time() - began
    await client.until(lambda: len(client.books) == 2 and agrees(engine, client))
    assert set(client.verdicts) == {"ok"}
    fast = client.books[FED_25, None, 50].history.count("delta")
    slow = client.books[FED_25, 5, 100].history.count("delta")
    assert 3 <= fast <= took / 0.05 + 2
    assert 2 <= slow <= took / 0.1 + 2


async def test_status_is_not_held_back(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """On an interval stream a status goes at once, with the levels that wait before it (rule 2)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25], every_ms=1000)
    await client.until(lambda: len(client.books) == 1)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.5", "1"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.5", "2"]], [])
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="resync", why="seq_gap")
    book = client.books[FED_25, None, 1000]
    await client.until(lambda: "status:seq_gap" in book.history, 0.9)
    assert book.history == ["snapshot:subscribe", "delta", "delta", "status:seq_gap"]
    assert book.state == "degraded"
    assert agrees(engine, client)
