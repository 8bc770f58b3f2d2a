"""The epochs of a shard's books across restarts: a number ahead of all of them is kept in Redis (wire.md
section 3 rule 2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from wup import logs
from wup.clock import SYSTEM_CLOCK, Clock
from wup.mapping.redis import last_epoch, save_epoch
from wup.orderbook.service import EPOCHS_AHEAD_MS

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from wup._core import BookStore

WAIT_S = 10.0
"""How long the first books wait for the number: the mapping came from the same Redis a moment ago."""
AGAIN_S = 0.25
AHEAD_MS = 86_400_000
"""Without the number the first epochs lie a day ahead of the clock: above all of before unless the clock was
set back by more than that."""


class Epochs:
    """What the processes before gave out, and the reserve of this one.

    Args:
        redis: a client whose calls end in time.
        shard, shards: `SHARD`.
        wait_s: how long the first books may have to wait.
    """

    def __init__(
        self, redis: Redis, shard: int, shards: int, *, clock: Clock = SYSTEM_CLOCK, wait_s: float = WAIT_S
    ) -> None:
        self._redis = redis
        self._shard = shard
        self._shards = shards
        self._clock = clock
        self._wait_s = wait_s
        self._known = False

    async def first(self) -> int:
        """Epochs may begin above this, as far as is known now."""
        wall_ms = self._clock.now_us() // 1000
        try:
            last = await last_epoch(self._redis, self._shards)
        except (RedisError, OSError) as error:
            logs.log("orderbook").warning("last epoch unknown", detail=repr(error))
            return wall_ms
        self._known = True
        return max(wall_ms, last)

    async def opens(self, store: BookStore) -> None:
        """Call before the first books open: what was given out before is read, again and again for `wait_s`;
        then epochs go on a day ahead of the clock."""
        until = self._clock.monotonic() + self._wait_s
        while not self._known:
            try:
                store.raise_epoch(await last_epoch(self._redis, self._shards))
            except (RedisError, OSError) as error:
                if self._clock.monotonic() < until:
                    await asyncio.sleep(AGAIN_S)
                    continue
                logs.bad_input("orderbook", "", "last_epoch_unknown", repr(error))
                store.raise_epoch(self._clock.now_us() // 1000 + AHEAD_MS)
            self._known = True
            await self.keep(max(store.last_epoch(), self._clock.now_us() // 1000) + EPOCHS_AHEAD_MS)

    async def keep(self, last: int) -> bool:
        """Reserve all epochs up to this; False when Redis does not take it."""
        try:
            await save_epoch(self._redis, str(self._shard), last)
        except (RedisError, OSError) as error:
            logs.bad_input("orderbook", "", "epoch_not_kept", str(last), error=repr(error))
            return False
        return True
