"""The ten points of the venue notes that decide whether the adapter is right, each by name."""

from __future__ import annotations

import orjson
import pytest

from venues.poly import MARKET, NO, YES, Book, raw
from venues.shown import Shown
from wup.model import Absolute, Instrument, Snapshot
from wup.venues.base import BookChanged, BookReplaced
from wup.venues.polymarket.adapter import PolymarketAdapter
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings
from wup.venues.registry import VENUES

BIDS = {"0.29": "100", "0.301": "20", "0.311": "10"}
ASKS = {"0.397": "50", "0.999": "3807858"}
FACTS = {"min_order_size": "5", "neg_risk": "true", "tick": "0.001"}


def reader(facts: dict[str, str] | None = None, **opened: object) -> Shown:
    instruments = {YES: Instrument("polymarket", YES, MARKET, FACTS if facts is None else facts)}
    return Shown(PolymarketNormaliser(opened, instruments))


def started(book: Book) -> Shown:
    shown = reader()
    shown.frame(raw([book.book()]))
    assert shown.state == {YES: "live"}
    return shown


def test_point_01_a_change_names_both_tokens_and_only_ours_is_used() -> None:
    """Both tokens are in every change; the one that nobody follows changes nothing and is no bad input."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    frame = raw(book.move(("BUY", "0.312", "7")))
    assert [event.asset_id for event in PolymarketAdapter().parse_message(frame)] == [YES, NO]
    assert shown.frame(frame) == [
        BookChanged(YES, [("0.312", "7")], [], book.ts * 1000),
    ]
    assert shown.bad == []


def test_point_02_sizes_are_new_totals_and_zero_removes() -> None:
    """A change states the level's new size, never a difference."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    shown.frame(raw(book.move(("BUY", "0.29", "40"))))
    shown.frame(raw(book.move(("BUY", "0.301", "0"))))
    assert shown.book(YES) == book.truth()
    assert ("0.29", "40") in shown.book(YES)[0]


@pytest.mark.parametrize("best_first", [False, True])
def test_point_03_the_order_of_levels_does_not_matter(best_first: bool) -> None:
    """Arrays come worst price first, the prose says otherwise: the book is the same either way."""
    book = Book(BIDS, ASKS)
    item = book.book()
    if best_first:
        item["bids"].reverse()
        item["asks"].reverse()
    shown = reader()
    shown.frame(raw(item))
    assert shown.book(YES) == book.truth()
    assert shown.book(YES)[0][0] == ("0.311", "10")


def test_point_04_the_hash_is_the_sequence_number() -> None:
    """Every change's hash is compared; a change that never arrived is found by the next one."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    shown.frame(raw(book.move(("BUY", "0.2", "1"))))
    assert shown.normaliser.checks == {"match": 2, "mismatch": 0, "unknown": 0}
    book.apply(("BUY", "0.25", "9"))  # never arrives
    shown.frame(raw(book.move(("BUY", "0.2", "3"))))
    assert shown.book(YES)[0][-1] == ("0.2", "1"), "what is not proven is not shown"
    shown.wait(0.3)
    assert (shown.state[YES], shown.why[YES]) == ("resync", "hash_mismatch")
    assert shown.repairs[-1].assets == (YES,)
    shown.frame(raw([book.book()]))
    assert shown.state[YES] == "live"
    assert shown.book(YES) == book.truth()


def test_point_05_a_transaction_of_several_messages_is_one_update() -> None:
    """The sweep of section 2.3: nothing is shown until the book is the one that the hash is of."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    sweep = (("SELL", "0.301", "45.83"), ("BUY", "0.311", "0"), ("BUY", "0.301", "0"))
    book.apply(*sweep)
    book.last = "0.301"
    assert shown.frame(raw(book.change(sweep[0]))) == []
    assert shown.frame(raw(book.change(sweep[1]))) == []
    (update,) = shown.frame(raw(book.change(sweep[2])))
    assert isinstance(update, BookChanged)
    assert sorted(update.bids) == [("0.301", "0"), ("0.311", "0")]
    assert update.asks == [("0.301", "45.83")]
    assert shown.book(YES) == book.truth()
    # The book that follows has the same hash: nothing new, and no duplicate of it is shown.
    assert shown.frame(raw(book.book(first=False))) == []
    assert shown.normaliser.checks["mismatch"] == 0


def test_point_05_equal_hashes_are_not_duplicates() -> None:
    """All messages of a transaction carry the same hash, and each of them counts."""
    book = Book(BIDS, ASKS)
    shown = started(book)
    changes = (("BUY", "0.1", "1"), ("BUY", "0.11", "2"))
    book.apply(*changes)
    first, second = (book.change(change) for change in changes)
    assert first["price_changes"][0]["hash"] == second["price_changes"][0]["hash"]
    shown.frame(raw(first))
    shown.frame(raw(second))
    assert shown.book(YES) == book.truth()


def test_point_06_a_frame_is_an_object_an_array_or_text() -> None:
    """Objects, arrays of mixed types, `PONG` and other notices are all read; the type is anywhere."""
    book = Book(BIDS, ASKS)
    shown = reader()
    shown.frame(b"PONG")
    shown.frame(b"NO NEW ASSETS")
    assert shown.bad == []
    shown.frame(b"please slow down")
    assert shown.bad == ["unknown_text"]
    first = book.book()
    del first["event_type"]  # seen without a type as well
    change = book.move(("SELL", "0.396", "5"))
    shown.frame(raw([first, {"event_type": "news", "x": 1}, change, book.trade("0.3")]))
    assert shown.bad == ["unknown_text", "unknown_type"]
    assert shown.book(YES) == book.truth()
    assert [trade.price for trade in shown.trades] == ["0.3"]


def test_point_07_ping_every_ten_seconds_and_pong_proves_nothing() -> None:
    """The heartbeat is the text `PING`; an asset without a book is asked for in spite of every `PONG`."""
    session = PolymarketSession(PolymarketSettings())
    assert (session.heartbeat_s, session.heartbeat()) == (10.0, "PING")
    shown = reader()
    for text in session.opened([YES]):
        shown.sent(text.encode())
    for _ in range(11):
        shown.frame(b"PONG")
        shown.wait(1)
    assert [(repair.assets, repair.why) for repair in shown.repairs] == [((YES,), "no_first_book")]


def test_point_08_initial_dump_is_explicit_and_frames_are_small() -> None:
    """`initial_dump` is sent, no frame has more than 100 ids, and a connection takes at most 200 assets."""
    session = PolymarketSession(PolymarketSettings())
    assets = [str(10**70 + number) for number in range(250)]
    frames = [orjson.loads(text) for text in session.opened(assets)]
    assert frames[0] == {
        "assets_ids": assets[:100],
        "type": "market",
        "initial_dump": True,
        "level": 2,
        "custom_feature_enabled": True,
    }
    assert [frame.get("operation") for frame in frames] == [None, "subscribe", "subscribe"]
    assert [asset for frame in frames for asset in frame["assets_ids"]] == assets
    assert max(len(frame["assets_ids"]) for frame in frames) == 100
    assert VENUES["polymarket"].limits.assets_per_connection == 200


@pytest.mark.parametrize(
    ("facts", "neg_risk", "min_size", "tick"),
    [
        (FACTS, True, "5", "0.001"),
        ({}, False, "15", "0.01"),
        ({}, True, "5", "0.0025"),
        (FACTS, False, "1", "0.1"),
    ],
)
def test_point_09_the_facts_of_the_hash_come_from_several_places(
    facts: dict[str, str], neg_risk: bool, min_size: str, tick: str
) -> None:
    """Tick and last price come in the first book, the rest from the catalogue; what is missing or wrong
    is found by trying, and then later books without any of them are proven too."""
    book = Book({"0.2": "1"}, {"0.6": "2"}, tick=tick, min_size=min_size, neg_risk=neg_risk)
    shown = reader(facts)
    shown.frame(raw([book.book()]))
    book.apply(("BUY", "0.3", "4"))
    shown.frame(raw(book.book(first=False)))
    shown.frame(raw(book.move(("SELL", "0.5", "4"))))
    assert shown.normaliser.checks == {"match": 3, "mismatch": 0, "unknown": 0}
    assert shown.book(YES) == book.truth()


def test_point_10_ids_are_text_and_lists_may_be_strings_of_json() -> None:
    """Ids of 78 digits stay as they are, and an array that comes as a string of JSON is read."""
    shown = started(Book(BIDS, ASKS))
    resolved = {
        "event_type": "market_resolved",
        "id": "1031769",
        "market": MARKET,
        "assets_ids": orjson.dumps([YES, NO]).decode(),
        "winning_asset_id": YES,
        "winning_outcome": "Yes",
        "timestamp": "1790658837000",
    }
    shown.frame(raw(resolved))
    shown.frame(raw(resolved))
    assert (shown.state[YES], shown.why[YES], shown.result[YES]) == ("closed", "resolved", "yes")
    assert len(shown.outputs) == 2, "a resolution is told once"


def test_the_old_forms_of_a_change_are_read() -> None:
    """Recordings from before September 2025 have `changes`, still older ones one change at top level."""
    for item in (
        {
            "asset_id": YES,
            "changes": [{"price": "0.4", "side": "SELL", "size": "3300"}],
            "event_type": "price_change",
            "market": MARKET,
            "timestamp": "1729084877448",
            "hash": "3cd4",
        },
        {
            "asset_id": YES,
            "price": "0.4",
            "side": "SELL",
            "size": "3300",
            "event_type": "price_change",
            "market": MARKET,
            "timestamp": "1729084877448",
            "hash": "3cd4",
        },
    ):
        (event,) = PolymarketAdapter().parse_message(raw(item))
        assert isinstance(event, Absolute)
        assert list(event.levels) == [("ask", "0.4", "3300")]
        assert event.extra["hash"] == "3cd4"


def test_an_initial_array_is_one_snapshot_per_asset() -> None:
    """The first frame holds a book per asset; each that is followed is replaced as a whole."""
    book = Book(BIDS, ASKS)
    events = PolymarketAdapter().parse_message(raw([book.book(YES), book.book(NO)]))
    assert [type(event) for event in events] == [Snapshot, Snapshot]
    shown = reader()
    outputs = shown.frame(raw([book.book(YES), book.book(NO)]))
    assert [type(output) for output in outputs] == [BookReplaced]
