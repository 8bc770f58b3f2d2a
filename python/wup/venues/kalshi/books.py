"""The books of one connection: whole ones, signed increments to absolute sizes, and doubt.

The venue's rules that this file obeys (venue doc section 0): 4 increments, 6 the price mode, 7 absent sides,
13 deltas before the snapshot, 14 a snapshot always replaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wup._core import NegativeSize, NumberError, VenueBook
from wup.venues.base import BadInput, BookChanged, BookReplaced, LegChanged, RepairWanted, StatusTold
from wup.venues.following import Dropped, find, too_many
from wup.venues.numbers import complement
from wup.venues.repairs import REPAIR_US, Repairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.model import Instrument, Side, State
    from wup.venues.base import Output

FIRST_BOOK_US = 5_000_000
EARLY_DELTA_US = 3_000_000
"""A delta without a snapshot: the snapshot is asked for when it does not follow within this time."""
CROSSED_US = 250_000


class Market:
    """One market's book on this connection.

    `valid`: the content is what the venue's frames say; a halt is no matter of the book. `held` are changes
    not yet shown because the book is crossed: one transaction in parts.
    """

    __slots__ = ("book", "closed", "due_us", "held", "sid", "valid", "why")

    def __init__(self) -> None:
        self.book = VenueBook()
        self.valid = False
        self.closed = False
        self.sid: int | None = None
        self.held: dict[tuple[str, str], str] = {}
        self.due_us: int | None = None
        self.why = "no_first_book"

    @property
    def shown(self) -> bool:
        return self.valid and not self.closed


class KalshiBooks:
    """Every market's book on one connection, and when something must have come."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = instruments
        self._markets: dict[str, Market] = {}
        self._dropped = Dropped()
        self._repairs = Repairs()
        # Markets with a deadline: the timer looks at these only.
        self._due: dict[str, Market] = {}
        # A whole book came that makes sense in the other price mode only (rule 6).
        self._misread = False

    def _expect(self, tickers: Iterable[str], now_us: int) -> None:
        for ticker in tickers:
            self._dropped.discard(ticker)
            market = self._markets.get(ticker)
            if market is None:
                market = self._markets[ticker] = Market()
            if not market.valid and market.due_us is None:
                self._wait(ticker, market, now_us + FIRST_BOOK_US)

    def _sweep(self) -> None:
        """Forget what left in another order: unsubscribed first and not followed any more later."""
        if too_many(len(self._repairs), self._instruments):
            for ticker in self._repairs:
                if ticker not in self._instruments and ticker not in self._markets:
                    self._repairs.forget(ticker)

    def _wait(self, ticker: str, market: Market, due_us: int) -> None:
        market.due_us = due_us
        self._due[ticker] = market

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

    def _market(self, ticker: str, out: list[Output]) -> Market | None:
        """The market of a book frame; None when it is not ours to show."""
        if ticker in self._dropped:
            return None
        if find(self._instruments, ticker, ticker) is None:
            self._markets.pop(ticker, None)
            self._due.pop(ticker, None)
            self._repairs.forget(ticker)
            out.append(BadInput("unknown_asset", ticker, ticker))
            return None
        market = self._markets.get(ticker)
        if market is None:
            market = self._markets[ticker] = Market()
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
            size, crossed = market.book.add(side, price, delta)
        except NegativeSize as error:
            out.append(BadInput("negative_size", str(error), ticker))
            self._doubt((ticker,), "gap", now_us, out)
            return
        except NumberError as error:
            out.append(BadInput("bad_level", str(error), ticker))
            self._doubt((ticker,), "gap", now_us, out)
            return
        # While trading is paused orders can be cancelled, never placed (section 5).
        placed = delta[0] != "-" and (delta[0] != "0" or delta.strip("0.") != "")
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
            out.append(BookChanged(ticker, bids, asks, venue_us, placed))
        elif side == "bid":
            out.append(BookChanged(ticker, ((price, size),), (), venue_us, placed))
        else:
            out.append(BookChanged(ticker, (), ((price, size),), venue_us, placed))

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
        if book.crossed():
            # The venue's own book never crosses: the price mode is not the one we think it is, or worse.
            out.append(BadInput("crossed_snapshot", f"best bid {book.best('bid')}", ticker))
            self._misread = self._misread or _other_mode(book)
            self._doubt(self._of(sid) if self._misread else (ticker,), "gap", now_us, out)
            return
        if self._misread:
            if book.best("bid") is None or book.best("ask") is None:
                # One side alone cannot show in which mode it is meant.
                self._doubt((ticker,), "gap", now_us, out)
                return
            self._misread = False
        market.valid = True
        self._repairs.answered(ticker)
        market.due_us = None
        self._due.pop(ticker, None)
        out.append(BookReplaced(ticker, venue_us))

    def _life(self, event: State, out: list[Output]) -> None:
        """Lifecycle frames tell about every market of the venue, those included whose books come on another
        connection, which may be away just now; `settled` comes several times."""
        ticker = event.asset_id
        market = self._markets.get(ticker)
        if ticker not in self._instruments or (market is not None and market.closed):
            return
        if event.state == "closed":
            if market is not None:
                market.closed = True
                market.valid = False
                self._due.pop(ticker, None)
            out.append(StatusTold(ticker, "closed", event.why, event.result))
        else:
            status: Literal["open", "halted"] = "halted" if event.state == "halted" else "open"
            # Not the latest time of the books: it may be long before this frame's.
            out.append(StatusTold(ticker, status, event.why, venue_us=event.venue_us))

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

    def book(self, asset_id: str) -> VenueBook | None:
        """A book that is shown; None also in the middle of a transaction."""
        market = self._markets.get(asset_id)
        if market is None or not market.shown or market.held:
            return None
        return market.book

    def assets(self) -> Iterable[str]:
        """Markets that this connection has, or waits for, books of."""
        return self._markets.keys()


def _other_mode(book: VenueBook) -> bool:
    """Would this crossed book be one if its asks were meant in the other price mode?"""
    bids, asks = book.levels()
    turned = VenueBook()
    turned.replace(bids, [(complement(price), size) for price, size in asks])
    return not turned.crossed()
