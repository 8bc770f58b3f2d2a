"""Polymarket's frames as text, with the real book hash (venue note, sections 1.4, 1.6 and 2)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from wup.sim.fixed import MICRO, fixed, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup.sim.engine import Change, EngineEvent, Fill, Market
    from wup.sim.world import Listing

MIN_ORDER_SIZE = "5"

Sides = tuple[list[tuple[int, int]], list[tuple[int, int]]]
"""(bids, asks), each by rising price."""


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def neg_risk(listing: Listing) -> bool:
    """Markets with named Yes and No belong to a group of exclusive outcomes here; two-team markets do not."""
    return listing.outcomes == ("Yes", "No")


def sides(market: Market, asset: str) -> Sides:
    """The book as one token shows it."""
    if asset == market.listing.assets[0]:
        return market.book.bids.ascending(), market.book.asks.ascending()
    return market.book.mirrored()


def _levels(levels: Iterable[tuple[int, int]]) -> str:
    return ",".join(f'{{"price":"{short(price)}","size":"{short(size)}"}}' for price, size in levels)


def level_texts(book: Sides) -> tuple[str, str]:
    """Bids ascending and asks descending: worst first, as on the wire."""
    bids, asks = book
    return _levels(bids), _levels(reversed(asks))


def book_hash(market: Market, asset: str, texts: tuple[str, str], stamp: int, last_trade: str) -> str:
    """SHA-1 of the whole book in the documented key order, `hash` empty while hashing."""
    text = (
        f'{{"market":"{market.listing.market_id}","asset_id":"{asset}","timestamp":"{stamp}","hash":"",'
        f'"bids":[{texts[0]}],"asks":[{texts[1]}],"min_order_size":"{MIN_ORDER_SIZE}",'
        f'"tick_size":"{short(market.tick)}","neg_risk":{"true" if neg_risk(market.listing) else "false"},'
        f'"last_trade_price":"{last_trade}"}}'
    )
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class View:
    """A market's two tokens after a transaction: level texts and hashes, made once for all connections."""

    __slots__ = ("best", "hashes", "last_trade", "market", "stamp", "texts")

    def __init__(self, market: Market, last_trade: str) -> None:
        self.market = market
        self.stamp = market.changed_us // 1000
        self.last_trade = last_trade
        self.texts = {asset: level_texts(sides(market, asset)) for asset in market.listing.assets}
        self.hashes = {
            asset: book_hash(market, asset, texts, self.stamp, last_trade)
            for asset, texts in self.texts.items()
        }
        bid, ask = market.book.best_bid(), market.book.best_ask()
        yes, no = market.listing.assets
        self.best = {
            yes: (_price(bid, "0"), _price(ask, "1")),
            no: (
                _price(None if ask is None else MICRO - ask, "0"),
                _price(None if bid is None else MICRO - bid, "1"),
            ),
        }

    def first_book(self, asset: str, *, event_type: bool = True) -> str:
        """The `book` after subscribing: with tick size and last trade."""
        bids, asks = self.texts[asset]
        named = '"event_type":"book",' if event_type else ""
        return (
            f'{{"market":"{self.market.listing.market_id}","asset_id":"{asset}","timestamp":"{self.stamp}",'
            f'"hash":"{self.hashes[asset]}","bids":[{bids}],"asks":[{asks}],"tick_size":"{short(self.market.tick)}",'
            f'{named}"last_trade_price":"{self.last_trade}"}}'
        )

    def later_book(self, asset: str) -> str:
        """The `book` after a trade: without them."""
        bids, asks = self.texts[asset]
        return (
            f'{{"market":"{self.market.listing.market_id}","asset_id":"{asset}","bids":[{bids}],"asks":[{asks}],'
            f'"hash":"{self.hashes[asset]}","timestamp":"{self.stamp}","event_type":"book"}}'
        )

    def rest_book(self, asset: str) -> dict[str, object]:
        """The answer of REST."""
        book = sides(self.market, asset)
        return {
            "market": self.market.listing.market_id,
            "asset_id": asset,
            "timestamp": str(self.stamp),
            "hash": self.hashes[asset],
            "bids": [{"price": short(price), "size": short(size)} for price, size in book[0]],
            "asks": [{"price": short(price), "size": short(size)} for price, size in reversed(book[1])],
            "min_order_size": MIN_ORDER_SIZE,
            "tick_size": short(self.market.tick),
            "neg_risk": neg_risk(self.market.listing),
            "last_trade_price": self.last_trade,
        }

    def price_change(self, change: Change, *, from_no: bool, empty: bool = False) -> str:
        """One level as both tokens show it, the token of the order first."""
        yes, no = self.market.listing.assets
        size = short(change.new)
        first, second = ("BUY", "SELL") if change.side == "bid" else ("SELL", "BUY")
        elements = [
            self._element(yes, short(change.price), size, first, empty=empty),
            self._element(no, short(MICRO - change.price), size, second, empty=empty),
        ]
        if from_no:
            elements.reverse()
        return (
            f'{{"market":"{self.market.listing.market_id}","price_changes":[{",".join(elements)}],'
            f'"timestamp":"{self.stamp}","event_type":"price_change"}}'
        )

    def _element(self, asset: str, price: str, size: str, side: str, *, empty: bool) -> str:
        bid, ask = self.best[asset]
        if empty:
            bid, ask = ("" if bid == "0" else bid), ("" if ask == "1" else ask)
        return (
            f'{{"asset_id":"{asset}","price":"{price}","size":"{size}","side":"{side}","hash":"{self.hashes[asset]}",'
            f'"best_bid":"{bid}","best_ask":"{ask}"}}'
        )

    def best_bid_ask(self, asset: str) -> str:
        """The top, for connections that asked for it."""
        bid, ask = self.best[asset]
        market_bid, market_ask = self.market.book.best_bid(), self.market.book.best_ask()
        spread = (MICRO if market_ask is None else market_ask) - (market_bid or 0)
        return (
            f'{{"market":"{self.market.listing.market_id}","asset_id":"{asset}",'
            f'"best_bid":"{bid}","best_ask":"{ask}",'
            f'"spread":"{short(spread)}","timestamp":"{self.stamp}","event_type":"best_bid_ask"}}'
        )


def _price(value: int | None, none: str) -> str:
    return none if value is None else short(value)


def trade_price(market: Market, price: int) -> str:
    """The price of a trade keeps the zeros of its tick: "0.980"."""
    places = len(short(market.tick).partition(".")[2])
    return fixed(price, places) if price % market.tick == 0 else short(price)


def last_trade_price(market: Market, fill: Fill, at_us: int, *, on_no: bool, empty: bool) -> str:
    """One fill, in the coordinates of the token that it names; `side` is the taker's."""
    asset = market.listing.assets[1 if on_no else 0]
    price = MICRO - fill.price if on_no else fill.price
    bought = (fill.taker == "buy") != on_no
    transaction = hashlib.sha256(fill.trade_id.encode()).hexdigest()
    return (
        f'{{"market":"{market.listing.market_id}","asset_id":"{asset}",'
        f'"price":"{trade_price(market, price)}",'
        f'"size":"{short(fill.size)}","fee_rate_bps":"{"" if empty else "0"}",'
        f'"side":"{"BUY" if bought else "SELL"}","timestamp":"{at_us // 1000}",'
        f'"event_type":"last_trade_price","transaction_hash":"0x{transaction}"}}'
    )


def tick_size_change(event: EngineEvent, asset: str) -> str:
    """The tick of one token changed."""
    return (
        f'{{"event_type":"tick_size_change","asset_id":"{asset}","market":"{event.market.listing.market_id}",'
        f'"old_tick_size":"{short(int(event.info["old"]))}","new_tick_size":"{short(int(event.info["new"]))}",'
        f'"timestamp":"{event.at_us // 1000}"}}'
    )


def _list(values: Iterable[str], *, as_text: bool) -> object:
    listed = list(values)
    return compact(listed) if as_text else listed


def new_market(market: Market, at_us: int, *, as_text: bool) -> str:
    """Announcement of a market, to every connection with the flag."""
    listing = market.listing
    return compact(
        {
            "id": str(listing.number),
            "question": listing.question,
            "market": listing.market_id,
            "slug": listing.slug,
            "description": listing.primary,
            "assets_ids": _list(listing.assets, as_text=as_text),
            "outcomes": _list(listing.outcomes, as_text=as_text),
            "event_message": {
                "id": str(listing.number),
                "ticker": listing.event,
                "slug": listing.event,
                "title": listing.question,
                "description": listing.primary,
            },
            "timestamp": str(at_us // 1000),
            "event_type": "new_market",
            "tags": _list(["simulated"], as_text=as_text),
            "condition_id": listing.market_id,
            "active": True,
            "clob_token_ids": _list(listing.assets, as_text=as_text),
            "sports_market_type": "",
            "line": "",
            "game_start_time": "",
            "order_price_min_tick_size": short(market.tick),
            "group_item_title": listing.label,
            "taker_base_fee": "0",
            "fees_enabled": True,
            "fee_schedule": {},
        }
    )


def market_resolved(market: Market, at_us: int, *, as_text: bool) -> str:
    """The end of a market, to every connection with the flag."""
    listing = market.listing
    won = 0 if market.result == "yes" else 1
    return compact(
        {
            "event_type": "market_resolved",
            "id": str(listing.number),
            "market": listing.market_id,
            "assets_ids": _list(listing.assets, as_text=as_text),
            "winning_asset_id": listing.assets[won],
            "winning_outcome": listing.outcomes[won],
            "event_message": {},
            "timestamp": str(at_us // 1000),
            "tags": _list(["simulated"], as_text=as_text),
        }
    )
