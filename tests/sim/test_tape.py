"""Recorded frames on a real socket."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import zstandard
from websockets.asyncio.client import connect

from sim.naive import KalshiReader
from wup.errors import SettingsError
from wup.sim.tape import TapeFrame, TapeServer, read_tape

if TYPE_CHECKING:
    from pathlib import Path


def test_reads_every_form(tmp_path: Path) -> None:
    """The three forms of a line give the same frame; other records and other platforms are left out."""
    lines = [
        {"kind": "start", "rx_us": 1},
        {"rx_us": 5_000, "platform": "kalshi", "conn": "c1", "n": 1, "raw": '{"a":1}'},
        {"rx_us": 5_000, "platform": "polymarket", "conn": "c1", "n": 1, "raw": "PONG"},
        {"rx_ns": 6_000_000, "raw": '{"a":1}'},
        {"recv_ms": 7, "frame": {"a": 1}},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines).encode()
    path = tmp_path / "tape.jsonl"
    path.write_bytes(text)
    wanted = [TapeFrame(at_us, '{"a":1}') for at_us in (5_000, 6_000, 7_000)]
    assert read_tape(path, platform="kalshi") == wanted
    path.write_bytes(zstandard.compress(text))
    assert read_tape(path, platform="kalshi") == wanted


def test_bad_lines_are_named(tmp_path: Path) -> None:
    """Lines that are no frames are told all at once, by number."""
    path = tmp_path / "tape.jsonl"
    path.write_text('{"rx_us":1,"raw":"x"}\nnonsense\n{"rx_us":1}\n[]\n')
    with pytest.raises(SettingsError) as wrong:
        read_tape(path)
    assert [line.split(":")[1] for line in wrong.value.problems] == ["2", "3", "4"]
    with pytest.raises(SettingsError, match="cannot be read"):
        read_tape(tmp_path / "none")


async def test_speed() -> None:
    """0.4 s of tape take at least 0.1 s at four times the speed; a day is over at once at speed 0."""
    for speed, apart_us, least in ((4.0, 100_000, 0.09), (0.0, 21_600_000_000, 0.0)):
        frames = [TapeFrame(index * apart_us, str(index)) for index in range(5)]
        server = TapeServer(frames, speed=speed)
        await server.start()
        async with connect(f"ws://127.0.0.1:{server.port}/") as socket:
            started = time.monotonic()
            await socket.send("go")
            assert [await socket.recv() for _ in frames] == [frame.text for frame in frames]
            assert time.monotonic() - started >= least
        await server.stop()


async def test_the_real_capture_plays(captures: Path) -> None:
    """Real frames of production come through whole: numbers 1 to 268 without a hole, no level below zero."""
    frames = read_tape(captures / "kalshi" / "ws_orderbook_stream.compact.jsonl")
    server = TapeServer(frames, speed=0)
    await server.start()
    reader = KalshiReader(yes_price=False)
    async with connect(f"ws://127.0.0.1:{server.port}/trade-api/ws/v2") as socket:
        await socket.send("{}")
        for _ in frames:
            reader.frame(str(await socket.recv()))
    await server.stop()
    assert reader.seqs == {1: 268}
    assert reader.gaps == []
    assert reader.negative == 0
    assert len(reader.books) == 12
