"""The matching engine's objects: a market's state, and the events that change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wup.sim.fixed import MICRO
from wup.sim.history import History
from wup.sim.ladder import EngineBook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wup.sim.ladder import Side
    from wup.sim.world import Band, Listing

Status = Literal["open", "halted", "closed", "resolved"]
Kind = Literal[
    "change", "match", "tick", "clear", "halted", "opened", "listed", "closed", "determined", "settled"
]


@dataclass(frozen=True, slots=True)
class Change:
    """One level went from `old` to `new` (totals, millionths)."""

    side: Side
    price: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One resting level met by a taker; the price is in YES coordinates."""

    price: int
    size: int
    taker: Literal["buy", "sell"]
    trade_id: str


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One transaction of one market; the market's book is already the one after it.

    All messages about it carry `at_us`; no other transaction of the market has the same millisecond.
    """

    market: Market
    at_us: int
    kind: Kind
    changes: Sequence[Change] = ()
    fills: Sequence[Fill] = ()
    top_moved: bool = False
    info: Mapping[str, str] = field(default_factory=dict)


class Market:
    """One listed market: its book, and what the venue's catalogue says about it."""

    __slots__ = (
        "bias",
        "book",
        "changed_us",
        "depth",
        "grid",
        "history",
        "last_ms",
        "last_trade",
        "listing",
        "open_interest",
        "result",
        "status",
        "traded_usd",
        "volume",
    )

    def __init__(self, listing: Listing, depth: int) -> None:
        self.listing = listing
        self.book = EngineBook()
        self.grid: tuple[Band, ...] = listing.grid
        self.depth = depth
        self.bias = 0
        self.last_trade = 0
        self.volume = 0
        self.traded_usd = 0
        """Whole dollars traded so far."""
        self.open_interest = 0
        self.changed_us = 0
        self.last_ms = 0
        self.status: Status = "open"
        self.result = ""
        self.history: History

    def begin(self, at_us: int, limit: int) -> None:
        """The book as it stands is the first truth, of engine time `at_us`."""
        self.changed_us = at_us
        self.last_ms = at_us // 1000
        self.history = History(self.book, self.last_ms, limit)

    def stamp(self, at_us: int) -> int:
        """Engine time for the next transaction: `at_us`, or the next free millisecond."""
        at_us = max(at_us, (self.last_ms + 1) * 1000)
        self.last_ms = at_us // 1000
        return at_us

    def step_at(self, price: int) -> int:
        """The grid's step at a price."""
        for start, end, step in self.grid:
            if start <= price < end:
                return step
        return self.grid[-1][2]

    def floor(self, price: int) -> int:
        """The nearest valid price at or below."""
        return price - price % self.step_at(price)

    def ceil(self, price: int) -> int:
        """The nearest valid price at or above."""
        return -(-price // self.step_at(price)) * self.step_at(price)

    @property
    def tick(self) -> int:
        """The finest step, which is what a single-tick venue quotes."""
        return min(step for _, _, step in self.grid)

    def apply(self, at_us: int, changes: Sequence[Change]) -> bool:
        """Put new totals into the book and the history; did the top move?"""
        before = (self.book.best_bid(), self.book.best_ask())
        for change in changes:
            self.book.side(change.side).put(change.price, change.new)
        self.changed_us = at_us
        self.history.add(
            at_us // 1000, [(change.side, change.price, change.new) for change in changes], self.book
        )
        return before != (self.book.best_bid(), self.book.best_ask())

    def truth(self, asset: str, at_us: int | None = None) -> tuple[list[tuple[int, int]], ...] | None:
        """(bids, asks) of an asset, best first, in the asset's own coordinates.

        `at_us` means the end of its millisecond. None when that is before the kept history.
        """
        now = (self.book.bids.levels, self.book.asks.levels)
        state = now if at_us is None else self.history.at(at_us // 1000)
        if state is None:
            return None
        bids, asks = sorted(state[0].items(), reverse=True), sorted(state[1].items())
        if asset == self.listing.assets[0]:
            return bids, asks
        return [(MICRO - price, size) for price, size in asks], [
            (MICRO - price, size) for price, size in bids
        ]
