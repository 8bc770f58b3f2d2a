"""Polymarket: absolute sizes, no sequence numbers, a hash of the whole book with every change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.base import Limits, Venue
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings

if TYPE_CHECKING:
    from wup.mapping.catalogue import Catalogue
    from wup.venues.base import BookAudit


def _catalogue(settings: PolymarketSettings) -> Catalogue:
    # The HTTP client is needed by the event service alone: loaded when it asks.
    from wup.venues.polymarket.catalog import PolymarketCatalogue

    return PolymarketCatalogue(settings)


def _audit(settings: PolymarketSettings) -> BookAudit:
    from wup.venues.polymarket.audit import PolymarketAudit

    return PolymarketAudit(settings)


VENUE = Venue(
    name="polymarket",
    settings=PolymarketSettings,
    session=PolymarketSession,
    normaliser=PolymarketNormaliser,
    catalogue=_catalogue,
    # 200 to 400 assets a connection; about ten connections from one address are known to work, more slowly.
    limits=Limits(assets_per_connection=200, crowded=400, connections=25),
    audit=_audit,
)
