"""What ids say, by platform: also of venues that have no adapter, for labelled pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.kalshi import identity as kalshi
from wup.venues.polymarket import identity as polymarket
from wup.venues.polymarket_us import identity as polymarket_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.mapping.catalogue import VenueEventRecord
    from wup.mapping.series import Game
    from wup.mapping.statement import Statement

IDENTITIES: dict[str, Callable[[str], Statement]] = {
    "kalshi": kalshi.identity,
    "polymarket": polymarket.identity,
    "polymarket_us": polymarket_us.identity,
}
"""Platform -> reader of its ids. A platform that is not here has ids that say nothing."""

GAMES: dict[str, Callable[[VenueEventRecord], Game | None]] = {
    "kalshi": kalshi.game,
    "polymarket": polymarket.game,
}
"""Platform -> reader of its two-sided games, from catalogue records with all their fields."""
