"""The toy venue's catalogue: it lists nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from venues.toy.settings import ToySettings
from wup.mapping.catalogue import EventNotFound, VenueEventRecord


class ToyCatalogue:
    """No events."""

    platform = "toy"

    def __init__(self, settings: ToySettings) -> None:
        self._settings = settings

    async def event(self, slug: str) -> VenueEventRecord:
        raise EventNotFound(slug)

    async def events(self) -> AsyncIterator[VenueEventRecord]:
        for record in ():
            yield record

    async def close(self) -> None:
        return
