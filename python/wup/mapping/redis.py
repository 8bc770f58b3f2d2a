"""The mapping in Redis or Valkey: published in one transaction, read in one or checked against one.

A reader never sees half a mapping: everything that changes with a version is written between MULTI and EXEC
together with `mapping:version`. A small read is one transaction too; a full one is cut in slices, and done
again when the version moved meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from wup import logs
from wup.errors import WupError
from wup.mapping import records
from wup.mapping.records import BadRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from wup.mapping.catalogue import VenueEventRecord
    from wup.mapping.records import Record
    from wup.mapping.unified import UnifiedMarket

REDIS_ERRORS = (RedisError, OSError, TimeoutError)
_SLICE = 500
_FULL_TRIES = 5
_SCAN = 5000
_KEPT_VERSIONS = 500
_NOT_MAPPING = ("event:", "mapping:", "orderbook:")
_OURS = (
    "aggregate:*",
    "market:*",
    "suggest:*",
    "reject:*",
    "*:event:*",
    "*:market:*",
    "*:token:*",
    "*:outcome:*",
)


class MappingMoves(WupError):
    """The mapping was published anew during every attempt to read it whole."""


def connect(url: str, *, timeout: float = 1.0) -> Redis:
    """A client that fails within `timeout` seconds and leaves trying again to its owner."""
    return Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


@dataclass(slots=True)
class Loaded:
    """What a read found."""

    version: int
    markets: dict[str, UnifiedMarket] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Asked for, and not in the mapping any more."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Hashed market id -> why its record cannot be used."""


class MappingStore:
    """Reads and writes of the mapping's keys. Every method may raise one of `REDIS_ERRORS`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def version(self) -> int | None:
        """`mapping:version`; None when nothing was published, or it is not a number."""
        return _version(await self._redis.get(records.VERSION))

    # --- reading ---

    async def load(self, only: Collection[str] | None = None) -> Loaded | None:
        """Unified markets: all, or those named (at most some hundreds). None when nothing was published.

        Raises:
            MappingMoves: the version changed during each of five full reads.
        """
        if only is not None:
            return await self._named(list(only))
        for _ in range(_FULL_TRIES):
            loaded = await self._full()
            if loaded is None or await self.version() == loaded.version:
                return loaded
        raise MappingMoves("the mapping changes faster than it can be read")

    async def _full(self) -> Loaded | None:
        version = await self.version()
        if version is None:
            return None
        index = await self._set(records.MARKETS)
        whole = Loaded(version)
        hids = sorted(index)
        for start in range(0, len(hids), _SLICE):
            some = hids[start : start + _SLICE]
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.mget([records.market_key(hid) for hid in some])
                for hid in some:
                    pipe.hgetall(records.members_key(hid))
                bodies, *members = await pipe.execute(raise_on_error=False)
            for hid, body, inner in zip(some, bodies, members, strict=True):
                _take(whole, hid, body, inner)
            # A large mapping must not hold up the loop that it is read in.
            await asyncio.sleep(0)
        return whole

    async def _named(self, hids: list[str]) -> Loaded | None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(records.VERSION)
            for hid in hids:
                pipe.sismember(records.MARKETS, hid)
                pipe.get(records.market_key(hid))
                pipe.hgetall(records.members_key(hid))
            found = await pipe.execute(raise_on_error=False)
        version = _version(found[0])
        if version is None:
            return None
        part = Loaded(version)
        for place, hid in enumerate(hids):
            listed, body, members = found[1 + 3 * place : 4 + 3 * place]
            if listed == 0:
                part.gone.add(hid)
            else:
                _take(part, hid, body, members)
        return part

    async def event(self, platform: str, slug: str) -> tuple[VenueEventRecord, dict[str, Any]] | None:
        """A venue event as stored; None when there is none.

        Raises:
            BadRecord: the record cannot be used.
        """
        try:
            raw = await self._redis.get(records.event_key(platform, slug))
        except ResponseError as error:
            raise BadRecord(str(error)) from None
        return None if raw is None else records.read_event(raw)

    async def event_keys(self) -> set[tuple[str, str]]:
        """(platform, slug) of every stored venue event."""
        found = set()
        async for key in self._redis.scan_iter(match="event:*", count=_SCAN):
            _, platform, slug = [*key.decode("utf-8", "surrogateescape").split(":", 2), "", ""][:3]
            found.add((platform, slug))
        return found

    async def tracked(self) -> set[tuple[str, str]]:
        """(platform, slug) of the events followed by request."""
        members = await self._set(records.TRACKED)
        return {(platform, slug) for platform, _, slug in (m.partition(":") for m in members) if slug}

    async def _set(self, key: str) -> set[str]:
        try:
            members: Any = await self._redis.smembers(key)
        except ResponseError as error:
            logs.bad_input("mapping", "", "bad_record", f"{key}: {error}")
            return set()
        return {member.decode("utf-8", "surrogateescape") for member in members}

    # --- writing ---

    async def fingerprints(self) -> dict[str, int]:
        """Every key of the mapping that is stored, with a fingerprint of its value.

        Only within this process do the numbers mean anything: they tell which keys must be written.
        """
        found: dict[str, int] = {}
        for pattern in _OURS:
            async for names in self._scan(pattern):
                # A key of another type than ours has no value here, but it is there.
                found.update(dict.fromkeys(names, fingerprint(None)))
                found.update(await self.fingerprints_of(names))
        return found

    async def fingerprints_of(self, keys: list[str]) -> dict[str, int]:
        """Fingerprints of some keys; those that do not exist, or are of another type, are left out."""
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
        # Redis has no empty hash or set: an empty answer is no key.
        return {
            key: fingerprint(_text(value))
            for key, value in zip(names, values, strict=True)
            if value and not isinstance(value, Exception)
        }

    async def index(self) -> set[str]:
        """Hashed market ids that the index names."""
        return await self._set(records.MARKETS)

    async def _scan(self, pattern: str) -> AsyncIterator[list[str]]:
        cursor: Any = 0
        while True:
            answer: Any = await self._redis.scan(cursor, match=pattern, count=_SCAN)
            cursor, keys = answer
            names = [key.decode("utf-8", "surrogateescape") for key in keys]
            names = [name for name in names if not name.startswith(_NOT_MAPPING)]
            for start in range(0, len(names), _SLICE):
                yield names[start : start + _SLICE]
            if cursor == 0:
                return

    async def publish(
        self,
        version: int,
        write: Mapping[str, Record],
        delete: Iterable[str],
        *,
        index: Collection[str] | None = None,
    ) -> None:
        """Write and delete keys, set the version: all or nothing, at once for every reader.

        `index`: the whole set of hashed market ids, to write it anew; without it, it follows the keys.
        """
        delete = list(delete)
        gone = list(delete)
        async with self._redis.pipeline(transaction=True) as pipe:
            texts = [(key, value) for key, value in write.items() if isinstance(value, str)]
            # Of a hash or set that is written, whatever was there goes first.
            gone += [key for key, value in write.items() if not isinstance(value, str)]
            for start in range(0, len(gone), _SLICE):
                pipe.delete(*gone[start : start + _SLICE])
            for start in range(0, len(texts), _SLICE):
                pipe.mset(dict(texts[start : start + _SLICE]))
            for key, value in write.items():
                if isinstance(value, dict):
                    pipe.hset(key, items=[part for item in value.items() for part in item])
                elif not isinstance(value, str) and value:
                    pipe.sadd(key, *value)
            joined = index if index is not None else hids_of(write)
            if index is not None:
                pipe.delete(records.MARKETS)
            elif left := hids_of(delete):
                pipe.srem(records.MARKETS, *left)
            if joined:
                pipe.sadd(records.MARKETS, *joined)
            pipe.set(records.VERSION, version)
            await pipe.execute()

    async def remember(self, entry: str) -> None:
        """Add what `history` tells of a version. Not part of the version."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lpush(records.HISTORY, entry)
            pipe.ltrim(records.HISTORY, 0, _KEPT_VERSIONS - 1)
            results = await pipe.execute(raise_on_error=False)
        if any(isinstance(result, ResponseError) for result in results):
            # Somebody stored another type there.
            logs.bad_input("events", "", "bad_record", f"{records.HISTORY}: {results[0]}")
            await self._redis.delete(records.HISTORY)

    async def history(self) -> list[bytes]:
        """What was remembered of the last versions, the newest first."""
        try:
            found: Any = await self._redis.lrange(records.HISTORY, 0, _KEPT_VERSIONS - 1)
        except ResponseError as error:
            logs.bad_input("events", "", "bad_record", f"{records.HISTORY}: {error}")
            return []
        return list(found)

    async def save_events(
        self, events: Mapping[tuple[str, str], str], gone: Iterable[tuple[str, str]]
    ) -> None:
        """Store venue events in full (`records.event_record`), forget others. Not part of a version."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for (platform, slug), body in events.items():
                pipe.set(records.event_key(platform, slug), body)
            for platform, slug in gone:
                pipe.delete(records.event_key(platform, slug))
            await pipe.execute()

    async def track(self, add: Iterable[tuple[str, str]], remove: Iterable[tuple[str, str]]) -> None:
        """Change what is followed by request."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for platform, slug in add:
                pipe.sadd(records.TRACKED, f"{platform}:{slug}")
            for platform, slug in remove:
                pipe.srem(records.TRACKED, f"{platform}:{slug}")
            await pipe.execute()


async def load_epoch(redis: Redis, shard: str) -> int:
    """The last epoch (milliseconds) that a shard of the orderbook service used; 0 when unknown."""
    raw = await redis.get(records.epoch_key(shard))
    return int(raw) if isinstance(raw, bytes) and raw.isdigit() else 0


async def save_epoch(redis: Redis, shard: str, epoch: int) -> None:
    """Remember an epoch; a smaller one than stored is not written (wire.md section 3 rule 2)."""
    key = records.epoch_key(shard)
    async with redis.pipeline(transaction=True) as pipe:
        await pipe.watch(key)
        raw = await pipe.get(key)
        known = int(raw) if isinstance(raw, bytes) and raw.isdigit() else 0
        pipe.multi()  # type: ignore[no-untyped-call]
        pipe.set(key, max(known, epoch))
        await pipe.execute()


def _take(into: Loaded, hid: str, body: object, members: object) -> None:
    """Read one market into what was found, or name what is wrong with it."""
    try:
        into.markets[hid] = records.read_market(hid, body, members)
    except BadRecord as error:
        into.rejected[hid] = str(error)
        logs.bad_input("mapping", "", "bad_record", f"market:{hid}: {error}")


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


def hids_of(keys: Iterable[str]) -> list[str]:
    """The hashed market ids of the `market:{hid}` keys and their members, each once."""
    parts = (key.split(":") for key in keys)
    return list(dict.fromkeys(p[1] for p in parts if p[0] == "market" and p[2:] in ([], ["members"])))


def _version(raw: object) -> int | None:
    return int(raw) if isinstance(raw, bytes) and raw.isdigit() else None
