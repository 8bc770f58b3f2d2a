"""Polymarket's books under transactions, late trades, losses and bad input."""

from __future__ import annotations

import pytest

from venues.poly import MARKET, NO, YES, Book, raw
from venues.shown import Shown
from wup.model import Instrument
from wup.venues.base import BookChanged, RepairWanted
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings

BIDS = {"0.29": "100", "0.301": "20", "0.311": "10"}
ASKS = {"0.397": "50", "0.999": "3807858"}
FACTS = {"min_order_size": "5", "neg_risk": "true", "tick": "0.001"}
OTHER = "7" * 77
OTHER_MARKET = "0x" + "cd" * 32


def reader(*assets: str, **opened: object) -> Shown:
    markets = {YES: MARKET, NO: MARKET, OTHER: OTHER_MARKET}
    instruments = {
        asset: Instrument("polymarket", asset, markets[asset], FACTS) for asset in assets or (YES,)
    }
    return Shown(PolymarketNormaliser(opened, instruments))


def started(book: Book, *assets: str, **opened: object) -> Shown:
    shown = reader(*assets, **opened)
    shown.frame(raw([book.book()]))
    assert shown.state == {YES: "live"}
    return shown


def plain_book(asset: str, market: str) -> dict[str, object]:
    """A book whose hash cannot be proven."""
    return {
        "market": market,
        "asset_id": asset,
        "timestamp": "1790658827000",
        "hash": "0" * 40,
        "bids": [{"price": "0.4", "size": "5"}],
        "asks": [{"price": "0.6", "size": "5"}],
        "event_type": "book",
    }


def plain_change(
    price: str, size: str, side: str, bid: str, ask: str, ts: int = 1_790_658_828_000, asset: str = OTHER
) -> bytes:
    return raw(
        {
            "market": OTHER_MARKET,
            "price_changes": [
                {
                    "asset_id": asset,
                    "price": price,
                    "size": size,
                    "side": side,
                    "hash": "1" * 40,
                    "best_bid": bid,
                    "best_ask": ask,
                }
            ],
            "timestamp": str(ts),
            "event_type": "price_change",
        }
    )


def test_a_trade_is_proven_by_the_price_that_it_swept() -> None:
    """The last trade's price is in the hash before its own message comes: the swept price explains it."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "0"))
    book.last = "0.311"
    (update,) = shown.frame(raw(book.change(("BUY", "0.311", "0"))))
    assert isinstance(update, BookChanged)
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 0}


def test_a_trade_of_the_other_token_is_proven_by_the_mirrored_price() -> None:
    """The price in the hash is the raw one of the match, which may have been quoted on the other token."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "4"))
    book.last = "0.689"
    assert len(shown.frame(raw(book.change(("BUY", "0.311", "4"))))) == 1
    book.last = "0.690"
    assert len(shown.frame(raw(book.move(("BUY", "0.311", "0"))))) == 0, "0.690 is a price that it knows not"


def test_half_of_a_transaction_is_never_shown_though_the_top_fits() -> None:
    """Two levels change and the first message already leaves the final best prices: only the hash tells
    that a second one follows."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    changes = (("BUY", "0.311", "0"), ("BUY", "0.301", "3"))
    book.apply(*changes)
    book.last = "0.301"
    assert shown.frame(raw(book.change(changes[0]))) == []
    assert shown.normaliser.book(YES) is None, "a snapshot asked for now must wait"
    assert len(shown.frame(raw(book.change(changes[1])))) == 1
    assert shown.book(YES) == book.truth()


def test_a_late_trade_explains_its_book() -> None:
    """A book after a trade may wait for the trade's message; within two seconds all is proven."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "9"))
    book.last = "0.3105"
    shown.frame(raw(book.book(first=False)))
    assert shown.state[YES] == "live"
    shown.wait(0.088)
    shown.frame(raw(book.trade("0.3105")))
    shown.wait(5)
    assert shown.state[YES] == "live"
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 1}
    assert len(shown.frame(raw(book.move(("BUY", "0.2", "9"))))) == 1


def lagging(book: Book) -> dict[str, object]:
    """A first book after a trade, whose own `last_trade_price` is still the one before."""
    before, book.last = book.last, "0.3105"
    return {**book.book(), "last_trade_price": before}


def test_a_late_trade_explains_a_first_book_and_a_later_loss_is_found() -> None:
    """One first book that lags behind its trade does not switch the check off: the trade proves it, also
    one of an earlier time than the book, and a change lost inside the ladder is found by the next."""
    for earlier_ms in (0, 5):
        book = Book(BIDS, ASKS)
        shown = reader()
        shown.frame(raw([lagging(book)]))
        shown.wait(0.088)
        shown.frame(raw({**book.trade("0.3105"), "timestamp": str(book.ts - earlier_ms)}))
        assert shown.normaliser.checks == {"match": 1, "mismatch": 0, "unknown": 1}
        shown.wait(5)
        assert shown.state == {YES: "live"}
        book.apply(("BUY", "0.25", "9"))  # never arrives
        for size in range(4):
            shown.frame(raw(book.move(("BUY", "0.2", str(1 + size)))))
        assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")
        assert shown.repairs[-1].assets == (YES,)


@pytest.mark.parametrize("proven_before", [False, True])
def test_a_first_book_that_nothing_explains_is_a_loss_after_two_seconds(proven_before: bool) -> None:
    """Without the trade that explains it a first book is asked for again, and the next one is proven."""
    book = Book(BIDS, ASKS)
    shown = reader()
    if proven_before:
        shown.frame(raw([book.book()]))
        book.apply(("BUY", "0.2", "2"))
    shown.frame(raw([lagging(book)]))
    shown.wait(1.9)
    assert shown.state[YES] == "live"
    shown.wait(0.2)
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")
    assert shown.repairs[-1].assets == (YES,)
    shown.frame(raw([book.book()]))
    book.apply(("BUY", "0.25", "9"))  # never arrives
    for size in range(2):
        shown.frame(raw(book.move(("BUY", "0.2", str(4 + size)))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")


@pytest.mark.parametrize("proven_before", [False, True])
def test_further_books_do_not_put_off_the_end_of_the_wait(proven_before: bool) -> None:
    """Books that come one after the other, none of them proven, do not make the two seconds any longer: not
    at the start, and not in a market whose hashes were proven before a trade that was never told."""
    book = Book(BIDS, ASKS)
    shown = reader()
    if proven_before:
        shown.frame(raw([book.book()]))
        book.apply()
        book.last = "0.777"
        shown.frame(raw(book.book(first=False)))
        assert shown.normaliser.checks["match"] == 1
    else:
        shown.frame(raw([lagging(book)]))
    for _ in range(3):
        shown.wait(0.8)
        book.apply()
        shown.frame(raw(book.book(first=False)))
    assert shown.why[YES] == "hash_mismatch"


@pytest.mark.parametrize("facts", [True, False])
def test_an_unknown_recipe_ends_live_by_the_best_prices_and_is_told_once(facts: bool) -> None:
    """Three fresh books in a row that nothing proves: their market's hash is of a recipe that we do not
    know, or lacks its facts. No mismatch means anything, nothing is asked for in a circle, the reported best
    prices gate; and a book that is proven after all brings the check back."""
    book = Book(BIDS, ASKS)
    session = PolymarketSession(PolymarketSettings())
    shown = reader()
    for text in session.opened([YES]):
        shown.sent(text.encode())

    def answer() -> None:
        shown.frame(raw([{**book.book(first=facts), "hash": f"{book.ts:040d}"}]))
        book.apply()

    answer()
    answered = 0
    for _ in range(100):
        asked = [item for item in shown.wait(0.5) if isinstance(item, RepairWanted)]
        for repair in asked:
            for text in session.repair(repair.assets):
                shown.sent(text.encode())
            answer()
            answered += 1
    # Without the facts three answers are taken for books of the old subscription.
    assert (answered, shown.state[YES]) == (2 if facts else 5, "live")
    assert shown.bad == ["hash_unprovable"]
    change = book.move(("BUY", "0.2", "8"))
    change["price_changes"][0]["hash"] = "1" * 40
    assert len(shown.frame(raw(change))) == 1
    assert shown.normaliser.checks == {"match": 0, "mismatch": 2, "unknown": 4}
    answer()
    shown.wait(5)
    assert (shown.state[YES], shown.bad) == ("live", ["hash_unprovable"])
    shown.frame(raw([book.book()]))
    assert shown.normaliser.checks["match"] == 1
    book.apply(("BUY", "0.25", "9"))  # never arrives
    for size in range(2):
        shown.frame(raw(book.move(("BUY", "0.2", str(1 + size)))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")


def test_a_mismatch_that_nothing_explains_is_a_loss_after_two_seconds() -> None:
    """No trade comes that would explain the hash: the leg goes to resync and a book is asked for."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "9"))
    book.last = "0.3105"
    shown.frame(raw(book.book(first=False)))
    shown.wait(1.9)
    assert shown.state[YES] == "live"
    shown.wait(0.2)
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")
    assert shown.repairs[-1].assets == (YES,)


def test_a_change_that_nothing_explains_is_a_loss_at_the_next_timestamp() -> None:
    """A trade's price is among those that it swept. A hash that none of them explains is a loss, also at the
    top of the book: it is not shown, and the next transaction ends the wait."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "4"))
    book.last = "0.3105"
    assert shown.frame(raw(book.change(("BUY", "0.311", "4")))) == []
    shown.frame(raw(book.move(("BUY", "0.2", "8"))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")


def test_a_trade_message_in_time_explains_its_change() -> None:
    """The price that was not among the swept ones comes with the trade's message, before the next
    transaction: the change is proven and shown."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "4"))
    book.last = "0.3105"
    shown.frame(raw(book.change(("BUY", "0.311", "4"))))
    shown.frame(raw(book.trade("0.3105")))
    assert shown.book(YES) == book.truth()
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 0}


def test_while_a_trade_is_awaited_the_best_prices_gate() -> None:
    """After a book whose trade is still to come no hash can match: changes are shown by the best prices,
    and the trade's message proves all of them at once."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.311", "9"))
    book.last = "0.3105"
    shown.frame(raw(book.book(first=False)))
    trade = book.trade("0.3105")
    assert len(shown.frame(raw(book.move(("BUY", "0.2", "8"))))) == 1
    assert shown.normaliser.checks["unknown"] == 2
    shown.frame(raw(trade))
    shown.wait(5)
    assert (shown.state[YES], shown.book(YES)) == ("live", book.truth())
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 2}


def test_a_sweep_of_many_levels_is_proven_by_the_last_one() -> None:
    """The market's last trade is the last level of the sweep, however many it met."""
    bids = {f"0.{300 + number}": "5" for number in range(40)}
    book = Book(bids, ASKS)
    shown = started(book)
    sweep = [("BUY", f"0.{339 - number}", "0") for number in range(30)]
    book.apply(*sweep)
    book.last = "0.310"
    for change in sweep:
        shown.frame(raw(book.change(change)))
    assert shown.book(YES) == book.truth()
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 0}


def test_a_book_that_lacks_a_change_already_seen_is_not_shown() -> None:
    """A change came before the first book and is later than it: that book is not the present one."""
    book = Book(BIDS, ASKS)
    shown = reader()
    late = book.book()
    shown.frame(raw(book.move(("BUY", "0.2", "8"))))
    shown.frame(raw([late]))
    assert (shown.state, shown.bad) == ({}, ["older"])
    assert shown.repairs[-1].assets == (YES,)


def test_a_lost_change_away_from_the_top_is_a_loss_at_the_next_timestamp() -> None:
    """A change that cannot be a trade has no excuse: the next transaction shows that one is missing."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply(("BUY", "0.25", "9"))  # never arrives
    shown.frame(raw(book.move(("BUY", "0.2", "3"))))
    shown.frame(raw(book.move(("BUY", "0.2", "4"))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")


def test_a_late_trade_message_does_not_take_its_price_back() -> None:
    """A trade's message that comes after a later transaction was proven changes nothing."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    old = book.trade("0.29")
    book.apply(("BUY", "0.311", "4"))
    book.last = "0.311"
    shown.frame(raw(book.change(("BUY", "0.311", "4"))))
    shown.frame(raw(old))
    shown.frame(raw(book.move(("BUY", "0.2", "8"))))
    assert shown.book(YES) == book.truth()
    assert shown.normaliser.checks["mismatch"] == 0


def test_a_change_of_tick_is_followed_with_and_without_notice() -> None:
    """The tick goes into the hash; a notice sets it, and without one the known ticks are tried."""
    book = Book(BIDS, ASKS, tick="0.01")
    shown = started(book)
    book.tick = "0.001"
    notice = {"event_type": "tick_size_change", "asset_id": YES, "market": MARKET, "new_tick_size": "0.001"}
    shown.frame(raw({**notice, "old_tick_size": "", "timestamp": str(book.ts)}))
    assert len(shown.frame(raw(book.move(("BUY", "0.305", "8"))))) == 1
    book.tick = "0.0001"
    assert shown.frame(raw(book.move(("BUY", "0.306", "8")))) == []
    assert len(shown.frame(raw(book.move(("BUY", "0.307", "8"))))) == 2
    assert shown.book(YES) == book.truth()


def test_a_late_notice_of_a_tick_takes_no_newer_one_back() -> None:
    """A tick holds from its date: a notice that arrives after a newer one is not news."""
    book = Book(BIDS, ASKS, tick="0.01")
    shown = started(book)
    book.tick = "0.001"
    notice = {"event_type": "tick_size_change", "asset_id": YES, "market": MARKET}
    shown.frame(raw({**notice, "new_tick_size": "0.001", "timestamp": str(book.ts)}))
    shown.frame(raw({**notice, "new_tick_size": "0.01", "timestamp": str(book.ts - 5)}))
    shown.frame(raw(book.move(("BUY", "0.2", "5"))))
    assert shown.book(YES) == book.truth()
    assert shown.normaliser.checks["match"] == 2


def test_a_repeated_change_says_nothing_new() -> None:
    """Sizes are absolute: the same message twice makes one update."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    frame = raw(book.move(("BUY", "0.2", "8")))
    assert len(shown.frame(frame)) == 1
    assert shown.frame(frame) == []


def test_an_older_change_is_not_let_through() -> None:
    """A change of an earlier time than the book's is dropped and counted."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    old = book.move(("BUY", "0.2", "8"))
    shown.frame(raw(book.move(("BUY", "0.21", "8"))))
    shown.frame(raw(old))
    assert shown.bad == ["older"]
    assert ("0.2", "8") not in shown.book(YES)[0]


def test_without_a_hash_the_reported_best_prices_gate() -> None:
    """Where the hash cannot tell, a change is shown when the local best is the reported best."""
    shown = reader(OTHER)
    shown.frame(raw(plain_book(OTHER, OTHER_MARKET)))
    assert shown.state[OTHER] == "live", "the venue's own book is shown, proven or not"
    assert len(shown.frame(plain_change("0.3", "1", "BUY", "0.4", "0.6"))) == 1
    assert shown.frame(plain_change("0.7", "9", "BUY", "0.7", "0.8")) == [], "the ask at 0.6 is still there"
    (update,) = shown.frame(plain_change("0.6", "0", "SELL", "0.7", "1"))
    assert isinstance(update, BookChanged)
    assert (list(update.bids), list(update.asks)) == ([("0.7", "9")], [("0.6", "0")])
    assert shown.normaliser.checks == {"match": 0, "mismatch": 0, "unknown": 3}


def test_best_prices_that_never_fit_are_a_loss() -> None:
    """250 ms, or the next timestamp, is the most that a transaction may stay open."""
    for late in (True, False):
        shown = reader(OTHER)
        shown.frame(raw(plain_book(OTHER, OTHER_MARKET)))
        shown.frame(plain_change("0.5", "1", "BUY", "0.45", "0.6"))
        if late:
            shown.wait(0.24)
            assert shown.state[OTHER] == "live"
            shown.wait(0.02)
        else:
            shown.frame(plain_change("0.3", "1", "BUY", "0.45", "0.6", ts=1_790_658_828_001))
        assert (shown.state[OTHER], shown.why[OTHER]) == ("resync", "gap")
        assert shown.normaliser.checks["mismatch"] == 0
        assert shown.normaliser.checks["best_mismatch"] == 1


@pytest.mark.parametrize("late", [False, True])
def test_hash_check_off_calls_a_loss_no_mismatch_of_a_hash(late: bool) -> None:
    """Where no hash is computed and best prices do not fit, the reason is `gap` and the verdict its own."""
    book = Book(BIDS, ASKS)
    shown = started(book, hash_check="off")
    book.apply(("BUY", "0.32", "1"))  # never arrives
    shown.frame(raw(book.move(("BUY", "0.2", "2"))))
    if late:
        shown.wait(0.3)
    else:
        shown.frame(raw(book.move(("BUY", "0.2", "3"))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "gap")
    assert shown.normaliser.checks == {"match": 0, "mismatch": 0, "unknown": 1, "best_mismatch": 1}


def test_hash_check_off_relies_on_the_best_prices() -> None:
    """With `HASH_CHECK=off` no hash is computed, and changes are shown by the best prices alone."""
    book = Book(BIDS, ASKS)
    shown = started(book, hash_check="off")
    book.apply(("BUY", "0.1", "1"))  # never arrives, and is not found
    assert len(shown.frame(raw(book.move(("BUY", "0.2", "2"))))) == 1
    assert shown.normaliser.checks["match"] == 0


def test_hash_check_sampled_finds_a_loss_within_sixteen_changes() -> None:
    """With `HASH_CHECK=sampled` one change in sixteen is verified."""
    book = Book(BIDS, ASKS)
    shown = started(book, hash_check="sampled")
    book.apply(("BUY", "0.1", "1"))  # never arrives
    for number in range(20):
        shown.frame(raw(book.move(("BUY", "0.2", str(2 + number)))))
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")


@pytest.mark.parametrize("cut", [60, 200, 420])
def test_an_unreadable_frame_makes_the_books_it_names_doubtful(cut: int) -> None:
    """A truncated change: its book leaves and is asked for, the stream goes on."""
    book = Book(BIDS, ASKS)
    shown = started(book, YES, OTHER)
    shown.frame(raw(plain_book(OTHER, OTHER_MARKET)))
    frame = raw(book.move(("BUY", "0.2", "8")))
    shown.frame(frame[:cut])
    assert shown.bad == ["bad_json"]
    assert shown.state[YES] == "resync"
    named = YES.encode() in frame[:cut]
    assert shown.state[OTHER] == ("live" if named else "resync")
    shown.frame(raw([book.book(), plain_book(OTHER, OTHER_MARKET)]))
    assert shown.state == {YES: "live", OTHER: "live"}
    assert shown.book(YES) == book.truth()


def test_a_level_that_does_not_fit_costs_one_book_only() -> None:
    """One element with seven decimals: that asset leaves, the other asset of the same frame is updated."""
    book = Book(BIDS, ASKS)
    shown = started(book, YES, OTHER)
    shown.frame(raw(plain_book(OTHER, OTHER_MARKET)))
    change = book.move(("BUY", "0.2", "8"))
    change["price_changes"][0]["price"] = "0.2000001"
    other = plain_change("0.3", "1", "BUY", "0.4", "0.6")
    shown.frame(b"[" + raw(change) + b"," + other + b"]")
    assert shown.bad == ["bad_level"]
    assert shown.state == {YES: "resync", OTHER: "live"}
    assert ("0.3", "1") in shown.book(OTHER)[0]


@pytest.mark.parametrize(
    "broken", [{"side": "HOLD"}, {"price": 0.2}, {"size": None}, {"asset_id": 5}, {"side": None}]
)
def test_a_field_that_cannot_be_read_makes_its_book_doubtful(broken: dict[str, object]) -> None:
    """A change without a readable side, price, size or asset is counted, and its book is not live."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    change = book.move(("BUY", "0.2", "8"))
    change["price_changes"][0].update(broken)
    shown.frame(raw(change))
    assert shown.bad == ["bad_field"]
    assert shown.state[YES] == "resync"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bids", None),
        ("bids", [{"price": "0.5"}]),
        ("asks", [["0.5", "1"]]),
        ("bids", [{"price": "1", "size": "2"}]),
    ],
)
def test_a_book_that_cannot_be_read_is_not_shown(path: str, value: object) -> None:
    """A book with a side, level or price that does not fit leaves its leg without a book, and it is asked
    for."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    book.apply()
    item = book.book()
    item[path] = value
    shown.frame(raw(item))
    assert len(shown.bad) == 1
    assert shown.state[YES] == "resync"
    assert shown.repairs[-1].assets == (YES,)


def test_a_crossed_book_is_not_shown() -> None:
    """One venue's own book never crosses."""
    shown = reader()
    shown.frame(raw(Book({"0.6": "1"}, {"0.5": "1"}).book()))
    assert shown.bad == ["crossed_book"]
    assert YES not in shown.state


def test_an_asset_that_nobody_follows_is_counted() -> None:
    """Books and changes of an unknown market are bad input and touch nothing."""
    shown = started(Book(BIDS, ASKS))
    shown.frame(raw(plain_book(OTHER, OTHER_MARKET)))
    shown.frame(plain_change("0.3", "1", "BUY", "0.4", "0.6"))
    assert shown.bad == ["unknown_asset", "unknown_asset"]
    assert shown.state == {YES: "live"}


def test_changes_before_the_first_book_are_dropped() -> None:
    """An asset is gated until its first book."""
    book = Book(BIDS, ASKS)
    shown = reader()
    assert shown.frame(raw(book.move(("BUY", "0.2", "8")))) == []
    shown.frame(raw(book.book()))
    assert shown.book(YES) == book.truth()
