"""The mapping in Redis or Valkey: published in one transaction, read in one or checked against one.

A reader never sees half a mapping: everything that changes with a version is written between MULTI and EXEC
together with `mapping:version` and `mapping:run`. A small read is one transaction too; a full one is cut in
slices, and done again when the version moved meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError, WatchError

from wup import logs
from wup._core import market_hash
from wup.errors import WupError
from wup.mapping import records
from wup.mapping.records import BadRecord
from wup.mapping.state import RUN, VERSION, State, queue_state, read_state, state_of, watch_state
from wup.mapping.stored import StoredKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from wup.mapping.catalogue import VenueEventRecord
    from wup.mapping.listing import EventKey, MarketName
    from wup.mapping.records import Record
    from wup.mapping.unified import UnifiedMarket

REDIS_ERRORS = (RedisError, OSError, TimeoutError)
_SLICE = 500
_FULL_TRIES = 5
_EPOCH_DIGITS, _NO_EPOCH = 16, 2**53
_SHARDS_EVER = 1_024
"""Nobody had more shards than this before."""
_SCAN = 5000
_KEPT_VERSIONS = 500


class MappingMoves(WupError):
    """The mapping was published anew during every attempt to read it whole."""


class AnotherWriter(WupError):
    """Somebody else published meanwhile; nothing was written."""


class NoIndex(WupError):
    """`mapping:markets` is not what was published: what the mapping has cannot be told."""


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

    state: State
    markets: dict[str, UnifiedMarket] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Asked for, and not in the mapping any more."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Hashed market id -> why its record cannot be used."""

    @property
    def version(self) -> int:
        """The version's number."""
        return self.state.version


class MappingStore:
    """Reads and writes of the mapping's keys. Every method may raise one of `REDIS_ERRORS`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.keys = StoredKeys(redis)

    async def state(self) -> State | None:
        """The version that stands there; None when nothing was published, or it is not a number."""
        return await read_state(self._redis)

    # --- reading ---

    async def load(self, only: Collection[str] | None = None) -> Loaded | None:
        """Unified markets: all, or those named (at most some hundreds). None when nothing was published.

        Raises:
            MappingMoves: the version changed during each of five full reads.
            NoIndex: there is no list of what to read.
        """
        if only is not None:
            return await self._named(list(only))
        for _ in range(_FULL_TRIES):
            loaded = await self._full()
            if loaded is None or await self.state() == loaded.state:
                return loaded
        raise MappingMoves("the mapping changes faster than it can be read")

    async def _full(self) -> Loaded | None:
        async with self._redis.pipeline(transaction=True) as pipe:
            queue_state(pipe)
            pipe.get(records.MARKETS_SUM)
            pipe.smembers(records.MARKETS)
            *raw, told, listed = await pipe.execute(raise_on_error=False)
        state = state_of(*raw)
        if state is None:
            return None
        index = (
            {hid.decode("utf-8", "replace") for hid in listed} if isinstance(listed, (set, list)) else None
        )
        found = None if index is None else records.markets_sum(*records.sum_of(index)).encode()
        if index is None or (told is not None and told != found):
            # Not an empty mapping: that would end every book.
            raise NoIndex(f"{records.MARKETS} holds {found!r}, published was {told!r}")
        whole = Loaded(state)
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
            queue_state(pipe)
            pipe.get(records.MARKETS_SUM)
            pipe.scard(records.MARKETS)
            for hid in hids:
                pipe.sismember(records.MARKETS, hid)
                pipe.get(records.market_key(hid))
                pipe.hgetall(records.members_key(hid))
            found = await pipe.execute(raise_on_error=False)
        state = state_of(*found[:2])
        if state is None:
            return None
        told, count = found[2:4]
        if not isinstance(count, int) or (isinstance(told, bytes) and told.split(b":")[0] != b"%d" % count):
            # Nothing has left the mapping because a list was lost.
            raise NoIndex(f"{records.MARKETS} has {count!r} members, published were {told!r}")
        part = Loaded(state)
        for place, hid in enumerate(hids):
            listed, body, members = found[4 + 3 * place : 7 + 3 * place]
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

    async def event_keys(self, platforms: Collection[str]) -> set[tuple[str, str]]:
        """(platform, slug) of every key that a venue event may be stored under."""
        found = set()
        async for key in self._redis.scan_iter(match="event:*", count=_SCAN):
            _, platform, slug = [*key.decode("utf-8", "replace").split(":", 2), "", ""][:3]
            if platform in platforms and slug:
                found.add((platform, slug))
        return found

    async def holders(self, names: Iterable[MarketName]) -> dict[MarketName, EventKey]:
        """The events under which these markets have a book of their own, as far as that is stored."""
        wanted = list(names)
        found: dict[MarketName, EventKey] = {}
        for start in range(0, len(wanted), _SLICE):
            some = wanted[start : start + _SLICE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for platform, market in some:
                    hid = market_hash(f"wup1|{platform}|{market}")
                    pipe.hget(records.members_key(hid), f"{platform}:{market}")
                answers = await pipe.execute(raise_on_error=False)
            for (platform, market), answer in zip(some, answers, strict=True):
                with contextlib.suppress(BadRecord):
                    member = records.read_member(f"{platform}:{market}".encode(), answer)
                    found[platform, market] = (platform, member.event)
        return found

    async def tracked(self) -> set[tuple[str, str]]:
        """(platform, slug) of the events followed by request."""
        members = await self._set(records.TRACKED)
        return {(platform, slug) for platform, _, slug in (m.partition(":") for m in members) if slug}

    async def holds(self, index: str, members: Collection[str]) -> bool:
        """Is an index (one of `INDEXES`) exactly this?"""
        return await self._set(index) == set(members)

    async def index_holds(self, hids: Collection[str], count: int, markets_sum: str) -> bool:
        """Has the index of markets so many members, these among them, and is that what it says of itself?"""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.scard(records.MARKETS)
            pipe.get(records.MARKETS_SUM)
            for hid in hids:
                pipe.sismember(records.MARKETS, hid)
            found = await pipe.execute(raise_on_error=False)
        return found == [count, markets_sum.encode(), *[1] * len(hids)]

    async def _set(self, key: str) -> set[str]:
        try:
            return await self._members(key)
        except ResponseError as error:
            logs.bad_input("mapping", "", "bad_record", f"{key}: {error}")
            return set()

    async def _members(self, key: str) -> set[str]:
        members: Any = await self._redis.smembers(key)
        # What is not text is no name of ours; as an odd text it is found to be wrong like any other.
        return {member.decode("utf-8", "replace") for member in members}

    # --- writing ---

    async def publish(
        self,
        state: State,
        write: Mapping[str, Record],
        delete: Iterable[str],
        *,
        after: State | EllipsisType | None = ...,
        leaving: Collection[str] | None = None,
        anew: Mapping[str, Collection[str]] | None = None,
        markets_sum: str | None = None,
    ) -> None:
        """Write and delete keys, set the version: all or nothing, at once for every reader.

        Args:
            after: the version that must stand there until this one does; by default any.
            leaving: keys that are not part of the mapping any more, those to delete and those that somebody
                else has meanwhile.
            anew: the indexes (`mapping:markets`, `mapping:rejected`) that are to be written whole; the others
                follow the keys.
            markets_sum: of the index of markets then; without it nobody can tell whether that is whole.

        Raises:
            AnotherWriter: not `after`, but another version stands there.
        """
        delete, anew = list(delete), anew or {}
        leaving = delete if leaving is None else leaving
        gone = list(delete)
        async with self._redis.pipeline(transaction=True) as pipe:
            if not isinstance(after, EllipsisType):
                found = await watch_state(pipe)
                if found != after:
                    raise AnotherWriter(f"{found} stands there, not {after}")
                pipe.multi()  # type: ignore[no-untyped-call]
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
            for index, named in INDEXES.items():
                if index in anew:
                    pipe.delete(index)
                elif left := named(leaving):
                    pipe.srem(index, *left)
                if joined := anew[index] if index in anew else named(write):
                    pipe.sadd(index, *joined)
            if markets_sum is None:
                pipe.delete(records.MARKETS_SUM)
            else:
                pipe.set(records.MARKETS_SUM, markets_sum)
            pipe.set(VERSION, state.version)
            if state.run is None:
                pipe.delete(RUN)
            else:
                pipe.set(RUN, state.run)
            try:
                await pipe.execute()
            except WatchError as error:
                raise AnotherWriter("published meanwhile") from error

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
        forget = await self.keys.own_events(gone)
        async with self._redis.pipeline(transaction=False) as pipe:
            for (platform, slug), body in events.items():
                pipe.set(records.event_key(platform, slug), body)
            for key in forget:
                pipe.delete(key)
            await pipe.execute()

    async def track(self, add: Iterable[tuple[str, str]], remove: Iterable[tuple[str, str]]) -> None:
        """Change what is followed by request."""
        try:
            await self._redis.scard(records.TRACKED)
        except ResponseError as error:
            # Another type stands there.
            logs.bad_input("events", "", "bad_record", f"{records.TRACKED}: {error}")
            await self._redis.delete(records.TRACKED)
        async with self._redis.pipeline(transaction=True) as pipe:
            for platform, slug in add:
                pipe.sadd(records.TRACKED, f"{platform}:{slug}")
            for platform, slug in remove:
                pipe.srem(records.TRACKED, f"{platform}:{slug}")
            await pipe.execute()


async def load_epoch(redis: Redis, shard: str) -> int:
    """The last epoch (milliseconds) that a shard of the orderbook service used; 0 when unknown."""
    try:
        raw = await redis.get(records.epoch_key(shard))
    except ResponseError as error:
        logs.bad_input("orderbook", "", "bad_record", f"{records.epoch_key(shard)}: {error}")
        return 0
    return _epoch(raw)


async def last_epoch(redis: Redis, shards: int) -> int:
    """The largest epoch that any shard used, of now or of an earlier number of shards; 0 when unknown. A book
    that moves to another shard goes on above what the old one gave out."""
    keys = [records.epoch_key(str(index)) for index in range(max(shards, _SHARDS_EVER))]
    found = await redis.mget(keys)
    return max(map(_epoch, found), default=0)


async def save_epoch(redis: Redis, shard: str, epoch: int) -> None:
    """Remember an epoch; a smaller one than stored is not written (wire.md section 3 rule 2)."""
    key = records.epoch_key(shard)
    async with redis.pipeline(transaction=True) as pipe:
        await pipe.watch(key)
        try:
            raw = await pipe.get(key)
        except ResponseError:
            # Another type stands there; it is written over.
            raw = None
        pipe.multi()  # type: ignore[no-untyped-call]
        pipe.set(key, max(_epoch(raw), epoch))
        await pipe.execute()


def _epoch(raw: object) -> int:
    """Milliseconds; 0 for what no clock can have given, after which nothing could be larger."""
    if not isinstance(raw, bytes):
        return 0
    if len(raw) <= _EPOCH_DIGITS and raw.isdigit() and int(raw) < _NO_EPOCH:
        return int(raw)
    logs.bad_input("orderbook", "", "bad_record", b"epoch: " + raw[:100])
    return 0


def _take(into: Loaded, hid: str, body: object, members: object) -> None:
    """Read one market into what was found, or name what is wrong with it."""
    try:
        into.markets[hid] = records.read_market(hid, body, members)
    except BadRecord as error:
        into.rejected[hid] = str(error)
        logs.bad_input("mapping", "", "bad_record", f"market:{hid}: {error}")


def hids_of(keys: Iterable[str]) -> list[str]:
    """The hashed market ids of the `market:{hid}` keys and their members, each once."""
    parts = (key.split(":") for key in keys)
    return list(dict.fromkeys(p[1] for p in parts if p[0] == "market" and p[2:] in ([], ["members"])))


def rejects_of(keys: Iterable[str]) -> list[str]:
    """The hashes of the `reject:{pair}` keys."""
    return [key.removeprefix("reject:") for key in keys if key.startswith("reject:")]


INDEXES: dict[str, Callable[[Iterable[str]], list[str]]] = {
    records.MARKETS: hids_of,
    records.REJECTED: rejects_of,
}
"""The sets that name records, and how to tell their members from keys."""
