"""A token bucket for what strangers may do how often; time is passed in, so that tests own it."""

from __future__ import annotations


class Bucket:
    """`rate` a second, `burst` at once. `now` is in seconds and never goes back."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Use one token; False when there is none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def full(self, now: float) -> bool:
        """Would a bucket made now allow exactly as much?"""
        return self._left + (now - self._at) * self._rate >= self._burst


class Buckets:
    """One bucket per key, kept only while it matters and never more than `most` of them.

    A stranger with many addresses cannot fill the memory: when there are `most` buckets that are not full,
    keys without one share the last.
    """

    def __init__(self, rate: float, burst: float, most: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: dict[str, Bucket] = {}
        self._others: Bucket | None = None

    def take(self, key: str, now: float) -> bool:
        """Use one token of `key`; False when there is none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._forget(now)
            if len(self._buckets) < self._most:
                bucket = self._buckets[key] = Bucket(self._rate, self._burst, now)
            else:
                bucket = self._others = self._others or Bucket(self._rate, self._burst, now)
        return bucket.take(now)

    def _forget(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.full(now)}
