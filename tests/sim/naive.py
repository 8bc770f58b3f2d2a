"""Plain readers of both venues' frames, written from the venue notes and nothing else.

They know nothing of `wup`: exact decimals, dicts, and the rules of the notes. What they end up with is
compared with what the simulators say is true.
"""

from __future__ import annotations

import base64
import hashlib
import json
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

Ladder = dict[Decimal, Decimal]


def shown(bids: Ladder, asks: Ladder) -> dict[str, list[list[str]]]:
    """A book as `/_sim` shows it: best first, shortest text."""

    def text(value: Decimal) -> str:
        plain = format(value, "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain

    return {
        "bids": [[text(p), text(bids[p])] for p in sorted(bids, reverse=True)],
        "asks": [[text(p), text(asks[p])] for p in sorted(asks)],
    }


def kalshi_headers(
    pem: bytes, key_id: str, stamp_ms: int, path: str, salt: int | None = None
) -> dict[str, str]:
    """The three headers of a signed request (section 1): salt 32 unless told."""
    key = serialization.load_pem_private_key(pem, None)
    length = padding.PSS.DIGEST_LENGTH if salt is None else salt
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=length)
    signature = key.sign(f"{stamp_ms}GET{path}".encode(), pss, hashes.SHA256())  # type: ignore[union-attr]
    return {
        "KALSHI-ACCESS-KEY": key_id,
        "KALSHI-ACCESS-TIMESTAMP": str(stamp_ms),
        "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
    }


class KalshiReader:
    """One connection: books of the `orderbook_delta` channel, and the numbers of every sid."""

    def __init__(self, *, yes_price: bool) -> None:
        self.yes_price = yes_price
        self.books: dict[str, tuple[Ladder, Ladder]] = {}
        self.times: dict[str, int] = {}
        self.seqs: dict[int, int] = {}
        self.gaps: list[tuple[int, int, int]] = []
        self.frames: list[dict[str, Any]] = []
        self.negative = 0
        self.history: dict[tuple[str, int], dict[str, list[list[str]]]] = {}

    def frame(self, text: str) -> dict[str, Any]:
        """Read one frame; every frame with sid and seq counts."""
        message: dict[str, Any] = json.loads(text)
        self.frames.append(message)
        if "sid" in message and "seq" in message:
            last = self.seqs.get(message["sid"], 0)
            if message["seq"] != last + 1:
                self.gaps.append((message["sid"], last, message["seq"]))
            self.seqs[message["sid"]] = message["seq"]
        body = message.get("msg", {})
        if message["type"] == "orderbook_snapshot":
            bids = {Decimal(p): Decimal(s) for p, s in body.get("yes_dollars_fp", [])}
            asks = {self._ask(p): Decimal(s) for p, s in body.get("no_dollars_fp", [])}
            self.books[body["market_ticker"]] = (bids, asks)
        elif message["type"] == "orderbook_delta":
            self._delta(body)
        return message

    def _ask(self, price: str) -> Decimal:
        return Decimal(price) if self.yes_price else 1 - Decimal(price)

    def _delta(self, body: dict[str, Any]) -> None:
        ticker = body["market_ticker"]
        bids, asks = self.books[ticker]
        ladder, price = (
            (bids, Decimal(body["price_dollars"]))
            if body["side"] == "yes"
            else (asks, self._ask(body["price_dollars"]))
        )
        size = ladder.get(price, Decimal(0)) + Decimal(body["delta_fp"])
        if size < 0:
            self.negative += 1
        if size > 0:
            ladder[price] = size
        else:
            ladder.pop(price, None)
        self.times[ticker] = body["ts_ms"]
        self.history[ticker, body["ts_ms"]] = shown(bids, asks)


class PolymarketReader:
    """One connection to the market channel: the books of subscribed tokens, and their hashes recomputed."""

    def __init__(self, assets: set[str], facts: dict[str, tuple[str, bool]]) -> None:
        self.assets = assets
        self.facts = facts
        """Token -> (minimum order size, neg risk), from REST."""
        self.books: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.tick: dict[str, str] = {}
        self.last_trade: dict[str, str] = {}
        self.times: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.hashes_checked = 0
        self.hashes_wrong = 0
        self.crossed_inside = 0
        self.pending: dict[str, tuple[str, bool]] = {}
        self.history: dict[tuple[str, int], dict[str, list[list[str]]]] = {}

    def frame(self, text: str) -> None:
        """Read one frame: text notices, objects and arrays."""
        if text[:1] not in "[{":
            self.texts.append(text)
            return
        message = json.loads(text)
        for event in message if isinstance(message, list) else [message]:
            self.events.append(event)
            kind = event.get("event_type") or ("book" if "bids" in event else "")
            handler = getattr(self, f"_{kind}", None)
            if handler is not None:
                handler(event)

    def book(self, asset: str) -> dict[str, list[list[str]]]:
        """The book of a token as `/_sim` shows it."""
        bids, asks = self.books[asset]
        return shown(
            {Decimal(p): Decimal(s) for p, s in bids.items()},
            {Decimal(p): Decimal(s) for p, s in asks.items()},
        )

    def hash_of(self, asset: str, market: str, stamp: str) -> str:
        """Section 2.1: SHA-1 of the compact JSON of ten keys, levels worst first."""
        bids, asks = self.books[asset]
        minimum, neg_risk = self.facts[asset]
        body = {
            "market": market,
            "asset_id": asset,
            "timestamp": stamp,
            "hash": "",
            "bids": [{"price": p, "size": bids[p]} for p in sorted(bids, key=Decimal)],
            "asks": [{"price": p, "size": asks[p]} for p in sorted(asks, key=Decimal, reverse=True)],
            "min_order_size": minimum,
            "tick_size": self.tick[asset],
            "neg_risk": neg_risk,
            "last_trade_price": self.last_trade[market],
        }
        return hashlib.sha1(json.dumps(body, separators=(",", ":")).encode()).hexdigest()

    def _book(self, event: dict[str, Any]) -> None:
        asset, market = event["asset_id"], event["market"]
        assert [float(x["price"]) for x in event["bids"]] == sorted(float(x["price"]) for x in event["bids"])
        assert [-float(x["price"]) for x in event["asks"]] == sorted(
            -float(x["price"]) for x in event["asks"]
        )
        self.books[asset] = (
            {level["price"]: level["size"] for level in event["bids"]},
            {level["price"]: level["size"] for level in event["asks"]},
        )
        self.tick[asset] = event.get("tick_size", self.tick.get(asset, ""))
        first = "last_trade_price" in event
        if first:
            self.last_trade[market] = event["last_trade_price"]
        self.times[asset] = int(event["timestamp"])
        self.history[asset, int(event["timestamp"])] = self.book(asset)
        if first:
            self._check(asset, market, event["timestamp"], event["hash"])

    def _price_change(self, event: dict[str, Any]) -> None:
        for change in event["price_changes"]:
            asset = change["asset_id"]
            if asset not in self.assets:
                continue
            bids, asks = self.books[asset]
            side = bids if change["side"] == "BUY" else asks
            if change["size"] == "0":
                side.pop(change["price"], None)
            else:
                side[change["price"]] = change["size"]
            self.times[asset] = int(event["timestamp"])
            self.history[asset, int(event["timestamp"])] = self.book(asset)
            best_bid = max(map(Decimal, bids), default=Decimal(0))
            best_ask = min(map(Decimal, asks), default=Decimal(1))
            if best_bid >= best_ask:
                self.crossed_inside += 1
            top = (best_bid, best_ask) == (Decimal(change["best_bid"]), Decimal(change["best_ask"]))
            # Messages of one transaction share the hash of its end: the last of them must reproduce it.
            self._open(asset, event["timestamp"])
            own = self.hash_of(asset, event["market"], event["timestamp"])
            self.pending[asset] = (event["timestamp"], top and own == change["hash"])

    def settle(self) -> None:
        """No more frames: the transactions under way are over."""
        for asset in list(self.pending):
            self._open(asset, "")

    def _open(self, asset: str, stamp: str) -> None:
        before = self.pending.get(asset)
        if before is not None and before[0] != stamp:
            del self.pending[asset]
            self.hashes_checked += 1
            self.hashes_wrong += not before[1]

    def _check(self, asset: str, market: str, stamp: str, wanted: str) -> None:
        self.hashes_checked += 1
        if self.hash_of(asset, market, stamp) != wanted:
            self.hashes_wrong += 1

    def _last_trade_price(self, event: dict[str, Any]) -> None:
        self.last_trade[event["market"]] = event["price"]

    def _tick_size_change(self, event: dict[str, Any]) -> None:
        self.tick[event["asset_id"]] = event["new_tick_size"]
