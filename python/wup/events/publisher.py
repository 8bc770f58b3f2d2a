"""Compiles what is known and writes what changed to Redis, then says so on the bus.

What Redis holds is remembered as fingerprints, so that a refresh of 20,000 events writes only what is
different. Whenever that memory may be wrong (first start, an error, another version than ours, a value that
is not ours) the keys are read again and made right. While Redis is away, changes wait here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from wup import backoff, logs, subjects
from wup.clock import SYSTEM_CLOCK
from wup.events.history import entry_of
from wup.mapping import records
from wup.mapping.redis import REDIS_ERRORS, MappingStore, fingerprint, hids_of
from wup.mapping.source import announcement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from wup.bus import Bus
    from wup.clock import Clock
    from wup.mapping.catalogue import VenueEventRecord
    from wup.mapping.compile import Compiler, EventKey
    from wup.mapping.records import Record
    from wup.mapping.unified import UnifiedMarket

_GUARD_S = 2.0
_AUDIT_KEYS = 200
_ANNOUNCED = 2000
_DEBOUNCE_S = 0.02


class Publisher:
    """The only writer of the mapping's keys.

    Args:
        restore: called once, when Redis answers for the first time and before anything is written: takes
            over what an earlier run stored, so that a venue that is down now does not lose its events.
    """

    def __init__(
        self,
        redis: Redis,
        bus: Bus,
        compiler: Compiler,
        restore: Callable[[MappingStore], Awaitable[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.version = 0
        self.reachable = False
        self.least_version = 0
        """The mapping files' own version: published versions never fall below it."""
        self._store = MappingStore(redis)
        self._bus = bus
        self._compiler = compiler
        self._restore = restore
        self._clock = clock
        self._restored = False
        self._stored: dict[str, int] | None = None
        """Fingerprints of what Redis holds; None while that is not known."""
        self._unit_keys: dict[str, frozenset[str]] = {}
        self._dirty: set[str] = set()
        self._events: dict[EventKey, VenueEventRecord] = {}
        self._gone_events: set[EventKey] = set()
        self._tracking: dict[EventKey, bool] = {}
        self._audit_from = 0
        self._stopping = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Changes not written yet."""
        return len(self._dirty) + len(self._events) + len(self._gone_events) + len(self._tracking)

    def units_changed(self, names: set[str]) -> None:
        """These units of the compiler may have changed."""
        self._dirty |= names
        self._kick()

    def event_fetched(self, event: VenueEventRecord) -> None:
        """Store an event in full."""
        key = (event.platform, event.slug)
        self._gone_events.discard(key)
        self._events[key] = event
        self._kick()

    def event_dropped(self, key: EventKey) -> None:
        """Forget an event."""
        self._events.pop(key, None)
        self._gone_events.add(key)
        self._kick()

    def track(self, key: EventKey, wanted: bool) -> None:
        """Remember, or forget, that an event is followed by request."""
        self._tracking[key] = wanted
        self._kick()

    async def tracked(self) -> set[EventKey]:
        """What is followed by request: Redis's list with the changes that wait."""
        found = await self._store.tracked()
        found |= {key for key, wanted in self._tracking.items() if wanted}
        return found - {key for key, wanted in self._tracking.items() if not wanted}

    async def settled(self) -> None:
        """Wait until everything that was changed before this call is written."""
        await self._settled.wait()

    def _kick(self) -> None:
        self._settled.clear()
        self._wake.set()

    def stop(self) -> None:
        """Make `run` end soon; cancel it as well.

        redis-py awaits by wait_for, which before Python 3.12 swallows a cancel that comes with the answer.
        """
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Write changes as they come, and watch over what is there, until `stop`."""
        failures = 0
        while not self._stopping:
            try:
                await self._round()
                if not self.reachable:
                    logs.log("events").info("redis reachable", version=self.version)
                self.reachable = True
                failures = 0
                pause = _GUARD_S
            except Exception as error:
                # Also a fault of our own: what cannot be written now is tried again, and said.
                if self.reachable or failures == 0:
                    logs.log("events").warning(
                        "redis not written, changes wait",
                        error=repr(error),
                        exc_info=not isinstance(error, REDIS_ERRORS),
                    )
                self.reachable = False
                # Whether the last transaction went through is not known.
                self._stored = None
                pause = 0.05 + backoff.full_jitter(failures, random.uniform, cap=2.0)
                failures += 1
                await asyncio.sleep(pause)
                continue
            try:
                async with asyncio.timeout(pause):
                    while not (self._wake.is_set() or self._stopping):
                        await self._wake.wait()
                # Events of one round come close together: one version for them, not one each.
                await asyncio.sleep(_DEBOUNCE_S)
            except TimeoutError:
                continue

    async def _round(self) -> None:
        self._wake.clear()
        if not self._restored:
            await self._restore(self._store)
            self._restored = True
        if self._stored is not None:
            await self._audit()
        await self._flush()
        await self._publish()
        if not self.waiting:
            self._settled.set()

    async def _flush(self) -> None:
        """Events and the tracked set: not part of a version."""
        tracking = dict(self._tracking)
        if tracking:
            await self._store.track(
                [key for key, wanted in tracking.items() if wanted],
                [key for key, wanted in tracking.items() if not wanted],
            )
            for key, wanted in tracking.items():
                if self._tracking.get(key) == wanted:
                    del self._tracking[key]
        while self._events or self._gone_events:
            batch = dict(list(self._events.items())[:50])
            gone = set(self._gone_events)
            # Large events take long to encode, and this loop may be the one that carries the books.
            encoded = await asyncio.to_thread(_encoded, batch)
            await self._store.save_events(encoded, gone)
            for key, event in batch.items():
                if self._events.get(key) is event:
                    del self._events[key]
            self._gone_events -= gone

    async def _publish(self) -> None:
        names, self._dirty = self._dirty, set()
        try:
            known = self._stored
            anew = known is None
            if known is None:
                known = await self._store.fingerprints()
                names |= set(self._unit_keys) | set(self._compiler.units)
            if names or anew:
                await self._publish_units(names, known, anew=anew)
        except BaseException:
            self._dirty |= names
            raise

    async def _publish_units(self, names: set[str], known: dict[str, int], *, anew: bool) -> None:
        wanted: dict[str, Record] = {}
        keys: dict[str, frozenset[str]] = {}
        for name in names:
            made = self._records(name)
            keys[name] = frozenset(made)
            wanted.update(made)
        write = {key: value for key, value in wanted.items() if known.get(key) != fingerprint(value)}
        before: set[str] = set(known) if anew else set()
        for name in names:
            before |= self._unit_keys.get(name, frozenset())
        delete = before - wanted.keys()
        index = await self._index(wanted) if anew else None
        theirs = await self._store.version() if anew else self.version
        changed = bool(write or delete or index is not None)
        if not changed and theirs is not None and theirs >= max(self.version, self.least_version):
            # An earlier run left exactly this.
            self.version = theirs
        else:
            version = max(self.version, theirs or 0, self.least_version - 1) + 1
            await self._store.publish(version, write, delete, index=index)
            previous, hids = self.version, hids_of([*write, *delete])
            self._announce(version, None if anew else hids)
            logs.log("events").info(
                "mapping published", version=version, written=len(write), deleted=len(delete)
            )
            entry = entry_of(version, previous, self._clock.now_us(), hids, self._markets(names))
            with contextlib.suppress(*REDIS_ERRORS):
                # The version is in force; its line in the history is not worth a second try.
                await self._store.remember(entry)
        for key in delete:
            known.pop(key, None)
        for key, value in write.items():
            known[key] = fingerprint(value)
        self._stored = known
        for name, made_keys in keys.items():
            if made_keys:
                self._unit_keys[name] = made_keys
            else:
                self._unit_keys.pop(name, None)

    def _markets(self, names: set[str]) -> dict[str, UnifiedMarket]:
        units = (self._compiler.units.get(name) for name in names)
        return {market.hid: market for unit in units if unit is not None for market in unit.markets}

    def _announce(self, version: int, changed: list[str] | None) -> None:
        if changed is not None and len(changed) > _ANNOUNCED:
            changed = None
        previous, self.version = self.version, version
        self._bus.publish(subjects.MAPPING_CHANGED, announcement(version, previous, changed))

    async def _index(self, wanted: dict[str, Record]) -> list[str] | None:
        """The whole index when the stored one is not right; None when it is."""
        right = set(hids_of(wanted))
        return None if await self._store.index() == right else sorted(right)

    def _records(self, name: str) -> dict[str, Record]:
        unit = self._compiler.units.get(name)
        if unit is None:
            return {}
        made = records.unit_records(unit)
        kind, _, rest = name.partition(":")
        if kind == "event":
            platform, _, slug = rest.partition(":")
            made[records.home_key(platform, slug)] = self._compiler.home((platform, slug))
        return made

    async def _audit(self) -> None:
        """Is what we wrote still there? The version each time, the values a part at a time."""
        assert self._stored is not None
        if await self._store.version() != self.version:
            logs.log("events").warning("redis holds another mapping version, writing ours again")
            self._stored = None
            return
        keys = list(self._stored)[self._audit_from : self._audit_from + _AUDIT_KEYS]
        self._audit_from = self._audit_from + _AUDIT_KEYS if len(keys) == _AUDIT_KEYS else 0
        if not keys:
            return
        found = await self._store.fingerprints_of(keys)
        wrong = [key for key in keys if found.get(key) != self._stored[key]]
        if wrong:
            logs.bad_input("events", "", "redis_value_changed", wrong[0], keys=len(wrong))
            self._stored = None


def _encoded(events: dict[EventKey, VenueEventRecord]) -> dict[EventKey, str]:
    return {key: records.event_record(event) for key, event in events.items()}
