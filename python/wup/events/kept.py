"""What the event service stores beside the versions of the mapping: events in full, what is followed by
request, and pauses. While Redis is away it waits here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wup.mapping import records
from wup.mapping.pauses import save_pauses
from wup.mapping.redis import MappingStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from wup.mapping.catalogue import Pause, VenueEventRecord
    from wup.mapping.listing import EventKey

_AT_ONCE = 50


class Kept:
    """Changes come in at any time; `write` brings them to Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._store = MappingStore(redis)
        self._events: dict[EventKey, VenueEventRecord] = {}
        self._gone: set[EventKey] = set()
        self._tracking: dict[EventKey, bool] = {}
        self._tracked: set[EventKey] = set()
        """All that is followed by request, as far as it was read or told."""
        self._pauses: dict[str, Pause | None] = {}
        """By platform, all that were told."""
        self._pauses_changed = False

    @property
    def waiting(self) -> int:
        """Changes not written yet."""
        return len(self._events) + len(self._gone) + len(self._tracking) + self._pauses_changed

    def event(self, event: VenueEventRecord) -> None:
        """Store an event in full."""
        key = (event.platform, event.slug)
        self._gone.discard(key)
        self._events[key] = event

    def drop_event(self, key: EventKey) -> None:
        """Forget an event."""
        self._events.pop(key, None)
        self._gone.add(key)

    def track(self, key: EventKey, wanted: bool) -> None:
        """Remember, or forget, that an event is followed by request."""
        self._tracking[key] = wanted
        (self._tracked.add if wanted else self._tracked.discard)(key)

    def pause(self, platform: str, pause: Pause | None) -> None:
        """Remember what a venue says of itself as a whole; None: it trades."""
        self._pauses[platform] = pause
        self._pauses_changed = True

    async def tracked(self) -> set[EventKey]:
        """What is followed by request: Redis's list with the changes that wait."""
        found = await self._store.tracked()
        found |= {key for key, wanted in self._tracking.items() if wanted}
        self._tracked = found - {key for key, wanted in self._tracking.items() if not wanted}
        return set(self._tracked)

    async def write(self, *, anew: bool) -> None:
        """Write what waits; `anew`: Redis may have lost what was written, too."""
        if self._pauses_changed or (anew and self._pauses):
            await self._write_pauses()
        await self._write_tracking(anew=anew)
        while self._events or self._gone:
            await self._write_events()

    async def _write_pauses(self) -> None:
        self._pauses_changed = False
        try:
            await save_pauses(self._redis, dict(self._pauses))
        except BaseException:
            self._pauses_changed = True
            raise

    async def _write_tracking(self, *, anew: bool) -> None:
        tracking = dict(self._tracking)
        add = {key for key, wanted in tracking.items() if wanted}
        if anew:
            add |= self._tracked - await self._store.tracked()
        if not add and not tracking:
            return
        await self._store.track(sorted(add), [key for key, wanted in tracking.items() if not wanted])
        for key, wanted in tracking.items():
            if self._tracking.get(key) == wanted:
                del self._tracking[key]

    async def _write_events(self) -> None:
        batch = dict(list(self._events.items())[:_AT_ONCE])
        gone = set(self._gone)
        # Large events take long to encode, and this loop may be the one that carries the books.
        encoded = await asyncio.to_thread(_encoded, batch)
        await self._store.save_events(encoded, gone)
        for key, event in batch.items():
            if self._events.get(key) is event:
                del self._events[key]
        self._gone -= gone


def _encoded(events: dict[EventKey, VenueEventRecord]) -> dict[EventKey, str]:
    return {key: records.event_record(event) for key, event in events.items()}
