"""The engine: counters, ownership, losses, verdicts, requests and marks of wire.md section 2."""

from __future__ import annotations

import orjson
import pytest

from normalizer.feed import EPOCH, START_US, Feed, table
from venues.kal import FRAME_MS, A, B, delta, raw, snapshot, subscribed
from venues.poly import MARKET, YES, Book
from venues.poly import raw as poly_raw
from wup import subjects
from wup._core import BookStore

K = ("kalshi", A, A)
K2 = ("kalshi", B, B)
P = ("polymarket", YES, MARKET)
LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]


def started(*legs: tuple[str, str, str]) -> Feed:
    feed = Feed(*(legs or (K, K2)))
    feed.open("kalshi", use_yes_price=False)
    feed.frame("kalshi", subscribed(1, "orderbook_delta"))
    feed.frame("kalshi", snapshot(A, 1, LEVELS, [["0.5500", "12.00"]]))
    feed.frame("kalshi", snapshot(B, 2, [["0.3000", "10.00"]]))
    return feed


def test_the_messages_are_those_of_the_wire_contract() -> None:
    """Snapshot, update, state and trade have exactly the fields of wire.md section 2, in shortest text."""
    feed = Feed(K)
    feed.open("kalshi", use_yes_price=False)
    feed.frame("kalshi", snapshot(A, 1, [["0.5100", "300.50"]], [["0.4600", "250.00"]]))
    feed.frame("kalshi", delta(A, 2, "yes", "0.5100", "-0.50"))
    feed.frame(
        "kalshi",
        raw(
            {
                "type": "trade",
                "sid": 2,
                "seq": 1,
                "msg": {
                    "trade_id": "0723be0d",
                    "market_ticker": A,
                    "yes_price_dollars": "0.5300",
                    "count_fp": "10.00",
                    "taker_book_side": "bid",
                    "ts_ms": FRAME_MS,
                },
            }
        ),
    )
    feed.record("close", "kalshi", "c1", {"why": "1006"})
    head = {"platform": "kalshi", "market_id": A, "asset_id": A, "epoch": EPOCH}
    stamps = {"venue": FRAME_MS * 1000, "recv": START_US, "norm": START_US}
    assert [message for _, message in feed.reader.messages] == [
        {
            "type": "snapshot",
            **head,
            "n": 1,
            "bids": [["0.51", "300.5"]],
            "asks": [["0.54", "250"]],
            "ts": {"recv": START_US, "norm": START_US},
        },
        {"type": "update", **head, "n": 2, "bids": [["0.51", "300"]], "asks": [], "ts": stamps},
        {
            "type": "trade",
            **head,
            "n": 3,
            "price": "0.53",
            "size": "10",
            "side": "buy",
            "id": "0723be0d",
            "ts": stamps,
        },
        {"type": "state", **head, "n": 4, "state": "down", "why": "disconnected"},
    ]


def test_the_store_takes_every_message_without_a_hole() -> None:
    """What the engine says is what the book store understands: states, books and counters agree."""
    store = BookStore(EPOCH)
    book = f"agg.{'0' * 16}.yes"
    store.set_mapping(1, [("kalshi", A, book, False)], START_US)
    feed = started(K)
    feed.lose()
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00"))
    feed.frame("kalshi", snapshot(A, 5, LEVELS))
    store.take_resyncs()
    states = []
    for _, message in feed.reader.messages:
        store.apply(orjson.dumps(message), START_US)
        states.append(store.book(book).state)
    assert states == ["live", "down", "live"]
    assert store.take_resyncs() == []
    assert [str(level.price) for level in store.book(book).bids] == ["0.4", "0.01"]


def test_the_norm_stamp_is_the_clocks_when_there_is_one() -> None:
    """Live, `ts.norm` is when the message was made; in replay it is the receive time."""
    feed = Feed(K, stamp=lambda: START_US + 30)
    feed.open("kalshi")
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    assert feed.reader.messages[0][1]["ts"] == {"recv": START_US, "norm": START_US + 30}


def test_a_lost_record_makes_the_connections_legs_doubtful() -> None:
    """A hole in the connection's counter: all its legs go to resync with reason `gap`, books are asked for,
    and each leg is live again with its own next book; another connection's legs stay."""
    feed = started(K, K2, P)
    feed.open("polymarket", "p1")
    book = Book({"0.3": "1"}, {"0.6": "2"})
    feed.frame("polymarket", poly_raw([book.book()]), "p1")
    feed.lose()
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00"))
    assert feed.reader.state == {A: "resync", B: "resync", YES: "live"}
    assert feed.reader.why == {A: "gap", B: "gap"}
    assert ("kalshi", (A, B), "gap", "c1") in [
        (platform, tuple(sorted(assets, key=[A, B].index)), why, connection)
        for platform, assets, why, connection in feed.repairs
    ]
    assert ("kalshi", "lost_records") in feed.bad
    feed.frame("kalshi", snapshot(A, 5, LEVELS))
    assert feed.reader.state == {A: "live", B: "resync", YES: "live"}


def test_a_lost_record_without_sequence_is_found_too() -> None:
    """A venue without sequence numbers: our own counter finds the loss before the venue's hash could."""
    feed = Feed(P)
    feed.open("polymarket")
    book = Book({"0.3": "1"}, {"0.6": "2"})
    feed.frame("polymarket", poly_raw([book.book()]))
    book.apply(("BUY", "0.2", "1"))
    feed.lose()
    feed.frame("polymarket", b"PONG")
    assert feed.reader.state == {YES: "resync"}
    feed.frame("polymarket", poly_raw(book.move(("BUY", "0.1", "1"))))
    assert feed.reader.state == {YES: "resync"}
    feed.frame("polymarket", poly_raw(book.book()))
    assert feed.reader.state == {YES: "live"}


def test_marks_find_a_lost_last_record() -> None:
    """The connection's marks carry its counter: a last frame that was lost is found within a second."""
    feed = started()
    feed.record("marks", "kalshi", "c1", {"open": {}})
    assert feed.reader.state == {A: "live", B: "live"}
    feed.lose()
    feed.record("marks", "kalshi", "c1", {"open": {}})
    assert feed.reader.state == {A: "resync", B: "resync"}
    feed.frame("kalshi", snapshot(A, 3, LEVELS))
    assert feed.reader.state[A] == "live"


def test_a_repeated_record_is_dropped() -> None:
    """The same record twice, or an old one, changes nothing."""
    feed = started()
    feed.record("frame", "kalshi", "c1", delta(A, 3, "yes", "0.4000", "1.00"), n=3)
    assert feed.bad == [("kalshi", "repeated_record")]
    assert feed.reader.books[A][0]["0.4"] == "5"


def test_marks_that_stop_take_the_legs_down_and_bring_them_back() -> None:
    """Two marks missed: the connection's legs are down; when it speaks again without a hole they are live
    from memory; the clock's decision and its end are told as verdicts."""
    feed = started()
    feed.record("marks", "kalshi", "c1", {})
    feed.wait(2.4)
    assert feed.reader.state == {A: "live", B: "live"}
    feed.wait(0.2)
    assert feed.reader.state == {A: "down", B: "down"}
    assert feed.reader.why[A] == "upstream_silent"
    assert sorted(feed.verdicts) == sorted(
        ("kalshi", "c1", asset, "down", "upstream_silent") for asset in (A, B)
    )
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    assert feed.reader.state == {A: "live", B: "live"}
    assert feed.reader.books[A][0]["0.4"] == "6"
    feed.wait(3)
    feed.engine.forgive(3_000_000, feed.now_us)
    assert feed.reader.state[A] == "down"


def test_a_connection_whose_holder_is_gone_is_forgotten() -> None:
    """After a minute without marks the connection is closed; if it speaks again after all, its marks open
    it anew, and books are asked for."""
    feed = started()
    feed.record("marks", "kalshi", "c1", {})
    feed.wait(3)
    feed.wait(60)
    assert feed.reader.state == {A: "down", B: "down"}
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    assert feed.bad == [("kalshi", "no_open")]
    feed.record("marks", "kalshi", "c1", {"open": {"use_yes_price": False}})
    assert feed.repairs[-1] == ("kalshi", (A, B), "gap", "c1")
    feed.frame("kalshi", snapshot(A, 4, LEVELS))
    assert feed.reader.state == {A: "live", B: "down"}


def test_our_own_standstill_is_nobodys_silence() -> None:
    """After we stood still, connections get that time again, and no more than that."""
    feed = started()
    feed.record("marks", "kalshi", "c1", {})
    feed.wait(2)
    feed.now_us += 10_000_000
    feed.engine.forgive(10_000_000, feed.now_us)
    feed.engine.timer(feed.now_us)
    assert feed.reader.state == {A: "live", B: "live"}
    feed.wait(0.6)
    assert feed.reader.state == {A: "down", B: "down"}


def test_who_stands_still_again_and_again_still_finds_silence() -> None:
    """Ten seconds of stalls of 0.6 s with 0.4 s between them are four seconds of somebody else's silence."""
    feed = started()
    feed.record("marks", "kalshi", "c1", {})
    silent_after = 0.0
    for second in range(10):
        feed.now_us += 600_000
        feed.engine.forgive(600_000, feed.now_us)
        feed.wait(0.4)
        if feed.reader.state[A] == "down" and not silent_after:
            silent_after = second + 1
    assert silent_after == 7


def test_a_mark_that_came_in_a_standstill_is_not_from_the_future() -> None:
    """Marks read right after a stall are as old as they are: silence from then on shows as soon as ever."""
    feed = started()
    feed.now_us += 5_000_000
    feed.record("marks", "kalshi", "c1", {})
    feed.engine.forgive(5_000_000, feed.now_us)
    feed.wait(2.6)
    assert feed.reader.state == {A: "down", B: "down"}


@pytest.mark.parametrize("assets", [{"asset": A}, {"assets": [A]}])
def test_a_verdict_takes_a_leg_down_until_its_next_book(assets: dict[str, object]) -> None:
    """A decision made elsewhere holds the leg; deltas do not bring it back, a whole book does."""
    feed = started()
    feed.record("verdict", "kalshi", "c1", {**assets, "state": "down", "why": "venue_silent"})
    assert (feed.reader.state[A], feed.reader.why[A]) == ("down", "venue_silent")
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    assert feed.reader.state == {A: "down", B: "live"}
    feed.frame("kalshi", snapshot(A, 4, LEVELS))
    assert feed.reader.state[A] == "live"


def test_a_verdict_live_brings_the_book_back_from_memory() -> None:
    """Nothing was lost on the connection, so the book in memory is what the frames say."""
    feed = started()
    feed.record("verdict", "kalshi", "c1", {"assets": "all", "state": "down", "why": "venue_silent"})
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    feed.record("verdict", "kalshi", "c1", {"assets": [A], "state": "live", "why": "leg_snapshot"})
    assert feed.reader.state == {A: "live", B: "down"}
    assert feed.reader.books[A][0]["0.4"] == "6"


def test_a_verdict_live_cannot_hide_a_loss() -> None:
    """After a lost record memory is not the venue's book, whatever a verdict says."""
    feed = started()
    feed.lose()
    feed.record("marks", "kalshi", "c1", {})
    feed.record("verdict", "kalshi", "c1", {"assets": [A], "state": "live", "why": "leg_snapshot"})
    assert feed.reader.state[A] == "resync"


def test_a_venue_that_cannot_be_reached_says_so() -> None:
    """Without a connection a verdict is about the asset itself: `no_credentials` reaches the readers."""
    feed = Feed(K)
    feed.record("verdict", "kalshi", "none.0", {"assets": [A], "state": "down", "why": "no_credentials"})
    feed.record("verdict", "kalshi", "none.0", {"assets": [A], "state": "down", "why": "no_credentials"})
    assert [message for _, message in feed.reader.messages] == [
        {
            "type": "state",
            "platform": "kalshi",
            "market_id": A,
            "asset_id": A,
            "epoch": EPOCH,
            "n": 1,
            "state": "down",
            "why": "no_credentials",
        }
    ]


def test_the_first_connection_shows_the_asset_until_it_fails() -> None:
    """While one connection replaces another the leg stays live: the old one's book is shown until it goes,
    then the new one's, as one snapshot; nothing of the other is mixed in."""
    feed = Feed(K)
    feed.open("kalshi", "old")
    feed.frame("kalshi", snapshot(A, 1, LEVELS), "old")
    feed.open("kalshi", "new")
    feed.frame("kalshi", snapshot(A, 1, [["0.4000", "6.00"]]), "new")
    feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00"), "new")
    assert feed.reader.types() == ["snapshot"]
    feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00"), "old")
    assert feed.reader.books[A][0]["0.4"] == "6"
    feed.record("close", "kalshi", "old", {"why": "disconnected"})
    assert feed.reader.types() == ["snapshot", "update", "snapshot"]
    assert feed.reader.books[A][0] == {"0.4": "7"}
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"), "new")
    assert feed.reader.books[A][0] == {"0.4": "8"}
    feed.record("close", "kalshi", "new", {"why": "maintenance"})
    assert (feed.reader.state[A], feed.reader.why[A]) == ("down", "maintenance")


def test_requests_are_answered_from_memory() -> None:
    """A request gets a fresh snapshot of each live asset and the state of each other one, counted in n."""
    feed = started()
    feed.frame("kalshi", delta(B, 4, "yes", "0.3000", "1.00"))
    feed.frame("kalshi", snapshot(A, 5, LEVELS))
    seen = len(feed.reader.messages)
    feed.engine.resync("kalshi", None, feed.now_us)
    feed.engine.resync("kalshi", [A, "SOMEBODY-ELSES"], feed.now_us)
    answers = [message for _, message in feed.reader.messages[seen:]]
    assert [(m["type"], m["asset_id"]) for m in answers] == [("snapshot", A), ("state", B), ("snapshot", A)]
    assert answers[0]["bids"] == [["0.4", "5"], ["0.01", "33338"]]
    assert (answers[1]["state"], answers[1]["why"]) == ("resync", "seq_gap")


def test_a_request_within_a_transaction_is_answered_when_it_is_whole() -> None:
    """Half of a transaction is never in a snapshot: the answer comes in place of the next update."""
    feed = Feed(P)
    feed.open("polymarket")
    book = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50"})
    feed.frame("polymarket", poly_raw([book.book()]))
    changes = (("SELL", "0.3", "5"), ("BUY", "0.301", "0"))
    book.apply(*changes)
    feed.frame("polymarket", poly_raw(book.change(changes[0])))
    feed.engine.resync("polymarket", [YES], feed.now_us)
    assert feed.reader.types() == ["snapshot"]
    feed.frame("polymarket", poly_raw(book.change(changes[1])))
    assert feed.reader.types() == ["snapshot", "snapshot"]
    assert feed.reader.books[YES] == ({"0.29": "100"}, {"0.3": "5", "0.397": "50"})


def test_marks_name_what_changed_and_everything_within_thirty_seconds() -> None:
    """Marks come also when nothing happened; each asset is in them for two seconds after a change and at
    least once in thirty marks."""
    feed = started()
    subject, payload = feed.engine.marks(feed.now_us)[0]
    assert subject == subjects.normalized_marks("kalshi", "i1")
    assert orjson.loads(payload) == {"type": "marks", "epoch": EPOCH, "assets": {A: 1, B: 1}}
    assert orjson.loads(feed.engine.marks(feed.now_us)[1][1])["assets"] == {}
    feed.now_us += 10_000_000
    later = [orjson.loads(feed.engine.marks(feed.now_us)[0][1])["assets"] for _ in range(30)]
    assert [marks for marks in later if marks] in ([{A: 1}, {B: 1}], [{B: 1}, {A: 1}])


def test_a_connection_met_in_its_middle_is_adopted_by_its_marks() -> None:
    """A normalizer that starts later: frames of a connection whose opening it has not seen are no use
    until its marks say how it was opened; then books are asked for."""
    feed = Feed(K)
    feed.n["c1"] = 56
    feed.frame("kalshi", snapshot(A, 9, [["0.4000", "1.00"]], [["0.5500", "2.00"]]))
    assert feed.bad == [("kalshi", "no_open")]
    feed.record("marks", "kalshi", "c1", {"type": "marks", "n": 57, "open": {"use_yes_price": True}})
    assert feed.repairs == [("kalshi", (A,), "gap", "c1")]
    feed.frame("kalshi", snapshot(A, 12, [["0.4000", "1.00"]], [["0.5500", "2.00"]]))
    assert feed.reader.books[A] == ({"0.4": "1"}, {"0.55": "2"})


def test_a_new_table_is_swapped_whole() -> None:
    """Assets that left are no longer shown, those that stay keep their book and counter, and one that
    comes back goes on counting above what a reader has seen."""
    feed = started()
    for seq in (3, 4, 5):
        feed.frame("kalshi", delta(A, seq, "yes", "0.4000", "1.00"))
    feed.engine.set_table(table(K2, version=2))
    feed.frame("kalshi", delta(A, 6, "yes", "0.4000", "1.00"))
    feed.frame("kalshi", delta(B, 7, "yes", "0.3000", "1.00"))
    assert feed.reader.books[B][0]["0.3"] == "11"
    assert feed.reader.n == {A: 4, B: 2}
    feed.engine.set_table(table(K, K2, version=3))
    feed.frame("kalshi", snapshot(A, 8, LEVELS))
    assert feed.reader.n == {A: 5, B: 2}


def test_a_normaliser_that_raises_shows_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a venue's code is not the end of the stream, and never a wrong book: all its legs are
    doubtful until their next whole books."""
    feed = started()
    (connection,) = feed.engine._connections.values()
    with monkeypatch.context() as patch:
        patch.setattr(connection.normaliser, "frame", lambda raw, now_us: 1 / 0)
        feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    assert feed.reader.state == {A: "resync", B: "resync"}
    assert feed.bad[0] == ("kalshi", "normaliser_error")
    feed.frame("kalshi", snapshot(A, 4, LEVELS))
    assert feed.reader.state == {A: "live", B: "resync"}


def test_closed_is_closed_on_every_connection() -> None:
    """After the resolution no connection shows the market again, also not one opened later."""
    feed = started()
    ended = {"market_ticker": A, "event_type": "determined", "result": "yes"}
    feed.frame("kalshi", raw({"type": "market_lifecycle_v2", "sid": 4, "seq": 1, "msg": ended}))
    message = feed.reader.messages[-1][1]
    assert (message["state"], message["why"], message["result"]) == ("closed", "resolved", "yes")
    feed.open("kalshi", "c2")
    feed.frame("kalshi", snapshot(A, 1), "c2")
    feed.record("close", "kalshi", "c1", {"why": "disconnected"})
    assert feed.reader.state == {A: "closed", B: "down"}


def test_a_bad_record_is_counted_and_the_rest_goes_on() -> None:
    """Unknown platforms, verdicts and records that cannot be read touch nothing."""
    feed = started()
    feed.frame("nowhere", b"{}", "x")
    feed.record("open", "nowhere", "x", {})
    feed.record("open", "kalshi", "c9", b"no json")
    feed.record("verdict", "kalshi", "c1", {"assets": [A], "state": "sleepy", "why": "x"})
    feed.record("verdict", "kalshi", "c1", {"assets": ["UNKNOWN"], "state": "down", "why": "gap"})
    feed.record("catalog", "kalshi", "c1", {"assets": []})
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    assert [kind for _, kind in feed.bad] == [
        "unknown_platform",
        "unknown_platform",
        "bad_record",
        "bad_record",
        "unknown_asset",
        "bad_record",
    ]
    assert feed.reader.state == {A: "live", B: "live"}


def test_a_timers_decision_is_told_as_a_verdict() -> None:
    """What a clock decides is told, so that a recording can hold it and replay needs no clock."""
    feed = Feed(P)
    feed.open("polymarket")
    book = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50"})
    feed.frame("polymarket", poly_raw([book.book()]))
    book.apply(("BUY", "0.25", "1"))
    feed.frame("polymarket", poly_raw(book.move(("BUY", "0.2", "1"))))
    feed.wait(0.3)
    assert feed.verdicts == [("polymarket", "c1", YES, "resync", "hash_mismatch")]
    assert feed.repairs == [("polymarket", (YES,), "hash_mismatch", "c1")]


def test_verifications_are_counted_over_the_life_of_connections() -> None:
    """The counts of a closed connection are kept."""
    feed = Feed(P)
    for number in range(2):
        feed.open("polymarket", f"c{number}")
        feed.frame("polymarket", poly_raw([Book({"0.3": "1"}, {"0.6": "2"}).book()]), f"c{number}")
        feed.record("close", "polymarket", f"c{number}", {"why": "disconnected"})
    assert feed.engine.checks()["polymarket", "match"] == 2


def test_a_fault_in_a_timer_costs_its_own_connection_only() -> None:
    """An unexpected exception: that connection's legs leave, which is told as a verdict, and it is to be
    replaced, which is asked for once; the others go on. A whole book brings a leg back, a word does not."""
    feed = Feed(("kalshi", A, A), ("kalshi", B, B))
    for connection, asset in (("c1", A), ("c2", B)):
        feed.open("kalshi", connection)
        feed.frame("kalshi", snapshot(asset, 1, LEVELS, [["0.5500", "1.00"]]), connection)

    def fault(_: int) -> list[object]:
        raise ZeroDivisionError("nobody expected this")

    normaliser = feed.engine._connections["kalshi", "c1"].normaliser
    normaliser.timer = fault  # type: ignore[method-assign,assignment]
    feed.wait(0.1)
    assert (feed.reader.state[A], feed.reader.why[A]) == ("resync", "gap")
    assert feed.reader.state[B] == "live"
    assert feed.verdicts == [("kalshi", "c1", A, "resync", "gap")]
    feed.wait(0.1)
    assert feed.repairs == [("kalshi", (), "unrepaired", "c1"), ("kalshi", (A,), "gap", "c1")]
    assert ("kalshi", "timer_failed") in feed.bad
    feed.record("verdict", "kalshi", "c1", {"assets": [A], "state": "live", "why": "leg_snapshot"})
    assert feed.reader.state[A] == "resync"
    feed.frame("kalshi", snapshot(A, 2, LEVELS), "c1")
    assert feed.reader.state[A] == "live"


def test_a_timer_that_goes_on_failing_is_told_once_a_leg() -> None:
    """A leg's leaving is one verdict record however often the timer fails; after its next whole book, and on
    another connection, it is told again."""
    feed = Feed(K, K2)

    def fault(_: int) -> list[object]:
        raise ZeroDivisionError("nobody expected this")

    def begin(connection: str) -> None:
        feed.open("kalshi", connection)
        feed.frame("kalshi", snapshot(A, 1, LEVELS), connection)
        feed.frame("kalshi", snapshot(B, 2, LEVELS), connection)
        normaliser = feed.engine._connections["kalshi", connection].normaliser
        normaliser.timer = fault  # type: ignore[method-assign,assignment]

    def fail() -> None:
        for _ in range(200):
            feed.wait(0.05)

    begin("c1")
    fail()
    both = [("kalshi", "c1", asset, "resync", "gap") for asset in (A, B)]
    assert feed.verdicts == both
    assert feed.repairs.count(("kalshi", (A, B), "gap", "c1")) == 1
    assert feed.repairs.count(("kalshi", (), "unrepaired", "c1")) == 2
    feed.frame("kalshi", snapshot(A, 3, LEVELS))
    assert feed.reader.state == {A: "live", B: "resync"}
    fail()
    assert feed.verdicts == [*both, both[0]]
    assert feed.reader.state == {A: "resync", B: "resync"}
    feed.record("close", "kalshi", "c1", {"why": "disconnected"})
    begin("c2")
    fail()
    assert feed.verdicts[3:] == [("kalshi", "c2", asset, "resync", "gap") for asset in (A, B)]


def test_a_timers_fault_is_the_same_in_a_replay() -> None:
    """An engine that has the live one's verdicts and no timers says the same messages."""

    def fault(_: int) -> list[object]:
        raise ZeroDivisionError("nobody expected this")

    live, replay = Feed(K, K2), Feed(K, K2)
    for feed in (live, replay):
        feed.open("kalshi")
        feed.frame("kalshi", snapshot(A, 1, LEVELS))
        feed.frame("kalshi", snapshot(B, 2, LEVELS))
    live.engine._connections["kalshi", "c1"].normaliser.timer = fault  # type: ignore[method-assign,assignment]
    live.engine.timer(live.now_us)
    for platform, connection, asset, state, why in live.verdicts:
        replay.record("verdict", platform, connection, {"asset": asset, "state": state, "why": why})
    for feed in (live, replay):
        feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
        feed.record("verdict", "kalshi", "c1", {"assets": [A], "state": "live", "why": "leg_snapshot"})
        feed.frame("kalshi", snapshot(B, 4, LEVELS))
        feed.frame("kalshi", delta(B, 5, "yes", "0.4000", "1.00"))
    assert live.reader.messages == replay.reader.messages
    assert live.reader.state == {A: "resync", B: "live"}


@pytest.mark.parametrize("method", ["closed", "sent", "assets"])
def test_whatever_of_a_normaliser_raises_its_legs_leave(method: str) -> None:
    """Also the end of a connection, our own frames and the list of assets: the legs leave, nothing else."""
    feed = started()
    normaliser = feed.engine._connections["kalshi", "c1"].normaliser
    setattr(normaliser, method, lambda *_: 1 / 0)
    if method == "sent":
        feed.record("sent", "kalshi", "c1", b"{}")
    elif method == "assets":
        normaliser.timer = lambda _: 1 / 0  # type: ignore[method-assign,return-value,assignment]
        feed.wait(0.1)
    else:
        feed.record("close", "kalshi", "c1", {"why": "disconnected"})
    assert set(feed.reader.state.values()) == {"down" if method == "closed" else "resync"}
    assert ("kalshi", "normaliser_error") in feed.bad


def test_a_mapping_that_comes_late_still_gets_its_first_books() -> None:
    """The subscription and the first book came before the mapping did: after 10 s the venue is asked again,
    whoever carries the asset, with growing waits; once a book is there nothing more is asked."""
    feed = Feed()
    feed.open("kalshi", use_yes_price=False)
    feed.frame("kalshi", subscribed(1, "orderbook_delta"))
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    feed.engine.set_table(table(K))
    asked: list[float] = []
    for second in range(100):
        feed.repairs.clear()
        feed.wait(1)
        if ("kalshi", (A,), "no_first_book", "") in feed.repairs:
            asked.append(second)
    assert asked == [10, 30, 70]
    feed.frame("kalshi", snapshot(A, 2, LEVELS))
    assert feed.reader.state[A] == "live"
    feed.repairs.clear()
    for _ in range(130):
        feed.wait(1)
    assert not [wish for wish in feed.repairs if wish[2] == "no_first_book"]
