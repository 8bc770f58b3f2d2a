"""Which question: how many recorded frames a second does one core replay, with full normalise and merge?

`python benches/replay.py [--frames 60000] [--rounds 3]` makes a recording in memory (both simulators, without
sockets and without waiting), packs it as the recorder does, and prints processor time per frame of: reading
alone; reading, normalising and merging; the same with the SHA-256 of `wup replay`; and each venue alone.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from machine import machine
from wup.config import load
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.playback import Replay, comparable
from wup.playback.record import RecordWriter
from wup.playback.sources import FilesLog
from wup.raw import Meta
from wup.recorder.records import table_lines
from wup.sim.exchange import Act
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.listed import build_world
from wup.sim.mapping import pairs_of
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.sim.pump import advance
from wup.venues.registry import VENUES

START_US = 1_795_353_600_000_000
RATE = 2000.0


def mapping(platforms: tuple[str, ...]) -> MappingTable:
    """The simulated pairs: all these venues in each book."""
    legs: list[Leg] = []
    books: dict[str, BookInfo] = {}
    for number, pair in enumerate(pairs_of(build_world(0), platforms)):
        book = f"{pair['aggregate']}.{number:016x}.yes"
        books[book] = BookInfo(book, pair["aggregate"], pair["title"], pair["label"])
        legs += [
            Leg(leg["platform"], leg["asset_id"], leg["market_id"], leg["event"], book, leg["inverted"])
            for leg in pair["legs"]
        ]
    return MappingTable(1, tuple(legs), books)


class Tape:
    """Both venues played in virtual time, written down as the recorder would."""

    def __init__(self, path: Path, platforms: tuple[str, ...]) -> None:
        self._file = path.open("wb")
        self._writer = RecordWriter(self._file, packed=True)
        self.frames = 0
        self._n = dict.fromkeys(platforms, 0)
        self._now_us = START_US
        self._out: list[tuple[str, Any]] = []
        model = MarketModel(build_world(0), seed=7, start_us=START_US, rate=RATE)
        kinds = {"kalshi": KalshiExchange, "polymarket": PolymarketExchange}
        self._model = model
        self._exchanges = {name: kinds[name](model, seed=7) for name in platforms}
        self._sessions: dict[str, Any] = {}
        self._connections: dict[str, Any] = {}

    def make(self, frames: int) -> None:
        """Until `frames` are written."""
        table = mapping(tuple(self._exchanges))
        start = {"kind": "start", "rx_us": START_US, "epoch": START_US // 1000, "verdicts": True}
        for line in (orjson.dumps(start) + b"\n", *table_lines(table, START_US, None)):
            self._writer.raw(line)
        for name, exchange in self._exchanges.items():
            exchange.attach(lambda connection, outputs, name=name: self._take(name, outputs))
            session = self._sessions[name] = VENUES[name].session(load(VENUES[name].settings))
            self._connections[name] = exchange.connect(self._now_us)
            self._record("open", name, orjson.dumps(session.open_info()))
            self._say(name, session.opened([leg.asset_id for leg in table.assets(name)]))
        while self.frames < frames:
            self._now_us += 1000
            advance(self._model, self._exchanges, self._now_us)
            self._drain()
        self._writer.close()
        self._file.close()

    def _take(self, name: str, outputs: Any) -> None:
        self._out.extend((name, output) for output in outputs)

    def _say(self, name: str, texts: list[str]) -> None:
        for text in texts:
            self._record("sent", name, text.encode())
            self._take(name, self._connections[name].client_frame(text, self._now_us))

    def _drain(self) -> None:
        while self._out:
            out, self._out = self._out, []
            for name, output in out:
                if isinstance(output, Act):
                    continue
                raw = output.encode()
                self._n[name] += 1
                self.frames += 1
                self._record("frame", name, raw)
                if self._sessions[name].asset_of(raw) is None:
                    self._say(name, self._sessions[name].received(raw))

    def _record(self, kind: Any, name: str, payload: bytes) -> None:
        meta = Meta(kind, name, f"{name}-1.{START_US // 1000}", self._now_us, self._n[name])
        self._writer.write(meta, payload)


def timed(rounds: int, work: Callable[[], int]) -> tuple[float, int]:
    """Processor seconds of the fastest round, and what `work` counted."""
    best, count = float("inf"), 0
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        count = work()
        best = min(best, time.process_time() - began)
    return best, count


def reading(path: str) -> int:
    """Records from the disk, nothing done with them."""
    count = 0
    for meta, _ in FilesLog((path,)).records(lambda bad: None):
        count += meta.kind == "frame"
    return count


def playing(path: str, *, digest: bool) -> int:
    """All of it."""
    replay = Replay(FilesLog((path,)))
    if digest:
        sha256 = hashlib.sha256()
        replay.play(lambda change: sha256.update(comparable(change.payload)))
    else:
        replay.play(lambda change: None)
    books = replay.books()
    assert books, "not played"
    assert all(replay.book(book).state in ("live", "degraded") for book in books), "not played"
    assert not replay.player.bad, replay.player.bad
    return replay.player.frames


def main(frames: int, rounds: int) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for platforms in (("kalshi", "polymarket"), ("kalshi",), ("polymarket",)):
            path = Path(folder) / "-".join(platforms)
            tape = Tape(path, platforms)
            tape.make(frames)
            print(
                f"{' and '.join(platforms)}: {tape.frames} frames, "
                f"{path.stat().st_size / tape.frames:.0f} packed bytes each"
            )
            log = str(path)
            works: dict[str, Callable[[], int]] = {
                "read": partial(reading, log),
                "normalise, merge": partial(playing, log, digest=False),
                "and sha256": partial(playing, log, digest=True),
            }
            for name, work in works.items():
                took, count = timed(rounds, work)
                print(f"  {name:<17} {took / count * 1e6:6.2f} us per frame, {count / took:>9,.0f} frames/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.frames, arguments.rounds)
