"""Polymarket's books after a new subscription on the same connection: which of them answers it."""

from __future__ import annotations

from venues.poly import MARKET, YES, Book, raw
from venues.shown import Shown
from wup.model import Instrument
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings

BIDS = {"0.29": "100", "0.301": "20", "0.311": "10"}
ASKS = {"0.397": "50", "0.999": "3807858"}
FACTS = {"min_order_size": "5", "neg_risk": "true", "tick": "0.001"}


def reader() -> Shown:
    return Shown(PolymarketNormaliser({}, {YES: Instrument("polymarket", YES, MARKET, FACTS)}))


def test_a_book_of_the_old_subscription_does_not_answer_a_repair() -> None:
    """Between unsubscribe and the first book of the new subscription changes are not sent: a book that was
    on its way before, without the facts of a first one, is not shown."""
    book = Book(BIDS, ASKS)
    shown = reader()
    shown.frame(raw([book.book()]))
    resubscribed(shown)
    shown.frame(raw(book.book(first=False)))
    assert shown.state[YES] == "resync"
    book.apply(("BUY", "0.2", "8"))
    shown.frame(raw([book.book()]))
    assert (shown.state[YES], shown.book(YES)) == ("live", book.truth())


def resubscribed(shown: Shown) -> None:
    session = PolymarketSession(PolymarketSettings())
    session.opened([YES])
    for text in session.repair([YES]):
        shown.sent(text.encode())


def test_a_book_of_the_old_subscription_is_told_by_time_where_no_first_book_came() -> None:
    """On a connection without any first book, one that comes right after a new subscription may be of the
    old one and is not shown; a later one is."""
    book = Book(BIDS, ASKS)
    shown = reader()
    shown.frame(raw(book.book(first=False)))
    resubscribed(shown)
    shown.frame(raw(book.book(first=False)))
    assert shown.state[YES] == "resync"
    shown.now_us += 2_000_000
    book.apply(("BUY", "0.2", "8"))
    shown.frame(raw(book.book(first=False)))
    assert (shown.state[YES], shown.book(YES)) == ("live", book.truth())


def test_when_first_books_carry_no_facts_any_book_answers_a_repair() -> None:
    """Should the venue stop to send the tick with first books, repairs work all the same from the fourth
    on."""
    book = Book(BIDS, ASKS)
    shown = reader()
    shown.frame(raw(book.book(first=False)))
    for _ in range(3):
        resubscribed(shown)
        shown.frame(raw(book.book(first=False)))
        assert shown.state[YES] == "resync"
    resubscribed(shown)
    shown.frame(raw(book.book(first=False)))
    assert shown.state[YES] == "live"


def test_a_book_without_the_facts_is_shown_and_a_first_one_asked_for_once() -> None:
    """When the first book was lost, one after a trade is the venue's word too; but nothing could be proven
    from then on, so a first book is asked for."""
    book = Book(BIDS, ASKS)
    shown = reader()
    shown.frame(raw(book.book(first=False)))
    assert shown.state[YES] == "live"
    assert [(repair.assets, repair.why) for repair in shown.repairs] == [((YES,), "no_first_book")]
    book.apply(("BUY", "0.2", "8"))
    shown.frame(raw(book.book(first=False)))
    assert len(shown.repairs) == 1
