"""`wup export`: best bid and offer of every book as a table, in exact decimals.

CSV needs nothing; Parquet needs pyarrow (`pip install "wup[parquet]"`).
"""

from __future__ import annotations

import csv
import importlib
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wup.errors import SettingsError
from wup.playback.sources import show_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.playback.replay import Emitted, Replay

COLUMNS = ("time", "book", "state", "crossed", "bid", "bid_size", "ask", "ask_size")
_BATCH = 50_000
_PRICE = (7, 6)
_SIZE = (24, 6)
"""(digits, decimals): every price and every sum of sizes that the core can hold, exactly."""

Row = tuple[int, str, str, bool, Decimal | None, Decimal | None, Decimal | None, Decimal | None]
"""As COLUMNS; time in microseconds since 1970 UTC. A side without a known price is None."""


class _Writer(Protocol):
    def write(self, rows: list[Row]) -> None: ...
    def close(self) -> None: ...


def export_bbo(replay: Replay, out: str, *, every_us: int | None = None) -> int:
    """Write the table to `out` (`.csv` or `.parquet`); how many rows.

    With `every_us` a row per book at each multiple of it, from the first after the recording's beginning on;
    without, a row each time that a book's best prices, their sizes or its state change. A book of which no
    leg was live has no prices: never the ones from before.

    Raises:
        SettingsError: `out` cannot be written, has another ending, or pyarrow is missing.
        BusError: a stream cannot be read.
    """
    with ExitStack() as stack:
        writer = _open(out)
        stack.callback(writer.close)
        table = _Table(replay, writer.write)
        replay.begin(table.message)
        feed = replay.feed
        due_us: int | None = None
        for meta, payload in replay.records():
            if every_us is not None and replay.opened:
                if due_us is None:
                    due_us = -(-meta.rx_us // every_us) * every_us
                # The state at that time, which is the one before the first record after it.
                while meta.rx_us > due_us:
                    table.sample(due_us)
                    due_us += every_us
            feed(meta, payload)
            if every_us is None:
                table.changes(replay.player.now_us)
        if due_us is not None and replay.player.now_us == due_us:
            table.sample(due_us)
        table.flush()
    return table.rows


class _Table:
    def __init__(self, replay: Replay, write: Callable[[list[Row]], None]) -> None:
        self._replay = replay
        self._write = write
        self._touched: set[str] = set()
        self._now: dict[str, tuple[Any, ...]] = {}
        self._run = 0
        self._waiting: list[Row] = []
        self.rows = 0

    def message(self, message: Emitted) -> None:
        if message.kind != "trade":
            self._touched.add(message.book)

    def _refresh(self) -> list[str]:
        """Look at the books that had a message; which of them show something else now."""
        store = self._replay.player.store
        if self._replay.player.epoch != self._run:
            # Nothing of another run is true in this one.
            self._run = self._replay.player.epoch
            self._now.clear()
        different: list[str] = []
        for book in self._touched:
            if not store.books(book):
                self._now.pop(book, None)
                continue
            view = store.book(book)
            bid, ask = view.best_bid, view.best_ask
            found = (
                view.state,
                view.crossed,
                None if bid is None else bid.price,
                None if bid is None else bid.size,
                None if ask is None else ask.price,
                None if ask is None else ask.size,
            )
            if self._now.get(book) != found:
                self._now[book] = found
                different.append(book)
        self._touched.clear()
        return different

    def sample(self, at_us: int) -> None:
        self._refresh()
        self._add([(at_us, book, *shown) for book, shown in sorted(self._now.items())])

    def changes(self, at_us: int) -> None:
        if self._touched:
            self._add([(at_us, book, *self._now[book]) for book in sorted(self._refresh())])

    def _add(self, rows: list[Any]) -> None:
        self._waiting += rows
        self.rows += len(rows)
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []


def _open(out: str) -> _Writer:
    ending = Path(out).suffix.lower()
    try:
        if ending == ".csv":
            return _Csv(out)
        if ending == ".parquet":
            return _Parquet(out)
    except OSError as error:
        raise SettingsError([f"{out}: {error.strerror or error}"]) from None
    raise SettingsError([f"{out}: must end in .csv or .parquet"])


class _Csv:
    def __init__(self, out: str) -> None:
        self._file = Path(out).open("w", newline="", encoding="utf-8")  # noqa: SIM115 - closed by close
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, rows: list[Row]) -> None:
        for at_us, book, state, crossed, *numbers in rows:
            texts = ["" if number is None else format(number, "f") for number in numbers]
            self._writer.writerow([show_time(at_us), book, state, "true" if crossed else "false", *texts])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, out: str) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise SettingsError(
                [f'{out}: Parquet needs pyarrow: pip install "wup[parquet]" (or take .csv)']
            ) from None
        arrow = self._arrow
        price, size = arrow.decimal128(*_PRICE), arrow.decimal128(*_SIZE)
        self._schema = arrow.schema(
            [
                ("time", arrow.timestamp("us", tz="UTC")),
                ("book", arrow.dictionary(arrow.int32(), arrow.string())),
                ("state", arrow.dictionary(arrow.int32(), arrow.string())),
                ("crossed", arrow.bool_()),
                ("bid", price),
                ("bid_size", size),
                ("ask", price),
                ("ask_size", size),
            ]
        )
        # Opened here, so that a path that cannot be written is an OSError with its reason.
        self._file = Path(out).open("wb")  # noqa: SIM115 - closed by close
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, rows: list[Row]) -> None:
        columns = list(zip(*rows, strict=True))
        arrays = [
            self._arrow.array(list(column), type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._file.close()
