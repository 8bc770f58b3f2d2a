"""The market model: seeded, deterministic, driven by whatever clock the caller has.

Each real-world outcome has a fair price on a random walk. On each venue market makers quote around it,
move and cancel, and takers trade when the book lags behind. Venues are independent books around the
common fair price, so their bests sometimes cross: that is what a consolidated book is for.

The same seed and start give the same events, however the time is cut into `advance` calls.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

from wup.sim.engine import Change, EngineEvent, Fill, Market
from wup.sim.fixed import CENT, MICRO
from wup.sim.world import FINEST_GRID, MILLE_GRID, POLYMARKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from wup.sim.engine import Kind, Status
    from wup.sim.ladder import Side
    from wup.sim.world import Outcome, World

_LOTS = (5, 10, 20, 25, 50, 77, 100, 150, 200, 250, 400, 500, 1_000, 2_500)
_SIDES: tuple[Side, Side] = ("bid", "ask")
_HISTORY_TOTAL = 400_000
_LOWEST_FAIR, _HIGHEST_FAIR = 12_000, 988_000


class MarketModel:
    """All markets of a world, and the events that happen to them."""

    def __init__(
        self,
        world: World,
        *,
        seed: int,
        start_us: int,
        rate: float = 300.0,
        depth: int = 0,
        history: int = _HISTORY_TOTAL,
    ) -> None:
        """`rate` transactions a second; of all markets together about `history` are remembered.

        `depth` > 0 asks for books of about so many levels, both sides together, on as fine a grid as that
        takes (up to 9,999).
        """
        self.world = world
        self.rng = random.Random(seed)
        self.markets = [Market(item, depth=self.rng.randint(14, 38)) for item in world.listings]
        self.by_asset = {
            (market.listing.venue, asset): market
            for market in self.markets
            for asset in market.listing.assets
        }
        self.fair: dict[Outcome, int] = {
            outcome: outcome.fair for item in world.aggregates for outcome in item.outcomes
        }
        self.paused_until: dict[str, int] = {}
        """Venue -> engine time before which nothing happens there."""
        self.cancel_only_until: dict[str, int] = {}
        """Venue -> engine time before which no order is placed there, only cancelled."""
        self._mean_gap_us = MICRO / rate
        self._next_us = start_us
        self._scripts: list[tuple[int, int, Callable[[int], Iterator[EngineEvent]]]] = []
        self._script_number = 0
        self._trade_number = 0
        self._seed = seed
        limit = max(256, history // len(self.markets))
        for market in self.markets:
            if depth:
                market.depth = depth
                if depth > 99:
                    market.grid = MILLE_GRID if depth <= 999 else FINEST_GRID
            self._fill(market)
            market.begin(start_us, limit)
        self._weigh()
        self._gap()

    # --- time ---------------------------------------------------------------------------------------

    @property
    def next_us(self) -> int:
        """Engine time of the next event."""
        return min(self._next_us, self._scripts[0][0]) if self._scripts else self._next_us

    def advance(self, to_us: int) -> Iterator[EngineEvent]:
        """Events up to `to_us`, in order. Take each before asking for the next: books move on."""
        while self.next_us <= to_us:
            if self._scripts and self._scripts[0][0] <= self._next_us:
                at_us, _, script = heapq.heappop(self._scripts)
                yield from script(at_us)
                continue
            at_us = self._next_us
            self._gap()
            yield from self._step(at_us)

    def at(self, at_us: int, script: Callable[[int], Iterator[EngineEvent]]) -> None:
        """Run `script` at an engine time; it yields the events it made."""
        self._script_number += 1
        heapq.heappush(self._scripts, (at_us, self._script_number, script))

    def _gap(self) -> None:
        self._next_us += 1 + int(self.rng.expovariate(1 / self._mean_gap_us))

    # --- what happens -------------------------------------------------------------------------------

    def _step(self, at_us: int) -> Iterator[EngineEvent]:
        pick = self.rng.random()
        if not self._open:
            return
        market = self._open[bisect(self._weights, pick * self._weights[-1])]
        self._walk(market)
        if at_us < self.paused_until.get(market.listing.venue, 0):
            return
        if at_us < self.cancel_only_until.get(market.listing.venue, 0):
            gone = self._cancel(market, "bid" if self.rng.random() < 0.5 else "ask")
            if gone is not None:
                yield from self.transact(market, at_us, [gone])
            return
        changes, fills = self._act(market)
        if changes:
            yield from self.transact(market, at_us, changes, fills)

    def transact(
        self, market: Market, at_us: int, changes: list[Change], fills: list[Fill] | None = None
    ) -> Iterator[EngineEvent]:
        """Put one transaction through; a tick change that it causes follows as an event of its own."""
        at_us = market.stamp(at_us)
        for fill in fills or ():
            market.last_trade = fill.price
            market.volume += fill.size
            market.open_interest += fill.size // 2
            market.traded_usd += fill.size * fill.price // MICRO // MICRO
        moved = market.apply(at_us, changes)
        yield EngineEvent(market, at_us, "match" if fills else "change", changes, fills or (), moved)
        if self._wants_finer_tick(market):
            yield self.change_tick(market, at_us)

    def change_tick(self, market: Market, at_us: int) -> EngineEvent:
        """The market's grid becomes one of 0.001."""
        old = market.tick
        market.grid = MILLE_GRID
        return EngineEvent(
            market, market.stamp(at_us), "tick", info={"old": str(old), "new": str(market.tick)}
        )

    def set_status(
        self, market: Market, status: Status, kind: Kind, at_us: int, result: str = ""
    ) -> EngineEvent:
        """A step of the market's own life (halted, closed, determined, ...)."""
        market.status = status
        market.result = result or market.result
        self._weigh()
        return EngineEvent(market, market.stamp(at_us), kind, info={"result": market.result})

    def clear(self, market: Market, at_us: int) -> EngineEvent:
        """All resting orders go at once."""
        changes = [
            Change(side, price, size, 0)
            for side in _SIDES
            for price, size in market.book.side(side).ascending()
        ]
        at_us = market.stamp(at_us)
        market.apply(at_us, changes)
        return EngineEvent(market, at_us, "clear", changes, top_moved=bool(changes))

    def place(self, market: Market) -> Change | None:
        """A maker's new order on one side, not yet put through; None when there is no room."""
        return self._place(market, "bid" if self.rng.random() < 0.5 else "ask")

    def burst(self, market: Market, at_us: int, count: int) -> Iterator[EngineEvent]:
        """`count` sweeps in a row, each leaving a rest that crosses what it took."""
        for index in range(count):
            taker: Literal["buy", "sell"] = "buy" if index % 2 else "sell"
            changes, fills = self._take(market, taker, None, rest=True)
            if changes:
                yield from self.transact(market, at_us, changes, fills)
            for side in _SIDES:
                change = self._place(market, side)
                if change is not None:
                    yield from self.transact(market, at_us, [change])

    def fair_of(self, market: Market) -> int:
        """Fair price of the market's YES, its venue's own lag included."""
        fair = self.fair[market.listing.outcome]
        fair = MICRO - fair if market.listing.inverted else fair
        return min(max(fair + market.bias, _LOWEST_FAIR), _HIGHEST_FAIR)

    def _walk(self, market: Market) -> None:
        rng, outcome = self.rng, market.listing.outcome
        if rng.random() < 0.06:
            now = self.fair[outcome]
            spread = max(2_000, now * (MICRO - now) // MICRO // 25)
            pull = (outcome.fair - now) // 40
            self.fair[outcome] = min(
                max(now + pull + rng.randint(-spread, spread), _LOWEST_FAIR), _HIGHEST_FAIR
            )
        if rng.random() < 0.05:
            market.bias = rng.randint(-6_000, 6_000)

    def _act(self, market: Market) -> tuple[list[Change], list[Fill]]:
        rng, book, fair = self.rng, market.book, self.fair_of(market)
        step = market.step_at(fair)
        bid, ask = book.best_bid(), book.best_ask()
        roll = rng.random()
        if ask is not None and ask < fair - step and roll < 0.5:
            return self._take(market, "buy", market.floor(fair), rest=rng.random() < 0.4)
        if bid is not None and bid > fair + step and roll < 0.5:
            return self._take(market, "sell", market.ceil(fair), rest=rng.random() < 0.4)
        side: Side = "bid" if rng.random() < 0.5 else "ask"
        levels = len(book.side(side).prices)
        if roll < 0.06:
            return self._take(market, "buy" if side == "ask" else "sell", None, rest=rng.random() < 0.3)
        if roll < (0.72 if levels < market.depth else 0.46):
            change = self._place(market, side)
            return ([change], []) if change is not None else ([], [])
        if roll < 0.86 or levels < 2:
            change = self._cancel(market, side)
            return ([change], []) if change is not None else ([], [])
        return self._amend(market, side), []

    # --- the moves ----------------------------------------------------------------------------------

    def _size(self, market: Market) -> int:
        rng = self.rng
        size = rng.choice(_LOTS) * rng.randint(1, 4) * MICRO
        if rng.random() < 0.25:
            size += rng.randint(1, 99) * CENT
        if market.listing.venue == POLYMARKET and rng.random() < 0.02:
            size += rng.randint(1, CENT - 1)
        return size

    def _quote(self, market: Market, side: Side) -> int | None:
        """A price to rest at: near the fair price mostly, never crossing the book."""
        book, fair = market.book, self.fair_of(market)
        away = int(self.rng.expovariate(0.12)) + 1
        if side == "bid":
            price = market.floor(fair)
            price = market.floor(max(price - away * market.step_at(price), market.tick))
            ask = book.best_ask()
            if ask is not None and price >= ask:
                price = market.floor(ask - market.step_at(ask - 1))
        else:
            price = market.ceil(fair)
            price = market.ceil(min(price + away * market.step_at(price), MICRO - market.tick))
            bid = book.best_bid()
            if bid is not None and price <= bid:
                price = market.ceil(bid + market.step_at(bid))
        return price if 0 < price < MICRO else None

    def _place(self, market: Market, side: Side) -> Change | None:
        price = self._quote(market, side)
        if price is None:
            return None
        old = market.book.side(side).levels.get(price, 0)
        return Change(side, price, old, old + self._size(market))

    def _cancel(self, market: Market, side: Side) -> Change | None:
        ladder = market.book.side(side)
        if not ladder.prices:
            return None
        price = self._near_top(market, side)
        old = ladder.levels[price]
        keep = old * self.rng.randint(1, 3) // 4 if self.rng.random() < 0.4 else 0
        return Change(side, price, old, keep - keep % CENT)

    def _amend(self, market: Market, side: Side) -> list[Change]:
        """Part of a level moves to another price: one transaction of two changes."""
        old_price, new_price = self._near_top(market, side), self._quote(market, side)
        levels = market.book.side(side).levels
        if new_price is None or new_price == old_price:
            return []
        old = levels[old_price]
        moved = old if self.rng.random() < 0.6 else old // 2 - old // 2 % CENT
        if not moved:
            return []
        at_new = levels.get(new_price, 0)
        return [Change(side, old_price, old, old - moved), Change(side, new_price, at_new, at_new + moved)]

    def _near_top(self, market: Market, side: Side) -> int:
        prices = market.book.side(side).prices
        depth = min(int(self.rng.expovariate(0.15)), len(prices) - 1)
        return prices[-1 - depth] if side == "bid" else prices[depth]

    def _take(
        self, market: Market, taker: Literal["buy", "sell"], limit: int | None, *, rest: bool
    ) -> tuple[list[Change], list[Fill]]:
        """A taker meets the other side, best price first, up to `limit` or a few levels."""
        other: Side = "ask" if taker == "buy" else "bid"
        own: Side = "bid" if taker == "buy" else "ask"
        ladder = market.book.side(other)
        prices = ladder.prices if taker == "buy" else ladder.prices[::-1]
        if limit is None:
            prices = prices[: self.rng.randint(1, 3)]
        else:
            prices = [price for price in prices if (price <= limit if taker == "buy" else price >= limit)]
        if not prices:
            return [], []
        changes, fills = [], []
        for index, price in enumerate(prices):
            size = ladder.levels[price]
            taken = size
            if index == len(prices) - 1 and not rest:
                taken = size * self.rng.randint(1, 4) // 4
                taken = (taken - taken % CENT) or size
            changes.append(Change(other, price, size, size - taken))
            self._trade_number += 1
            fills.append(Fill(price, taken, taker, self._trade_id()))
        if rest:
            old = market.book.side(own).levels.get(prices[-1], 0)
            changes.append(Change(own, prices[-1], old, old + self._size(market)))
        return changes, fills

    def _trade_id(self) -> str:
        return f"{self._seed & 0xFFFFFFFF:08x}-0000-4000-8000-{self._trade_number:012x}"

    # --- set-up -------------------------------------------------------------------------------------

    def _fill(self, market: Market) -> None:
        """The first book: thin and close at the top, large and far at the ends."""
        rng, book, fair = self.rng, market.book, self.fair_of(market)
        step = market.step_at(fair)
        for side, edge in (("bid", market.tick), ("ask", MICRO - market.tick)):
            ladder = book.bids if side == "bid" else book.asks
            price = market.floor(fair) - step if side == "bid" else market.ceil(fair) + step
            for _ in range(market.depth):
                if not 0 < price < MICRO:
                    break
                ladder.put(price, self._size(market))
                # Deep books have no holes: every valid price is taken.
                apart = 1 if market.depth > 99 or rng.random() < 0.7 else rng.randint(2, 4)
                away = apart * market.step_at(price)
                price = market.floor(price - away) if side == "bid" else market.ceil(price + away)
            ladder.put(edge, rng.randint(500_000, 2_500_000) * MICRO + rng.randint(0, 99) * CENT)
        best = book.best_bid()
        market.last_trade = best if best is not None else market.floor(fair)
        market.volume = rng.randint(1_000, 900_000) * MICRO + rng.randint(0, 99) * CENT
        market.open_interest = market.volume // 3 - market.volume // 3 % CENT
        market.traded_usd = market.volume * market.last_trade // MICRO // MICRO

    def _weigh(self) -> None:
        self._open = [market for market in self.markets if market.status == "open"]
        self._weights = list(accumulate(1.0 for _ in self._open))

    @staticmethod
    def _wants_finer_tick(market: Market) -> bool:
        if market.listing.venue != POLYMARKET or market.tick <= 1_000:
            return False
        bid, ask = market.book.best_bid(), market.book.best_ask()
        return (bid is not None and bid > 960_000) or (ask is not None and ask < 40_000)
