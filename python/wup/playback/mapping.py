"""The `catalog` and `mapping` records of a log (wire.md section 6), with what our own recorder adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from wup.mapping.table import BookInfo, Leg, MappingTable

if TYPE_CHECKING:
    from collections.abc import Mapping


Row = tuple[str, str, str, bool]
"""(platform, asset, book, inverted)."""
_NOT_FACTS = frozenset(("kind", "rx_us", "platform", "conn", "n", "market_id", "assets", "event"))


@dataclass(frozen=True, slots=True)
class Listed:
    """What a `catalog` record says about an asset."""

    market: str
    event: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def leg(self, row: Row, suspended: str | None, status_us: int | None = None) -> Leg:
        """The leg of a mapping row, with the catalogue's facts."""
        platform, asset, book, inverted = row
        facts = dict(self.facts)
        tick, min_size = facts.pop("tick", None), facts.pop("min_size", None)
        return Leg(
            platform,
            asset,
            self.market,
            self.event,
            book,
            inverted,
            suspended,
            tick=tick,
            min_size=min_size,
            facts=facts,
            status_us=status_us,
        )


def read_catalog(payload: bytes) -> tuple[list[str], Listed] | None:
    """(assets, what is said about them), or None when the record is none."""
    fields: dict[str, Any] = orjson.loads(payload)
    market, assets, event = fields.get("market_id"), fields.get("assets"), fields.get("event")
    if not isinstance(market, str) or not isinstance(assets, list):
        return None
    facts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in fields.items()
        if name not in _NOT_FACTS and isinstance(value, str | int | bool)
    }
    listed = Listed(market, event if isinstance(event, str) else market, facts)
    return [str(asset) for asset in assets], listed


@dataclass(frozen=True, slots=True)
class BookRecord:
    """What a book is about, and its result once it has one."""

    book: str
    title: str | None
    label: str | None
    result: str | None


@dataclass(frozen=True, slots=True)
class MappingRecord:
    """One version of the mapping. `epoch_ms`: the first epoch that its new books may have."""

    version: int
    rows: list[Row]
    books: list[BookRecord]
    suspended: dict[tuple[str, str], str]
    epoch_ms: int
    status_us: dict[tuple[str, str], int]

    @classmethod
    def read(cls, payload: bytes) -> MappingRecord:
        """Read one record.

        Raises:
            TypeError, ValueError: it is none.
        """
        fields: dict[str, Any] = orjson.loads(payload)
        version, epoch_ms = fields.get("version"), fields.get("epoch", 0)
        if type(version) is not int or not 0 <= version < 2**63 or type(epoch_ms) is not int:
            raise ValueError("version and epoch must be integers")
        rows = [
            (platform, asset, book, inverted) for platform, asset, book, inverted in fields.get("table") or []
        ]
        books = [BookRecord(*entry) for entry in fields.get("books") or []]
        if not all(isinstance(one.book, str) for one in books):
            raise ValueError("a book's id is text")
        suspended = {(platform, asset): why for platform, asset, why in fields.get("suspended") or []}
        status_us = {(platform, asset): us for platform, asset, us in fields.get("status_us") or []}
        if not all(type(us) is int for us in status_us.values()):
            raise ValueError("times must be integers")
        return cls(version, rows, books, suspended, epoch_ms, status_us)

    def mapping_table(self, catalogue: Mapping[tuple[str, str], Listed]) -> MappingTable:
        """The record as a table, with what `catalog` records said of its assets."""
        legs: list[Leg] = []
        for row in self.rows:
            key = (row[0], row[1])
            listed = catalogue.get(key) or Listed(row[1], row[1])
            legs.append(listed.leg(row, self.suspended.get(key), self.status_us.get(key)))
        books = {
            one.book: BookInfo(
                one.book, one.book.split(".", 1)[0], one.title or "", one.label or "", result=one.result
            )
            for one in self.books
        }
        return MappingTable(self.version, tuple(legs), books)
