"""The truth: what a market's book was at any engine time.

Change lists are kept with a full copy every so often; a question is answered from the last copy before it.
History is bounded; what was forgotten is answered by `None`, never by a guess.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.sim.ladder import EngineBook, Levels, Side

_COPY_EVERY = 128


class _Segment:
    __slots__ = ("asks", "bids", "changes", "start_ms", "times")

    def __init__(self, start_ms: int, bids: Levels, asks: Levels) -> None:
        self.start_ms = start_ms
        self.bids = bids
        self.asks = asks
        self.times: list[int] = []
        self.changes: list[Sequence[tuple[Side, int, int]]] = []


class History:
    """Past books of one market, by engine millisecond."""

    __slots__ = ("_limit", "_segments")

    def __init__(self, book: EngineBook, at_ms: int, limit: int = 20_000) -> None:
        self._limit = max(1, limit // _COPY_EVERY)
        self._segments = [_Segment(at_ms, dict(book.bids.levels), dict(book.asks.levels))]

    def add(self, at_ms: int, changes: Sequence[tuple[Side, int, int]], book: EngineBook) -> None:
        """A transaction of `at_ms` set these (side, price, new size); `book` is the book after it."""
        last = self._segments[-1]
        last.times.append(at_ms)
        last.changes.append(changes)
        if len(last.times) >= _COPY_EVERY:
            self._segments.append(_Segment(at_ms, dict(book.bids.levels), dict(book.asks.levels)))
            if len(self._segments) > self._limit:
                del self._segments[0]

    def first_ms(self) -> int:
        """The earliest millisecond that can be asked for."""
        return self._segments[0].start_ms

    def at(self, ms: int) -> tuple[Levels, Levels] | None:
        """(bids, asks) after everything that happened up to the end of millisecond `ms`."""
        index = bisect_right(self._segments, ms, key=lambda segment: segment.start_ms) - 1
        if index < 0:
            return None
        segment = self._segments[index]
        bids, asks = dict(segment.bids), dict(segment.asks)
        for changes in segment.changes[: bisect_right(segment.times, ms)]:
            for side, price, size in changes:
                levels = bids if side == "bid" else asks
                if size:
                    levels[price] = size
                else:
                    levels.pop(price, None)
        return bids, asks
