"""One sid of a Kalshi connection, and the errors that its commands can meet."""

from __future__ import annotations

from wup.sim.kalshi import frames

BOOK = "orderbook_delta"
CHANNELS = frozenset(
    {
        BOOK,
        "ticker",
        "trade",
        "fill",
        "market_positions",
        "market_lifecycle_v2",
        "multivariate_market_lifecycle",
        "communications",
        "order_group_updates",
        "user_orders",
        "cfbenchmarks_value",
        "cfbenchmarks_value_5hz",
        "pyth_value",
    }
)
SEQUENCED = frozenset({BOOK, "trade", "market_lifecycle_v2", "multivariate_market_lifecycle"})
NO_FILTER = frozenset({"market_lifecycle_v2", "multivariate_market_lifecycle"})


class Subscription:
    """One sid."""

    __slots__ = ("channel", "live", "open", "seq", "short_acks", "sid", "tickers", "yes_price")

    def __init__(
        self, sid: int, channel: str, tickers: list[str] | None, *, yes_price: bool, short: bool
    ) -> None:
        self.sid = sid
        self.channel = channel
        self.tickers: dict[str, None] | None = None if tickers is None else dict.fromkeys(tickers)
        """None: all markets."""
        self.live: set[str] = set()
        """Tickers whose first book was sent."""
        self.yes_price = yes_price
        self.short_acks = short
        self.seq = 0
        self.open = True

    def number(self) -> int:
        """The next number of this sid."""
        self.seq += 1
        return self.seq

    def numbered(self) -> int | None:
        """The next number where the channel has numbers, else None."""
        return self.number() if self.channel in SEQUENCED else None

    def covers(self, ticker: str) -> bool:
        """Is the market in this subscription?"""
        return self.open and (self.tickers is None or ticker in self.tickers)


class CommandError(Exception):
    """A command cannot be carried out; answered by an `error` frame."""

    def __init__(self, code: int, subscription: Subscription | None = None) -> None:
        super().__init__(frames.ERRORS[code])
        self.code = code
        self.subscription = subscription
