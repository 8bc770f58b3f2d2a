"""Books and events as tables: exact, whichever library."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas
import polars
import pytest

from client.test_feed import collect, url
from gateway.engine import FED_25, GAME, Engine
from wup.client import Event, book_rows, connect, event_rows, to_pandas, to_polars
from wup.gateway import Gateway

GREAT = "99999999999.999999"
"""More digits than a float holds."""


async def test_rows_of_a_book(engine: Engine, gateway: Gateway) -> None:
    """Every level of both sides is a row, best first, with its parts; what a leg does not show is None."""
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.51", GREAT]], [["0.53", "0"]])
    async with connect(url(gateway)) as feed:
        (event,) = await collect(feed.subscribe(FED_25), 1)
        assert event.book is not None
        rows = event.book.rows()
        view = event.book.view()
    assert len(rows) == len(view.bids) + len(view.asks) == 25
    assert rows[0] == {
        "book": FED_25,
        "epoch": view.epoch,
        "seq": view.seq,
        "side": "bid",
        "price": Decimal("0.51"),
        "size": Decimal(GREAT),
        "kalshi": Decimal(GREAT),
        "polymarket": None,
    }
    prices = {side: [row["price"] for row in rows if row["side"] == side] for side in ("bid", "ask")}
    assert prices["bid"] == sorted(prices["bid"], reverse=True)
    assert prices["ask"] == sorted(prices["ask"])
    for row in rows:
        assert (row["kalshi"] or 0) + (row["polymarket"] or 0) == row["size"]


async def test_polars_is_exact(engine: Engine, gateway: Gateway) -> None:
    """A polars frame holds the very numbers; floats come only when asked for."""
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.51", GREAT]], [])
    async with connect(url(gateway)) as feed:
        (event,) = await collect(feed.subscribe(FED_25), 1)
        assert event.book is not None
        frame = event.book.to_polars()
        rows = event.book.rows()
        assert frame.rows(named=True) == rows
        assert frame.schema["size"] == frame.schema["kalshi"] == polars.Decimal(38, 6)
        assert frame["size"].sum() == sum(row["size"] for row in rows)
        loose = event.book.to_polars(floats=True)
        assert loose.schema["price"] == polars.Float64()
        assert loose["price"][0] == 0.51


async def test_pandas_is_exact(engine: Engine, gateway: Gateway) -> None:
    """A pandas frame holds decimals, not floats, unless asked."""
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.51", GREAT]], [])
    async with connect(url(gateway)) as feed:
        (event,) = await collect(feed.subscribe(FED_25), 1)
        assert event.book is not None
        frame = event.book.to_pandas()
        rows = event.book.rows()
        assert [row["size"] for row in rows] == list(frame["size"])
        assert frame["size"].sum() == sum(row["size"] for row in rows)
        assert all(isinstance(price, Decimal) for price in frame["price"])
        loose = event.book.to_pandas(floats=True)
        assert loose["price"].dtype == "float64"
        assert pandas.isna(loose["polymarket"][0])


async def test_events_as_a_table(engine: Engine, gateway: Gateway) -> None:
    """Snapshots and deltas of several books make one table; replayed row by row it ends in the book."""
    seen: list[Event] = []
    async with connect(url(gateway)) as feed:
        events = feed.subscribe(FED_25, GAME, trades=True)
        seen += await collect(events, 2)
        for _ in range(60):
            engine.step()
        last = {name: engine.store.book(name).seq for name in (FED_25, GAME)}
        while last:
            (event,) = await collect(events, 1)
            seen.append(event)
            if event.book is not None and event.data()["seq"] == last.get(event.book.id):
                del last[event.book.id]
        rows = event_rows(seen)
        want = {
            row["price"]: row["size"] for row in feed.books[GAME, None, None].rows() if row["side"] == "ask"
        }
    held: dict[Any, Any] = {}
    for row in rows:
        if row["book"] == GAME and row["side"] == "ask":
            held[row["price"]] = row["size"]
    assert {price: size for price, size in held.items() if size} == want
    frame = to_polars(rows)
    assert list(frame.columns)[:8] == ["ts", "type", "book", "epoch", "seq", "side", "price", "size"]
    assert set(frame.columns[8:]) == {"kalshi", "kalshi-2", "polymarket"}
    assert frame.height == len(to_pandas(rows)) == len(rows)


async def test_nothing_to_show(engine: Engine, gateway: Gateway) -> None:
    """An empty table has its columns; a book that is not exact gives no table at all."""
    assert to_polars([]).columns == list(to_pandas([]).columns)
    assert book_rows(engine.store.book(FED_25))
    async with connect(url(gateway)) as feed:
        (event,) = await collect(feed.subscribe(FED_25), 1)
        assert event.book is not None
        event.book.mirror.doubt()
        with pytest.raises(ValueError, match="not exact"):
            event.book.to_polars()
