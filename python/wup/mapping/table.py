"""The compiled mapping: an immutable table that consumers swap whole (mapping.md section 3).

No per-message path ever asks Redis; a stage holds one `MappingTable` and gets the next one from
`wup.mapping.source`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.catalogue import FactChange


@dataclass(frozen=True, slots=True)
class Leg:
    """One venue asset that feeds a book."""

    platform: str
    asset_id: str
    market_id: str
    event: str
    """The venue's event slug or ticker."""
    book: str
    """YES book id, `{aggregate}.{hash}.yes`."""
    inverted: bool
    suspended: str | None = None
    """Reason why the leg is kept out of its book (`halted` there), or None."""
    tick: str | None = None
    min_size: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """The venue's own words, for the venue's folder only."""
    close_us: int | None = None
    """When the venue stops trading, microseconds since 1970 UTC."""
    fees: Mapping[str, str] = field(default_factory=dict)
    """What the venue says about its fees, in its own words: for people and for fee models."""
    facts_us: int | None = None
    """Since when tick, smallest size, close and fees are what they are, as far as was seen."""
    changes: tuple[FactChange, ...] = ()
    """The last changes of these, the oldest first."""
    status_us: int | None = None
    """When the venue was asked and answered that the market is open, halted and so on, as it still does;
    None: it never said anything else."""


@dataclass(frozen=True, slots=True)
class BookInfo:
    """What a book is about."""

    book: str
    aggregate: str
    title: str
    label: str
    exclusive: bool = False
    result: str | None = None
    """`yes` or `no` once every venue has resolved it."""
    settled: tuple[tuple[str, str, str | None], ...] = ()
    """(platform, market, result in the book's terms) of the venue markets that have left with a result."""


@dataclass(frozen=True, slots=True)
class MappingTable:
    """One version of the whole mapping."""

    version: int
    legs: tuple[Leg, ...] = ()
    """In mapping order: the order that names legs `{platform}`, `{platform}-2`, ..."""
    books: Mapping[str, BookInfo] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str, str, bool]]:
        """Rows for `BookStore.set_mapping`; a suspended leg keeps its place and is shown as `halted`."""
        return [(leg.platform, leg.asset_id, leg.book, leg.inverted) for leg in self.legs]

    def assets(self, platform: str) -> list[Leg]:
        """The legs of one platform."""
        return [leg for leg in self.legs if leg.platform == platform]


EMPTY = MappingTable(version=0)
