"""Polymarket: which books a connection is asked for, given up for, and leaves."""

from __future__ import annotations

from venues.poly import MARKET, NO, YES, Book, raw
from venues.shown import Shown
from venues.test_polymarket_normalise import (
    ASKS,
    BIDS,
    FACTS,
    OTHER,
    OTHER_MARKET,
    plain_book,
    reader,
    started,
)
from wup.model import Instrument
from wup.venues.base import BookReplaced, RepairWanted
from wup.venues.following import MIRROR_OF, Discovering
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings


def asked(shown: Shown, session: PolymarketSession, seconds: int) -> list[tuple[int, str]]:
    """(second, reason) of each repair, which is carried out as the aggregator does."""
    found: list[tuple[int, str]] = []
    for second in range(1, seconds + 1):
        for output in shown.wait(1):
            if isinstance(output, RepairWanted):
                found.append((second, output.why))
                for text in session.repair(output.assets):
                    shown.sent(text.encode())
    return found


def test_a_connection_without_any_book_is_given_up() -> None:
    """Unsubscribe and subscribe is tried again; when no asset ever got a book the third reason is
    `unrepaired`, which asks for another connection."""
    session = PolymarketSession(PolymarketSettings())
    shown = reader()
    for text in session.opened([YES]):
        shown.sent(text.encode())
    assert asked(shown, session, 20) == [(8, "no_first_book"), (13, "no_first_book"), (18, "unrepaired")]


def test_whole_books_are_told_without_parsing() -> None:
    """Every followed asset of a frame with books, one or many in it; no change, trade or pong brings one."""
    session = PolymarketSession(PolymarketSettings())
    session.opened([YES, OTHER])
    book = Book(BIDS, ASKS)
    assert session.books_of(raw([book.book(), plain_book(OTHER, OTHER_MARKET)])) == {YES, OTHER}
    assert session.books_of(raw([book.book(NO)])) == set()
    assert session.books_of(raw(book.book())) == {YES}
    assert session.books_of(raw(book.move(("BUY", "0.2", "8")))) == set()
    assert session.books_of(raw(book.trade("0.2"))) == set()
    assert session.books_of(b"PONG") == set()
    assert session.books_of(raw(book.book())[:150]) == set()


def test_an_asset_that_the_venue_does_not_list_costs_no_connection() -> None:
    """Beside others that have their books it is asked for ever more rarely, and nothing is replaced."""
    session = PolymarketSession(PolymarketSettings())
    shown = reader(YES, OTHER)
    for text in session.opened([YES, OTHER]):
        shown.sent(text.encode())
    shown.frame(raw([Book(BIDS, ASKS).book()]))
    seconds = [8, 13, 18, 23, 33, 53, 93]
    assert asked(shown, session, 100) == [(second, "no_first_book") for second in seconds]
    assert shown.state == {YES: "live"}


def test_a_book_that_does_not_come_back_asks_for_another_connection() -> None:
    """An asset that had its book here and gets no other after three repairs: the connection is in doubt."""
    book = Book(BIDS, ASKS)
    session = PolymarketSession(PolymarketSettings())
    shown = reader(YES, OTHER)
    for text in session.opened([YES, OTHER]):
        shown.sent(text.encode())
    shown.frame(raw([book.book(), {**plain_book(OTHER, OTHER_MARKET), "hash": ""}]))
    shown.frame(raw(book.move(("BUY", "0.2", "8")))[:300])
    assert shown.state[YES] == "resync"
    assert asked(shown, session, 16) == [(5, "gap"), (10, "no_first_book"), (15, "unrepaired")]


def test_unsubscribing_takes_the_leg_away() -> None:
    """What we no longer ask for is not shown from this connection, whatever still arrives."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    session = PolymarketSession(PolymarketSettings())
    session.opened([YES])
    (text,) = session.want([])
    shown.sent(text.encode())
    assert shown.state[YES] == "resync"
    shown.frame(raw(book.move(("BUY", "0.2", "8"))))
    shown.frame(raw(book.book()))
    assert shown.state[YES] == "resync"
    assert list(shown.normaliser.assets()) == []


def test_a_closed_connection_takes_its_legs_down() -> None:
    """Books do not survive a connection."""
    shown = started(Book(BIDS, ASKS))
    shown.take(shown.normaliser.closed("disconnected"))
    assert (shown.state[YES], shown.why[YES]) == ("down", "disconnected")
    assert shown.normaliser.book(YES) is None


def test_a_mirror_token_is_verified_and_never_shown() -> None:
    """The second token of a market shows the same orders: its hashes are compared, nothing is put out."""
    book = Book(BIDS, ASKS)
    instruments = {
        YES: Instrument("polymarket", YES, MARKET, FACTS),
        NO: Instrument("polymarket", NO, MARKET, {**FACTS, MIRROR_OF: YES}),
    }
    shown = Shown(PolymarketNormaliser({}, instruments))
    shown.frame(raw([book.book(YES), book.book(NO)]))
    shown.frame(raw(book.move(("SELL", "0.35", "8"))))
    assert shown.normaliser.checks == {"match": 4, "mismatch": 0, "unknown": 0}
    assert shown.state == {YES: "live"}
    assert shown.book(YES) == book.truth()


def test_discovery_takes_in_what_has_a_book() -> None:
    """In replay of a log without a mapping each asset with a book is followed, with its market."""
    seen: list[Instrument] = []
    shown = Shown(PolymarketNormaliser({}, Discovering("polymarket", seen.append)))
    book = Book(BIDS, ASKS)
    outputs = shown.frame(raw([book.book(YES), book.book(NO)]))
    assert [type(output) for output in outputs] == [BookReplaced, BookReplaced]
    assert [(found.asset_id, found.market_id) for found in seen] == [(YES, MARKET), (NO, MARKET)]
