"""What is known about one token and its market, and the book hash that proves it (venue doc section 2).

The hash stands in for the sequence number that the venue does not send: SHA-1 over the whole book, its
time stamp and four facts. Three of the facts do not come with changes, and the fourth, the market's last
trade price, may reach us later than the book that already contains the trade. So a match proves the book,
and a mismatch proves nothing until every value that the facts can have has been tried.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from wup._core import NumberError, VenueBook
from wup.venues.base import LegCheck
from wup.venues.numbers import complement, shortest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.model import Instrument, Side

MIN_SIZES = ("5", "1", "15", "10", "0")
TICKS = ("0.001", "0.01", "0.0001", "0.1", "0.005", "0.0025")
LAST_PRICES = 48
"""Forms of a transaction's prices that are tried as the market's last trade price."""


class Market:
    """One condition: facts that its tokens share."""

    __slots__ = (
        "asked",
        "failed",
        "id",
        "last",
        "last_known",
        "last_us",
        "min_size",
        "neg_risk",
        "proven",
        "tokens",
        "unprovable",
    )

    def __init__(self, market_id: str) -> None:
        self.id = market_id
        self.min_size: str | None = None
        self.neg_risk: bool | None = None
        self.last: str | None = None
        """The last trade's price as text; None: the form of the hash before late 2025, without it."""
        self.last_us = 0
        self.last_known = False
        """A hash has matched with `last`: of several trades in one millisecond it is the final one."""
        self.proven = False
        """A hash has matched with these facts: from here on a mismatch means something."""
        self.failed: dict[str, int] = {}
        """Per token: fresh books in a row that nothing proved."""
        self.unprovable = False
        """So many that the recipe of the hash is not the one we know: no mismatch means anything."""
        self.asked = False
        """A first book was asked for, because the one that came could not be proven."""
        self.tokens: list[Token] = []

    def prove(self) -> None:
        """A book of the market has its hash."""
        self.proven = True
        self.unprovable = False
        self.failed.clear()


class Token:
    """One token's book on this connection.

    `valid`: the book is what the venue's frames say. `open`: a transaction of which not every message may
    have come; its changes wait in `held` and are not shown. `doubt_us`: since when a whole book, which is
    the venue's word, has a hash that only a trade still to come can explain; without one it is lost.
    """

    __slots__ = (
        "best_ask",
        "best_bid",
        "book",
        "check",
        "checked",
        "closed",
        "doubt_us",
        "expected",
        "held",
        "id",
        "market",
        "mirror",
        "missed_us",
        "open",
        "open_due_us",
        "stamp",
        "tick",
        "tick_us",
        "valid",
        "venue_us",
        "verified",
        "wait_due_us",
        "why",
    )

    def __init__(self, asset_id: str, market: Market, *, mirror: bool, check: LegCheck | None = None) -> None:
        self.id = asset_id
        self.check = LegCheck("hash") if check is None else check
        self.market = market
        self.mirror = mirror
        self.book = VenueBook()
        self.valid = False
        self.closed = False
        self.verified = False
        self.tick: str | None = None
        self.tick_us = 0
        """Since when, by the venue's clock."""
        self.venue_us = 0
        self.missed_us = 0
        """Time of the latest change that came before the first book: an older book lacks it."""
        self.open = False
        self.held: dict[tuple[Side, str], str] = {}
        self.expected: str | None = None
        self.stamp = ""
        self.best_bid: str | None = None
        self.best_ask: str | None = None
        self.open_due_us: int | None = None
        self.doubt_us: int | None = None
        self.wait_due_us: int | None = None
        self.checked = 0
        self.why = "no_first_book"

    def set_tick(self, tick: str, stamp: object) -> None:
        """A tick and since when: a notice that comes late takes no newer one back."""
        since_us = stamp_us(stamp)
        if since_us is not None:
            if since_us < self.tick_us:
                return
            self.tick_us = since_us
        self.tick = tick

    @property
    def shown(self) -> bool:
        return self.valid and not self.closed and not self.mirror

    def facts(self) -> dict[str, Any]:
        """The book in the venue's own text, which its hash is over, with the names that a whole book of the
        venue has for what else the hash is made of."""
        bids, asks = self.book.texts()
        market = self.market
        return {
            "bids": bids,
            "asks": asks,
            "market": market.id,
            "timestamp": self.stamp,
            "hash": self.expected,
            "tick_size": self.tick,
            "last_trade_price": market.last,
            "min_order_size": market.min_size,
            "neg_risk": market.neg_risk,
        }

    def end(self) -> None:
        """The transaction is over."""
        self.open = False
        self.held.clear()
        self.open_due_us = None

    def lose(self, why: str) -> None:
        """The book is no longer known."""
        self.end()
        self.valid = False
        self.verified = False
        self.doubt_us = None
        self.missed_us = 0
        self.why = why

    def top_fits(self) -> bool | None:
        """Is the local best what the venue reported for the state after the transaction? None: not said."""
        if self.best_bid is None or self.best_ask is None:
            return None
        try:
            return self.book.top_is(self.best_bid, self.best_ask)
        except NumberError:
            return None

    def matches(self) -> bool:
        """Does the book as it stands have the hash that was sent for it, with the facts as known?"""
        market = self.market
        min_size, tick, neg_risk = market.min_size, self.tick, market.neg_risk
        if self.expected is None or tick is None or min_size is None or neg_risk is None:
            return False
        found = self.book.polymarket_hash(
            market.id, self.id, self.stamp, min_size, tick, neg_risk, market.last
        )
        if found != self.expected:
            return False
        if self.venue_us > market.last_us:
            market.last_us = self.venue_us
        market.last_known = True
        return True

    def has_hash(self) -> bool:
        """`matches`, for who only looks: nothing is learnt from it."""
        market = self.market
        min_size, tick, neg_risk = market.min_size, self.tick, market.neg_risk
        if self.expected is None or tick is None or min_size is None or neg_risk is None:
            return False
        found = self.book.polymarket_hash(
            market.id, self.id, self.stamp, min_size, tick, neg_risk, market.last
        )
        return found == self.expected

    def explain_trade(self) -> bool:
        """Try the prices that this transaction swept as the market's last trade price."""
        market = self.market
        if self.tick is None or market.min_size is None or market.neg_risk is None or market.last is None:
            return False
        # A sweep ends with the price that was matched last.
        for price in _last_prices((price for _, price in reversed(self.held)), self.tick):
            if self._try(market.min_size, self.tick, market.neg_risk, price):
                return True
        return False

    def explain_tick(self) -> bool:
        """Try the other tick sizes: near the ends the tick changes, and never with a notice back."""
        market = self.market
        if self.tick is None or market.min_size is None or market.neg_risk is None:
            return False
        min_size, neg_risk, last = market.min_size, market.neg_risk, market.last
        return any(self._try(min_size, tick, neg_risk, last) for tick in TICKS)

    def find_facts(self, instrument: Instrument, item: Mapping[str, object]) -> bool:
        """Find the facts with which a whole book has its hash: what the venue and the catalogue say
        first, then the few values that there are."""
        facts, market = instrument.facts, self.market
        said_neg = {"true": True, "false": False}.get(facts.get("neg_risk", "").lower())
        if isinstance(item.get("neg_risk"), bool):
            said_neg = bool(item["neg_risk"])
        min_sizes = _first(item.get("min_order_size"), market.min_size, facts.get("min_order_size"))
        ticks = _first(item.get("tick_size"), self.tick, facts.get("tick"))
        lasts = _first(item.get("last_trade_price"), market.last)
        negs = [said_neg, not said_neg] if said_neg is not None else [False, True]
        for min_size, tick, neg, last in product(
            [*min_sizes, *(size for size in MIN_SIZES if size not in min_sizes)],
            [*ticks, *(tick for tick in TICKS if tick not in ticks)],
            negs,
            [*lasts, None],
        ):
            if self._try(min_size, tick, neg, last):
                return True
        return False

    def explain(self, price: str, instrument: Instrument) -> bool:
        """Does the price of a trade that came late explain the hash?"""
        market = self.market
        if self.tick is None or market.min_size is None or market.neg_risk is None:
            return self.expected is not None and self.find_facts(instrument, {"last_trade_price": price})
        return self._try(market.min_size, self.tick, market.neg_risk, price)

    def _try(self, min_size: str, tick: str, neg_risk: bool, last: str | None) -> bool:
        """Does the book have its hash with these facts? If so they are the facts."""
        market = self.market
        found = self.book.polymarket_hash(market.id, self.id, self.stamp, min_size, tick, neg_risk, last)
        if found != self.expected:
            return False
        if tick != self.tick:
            self.tick, self.tick_us = tick, self.venue_us
        market.min_size, market.neg_risk, market.last = min_size, neg_risk, last
        market.last_us = max(market.last_us, self.venue_us)
        market.last_known = True
        return True


def stamp_us(stamp: object) -> int | None:
    """The engine's time from its text of milliseconds; None when it is none."""
    if isinstance(stamp, str) and stamp.isascii() and stamp.isdigit() and len(stamp) <= 15:
        return int(stamp) * 1000
    return None


def _first(*values: object) -> list[str]:
    """The texts among `values`, each once, in order."""
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _last_prices(prices: Iterable[str], tick: str) -> list[str]:
    """Forms that the last trade's price may have: of either token, shortest or with the tick's decimals."""
    forms: dict[str, None] = {}
    decimals = len(tick.partition(".")[2])
    for price in prices:
        try:
            both = (price, complement(price))
        except NumberError:
            continue
        for form in both:
            short = shortest(form)
            whole, _, part = short.partition(".")
            forms[short] = None
            forms[f"{whole}.{part.ljust(decimals, '0')}"] = None
        if len(forms) >= LAST_PRICES:
            break
    return list(forms)
