"""A Polymarket market written from the venue notes alone: frames with hashes that are right.

Nothing of the adapter is used here, so that what it says can be compared with something.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

MARKET = "0x" + "ab" * 32
YES = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
NO = "28290293140018107764072370767749010110409017615323596573647425138985988593200"
Ladder = dict[str, str]


def mirror(price: str) -> str:
    """1 - price, shortest."""
    return format((1 - Decimal(price)).normalize(), "f")


class Book:
    """One market: the YES ladders, and the facts that go into the hash."""

    def __init__(
        self,
        bids: Ladder,
        asks: Ladder,
        *,
        last: str = "0.3",
        tick: str = "0.001",
        min_size: str = "5",
        neg_risk: bool = True,
        ts: int = 1_790_658_827_000,
    ) -> None:
        self.bids, self.asks = dict(bids), dict(asks)
        self.last, self.tick, self.min_size, self.neg_risk, self.ts = last, tick, min_size, neg_risk, ts

    def sides(self, asset: str) -> tuple[Ladder, Ladder]:
        """(bids, asks) of one token."""
        if asset == YES:
            return self.bids, self.asks
        return (
            {mirror(price): size for price, size in self.asks.items()},
            {mirror(price): size for price, size in self.bids.items()},
        )

    def levels(self, asset: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Worst price first: bids ascending, asks descending."""
        bids, asks = self.sides(asset)
        return (
            [{"price": p, "size": bids[p]} for p in sorted(bids, key=Decimal)],
            [{"price": p, "size": asks[p]} for p in sorted(asks, key=Decimal, reverse=True)],
        )

    def hash(self, asset: str = YES) -> str:
        """Section 2.1 of the venue notes."""
        bids, asks = self.levels(asset)
        text = json.dumps(
            {
                "market": MARKET,
                "asset_id": asset,
                "timestamp": str(self.ts),
                "hash": "",
                "bids": bids,
                "asks": asks,
                "min_order_size": self.min_size,
                "tick_size": self.tick,
                "neg_risk": self.neg_risk,
                "last_trade_price": self.last,
            },
            separators=(",", ":"),
        )
        return hashlib.sha1(text.encode()).hexdigest()

    def book(self, asset: str = YES, *, first: bool = True) -> dict[str, Any]:
        """A `book` item; the facts come in the first one only."""
        bids, asks = self.levels(asset)
        item: dict[str, Any] = {
            "market": MARKET,
            "asset_id": asset,
            "timestamp": str(self.ts),
            "hash": self.hash(asset),
            "bids": bids,
            "asks": asks,
        }
        if first:
            item["tick_size"] = self.tick
            item["last_trade_price"] = self.last
        item["event_type"] = "book"
        return item

    def best(self, asset: str) -> tuple[str, str]:
        """Reported best bid and ask."""
        bids, asks = self.sides(asset)
        return max(bids, key=Decimal, default="0"), min(asks, key=Decimal, default="1")

    def apply(self, *changes: tuple[str, str, str]) -> None:
        """(side, price, size) in YES coordinates: one engine transaction in a later millisecond."""
        self.ts += 10
        for side, price, size in changes:
            ladder = self.bids if side == "BUY" else self.asks
            if size == "0":
                ladder.pop(price, None)
            else:
                ladder[price] = size

    def change(self, *changes: tuple[str, str, str]) -> dict[str, Any]:
        """A `price_change` item that reports the state as it stands now, both tokens in it."""
        elements = []
        for side, price, size in changes:
            flipped = "SELL" if side == "BUY" else "BUY"
            for asset, own_side, own_price in ((YES, side, price), (NO, flipped, mirror(price))):
                bid, ask = self.best(asset)
                elements.append(
                    {
                        "asset_id": asset,
                        "price": own_price,
                        "size": size,
                        "side": own_side,
                        "hash": self.hash(asset),
                        "best_bid": bid,
                        "best_ask": ask,
                    }
                )
        return {
            "market": MARKET,
            "price_changes": elements,
            "timestamp": str(self.ts),
            "event_type": "price_change",
        }

    def move(self, *changes: tuple[str, str, str]) -> dict[str, Any]:
        """`apply` and its one message."""
        self.apply(*changes)
        return self.change(*changes)

    def trade(self, price: str, size: str = "2.46", asset: str = YES) -> dict[str, Any]:
        """A `last_trade_price` item of now."""
        return {
            "market": MARKET,
            "asset_id": asset,
            "price": price,
            "size": size,
            "fee_rate_bps": "0",
            "side": "SELL",
            "timestamp": str(self.ts),
            "event_type": "last_trade_price",
            "transaction_hash": "0x6c83",
        }

    def truth(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The YES book, best first, shortest text."""

        def short(text: str) -> str:
            return format(Decimal(text).normalize(), "f")

        return (
            [(short(p), short(self.bids[p])) for p in sorted(self.bids, key=Decimal, reverse=True)],
            [(short(p), short(self.asks[p])) for p in sorted(self.asks, key=Decimal)],
        )


def raw(item: object) -> bytes:
    """As it comes from the socket."""
    return json.dumps(item, separators=(",", ":")).encode()
