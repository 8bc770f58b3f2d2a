"""Polymarket's market channel, without I/O (venue note, sections 1, 2.3 and 8).

A transaction becomes one `price_change` per level, all with the hash and the best prices of the final
book, the rest of a crossing order before what it took; then, after a match, the whole book; then the
trades, a little later. There are no acknowledgements and no numbers.
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any

from wup.sim.exchange import Act, Connection, Exchange, Refusal
from wup.sim.fixed import MICRO
from wup.sim.polymarket import frames
from wup.sim.world import POLYMARKET

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from wup.sim.engine import EngineEvent, Market
    from wup.sim.faults import FaultMenu
    from wup.sim.market import MarketModel

_FIRST_FRAME_US = 10_000_000


class PolymarketConnection(Connection):
    """One client of the market channel."""

    def __init__(
        self, exchange: PolymarketExchange, name: str, menu: FaultMenu, rng: random.Random, now_us: int
    ) -> None:
        super().__init__(name, menu, rng, now_us)
        self._exchange = exchange
        self._assets: dict[str, None] = {}
        self._custom = False
        self._started = False
        self._heard_us = now_us
        self._batch: list[str] = []
        self._later(_FIRST_FRAME_US, self._check_started)

    # --- from the client ----------------------------------------------------------------------------

    def _received(self, text: str) -> None:
        self._heard_us = self.now_us
        if text == "PING":
            if not self._hit("no_pong", frame="pong"):
                self._send("PONG", "pong")
            return
        try:
            wish = json.loads(text)
        except ValueError:
            wish = None
        if not isinstance(wish, dict):
            self._send("INVALID OPERATION", "notice")
            return
        assets = wish.get("assets_ids")
        # `asset_ids` and other slips of the pen: the connection just stays silent.
        if not isinstance(assets, list) or not all(isinstance(asset, str) for asset in assets):
            return
        large = self._hit("close_on_large") if len(assets) > 100 else None
        if large is not None and len(assets) > (large.value if large.value is not None else 1_000):
            self.act(Act("close", 1006, ""))
            return
        if "custom_feature_enabled" in wish:
            self._custom = wish["custom_feature_enabled"] is True
        operation = wish.get("operation")
        if operation == "unsubscribe":
            for asset in assets:
                self._assets.pop(asset, None)
        elif operation == "subscribe" or str(wish.get("type", "")).lower() == "market":
            self._join(wish, assets, initial=operation is None)

    def _join(self, wish: dict[str, Any], assets: list[str], *, initial: bool) -> None:
        self._started = True
        fresh = [asset for asset in dict.fromkeys(assets) if asset not in self._assets]
        self._assets.update(dict.fromkeys(fresh))
        if not fresh:
            self._send("NO NEW ASSETS", "notice")
            return
        if wish.get("initial_dump") is False:
            return
        self._first_books(fresh, array=initial or len(fresh) > 1)

    def _first_books(self, assets: list[str], *, array: bool) -> None:
        missing = self._hit("missing_books")
        if missing is not None and len(self._assets) > (missing.value if missing.value is not None else 500):
            return
        books, shown = [], []
        for asset in assets:
            market = self._exchange.market_of(asset)
            if market is None or self._hit("skip_book", (asset,)) or self._muted(market):
                continue
            named = not self._hit("no_event_type", (asset,))
            books.append(self._exchange.view(market).first_book(asset, event_type=named))
            shown.append(asset)
        if books:
            self._send(f"[{','.join(books)}]" if array else books[0], "book", tuple(shown))

    def _check_started(self) -> None:
        if not self._started:
            self.act(Act("close", 1008, "no subscription"))
            return
        self._check_alive()

    def _check_alive(self) -> None:
        idle = self._exchange.idle_us
        if not idle:
            return
        if self.now_us - self._heard_us >= idle:
            self.act(Act("close", 1001, "idle"))
            return
        self._later(idle - (self.now_us - self._heard_us), self._check_alive)

    # --- from the engine ----------------------------------------------------------------------------

    def _happened(self, event: EngineEvent) -> None:
        exchange, market = self._exchange, event.market
        if event.kind in ("listed", "settled"):
            self._announce(event)
            return
        mine = [asset for asset in market.listing.assets if asset in self._assets]
        if not mine or self._muted(market):
            return
        both = (market.listing.market_id, *market.listing.assets)
        if event.kind == "tick":
            for asset in mine:
                self._event(frames.tick_size_change(event, asset), "tick", both)
        elif event.changes:
            view = exchange.view(market)
            empty = bool(self._hit("empty_optional", both))
            for text in exchange.price_changes(event, view, empty=empty):
                self._event(text, "price_change", both)
            if event.fills:
                for asset in mine:
                    self._event(view.later_book(asset), "book", both)
            if self._custom and event.top_moved:
                for asset in mine:
                    self._event(view.best_bid_ask(asset), "best", both)
        self._flush(both)

    def trade(self, text: str, asset: str, market: Market) -> list[str | Act]:
        """A trade becomes known."""
        if asset in self._assets and not self._muted(market):
            self._send(text, "trade", (market.listing.market_id, *market.listing.assets))
        return self._taken()

    def _announce(self, event: EngineEvent) -> None:
        if not self._custom:
            return
        as_text = bool(self._hit("strings_for_arrays"))
        make = frames.new_market if event.kind == "listed" else frames.market_resolved
        self._send(
            make(event.market, event.at_us, as_text=as_text), "lifecycle", (event.market.listing.market_id,)
        )

    def _event(self, text: str, kind: str, assets: tuple[str, ...]) -> None:
        if self._hit("mixed_array", assets, kind):
            self._batch.append(text)
        else:
            self._flush(assets)
            self._send(text, kind, assets)

    def _flush(self, assets: tuple[str, ...]) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._send(f"[{','.join(batch)}]", "price_change", assets)

    def _muted(self, market: Market) -> bool:
        return self._hit("mute", (market.listing.market_id, *market.listing.assets)) is not None

    def _strange(self, size: int) -> str:
        return f'{{"market":"0x00","text":"{"x" * size}","event_type":"not_yet_known"}}'


class PolymarketExchange(Exchange):
    """Polymarket as a whole."""

    platform = POLYMARKET

    def __init__(
        self, model: MarketModel, *, seed: int, trade_delay_us: int = 100_000, idle_us: int = 60_000_000
    ) -> None:
        super().__init__(model, seed=seed)
        self.trade_delay_us = trade_delay_us
        """Trades are reported up to this much after the book."""
        self.idle_us = idle_us
        """A client that sends nothing for so long is closed; 0 = never."""
        self._last_trade = {
            market.listing.market_id: frames.trade_price(market, market.last_trade)
            for market in self.markets.values()
        }
        self._views: dict[str, frames.View] = {}
        self._texts: tuple[EngineEvent, list[str]] | None = None
        self._pending: list[tuple[int, int, Callable[[], None]]] = []
        self._pending_number = 0
        self._last_trade_due: dict[str, int] = {}

    def view(self, market: Market) -> frames.View:
        """Both tokens as they are now."""
        name = market.listing.market_id
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = frames.View(market, self._last_trade[name])
        return view

    def price_changes(self, event: EngineEvent, view: frames.View, *, empty: bool) -> list[str]:
        """The messages of a transaction, made once for all connections."""
        if self._texts is not None and self._texts[0] is event and not empty:
            return self._texts[1]
        # The rest of an order comes before what it took: between the messages the book is really crossed.
        changes = sorted(event.changes, key=lambda change: change.new <= change.old)
        from_no = event.at_us // 1000 % 10 < 3
        texts = [view.price_change(change, from_no=from_no, empty=empty) for change in changes]
        if not empty:
            self._texts = (event, texts)
        return texts

    def engine_event(self, event: EngineEvent) -> None:
        """Tell every connection; trades follow."""
        market = event.market
        self._views.pop(market.listing.market_id, None)
        on_no = bool(event.fills) and bool(
            self.menu and self.menu.hit("trade_on_no", event.at_us, market.listing.assets, frame="trade")
        )
        if event.fills:
            # One raw value per market, not complemented for the other token: the last level that was swept.
            price = event.fills[-1].price
            self._last_trade[market.listing.market_id] = frames.trade_price(
                market, MICRO - price if on_no else price
            )
        super().engine_event(event)
        self._trades(event, on_no=on_no)

    def _trades(self, event: EngineEvent, *, on_no: bool) -> None:
        if not event.fills:
            return
        market = event.market
        asset = market.listing.assets[1 if on_no else 0]
        late = (
            self.menu.hit("late_trade", event.at_us, market.listing.assets, frame="trade")
            if self.menu
            else None
        )
        empty = bool(self.menu and self.menu.hit("empty_optional", event.at_us, market.listing.assets))
        due = event.at_us + (self.rng.randrange(self.trade_delay_us) if self.trade_delay_us else 0)
        if late is not None:
            due = event.at_us + round((late.seconds if late.seconds is not None else 1.0) * MICRO)
        # Trades of one market keep their order.
        due = max(due, self._last_trade_due.get(market.listing.market_id, 0))
        self._last_trade_due[market.listing.market_id] = due
        texts = [
            frames.last_trade_price(market, fill, event.at_us, on_no=on_no, empty=empty)
            for fill in event.fills
        ]
        self._pending_number += 1
        heapq.heappush(self._pending, (due, self._pending_number, lambda: self._report(market, asset, texts)))

    def _report(self, market: Market, asset: str, texts: list[str]) -> None:
        for connection in list(self.connections.values()):
            if isinstance(connection, PolymarketConnection):
                for text in texts:
                    outputs = connection.trade(text, asset, market)
                    if outputs:
                        self._deliver(connection, outputs)

    def poll(self, now_us: int) -> None:
        """Do what has become due: late trades, and at every connection."""
        while self._pending and self._pending[0][0] <= now_us:
            heapq.heappop(self._pending)[2]()
        super().poll(now_us)

    def next_due_us(self) -> int | None:
        """The earliest time at which `poll` has something to do, or None."""
        due = super().next_due_us()
        if self._pending:
            return min(self._pending[0][0], due) if due is not None else self._pending[0][0]
        return due

    def _new(self, name: str, now_us: int) -> PolymarketConnection:
        return PolymarketConnection(self, name, self.menu, self.rng, now_us)

    def _too_many(self) -> Refusal:
        return Refusal(
            429, '{"error":"Too Many Requests"}', (("Content-Type", "application/json"), ("Retry-After", "1"))
        )

    def _close_script(self, market: Market, now_us: int, result: str, seconds: float) -> None:
        """Resting orders go one by one, then the market is resolved."""
        model, second = self.model, round(seconds * MICRO)

        def closed(at_us: int) -> Iterator[EngineEvent]:
            yield model.set_status(market, "closed", "closed", at_us)
            yield model.clear(market, at_us)

        model.at(now_us, closed)
        model.at(
            now_us + second,
            lambda at_us: iter([model.set_status(market, "resolved", "settled", at_us, result)]),
        )
