"""One market's book inside the matching engine, in the coordinates of its YES side."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Literal

from wup.sim.fixed import MICRO

Side = Literal["bid", "ask"]
Levels = dict[int, int]
"""price -> size, millionths."""


class Ladder:
    """Bids or asks: total size per price, prices kept ascending."""

    __slots__ = ("levels", "prices")

    def __init__(self) -> None:
        self.levels: Levels = {}
        self.prices: list[int] = []

    def put(self, price: int, size: int) -> int:
        """Set the total of a level (0 removes it); returns the former total.

        Raises:
            ValueError: a size below zero, or a price outside (0, 1).
        """
        old = self.levels.get(price, 0)
        if size < 0 or not 0 < price < MICRO:
            raise ValueError(f"impossible level: price {price}, size {size}")
        if size:
            if not old:
                insort(self.prices, price)
            self.levels[price] = size
        elif old:
            del self.levels[price]
            del self.prices[bisect_left(self.prices, price)]
        return old

    def ascending(self) -> list[tuple[int, int]]:
        """(price, size) by rising price."""
        levels = self.levels
        return [(price, levels[price]) for price in self.prices]


class EngineBook:
    """Both sides of one market."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = Ladder()
        self.asks = Ladder()

    def side(self, side: Side) -> Ladder:
        """The ladder of `side`."""
        return self.bids if side == "bid" else self.asks

    def best_bid(self) -> int | None:
        """Highest bid price."""
        return self.bids.prices[-1] if self.bids.prices else None

    def best_ask(self) -> int | None:
        """Lowest ask price."""
        return self.asks.prices[0] if self.asks.prices else None

    def mirrored(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(bids, asks) of the NO side, each by rising price: prices complemented, sides swapped."""
        return (
            [(MICRO - price, size) for price, size in reversed(self.asks.ascending())],
            [(MICRO - price, size) for price, size in reversed(self.bids.ascending())],
        )
