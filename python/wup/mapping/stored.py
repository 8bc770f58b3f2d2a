"""What stands in Redis under names like those of the mapping, and which of it is the mapping's own.

Somebody else may use the same Redis: every question here takes any type and any size of value in its stride.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from wup._core import unmapped_aggregate
from wup.mapping import records
from wup.mapping.ownership import own_event, own_shape, own_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis

    from wup.mapping.records import Record

_SLICE = 500
_SCAN = 5000
_LARGEST = {"string": 64 * 1024, "hash": 1000, "set": 100_000}
"""Bytes, fields and members that no record of ours has more of."""
_LARGEST_EVENT = 8 * 1024 * 1024


class StoredKeys:
    """Questions about keys; every method may raise one of `wup.mapping.redis.REDIS_ERRORS`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def names(self, platforms: Collection[str]) -> set[str]:
        """Every key whose name has the shape of the mapping's own (`own_shape`), whatever stands there."""
        found: set[str] = set()
        cursor: Any = 0
        while True:
            answer: Any = await self._redis.scan(cursor, count=_SCAN)
            cursor, keys = answer
            for key in keys:
                with contextlib.suppress(UnicodeDecodeError):
                    if own_shape(name := key.decode(), platforms):
                        found.add(name)
            if cursor == 0:
                return found

    async def ours(self, keys: Collection[str], platforms: Collection[str]) -> set[str]:
        """Those of these keys that hold what only the mapping writes there: those that may be deleted."""
        shaped = [key for key in keys if own_shape(key, platforms)]
        # The hash of an aggregate vouches for its sets, the set of its events for the pointers to it.
        vouching = {f"aggregate:{key.split(':')[1]}" for key in shaped if key.startswith("aggregate:")}
        values: dict[str, Record] = {}
        asked = list(dict.fromkeys((*shaped, *vouching)))
        for start in range(0, len(asked), _SLICE):
            values.update(await self.values(await self._small(asked[start : start + _SLICE])))
        rejected = await self._rejected() if any(key.startswith("reject:") for key in shaped) else set()
        found = {key for key, value in values.items() if own_value(key, value, platforms)}
        return {
            key
            for key in await self._pointing(shaped, found, values)
            if not key.startswith("reject:") or key.removeprefix("reject:") in rejected
        }

    async def _pointing(self, shaped: list[str], found: set[str], values: dict[str, Record]) -> set[str]:
        """Without the sets of aggregates that are not ours, and pointers to aggregates that know no such."""
        kept, doubtful = set(), []
        for key in shaped:
            if key not in found:
                continue
            first, name, *last = key.split(":", 2)
            value = values[key]
            if first == "aggregate":
                if f"aggregate:{name}" not in found:
                    continue
            elif name == "event" and isinstance(value, str) and value != unmapped_aggregate(first, last[0]):
                doubtful.append((key, f"aggregate:{value}:events", f"{first}:{last[0]}"))
                continue
            kept.add(key)
        for start in range(0, len(doubtful), _SLICE):
            some = doubtful[start : start + _SLICE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for _, events, event in some:
                    pipe.sismember(events, event)
                answers = await pipe.execute(raise_on_error=False)
            kept |= {key for (key, _, _), answer in zip(some, answers, strict=True) if answer == 1}
        return kept

    async def _rejected(self) -> set[str]:
        try:
            members: Any = await self._redis.smembers(records.REJECTED)
        except ResponseError:
            return set()
        return {member.decode("utf-8", "replace") for member in members}

    async def _small(self, keys: list[str]) -> list[str]:
        """Those of these keys that have the type of theirs, and no more in it than ours have."""
        kinds = [records.kind_of(key) for key in keys]
        async with self._redis.pipeline(transaction=False) as pipe:
            for key, kind in zip(keys, kinds, strict=True):
                {"string": pipe.strlen, "hash": pipe.hlen, "set": pipe.scard}[kind](key)
            sizes = await pipe.execute(raise_on_error=False)
        return [
            key
            for key, kind, size in zip(keys, kinds, sizes, strict=True)
            if isinstance(size, int) and 0 < size <= _LARGEST[kind]
        ]

    async def own_events(self, events: Iterable[tuple[str, str]]) -> list[str]:
        """The keys of those of these events that are stored as ours are."""
        found: list[str] = []
        named = [(records.event_key(platform, slug), platform, slug) for platform, slug in events]
        for start in range(0, len(named), _SLICE):
            some = named[start : start + _SLICE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for key, _, _ in some:
                    pipe.strlen(key)
                sizes = await pipe.execute(raise_on_error=False)
            stored = [
                (*one, size)
                for one, size in zip(some, sizes, strict=True)
                if isinstance(size, int) and 0 < size <= _LARGEST_EVENT
            ]
            while stored:
                # Each may be megabytes.
                total = 0
                batch: list[tuple[str, str, str, int]] = []
                while stored and (not batch or total + stored[-1][3] <= _LARGEST_EVENT):
                    total += stored[-1][3]
                    batch.append(stored.pop())
                values: Any = await self._redis.mget([key for key, _, _, _ in batch])
                found += [
                    key
                    for (key, platform, slug, _), value in zip(batch, values, strict=True)
                    if isinstance(value, bytes) and own_event(platform, slug, value)
                ]
        return found

    async def fingerprints_of(self, keys: list[str]) -> dict[str, int]:
        """Fingerprints of some keys; those that do not exist, or are of another type, are left out.

        Only within this process do the numbers mean anything: they tell which keys must be written.
        """
        return {key: fingerprint(value) for key, value in (await self.values(keys)).items()}

    async def values(self, keys: list[str]) -> dict[str, Record]:
        """Values in the form in which they are written; what is missing, of another type or no text is not
        among them."""
        kinds: dict[str, list[str]] = {"string": [], "hash": [], "set": []}
        for key in keys:
            kinds[records.kind_of(key)].append(key)
        async with self._redis.pipeline(transaction=False) as pipe:
            if kinds["string"]:
                pipe.mget(kinds["string"])
            for key in kinds["hash"]:
                pipe.hgetall(key)
            for key in kinds["set"]:
                pipe.smembers(key)
            values = await pipe.execute(raise_on_error=False)
        if kinds["string"]:
            values = [*values[0], *values[1:]]
        names = [*kinds["string"], *kinds["hash"], *kinds["set"]]
        texts = zip(names, map(_text, values), strict=True)
        # Redis has no empty hash or set: an empty answer is no key.
        return {key: text for key, text in texts if text}


def fingerprint(value: Record | None) -> int:
    """A number that tells two values of one key apart."""
    if isinstance(value, dict):
        return hash(frozenset(value.items()))
    return hash(value)


def _text(value: Any) -> Record | None:
    """A value as read, in the form in which it is written; None for what we never write."""
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, dict):
            return {name.decode(): inner.decode() for name, inner in value.items()}
        if isinstance(value, (set, list)):
            return frozenset(member.decode() for member in value)
    except UnicodeDecodeError:
        return None
    return None
