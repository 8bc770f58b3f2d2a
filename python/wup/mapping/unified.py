"""The compiled mapping in full: unified markets with their legs, and the table that stages make of them.

The event service writes these to Redis (`wup.mapping.records`); every consumer reads them back, validated
record by record, and holds the `MappingTable` of `table_of`.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  read when stored records are validated
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wup.mapping.catalogue import FactChange  # noqa: TC001  read when stored records are validated
from wup.mapping.table import BookInfo, Leg, MappingTable

if TYPE_CHECKING:
    from collections.abc import Iterable

MemberState = Literal["live", "suspended", "unlisted", "resolved", "unknown"]


@dataclass(frozen=True, slots=True)
class Member:
    """One venue leg of a unified market, with all that a consumer or a reviewer may ask about it."""

    platform: str
    event: str
    market_id: str
    polarity: Literal["same", "inverted"]
    state: MemberState
    place: int
    """Order within the market: the order that names the legs."""
    asset_id: str = ""
    assets: tuple[str, ...] = ()
    why: str | None = None
    """Reason of a state other than live."""
    result: str | None = None
    """In the unified market's terms."""
    tick: str | None = None
    min_size: str | None = None
    close_us: int | None = None
    fees: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    facts_us: int | None = None
    changes: tuple[FactChange, ...] = ()
    status: str = "confirmed"
    relation: str = "identity"
    fungibility: str = "clean"
    rules_sha256: str | None = None
    confirmed_by: str | None = None
    confirmed_at: str | None = None
    evidence: Mapping[str, object] | None = None
    settlement: Mapping[str, object] | None = None
    mapping_version: int = 0
    status_us: int | None = None


@dataclass(frozen=True, slots=True)
class UnifiedMarket:
    """One binary market over its legs; its YES book is `{aggregate}.{hid}.yes`."""

    hid: str
    key: str
    aggregate: str
    title: str
    label: str
    exclusive: bool
    members: tuple[Member, ...]
    tie: str | None = None
    result: str | None = None

    @property
    def book(self) -> str:
        """The YES book's id."""
        return f"{self.aggregate}.{self.hid}.yes"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One real-world event, and where it is listed."""

    id: str
    title: str
    events: tuple[tuple[str, str], ...]
    markets: tuple[str, ...]
    category: str | None = None
    league: str | None = None
    start_us: int | None = None
    close_us: int | None = None
    status: Literal["open", "closed", "resolved"] = "open"
    exclusive: bool = False
    source: str = ""
    confirmed_by: str | None = None
    confirmed_at: str | None = None


Part = tuple[BookInfo, tuple[Leg, ...]]
"""What one market adds to a table."""


def part_of(market: UnifiedMarket) -> Part:
    """The book of a market, and its live and suspended legs in order."""
    book = market.book
    legs = tuple(
        Leg(
            platform=member.platform,
            asset_id=member.asset_id,
            market_id=member.market_id,
            event=member.event,
            book=book,
            inverted=member.polarity == "inverted",
            suspended=None if member.state == "live" else member.why or "suspended",
            tick=member.tick,
            min_size=member.min_size,
            facts=member.facts,
            close_us=member.close_us,
            fees=member.fees,
            facts_us=member.facts_us,
            changes=member.changes,
            status_us=member.status_us,
        )
        for member in sorted(market.members, key=lambda m: m.place)
        if member.state in ("live", "suspended")
    )
    settled = tuple((m.platform, m.market_id, m.result) for m in market.members if m.state == "resolved")
    info = BookInfo(
        book, market.aggregate, market.title, market.label, market.exclusive, market.result, settled
    )
    return info, legs


def table_of(version: int, parts: Iterable[Part]) -> MappingTable:
    """The table of a version: every book with its legs, in one order everywhere."""
    ordered = sorted(parts, key=lambda part: part[0].book)
    legs = tuple(leg for _, some in ordered for leg in some)
    return MappingTable(version, legs, {info.book: info for info, _ in ordered})
