"""How a stage holds the mapping: a whole table in memory, swapped when a new version is announced.

No message ever waits for Redis. When Redis is away, or holds something that cannot be read, the last good
table stays and `healthy` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from typing import TYPE_CHECKING, Any

import orjson

from wup import backoff, logs, subjects
from wup.mapping.redis import REDIS_ERRORS, MappingMoves, MappingStore, NoIndex, connect
from wup.mapping.state import State
from wup.mapping.table import EMPTY, MappingTable
from wup.mapping.unified import Part, UnifiedMarket, part_of, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wup.bus import Bus, Message
    from wup.bus.base import Subscription

_RUNS = 64
"""Runs of the event service whose versions are remembered."""
_MAX_INCREMENT = 500
_KEPT_ANNOUNCEMENTS = 64
_MANY_MARKETS = 2000


def announcement(state: State, previous: State, markets: list[str] | None) -> bytes:
    """Payload of `mapping.changed`: which unified markets changed between two versions, None for unknown."""
    return orjson.dumps(
        {
            "type": "mapping",
            "run": state.run,
            "version": state.version,
            "previous_run": previous.run,
            "previous": previous.version,
            "markets": markets,
        }
    )


def _announced(payload: bytes) -> tuple[State, State, list[str] | None]:
    body: Any = orjson.loads(payload)
    markets, runs = body["markets"], (body.get("run"), body.get("previous_run"))
    if markets is not None and not all(isinstance(hid, str) for hid in markets):
        raise ValueError("markets must be texts")
    if not all(run is None or isinstance(run, str) for run in runs):
        raise ValueError("runs must be texts")
    return State(runs[0], int(body["version"])), State(runs[1], int(body["previous"])), markets


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """A full load makes a million objects and no cycles: looking for these would double its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class MappingSource:
    """The mapping of one stage.

    Args:
        redis_url: where the event service writes.
        bus: carries `mapping.changed`; what it loses the slow poll finds.
        poll_s: seconds between looks at the version that stands in Redis.
    """

    def __init__(self, redis_url: str, bus: Bus, *, poll_s: float = 2.0) -> None:
        self._redis = connect(redis_url)
        self._store = MappingStore(self._redis)
        self._bus = bus
        self._poll_s = poll_s
        self._markets: dict[str, UnifiedMarket] = {}
        self._parts: dict[str, Part] = {}
        self._callbacks: list[Callable[[MappingTable], None]] = []
        self._announced: list[tuple[State, State, list[str] | None]] = []
        self._state: State | None = None
        """The version that is in force here."""
        self._seen: dict[str, int] = {}
        """By run, the last one in force the last: the highest version that was in force here."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._reachable = False
        self._stopping = False
        self._rejected: dict[str, str] = {}
        self._old = False
        """Redis holds an earlier version than the one in force here."""
        self.table: MappingTable = EMPTY

    @property
    def healthy(self) -> bool:
        """Redis answers, and all of the mapping that it holds is in force here."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why not healthy, in a few words."""
        if not self._reachable:
            return "redis_unreachable"
        if self._old:
            return "mapping_went_back"
        return f"mapping_records_rejected:{len(self._rejected)}" if self._rejected else None

    def on_change(self, callback: Callable[[MappingTable], None]) -> None:
        """`callback(table)` for every later version, in this process's event loop."""
        self._callbacks.append(callback)

    async def start(self, *, wait_s: float = 10.0) -> MappingTable:
        """Begin to follow the mapping; returns the first table, or `EMPTY` when none came in `wait_s`."""
        self._subscription = await self._bus.subscribe(subjects.MAPPING_CHANGED, self._heard)
        first = asyncio.Event()
        self._callbacks.append(lambda _: first.set())
        marker = self._callbacks[-1]
        self._task = asyncio.create_task(self._follow(), name="mapping-source")
        try:
            async with asyncio.timeout(wait_s):
                await first.wait()
        except TimeoutError:
            if wait_s:
                logs.log("mapping").warning("no mapping yet", waited_s=wait_s, problem=self.problem)
        finally:
            self._callbacks.remove(marker)
        return self.table

    async def stop(self) -> None:
        """No callback after this returns."""
        if self._subscription is not None:
            await self._subscription.stop()
        # redis-py awaits by wait_for, which before Python 3.12 swallows a cancel that comes with the answer:
        # the loop is told in a second way.
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    def _heard(self, message: Message) -> None:
        try:
            told = _announced(message.payload)
        except (ValueError, KeyError, TypeError) as error:
            logs.bad_input("mapping", "", "bad_announcement", message.payload, error=repr(error))
        else:
            self._announced.append(told)
            del self._announced[:-_KEPT_ANNOUNCEMENTS]
        self._wake.set()

    async def _follow(self) -> None:
        failures = 0
        while not self._stopping:
            self._wake.clear()
            try:
                await self._refresh()
                failures = 0
                pause = self._poll_s
            except Exception as error:
                # Also a fault of our own: a stage whose mapping stands still must say so and go on.
                expected = isinstance(error, (*REDIS_ERRORS, MappingMoves, NoIndex))
                if self._reachable or failures == 0:
                    logs.log("mapping").warning(
                        "mapping not readable, the last one stays", error=repr(error), exc_info=not expected
                    )
                self._reachable = False
                pause = min(self._poll_s, 0.05 + backoff.full_jitter(failures, random.uniform))
                failures += 1
            try:
                async with asyncio.timeout(pause):
                    while not (self._wake.is_set() or self._stopping):
                        await self._wake.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        state = await self._store.state()
        if state is None:
            # Never published, or Redis came back empty: the event service will write it again.
            self._reachable = self.table is EMPTY
            return
        self._reachable = True
        now = self._state
        self._old = self._is_old(state)
        if self._old:
            # An old copy of Redis: legs that were suspended since must not come back by it.
            return
        if state == now and not self._rejected:
            return
        if self._rejected:
            # Only the repaired records are of interest, unless the version moved too.
            again = state == self._state and len(self._rejected) <= _MAX_INCREMENT
            wanted = sorted(self._rejected) if again else None
        else:
            wanted = self._increment(state)
        with contextlib.nullcontext() if wanted is not None else _without_collector():
            await self._reload(state, wanted)

    async def _reload(self, state: State, wanted: list[str] | None) -> None:
        """Read the named markets, or all, and swap the table if anything is different."""
        loaded = await self._store.load(wanted)
        if loaded is None:
            return
        if wanted is not None and loaded.state != state:
            loaded = await self._store.load()
            if loaded is None:
                return
            wanted = None
        self._old = self._is_old(loaded.state)
        if self._old:
            # Redis was replaced since its state was read.
            return
        kept = {hid: self._markets[hid] for hid in loaded.rejected if hid in self._markets}
        if wanted is None:
            markets = {**kept, **loaded.markets}
        else:
            markets = {hid: market for hid, market in self._markets.items() if hid not in loaded.gone}
            markets.update(loaded.markets)
        self._rejected = loaded.rejected
        if len(markets) <= _MANY_MARKETS:
            built = self._build(loaded.version, markets)
        else:
            # The loop that this stage's messages go through must not wait for a table of 100,000 books.
            built = await asyncio.to_thread(self._build, loaded.version, markets)
        self._state = loaded.state
        self._remember(loaded.state)
        if built is None:
            return
        self._markets = markets
        self._parts, self.table = built
        for callback in list(self._callbacks):
            try:
                callback(self.table)
            except Exception as error:
                logs.log("mapping").error("a mapping callback failed", error=repr(error))

    def _is_old(self, state: State) -> bool:
        """A version that this stage has left behind, of the run now in force or of one before."""
        if state.run is None or state == self._state:
            return False
        return state.version <= self._seen.get(state.run, -1)

    def _remember(self, state: State) -> None:
        if state.run is not None:
            self._seen[state.run] = max(state.version, self._seen.pop(state.run, -1))
            if len(self._seen) > _RUNS:
                del self._seen[next(iter(self._seen))]

    def _build(
        self, version: int, markets: dict[str, UnifiedMarket]
    ) -> tuple[dict[str, Part], MappingTable] | None:
        """The parts and the table of these markets; None when they are what is in force. Changes nothing."""
        if version == self.table.version and markets == self._markets:
            return None
        parts = {
            hid: self._parts[hid] if self._markets.get(hid) is market else part_of(market)
            for hid, market in markets.items()
        }
        return parts, table_of(version, parts.values())

    def _increment(self, state: State) -> list[str] | None:
        """The markets that changed since our version, when the announcements tell them all; else None."""
        at, changed = self._state, set[str]()
        steps = {before: (after, markets) for after, before, markets in self._announced}
        while at is not None and at != state:
            at, markets = steps.pop(at, (None, None))
            if markets is None:
                return None
            changed.update(markets)
        return sorted(changed) if at is not None and len(changed) <= _MAX_INCREMENT else None
