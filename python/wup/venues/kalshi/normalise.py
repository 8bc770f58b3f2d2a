"""One connection's books: sequences, signed increments to absolute sizes, and doubt.

The venue's rules that this file obeys (venue doc section 0): 4 increments, 7 absent sides, 9 and 10 one
sequence per sid with every numbered frame counted, 13 deltas before the snapshot, 14 a snapshot always
replaces, 15 a gap makes all books of the sid suspect, 16 terminal errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import NegativeSize, NumberError, VenueBook, kalshi_delta, kalshi_snapshot
from wup.errors import VenueMessageError
from wup.model import Control, Increment, Snapshot, State, Trade
from wup.venues.base import BadInput, BookChanged, BookReplaced, LegChanged, RepairWanted, TradeSeen
from wup.venues.following import find
from wup.venues.kalshi.adapter import BOOK_CHANNEL, KalshiAdapter, load, sequence_of
from wup.venues.kalshi.sequence import Sequences
from wup.venues.repairs import REPAIR_US, Repairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.model import Instrument, Side, VenueEvent
    from wup.venues.base import Output

FIRST_BOOK_US = 5_000_000
EARLY_DELTA_US = 3_000_000
"""A delta without a snapshot: the snapshot is asked for when it does not follow within this time."""
CROSSED_US = 250_000
RESUMED_US = 2_000_000
"""Venue time after a halt from which a growing book proves that trading goes on."""
_TERMINAL = (10, 25)

_RAW_TICKER = re.compile(rb'"market_ticker"\s*:\s*"([^"\\]+)"')
_RAW_SEQUENCE = re.compile(rb'"sid"\s*:\s*(\d{1,9})\s*,\s*"seq"\s*:\s*(\d{1,18})\s*[,}]')


class _Market:
    """One market's book on this connection.

    `valid`: the content is what the venue's frames say. It is shown when valid and neither halted nor
    closed. `held` are changes not yet shown because the book is crossed: one transaction in parts.
    """

    __slots__ = ("book", "closed", "due_us", "halted", "halted_us", "held", "sid", "valid", "why")

    def __init__(self) -> None:
        self.book = VenueBook()
        self.valid = False
        self.halted = False
        self.closed = False
        self.sid: int | None = None
        self.halted_us = 0
        self.held: dict[tuple[str, str], str] = {}
        self.due_us: int | None = None
        self.why = "no_first_book"

    @property
    def shown(self) -> bool:
        return self.valid and not self.halted and not self.closed


class KalshiNormaliser:
    """Frames of one connection to normalised outputs. Pure: time comes in with each call.

    Without `native` every frame is read by the adapter's own decoder.
    """

    def __init__(
        self, open_info: Mapping[str, Any], instruments: Mapping[str, Instrument], *, native: bool = True
    ) -> None:
        self._native = native
        # A recording made before the mode was recorded has the venue's default of its time: false.
        self._adapter = KalshiAdapter(open_info.get("use_yes_price") is True)
        self._instruments = instruments
        self._markets: dict[str, _Market] = {}
        self._dropped: set[str] = set()
        self._repairs = Repairs()
        self._sequences = Sequences()
        self._channels: dict[int, str] = {}
        # Markets with a deadline: the timer looks at these only.
        self._due: dict[str, _Market] = {}
        # The latest of the venue's times on this connection: time that a replay has too.
        self._latest_us = 0
        self.checks: Mapping[str, int] = {}

    # --- what the client sent ---------------------------------------------------------------------

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        """A frame of ours: which markets to expect, in which price mode."""
        out: list[Output] = []
        try:
            frame = load(raw)
        except VenueMessageError:
            return out
        params = frame.get("params")
        if not isinstance(params, dict):
            return out
        tickers = params.get("market_tickers", [])
        if isinstance(params.get("market_ticker"), str):
            tickers = [params["market_ticker"]]
        if not isinstance(tickers, list):
            return out
        command, action = frame.get("cmd"), params.get("action")
        channels = params.get("channels")
        if command == "subscribe" and isinstance(channels, list) and BOOK_CHANNEL in channels:
            mode = params.get("use_yes_price")
            if isinstance(mode, bool):
                self._adapter.use_yes_price = mode
            self._expect(tickers, now_us)
        elif command == "update_subscription" and action == "add_markets":
            self._expect(tickers, now_us)
        elif command == "update_subscription" and action == "delete_markets":
            for ticker in tickers:
                market = self._markets.pop(ticker, None)
                self._due.pop(ticker, None)
                self._dropped.add(ticker)
                if market is not None and not market.closed:
                    out.append(LegChanged(ticker, "down", "unmapped"))
        return out

    def _expect(self, tickers: Iterable[str], now_us: int) -> None:
        for ticker in tickers:
            self._dropped.discard(ticker)
            market = self._markets.get(ticker)
            if market is None:
                market = self._markets[ticker] = _Market()
            if not market.valid and market.due_us is None:
                self._wait(ticker, market, now_us + FIRST_BOOK_US)

    def _wait(self, ticker: str, market: _Market, due_us: int) -> None:
        market.due_us = due_us
        self._due[ticker] = market

    # --- frames -----------------------------------------------------------------------------------

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        """A received frame; what cannot be used comes out as `BadInput`, with the legs that it makes
        doubtful."""
        out: list[Output] = []
        # Book frames are read natively; every other frame, and unusual forms of these, by the adapter.
        if self._native and self._hot(raw, now_us, out):
            return out
        try:
            frame = load(raw)
        except VenueMessageError as error:
            self._unreadable(raw, error, now_us, out)
            return out
        stream, number = sequence_of(frame)
        if stream is not None and number is not None and not self._track(stream, number, raw, now_us, out):
            return out
        try:
            events = self._adapter.events(frame)
        except VenueMessageError as error:
            out.append(BadInput(error.kind, error.detail, error.asset_id))
            kind = frame.get("type")
            if isinstance(kind, str) and kind.startswith("orderbook"):
                if error.asset_id is not None:
                    self._doubt((error.asset_id,), "gap", now_us, out)
                else:
                    self._doubt(self._of(stream), "gap", now_us, out)
            return out
        for event in events:
            if isinstance(event, Increment):
                self._increment(
                    event.asset_id,
                    event.side,
                    event.price,
                    event.delta,
                    event.venue_us,
                    stream,
                    now_us,
                    out,
                )
            else:
                self._other(event, stream, now_us, out)
        return out

    def _hot(self, raw: bytes, now_us: int, out: list[Output]) -> bool:
        """Read a book frame natively; False: it is not one in its usual form, and was not looked at."""
        delta = kalshi_delta(raw, self._adapter.use_yes_price)
        if delta is not None:
            sid, seq, ticker, side, price, change, venue_us = delta
            if self._sequences.next(sid, seq, raw) or self._track(sid, seq, raw, now_us, out):
                self._increment(ticker, side, price, change, venue_us, sid, now_us, out)
            return True
        whole = kalshi_snapshot(raw, self._adapter.use_yes_price)
        if whole is not None:
            sid, seq, _, ticker, venue_us, book = whole
            if self._track(sid, seq, raw, now_us, out):
                self._snapshot(ticker, book, venue_us, sid, now_us, out)
            return True
        return False

    def _track(self, sid: int, seq: int, raw: bytes, now_us: int, out: list[Output]) -> bool:
        """Count one numbered frame, whatever its type; False: it is not to be used."""
        if self._sequences.next(sid, seq, raw):
            return True
        use, gap = self._sequences.irregular(sid, seq, raw, out)
        if gap and self._channels.get(sid, BOOK_CHANNEL) == BOOK_CHANNEL:
            self._doubt(self._of(sid), "seq_gap", now_us, out)
        return use

    def _of(self, sid: int | None) -> list[str]:
        """Markets of a sid, those included that still wait for their first book."""
        return [
            ticker
            for ticker, market in self._markets.items()
            if not market.closed and (sid is None or market.sid is None or market.sid == sid)
        ]

    def _doubt(self, tickers: Iterable[str], why: str, now_us: int, out: list[Output]) -> None:
        """These books are no longer known: not shown until their next snapshot, which is asked for."""
        asked: list[str] = []
        for ticker in tickers:
            market = self._markets.get(ticker)
            if market is None or market.closed:
                continue
            if market.shown:
                out.append(LegChanged(ticker, "resync", why))
            market.valid = False
            market.held.clear()
            market.why = why
            later_us = self._repairs.too_soon(ticker, now_us)
            self._wait(ticker, market, later_us or now_us + REPAIR_US)
            if later_us is None:
                asked.append(ticker)
        if asked:
            out.append(RepairWanted(tuple(asked), why))

    def _unreadable(self, raw: bytes, error: VenueMessageError, now_us: int, out: list[Output]) -> None:
        named = _RAW_TICKER.search(raw)
        ticker = named[1].decode("utf-8", "replace") if named else None
        out.append(BadInput(error.kind, error.detail, ticker))
        if not raw.lstrip().startswith(b"{"):
            # Not one of the venue's frames at all; if it stood in the place of one, the sequence tells.
            return
        numbered = _RAW_SEQUENCE.search(raw)
        if numbered and not self._track(int(numbered[1]), int(numbered[2]), raw, now_us, out):
            return
        if ticker in self._markets:
            self._doubt((ticker,), "gap", now_us, out)
        else:
            self._doubt(self._of(int(numbered[1]) if numbered else None), "gap", now_us, out)

    def _market(self, ticker: str, out: list[Output]) -> _Market | None:
        """The market of a book frame; None when it is not ours to show."""
        if ticker in self._dropped:
            return None
        if find(self._instruments, ticker, ticker) is None:
            self._markets.pop(ticker, None)
            self._due.pop(ticker, None)
            out.append(BadInput("unknown_asset", ticker, ticker))
            return None
        market = self._markets.get(ticker)
        if market is None:
            market = self._markets[ticker] = _Market()
        return None if market.closed else market

    def _increment(
        self,
        ticker: str,
        side: Side,
        price: str,
        delta: str,
        venue_us: int | None,
        sid: int | None,
        now_us: int,
        out: list[Output],
    ) -> None:
        market = self._markets.get(ticker)
        if market is None or market.closed or ticker not in self._instruments:
            market = self._market(ticker, out)
            if market is None:
                return
        market.sid = sid
        if not market.valid:
            soon = now_us + EARLY_DELTA_US
            if market.due_us is None or (not self._repairs.attempts(ticker) and market.due_us > soon):
                self._wait(ticker, market, soon)
            return
        try:
            size, crossed = market.book.increment(side, price, delta)
        except NegativeSize as error:
            out.append(BadInput("negative_size", str(error), ticker))
            self._doubt((ticker,), "gap", now_us, out)
            return
        except NumberError as error:
            out.append(BadInput("bad_level", str(error), ticker))
            self._doubt((ticker,), "gap", now_us, out)
            return
        if venue_us is not None and venue_us > self._latest_us:
            self._latest_us = venue_us
        if market.halted:
            self._resumed(ticker, market, delta, venue_us, out)
            return
        if crossed or market.held:
            market.held[(side, price)] = size
            if crossed:
                if market.due_us is None:
                    self._wait(ticker, market, now_us + CROSSED_US)
                return
            market.due_us = None
            self._due.pop(ticker, None)
            bids = [(price, size) for (side, price), size in market.held.items() if side == "bid"]
            asks = [(price, size) for (side, price), size in market.held.items() if side == "ask"]
            market.held.clear()
            out.append(BookChanged(ticker, bids, asks, venue_us))
        elif side == "bid":
            out.append(BookChanged(ticker, ((price, size),), (), venue_us))
        else:
            out.append(BookChanged(ticker, (), ((price, size),), venue_us))

    def _resumed(
        self, ticker: str, market: _Market, delta: str, venue_us: int | None, out: list[Output]
    ) -> None:
        """The end of a halt is told once, on a stream where nothing else may follow for hours. If that
        frame was lost the book tells: while trading is paused orders can be cancelled, never placed."""
        if venue_us is None:
            return
        if not market.halted_us:
            # Nothing with a time came before the halt: it is not later than this.
            market.halted_us = venue_us
        if delta.startswith("-") or venue_us < market.halted_us + RESUMED_US:
            return
        if not market.book.crossed():
            market.halted = False
            out.append(BookReplaced(ticker, venue_us))

    def _snapshot(
        self,
        ticker: str,
        book: VenueBook,
        venue_us: int | None,
        sid: int | None,
        now_us: int,
        out: list[Output],
    ) -> None:
        market = self._market(ticker, out)
        if market is None:
            return
        market.sid = sid
        market.book = book
        market.held.clear()
        if market.book.crossed():
            # The venue's own book never crosses: the price mode is not the one we think it is, or worse.
            out.append(BadInput("crossed_snapshot", f"best bid {market.book.best('bid')}", ticker))
            self._doubt((ticker,), "gap", now_us, out)
            return
        market.valid = True
        self._repairs.answered(ticker)
        market.due_us = None
        self._due.pop(ticker, None)
        if not market.halted:
            out.append(BookReplaced(ticker, venue_us))

    def _other(self, event: VenueEvent, sid: int | None, now_us: int, out: list[Output]) -> None:
        if isinstance(event, Snapshot):
            book = VenueBook()
            try:
                book.replace(event.bids, event.asks)
            except NumberError as error:
                out.append(BadInput("bad_level", str(error), event.asset_id))
                self._doubt((event.asset_id,), "gap", now_us, out)
                return
            self._snapshot(event.asset_id, book, event.venue_us, sid, now_us, out)
        elif isinstance(event, Trade):
            if event.asset_id in self._instruments:
                out.append(
                    TradeSeen(
                        event.asset_id,
                        event.price,
                        event.size,
                        event.side,
                        event.trade_id,
                        event.venue_us,
                        event.block,
                    )
                )
        elif isinstance(event, State):
            self._life(event, now_us, out)
        elif isinstance(event, Control):
            self._control(event, sid, now_us, out)

    def _life(self, event: State, now_us: int, out: list[Output]) -> None:
        """Lifecycle frames tell about every market of the venue; `settled` comes several times."""
        ticker = event.asset_id
        market = self._markets.get(ticker)
        if market is None or ticker not in self._instruments or market.closed:
            return
        if event.state == "closed":
            market.closed = True
            market.valid = False
            self._due.pop(ticker, None)
            out.append(LegChanged(ticker, "closed", event.why, event.result))
        elif event.state == "halted":
            if not market.halted:
                market.halted = True
                market.halted_us = self._latest_us
                market.held.clear()
                out.append(LegChanged(ticker, "halted", event.why))
        elif market.halted:
            market.halted = False
            if market.valid and not market.book.crossed():
                out.append(BookReplaced(ticker, event.venue_us))
            else:
                out.append(LegChanged(ticker, "resync", "gap"))
                self._doubt((ticker,), "gap", now_us, out)

    def _control(self, event: Control, sid: int | None, now_us: int, out: list[Output]) -> None:
        body = event.body
        message = body.get("msg")
        if event.kind == "subscribed" and isinstance(message, dict):
            named, channel = message.get("sid"), message.get("channel")
            if type(named) is int and isinstance(channel, str):
                self._channels[named] = channel
                self._sequences.begin(named)
        elif event.kind == "unsubscribed" and sid is not None:
            self._sequences.end(sid)
            if self._channels.pop(sid, None) == BOOK_CHANNEL:
                for ticker in self._of(sid):
                    if self._markets.pop(ticker).shown:
                        out.append(LegChanged(ticker, "down", "disconnected"))
                    self._due.pop(ticker, None)
        elif event.kind == "error":
            code = message.get("code") if isinstance(message, dict) else None
            out.append(BadInput("venue_error", f"code {code}: {orjson.dumps(message).decode()[:120]}"))
            if code in _TERMINAL and (sid is None or self._channels.get(sid, BOOK_CHANNEL) == BOOK_CHANNEL):
                # The subscription is dead: the session subscribes anew, and gets another sid.
                for ticker in self._of(sid):
                    market = self._markets[ticker]
                    if market.shown:
                        out.append(LegChanged(ticker, "resync", "gap"))
                    market.valid = False
                    market.held.clear()
                    market.sid = None
                    self._wait(ticker, market, now_us + REPAIR_US)
                if sid is not None:
                    self._sequences.end(sid)

    # --- time, end, answers -----------------------------------------------------------------------

    def timer(self, now_us: int) -> list[Output]:
        """Missing books, unanswered repairs, and books crossed for too long."""
        out: list[Output] = []
        if not self._due:
            return out
        wanted: dict[str, list[str]] = {}
        for ticker, market in list(self._due.items()):
            if market.due_us is None or market.due_us > now_us:
                continue
            if ticker not in self._instruments:
                self._markets.pop(ticker, None)
                self._due.pop(ticker)
                continue
            if market.valid:
                out.append(BadInput("crossed", f"for {CROSSED_US} us", ticker))
                self._doubt((ticker,), "gap", now_us, out)
                continue
            why, wait_us = self._repairs.ask(ticker, market.why, now_us)
            wanted.setdefault(why, []).append(ticker)
            self._wait(ticker, market, now_us + wait_us)
        out.extend(RepairWanted(tuple(tickers), why) for why, tickers in wanted.items())
        return out

    def doubt(self, assets: Iterable[str], why: str, now_us: int) -> list[Output]:
        """Books that are wrong for a reason that no frame shows."""
        out: list[Output] = []
        self._doubt(assets, why, now_us, out)
        return out

    def closed(self, why: str) -> list[Output]:
        """The connection is gone, and with it every sid and book."""
        out: list[Output] = [
            LegChanged(ticker, "down", why) for ticker, market in self._markets.items() if not market.closed
        ]
        self._markets.clear()
        self._due.clear()
        self._sequences.clear()
        self._channels.clear()
        return out

    def book(self, asset_id: str) -> VenueBook | None:
        """A book that is shown; None also in the middle of a transaction."""
        market = self._markets.get(asset_id)
        if market is None or not market.shown or market.held:
            return None
        return market.book

    def assets(self) -> Iterable[str]:
        """Markets that this connection has, or waits for, books of."""
        return self._markets.keys()
