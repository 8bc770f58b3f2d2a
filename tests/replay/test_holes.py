"""Frames that are missing without a word: what reveals them, and what is not said of a book before that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recorder.feeding import US, Feed
from replay.tapes import write
from venues.kal import A, B, delta, snapshot
from wup.bus import LocalBus, Message
from wup.clock import ManualClock
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.normalizer.engine import Engine
from wup.playback import Replay, reader
from wup.playback.moment import Unknown, book_at
from wup.playback.sources import find
from wup.playback.verify import verify
from wup.raw import Kind, Meta, read_meta
from wup.recorder import Recorder, segments
from wup.recorder.follower import Follower
from wup.venues.registry import VENUES

SECOND = 1_000_000
BOOK = "fed.0000000000000001.yes"
MAPPING = {
    "kind": "mapping",
    "rx_us": US,
    "version": 1,
    "table": [["kalshi", A, BOOK, False], ["kalshi", B, "fed.0000000000000002.yes", False]],
}
START = {"kind": "start", "rx_us": US, "epoch": US // 1000, "version": "1", "verdicts": True}
FIRST = snapshot(A, 1, [["0.4000", "5.00"]]).decode()
SECOND_BOOK = snapshot(B, 1, [["0.3000", "5.00"]]).decode()


def at(seconds: float) -> int:
    return US + round(seconds * SECOND)


def record(
    seconds: float, conn: str, n: int | None = None, kind: str = "frame", **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"rx_us": at(seconds), "platform": "kalshi", "conn": conn, **more}
    if n is not None:
        found["n"] = n
    if kind != "frame":
        found["kind"] = kind
    return found


def noise(seconds: float, conn: str, n: int) -> dict[str, Any]:
    return record(seconds, conn, n, raw='{"type":"ticker"}')


LOG = [
    START,
    MAPPING,
    record(0, "c1", 0, "open", use_yes_price=True),
    record(0, "c2", 0, "open", use_yes_price=True),
    record(0, "c1", 1, raw=FIRST),
    record(0, "c2", 1, raw=SECOND_BOOK),
]
"""The book of `BOOK` on c1, another one on c2."""


def moment(folder: Path, records: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The book at that time, or why it is unknown, under `unknown`."""
    path = write(folder / "log.jsonl", [*LOG, *records])
    try:
        return book_at(lambda: Replay(find([path])), BOOK, at(seconds))
    except Unknown as unknown:
        return {"unknown": unknown.why, "said": str(unknown)}


@pytest.mark.parametrize(
    "reveals",
    [noise(60, "c1", 51), record(60, "c1", 50, "marks"), record(60, "c1", 50, "close", why="disconnected")],
    ids=["frame", "marks", "close"],
)
def test_a_book_inside_a_hole_is_unknown(reveals: dict[str, Any], tmp_path: Path) -> None:
    """Frames lost between 0 s and 60 s, and another connection that speaks meanwhile: at 30 s the answer is
    the reason, whatever it is that shows the hole; after it and before it the book is known."""
    others = [noise(second, "c2", second + 1) for second in range(1, 60)]
    found = moment(tmp_path, [*others, reveals], 30)
    assert found["unknown"] == "frames_lost"
    assert "49 frames of c1 are missing" in found["said"]
    again = [record(70, "c1", 52, raw=snapshot(A, 9, [["0.5000", "1.00"]]).decode()), noise(80, "c1", 53)]
    if reveals.get("kind") != "close":
        assert moment(tmp_path, [*others, reveals, *again], 75)["bids"][0][0] == "0.5"
        assert moment(tmp_path, [*others, reveals, *again], 65)["unknown"] == "not_live"


def test_a_hole_elsewhere_says_nothing_of_this_book(tmp_path: Path) -> None:
    """Another connection's hole, this one's hole at another time, no hole at all: the book is given; also
    when the recording ends before its connection speaks again."""
    whole = [noise(60, "c1", 2)]
    for records in (
        [noise(59, "c2", 9), *whole],
        [noise(20, "c1", 2), noise(40, "c1", 3), noise(60, "c1", 9)],
        [noise(59, "c2", 2), *whole],
        [noise(59, "c2", 2)],
    ):
        found = moment(tmp_path, records, 30)
        assert found["bids"] == [["0.4", "5", {"kalshi": "5"}]], (records, found)


def test_a_later_run_says_nothing_of_the_one_before(tmp_path: Path) -> None:
    """A connection of which nothing more is told in its run: the next run is not read for it."""
    later = {**START, "rx_us": at(90), "epoch": at(90) // 1000}
    found = moment(tmp_path, [noise(40, "c2", 2), later, noise(95, "c1", 50)], 30)
    assert found["bids"] == [["0.4", "5", {"kalshi": "5"}]]


@pytest.mark.parametrize(
    ("records", "lost"),
    [
        ([record(0, "c3", 0, "open"), noise(1, "c3", 4)], [3]),
        ([record(0, "c3", 7, "open"), noise(1, "c3", 9)], [1]),
        ([record(0, "c3", 7, "open"), noise(1, "c3", 8)], []),
        # Recordings made before `open` told it.
        ([record(0, "c3", None, "open"), noise(1, "c3", 4)], []),
        ([record(0, "c3", 0, "open"), noise(1, "c3", 1), record(2, "c3", 3, "close", why="x")], [2]),
        ([record(0, "c3", 0, "open"), record(2, "c3", 3, "close", why="x")], [3]),
        ([record(0, "c3", 0, "open"), noise(1, "c3", 1), record(2, "c3", None, "close", why="x")], []),
        ([record(0, "c3", 0, "open"), noise(1, "c3", 1), record(2, "c3", 2, "marks")], [1]),
        ([record(0, "c3", 0, "open"), record(2, "c3", 2, "marks"), noise(3, "c3", 4)], [2, 1]),
        ([record(0, "c3", 0, "open"), record(2, "c3", 2, "marks"), noise(3, "c3", 3)], [2]),
    ],
)
def test_verify_finds_frames_missing_anywhere(
    records: list[dict[str, Any]], lost: list[int], tmp_path: Path
) -> None:
    """Right after an `open`, right before a `close`, and those that only marks tell of."""
    path = write(tmp_path / "log.jsonl", [*LOG, *records])
    found = verify(Replay(find([path])), [])
    assert [(gap["why"], gap["frames"]) for gap in found["gaps"]] == [("frames_lost", n) for n in lost]
    assert found["whole"] is (not lost)


def test_a_first_book_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    """An opened connection whose first frame is not its first: what it was to bring counts as lost, live as
    in a replay; one that was met in its middle has lost nothing."""
    for opened, lost in ((0, True), (3, False)):
        said: list[tuple[str, str]] = []
        engine = Engine(
            epoch=1,
            instance="x",
            venues=VENUES,
            emit=lambda subject, payload: None,
            bad=lambda platform, kind, detail, said=said: said.append((kind, detail)),  # type: ignore[misc]
        )
        engine.set_table(MappingTable(1, (Leg("kalshi", A, A, "KX", BOOK, False),)))
        engine.record(Meta("open", "kalshi", "c1", US, opened), b'{"use_yes_price":true}', US)
        engine.record(Meta("frame", "kalshi", "c1", US, 4), b'{"type":"ticker"}', US)
        assert (("lost_records", f"c1 {opened} then 4") in said) is lost


class LossyFeed(Feed):
    """A connection that numbers frames which then nobody gets."""

    def lose(self, count: int) -> None:
        self.n += count

    def say(self, kind: Kind, payload: bytes) -> None:
        self.rx_us += SECOND
        super().say(kind, payload)


async def test_a_hole_that_marks_reveal_is_in_the_recording(tmp_path: Path) -> None:
    """Live the marks put the leg in doubt; a replay of the recording says the same messages, `verify` names
    the gap, a book at a time within it is unknown; marks that tell nothing new are not recorded."""
    bus = LocalBus()
    table = MappingTable(
        7, (Leg("kalshi", A, A, "KX", BOOK, False),), {BOOK: BookInfo(BOOK, "fed", "Fed", "x")}
    )

    def fresh(sink: list[bytes]) -> Engine:
        engine = Engine(
            epoch=1, instance="x", venues=VENUES, emit=lambda subject, payload: sink.append(payload)
        )
        engine.set_table(table)
        return engine

    live: list[bytes] = []
    engine = fresh(live)

    def take(message: Message) -> None:
        meta = read_meta("kalshi", message.headers)
        assert meta is not None
        engine.record(meta, message.payload, meta.rx_us)

    await bus.subscribe("market.>", take)
    recorder = Recorder(bus, tmp_path, books=engine, clock=ManualClock(US))
    await recorder.start()
    recorder.set_table(table)
    feed = LossyFeed(bus)
    feed.say("open", b'{"use_yes_price":true}')
    feed.say("frame", snapshot(A, 1, [["0.4000", "5.00"]]))
    marks = b'{"type":"marks","open":{"use_yes_price":true}}'
    feed.say("marks", marks)
    feed.lose(2)
    feed.say("marks", marks)
    told_us = feed.rx_us
    feed.say("marks", marks)
    assert b'"state":"resync","why":"gap"' in live[-1]
    feed.say("frame", snapshot(A, 2, [["0.3000", "7.00"]]))
    feed.say("frame", delta(A, 3, "yes", "0.3000", "1.00"))
    feed.say("close", b'{"why":"disconnected"}')
    await recorder.stop()
    read = list(reader.records(segments(tmp_path), lambda bad: pytest.fail(str(bad))))
    assert [meta.n for meta, _ in read if meta.kind == "marks"] == [3]
    again: list[bytes] = []
    engine = fresh(again)
    for meta, payload in read:
        if meta.kind not in ("start", "mapping"):
            engine.record(meta, payload, meta.rx_us)
    assert again == live
    found = verify(Replay(find([tmp_path])), [tmp_path])
    assert [(gap["why"], gap["frames"]) for gap in found["gaps"]] == [("frames_lost", 2)]
    with pytest.raises(Unknown) as unknown:
        book_at(lambda: Replay(find([tmp_path])), BOOK, told_us - SECOND)
    assert unknown.value.why == "frames_lost"


async def test_a_segment_says_after_which_frame_it_meets_a_connection(tmp_path: Path) -> None:
    """A segment whose predecessors are gone: a frame that is missing right at its beginning is a gap, the
    frames of the segments before it are not."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path, segment_bytes=1, books=Follower())
    await recorder.start()
    feed = LossyFeed(bus)
    feed.say("open", b'{"use_yes_price":true}')
    feed.frames(3)
    while len(segments(tmp_path)) < 2:
        await recorder.flush()
    feed.lose(1)
    feed.frames(1)
    await recorder.stop()
    first, *rest = segments(tmp_path)
    os.unlink(first)
    assert len(rest) >= 1
    found = verify(Replay(find([tmp_path])), [])
    assert [(gap["why"], gap["frames"]) for gap in found["gaps"]] == [("frames_lost", 1)]
