"""One frame of this venue to events, in the market's YES coordinates: pure (venue doc section 3).

The venue sends two ladders of bids. A NO bid at q is a YES ask at 1 - q. With `use_yes_price` the server has
done that already, and no frame tells which mode is on, so the adapter is told at construction.

There are two decoders of the book frames: the one written here reads every form there ever was and is the
reference; the native one reads today's usual form, and leaves all others to the first.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import NumberError, kalshi_delta, kalshi_snapshot
from wup.errors import VenueMessageError
from wup.model import Control, Increment, Snapshot, State, Trade
from wup.venues.numbers import complement, shortest, text_of

if TYPE_CHECKING:
    from wup.model import LegState, Level, VenueEvent

PLATFORM = "kalshi"
BOOK_CHANNEL = "orderbook_delta"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MS = 10**15
_MILLISECONDS_FROM = 100_000_000_000
"""Integer stamps above this are milliseconds, below it seconds (old tapes have both)."""
# (YES key, NO key), newest form first; the oldest has integer cents (section 3.2).
_LADDERS = (("yes_dollars_fp", "no_dollars_fp"), ("yes_dollars", "no_dollars"), ("yes", "no"))
LIFECYCLE = ("market_lifecycle_v2", "multivariate_market_lifecycle", "market_lifecycle")
_CONTROL = ("subscribed", "unsubscribed", "ok", "error", "ticker", "event_lifecycle", "event_fee_update")
_LIFE: dict[str, tuple[LegState, str]] = {
    "deactivated": ("halted", "halted"),
    "activated": ("live", "leg_snapshot"),
    "determined": ("closed", "resolved"),
    "settled": ("closed", "resolved"),
}


def load(raw: bytes) -> dict[str, Any]:
    """The frame's JSON object; a final newline is normal.

    Raises:
        VenueMessageError: not a JSON object.
    """
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise VenueMessageError("bad_json", str(error)) from None
    if not isinstance(frame, dict):
        raise VenueMessageError("bad_json", f"frame is a {type(frame).__name__}, not an object")
    return frame


def sequence_of(frame: dict[str, Any]) -> tuple[int | None, int | None]:
    """(sid, seq) of a frame, whatever its type; None for each that it does not carry."""
    sid, seq = frame.get("sid"), frame.get("seq")
    return sid if type(sid) is int else None, seq if type(seq) is int else None


class KalshiAdapter:
    """Reads frames of one subscription mode."""

    exchange_name = PLATFORM

    def __init__(self, use_yes_price: bool = False) -> None:
        self.use_yes_price = use_yes_price

    def parse_message(self, raw: bytes) -> list[VenueEvent]:
        """Read one frame. Raises `VenueMessageError` on what cannot be read."""
        event = self.native(raw)
        return self.events(load(raw)) if event is None else [event]

    def native(self, raw: bytes) -> Increment | Snapshot | None:
        """What the native decoder reads; None for all that is left to the other one."""
        delta = kalshi_delta(raw, self.use_yes_price)
        if delta is not None:
            sid, seq, ticker, side, price, change, venue_us = delta
            return Increment(ticker, side, price, change, seq, str(sid), venue_us)
        whole = kalshi_snapshot(raw, self.use_yes_price)
        if whole is not None:
            sid, seq, number, ticker, venue_us, book = whole
            extra = {} if number is None else {"id": number}
            return Snapshot(ticker, *book.levels(), seq, str(sid), venue_us, extra)
        return None

    def events(self, frame: dict[str, Any]) -> list[VenueEvent]:
        """The same for a frame that is already JSON.

        Raises:
            VenueMessageError: unknown type, or a field that cannot be read.
        """
        kind = frame.get("type")
        if kind == "orderbook_delta":
            return [self._delta(frame)]
        if kind == "orderbook_snapshot":
            return [self._snapshot(frame)]
        sid, seq = sequence_of(frame)
        stream = None if sid is None else str(sid)
        if kind == "trade":
            return [self._trade(_body(frame), seq, stream)]
        if kind in LIFECYCLE:
            return [_life(_body(frame), seq, stream)]
        if kind in _CONTROL:
            return [Control(str(kind), seq, stream, frame)]
        raise VenueMessageError("unknown_type", f"type {kind!r}")

    def _delta(self, frame: dict[str, Any]) -> Increment:
        body = _body(frame)
        asset = _ticker(body)
        sid, seq = sequence_of(frame)
        delta = body.get("delta_fp")
        if delta is None:
            delta = _count(body.get("delta"), asset)
        price = body.get("price_dollars")
        if price is None:
            price = _cents(body.get("price"), asset)
        side = body.get("side")
        try:
            text = text_of(price, "price", asset)
            if side == "yes":
                price = shortest(text)
            elif side == "no":
                price = shortest(text) if self.use_yes_price else complement(text)
            else:
                raise VenueMessageError("bad_field", f"side {side!r}", asset)
            delta = shortest(text_of(delta, "delta", asset))
        except NumberError as error:
            raise VenueMessageError("bad_level", str(error), asset) from None
        return Increment(
            asset,
            "bid" if side == "yes" else "ask",
            price,
            delta,
            seq,
            None if sid is None else str(sid),
            _venue_us(body),
        )

    def _snapshot(self, frame: dict[str, Any]) -> Snapshot:
        body = _body(frame)
        asset = _ticker(body)
        sid, seq = sequence_of(frame)
        yes, no = next((keys for keys in _LADDERS if keys[0] in body or keys[1] in body), _LADDERS[0])
        try:
            return Snapshot(
                asset,
                # A side without orders is absent; an empty book has neither (rule 7).
                _ladder(body.get(yes), asset, mirrored=False),
                _ladder(body.get(no), asset, mirrored=not self.use_yes_price),
                seq,
                None if sid is None else str(sid),
                _venue_us(body),
                {} if "id" not in frame else {"id": frame["id"]},
            )
        except NumberError as error:
            raise VenueMessageError("bad_level", str(error), asset) from None

    def _trade(self, body: dict[str, Any], seq: int | None, stream: str | None) -> Trade:
        asset = _ticker(body)
        size = body.get("count_fp")
        if size is None:
            size = _count(body.get("count"), asset)
        price = body.get("yes_price_dollars")
        if price is None:
            price = _cents(body.get("yes_price"), asset)
        book_side = body.get("taker_book_side")
        outcome = body.get("taker_outcome_side") or body.get("taker_side")
        if book_side not in ("bid", "ask") and outcome not in ("yes", "no"):
            raise VenueMessageError("bad_field", f"taker side {book_side!r}, {outcome!r}", asset)
        buys = book_side == "bid" if book_side in ("bid", "ask") else outcome == "yes"
        try:
            return Trade(
                asset,
                shortest(text_of(price, "price", asset)),
                shortest(text_of(size, "count", asset)),
                "buy" if buys else "sell",
                text_of(body.get("trade_id"), "trade_id", asset),
                seq,
                stream,
                _venue_us(body),
                body.get("is_block_trade") is True,
            )
        except NumberError as error:
            raise VenueMessageError("bad_level", str(error), asset) from None


def _body(frame: dict[str, Any]) -> dict[str, Any]:
    body = frame.get("msg")
    if not isinstance(body, dict):
        raise VenueMessageError("bad_field", f"msg of {frame.get('type')!r} is no object")
    return body


def _ticker(body: dict[str, Any]) -> str:
    ticker = body.get("market_ticker")
    if not isinstance(ticker, str) or not ticker:
        raise VenueMessageError("bad_field", "no market_ticker")
    return ticker


def _ladder(levels: object, asset: str, *, mirrored: bool) -> list[Level]:
    if levels is None:
        return []
    if not isinstance(levels, list):
        raise VenueMessageError("bad_field", "a ladder is no array", asset)
    exact = complement if mirrored else shortest
    read: list[Level] = []
    for level in levels:
        if not isinstance(level, list) or len(level) != 2:
            raise VenueMessageError("bad_level", f"level {level!r}", asset)
        price, size = level
        if type(price) is str and type(size) is str:
            read.append((exact(price), shortest(size)))
            continue
        text = text_of(price if isinstance(price, str) else _cents(price, asset), "price", asset)
        count = text_of(size if isinstance(size, str) else _count(size, asset), "count", asset)
        read.append((exact(text), shortest(count)))
    return read


def _cents(value: object, asset: str) -> str:
    """Integer cents of the forms before 2026-03-12 as dollars."""
    if type(value) is not int or not 0 <= value <= 100:
        raise VenueMessageError("bad_level", f"price {value!r}", asset)
    return f"{value // 100}.{value % 100:02d}"


def _count(value: object, asset: str) -> str:
    """Integer contracts of the forms before 2026-03-12."""
    if type(value) is not int:
        raise VenueMessageError("bad_level", f"count {value!r}", asset)
    return str(value)


def _life(body: dict[str, Any], seq: int | None, stream: str | None) -> State | Control:
    event = body.get("event_type")
    meaning = _LIFE.get(event) if isinstance(event, str) else None
    if meaning is None:
        return Control("lifecycle", seq, stream, body)
    state, why = meaning
    result = body.get("result")
    return State(
        _ticker(body),
        state,
        why,
        result if isinstance(result, str) and result else None,
        seq,
        stream,
        _venue_us(body),
    )


def _venue_us(body: dict[str, Any]) -> int | None:
    """The venue's stamp; None when it has none, or one that is no time."""
    stamp = body.get("ts_ms")
    if type(stamp) is int:
        return stamp * 1000 if 0 <= stamp < _LAST_MS else None
    stamp = body.get("ts")
    if type(stamp) is int:
        if not 0 <= stamp < _LAST_MS:
            return None
        return stamp * (1000 if stamp >= _MILLISECONDS_FROM else 1_000_000)
    if isinstance(stamp, str):
        try:
            return (datetime.fromisoformat(stamp) - _EPOCH) // _MICROSECOND
        except (ValueError, TypeError):
            return None
    return None
