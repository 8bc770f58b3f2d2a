"""Compiles what is known and writes what changed to Redis, then says so on the bus.

What Redis holds is remembered as fingerprints, so that a refresh of 20,000 events writes only what is
different. Whenever that memory may be wrong (first start, an error, another version than ours, a value that
is not ours) the keys are read again and made right. While Redis is away, changes wait here.

Nothing is deleted but what has the shape and the value of a record of ours (`wup.mapping.ownership`), and
nothing that another unit holds too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from wup import backoff, logs, subjects
from wup.clock import SYSTEM_CLOCK
from wup.events.history import entry_of
from wup.events.kept import Kept
from wup.mapping import records
from wup.mapping.redis import INDEXES, REDIS_ERRORS, AnotherWriter, MappingStore, connect, hids_of
from wup.mapping.source import announcement
from wup.mapping.state import State
from wup.mapping.stored import fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from wup.bus import Bus
    from wup.clock import Clock
    from wup.mapping.catalogue import Pause, VenueEventRecord
    from wup.mapping.compile import Compiler, Unit
    from wup.mapping.listing import EventKey
    from wup.mapping.records import Record

T = TypeVar("T")
_GUARD_S = 2.0
_TRIES = 3
_AUDIT_KEYS = 200
_ANNOUNCED = 2000
_DEBOUNCE_S = 0.02
_SLICE = 500
_MANY_UNITS = 50
_BULK_KEYS = 5000
_BULK_S = 5.0
_BULK_KEYS_PER_S = 10_000
_LARGEST_THEIRS = 2**53
"""A transaction of more than `_BULK_KEYS` keys may take long to send and to execute: it has `_BULK_S` seconds
and one for so many keys, where everything else counts Redis as away after one second."""


class Publisher:
    """The only writer of the mapping's keys.

    Args:
        redis_url: Redis or Valkey.
        platforms: the venues that exist; keys of others are somebody else's.
        restore: called once, when Redis answers for the first time and before anything is written: takes
            over what an earlier run stored, so that a venue that is down now does not lose its events.
    """

    def __init__(
        self,
        redis_url: str,
        bus: Bus,
        compiler: Compiler,
        platforms: Collection[str],
        restore: Callable[[MappingStore], Awaitable[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.version = 0
        self.reachable = False
        self.least_version = 0
        """The mapping files' own version: published versions never fall below it."""
        self._url = redis_url
        self._redis = connect(redis_url)
        self._store = MappingStore(self._redis)
        self._platforms = frozenset(platforms)
        self._bus = bus
        self._compiler = compiler
        self._restore = restore
        self._clock = clock
        self._restored = False
        self._run = secrets.token_hex(8)
        """With a number it names a version: numbers start again where Redis was lost with our predecessor."""
        self._in_force = State(None, 0)
        """What Redis holds, when `_stored` is known."""
        self._given = 0
        """The largest number of this run, also of a version of which nobody knows whether it was written."""
        self._stored: dict[str, int] | None = None
        """Fingerprints of what Redis holds; None while that is not known."""
        self._unit_keys: dict[str, frozenset[str]] = {}
        self._hids: set[str] = set()
        """What the index of markets holds."""
        self._folded = 0
        """Exclusive or of these as numbers."""
        self._dirty: set[str] = set()
        self._kept = Kept(self._redis)
        self._audit_from = 0
        self._bulk: asyncio.Future[None] | None = None
        """The last large transaction."""
        self._stopping = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Changes not written yet."""
        return len(self._dirty) + self._kept.waiting

    def units_changed(self, names: set[str]) -> None:
        """These units of the compiler may have changed."""
        self._dirty |= names
        self._kick()

    def event_fetched(self, event: VenueEventRecord) -> None:
        """Store an event in full."""
        self._kept.event(event)
        self._kick()

    def event_dropped(self, key: EventKey) -> None:
        """Forget an event."""
        self._kept.drop_event(key)
        self._kick()

    def track(self, key: EventKey, wanted: bool) -> None:
        """Remember, or forget, that an event is followed by request."""
        self._kept.track(key, wanted)
        self._kick()

    def pause(self, platform: str, pause: Pause | None) -> None:
        """Remember what a venue says of itself as a whole; None: it trades."""
        self._kept.pause(platform, pause)
        self._kick()

    async def tracked(self) -> set[EventKey]:
        """What is followed by request: Redis's list with the changes that wait."""
        return await self._kept.tracked()

    async def settled(self) -> None:
        """Wait until everything that was changed before this call is written."""
        await self._settled.wait()

    def _kick(self) -> None:
        self._settled.clear()
        self._wake.set()

    async def close(self) -> None:
        """Give the connections back, after `run` has ended; a large transaction under way ends first."""
        if self._bulk is not None:
            await asyncio.gather(self._bulk, return_exceptions=True)
        await self._redis.aclose()

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
                if failures == 0:
                    logs.log("events").warning(
                        "mapping not written, changes wait",
                        error=repr(error),
                        exc_info=not isinstance(error, (*REDIS_ERRORS, AnotherWriter)),
                    )
                self.reachable = isinstance(error, AnotherWriter)
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
        await self._kept.write(anew=self._stored is None)
        await self._publish()
        if not self.waiting:
            self._settled.set()

    async def _publish(self) -> None:
        names, self._dirty = self._dirty, set()
        try:
            for _ in range(_TRIES):
                anew = self._stored is None
                if anew:
                    names |= set(self._unit_keys) | set(self._compiler.units)
                try:
                    if names or anew:
                        await self._publish_units(names, anew=anew)
                    return
                except AnotherWriter:
                    # What was compared with Redis is not what stands there now.
                    self._stored = None
            raise AnotherWriter(f"somebody else published during each of {_TRIES} attempts")
        except BaseException:
            self._dirty |= names
            raise

    async def _publish_units(self, names: set[str], *, anew: bool) -> None:
        # As they are at one moment: what changes while they are written is for the next version.
        units = {name: self._compiler.units.get(name) for name in names}
        homes = {name: self._home(name) for name, unit in units.items() if unit is not None}
        wanted, keys, right = await _aside(len(names), _prepared, units, homes)
        found = await self._store.state() if anew else self._in_force
        known, gone = await self._present(wanted, keys, anew=anew)
        write = await _aside(len(names), _different, wanted, known)
        delete = await self._store.keys.ours(gone, self._platforms) if gone else set()
        indexes: dict[str, Collection[str]] = {}
        if anew:
            indexes = {name: all_ for name, all_ in right.items() if not await self._store.holds(name, all_)}
        hids, count, folded = self._after(right[records.MARKETS], gone, anew=anew)
        whole = records.markets_sum(count, folded)
        changed = bool(write or delete or indexes) or (
            anew and not await self._store.index_holds((), count, whole)
        )
        theirs = 0 if found is None or found.version >= _LARGEST_THEIRS else found.version
        if (
            not changed
            and found is not None
            and self._given
            and theirs >= max(self.version, self._given, self.least_version)
        ):
            if anew and await self._store.state() != found:
                raise AnotherWriter("published while this was compared")
            # Another service left exactly this, or what left was not there any more. The first version of a
            # run is published even so: what an earlier run left may be an old copy, whose number stages know.
            self.version, self._in_force = theirs, found
        else:
            version = max(self.version, self._given, theirs, self.least_version - 1) + 1
            self._given = version
            state = State(self._run, version)
            publish: Callable[..., Awaitable[None]] = self._store.publish
            if len(write) + len(delete) > _BULK_KEYS:
                publish = self._publish_bulk
            await publish(state, write, delete, after=found, leaving=gone, anew=indexes, markets_sum=whole)
            previous, touched = self.version, hids_of([*write, *gone])
            self._announce(state, found, None if anew and changed else touched)
            logs.log("events").info(
                "mapping published", version=version, written=len(write), deleted=len(delete)
            )
            markets = {m.hid: m for unit in units.values() if unit is not None for m in unit.markets}
            if changed:
                entry = entry_of(version, previous, self._clock.now_us(), touched, markets)
                with contextlib.suppress(*REDIS_ERRORS):
                    # The version is in force; its line in the history is not worth a second try.
                    await self._store.remember(entry)
        for key in gone:
            known.pop(key, None)
        for key, value in write.items():
            known[key] = fingerprint(value)
        self._stored, self._hids, self._folded = known, hids, folded
        for name, made_keys in keys.items():
            if made_keys:
                self._unit_keys[name] = made_keys
            else:
                self._unit_keys.pop(name, None)

    async def _present(
        self, wanted: Mapping[str, Record], keys: Mapping[str, frozenset[str]], *, anew: bool
    ) -> tuple[dict[str, int], set[str]]:
        """Fingerprints of what Redis holds, and the keys that are there and not wanted any more."""
        if anew:
            there = await self._store.keys.names(self._platforms)
            known: dict[str, int] = {}
            asked = [key for key in wanted if key in there]
            for start in range(0, len(asked), _SLICE):
                known.update(await self._store.keys.fingerprints_of(asked[start : start + _SLICE]))
            return known, there - wanted.keys()
        assert self._stored is not None
        before: set[str] = set()
        for name in keys:
            before |= self._unit_keys.get(name, frozenset())
        gone = before - wanted.keys()
        if gone:
            for name, theirs in self._unit_keys.items():
                if name not in keys and not gone.isdisjoint(theirs):
                    gone -= theirs
        return self._stored, gone

    def _after(self, wanted: set[str], gone: set[str], *, anew: bool) -> tuple[set[str], int, int]:
        """The members of the index of markets once this is written, how many, and their exclusive or."""
        if anew:
            return wanted, *records.sum_of(wanted)
        left = set(hids_of(gone)) & self._hids
        joined = wanted - self._hids
        changed = records.sum_of((*left, *joined))[1]
        hids = self._hids - left | joined if left or joined else self._hids
        return hids, len(hids), self._folded ^ changed

    async def _publish_bulk(
        self, state: State, write: Mapping[str, Record], delete: Collection[str], **how: Any
    ) -> None:
        """A large transaction in a loop of its own. A cancelled wait does not end it, `close` waits."""
        work = _bulk(self._url, state, write, delete, **how)
        self._bulk = asyncio.ensure_future(asyncio.to_thread(asyncio.run, work))
        await asyncio.shield(self._bulk)

    def _announce(self, state: State, before: State | None, changed: list[str] | None) -> None:
        if changed is not None and len(changed) > _ANNOUNCED:
            changed = None
        previous = before or State(None, 0)
        self._in_force, self.version = state, state.version
        self._bus.publish(subjects.MAPPING_CHANGED, announcement(state, previous, changed))

    def _home(self, name: str) -> dict[str, Record]:
        kind, _, rest = name.partition(":")
        if kind != "event":
            return {}
        platform, _, slug = rest.partition(":")
        return {records.home_key(platform, slug): self._compiler.home((platform, slug))}

    async def _audit(self) -> None:
        """Is what we wrote still there? The version each time, the values a part at a time."""
        assert self._stored is not None
        if await self._store.state() != self._in_force:
            logs.log("events").warning("redis holds another mapping version, writing ours again")
            self._stored = None
            return
        keys = list(islice(self._stored, self._audit_from, self._audit_from + _AUDIT_KEYS))
        self._audit_from = self._audit_from + _AUDIT_KEYS if len(keys) == _AUDIT_KEYS else 0
        whole = records.markets_sum(len(self._hids), self._folded)
        if not await self._store.index_holds(hids_of(keys), len(self._hids), whole):
            logs.bad_input("events", "", "redis_value_changed", records.MARKETS)
            self._stored = None
            return
        if not keys:
            return
        found = await self._store.keys.fingerprints_of(keys)
        wrong = [key for key in keys if found.get(key) != self._stored[key]]
        if wrong:
            logs.bad_input("events", "", "redis_value_changed", wrong[0], keys=len(wrong))
            self._stored = None


async def _aside(units: int, function: Callable[..., T], *args: Any) -> T:
    """Work over many units in a thread: this loop may be the one that carries the books."""
    return function(*args) if units <= _MANY_UNITS else await asyncio.to_thread(function, *args)


def _prepared(
    units: Mapping[str, Unit | None], homes: Mapping[str, dict[str, Record]]
) -> tuple[dict[str, Record], dict[str, frozenset[str]], dict[str, set[str]]]:
    """The records of all these units, the keys of each, and what belongs into the indexes."""
    wanted: dict[str, Record] = {}
    keys: dict[str, frozenset[str]] = {}
    for name, unit in units.items():
        made = {} if unit is None else {**records.unit_records(unit), **homes[name]}
        keys[name] = frozenset(made)
        wanted.update(made)
    return wanted, keys, {index: set(named(wanted)) for index, named in INDEXES.items()}


def _different(wanted: Mapping[str, Record], known: Mapping[str, int]) -> dict[str, Record]:
    return {key: value for key, value in wanted.items() if known.get(key) != fingerprint(value)}


async def _bulk(
    url: str, state: State, write: Mapping[str, Record], delete: Collection[str], **how: Any
) -> None:
    """A large transaction (`MappingStore.publish`), over a connection with the time that it may need."""
    timeout = _BULK_S + (len(write) + len(delete)) / _BULK_KEYS_PER_S
    redis = connect(url, timeout=timeout)
    try:
        await MappingStore(redis).publish(state, write, delete, **how)
    finally:
        await redis.aclose()
