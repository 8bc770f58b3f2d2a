"""The registry of venues: the one place outside a venue's folder that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.kalshi import VENUE as KALSHI
from wup.venues.polymarket import VENUE as POLYMARKET

if TYPE_CHECKING:
    from wup.venues.base import Venue

VENUES: dict[str, Venue] = {venue.name: venue for venue in (KALSHI, POLYMARKET)}
"""By platform name, in the order in which the ladder shows them."""
