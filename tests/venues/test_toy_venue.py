"""A venue is one folder and its registration: every stage takes it without another change."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import orjson
from websockets.asyncio.server import ServerConnection, serve

from normalizer.feed import Feed, Reader, table
from venues.toy import VENUE as TOY
from venues.toy.settings import ToySettings
from wup import subjects
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message
from wup.clock import SystemClock
from wup.normalizer.service import NormalizerService
from wup.playback import run
from wup.venues.registry import VENUES

A = "TOY.A"


def book(seq: int, price: str = "0.4") -> bytes:
    return orjson.dumps({"seq": seq, "asset": A, "bids": [[price, "5"]], "asks": [["0.6", "7.50"]]})


def test_the_engine_takes_a_new_venue() -> None:
    """Registered beside the others it is normalised, doubted and repaired by its own rules."""
    feed = Feed(("toy", A, "M"), venues={**VENUES, "toy": TOY})
    feed.open("toy")
    feed.frame("toy", book(1))
    assert feed.reader.books[A] == ({"0.4": "5"}, {"0.6": "7.5"})
    feed.frame("toy", book(3, "0.41"))
    assert feed.reader.types(A) == ["snapshot", "state", "snapshot"]
    assert feed.repairs == [("toy", (A,), "seq_gap", "c1")]
    feed.frame("toy", b"{")
    assert (feed.reader.state[A], feed.bad) == ("resync", [("toy", "bad_json")])


def test_a_recording_of_a_new_venue_is_replayed(tmp_path: Path) -> None:
    """With a mapping its frames become consolidated books like any other's."""
    rows = [["toy", A, "agg.0123456789abcdef.yes", False]]
    records = [
        {"kind": "mapping", "rx_us": 1, "version": 1, "table": rows},
        {"rx_us": 2, "platform": "toy", "conn": "c", "raw": book(1).decode()},
    ]
    tape = tmp_path / "tape"
    tape.write_bytes(b"\n".join(orjson.dumps(record) for record in records))
    player, bad = run([str(tape)], lambda change: None, venues={"toy": TOY})
    assert (bad, player.bad) == ([], {})
    assert player.store.book("agg.0123456789abcdef.yes").state == "live"


async def test_the_stages_take_a_new_venue() -> None:
    """Over a real socket: subscribed, received, normalised, and asked again after a gap."""
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def venue(ws: ServerConnection) -> None:
        seq = 0
        async for text in ws:
            request = orjson.loads(text)
            await asked.put(request)
            seq += 1 if "again" in request else 2  # the first book shows a gap to nothing yet
            await ws.send(book(seq).decode(), text=True)
            if "follow" in request:
                seq += 2
                await ws.send(book(seq, "0.42").decode(), text=True)

    async with serve(venue, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        bus, clock, reader, news = LocalBus(), SystemClock(), Reader(), asyncio.Event()

        def take(message: Message) -> None:
            reader.take(message.subject, message.payload)
            news.set()

        await bus.subscribe(subjects.NORMALIZED_ALL, take)
        mapping = table(("toy", A, "M"))
        normalizer = NormalizerService(bus, clock, "n1", table=mapping, venues={"toy": TOY})
        settings = ToySettings(toy_ws_url=f"ws://127.0.0.1:{port}/")
        aggregator = Aggregator(bus, {"toy": (TOY, settings)}, clock, random.Random(1))
        await normalizer.start()
        await aggregator.start()
        await aggregator.set_table(mapping)
        try:
            async with asyncio.timeout(10):
                while reader.types(A)[-2:] != ["snapshot", "snapshot"]:
                    news.clear()
                    await news.wait()
                assert await asked.get() == {"follow": [A]}
                assert await asked.get() == {"again": [A]}
        finally:
            await aggregator.stop()
            await normalizer.stop()
    assert reader.types(A) == ["snapshot", "state", "snapshot", "snapshot"] + ["state"] * (
        reader.types(A).count("state") - 1
    )
