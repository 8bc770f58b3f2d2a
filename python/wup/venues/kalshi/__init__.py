"""Kalshi: two bid ladders per market, signed increments, one sequence per subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.base import Limits, Venue
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.kalshi.session import KalshiSession
from wup.venues.kalshi.settings import KalshiSettings

if TYPE_CHECKING:
    from wup.mapping.catalogue import Catalogue
    from wup.venues.base import BookAudit


def _catalogue(settings: KalshiSettings) -> Catalogue:
    # The HTTP client is needed by the event service alone: loaded when it asks.
    from wup.venues.kalshi.catalog import KalshiCatalogue

    return KalshiCatalogue(settings)


def _audit(settings: KalshiSettings) -> BookAudit:
    from wup.venues.kalshi.audit import KalshiAudit

    return KalshiAudit(settings)


VENUE = Venue(
    name="kalshi",
    settings=KalshiSettings,
    session=KalshiSession,
    normaliser=KalshiNormaliser,
    catalogue=_catalogue,
    # A gap costs every book of the connection a resync, so the connection is kept smaller than it could be.
    # 200 connections a user, of which a second instance may need half.
    limits=Limits(assets_per_connection=500, crowded=1_000, connections=100),
    audit=_audit,
)
