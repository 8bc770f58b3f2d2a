"""Frames of one connection to normalised outputs: what was subscribed, sequences, and what each frame says.

The venue's rules that this file obeys (venue doc section 0): 9 and 10 one sequence per sid with every
numbered frame counted, 15 a gap makes all books of the sid suspect, 16 terminal errors. Books: `books`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import NumberError, VenueBook, kalshi_delta, kalshi_snapshot
from wup.errors import VenueMessageError
from wup.model import Control, Increment, Snapshot, State, Trade
from wup.venues.base import BadInput, LegChanged, LegCheck, ListingChanged, StatusesLost, TradeSeen
from wup.venues.kalshi.adapter import BOOK_CHANNEL, LIFECYCLE, KalshiAdapter, load, sequence_of
from wup.venues.kalshi.books import KalshiBooks
from wup.venues.kalshi.sequence import Sequences
from wup.venues.numbers import restored
from wup.venues.repairs import REPAIR_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.model import Instrument, VenueEvent
    from wup.venues.base import Output

_TERMINAL = (10, 25)
_RELISTED = ("close_date_updated", "price_level_structure_updated", "metadata_updated")

_RAW_TICKER = re.compile(rb'"market_ticker"\s*:\s*"([^"\\]+)"')
_RAW_SEQUENCE = re.compile(rb'"sid"\s*:\s*(\d{1,9})\s*,\s*"seq"\s*:\s*(\d{1,18})\s*[,}]')


class KalshiNormaliser(KalshiBooks):
    """Frames of one connection to normalised outputs. Pure: time comes in with each call.

    Without `native` every frame is read by the adapter's own decoder.
    """

    def __init__(
        self, open_info: Mapping[str, Any], instruments: Mapping[str, Instrument], *, native: bool = True
    ) -> None:
        super().__init__(instruments)
        self._native = native
        # A recording made before the mode was recorded has the venue's default of its time: false.
        self._adapter = KalshiAdapter(open_info.get("use_yes_price") is True)
        self._sequences = Sequences()
        self._channels: dict[int, str] = {}
        self.checks: Mapping[str, int] = {}

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
                if ticker not in self._instruments:
                    self._repairs.forget(ticker)
                if market is not None and not market.closed:
                    out.append(LegChanged(ticker, "down", "unmapped"))
        self._sweep()
        return out

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
        if stream is not None and number is not None:
            if not self._track(stream, number, raw, now_us, out):
                return out
        elif _about_books(frame):
            self._unnumbered(frame, stream, now_us, out)
            return out
        try:
            events = self._adapter.events(frame)
        except VenueMessageError as error:
            out.append(BadInput(error.kind, error.detail, error.asset_id))
            if _about_books(frame):
                if error.asset_id is not None:
                    self._doubt((error.asset_id,), "gap", now_us, out)
                else:
                    self._doubt(self._of(stream), "gap", now_us, out)
            else:
                self._missed(stream, out)
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
            if self._sequences.next(sid, seq, raw, now_us) or self._track(sid, seq, raw, now_us, out):
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
        if self._sequences.next(sid, seq, raw, now_us):
            return True
        use, gap = self._sequences.irregular(sid, seq, raw, now_us, out)
        if gap and self._channels.get(sid, BOOK_CHANNEL) == BOOK_CHANNEL:
            self._doubt(self._of(sid), "seq_gap", now_us, out)
        if gap:
            self._missed(sid, out)
        return use

    def _missed(self, sid: int | None, out: list[Output]) -> None:
        """Frames of the sid are missing: if they were about the life of markets, any may have changed."""
        channel = None if sid is None else self._channels.get(sid)
        if channel is None or channel in LIFECYCLE:
            out.append(StatusesLost())

    def _unnumbered(self, frame: dict[str, Any], sid: int | None, now_us: int, out: list[Output]) -> None:
        """A book frame without its place in a sequence: what was lost before it cannot be known, so it is
        not used, and the book that it is about is no longer known."""
        message = frame.get("msg")
        ticker = message.get("market_ticker") if isinstance(message, dict) else None
        named = ticker if isinstance(ticker, str) and ticker else None
        detail = f"sid {frame.get('sid')!r} seq {frame.get('seq')!r}"
        out.append(BadInput("no_sequence", detail[:120], named))
        self._doubt(self._of(sid) if named is None else (named,), "gap", now_us, out)

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
        sid = int(numbered[1]) if numbered else None
        self._missed(sid, out)
        if ticker in self._markets:
            self._doubt((ticker,), "gap", now_us, out)
        else:
            self._doubt(self._of(sid), "gap", now_us, out)

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
            self._life(event, out)
        elif isinstance(event, Control):
            self._control(event, sid, now_us, out)

    def _control(self, event: Control, sid: int | None, now_us: int, out: list[Output]) -> None:
        body = event.body
        message = body.get("msg")
        if event.kind == "subscribed" and isinstance(message, dict):
            named, channel = message.get("sid"), message.get("channel")
            if type(named) is int and isinstance(channel, str):
                self._channels[named] = channel
                self._sequences.begin(named)
        elif event.kind == "unsubscribed" and sid is not None:
            # We never ask for it, so the venue ended what is still wanted.
            self._missed(sid, out)
            self._ended(sid, now_us, out)
            self._channels.pop(sid, None)
            self._sequences.end(sid)
        elif event.kind == "lifecycle":
            self._listing(body, out)
        elif event.kind in ("event_lifecycle", "event_fee_update"):
            named = _text(message.get("event_ticker")) if isinstance(message, dict) else None
            if named is not None:
                out.append(ListingChanged(None, named))
        elif event.kind == "error":
            code = message.get("code") if isinstance(message, dict) else None
            out.append(BadInput("venue_error", f"code {code}: {orjson.dumps(message).decode()[:120]}"))
            if code in _TERMINAL:
                self._missed(sid, out)
                self._ended(sid, now_us, out)

    def _listing(self, body: Mapping[str, Any], out: list[Output]) -> None:
        """Steps of a market's life that change no book; told of every market of the venue."""
        ticker, step = _text(body.get("market_ticker")), body.get("event_type")
        if step == "created":
            about = body.get("additional_metadata")
            named = about.get("event_ticker") if isinstance(about, dict) else None
            out.append(ListingChanged(ticker, _text(named), new=True))
        elif ticker in self._instruments:
            if step not in _RELISTED:
                # It may mean that the market is not open: the catalogue is asked.
                out.append(BadInput("unknown_type", f"market_lifecycle_v2 {step!r}"[:120], ticker))
            out.append(ListingChanged(ticker, None))

    def _ended(self, sid: int | None, now_us: int, out: list[Output]) -> None:
        """The subscription is dead, or without a sid any may be: the session subscribes its channel anew,
        and gets another sid."""
        if sid is not None and self._channels.get(sid, BOOK_CHANNEL) != BOOK_CHANNEL:
            return
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

    def check(self, asset_id: str) -> LegCheck | None:
        """What the sequence of a market's subscription says: a gap is a mismatch until the next snapshot."""
        market = self._markets.get(asset_id)
        if market is None:
            return None
        found = self._sequences.of(market.sid)
        if found is None:
            return LegCheck("sequence")
        torn = not market.valid and market.why == "seq_gap"
        return LegCheck(
            "sequence",
            "mismatch" if torn else "match" if found.counted else None,
            found.gap_us if torn else found.at_us,
            match=found.counted,
            mismatch=found.gaps,
        )

    def checkpoint(self, asset_id: str) -> dict[str, Any] | None:
        """Levels, sid and its last number."""
        book = self.book(asset_id)
        if book is None:
            return None
        bids, asks = book.levels()
        sid = self._markets[asset_id].sid
        return {
            "bids": bids,
            "asks": asks,
            "sid": sid,
            "seq": None if sid is None else self._sequences.last(sid),
        }

    def restore(self, asset_id: str, fields: Mapping[str, Any], now_us: int) -> list[Output]:
        """A book that the recorder knew, and where the sequence was."""
        out: list[Output] = []
        book = restored(fields)
        if book is None:
            return [BadInput("bad_checkpoint", asset_id, asset_id)]
        sid, seq = fields.get("sid"), fields.get("seq")
        if type(sid) is not int:
            sid = None
        elif type(seq) is int:
            self._sequences.resume(sid, seq)
        self._snapshot(asset_id, book, None, sid, now_us, out)
        return out


def _about_books(frame: Mapping[str, Any]) -> bool:
    kind = frame.get("type")
    return isinstance(kind, str) and kind.startswith("orderbook")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
