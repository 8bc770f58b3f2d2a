"""A live run, with clocks, faults and repairs, and its recording: the same output, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from venues.market_run import START_US, Run
from wup._core import BookStore, Change
from wup.mapping.table import Leg, MappingTable
from wup.normalizer.engine import Engine
from wup.playback import comparable, run
from wup.playback.record import RecordWriter
from wup.raw import Kind, Meta
from wup.venues.registry import VENUES

EPOCH = START_US // 1000


class Recorded(Run):
    """A run that is recorded as the recorder would, with a store behind the normaliser."""

    def __init__(self, platform: str, seed: int, file: io.BytesIO) -> None:
        super().__init__(platform, seed)
        self.store = BookStore(EPOCH)
        self.messages: list[bytes] = []
        self.verdicts = 0
        self._writer = RecordWriter(file)
        rows = [
            (platform, asset, f"live.{number:016x}.yes", number % 2 == 1)
            for number, asset in enumerate(self.markets)
        ]
        legs = (Leg(p, asset, self._market_id(asset), "", book, flip) for p, asset, book, flip in rows)
        self._writer.start(START_US, EPOCH, "test")
        for asset, market in self.markets.items():
            body = b'{"market_id":"%s","assets":["%s"]}' % (market.listing.market_id.encode(), asset.encode())
            self._writer.write(Meta("catalog", platform, "", START_US, 0), body)
        self._writer.mapping(START_US, 1, rows)
        self.engine = Engine(
            epoch=EPOCH,
            instance="i",
            venues=VENUES,
            emit=self._emit,
            repair=self._repair,
            bad=self._bad,
            verdict=self._verdict,
        )
        self._out(self.store.set_mapping(1, rows, START_US))
        self.engine.set_table(MappingTable(1, tuple(legs)))
        self._answer()

    def _market_id(self, asset: str) -> str:
        return self.markets[asset].listing.market_id

    def _emit(self, subject: str, payload: bytes) -> None:
        self.reader.take(subject, payload)
        self._out(self.store.apply(payload, self.now_us))

    def _out(self, changes: list[Change]) -> None:
        self.messages.extend(comparable(change.payload) for change in changes)

    def _answer(self) -> None:
        while wishes := self.store.take_resyncs():
            for platform, asset, _ in wishes:
                self.engine.resync(platform, [asset], self.now_us)

    def _record(self, kind: Kind, payload: bytes) -> None:
        self._writer.write(Meta(kind, self.platform, self._name, self.now_us, self._n), payload)
        super()._record(kind, payload)
        self._answer()

    def _verdict(self, platform: str, connection: str, asset: str, state: str, why: str) -> None:
        self.verdicts += 1
        body = b'{"asset":"%s","state":"%s","why":"%s"}' % (asset.encode(), state.encode(), why.encode())
        self._writer.write(Meta("verdict", platform, connection, self.now_us, 0), body)


@pytest.mark.parametrize(
    ("platform", "seed", "clocked"),
    [("kalshi", 5, False), ("polymarket", 5, False), ("polymarket", 24, True)],
)
def test_replay_of_a_live_run_is_identical(platform: str, seed: int, clocked: bool, tmp_path: Path) -> None:
    """Every consolidated message of the live run, in order, without the stamps that a clock made; also when
    a deadline took a leg away."""
    file = io.BytesIO()
    live = Recorded(platform, seed, file)
    live.go(2.5)
    tape = tmp_path / "tape"
    tape.write_bytes(file.getvalue())
    again: list[bytes] = []

    def take(change: Any) -> None:
        again.append(comparable(change.payload))

    player, bad = run([str(tape)], take)
    assert bad == []
    for place, (one, other) in enumerate(zip(live.messages, again, strict=False)):
        assert one == other, f"message {place}"
    assert len(again) == len(live.messages) > 200
    assert {name: player.store.book(name).digest for name in player.store.books()} == {
        name: live.store.book(name).digest for name in live.store.books()
    }
    assert (live.verdicts > 0) is clocked
