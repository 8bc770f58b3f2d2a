"""Which shard serves an aggregate: rendezvous hashing, so that n -> n+1 moves 1/(n+1) of the books."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=65_536)
def shard_of(aggregate: str, shards: int) -> int:
    """The index of the shard that serves `aggregate`: the one with the largest hash."""
    if shards == 1:
        return 0
    return max(range(shards), key=lambda i: blake2b(f"{aggregate}|{i}".encode(), digest_size=8).digest())
