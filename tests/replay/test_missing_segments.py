"""What a missing or broken segment hides: nothing that was open before it is believed after it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from recorder.feeding import US, Feed
from venues.kal import delta, snapshot
from wup.bus import LocalBus
from wup.clock import ManualClock
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.playback import Replay, reader
from wup.playback.sources import find
from wup.recorder import Recorder, files
from wup.recorder.follower import Follower

BOOK = "fed.0000000000000001.yes"
TABLE = MappingTable(
    7, (Leg("kalshi", "KX-1", "KX-1", "KX", BOOK, False),), {BOOK: BookInfo(BOOK, "fed", "Fed", "cut")}
)


async def recording(folder: Path) -> list[str]:
    """Three segments of one run: a book on a connection; its end, another connection with another book; and
    one change of that. The names of the segments."""
    bus, clock = LocalBus(), ManualClock(US)
    recorder = Recorder(bus, folder, clock=clock, segment_age_s=100, books=Follower())
    await recorder.start()
    recorder.set_table(TABLE)
    first, second = Feed(bus, "c.1"), Feed(bus, "c.2")
    first.say("open", b'{"use_yes_price":true}')
    first.say("frame", snapshot("KX-1", 1, [["0.4000", "5.00"]]))

    async def rotate() -> None:
        await recorder.flush()
        wanted = len(files.names(folder)) + 1
        clock.advance(101)
        while len(files.names(folder)) < wanted:
            await recorder.flush()
        # The books come by way of the loop.
        while b'"kind":"book"' not in text(folder):
            await recorder.flush()
            await asyncio.sleep(0.01)

    await rotate()
    second.rx_us = first.rx_us + 10
    second.say("open", b'{"use_yes_price":true}')
    first.rx_us = second.rx_us
    first.say("close", b'{"why":"disconnected"}')
    second.say("frame", snapshot("KX-1", 1, [["0.3000", "7.00"]]))
    await rotate()
    second.rx_us += 1_000_000
    second.say("frame", delta("KX-1", 2, "yes", "0.3000", "1.00"))
    await recorder.stop()
    return files.names(folder)


def text(folder: Path) -> bytes:
    """The records of the last segment."""
    path = files.packed_of(folder, files.names(folder)[-1])
    return b"".join(payload for _, payload in reader.records([str(path)], lambda bad: None))


def bids(folder: Path) -> tuple[list[list[str]], Replay]:
    """The book before the recording's own end (its closes), and the replay."""
    replay = Replay(find([folder]))
    seen = [
        [f"{level.price} {level.size}" for level in replay.book(message.book).bids]
        for message in replay
        if message.kind == "delta"
    ]
    return seen, replay


async def test_a_whole_recording_for_comparison(tmp_path: Path) -> None:
    """All three segments: the first book, its end, the second book and its change."""
    assert len(await recording(tmp_path)) == 3
    seen, replay = bids(tmp_path)
    assert seen == [["0.4 5"], [], ["0.3 7"], ["0.3 8"], []]
    assert replay.player.checks()["kalshi.checkpoint_match"] >= 1


@pytest.mark.parametrize("harm", ["deleted", "cut", "garbage"])
async def test_what_was_open_before_a_gap_is_not_believed_after_it(tmp_path: Path, harm: str) -> None:
    """The segment in which a connection ended is gone or broken: its book ends at the gap, and the head
    and the books at the beginning of the next segment say what is true from there."""
    names = await recording(tmp_path)
    middle = files.packed_of(tmp_path, names[1])
    if harm == "deleted":
        middle.unlink()
    elif harm == "cut":
        middle.write_bytes(middle.read_bytes()[:40])
    else:
        middle.write_bytes(b"garbage" * 10)
    seen, replay = bids(tmp_path)
    assert seen == [["0.4 5"], [], ["0.3 7"], ["0.3 8"], []]
    last = [message.fields() for message in replay if message.kind == "status"]
    assert "gap" in [status["why"] for status in last]
    assert len(replay.bad_lines) == (harm != "deleted")
    assert orjson.loads(files.index_of(tmp_path, names[2]).read_bytes())["connections"] == [["kalshi", "c.2"]]


async def test_a_recorder_alone_puts_books_in_each_segment(tmp_path: Path) -> None:
    """What is left when the oldest segments were deleted begins with its head and the books, and goes
    on with the venue's own sequence."""
    names = await recording(tmp_path)
    for name in names[:2]:
        for path in (files.packed_of, files.index_of, files.head_of):
            path(tmp_path, name).unlink(missing_ok=True)
    seen, replay = bids(tmp_path)
    assert seen == [["0.3 7"], ["0.3 8"], []]
    assert (replay.bad_lines, replay.player.bad) == ([], {})
    (body,) = (
        orjson.loads(payload)
        for meta, payload in find([tmp_path]).records(lambda bad: None)
        if meta.kind == "book"
    )
    assert (body["bids"], body["sid"], body["seq"]) == ([["0.3", "7"]], 1, 1)
