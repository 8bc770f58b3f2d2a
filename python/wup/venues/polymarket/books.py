"""The books of one connection: absolute sizes, transactions of several messages, and the hash as the proof.

The venue's points that this file obeys (venue doc section 0): 2 absolute sizes, 4 the hash as a sequence
number, 5 a transaction is shown when it is whole, 9 facts of the hash from several places; and section 6: one
token per market, the other is its mirror.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup._core import NumberError, VenueBook
from wup.venues.base import BadInput, BookChanged, BookReplaced, LegChanged, LegCheck, RepairWanted
from wup.venues.following import MIRROR_OF, Dropped, find, too_many
from wup.venues.polymarket.truth import Market, Token
from wup.venues.repairs import REPAIR_US, REPAIRS, Repairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wup.model import Instrument, Side
    from wup.venues.base import Output

FIRST_BOOK_US = 8_000_000
TRANSACTION_US = 250_000
DOUBT_US = 2_000_000
OLD_US = 2_000_000
"""After a new subscription no book of the old one is on its way for longer."""
UNTOLD = 3
"""Books without the facts right after a new subscription, until they are taken to be its answers."""
SAMPLED = 16
UNPROVABLE = 3
"""Fresh books of a token in a row that nothing proves, until its market's hashes are taken to be of a recipe
that we do not know. One alone proves nothing: its last trade's price may lag behind the trade."""


class PolymarketBooks:
    """Every token's book on one connection, and when something must have come.

    `hash_check`: `always`, `sampled` (whole books and one change in sixteen) or `off`.
    """

    def __init__(self, instruments: Mapping[str, Instrument], hash_check: str) -> None:
        self._instruments = instruments
        self._hash_check = hash_check
        self._always = hash_check == "always"
        self._tokens: dict[str, Token] = {}
        self._markets: dict[str, Market] = {}
        # Assets that we subscribed and that have sent nothing yet, with their deadline.
        self._expected: dict[str, int] = {}
        self._repairs = Repairs()
        self._dropped = Dropped()
        # Assets that we unsubscribed and subscribed again, with when: a book may still be one of the old
        # subscription.
        self._again: dict[str, int] = {}
        # Assets that we unsubscribed within a repair, with when to ask again.
        self._resumed: dict[str, int] = {}
        # First books of this connection carry the facts of the hash (point 9); others could not be told.
        self._facts_come = False
        # Books without them right after a new subscription, while none with them has come.
        self._untold = 0
        # Tokens with a deadline: the timer looks at these only.
        self._due: dict[str, Token] = {}
        # Verdicts by asset: a token is forgotten with its subscription, what was found is not.
        self._found: dict[str, LegCheck] = {}
        self._past = LegCheck("hash")

    @property
    def checks(self) -> Mapping[str, int]:
        """Verdicts about all tokens."""
        past = self._past
        match, mismatch, unknown, best = past.match, past.mismatch, past.unknown, past.best_mismatch
        # Summed each second over all tokens, so that a change need not count twice.
        for check in self._found.values():
            match += check.match
            mismatch += check.mismatch
            unknown += check.unknown
            best += check.best_mismatch
        total = {"match": match, "mismatch": mismatch, "unknown": unknown}
        return {**total, "best_mismatch": best} if best else total

    def check(self, asset_id: str) -> LegCheck | None:
        """Verdicts about one token."""
        return self._found.get(asset_id)

    def _forget(self, asset: str) -> Token | None:
        token = self._tokens.pop(asset, None)
        self._due.pop(asset, None)
        if token is not None:
            token.market.tokens.remove(token)
        if asset not in self._instruments:
            self._forget_for_good(asset, token)
        return token

    def _forget_for_good(self, asset: str, token: Token | None) -> None:
        """Of what is not followed any more nothing is kept but the counts: markets come and go."""
        if token is not None and not token.market.tokens:
            self._markets.pop(token.market.id, None)
        self._resumed.pop(asset, None)
        self._repairs.forget(asset)
        self._again.pop(asset, None)
        check = self._found.pop(asset, None)
        if check is not None:
            self._past.add(check)

    def _sweep(self) -> None:
        """Forget what left in another order: unsubscribed first and not followed any more later.

        Done when we send and not by the clock, so that a replay does the same.
        """
        kept = max(len(self._found), len(self._again), len(self._repairs), len(self._markets))
        if not too_many(kept, self._instruments):
            return
        for asset in {*self._found, *self._again, *self._repairs}:
            if asset not in self._instruments and asset not in self._tokens and asset not in self._expected:
                self._forget_for_good(asset, None)
        followed = {instrument.market_id for instrument in self._instruments.values()}
        for market in [one for one in self._markets.values() if not one.tokens and one.id not in followed]:
            del self._markets[market.id]

    def _doubt(self, assets: Iterable[str], why: str, now_us: int, out: list[Output]) -> None:
        """These books are no longer known: not shown until their next whole book, which is asked for."""
        asked: list[str] = []
        for asset in assets:
            token = self._tokens.get(asset)
            if token is None or token.closed:
                continue
            if token.shown:
                out.append(LegChanged(asset, "resync", why))
            token.lose(why)
            if not token.mirror:
                later_us = self._repairs.too_soon(asset, now_us)
                token.wait_due_us = later_us or now_us + REPAIR_US
                self._due[asset] = token
                if later_us is None:
                    asked.append(asset)
        if asked:
            out.append(RepairWanted(tuple(asked), why))

    def _token(self, asset: str, market_id: object, out: list[Output], *, adopt: bool) -> Token | None:
        """The token of a frame; None when it is not ours to follow."""
        token = self._tokens.get(asset)
        if token is not None:
            if asset in self._instruments:
                return token
            self._forget(asset)
        if asset in self._dropped:
            return None
        market_key = str(market_id)
        instruments = self._instruments
        instrument = find(instruments, asset, market_key) if adopt else instruments.get(asset)
        market = self._markets.get(market_key)
        if instrument is None:
            # The other token of a market that we follow is in every change: not news (section 6).
            if market is None and all(item.market_id != market_key for item in instruments.values()):
                out.append(BadInput("unknown_asset", asset, asset))
            return None
        if market is None:
            market = self._markets[market_key] = Market(market_key)
        token = Token(asset, market, mirror=MIRROR_OF in instrument.facts, check=self._found.get(asset))
        self._found[asset] = token.check
        market.tokens.append(token)
        self._tokens[asset] = token
        return token

    def _book(
        self,
        token: Token,
        book: VenueBook,
        item: Mapping[str, object],
        venue_us: int | None,
        now_us: int,
        out: list[Output],
    ) -> None:
        if token.closed:
            return
        first = bool(item.get("tick_size"))
        self._facts_come = self._facts_come or first
        again_us = self._again.get(token.id)
        if again_us is not None and not first and self._of_the_old(token, now_us - again_us):
            return
        self._again.pop(token.id, None)
        if token.valid and venue_us is not None and venue_us < token.venue_us:
            out.append(BadInput("older", f"book of {venue_us} after {token.venue_us}", token.id))
            return
        if not token.valid and venue_us is not None and venue_us < token.missed_us:
            out.append(BadInput("older", f"book of {venue_us} after {token.missed_us}", token.id))
            self._doubt([token.id], "gap", now_us, out)
            return
        sent = item.get("hash")
        expected = sent if isinstance(sent, str) and sent else None
        if (
            token.valid
            and token.verified
            and not token.open
            and expected is not None
            and expected == token.expected
        ):
            # The same state again, proven: what a trade sends after its changes.
            return
        token.book = book
        if book.crossed():
            out.append(BadInput("crossed_book", f"best bid {book.best('bid')}", token.id))
            self._doubt([token.id], "gap", now_us, out)
            return
        token.venue_us = venue_us or token.venue_us
        token.stamp = str(item.get("timestamp", ""))
        token.expected = expected
        token.best_bid = token.best_ask = None
        self._check_book(token, item, now_us, out)
        token.end()
        token.valid = True
        self._repairs.answered(token.id)
        token.wait_due_us = None
        self._expected.pop(token.id, None)
        self._set_due(token)
        if not token.mirror:
            out.append(BookReplaced(token.id, venue_us))
            if not (first or token.market.proven or token.market.asked):
                # The first book, which alone carries the facts of the hash, did not come: without it no
                # loss would ever show.
                token.market.asked = True
                out.append(RepairWanted((token.id,), "no_first_book"))

    def _of_the_old(self, token: Token, since_us: int) -> bool:
        """Whether a book `since_us` after a new subscription was sent before our unsubscribe arrived.

        Between it and the first book of the new subscription (point 9: the one with the tick) changes are
        not sent to us at all. Where first books with the tick have never come the time tells; and should
        the venue send none any more, the answers that come at once, again and again, are what it sends.
        """
        if self._facts_come:
            return self._repairs.attempts(token.id) < REPAIRS
        if since_us >= OLD_US or self._untold >= UNTOLD:
            return False
        self._untold += 1
        return True

    def _check_book(self, token: Token, item: Mapping[str, object], now_us: int, out: list[Output]) -> None:
        """Prove a whole book. It is shown either way, for it is the venue's own word; what the proof
        decides is whether later hashes mean anything."""
        market = token.market
        doubt_us, token.doubt_us = token.doubt_us, None
        tick, last = item.get("tick_size"), item.get("last_trade_price")
        if isinstance(tick, str) and tick:
            token.set_tick(tick, item.get("timestamp"))
        if isinstance(last, str) and last and token.venue_us >= market.last_us:
            market.last, market.last_us, market.last_known = last, token.venue_us, False
        token.verified = False
        if token.expected is None or self._hash_check == "off":
            token.check.say("unknown", now_us)
            return
        # The first book carries all that goes into the hash, and so must what answers a repair.
        fresh = bool(tick and last) or not token.valid
        if token.matches() or token.explain_trade():
            token.verified = True
        elif fresh or not market.proven:
            token.verified = token.find_facts(self._instruments[token.id], item)
        if token.verified:
            market.prove()
        elif fresh:
            self._unproven(token, out)
        token.check.say("match" if token.verified else "unknown", now_us)
        if not token.verified and not market.unprovable:
            # The trade that made this book may still be on its way. Further books that nothing proves do
            # not move the deadline: they could come for ever.
            token.doubt_us = now_us if doubt_us is None else doubt_us

    def _unproven(self, token: Token, out: list[Output]) -> None:
        """A fresh book that nothing proves: the price in it may lag behind a trade. When the next ones are
        no better the recipe is not the one we know, and the reported best prices decide.

        Counted with the frames and not by the clock, so that a replay comes to the same.
        """
        market = token.market
        failed = market.failed[token.id] = market.failed.get(token.id, 0) + 1
        if failed < UNPROVABLE or market.unprovable:
            return
        market.proven = False
        market.unprovable = True
        for other in market.tokens:
            other.doubt_us = None
            self._set_due(other)
        out.append(BadInput("hash_unprovable", market.id, token.id))

    def _too_early(self, token: Token | None, venue_us: int | None) -> None:
        """Changes before the first book say nothing but their time; the deadline asks for the book."""
        if token is not None and not token.closed:
            token.missed_us = max(token.missed_us, venue_us or 0)

    def _change(
        self,
        token: Token,
        levels: Sequence[tuple[Side, str, str]],
        stamp: str,
        venue_us: int | None,
        expected: str | None,
        best_bid: str | None,
        best_ask: str | None,
        now_us: int,
        out: list[Output],
    ) -> None:
        if not token.valid:
            self._too_early(token, venue_us)
            return
        if venue_us is not None:
            if venue_us < token.venue_us:
                out.append(BadInput("older", f"change of {venue_us} after {token.venue_us}", token.id))
                return
            if token.open and venue_us > token.venue_us:
                self._give_up(token, now_us, out)
                if not token.valid:
                    return
            token.venue_us = venue_us
        try:
            bids, asks, top = token.book.change(levels, best_bid, best_ask)
        except NumberError as error:
            out.append(BadInput("bad_level", str(error), token.id))
            self._doubt([token.id], "gap", now_us, out)
            return
        token.expected = expected or None
        token.stamp, token.best_bid, token.best_ask = stamp, best_bid, best_ask
        provable = (
            token.market.proven and token.expected is not None if self._always else self._provable(token)
        )
        whole = top is not False and not token.open and token.doubt_us is None
        if whole and (not provable or token.matches()):
            # Nearly every change: a transaction of one message, proven where it can be.
            if provable:
                check = token.check
                check.match += 1
                check.verdict = "match"
                check.at_us = now_us
            else:
                self._unchecked(token, now_us)
            token.verified = provable
            if (bids or asks) and not token.mirror:
                out.append(BookChanged(token.id, bids, asks, token.venue_us))
            return
        token.held.update((("bid", price), size) for price, size in bids)
        token.held.update((("ask", price), size) for price, size in asks)
        self._settle(token, top, provable, now_us, out)

    def _settle(self, token: Token, top: bool | None, provable: bool, now_us: int, out: list[Output]) -> None:
        """Show the transaction if it is whole, else wait for the rest of it."""
        if provable:
            if top is not False and (token.matches() or token.explain_trade()):
                token.check.say("match", now_us)
                token.verified = True
                token.doubt_us = None
                self._show(token, out)
                return
            # While a trade has not explained itself no hash of the market can match: the top decides.
            shown = top is not False and token.doubt_us is not None
        else:
            shown = top is not False
        if shown:
            self._unchecked(token, now_us)
            token.verified = False
            self._show(token, out)
            return
        if not token.open:
            token.open = True
            token.open_due_us = now_us + TRANSACTION_US
            self._due[token.id] = token

    def _unchecked(self, token: Token, now_us: int) -> None:
        """A change that no hash could prove; one that was not looked at takes back no verdict."""
        if self._hash_check == "sampled" and token.market.proven and token.expected is not None:
            token.check.unknown += 1
        else:
            token.check.say("unknown", now_us)

    def _provable(self, token: Token) -> bool:
        if not token.market.proven or token.expected is None:
            return False
        if self._hash_check == "sampled":
            token.checked += 1
            return token.open or token.doubt_us is not None or token.checked % SAMPLED == 0
        return self._always

    def _show(self, token: Token, out: list[Output]) -> None:
        if token.held and not token.mirror:
            bids = [(price, size) for (side, price), size in token.held.items() if side == "bid"]
            asks = [(price, size) for (side, price), size in token.held.items() if side == "ask"]
            out.append(BookChanged(token.id, bids, asks, token.venue_us))
        token.end()
        self._set_due(token)

    def _give_up(self, token: Token, now_us: int, out: list[Output]) -> None:
        """A newer transaction begins while this one has not become whole.

        A trade would have been explained by the prices that it swept; what remains is a change of tick
        without notice, or a loss.
        """
        if self._provable(token) and token.top_fits() is not False and token.explain_tick():
            token.check.say("match", now_us)
            self._show(token, out)
            return
        self._unwhole(token, now_us, out)

    def _unwhole(self, token: Token, now_us: int, out: list[Output]) -> None:
        """A transaction that never became whole, by its hash or else by the best prices."""
        if self._hash_check != "off" and token.market.proven and token.expected is not None:
            token.check.say("mismatch", now_us)
            self._doubt([token.id], "hash_mismatch", now_us, out)
        else:
            token.check.say("best_mismatch", now_us)
            self._doubt([token.id], "gap", now_us, out)

    def _explained(self, market: Market, price: str, now_us: int, out: list[Output]) -> None:
        """The trade that hashes were waiting for may have come, with `price`."""
        for token in market.tokens:
            doubted = token.doubt_us is not None
            instrument = self._instruments.get(token.id)
            if (
                instrument is None
                or not token.valid
                or not (token.open or doubted)
                or token.top_fits() is False
            ):
                continue
            if token.matches() or (doubted and token.explain(price, instrument)):
                token.check.say("match", now_us)
                token.verified = True
                token.doubt_us = None
                market.prove()
                self._show(token, out)

    def _set_due(self, token: Token) -> None:
        if token.wait_due_us is None and token.open_due_us is None and token.doubt_us is None:
            self._due.pop(token.id, None)
        else:
            self._due[token.id] = token

    def timer(self, now_us: int) -> list[Output]:
        """Missing books, unanswered repairs, transactions that never became whole, hashes unexplained."""
        out: list[Output] = []
        wanted: dict[str, list[str]] = {}
        for token in list(self._due.values()):
            if token.id not in self._instruments:
                self._forget(token.id)
            elif token.open_due_us is not None and token.open_due_us <= now_us:
                # Never shown by the clock: what a clock decides, replay must be told (wire.md section 6).
                self._unwhole(token, now_us, out)
            elif token.doubt_us is not None and token.doubt_us + DOUBT_US <= now_us:
                token.check.say("mismatch", now_us)
                self._doubt([token.id], "hash_mismatch", now_us, out)
            elif token.wait_due_us is not None and token.wait_due_us <= now_us:
                why, wait_us = self._repairs.ask(token.id, token.why, now_us)
                wanted.setdefault(why, []).append(token.id)
                token.wait_due_us = now_us + wait_us
        if self._expected:
            for asset, due_us in list(self._expected.items()):
                if asset not in self._instruments:
                    del self._expected[asset]
                elif due_us <= now_us:
                    why, wait_us = self._repairs.ask(asset, "no_first_book", now_us)
                    wanted.setdefault(why, []).append(asset)
                    self._expected[asset] = now_us + wait_us
        out.extend(RepairWanted(tuple(assets), why) for why, assets in wanted.items())
        return out

    def doubt(self, assets: Iterable[str], why: str, now_us: int) -> list[Output]:
        """Books that are wrong for a reason that no frame shows."""
        out: list[Output] = []
        self._doubt(assets, why, now_us, out)
        return out

    def closed(self, why: str) -> list[Output]:
        """The connection is gone, and with it every book."""
        out: list[Output] = [
            LegChanged(token.id, "down", why)
            for token in self._tokens.values()
            if not token.closed and not token.mirror
        ]
        for market in self._markets.values():
            # A cycle would keep every book until a collection, of which there are few (`cli.running`).
            market.tokens.clear()
        self._tokens.clear()
        self._markets.clear()
        self._due.clear()
        self._expected.clear()
        self._again.clear()
        return out

    def book(self, asset_id: str) -> VenueBook | None:
        """A book that is shown; None also in the middle of a transaction."""
        token = self._tokens.get(asset_id)
        if token is None or not token.shown or token.open:
            return None
        return token.book

    def assets(self) -> Iterable[str]:
        """Assets that this connection has, or waits for, books of."""
        shown = [asset for asset, token in self._tokens.items() if not token.mirror]
        return [*shown, *self._expected]
