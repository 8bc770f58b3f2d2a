"""Kalshi's WebSocket conversation, without I/O (venue note, sections 2 and 3).

One sid per channel and connection; a repeated subscribe merges into it and is answered `ok`. Every frame
that carries a sid of a sequenced channel takes the next number, `ok`, `unsubscribed` and errors included.
Commands run concurrently: answers come back in any order, first books between changes of other markets.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from wup.sim.exchange import Connection, Exchange, Refusal
from wup.sim.fixed import CENT
from wup.sim.kalshi import frames
from wup.sim.kalshi.subscription import BOOK, CHANNELS, NO_FILTER, SEQUENCED, CommandError, Subscription
from wup.sim.world import KALSHI

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from wup.sim.engine import Change, EngineEvent, Market
    from wup.sim.exchange import Output
    from wup.sim.faults import FaultMenu
    from wup.sim.market import MarketModel

_COMMAND_JITTER_US = 3_000
_SEQ = re.compile(r'"seq":(\d+)')


class KalshiConnection(Connection):
    """One client at Kalshi."""

    def __init__(
        self, exchange: KalshiExchange, name: str, menu: FaultMenu, rng: random.Random, now_us: int
    ) -> None:
        super().__init__(name, menu, rng, now_us)
        self._exchange = exchange
        self._subscriptions: dict[str, Subscription] = {}
        self._last_sid = 0
        # The two start-up orders seen on the wire: each book right after its ack, or all acks first.
        self._book_delay_us = 0 if rng.random() < 0.5 else 4_000

    # --- commands -----------------------------------------------------------------------------------

    def _received(self, text: str) -> None:
        try:
            command = json.loads(text)
        except ValueError:
            command = None
        if not isinstance(command, dict):
            self._send(frames.error(None, 1), "ack")
            return
        number = command.get("id")
        number = number if isinstance(number, int) and number > 0 else None
        jitter = self._exchange.jitter_us
        if jitter:
            self._later(self.rng.randrange(jitter), partial(self._run, number, command))
        else:
            self._run(number, command)

    def _run(self, number: int | None, command: dict[str, Any]) -> None:
        name, params = command.get("cmd"), command.get("params")
        try:
            if self._hit("command_limit"):
                raise CommandError(27)
            if name == "list_subscriptions":
                open_ones = [(s.channel, s.sid) for s in self._subscriptions.values()]
                self._send(frames.listing(number, open_ones), "ack")
                return
            if name not in ("subscribe", "unsubscribe", "update_subscription"):
                raise CommandError(5)
            if not isinstance(params, dict) or not params:
                raise CommandError(2)
            getattr(self, f"_{name}")(number, params)
        except CommandError as error:
            sub = error.subscription
            if sub is None:
                self._send(frames.error(number, error.code), "ack")
            else:
                self._send(frames.error(number, error.code, sub.sid, sub.numbered()), "ack")

    def _subscribe(self, number: int | None, params: dict[str, Any]) -> None:
        channels = params.get("channels")
        if not isinstance(channels, list) or not channels:
            raise CommandError(3)
        tickers = self._tickers(params, ids="ticker" in channels)
        for channel in channels:
            if channel not in CHANNELS:
                raise CommandError(8)
            if channel == BOOK and not tickers:
                raise CommandError(14)
        for channel in dict.fromkeys(channels):
            self._join(number, channel, None if channel in NO_FILTER else tickers, params)

    def _join(
        self, number: int | None, channel: str, tickers: list[str] | None, params: dict[str, Any]
    ) -> None:
        sub = self._subscriptions.get(channel)
        if sub is None:
            yes_price = params.get("use_yes_price")
            if yes_price is None:
                yes_price = self._hit("default_yes_price") is not None
            if self._hit("ignore_yes_price"):
                yes_price = False
            self._limit(tickers, None)
            self._last_sid += 1
            sub = Subscription(
                self._last_sid,
                channel,
                tickers,
                yes_price=bool(yes_price),
                short=params.get("skip_ticker_ack") is True,
            )
            self._subscriptions[channel] = sub
            self._send(frames.subscribed(number, channel, sub.sid), "ack")
            added = tickers or []
        else:
            added = self._merge(sub, tickers)
            self._acknowledge(number, sub)
        self._first(sub, added, send_ticker=params.get("send_initial_snapshot") is True)

    def _merge(self, sub: Subscription, tickers: list[str] | None) -> list[str]:
        if sub.tickers is None or tickers is None:
            sub.tickers = None
            return []
        self._limit(list(dict.fromkeys([*sub.tickers, *tickers])), sub)
        added = [ticker for ticker in tickers if ticker not in sub.tickers]
        sub.tickers.update(dict.fromkeys(added))
        return added

    def _acknowledge(self, number: int | None, sub: Subscription) -> None:
        tickers = None if sub.short_acks or sub.tickers is None else sorted(sub.tickers)
        self._send(frames.ok(number, sub.sid, sub.numbered(), tickers), "ack")

    def _limit(self, tickers: list[str] | None, sub: Subscription | None) -> None:
        if tickers is None or not self.menu:
            return
        for fault in self.menu.active(self.now_us):
            bound = fault.get("value", 100)
            if fault["kind"] == "market_limit" and isinstance(bound, int) and len(tickers) > bound:
                self._hit("market_limit")
                raise CommandError(26, sub)

    def _first(self, sub: Subscription, tickers: list[str], *, send_ticker: bool) -> None:
        if sub.channel == BOOK:
            if self._hit("early_delta"):
                sub.live.update(tickers)
            for index, ticker in enumerate(tickers):
                if self._hit("skip_book", (ticker,)):
                    continue
                delay = self._book_delay_us + (index * self.rng.randrange(60) if self._book_delay_us else 0)
                if delay:
                    self._later(delay, partial(self._snapshot, sub, ticker, None))
                else:
                    self._snapshot(sub, ticker, None)
        elif sub.channel == "ticker" and send_ticker:
            for ticker in tickers:
                market = self._exchange.markets.get(ticker)
                if market is not None:
                    self._send(frames.ticker(market, market.changed_us, sub.sid, 0), "ticker", (ticker,))

    def _unsubscribe(self, number: int | None, params: dict[str, Any]) -> None:
        sids = params.get("sids")
        if not isinstance(sids, list) or not sids:
            raise CommandError(4)
        for sid in sids:
            sub = self._by_sid(sid)
            del self._subscriptions[sub.channel]
            self._send(frames.unsubscribed(number, sub.sid, sub.numbered()), "ack")
            sub.open = False

    def _update_subscription(self, number: int | None, params: dict[str, Any]) -> None:
        sids = params.get("sids", [params["sid"]] if "sid" in params else [])
        if not isinstance(sids, list) or len(sids) != 1:
            raise CommandError(12)
        sub = self._by_sid(sids[0])
        action = params.get("action")
        if action is None:
            raise CommandError(15, sub)
        if action not in ("add_markets", "delete_markets", "get_snapshot"):
            raise CommandError(13, sub)
        if action == "get_snapshot" and (sub.channel != BOOK or "market_ticker" in params):
            raise CommandError(11, sub)
        tickers = self._tickers(params, ids=sub.channel == "ticker")
        if not tickers:
            raise CommandError(14, sub)
        if action == "get_snapshot":
            for ticker in tickers:
                self._snapshot(sub, ticker, number)
        elif action == "add_markets":
            added = self._merge(sub, tickers)
            self._acknowledge(number, sub)
            self._first(sub, added, send_ticker=params.get("send_initial_snapshot") is True)
        else:
            if sub.tickers is not None:
                for ticker in tickers:
                    sub.tickers.pop(ticker, None)
                    sub.live.discard(ticker)
            self._acknowledge(number, sub)

    def _by_sid(self, sid: object) -> Subscription:
        for sub in self._subscriptions.values():
            if sub.sid == sid and not isinstance(sid, bool):
                return sub
        raise CommandError(7)

    def _tickers(self, params: dict[str, Any], *, ids: bool) -> list[str] | None:
        """The markets that a command names; None when it names none."""
        named: list[str] = []
        for one, many in (("market_ticker", "market_tickers"), ("market_id", "market_ids")):
            values = params.get(many, [])
            if not isinstance(values, list):
                raise CommandError(11)
            values = [*values, params[one]] if one in params else values
            if not all(isinstance(value, str) for value in values):
                raise CommandError(11)
            if one == "market_id" and values:
                if not ids:
                    raise CommandError(11)
                values = [self._exchange.by_uuid.get(value, value) for value in values]
            named.extend(values)
        return list(dict.fromkeys(named)) or None

    # --- market data --------------------------------------------------------------------------------

    def _bend(self, text: str, kind: str, assets: tuple[str, ...]) -> None:
        if self._hit("drift_seq", assets, kind):
            text = _SEQ.sub(r'"seq":"\1"', text, count=1)
        super()._bend(text, kind, assets)

    def _snapshot(self, sub: Subscription, ticker: str, number: int | None) -> None:
        market = self._exchange.markets.get(ticker)
        # An unknown ticker is answered by silence; so is one that left before its turn came.
        if market is None or not sub.open or (number is None and not sub.covers(ticker)):
            return
        if sub.covers(ticker):
            sub.live.add(ticker)
        text = frames.snapshot(
            market, sub.sid, self._next(sub, ticker), yes_price=sub.yes_price, command=number
        )
        self._send(text, "snapshot", (ticker,))

    def _next(self, sub: Subscription, ticker: str) -> int:
        """The number of the next frame of a sid, with the faults of numbering."""
        if self.menu:
            assets = (ticker,)
            if self._hit("skip_seq", assets):
                sub.seq += 1
            elif sub.seq and self._hit("repeat_seq", assets):
                # The counter goes on, so the next frame shows a hole: a reader can know.
                return sub.number() - 1
            elif self._hit("reset_seq", assets):
                sub.seq = 0
        return sub.number()

    def _happened(self, event: EngineEvent) -> None:
        ticker = event.market.listing.market_id
        if self.menu:
            self._terminal(ticker)
            if self._hit("mute", (ticker,), "delta"):
                return
        # Whether trades come before the changes of the book is not promised: each in its turn.
        trades_first = bool(event.fills) and self._exchange.rng.random() < 0.5
        if trades_first:
            self._trades(event, ticker)
        self._book(event, ticker)
        if not trades_first:
            self._trades(event, ticker)
        self._rest(event, ticker)

    def _book(self, event: EngineEvent, ticker: str) -> None:
        sub = self._subscriptions.get(BOOK)
        if sub is None or not sub.covers(ticker) or ticker not in sub.live:
            return
        if event.kind == "clear":
            text = frames.snapshot(
                event.market, sub.sid, self._next(sub, ticker), yes_price=sub.yes_price, empty=True
            )
            self._send(text, "snapshot", (ticker,))
            return
        for change in event.changes:
            self._delta(sub, event.market, change, event.at_us)
        if event.changes and self._hit("negative", (ticker,), "delta"):
            self._negative(sub, event)

    def _delta(self, sub: Subscription, market: Market, change: Change, at_us: int) -> None:
        ticker = market.listing.market_id
        text = frames.delta(market, change, at_us, sub.sid, self._next(sub, ticker), yes_price=sub.yes_price)
        self._send(text, "delta", (ticker,))

    def _negative(self, sub: Subscription, event: EngineEvent) -> None:
        """A change that nothing in the book covers."""
        first = event.changes[0]
        wrong = type(first)(first.side, first.price, first.new + 1_000 * CENT, 0)
        self._delta(sub, event.market, wrong, event.at_us)

    def _trades(self, event: EngineEvent, ticker: str) -> None:
        sub = self._subscriptions.get("trade")
        if sub is None or not sub.covers(ticker):
            return
        for fill in event.fills:
            self._send(
                frames.trade(event.market, fill, event.at_us, sub.sid, sub.number()), "trade", (ticker,)
            )

    def _rest(self, event: EngineEvent, ticker: str) -> None:
        sub = self._subscriptions.get("ticker")
        if (
            sub is not None
            and sub.covers(ticker)
            and (event.top_moved or event.fills or event.kind == "clear")
        ):
            last = event.fills[-1].size if event.fills else 0
            self._send(frames.ticker(event.market, event.at_us, sub.sid, last), "ticker", (ticker,))
        words = {
            "halted": "deactivated",
            "opened": "activated",
            "listed": "created",
            "determined": "determined",
            "settled": "settled",
        }
        sub = self._subscriptions.get("market_lifecycle_v2")
        if sub is not None and sub.open and event.kind in words:
            text = frames.lifecycle(event.market, words[event.kind], event.at_us, sub.sid, sub.number())
            self._send(text, "lifecycle", (ticker,))

    def _terminal(self, ticker: str) -> None:
        sub = self._subscriptions.get(BOOK)
        if sub is None or not sub.covers(ticker):
            return
        for kind, code in (("channel_error", 10), ("overflow", 25)):
            if self._hit(kind, (ticker,)):
                self._end(sub, code)
                return

    def overflow(self) -> list[Output]:
        """The client reads too slowly: every sequenced subscription ends with error 25."""
        for sub in list(self._subscriptions.values()):
            if sub.channel in SEQUENCED:
                self._end(sub, 25)
        return self._taken()

    def _end(self, sub: Subscription, code: int) -> None:
        self._send(frames.error(None, code, sub.sid, sub.numbered()), "ack")
        sub.open = False
        self._subscriptions.pop(sub.channel, None)

    def _strange(self, size: int) -> str:
        return f'{{"type":"not_yet_known","msg":{{"text":"{"x" * size}"}}}}\n'


class KalshiExchange(Exchange):
    """Kalshi as a whole."""

    platform = KALSHI
    ping_payload = "heartbeat"

    def __init__(self, model: MarketModel, *, seed: int, jitter_us: int = _COMMAND_JITTER_US) -> None:
        super().__init__(model, seed=seed)
        self.jitter_us = jitter_us
        """Commands take up to this long, each its own time; 0 = at once and in order."""
        self.by_uuid = {market.listing.uuid: ticker for ticker, market in self.markets.items()}

    def _new(self, name: str, now_us: int) -> KalshiConnection:
        return KalshiConnection(self, name, self.menu, self.rng, now_us)

    def _too_many(self) -> Refusal:
        # No Retry-After and no rate headers: so it is there.
        return Refusal(429, '{"error":"too many requests"}', (("Content-Type", "application/json"),))

    def _close_script(self, market: Market, now_us: int, result: str, seconds: float) -> None:
        """Late changes, an empty snapshot, determined, settled twice."""
        model, second = self.model, round(seconds * 1_000_000)

        def closed(at_us: int) -> Iterator[EngineEvent]:
            change = model.place(market)
            yield model.set_status(market, "closed", "closed", at_us)
            if change is not None:
                yield from model.transact(market, at_us + 5_000, [change])

        model.at(now_us, closed)
        model.at(now_us + min(50_000, second // 4), lambda at_us: iter([model.clear(market, at_us)]))
        model.at(
            now_us + second // 2,
            lambda at_us: iter([model.set_status(market, "closed", "determined", at_us, result)]),
        )
        for delay in (second, second + 20_000):
            model.at(
                now_us + delay,
                lambda at_us: iter([model.set_status(market, "resolved", "settled", at_us, result)]),
            )
