"""The typed event model that every venue's catalogue is read into, and what a catalogue can do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping  # noqa: TC003  read when stored records are validated
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from wup.errors import WupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MarketStatus = Literal["unlisted", "open", "halted", "maintenance", "closed", "resolved"]
"""`unlisted`: announced, without a book to follow. `closed`: trading has ended, the result is not known.
`maintenance`: open by its own status, while the venue as a whole does not trade (`Pause`)."""


def rules_sha256(rules: str) -> str:
    """SHA-256 hex over the UTF-8 of a market's joined rule texts: what a confirmed leg is bound to."""
    return hashlib.sha256(rules.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class FactChange:
    """One fact of a market that the venue changed, when it was first seen."""

    ts_us: int
    what: str
    """`tick`, `min_size`, `close_us`, `fees` or `result`."""
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class VenueMarket:
    """One binary market of a venue."""

    market_id: str
    asset_id: str
    """The asset that WUP follows: the YES side."""
    assets: tuple[str, ...]
    """All assets of the market, the YES side first."""
    label: str
    """Short outcome name, in the venue's words."""
    question: str
    status: MarketStatus
    rules: str
    """All rule texts, joined: what `rules_sha256` is taken over."""
    outcomes: tuple[str, ...] = ()
    """The venue's names of the outcomes, one per asset; empty where an asset has two sides of its own."""
    line: str | None = None
    """The number that the market is about (a total, a handicap, a strike), where it is about one."""
    tick: str | None = None
    min_size: str | None = None
    close_us: int | None = None
    result: str | None = None
    fees: Mapping[str, str] = field(default_factory=dict)
    """What the venue says about its fees, in its own words."""
    facts: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    facts_us: int | None = None
    """Since when tick, smallest size, close, fees and result are what they are, as far as was seen."""
    changes: tuple[FactChange, ...] = ()
    """The last changes of these, the oldest first."""
    status_us: int | None = None
    """When the venue was asked and answered with this status after another one: its first answer, then the
    next ones until one came twenty seconds after the first, so that a surer word follows a cache's. None: it
    never had another."""
    status_first_us: int | None = None
    """The first of these answers."""


@dataclass(frozen=True, slots=True)
class VenueEventRecord:
    """One event of a venue with its markets."""

    platform: str
    slug: str
    title: str
    category: str | None
    exclusive: bool
    markets: tuple[VenueMarket, ...]
    fetched_us: int
    close_us: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    def market(self, market_id: str) -> VenueMarket | None:
        """The market of that id."""
        return next((market for market in self.markets if market.market_id == market_id), None)


@dataclass(frozen=True, slots=True)
class Pause:
    """A venue, or a part of it, does not trade for a while, whatever its markets' own status says.

    `part`: the name of a market's fact and the values that are paused; None: all markets. `until_us`: when
    the venue means to resume, where it says so.
    """

    part: tuple[str, frozenset[str]] | None = None
    until_us: int | None = None

    def covers(self, market: VenueMarket) -> bool:
        """Is the market one of those?"""
        return self.part is None or market.facts.get(self.part[0]) in self.part[1]


def paused(event: VenueEventRecord, pause: Pause | None) -> VenueEventRecord:
    """The event as it is in a pause: its open markets that are covered are in maintenance."""
    if pause is None:
        return event
    return replace(
        event,
        markets=tuple(
            replace(m, status="maintenance") if m.status == "open" and pause.covers(m) else m
            for m in event.markets
        ),
    )


def dated(event: VenueEventRecord, before: VenueEventRecord | None) -> VenueEventRecord:
    """An event just fetched, its markets' facts dated by what was known of them `before`."""
    known = {} if before is None else {market.market_id: market for market in before.markets}
    return replace(
        event,
        markets=tuple(
            _status_dated(
                _dated(m, known.get(m.market_id), event.fetched_us),
                known.get(m.market_id),
                event.fetched_us,
            )
            for m in event.markets
        ),
    )


def _status_dated(market: VenueMarket, before: VenueMarket | None, now_us: int) -> VenueMarket:
    if before is None:
        return replace(market, status_us=None, status_first_us=None)
    if market.status != before.status:
        return replace(market, status_us=now_us, status_first_us=now_us)
    last_us = before.status_us
    if last_us is None:
        return replace(market, status_us=None, status_first_us=None)
    first_us = last_us if before.status_first_us is None else before.status_first_us
    if last_us < first_us + _SURE_US:
        last_us = max(last_us, now_us)
    return replace(market, status_us=last_us, status_first_us=first_us)


def _dated(market: VenueMarket, before: VenueMarket | None, now_us: int) -> VenueMarket:
    if before is None or before.facts_us is None:
        return replace(market, facts_us=now_us, changes=())
    new = tuple(
        FactChange(now_us, what, old, now)
        for what, old, now in zip(_DATED, _facts(before), _facts(market), strict=True)
        if old != now
    )
    if not new:
        return replace(market, facts_us=before.facts_us, changes=before.changes)
    return replace(market, facts_us=now_us, changes=(*before.changes, *new)[-_KEPT_CHANGES:])


_DATED = ("tick", "min_size", "close_us", "fees", "result")
_KEPT_CHANGES = 8
_SURE_US = 20_000_000
"""Longer than any cache of a venue answers for the time before, with a little for differing clocks."""


def _facts(market: VenueMarket) -> tuple[str | None, ...]:
    fees = ", ".join(f"{name}={value}" for name, value in sorted(market.fees.items()))
    close = None if market.close_us is None else str(market.close_us)
    return market.tick, market.min_size, close, fees or None, market.result


class CatalogueError(WupError):
    """The venue's catalogue cannot answer now; `retry_after` seconds where the venue said so."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class EventNotFound(CatalogueError):
    """The venue has no such event."""


class EventUnreadable(CatalogueError):
    """The venue answered, but this answer cannot be used: it says nothing about the venue's other events."""


class Catalogue(Protocol):
    """REST discovery of one venue."""

    platform: str
    bare_slugs: bool
    """A slug that names no platform is this venue's (`EVENT_SLUG`)."""

    async def event(self, slug: str) -> VenueEventRecord:
        """One event with its markets.

        Raises:
            EventNotFound: no such event.
            EventUnreadable: the venue answered, in a form that cannot be read.
            CatalogueError: the venue did not answer.
        """
        ...

    def events(self) -> AsyncIterator[VenueEventRecord]:
        """Every open event, page by page, within the venue's rate limit."""
        ...

    async def pause(self) -> Pause | None:
        """What of the venue does not trade now; None: all of it does, or the venue has no such thing to say.

        Raises:
            CatalogueError: the venue did not answer, or not so that it could be read.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
