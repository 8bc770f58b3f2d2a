"""Frames of one connection to normalised outputs: what was subscribed, and what each frame says.

The venue's points that this file obeys (venue doc section 0): 1 and section 6 our own tokens only, 6 both
frame forms, 10 ids are text. Its books are in `books`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import NumberError, VenueBook, polymarket_frame
from wup.errors import VenueMessageError
from wup.model import Absolute, Control, Snapshot, State, Trade
from wup.venues.base import BadInput, LegChanged, ListingChanged, StatusTold, TradeSeen
from wup.venues.following import MIRROR_OF
from wup.venues.numbers import restored, shortest
from wup.venues.polymarket.adapter import NOTICES, PolymarketAdapter, load
from wup.venues.polymarket.books import FIRST_BOOK_US, PolymarketBooks
from wup.venues.polymarket.truth import Token, stamp_us
from wup.venues.repairs import REPAIR_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.model import Instrument
    from wup.venues.base import Output

_BOOK_KEYS = ("price_changes", "changes", "bids", "asks")


class PolymarketNormaliser(PolymarketBooks):
    """Frames of one connection to normalised outputs. Pure: time comes in with each call.

    Without `native` every frame is read by the adapter's own decoder.
    """

    def __init__(
        self, open_info: Mapping[str, Any], instruments: Mapping[str, Instrument], *, native: bool = True
    ) -> None:
        super().__init__(instruments, str(open_info.get("hash_check", "always")))
        self._native = native
        self._adapter = PolymarketAdapter()

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        """A frame of ours: which assets to expect a book of."""
        out: list[Output] = []
        try:
            frame = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return out
        assets = frame.get("assets_ids") if isinstance(frame, dict) else None
        if not isinstance(assets, list):
            return out
        if frame.get("operation") == "unsubscribe":
            for asset in assets:
                due_us = self._expected.pop(asset, None)
                if due_us is not None and due_us > now_us:
                    # The repair that this is part of has set when to ask again.
                    self._resumed[asset] = due_us
                self._dropped.add(asset)
                token = self._forget(asset)
                if token is not None and token.shown:
                    out.append(LegChanged(asset, "resync", "gap"))
        else:
            for asset in assets:
                due_us = now_us + FIRST_BOOK_US
                if asset in self._dropped:
                    self._dropped.discard(asset)
                    self._again[asset] = now_us
                    due_us = self._resumed.pop(asset, now_us + REPAIR_US)
                if asset not in self._tokens or not self._tokens[asset].valid:
                    self._expected[asset] = due_us
        self._sweep()
        return out

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        """A received frame; what cannot be used comes out as `BadInput`, with the legs that it makes
        doubtful."""
        out: list[Output] = []
        # Changes and books are read natively; every other frame, and unusual forms of these, by the adapter.
        if (self._native and self._hot(raw, now_us, out)) or raw in NOTICES:
            return out
        try:
            items = load(raw)
        except VenueMessageError as error:
            out.append(BadInput(error.kind, error.detail))
            if error.kind != "unknown_text":
                self._unreadable(raw, now_us, out)
            return out
        problems: list[VenueMessageError] = []
        for item in items:
            for event in self._adapter.events(item, problems):
                if isinstance(event, Absolute):
                    self._absolute(event, now_us, out)
                elif isinstance(event, Snapshot):
                    self._snapshot(event, now_us, out)
                elif isinstance(event, Trade):
                    self._trade(event, now_us, out)
                elif isinstance(event, State):
                    self._state(event, out)
                elif isinstance(event, Control):
                    self._control(event, out)
            if problems:
                self._problems(problems, item, now_us, out)
                problems.clear()
        return out

    def _hot(self, raw: bytes, now_us: int, out: list[Output]) -> bool:
        """Read changes and books natively; False: the frame has something else, and was not looked at."""
        items = polymarket_frame(raw, self._tokens)
        if items is None:
            return False
        for item in items:
            if len(item) == 8:
                asset, market, stamp, venue_us, levels, expected, bid, ask = item
                token = self._tokens.get(asset)
                if token is None or asset not in self._instruments:
                    token = self._token(asset, market, out, adopt=False)
                if token is not None:
                    self._change(token, levels, stamp, venue_us, expected, bid, ask, now_us, out)
            elif len(item) == 3:
                asset, market, venue_us = item
                # The other token of a market that we follow is in every change: not news (section 6).
                if asset in self._instruments or market not in self._markets:
                    self._too_early(self._token(asset, market, out, adopt=False), venue_us)
            else:
                asset, said, venue_us, book = item
                token = self._token(asset, said["market"], out, adopt=True)
                if token is not None:
                    self._book(token, book, said, venue_us, now_us, out)
        return True

    def _absolute(self, event: Absolute, now_us: int, out: list[Output]) -> None:
        extra = event.extra
        token = self._token(event.asset_id, extra["market"], out, adopt=False)
        if token is None:
            return
        sent, bid, ask = extra["hash"], extra["best_bid"], extra["best_ask"]
        self._change(
            token,
            event.levels,
            str(extra["timestamp"]),
            event.venue_us,
            sent if isinstance(sent, str) else None,
            bid if isinstance(bid, str) else None,
            ask if isinstance(ask, str) else None,
            now_us,
            out,
        )

    def _snapshot(self, event: Snapshot, now_us: int, out: list[Output]) -> None:
        token = self._token(event.asset_id, event.extra.get("market"), out, adopt=True)
        if token is None:
            return
        book = VenueBook()
        try:
            book.replace(event.bids, event.asks)
        except NumberError as error:
            if not token.closed:
                out.append(BadInput("bad_level", str(error), token.id))
                self._doubt([token.id], "gap", now_us, out)
            return
        self._book(token, book, event.extra, event.venue_us, now_us, out)

    def _problems(
        self, problems: list[VenueMessageError], item: object, now_us: int, out: list[Output]
    ) -> None:
        """Count what could not be read; the books that it was about are doubtful."""
        for error in problems:
            out.append(BadInput(error.kind, error.detail, error.asset_id))
            if not isinstance(item, dict) or not any(key in item for key in _BOOK_KEYS):
                continue
            if error.asset_id is not None:
                self._doubt([error.asset_id], "gap", now_us, out)
            else:
                market = self._markets.get(str(item.get("market")))
                self._doubt([token.id for token in market.tokens] if market else [], "gap", now_us, out)

    def _unreadable(self, raw: bytes, now_us: int, out: list[Output]) -> None:
        """A broken frame: the books that it names are doubtful, all of them when it names none of ours."""
        text = raw.decode("utf-8", "replace")
        named = [asset for asset in self._tokens if f'"{asset}"' in text]
        self._doubt(named or list(self._tokens), "gap", now_us, out)

    def _trade(self, event: Trade, now_us: int, out: list[Output]) -> None:
        token = self._tokens.get(event.asset_id)
        if token is None:
            if event.asset_id not in self._instruments:
                out.append(BadInput("unknown_asset", event.asset_id, event.asset_id))
            return
        try:
            price = shortest(event.price)
            size = shortest(event.size) if event.size else None
        except NumberError as error:
            out.append(BadInput("bad_level", str(error), token.id))
            return
        market = token.market
        traded_us = event.venue_us or 0
        # Trades arrive late: one that a matched hash already contains must not take its price back.
        newer = traded_us > market.last_us or (traded_us == market.last_us and not market.last_known)
        if newer and market.last is not None:
            market.last, market.last_us, market.last_known = event.price, traded_us, False
        # Also the price of an older one may be what a book's hash is made with.
        self._explained(market, event.price, now_us, out)
        if token.mirror:
            return
        if size is None:
            out.append(BadInput("trade_without_size", event.trade_id, token.id))
            return
        out.append(TradeSeen(token.id, price, size, event.side, event.trade_id, event.venue_us))

    def _state(self, event: State, out: list[Output]) -> None:
        """Resolutions of every market come to every connection, also of markets whose first book has not
        come, or comes on another one."""
        instrument = self._instruments.get(event.asset_id)
        if instrument is None:
            return
        token = self._tokens.get(event.asset_id)
        if token is None:
            if MIRROR_OF in instrument.facts:
                return
        elif token.closed:
            return
        else:
            token.lose("resolved")
            token.closed = True
            self._due.pop(token.id, None)
            if token.mirror:
                return
        out.append(StatusTold(event.asset_id, "closed", event.why, event.result, event.venue_us))

    def _control(self, event: Control, out: list[Output]) -> None:
        if event.kind == "tick_size_change":
            asset, tick = event.body.get("asset_id"), event.body.get("new_tick_size")
            token = self._tokens.get(asset) if isinstance(asset, str) else None
            if token is not None and isinstance(tick, str) and tick:
                token.set_tick(tick, event.body.get("timestamp"))
                out.append(ListingChanged(token.id, None))
        elif event.kind == "new_market":
            # Every connection is told of every market of the venue.
            about = event.body.get("event_message")
            slug = about.get("slug") if isinstance(about, dict) else None
            out.append(ListingChanged(None, _text(slug), new=True))

    def checkpoint(self, asset_id: str) -> dict[str, Any] | None:
        """Levels, and what their hash is made of; None also while a proof that must come has not."""
        if self.book(asset_id) is None:
            return None
        token = self._tokens[asset_id]
        return token.facts() if self._vouched(token) else None

    def _vouched(self, token: Token) -> bool:
        """Where hashes prove books, is this one proven? Elsewhere the venue's word is all that there is."""
        if token.doubt_us is not None:
            return False
        if self._hash_check == "off" or not token.market.proven:
            return True
        return token.verified or token.has_hash()

    def restore(self, asset_id: str, fields: Mapping[str, Any], now_us: int) -> list[Output]:
        """A book that the recorder knew. Its hash is tried like that of any whole book."""
        out: list[Output] = [BadInput("bad_checkpoint", asset_id, asset_id)]
        book, token = restored(fields), self._token(asset_id, fields.get("market"), [], adopt=True)
        if book is not None and token is not None:
            out.clear()
            self._book(token, book, fields, stamp_us(fields.get("timestamp")), now_us, out)
        return out


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
