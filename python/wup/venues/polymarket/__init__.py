"""Polymarket: absolute sizes, no sequence numbers, a hash of the whole book with every change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.base import Limits, Venue
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings

if TYPE_CHECKING:
    from wup.mapping.catalogue import Catalogue


def _catalogue(settings: PolymarketSettings) -> Catalogue:
    # The HTTP client is needed by the event service alone: loaded when it asks.
    from wup.venues.polymarket.catalog import PolymarketCatalogue

    return PolymarketCatalogue(settings)


VENUE = Venue(
    name="polymarket",
    settings=PolymarketSettings,
    session=PolymarketSession,
    normaliser=PolymarketNormaliser,
    catalogue=_catalogue,
    limits=Limits(assets_per_connection=200),
)
