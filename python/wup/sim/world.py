"""What is listed: real-world outcomes, and the venue markets that trade them.

An `Outcome` is one fact with one fair price. A `Listing` is one market of one venue on an outcome, maybe
on its opposite. Ids, titles and rule texts follow the venues' own forms, so that the event service and the
mapping see what they would see in production.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wup.sim.fixed import MICRO

if TYPE_CHECKING:
    from datetime import datetime

KALSHI = "kalshi"
POLYMARKET = "polymarket"

Band = tuple[int, int, int]
"""(from, to, step) of a price grid, in millionths."""

CENT_GRID: tuple[Band, ...] = ((0, MICRO, 10_000),)
TAPERED_GRID: tuple[Band, ...] = ((0, 100_000, 1_000), (100_000, 900_000, 10_000), (900_000, MICRO, 1_000))
MILLE_GRID: tuple[Band, ...] = ((0, MICRO, 1_000),)
FINEST_GRID: tuple[Band, ...] = ((0, MICRO, 100),)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fact that resolves to yes or no."""

    key: str
    """Canonical market key (`wup1|...`)."""
    label: str
    fair: int
    """First fair price, millionths."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One binary market of one venue."""

    venue: str
    event: str
    """Event ticker or slug."""
    market_id: str
    """What the venue calls the market: ticker or condition id."""
    assets: tuple[str, ...]
    """Quoted assets, the YES side first."""
    outcome: Outcome
    inverted: bool
    """Is this market's YES the outcome's NO?"""
    label: str
    """Short outcome name, in the venue's words."""
    no_label: str
    question: str
    primary: str
    """Main rule text."""
    secondary: str
    """Further rule text; "" when there is none."""
    grid: tuple[Band, ...]
    structure: str = "linear_cent"
    uuid: str = ""
    number: int = 0
    slug: str = ""
    outcomes: tuple[str, str] = ("Yes", "No")

    @property
    def rules(self) -> str:
        """All rule texts joined by an empty line: what `rules_sha256` is taken over."""
        return f"{self.primary}\n\n{self.secondary}" if self.secondary else self.primary

    @property
    def rules_sha256(self) -> str:
        """SHA-256 hex of the UTF-8 of `rules`."""
        return hashlib.sha256(self.rules.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Event:
    """One event as one venue lists it."""

    venue: str
    slug: str
    title: str
    sub_title: str
    series: str
    category: str
    exclusive: bool
    close_at: datetime
    listings: tuple[Listing, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One real-world event: its outcomes, and every venue's event on it."""

    id: str
    title: str
    category: str
    exclusive: bool
    outcomes: tuple[Outcome, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is listed."""

    aggregates: tuple[Aggregate, ...]
    listings: tuple[Listing, ...] = field(default=())

    def events(self, venue: str) -> list[Event]:
        """One venue's events."""
        return [event for item in self.aggregates for event in item.events if event.venue == venue]
