"""The recorder on a bus: order, gaps that say so, disks that refuse, and kills."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

import wup
from recorder.feeding import Feed, fields, kinds, records
from wup import subjects
from wup.bus import LocalBus, Message
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.metrics import REGISTRY
from wup.playback import Replay
from wup.playback.sources import find
from wup.playback.verify import verify
from wup.raw import Meta
from wup.recorder import Recorder, segments

TESTS = Path(__file__).parent.parent
BOOK = "fed.0000000000000001.yes"
TABLE = MappingTable(
    7,
    (
        Leg("kalshi", "KX-1", "KX-1", "KX", BOOK, False, tick="0.01"),
        Leg("polymarket", "65", "0xd", "fed", BOOK, True, "halted", facts={"neg_risk": "true"}),
    ),
    {BOOK: BookInfo(BOOK, "fed", "Fed", "cut")},
)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


async def test_the_log_is_what_was_published(tmp_path: Path) -> None:
    """Every record in the order of the bus, payloads byte for byte, mapping where it came into force; marks
    are not recorded; what is still open at the end is closed with the reason that nothing more is known."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path, epoch=11, book_epoch=lambda: 12)
    await recorder.start()
    feed = Feed(bus)
    recorder.set_table(TABLE)
    feed.say("open", b'{"use_yes_price":true}')
    feed.say("sent", b'{"cmd":"subscribe"}')
    raw = '{"type":"x","text":"é \\n \\" ü"}'.encode()
    feed.say("frame", raw)
    feed.say("frame", b"\xff\xfe not text")
    feed.say("marks", b'{"type":"marks","n":2,"open":{}}')
    feed.say("verdict", b'{"asset":"KX-1","state":"down","why":"venue_silent"}')
    await recorder.stop()
    found = records(segments(tmp_path))
    assert [meta.kind for meta, _ in found] == (
        ["start", "catalog", "catalog", "mapping", "open", "sent", "frame", "frame", "verdict", "close"]
    )
    assert fields(found[0][1])["epoch"] == 11
    assert fields(found[2][1])["neg_risk"] == "true"
    mapping = fields(found[3][1])
    assert mapping["table"] == [list(row) for row in TABLE.rows()]
    assert (mapping["version"], mapping["epoch"]) == (7, 12)
    assert mapping["books"] == [[BOOK, "Fed", "cut", None]]
    assert mapping["suspended"] == [["polymarket", "65", "halted"]]
    assert fields(found[4][1])["use_yes_price"] is True
    assert [payload for _, payload in found[5:8]] == [b'{"cmd":"subscribe"}', raw, b"\xff\xfe not text"]
    assert [meta.n for meta, _ in found[6:8]] == [1, 2]
    assert (found[-1][0].connection, fields(found[-1][1])["why"]) == ("c.1", "gap")


async def test_rotation_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Frames across many small segments: each once, in order; a later segment opens nothing anew."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path, segment_bytes=600)
    await recorder.start()
    feed = Feed(bus)
    recorder.set_table(TABLE)
    feed.say("open", b"{}")
    for turn in range(6):
        for _ in range(20):
            feed.frames(1, b'{"noise":"%s"}' % os.urandom(200).hex().encode())
        await recorder.flush()
        await until(lambda enough=turn + 2: len(segments(tmp_path)) >= enough)
    await recorder.stop()
    paths = segments(tmp_path)
    found = records(paths)
    assert [meta.n for meta, _ in found if meta.kind == "frame"] == list(range(1, 121))
    assert [meta.kind for meta, _ in found].count("open") == 1
    assert len(paths) >= 6


async def test_a_recording_can_be_read_from_any_segment(tmp_path: Path) -> None:
    """When the first segment is gone, the next one's head says mapping and open connections."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path, segment_bytes=1, epoch=11)
    await recorder.start()
    feed = Feed(bus)
    recorder.set_table(TABLE)
    feed.say("open", b'{"use_yes_price":true}')
    feed.frames(1)
    await recorder.flush()
    await until(lambda: len(segments(tmp_path)) > 1)
    feed.frames(1)
    await recorder.stop()
    os.unlink(segments(tmp_path)[0])
    found = records(segments(tmp_path))
    assert [meta.kind for meta, _ in found][:5] == ["start", "catalog", "catalog", "mapping", "open"]
    assert fields(found[4][1])["use_yes_price"] is True
    assert fields(found[0][1])["epoch"] == 11
    assert [meta.n for meta, _ in found if meta.kind == "frame"] == [2]


async def test_a_head_says_which_markets_are_not_open(tmp_path: Path) -> None:
    """What was told of markets before a segment is in its head: the last word of each that is not open."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path, segment_bytes=1, epoch=11)
    await recorder.start()
    feed = Feed(bus)
    feed.say("open", b'{"use_yes_price":true}')
    feed.say("status", b'{"asset":"A","status":"halted","why":"halted"}')
    feed.say("status", b'{"asset":"B","status":"halted","why":"halted"}')
    feed.say("status", b'{"asset":"A","status":"halted","why":"halted","venue_us":7}')
    feed.say("status", b'{"asset":"C","status":"closed","why":"resolved","result":"yes"}')
    feed.say("status", b'{"asset":"B","status":"open"}')
    feed.frames(1)
    await recorder.flush()
    await until(lambda: len(segments(tmp_path)) > 1)
    feed.frames(1)
    await recorder.stop()
    assert [meta.kind for meta, _ in records(segments(tmp_path))].count("status") == 5
    os.unlink(segments(tmp_path)[0])
    found = records(segments(tmp_path))
    assert [meta.kind for meta, _ in found][:4] == ["start", "status", "status", "open"]
    told = [fields(payload) for meta, payload in found if meta.kind == "status"]
    assert [(one["asset"], one["status"], one.get("venue_us"), one.get("result")) for one in told] == [
        ("A", "halted", 7, None),
        ("C", "closed", None, "yes"),
    ]
    assert {meta.platform for meta, _ in found if meta.kind == "status"} == {"kalshi"}


async def test_a_connection_met_in_its_middle_is_opened_by_its_marks(tmp_path: Path) -> None:
    """Frames whose mode is unknown are not recorded; once marks tell, an `open` is written and the venue is
    asked for whole books of that connection."""
    bus = LocalBus()
    asked: list[dict[str, object]] = []

    def ask(message: Message) -> None:
        asked.append(orjson.loads(message.payload))

    await bus.subscribe("control.resync.kalshi", ask)
    recorder = Recorder(bus, tmp_path)
    await recorder.start()
    feed = Feed(bus)
    feed.frames(2)
    feed.say("marks", b'{"type":"marks","n":2,"open":{"use_yes_price":true}}')
    feed.frames(1)
    await recorder.flush()
    await until(lambda: asked)
    await recorder.stop()
    found = records(segments(tmp_path))
    assert [meta.kind for meta, _ in found] == ["start", "open", "frame", "close"]
    assert fields(found[1][1])["use_yes_price"] is True
    assert found[2][0].n == 3
    assert asked == [{"assets": "all", "why": "gap", "source": "venue", "connection": "c.1"}]


async def test_a_full_disk_stops_the_recording_and_not_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing goes on while the disk refuses; the refusal is counted; when space returns the log goes on
    as a new run, after the connections of the old one were ended where knowledge ended."""
    bus = LocalBus()
    stream: list[bytes] = []
    await bus.subscribe("market.>", lambda message: stream.append(message.payload))
    recorder = Recorder(bus, tmp_path, epoch=11)
    await recorder.start()
    recorder.set_table(TABLE)
    feed = Feed(bus)
    feed.say("open", b"{}")
    feed.frames(3)
    await recorder.flush()
    real, errors, dropped = (
        os.write,
        metric("wup_record_errors_total", why="disk_full"),
        metric("wup_dropped_total", queue="recorder"),
    )

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    feed.frames(4)
    await recorder.flush()
    assert recorder.problem == "disk_full"
    assert metric("wup_record_errors_total", why="disk_full") == errors + 1
    assert metric("wup_recording") == 0
    feed.frames(5)
    await recorder.flush()
    monkeypatch.setattr(os, "write", real)
    await until(lambda: recorder.problem is None)
    assert metric("wup_recording") == 1
    feed.frames(2)
    await recorder.stop()
    assert len(stream) == 15
    found = records(segments(tmp_path))
    assert [meta.n for meta, _ in found if meta.kind == "frame"] == [1, 2, 3, 13, 14]
    opening = ["start", "catalog", "catalog", "mapping", "open", "frame"]
    assert kinds(segments(tmp_path)) == [*opening, "close", *opening, "close"]
    # Knowledge ends with the last record that is there, not with those that were lost.
    ended = next(meta.rx_us for meta, _ in found if meta.kind == "close")
    assert ended == next(meta.rx_us for meta, _ in found if meta.kind == "frame" and meta.n == 3)
    runs = [fields(payload)["epoch"] for meta, payload in found if meta.kind == "start"]
    assert runs[0] == 11
    assert runs[1] > 11
    assert metric("wup_dropped_total", queue="recorder") == dropped + 9


async def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    """The start does not fail with the disk; the recording begins when the folder can be made."""
    folder = tmp_path / "here"
    folder.write_bytes(b"a file is in the way")
    bus = LocalBus()
    recorder = Recorder(bus, folder)
    await recorder.start()
    assert recorder.problem == "unwritable"
    feed = Feed(bus)
    feed.say("open", b"{}")
    feed.frames(1)
    folder.unlink()
    await until(lambda: recorder.problem is None)
    feed.frames(1)
    await recorder.stop()
    assert kinds(segments(folder)) == ["start", "open", "frame", "close"]


async def test_a_folder_removed_while_recording_is_made_again(tmp_path: Path) -> None:
    """Someone deletes the recordings: the recorder notices and goes on in a new segment."""
    folder = tmp_path / "rec"
    bus = LocalBus()
    recorder = Recorder(bus, folder)
    await recorder.start()
    feed = Feed(bus)
    feed.say("open", b"{}")
    await recorder.flush()
    while folder.exists():
        # The recorder may be writing its index just then, and the folder is not empty again.
        shutil.rmtree(folder, ignore_errors=True)
    feed.frames(1)
    await recorder.flush()
    assert recorder.problem == "unwritable"
    await until(lambda: recorder.problem is None)
    feed.frames(1)
    await recorder.stop()
    assert [meta.n for meta, _ in records(segments(folder)) if meta.kind == "frame"] == [2]


async def test_a_full_queue_drops_frames_and_keeps_the_rest(tmp_path: Path) -> None:
    """What cannot wait is counted and shows as a hole in the connection's counter, also when it was the last
    before its end; opens, verdicts and closes are kept."""
    bus = LocalBus()
    before = metric("wup_dropped_total", queue="recorder")
    recorder = Recorder(bus, tmp_path, queue_bytes=20_000)
    await recorder.start()
    feed = Feed(bus)
    feed.say("open", b"{}")
    feed.frames(100, b"x" * 1000)
    feed.say("close", b'{"why":"disconnected"}')
    await recorder.stop()
    found = records(segments(tmp_path))
    held = sum(meta.kind == "frame" for meta, _ in found)
    assert 0 < held < 100
    assert metric("wup_dropped_total", queue="recorder") - before == 100 - held
    assert found[-1][0].kind == "close"
    assert fields(found[-1][1])["why"] == "disconnected"
    gaps = verify(Replay(find([tmp_path])), [tmp_path])["gaps"]
    assert (sum(gap["frames"] for gap in gaps), {gap["why"] for gap in gaps}) == (100 - held, {"frames_lost"})


async def test_what_is_no_record_is_counted_and_skipped(tmp_path: Path) -> None:
    """Messages without headers, with numbers that are none, and bodies that are no JSON do not end the
    recording."""
    bus = LocalBus()
    recorder = Recorder(bus, tmp_path)
    await recorder.start()
    feed = Feed(bus)
    count = metric("wup_bad_input_total", stage="recorder", platform="kalshi", kind="bad_record")
    bus.publish("market.kalshi.X", b"{}")
    feed.say("open", b"{}")
    huge = Meta("frame", feed.platform, feed.connection, 10**40, 10**40)
    bus.publish(subjects.raw_connection(feed.platform, feed.connection), b"{}", huge.headers())
    feed.say("open", b"[]")
    feed.say("verdict", b"\xff")
    feed.say("open", b"{}")
    feed.frames(1)
    await recorder.stop()
    assert kinds(segments(tmp_path)) == ["start", "open", "open", "frame", "close"]
    assert metric("wup_bad_input_total", stage="recorder", platform="kalshi", kind="bad_record") == count + 2


KILLED = """
import asyncio, os, sys
from recorder.feeding import Feed
from wup.bus import LocalBus
from wup.recorder import Recorder

async def main():
    bus = LocalBus()
    recorder = Recorder(bus, sys.argv[1], epoch=5)
    await recorder.start()
    feed = Feed(bus)
    feed.say("open", b"{}")
    while True:
        feed.frames(10, b'{"noise":"%s"}' % os.urandom(50).hex().encode())
        print(feed.n, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_a_killed_recorder_loses_at_most_the_last_second(tmp_path: Path) -> None:
    """After SIGKILL everything older than a second reads, without a bad line, and the next recorder ends the
    dead one's connections before it begins its own run."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (TESTS, Path(wup.__file__).parent.parent))),
        },
    )
    assert process.stdout is not None
    published: list[tuple[float, int]] = []
    loop = asyncio.get_running_loop()
    began: float | None = None
    try:
        async with asyncio.timeout(30):
            while began is None or loop.time() - began < 2.2:
                published.append((loop.time(), int(await process.stdout.readline())))
                began = began or loop.time()
    finally:
        process.send_signal(signal.SIGKILL)
    killed = loop.time()
    await process.wait()
    due = max(n for at, n in published if at <= killed - 1)
    numbers = [meta.n for meta, _ in records(segments(tmp_path)) if meta.kind == "frame"]
    assert numbers == list(range(1, numbers[-1] + 1))
    assert numbers[-1] >= due > 0
    again = Recorder(LocalBus(), tmp_path, epoch=6)
    await again.start()
    await again.stop()
    found = records(segments(tmp_path))
    tail = [(meta.kind, meta.connection) for meta, _ in found[-2:]]
    assert tail == [("close", "c.1"), ("start", "")]
    assert found[-2][0].rx_us == max(meta.rx_us for meta, _ in found if meta.kind == "frame")
