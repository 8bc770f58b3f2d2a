"""A recording through normalizer and store, in the recording's own time (wire.md section 6).

Nothing here reads a clock: `ts.norm` and `ts.book` are the receive times, epochs come from the log, and so
do the decisions that clocks and failures made. A log without such decisions gets its deadlines from its
receive times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from wup import logs, subjects
from wup._core import BookStore, CoreError, market_hash, unmapped_aggregate
from wup.mapping.apply import put_in_force
from wup.mapping.table import EMPTY, BookInfo, MappingTable
from wup.normalizer.engine import Engine
from wup.playback.mapping import Listed, MappingRecord, read_catalog
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wup._core import Change
    from wup.model import Instrument
    from wup.playback.mapping import Row
    from wup.raw import Meta
    from wup.venues.base import Venue

STAGE = "replay"


class Player:
    """Takes records in order; hands each consolidated message to `change`.

    Without a `mapping` record each asset has its own book, or one per market that a `catalog` record names.

    Args:
        timers: asked when a run does not say itself whether its clocks' decisions were recorded.
        store: one store for all runs, for readers that stay: the books of a run end with it, and epochs go
            on. Without it each run has a store of its own, with the epochs of the recording.
        mark: what every title begins with, for readers who must not take this for the present.
    """

    def __init__(
        self,
        change: Callable[[Change], None],
        *,
        timers: Callable[[], bool],
        venues: Mapping[str, Venue] = VENUES,
        store: BookStore | None = None,
        mark: str | None = None,
    ) -> None:
        self._change = change
        self._ask_timers = timers
        self._timers = False
        self._venues = venues
        self._engine: Engine | None = None
        self._lasting = store
        self._mark = mark
        self._store: BookStore | None = None
        self._now_us = 0
        self._epoch = 0
        self._version = 0
        # The log's mapping once it has one; until then the books of what was found.
        self._table: MappingTable | None = None
        self._found: list[Instrument] = []
        self._rows: dict[tuple[str, str], Row] = {}
        self._catalogue: dict[tuple[str, str], Listed] = {}
        # Legs that the mapping keeps out of their books, with the subject of their messages.
        self._suspended: dict[tuple[str, str], str] = {}
        self._checks: dict[tuple[str, str], int] = {}
        self.table: MappingTable = EMPTY
        """The mapping in force: the log's, or what was found."""
        self._applied = False
        self.bad: dict[str, int] = {}
        self.changes = 0
        self.frames = 0
        self.records = 0

    @property
    def now_us(self) -> int:
        """Receive time of the latest record."""
        return self._now_us

    @property
    def epoch(self) -> int:
        """Which run of the recording this is."""
        return self._epoch

    @property
    def store(self) -> BookStore:
        """The books as they stand."""
        if self._store is None:
            self._store = BookStore(self._epoch)
        return self._store

    def owner(self, platform: str, asset: str) -> str | None:
        """The connection whose book of the asset is shown now; None while none is."""
        return None if self._engine is None else self._engine.owner(platform, asset)

    def record(self, meta: Meta, payload: bytes) -> None:
        """One record. Receive times never go back: a log that does is read as if it stood still."""
        self.records += 1
        kind, rx_us = meta.kind, meta.rx_us
        if rx_us > self._now_us:
            self._now_us = rx_us
        now_us = self._now_us
        if kind == "frame" and self._engine is not None:
            # Nearly all of a log: as little as possible around the engine.
            self.frames += 1
            if self._timers:
                self._engine.timer(now_us)
            self._engine.record(meta, payload, now_us)
            if self._applied:
                self._ask(self._engine)
            return
        if kind == "start":
            self._start(payload)
            return
        if self._engine is None:
            self._begin(meta.rx_us // 1000)
        engine = self._engine
        assert engine is not None
        if kind == "mapping":
            self._mapping(engine, payload)
            return
        if self._timers:
            engine.timer(now_us)
        if kind == "catalog":
            self._catalogued(meta.platform, payload)
        self.frames += kind == "frame"
        engine.record(meta, payload, now_us)
        self._ask(engine)

    def checks(self) -> dict[str, int]:
        """Venue verifications so far, by `platform.verdict`."""
        total = dict(self._checks)
        if self._engine is not None:
            for key, count in self._engine.checks().items():
                total[key] = total.get(key, 0) + count
        return {".".join(key): count for key, count in sorted(total.items()) if count}

    # ----------------------------------------------------------------------------------------------

    def _start(self, payload: bytes) -> None:
        fields = orjson.loads(payload)
        epoch = fields.get("epoch")
        if type(epoch) is not int:
            self._bad("", "bad_record", "start without epoch")
            return
        # The files of one run carry the run's epoch; another epoch is another run, with nothing connected.
        if self._engine is None or epoch != self._epoch:
            self._begin(epoch, decided=fields.get("verdicts") is True)

    def _begin(self, epoch: int, *, decided: bool = False) -> None:
        self._timers = not decided and self._ask_timers()
        if self._engine is not None:
            for key, count in self._engine.checks().items():
                self._checks[key] = self._checks.get(key, 0) + count
        # Nothing of another run is true in this one: its legs were never taken down if it was killed.
        self._epoch = epoch
        if self._lasting is None:
            self._store = BookStore(epoch)
        else:
            self._store = self._lasting
            self._out(self._store.set_mapping(self._version + 1, [], self._now_us))
        self._rows.clear()
        self._found.clear()
        self._suspended.clear()
        self._table = None
        self.table = EMPTY
        self._version = 0
        self._engine = Engine(
            epoch=epoch,
            instance="replay",
            venues=self._venues,
            emit=self._normalised,
            bad=self._bad,
            discover=self._found.append,
        )

    def _bad(self, platform: str, kind: str, detail: str) -> None:
        key = f"{platform}.{kind}"
        self.bad[key] = self.bad.get(key, 0) + 1
        logs.bad_input(STAGE, platform, kind, detail)

    def _normalised(self, subject: str, payload: bytes) -> None:
        if self._found:
            self._map_found()
        if self._suspended and subject in self._suspended.values():
            return
        self._applied = True
        try:
            changes = self.store.apply(payload, self._now_us)
        except CoreError as error:
            self._bad("", type(error).__name__, str(error))
            return
        self._out(changes)

    def _out(self, changes: list[Change]) -> None:
        for change in changes:
            self.changes += 1
            self._change(change)

    def _ask(self, engine: Engine) -> None:
        """Answer the store's wishes for snapshots, as the normalizer does on the bus."""
        self._applied = False
        while wishes := self.store.take_resyncs():
            for platform, asset, _ in wishes:
                if (platform, asset) not in self._suspended:
                    engine.resync(platform, [asset], self._now_us)

    def _map_found(self) -> None:
        """Books for assets that nothing maps (wire.md section 1)."""
        if self._table is not None:
            # The log's own mapping says what has a book.
            self._found.clear()
            return
        known = len(self._rows)
        for instrument in self._found:
            platform, asset = instrument.platform, instrument.asset_id
            # Without a catalogue it is not known which assets share a market: each is one of its own.
            listed = self._catalogue.get((platform, asset)) or Listed(asset, instrument.market_id)
            key = f"wup1|{platform}|{listed.market}"
            book = f"{unmapped_aggregate(platform, listed.event)}.{market_hash(key)}.yes"
            self._rows[(platform, asset)] = (platform, asset, book, False)
        self._found.clear()
        if len(self._rows) == known:
            return
        self._version += 1
        legs = [
            (self._catalogue.get(row[:2]) or Listed(row[1], row[1])).leg(row, None)
            for row in self._rows.values()
        ]
        books = {leg.book: BookInfo(leg.book, leg.book.split(".", 1)[0], self._title(""), "") for leg in legs}
        self.table = MappingTable(self._version, tuple(legs), books)
        if self._mark is not None:
            for book, info in books.items():
                self.store.describe(book, info.title, None)
        self._out(self.store.set_mapping(self._version, list(self._rows.values()), self._now_us))
        # Their first snapshots are what made them known: nothing to ask for.
        self.store.take_resyncs()

    def _title(self, title: str) -> str:
        return title if self._mark is None else f"{self._mark} {title}".strip()

    def _catalogued(self, platform: str, payload: bytes) -> None:
        read = read_catalog(payload)
        if read is not None:
            assets, listed = read
            self._catalogue.update({(platform, asset): listed for asset in assets})

    def _mapping(self, engine: Engine, payload: bytes) -> None:
        """A mapping comes into force: what the orderbook service and the normalizer do with a new table, in
        the same order."""
        try:
            record = MappingRecord.read(payload)
            table = record.mapping_table(self._catalogue)
            if self._mark is not None:
                books = {
                    name: replace(info, title=self._title(info.title)) for name, info in table.books.items()
                }
                table = replace(table, books=books)
            at_us = max(self._now_us, record.epoch_ms * 1000)
            changes = put_in_force(self.store, table, at_us)
        except (TypeError, ValueError, CoreError) as error:
            self._bad("", "bad_record", f"mapping: {error}")
            return
        back = [
            (leg.platform, leg.asset_id)
            for leg in table.legs
            if leg.suspended is None and (leg.platform, leg.asset_id) in self._suspended
        ]
        self._suspended = {
            (leg.platform, leg.asset_id): subjects.normalized(leg.platform, leg.market_id, leg.asset_id)
            for leg in table.legs
            if leg.suspended is not None
        }
        self._version = record.version
        self._out(changes)
        self._table = self.table = table
        engine.set_table(self._table)
        for platform, asset in back:
            engine.resync(platform, [asset], self._now_us)
        self._ask(engine)
