"""JetStream as another home of the log: captured by the server, replayed in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from recorder.feeding import US, Feed
from recorder.test_recorder import TABLE
from venues.kal import A, delta, snapshot
from wup import servers, subjects
from wup.bus import NatsBus
from wup.errors import BusError
from wup.playback import Replay
from wup.playback.jetstream import StreamLog
from wup.raw import Meta
from wup.recorder.stream import MappingLog, capture

LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]


@pytest_asyncio.fixture
async def jetstream_url() -> AsyncIterator[str]:
    """A real NATS server with JetStream."""
    async with servers.embedded_nats(jetstream=True) as url:
        yield url


async def play(url: str, stream: str = "WUP") -> tuple[list[str], Replay]:
    """In a thread: a replay is synchronous, and the bus of this test must live meanwhile."""
    replay = Replay(StreamLog(url, stream))
    return await asyncio.to_thread(lambda: [message.kind for message in replay]), replay


async def test_a_stream_is_replayed_with_its_mapping(jetstream_url: str) -> None:
    """What went over `market.>` and the mapping beside it come out of the stream as merged, titled books;
    a record lost on its way is a gap, and a message that is no record is counted."""
    await capture(jetstream_url, "WUP", max_bytes=1 << 24, max_age_s=3600)
    bus = await NatsBus.connect(jetstream_url, name="test")
    mapping = MappingLog(bus, epoch=US // 1000)
    await mapping.start()
    table = TABLE
    mapping.set_table(table)
    feed = Feed(bus)  # type: ignore[arg-type]
    feed.say("open", b'{"use_yes_price":true}')
    feed.say("frame", snapshot("KX-1", 1, LEVELS))
    feed.say("frame", delta("KX-1", 2, "yes", "0.4000", "1.00"))
    bus.publish("market.kalshi.KX-1", b"no headers")
    await bus.flush()
    kinds, replay = await play(jetstream_url)
    (book,) = replay.books()
    view = replay.book(book)
    assert (view.id, view.state) == (TABLE.legs[0].book, "degraded")
    assert [(str(level.price), str(level.size)) for level in view.bids] == [("0.4", "6"), ("0.01", "33338")]
    assert [str(bad) for bad in replay.bad_lines] == ["jetstream:WUP:8: no record of ours"]
    feed.n += 1
    feed.say("frame", delta("KX-1", 4, "yes", "0.4000", "1.00"))
    await bus.flush()
    again, replay = await play(jetstream_url)
    assert again[: len(kinds)] == kinds
    assert replay.book(book).state == "down"
    assert replay.player.bad["kalshi.lost_records"] == 1
    await mapping.stop()
    await bus.close()


async def test_a_connection_whose_marks_stop_is_gone(jetstream_url: str) -> None:
    """A killed process closes nothing: in the stream its marks stop, and its books are not shown on."""
    await capture(jetstream_url, "WUP", max_bytes=1 << 24, max_age_s=3600)
    bus = await NatsBus.connect(jetstream_url, name="test")
    dead, other = Feed(bus, "c.1"), Feed(bus, "c.2")  # type: ignore[arg-type]
    dead.say("open", b"{}")
    dead.say("frame", snapshot(A, 1, LEVELS))
    other.rx_us = dead.rx_us + 4_000_000
    other.say("open", b"{}")
    await bus.flush()
    _, replay = await play(jetstream_url)
    (book,) = replay.books()
    assert replay.book(book).state == "live"
    other.rx_us += 2_000_000
    other.say("frame", b'{"type":"ticker"}')
    await bus.flush()
    _, replay = await play(jetstream_url)
    assert replay.book(book).state == "down"
    await bus.close()


async def test_a_stream_that_cannot_be_is_a_clear_error(nats_url: str, jetstream_url: str) -> None:
    """No JetStream, no such stream, nobody there, subjects of another stream: each says so."""
    with pytest.raises(BusError, match="JetStream"):
        await capture(nats_url, "WUP", max_bytes=1 << 24, max_age_s=60)
    with pytest.raises(BusError, match="no stream NONE"):
        await play(jetstream_url, "NONE")
    with pytest.raises(BusError, match="cannot be reached"):
        await play("nats://127.0.0.1:1")
    await capture(jetstream_url, "ONE", max_bytes=1 << 24, max_age_s=60)
    await capture(jetstream_url, "ONE", max_bytes=1 << 25, max_age_s=60)
    with pytest.raises(BusError, match="overlap"):
        await capture(jetstream_url, "TWO", max_bytes=1 << 24, max_age_s=60)
    assert (await play(jetstream_url, "ONE"))[0] == []


async def test_the_mapping_reads_as_records(nats_url: str) -> None:
    """What is published beside the frames has the headers and fields of a log's records."""
    bus = await NatsBus.connect(nats_url, name="test")
    heard: list[tuple[str, dict[str, object]]] = []
    await bus.subscribe(subjects.RECORDING_ALL, lambda m: heard.append((m.subject, orjson.loads(m.payload))))
    mapping = MappingLog(bus, epoch=5, book_epoch=lambda: 12)
    await mapping.start()
    mapping.set_table(TABLE)
    await bus.flush()
    await bus.flush()
    assert [subject for subject, _ in heard] == [
        "recording.start",
        "recording.catalog.kalshi",
        "recording.catalog.polymarket",
        "recording.mapping",
    ]
    assert (heard[0][1]["epoch"], heard[-1][1]["epoch"], heard[-1][1]["version"]) == (5, 12, 7)
    assert Meta("mapping", "", "", 1, 0).headers()["Wup-Kind"] == "mapping"
    await mapping.stop()
    await bus.close()
