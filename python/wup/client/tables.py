"""Books and events as tables: plain rows, polars and pandas (the extras `wup[polars]`, `wup[pandas]`).

Numbers stay exact. polars: `Decimal(38, 6)`, which holds every price, size and sum of ours. pandas: `object`
columns of `decimal.Decimal`, the only exact form that it has without pyarrow. Who wants floats, for a plot or
a regression, says so: `floats=True`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas
    import polars

    from wup._core import Book
    from wup.client.event import Event

Row = dict[str, Any]
_HEAD = ("book", "epoch", "seq", "side", "price", "size")
_EVENT = ("ts", "type")


def book_rows(book: Book) -> list[Row]:
    """One row per level, bids then asks, best first.

    Columns: book, epoch, seq, side, price, size, and one per leg (None where it shows nothing).
    """
    legs = sorted(book.legs)
    head = {"book": book.id, "epoch": book.epoch, "seq": book.seq}
    return [
        {
            **head,
            "side": side,
            "price": level.price,
            "size": level.size,
            **{leg: level.by_leg.get(leg) for leg in legs},
        }
        for side, levels in (("bid", book.bids), ("ask", book.asks))
        for level in levels
    ]


def event_rows(events: Iterable[Event]) -> list[Row]:
    """One row per level that a `snapshot` or `delta` names; size 0 = the level is gone.

    `ts` is when the book was changed, microseconds since 1970 UTC (the wire's `ts.book`).
    """
    rows: list[Row] = []
    legs: dict[str, None] = {}
    for event in events:
        if event.type not in ("snapshot", "delta"):
            continue
        body = event.data()
        head = {"ts": body["ts"].get("book"), "type": event.type}
        head |= {name: body[name] for name in ("book", "epoch", "seq")}
        for side, name in (("bid", "bids"), ("ask", "asks")):
            for price, size, parts in body[name]:
                legs.update(dict.fromkeys(parts))
                own = {leg: Decimal(part) for leg, part in parts.items()}
                rows.append({**head, "side": side, "price": Decimal(price), "size": Decimal(size), **own})
    order = (*_EVENT, *_HEAD, *sorted(legs))
    return [{name: row.get(name) for name in order} for row in rows]


def to_polars(rows: list[Row], *, floats: bool = False) -> polars.DataFrame:
    """Rows as a polars frame.

    Raises:
        ImportError: polars is not installed (`pip install wup[polars]`).
    """
    import polars

    number = polars.Float64() if floats else polars.Decimal(38, 6)
    names = list(rows[0]) if rows else list(_HEAD)
    texts, integers = ("book", "side", "type"), ("epoch", "seq", "ts")
    schema: dict[str, Any] = dict.fromkeys(names, number)
    schema |= {name: polars.String() for name in names if name in texts}
    schema |= {name: polars.Int64() for name in names if name in integers}
    values = [[_plain(row[name], floats) for name in names] for row in rows]
    return polars.DataFrame(values, schema, orient="row")


def to_pandas(rows: list[Row], *, floats: bool = False) -> pandas.DataFrame:
    """Rows as a pandas frame.

    Raises:
        ImportError: pandas is not installed (`pip install wup[pandas]`).
    """
    import pandas

    names = list(rows[0]) if rows else list(_HEAD)
    columns = {}
    for name in names:
        values = [_plain(row[name], floats) for row in rows]
        number = any(isinstance(row[name], Decimal) for row in rows)
        kind: Any = ("float64" if floats else object) if number else None
        columns[name] = pandas.Series(values, dtype=kind)
    return pandas.DataFrame(columns)


def _plain(value: Any, floats: bool) -> Any:
    return float(value) if floats and isinstance(value, Decimal) else value
