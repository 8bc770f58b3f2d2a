"""Kalshi's books under gaps, doubt, the market's own life, and bad input."""

from __future__ import annotations

import orjson
import pytest

from venues.kal import A, B, delta, error, ok, raw, snapshot, subscribed
from venues.shown import Shown
from wup.config import load
from wup.model import Instrument
from wup.venues.base import BookChanged, ListingChanged, RepairWanted, StatusTold
from wup.venues.following import Discovering
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.kalshi.session import KalshiSession
from wup.venues.kalshi.settings import KalshiSettings

LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]
NO_LEVELS = [["0.5500", "12.00"]]


def reader(*tickers: str) -> Shown:
    instruments = {ticker: Instrument("kalshi", ticker, ticker) for ticker in tickers or (A, B)}
    return Shown(KalshiNormaliser({}, instruments))


def started() -> Shown:
    """Two live books on sid 1, the last seq is 2."""
    shown = reader()
    shown.frame(subscribed(1, "orderbook_delta"))
    shown.frame(snapshot(A, 1, LEVELS, NO_LEVELS))
    shown.frame(snapshot(B, 2, [["0.3000", "10.00"]]))
    assert shown.state == {A: "live", B: "live"}
    return shown


def life(ticker: str, event: str, **more: object) -> bytes:
    return raw(
        {
            "type": "market_lifecycle_v2",
            "sid": 4,
            "msg": {"market_ticker": ticker, "event_type": event, **more},
        }
    )


def session(**settings: object) -> KalshiSession:
    return KalshiSession(load(KalshiSettings, **settings))


def test_a_repeated_number_is_dropped() -> None:
    """The same seq twice is the same frame twice: its increment counts once."""
    shown = started()
    frame = delta(A, 3, "yes", "0.4000", "1.00")
    shown.frame(frame)
    shown.frame(frame)
    assert shown.bad == ["repeated_sequence"]
    assert shown.book(A)[0][0] == ("0.4", "6")


def test_another_frame_with_the_same_number_is_doubt() -> None:
    """A repeated number on a frame that is not the same again: what it says is not dropped silently."""
    shown = started()
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    shown.frame(delta(A, 3, "yes", "0.4000", "2.00"))
    assert shown.bad == ["sequence_reset"]
    assert shown.state == {A: "resync", B: "resync"}


def test_a_number_that_goes_back_is_a_reset() -> None:
    """A lower seq than the last means that the server began anew: all books of the sid are doubtful."""
    shown = started()
    shown.frame(delta(A, 1, "yes", "0.4000", "1.00"))
    assert shown.bad == ["sequence_reset"]
    assert shown.state == {A: "resync", B: "resync"}
    shown.frame(snapshot(A, 2, LEVELS))
    assert shown.state == {A: "live", B: "resync"}


def test_a_snapshot_out_of_order_is_not_used() -> None:
    """A snapshot that arrives after a later frame may be older than what that frame said: the book stays
    doubtful until a snapshot in order."""
    shown = reader(A)
    shown.frame(ok(1))
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    shown.frame(snapshot(A, 2, LEVELS))
    assert shown.state == {}
    shown.frame(snapshot(A, 4, LEVELS))
    assert shown.state == {A: "live"}, "4 shows a hole after 2, and is whole in itself"


def test_a_snapshot_that_reveals_the_gap_is_good_itself() -> None:
    """The frame after a hole may be a snapshot: its own book is exact from there on."""
    shown = started()
    shown.frame(snapshot(A, 9, LEVELS))
    assert shown.state == {A: "live", B: "resync"}
    assert set(shown.repairs[-1].assets) == {A, B}


def test_a_repair_without_answer_is_repeated_and_given_up() -> None:
    """Snapshots are asked for again every five seconds; from the third time on the connection is to be
    replaced."""
    shown = started()
    shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    shown.frame(snapshot(B, 5, LEVELS))
    for _ in range(16):
        shown.wait(1)
    assert [(repair.assets, repair.why) for repair in shown.repairs[1:]] == [
        ((A,), "seq_gap"),
        ((A,), "seq_gap"),
        ((A,), "unrepaired"),
    ]
    assert shown.state == {A: "resync", B: "live"}


def test_a_market_that_the_venue_does_not_list_costs_no_connection() -> None:
    """An unknown ticker is accepted without a word: beside markets that have their books it is asked for
    ever more rarely, and the connection stays."""
    shown = reader()
    for text in session().opened([A, B]):
        shown.sent(text.encode())
    shown.frame(snapshot(A, 1, LEVELS))
    asked = [
        (second, output.assets, output.why)
        for second in range(1, 70)
        for output in shown.wait(1)
        if isinstance(output, RepairWanted)
    ]
    assert asked == [(second, (B,), "no_first_book") for second in (5, 10, 15, 20, 30, 50)]


def test_a_book_crossed_within_a_transaction_is_shown_when_it_is_over() -> None:
    """Deltas that cross the book for an instant come out as one update; 250 ms later it is a loss."""
    shown = started()
    assert shown.frame(delta(A, 3, "yes", "0.5000", "3.00")) == []
    assert shown.normaliser.book(A) is None
    assert shown.frame(delta(A, 4, "yes", "0.4000", "-5.00")) == []
    (update,) = shown.frame(delta(A, 5, "no", "0.5500", "-12.00"))
    assert isinstance(update, BookChanged)
    assert list(update.bids) == [("0.5", "3"), ("0.4", "0")]
    assert list(update.asks) == [("0.45", "0")]
    assert shown.book(A) == ([("0.5", "3"), ("0.01", "33338")], [])
    shown.wait(1)
    assert shown.state[A] == "live"
    shown.frame(delta(A, 6, "no", "0.6000", "1.00"))
    shown.wait(0.24)
    assert shown.state[A] == "live"
    shown.wait(0.02)
    assert shown.state == {A: "resync", B: "live"}


@pytest.mark.parametrize("cut", [10, 40, 75, 150])
def test_an_unreadable_frame_makes_its_books_doubtful(cut: int) -> None:
    """A truncated delta: the market that it names leaves, or all when none can be read; numbered frames
    that are broken still count, so that the rest goes on."""
    shown = started()
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00")[:cut])
    assert shown.bad[0] == "bad_json"
    readable = cut >= 150
    assert shown.state == {A: "resync", B: "live" if readable else "resync"}
    shown.frame(snapshot(A, 4, LEVELS))
    shown.frame(snapshot(B, 5, LEVELS))
    shown.frame(delta(B, 6, "yes", "0.4000", "1.00"))
    assert shown.state == {A: "live", B: "live"}
    assert shown.book(B)[0][0] == ("0.4", "6")


def test_text_that_is_no_frame_is_counted_only() -> None:
    """A notice that is no JSON object takes no number, so the next frame proves that nothing was lost."""
    shown = started()
    shown.frame(b"maintenance soon")
    shown.frame(b'["array"]')
    shown.frame(b"\xff\xfe")
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    assert shown.bad == ["bad_json"] * 3
    assert shown.state == {A: "live", B: "live"}


def test_an_unknown_market_is_counted_and_the_rest_goes_on() -> None:
    """Frames about a market that nobody follows are bad input, their numbers count."""
    shown = reader(A)
    shown.frame(snapshot(B, 1, LEVELS))
    shown.frame(snapshot(A, 2, LEVELS))
    shown.frame(delta(B, 3, "yes", "0.4000", "1.00"))
    shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    assert shown.bad == ["unknown_asset", "unknown_asset"]
    assert shown.state == {A: "live"}


@pytest.mark.parametrize(
    "level", [["1.2000", "1.00"], ["0.0000", "1.00"], ["0.1", "200000000000"], ["0.1"], "0.1", [0.1, "1"]]
)
def test_a_snapshot_with_a_level_that_does_not_fit_is_not_shown(level: object) -> None:
    """A bad level makes the whole book doubtful: it is not live, and it is asked for."""
    shown = started()
    shown.frame(snapshot(A, 3, [["0.2000", "1.00"], level]))  # type: ignore[list-item]
    assert shown.bad == ["bad_level"]
    assert shown.state == {A: "resync", B: "live"}
    assert shown.repairs[-1].assets == (A,)


def test_a_book_frame_without_a_market_makes_all_doubtful() -> None:
    """A delta that does not say its market may have changed any: all books of the sid leave."""
    shown = started()
    frame = orjson.loads(delta(A, 3, "yes", "0.4000", "1.00"))
    del frame["msg"]["market_ticker"]
    shown.frame(raw(frame))
    assert shown.state == {A: "resync", B: "resync"}


def test_halts_are_told_and_the_book_goes_on() -> None:
    """A halt is about the market and not about the book, which goes on with its own frames; who reads is told
    with the frame's own time, if it has one, also of markets whose books come on another connection."""
    shown = started()
    shown.frame(life(B, "deactivated", is_deactivated=True))
    assert shown.statuses == [StatusTold(B, "halted", "halted")]
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    told = shown.frame(life(A, "deactivated", is_deactivated=True))
    assert told == [StatusTold(A, "halted", "halted")]
    (placed,) = shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    (cancelled,) = shown.frame(delta(A, 5, "yes", "0.4000", "-3.00"))
    assert isinstance(placed, BookChanged)
    assert isinstance(cancelled, BookChanged)
    assert (placed.placed, cancelled.placed) == (True, False)
    assert shown.book(A)[0][0] == ("0.4", "4")
    (back,) = shown.frame(life(A, "activated", is_deactivated=False))
    assert back == StatusTold(A, "open", "leg_snapshot")
    # A step of a market's life that we do not know may be one too: the catalogue is asked.
    assert ListingChanged(A, None) in shown.frame(life(A, "paused"))
    assert shown.bad == ["unknown_type"]
    other = reader()
    other.frame(life(A, "deactivated"))
    assert other.statuses == [StatusTold(A, "halted", "halted")]
    assert other.frame(life("SOMEBODY-ELSES", "deactivated")) == []


def test_settled_comes_several_times_and_closes_once() -> None:
    """`determined` carries the result; after it neither `settled` nor a late frame shows the market."""
    shown = started()
    shown.frame(life(A, "determined", result="no", settlement_value="0.0000"))
    assert (shown.state[A], shown.why[A], shown.result[A]) == ("closed", "resolved", "no")
    before = len(shown.outputs)
    for _ in range(8):
        shown.frame(life(A, "settled", settled_ts=1_790_363_638))
    shown.frame(snapshot(A, 3))
    shown.frame(life("SOMEBODY-ELSES", "determined", result="yes"))
    assert len(shown.outputs) == before
    assert shown.frame(life(A, "created")) == [ListingChanged(A, None, new=True)]


def test_another_listing_is_told_of_followed_markets() -> None:
    """Another close, price structure or name of a followed market, and another fee of any event; no book
    changes by it."""
    shown = started()
    for step in ("close_date_updated", "price_level_structure_updated", "metadata_updated"):
        assert shown.frame(life(A, step, close_ts=1)) == [ListingChanged(A, None)]
        assert shown.frame(life("SOMEBODY-ELSES", step)) == []
    fee = raw({"type": "event_fee_update", "sid": 4, "msg": {"event_ticker": "KXFED-26DEC"}})
    assert shown.frame(fee) == [ListingChanged(None, "KXFED-26DEC")]
    for odd in ({}, {"msg": 7}, {"msg": {"event_ticker": 7}}, {"msg": {"event_ticker": ""}}):
        assert shown.frame(raw({"type": "event_lifecycle", "sid": 4, **odd})) == []
    assert shown.state == {A: "live", B: "live"}


def test_a_closed_connection_takes_its_legs_down() -> None:
    """Sids and sequences mean nothing after a reconnect: books leave, and begin again with snapshots."""
    shown = started()
    shown.take(shown.normaliser.closed("disconnected"))
    assert (shown.state, shown.why[A]) == ({A: "down", B: "down"}, "disconnected")
    shown.frame(snapshot(A, 1, LEVELS))
    assert shown.state[A] == "live"


def test_books_that_the_venue_unsubscribed_are_subscribed_again() -> None:
    """`unsubscribed` that we did not ask for: the books of its sid leave, the channel is subscribed as a
    whole, and each book is live again with its snapshot on the new sid."""
    shown, kalshi = started(), session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))
    kalshi.received(subscribed(2, "trade", sent[1]["id"]))
    frame = raw({"type": "unsubscribed", "id": 9, "sid": 1, "seq": 3})
    shown.frame(frame)
    assert shown.state == {A: "resync", B: "resync"}
    (again,) = map(orjson.loads, kalshi.received(frame))
    assert again["params"] == {
        "channels": ["orderbook_delta"],
        "market_tickers": [A, B],
        "use_yes_price": True,
    }
    shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    assert shown.bad == ["ended_subscription"]
    shown.frame(subscribed(3, "orderbook_delta", again["id"]))
    shown.frame(snapshot(A, 1, LEVELS, sid=3))
    shown.frame(snapshot(B, 2, LEVELS, sid=3))
    assert shown.state == {A: "live", B: "live"}
    assert shown.repairs == []


def test_unsubscribed_books_are_waited_for() -> None:
    """When the new subscription brings no book, it is asked for as after any loss; what is not wanted any
    more is not subscribed, trades and lifecycle are subscribed again as books are, and a sid that we never
    had is nobody's."""
    shown, kalshi = started(), session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    for sid, command in enumerate(sent, 1):
        kalshi.received(subscribed(sid, command["params"]["channels"][0], command["id"]))
    kalshi.want([A])
    books, trades, life_, nobody = (
        [orjson.loads(text)["params"] for text in kalshi.received(raw({"type": "unsubscribed", "sid": sid}))]
        for sid in (1, 2, 3, 7)
    )
    assert [params["market_tickers"] for params in (*books, *trades)] == [[A], [A]]
    assert [params["channels"] for params in (*books, *trades, *life_)] == [
        ["orderbook_delta"],
        ["trade"],
        ["market_lifecycle_v2"],
    ]
    assert nobody == []
    shown.frame(raw({"type": "unsubscribed", "id": 9, "sid": 1, "seq": 3}))
    shown.wait(5.1)
    assert {asset for repair in shown.repairs for asset in repair.assets} == {A, B}


def test_markets_that_are_deleted_leave() -> None:
    """What we take out of the subscription is not shown from here, whatever still arrives."""
    shown = started()
    kalshi = session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    assert kalshi.want([A]) == [], "without the sids it must wait"
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))
    deletes = kalshi.received(subscribed(2, "trade", sent[1]["id"]))
    assert [orjson.loads(text)["params"] for text in deletes] == [
        {"action": "delete_markets", "sids": [sid], "market_tickers": [B]} for sid in (1, 2)
    ]
    for text in deletes:
        shown.sent(text.encode())
    assert (shown.state, shown.why[B]) == ({A: "live", B: "down"}, "unmapped")
    shown.frame(delta(B, 3, "yes", "0.3000", "1.00"))
    shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    assert (shown.state, shown.bad) == ({A: "live", B: "down"}, [])


def test_discovery_follows_every_market_of_a_tape() -> None:
    """In replay of a log without a mapping each market that has a book is followed."""
    seen: list[Instrument] = []
    shown = Shown(KalshiNormaliser({}, Discovering("kalshi", seen.append)))
    shown.frame(snapshot(A, 41_076, LEVELS))
    shown.frame(snapshot(B, 41_077, LEVELS))
    assert [found.asset_id for found in seen] == [A, B]
    assert shown.state == {A: "live", B: "live"}


def test_commands_that_came_too_fast_are_delayed() -> None:
    """Error 27 sends the same command again with a later heartbeat, one at a time."""
    kalshi = session()
    sent = [orjson.loads(text) for text in kalshi.opened([A])]
    assert kalshi.heartbeat() is None
    assert kalshi.received(error(27, number=sent[0]["id"])) == []
    assert kalshi.received(error(18, number=sent[1]["id"])) == []
    again = [kalshi.heartbeat(), kalshi.heartbeat(), kalshi.heartbeat()]
    assert [orjson.loads(text)["params"] for text in again if text] == [sent[0]["params"], sent[1]["params"]]
    assert again[2] is None


def test_snapshots_that_came_too_fast_are_asked_for_once() -> None:
    """However many requests for snapshots the venue asks to delay, each market is asked for once more, and
    only while it is wanted and its subscription lives."""
    kalshi = session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))

    def delayed() -> None:
        for assets in ([A], [A, B], [B], [A]) * 25:
            for text in kalshi.repair(assets):
                assert kalshi.received(error(27, number=orjson.loads(text)["id"])) == []

    delayed()
    again = kalshi.heartbeat()
    assert again is not None
    assert orjson.loads(again)["params"] == {
        "action": "get_snapshot",
        "sids": [1],
        "market_tickers": [A, B],
    }
    assert kalshi.heartbeat() is None
    delayed()
    kalshi.want([A])
    again = kalshi.heartbeat()
    assert again is not None
    assert orjson.loads(again)["params"]["market_tickers"] == [A]
    delayed()
    kalshi.received(raw({"type": "unsubscribed", "id": 9, "sid": 1, "seq": 3}))
    assert kalshi.heartbeat() is None


def test_a_snapshot_asked_of_a_dead_sid_subscribes_anew() -> None:
    """Error 7 to a `get_snapshot`: the subscription is gone, so all its markets are subscribed again."""
    kalshi = session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))
    (repair,) = map(orjson.loads, kalshi.repair([A]))
    (again,) = map(orjson.loads, kalshi.received(error(7, number=repair["id"])))
    assert again["params"] == {
        "channels": ["orderbook_delta"],
        "market_tickers": [A, B],
        "use_yes_price": True,
    }
    assert kalshi.repair([A]) == [], "that subscribe is on its way"


def test_a_snapshot_is_not_asked_for_outside_the_subscription() -> None:
    """`get_snapshot` answers for any market, and no change would follow: a market whose subscription was
    refused or is still on its way is subscribed, not asked for."""
    kalshi = session()
    first = orjson.loads(kalshi.opened([A])[0])
    assert kalshi.repair([A]) == [], "its subscribe is on its way"
    kalshi.received(subscribed(1, "orderbook_delta", first["id"]))
    added = orjson.loads(kalshi.want([A, B])[0])
    kalshi.received(error(27, number=added["id"]))
    asked = [orjson.loads(text)["params"] for text in kalshi.repair([A, B])]
    assert asked == [{"action": "get_snapshot", "sids": [1], "market_tickers": [A]}]
    again = kalshi.heartbeat()
    assert again is not None
    kalshi.received(error(11, number=orjson.loads(again)["id"]))
    asked = [orjson.loads(text) for text in kalshi.repair([B])]
    assert [(frame["cmd"], frame["params"]["market_tickers"]) for frame in asked] == [("subscribe", [B])]
    kalshi.received(ok(9, asked[0]["id"]))
    assert orjson.loads(kalshi.repair([B])[0])["params"]["action"] == "get_snapshot"


def test_frames_of_an_ended_subscription_are_not_used() -> None:
    """After error 25 a late frame of that sid is from before the end: it makes nothing live."""
    shown = started()
    shown.frame(error(25, sid=1, seq=4))
    shown.frame(snapshot(A, 3, LEVELS))
    assert shown.state == {A: "resync", B: "resync"}
    assert shown.bad[-1] == "ended_subscription"


def test_a_loss_that_comes_back_with_every_answer_is_no_storm() -> None:
    """Snapshots are asked for at once, and then at most four times a second."""
    shown = started()
    seq = 2
    for _ in range(100):
        seq += 2
        shown.frame(snapshot(A, seq, LEVELS))
        shown.wait(0.01)
    assert shown.bad == ["sequence_gap"] * 100
    assert 4 <= sum(B in repair.assets for repair in shown.repairs) <= 6


def test_large_subscriptions_ask_for_short_acknowledgements() -> None:
    """Each `ok` would list every ticker: above a hundred markets the list is left out."""
    kalshi = session()
    many = [orjson.loads(text) for text in kalshi.opened([f"T-{n}" for n in range(101)])]
    assert many[0]["params"]["skip_ticker_ack"] is True
    few = [orjson.loads(text) for text in kalshi.opened([A])]
    assert "skip_ticker_ack" not in few[0]["params"]
    assert [frame["id"] for frame in few] == [1, 2, 3]


def test_frames_about_one_market_are_told_without_parsing() -> None:
    """The subject of a frame: the followed market, or none for acknowledgements, errors and strangers."""
    kalshi = session()
    kalshi.opened([A])
    assert kalshi.asset_of(delta(A, 3, "yes", "0.4", "1")) == A
    assert kalshi.asset_of(delta(B, 3, "yes", "0.4", "1")) is None
    assert kalshi.asset_of(ok(3)) is None
    named = raw({"type": "error", "id": 3, "msg": {"code": 26, "msg": "x", "market_ticker": A}})
    assert kalshi.asset_of(named) is None


def test_whole_books_are_told_without_parsing() -> None:
    """Only the snapshot of a followed market brings its book, no change, trade or acknowledgement."""
    kalshi = session()
    kalshi.opened([A])
    assert kalshi.books_of(snapshot(A, 1, LEVELS)) == (A,)
    assert kalshi.books_of(snapshot(B, 1, LEVELS)) == ()
    assert kalshi.books_of(delta(A, 3, "yes", "0.4", "1")) == ()
    assert kalshi.books_of(ok(3)) == ()
