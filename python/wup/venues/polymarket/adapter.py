"""One frame of this venue to events, in the token's own coordinates: pure (venue doc section 1).

Prices and sizes stay the venue's text here: the book hash is taken over exactly that text.

There are two decoders of changes and books: the one written here reads every form there ever was and is the
reference; the native one reads today's usual form, and leaves all others to the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import polymarket_frame
from wup.errors import VenueMessageError
from wup.model import Absolute, Control, Snapshot, State, Trade
from wup.venues.numbers import text_of

if TYPE_CHECKING:
    from wup.model import Level, Side, VenueEvent

PLATFORM = "polymarket"
NOTICES = (b"PONG", b"NO NEW ASSETS")
_SIDES: dict[str, Side] = {"BUY": "bid", "SELL": "ask"}
_CONTROL = ("tick_size_change", "best_bid_ask", "new_market")


def load(raw: bytes) -> list[Any]:
    """The items of a frame: one object, or an array of objects (point 6).

    Raises:
        VenueMessageError: neither JSON object nor array; `unknown_text` for plain-text notices.
    """
    if raw.lstrip()[:1] not in (b"{", b"["):
        raise VenueMessageError("unknown_text", "a text frame that is not JSON")
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise VenueMessageError("bad_json", str(error)) from None
    return frame if isinstance(frame, list) else [frame]


class PolymarketAdapter:
    """Reads frames of the market channel."""

    exchange_name = PLATFORM

    def parse_message(self, raw: bytes) -> list[VenueEvent]:
        """Read one frame; what cannot be read in it is left out unless that is all.

        Raises:
            VenueMessageError: nothing in the frame can be used.
        """
        if raw in NOTICES:
            return [Control(raw.decode())]
        read = self.native(raw)
        if read is not None:
            return read
        events: list[VenueEvent] = []
        problems: list[VenueMessageError] = []
        for item in load(raw):
            events.extend(self.events(item, problems))
        if problems and not events:
            raise problems[0]
        return events

    def native(self, raw: bytes) -> list[VenueEvent] | None:
        """What the native decoder reads; None when anything in the frame is left to the other one."""
        items = polymarket_frame(raw)
        if items is None:
            return None
        events: list[VenueEvent] = []
        for item in items:
            if len(item) == 8:
                asset, market, stamp, venue_us, levels, sent, bid, ask = item
                facts = {"market": market, "timestamp": stamp, "hash": sent, "best_bid": bid, "best_ask": ask}
                events.append(Absolute(asset, levels, venue_us=venue_us, extra=facts))
            elif len(item) == 4:
                asset, said, venue_us, book = item
                events.append(Snapshot(asset, *book.levels(), venue_us=venue_us, extra=said))
        return events

    def events(self, item: object, problems: list[VenueMessageError]) -> list[VenueEvent]:
        """One object of a frame. What cannot be read is added to `problems`, the rest goes on."""
        if not isinstance(item, dict):
            problems.append(
                VenueMessageError("bad_field", f"an item is {type(item).__name__}, not an object")
            )
            return []
        kind = item.get("event_type")
        try:
            if kind == "price_change" or (kind is None and ("price_changes" in item or "changes" in item)):
                return list(_changes(item, problems))
            # Seen without a type as well (section 1.4): what has both sides is a book.
            if kind == "book" or (kind is None and "bids" in item and "asks" in item):
                return [_book(item)]
            if kind == "last_trade_price":
                return [_trade(item)]
            if kind == "market_resolved":
                return list(_resolved(item))
            if kind in _CONTROL:
                return [Control(str(kind), body=item)]
        except VenueMessageError as error:
            problems.append(error)
            return []
        problems.append(VenueMessageError("unknown_type", f"event_type {kind!r}"))
        return []


def _asset(item: dict[str, Any]) -> str:
    asset = item.get("asset_id")
    if not isinstance(asset, str) or not asset:
        raise VenueMessageError("bad_field", "no asset_id")
    return asset


def _book(item: dict[str, Any]) -> Snapshot:
    asset = _asset(item)
    return Snapshot(
        asset,
        _levels(item.get("bids"), asset),
        _levels(item.get("asks"), asset),
        venue_us=_venue_us(item, asset),
        extra=item,
    )


def _levels(levels: Any, asset: str) -> list[Level]:
    if not isinstance(levels, list):
        raise VenueMessageError("bad_field", "a side is no array", asset)
    try:
        read: list[Level] = [(level["price"], level["size"]) for level in levels]
    except (KeyError, TypeError):
        return [_level(level, asset) for level in levels]
    for price, size in read:
        if type(price) is not str or type(size) is not str:
            return [_level(level, asset) for level in levels]
    return read


def _level(level: object, asset: str) -> Level:
    if not isinstance(level, dict):
        raise VenueMessageError("bad_level", f"level {level!r}", asset)
    return text_of(level.get("price"), "price", asset), text_of(level.get("size"), "size", asset)


def _changes(item: dict[str, Any], problems: list[VenueMessageError]) -> list[Absolute]:
    """One event per asset that the message names; all three forms of the venue's history (section 1.6)."""
    changes = item.get("price_changes")
    if changes is None:
        changes = item.get("changes")
        if changes is None:
            changes = [item]
        if isinstance(changes, list):
            common = {"asset_id": item.get("asset_id"), "hash": item.get("hash")}
            changes = [{**common, **change} if isinstance(change, dict) else change for change in changes]
    if not isinstance(changes, list):
        raise VenueMessageError("bad_field", "price_changes is no array")
    grouped: dict[str, list[tuple[Side, str, str]]] = {}
    last: dict[str, dict[str, Any]] = {}
    broken: set[str] = set()
    for change in changes:
        try:
            if not isinstance(change, dict):
                raise VenueMessageError("bad_field", "a change is no object")
            asset = _asset(change)
            try:
                named = change.get("side")
                side = _SIDES.get(named.upper()) if isinstance(named, str) else None
                if side is None:
                    raise VenueMessageError("bad_field", f"side {named!r}", asset)
                level = (
                    side,
                    text_of(change.get("price"), "price", asset),
                    text_of(change.get("size"), "size", asset),
                )
            except VenueMessageError:
                # Half a transaction of this asset would be a wrong book: none of it is used.
                broken.add(asset)
                raise
        except VenueMessageError as error:
            problems.append(error)
            continue
        levels = grouped.get(asset)
        if levels is None:
            grouped[asset] = [level]
        else:
            levels.append(level)
        last[asset] = change
    venue_us = _venue_us(item, next(iter(grouped), None))
    market, stamp = item.get("market"), item.get("timestamp")
    return [
        Absolute(
            asset,
            levels,
            venue_us=venue_us,
            extra={
                "market": market,
                "timestamp": stamp,
                "hash": last[asset].get("hash"),
                "best_bid": last[asset].get("best_bid"),
                "best_ask": last[asset].get("best_ask"),
            },
        )
        for asset, levels in grouped.items()
        if asset not in broken
    ]


def _trade(item: dict[str, Any]) -> Trade:
    asset = _asset(item)
    side = item.get("side")
    taken = _SIDES.get(side.upper()) if isinstance(side, str) else None
    if taken is None:
        raise VenueMessageError("bad_field", f"side {side!r}", asset)
    size, trade_id = item.get("size"), item.get("transaction_hash")
    return Trade(
        asset,
        text_of(item.get("price"), "price", asset),
        size if isinstance(size, str) else "",
        "buy" if taken == "bid" else "sell",
        trade_id if isinstance(trade_id, str) else "",
        venue_us=_venue_us(item, asset),
    )


def _resolved(item: dict[str, Any]) -> list[State]:
    assets = item.get("assets_ids")
    if assets is None:
        assets = item.get("clob_token_ids")
    if isinstance(assets, str):
        # Lists also come as a string that holds JSON.
        try:
            assets = orjson.loads(assets)
        except orjson.JSONDecodeError as error:
            raise VenueMessageError("bad_field", f"assets_ids: {error}") from None
    if not isinstance(assets, list) or not all(isinstance(asset, str) for asset in assets):
        raise VenueMessageError("bad_field", "assets_ids is no list of ids")
    winner = item.get("winning_asset_id")
    known = isinstance(winner, str) and winner in assets
    venue_us = _venue_us(item, None)
    return [
        State(
            asset,
            "closed",
            "resolved",
            ("yes" if asset == winner else "no") if known else None,
            venue_us=venue_us,
        )
        for asset in assets
    ]


def _venue_us(item: dict[str, Any], asset: str | None) -> int | None:
    """The engine's time: a string of epoch milliseconds."""
    stamp = item.get("timestamp")
    if isinstance(stamp, str) and stamp.isascii() and stamp.isdigit() and len(stamp) <= 15:
        return int(stamp) * 1000
    if stamp is None or stamp == "":
        return None
    raise VenueMessageError("bad_field", f"timestamp {stamp!r}", asset)
