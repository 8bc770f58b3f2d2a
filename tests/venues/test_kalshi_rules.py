"""The twenty rules of the venue notes that an adapter must follow, each by name."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from venues.kal import FRAME_MS, A, B, delta, error, ok, raw, snapshot, subscribed
from venues.shown import Shown
from wup import subjects
from wup.clock import ManualClock
from wup.config import load
from wup.errors import VenueMessageError
from wup.model import Increment, Instrument, Snapshot
from wup.venues.base import BookChanged, VenueUnavailable
from wup.venues.kalshi.adapter import KalshiAdapter
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.kalshi.session import KalshiSession
from wup.venues.kalshi.settings import KalshiSettings
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from pathlib import Path

YES_LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]
NO_LEVELS = [["0.0200", "7.50"], ["0.5500", "12.00"]]


def reader(*, use_yes_price: bool = False, tickers: tuple[str, ...] = (A, B)) -> Shown:
    instruments = {ticker: Instrument("kalshi", ticker, ticker) for ticker in tickers}
    return Shown(KalshiNormaliser({"use_yes_price": use_yes_price}, instruments))


def started() -> Shown:
    """Two live books on sid 1, the last seq is 2."""
    shown = reader()
    shown.frame(subscribed(1, "orderbook_delta"))
    shown.frame(snapshot(A, 1, YES_LEVELS, NO_LEVELS))
    shown.frame(snapshot(B, 2, [["0.3000", "10.00"]]))
    assert shown.state == {A: "live", B: "live"}
    return shown


def session(**settings: object) -> KalshiSession:
    return KalshiSession(load(KalshiSettings, **settings))


async def test_rule_01_every_connection_is_signed_anew(tmp_path: Path) -> None:
    """The handshake carries an RSA-PSS signature over timestamp, method and path, made for this attempt;
    without a key the venue is unavailable with the reason `no_credentials`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    pem.chmod(0o600)
    clock = ManualClock()
    settings = load(KalshiSettings, kalshi_api_key_id="id-1", kalshi_private_key_path=pem)
    signed = KalshiSession(settings, clock)
    seen = []
    for _ in range(2):
        url, headers = await signed.handshake()
        assert url == "wss://external-api-ws.kalshi.com/trade-api/ws/v2"
        assert headers["KALSHI-ACCESS-KEY"] == "id-1"
        assert headers["KALSHI-ACCESS-TIMESTAMP"] == str(clock.us // 1000)
        key.public_key().verify(
            base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True),
            f"{clock.us // 1000}GET/trade-api/ws/v2".encode(),
            padding.PSS(padding.MGF1(hashes.SHA256()), 32),
            hashes.SHA256(),
        )
        seen.append(headers["KALSHI-ACCESS-SIGNATURE"])
        clock.advance(1)
    assert seen[0] != seen[1]
    with pytest.raises(VenueUnavailable) as missing:
        await session().handshake()
    assert missing.value.why == "no_credentials"


@pytest.mark.parametrize(
    ("price", "change"),
    [(0.4, "1.00"), ("0.4", 1.5), ("0.4000001", "1.00"), ("1.0000", "1"), ("x", "1"), ("0.4", "")],
)
def test_rule_02_numbers_are_exact_text_or_refused(price: object, change: object) -> None:
    """Decimal text of up to six decimals; a float, or what does not fit, is never rounded."""
    shown = started()
    frame = orjson.loads(delta(A, 3, "yes", "0.4000", "1.00"))
    frame["msg"]["price_dollars"] = price
    frame["msg"]["delta_fp"] = change
    shown.frame(raw(frame))
    assert shown.bad[0] in ("bad_field", "bad_level")
    assert shown.state == {A: "resync", B: "live"}


def test_rule_03_new_fields_win_over_integer_ones() -> None:
    """When both forms are present only `*_dollars` and `*_fp` are read."""
    frame = orjson.loads(delta(A, 3, "yes", "0.4010", "1.25"))
    frame["msg"] |= {"price": 40, "delta": 1}
    (event,) = KalshiAdapter().parse_message(raw(frame))
    assert isinstance(event, Increment)
    assert (event.price, event.delta) == ("0.401", "1.25")


def test_rule_04_a_delta_is_an_increment() -> None:
    """New size = old + delta; the level goes at zero; below zero the book is corrupt and resynced."""
    shown = started()
    (up,) = shown.frame(delta(A, 3, "yes", "0.4000", "2.50"))
    assert up == BookChanged(A, (("0.4", "7.5"),), (), FRAME_MS * 1000, placed=True)
    (gone,) = shown.frame(delta(A, 4, "yes", "0.4000", "-7.50"))
    assert gone == BookChanged(A, (("0.4", "0"),), (), FRAME_MS * 1000)
    shown.frame(delta(A, 5, "yes", "0.0100", "-33338.01"))
    assert shown.bad == ["negative_size"]
    assert shown.state == {A: "resync", B: "live"}
    assert shown.repairs[-1].assets == (A,)


@pytest.mark.parametrize("use_yes_price", [False, True])
def test_rule_05_a_no_bid_is_a_yes_ask_at_the_complement(use_yes_price: bool) -> None:
    """Both modes give the same book; in the one the server has mirrored the price already."""
    shown = reader(use_yes_price=use_yes_price)
    no = [["0.9800", "7.50"], ["0.4500", "12.00"]] if use_yes_price else NO_LEVELS
    shown.frame(snapshot(A, 1, YES_LEVELS, no))
    assert shown.book(A) == ([("0.4", "5"), ("0.01", "33338")], [("0.45", "12"), ("0.98", "7.5")])
    shown.frame(delta(A, 2, "no", "0.4400" if use_yes_price else "0.5600", "3.00"))
    assert shown.book(A)[1][0] == ("0.44", "3")


def test_rule_06_the_price_mode_is_always_said_and_recorded() -> None:
    """Every subscribe says `use_yes_price`, the recording's `open` record has it, and a wrong mode does not
    go unnoticed: a crossed snapshot is not shown."""
    kalshi = session()
    books = [
        frame["params"]
        for frame in map(orjson.loads, kalshi.opened([A, B]))
        if frame["params"]["channels"] == ["orderbook_delta"]
    ]
    assert books == [{"channels": ["orderbook_delta"], "market_tickers": [A, B], "use_yes_price": True}]
    assert kalshi.open_info() == {"use_yes_price": True}
    wrong = reader(use_yes_price=True)
    wrong.frame(snapshot(A, 1, [["0.6000", "5.00"]], [["0.3000", "1.00"]]))
    assert wrong.bad == ["crossed_snapshot"]
    assert A not in wrong.state
    told = reader()
    told.sent(kalshi.opened([A, B])[0].encode())
    told.frame(snapshot(A, 1, [["0.2000", "5.00"]], [["0.3000", "1.00"]]))
    assert told.book(A)[1] == [("0.3", "1")]


def test_rule_06_a_book_in_the_other_mode_puts_the_whole_subscription_in_doubt() -> None:
    """A server that ignores the flag: after one whole book that makes sense in the other mode only, no market
    of the sid is shown any more, one-sided ones included, until a book of two sides makes sense again."""
    shown = reader(use_yes_price=True)
    one_sided = [["0.9800", "7.50"]]
    shown.frame(snapshot(B, 1, None, one_sided))
    assert shown.state == {B: "live"}
    shown.frame(snapshot(A, 2, YES_LEVELS, [["0.0200", "7.50"], ["0.5500", "12.00"]]))
    assert shown.bad == ["crossed_snapshot"]
    assert shown.state == {B: "resync"}
    shown.frame(snapshot(B, 3, None, one_sided))
    assert shown.state == {B: "resync"}, "one side alone proves nothing"
    for seq, after in enumerate((6, 6, 11, 21, 41), 4):
        shown.wait(after)
        shown.frame(snapshot(B, seq, None, one_sided))
    assert shown.state == {B: "resync"}
    assert "unrepaired" in {wish.why for wish in shown.repairs}
    shown.frame(snapshot(A, 9, YES_LEVELS, [["0.9800", "7.50"], ["0.4500", "12.00"]]))
    shown.frame(snapshot(B, 10, None, one_sided))
    assert shown.state == {A: "live", B: "live"}


def test_rule_07_a_side_without_orders_is_absent() -> None:
    """One side or both can be missing; an empty book is a live book."""
    shown = reader()
    shown.frame(snapshot(A, 1, None, NO_LEVELS))
    shown.frame(snapshot(B, 2))
    assert shown.book(A)[0] == []
    assert len(shown.book(A)[1]) == 2
    assert (shown.state[B], shown.book(B)) == ("live", ([], []))


def test_rule_08_a_second_subscribe_merges_into_the_sid() -> None:
    """Adding markets is another subscribe; its `ok` means that they are part of the subscription."""
    kalshi = session()
    first = [orjson.loads(text) for text in kalshi.opened([A])]
    kalshi.received(subscribed(1, "orderbook_delta", first[0]["id"]))
    added = [orjson.loads(text) for text in kalshi.want([A, B])]
    assert [(frame["cmd"], frame["params"]["market_tickers"]) for frame in added] == [
        ("subscribe", [B]),
        ("subscribe", [B]),
    ]
    kalshi.received(ok(7, added[0]["id"]))
    (repair,) = map(orjson.loads, kalshi.repair([B]))
    assert repair["params"] == {"action": "get_snapshot", "sids": [1], "market_tickers": [B]}


def test_rule_09_the_sequence_is_per_sid_and_not_per_market() -> None:
    """Frames of two markets share one counter: 3, 4, 5 over both is no gap."""
    shown = started()
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    shown.frame(delta(B, 4, "yes", "0.3000", "1.00"))
    shown.frame(delta(A, 5, "yes", "0.4000", "1.00"))
    assert shown.state == {A: "live", B: "live"}
    assert shown.bad == []


@pytest.mark.parametrize("kind", ["orderbook_delta", "orderbook_snapshot", "orderbook_new"])
@pytest.mark.parametrize("change", [{"seq": "3"}, {"seq": None}, {"seq": 3.0}, {"sid": "1"}, {"sid": None}])
def test_rule_09_a_book_frame_without_a_number_is_doubt(kind: str, change: dict[str, object]) -> None:
    """A book frame whose seq or sid is absent or no integer has no place in the sequence: it is not applied,
    and its market leaves until a snapshot that has one."""
    shown = started()
    before = shown.book(A)
    frame = orjson.loads(delta(A, 3, "yes", "0.4000", "1.00")) | {"type": kind}
    if kind == "orderbook_snapshot":
        frame["msg"] = {"market_ticker": A, "yes_dollars_fp": [["0.1000", "1.00"]]}
    frame |= change
    shown.frame(raw({name: value for name, value in frame.items() if value is not None}))
    assert shown.bad == ["no_sequence"]
    assert shown.state == {A: "resync", B: "live"}
    assert shown.book(A) == before
    assert [repair.assets for repair in shown.repairs] == [(A,)]
    shown.frame(snapshot(A, 4, YES_LEVELS))
    assert shown.state == {A: "live", B: "resync"}, "3 was never counted"


@pytest.mark.parametrize(
    ("head", "left"), [({"sid": 1}, set()), ({}, set()), ({"sid": 7}, {A, B})], ids=["sid", "none", "other"]
)
def test_rule_09_a_book_frame_without_number_and_name_doubts_its_subscription(
    head: dict[str, object], left: set[str]
) -> None:
    """Without a market every book of the sid is doubtful, without a sid every book; another sid's stay."""
    shown = started()
    shown.frame(raw({"type": "orderbook_delta", **head, "msg": {"side": "yes"}}))
    assert shown.bad == ["no_sequence"]
    assert {asset for asset, state in shown.state.items() if state == "live"} == left


def test_rule_10_control_frames_consume_a_number() -> None:
    """`ok`, scoped errors, `unsubscribed` and types that we do not know count in the sequence."""
    shown = started()
    shown.frame(ok(3))
    shown.frame(error(11, sid=1, seq=4))
    shown.frame(raw({"type": "brand_new", "sid": 1, "seq": 5, "msg": {}}))
    shown.frame(delta(A, 6, "yes", "0.4000", "1.00"))
    assert shown.state == {A: "live", B: "live"}
    shown.frame(raw({"type": "unsubscribed", "id": 9, "sid": 2, "seq": 7}))
    shown.frame(delta(A, 7, "yes", "0.4000", "1.00"))
    assert shown.bad == ["venue_error", "unknown_type"]
    shown.frame(delta(A, 9, "yes", "0.4000", "1.00"))
    assert shown.state == {A: "resync", B: "resync"}, "8 is missing, so the counting works"


def test_rule_11_tickers_have_no_sequence() -> None:
    """A `ticker` frame carries no seq and disturbs no counter."""
    shown = started()
    shown.frame(raw({"type": "ticker", "sid": 3, "msg": {"market_ticker": A, "price_dollars": "0.9900"}}))
    shown.frame(delta(A, 3, "yes", "0.4000", "1.00"))
    assert (shown.bad, shown.state[A]) == ([], "live")


def test_rule_12_acknowledgements_are_matched_by_id() -> None:
    """Answers in any order: the error 26 halves exactly the command that it is about."""
    kalshi = session()
    tickers = [f"T-{number}" for number in range(501)]
    sent = [orjson.loads(text) for text in kalshi.opened(tickers)]
    assert [len(frame["params"].get("market_tickers", [])) for frame in sent] == [500, 1, 500, 1, 0]
    kalshi.received(ok(1, sent[1]["id"]))
    kalshi.received(subscribed(2, "trade", sent[2]["id"]))
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))
    halves = [orjson.loads(text) for text in kalshi.received(error(26, number=sent[3]["id"]))]
    assert halves == [], "one market has no half"
    sent = [orjson.loads(text) for text in kalshi.opened(tickers)]
    halves = [orjson.loads(text) for text in kalshi.received(error(26, number=sent[0]["id"]))]
    assert [half["params"]["market_tickers"] for half in halves] == [tickers[:250], tickers[250:500]]
    assert all(half["params"]["use_yes_price"] for half in halves)
    assert kalshi.received(error(26, number=sent[0]["id"])) == [], "it was answered already"


def test_rule_13_a_delta_before_its_snapshot_is_ignored_and_the_snapshot_asked_for() -> None:
    """Snapshots of a big subscribe come between deltas of others; one that does not follow is asked for."""
    shown = reader()
    shown.frame(delta(A, 1, "yes", "0.4000", "1.00"))
    shown.frame(snapshot(B, 2, YES_LEVELS))
    assert shown.state == {B: "live"}
    shown.wait(2.9)
    assert shown.repairs == []
    shown.wait(0.2)
    assert [repair.assets for repair in shown.repairs] == [(A,)]
    shown.frame(snapshot(A, 3, YES_LEVELS))
    assert shown.book(A)[0][0] == ("0.4", "5")


def test_rule_14_a_snapshot_replaces_also_unasked() -> None:
    """At the close an empty snapshot comes unasked: the old book is not protected from it."""
    shown = started()
    shown.frame(snapshot(A, 3))
    assert (shown.state[A], shown.book(A)) == ("live", ([], []))


def test_rule_15_a_gap_makes_all_books_of_the_sid_suspect() -> None:
    """All books of the sid leave at once, snapshots are asked for, and each comes back with its own;
    books of another sid stay."""
    shown = started()
    shown.frame(delta(A, 4, "yes", "0.4000", "1.00"))
    assert shown.state == {A: "resync", B: "resync"}
    assert shown.why == {A: "seq_gap", B: "seq_gap"}
    assert [set(repair.assets) for repair in shown.repairs] == [{A, B}]
    shown.frame(delta(B, 5, "yes", "0.3000", "1.00"))
    shown.frame(snapshot(B, 6, [["0.3000", "11.00"]]))
    assert shown.state == {A: "resync", B: "live"}
    shown.frame(snapshot(A, 7, YES_LEVELS))
    assert shown.state == {A: "live", B: "live"}


def test_rule_15_a_gap_among_trades_touches_no_book() -> None:
    """Another sid has another counter: what is lost there is counted, and no book is doubtful."""
    shown = started()
    shown.frame(subscribed(2, "trade", 2))
    trade = {
        "trade_id": "0723",
        "market_ticker": A,
        "yes_price_dollars": "0.9840",
        "count_fp": "148.78",
        "taker_book_side": "ask",
        "is_block_trade": True,
        "ts_ms": FRAME_MS,
    }
    for seq in (1, 4):
        shown.frame(raw({"type": "trade", "sid": 2, "seq": seq, "msg": trade}))
    assert shown.bad == ["sequence_gap"]
    assert shown.state == {A: "live", B: "live"}
    assert [(t.price, t.size, t.side, t.trade_id, t.block) for t in shown.trades] == [
        ("0.984", "148.78", "sell", "0723", True)
    ] * 2


@pytest.mark.parametrize("code", [10, 25])
def test_rule_16_errors_10_and_25_end_the_subscription(code: int) -> None:
    """The books of the sid leave, and the channel is subscribed again as a whole."""
    shown = started()
    kalshi = session()
    sent = [orjson.loads(text) for text in kalshi.opened([A, B])]
    kalshi.received(subscribed(1, "orderbook_delta", sent[0]["id"]))
    kalshi.received(subscribed(2, "trade", sent[1]["id"]))
    frame = error(code, sid=1, seq=3)
    shown.frame(frame)
    assert shown.state == {A: "resync", B: "resync"}
    again = [orjson.loads(text) for text in kalshi.received(frame)]
    assert [(f["cmd"], f["params"]["channels"], f["params"]["market_tickers"]) for f in again] == [
        ("subscribe", ["orderbook_delta"], [A, B])
    ]
    kalshi.received(subscribed(3, "orderbook_delta", again[0]["id"]))
    shown.frame(subscribed(3, "orderbook_delta"))
    shown.frame(snapshot(A, 1, YES_LEVELS, sid=3))
    assert shown.state[A] == "live"


def test_rule_17_pings_do_not_prove_data() -> None:
    """The venue's limits name a time of silence after which legs go down, and one for missing first books,
    whatever pings arrive; neither needs a frame to happen."""
    limits = VENUES["kalshi"].limits
    assert 0 < limits.silent_down_s <= 15
    assert limits.silent_down_s < limits.silent_replace_s
    shown = reader()
    for text in session().opened([A]):
        shown.sent(text.encode())
    shown.wait(10)
    assert [repair.assets for repair in shown.repairs] == [(A,)]


def test_rule_18_tickers_are_opaque_and_may_hold_a_dot() -> None:
    """A ticker with a dot is one asset and one subject token."""
    shown = started()
    shown.frame(delta(B, 3, "yes", "0.3000", "1.00"))
    assert shown.book(B)[0] == [("0.3", "11")]
    kalshi = session()
    kalshi.opened([A, B])
    assert kalshi.asset_of(delta(B, 3, "yes", "0.3000", "1.00")) == B
    subject = subjects.normalized("kalshi", B, B)
    assert subject.count(".") == 3
    assert subjects.split(subject)[3] == B


@pytest.mark.parametrize(
    ("stamps", "venue_us"),
    [
        ({"ts_ms": FRAME_MS, "ts": "2026-09-25T19:13:44.3Z"}, FRAME_MS * 1000),
        ({"ts": "2026-09-25T19:13:44.342537Z"}, 1_790_363_624_342_537),
        ({"ts": "2026-09-25T19:13:44.3Z"}, 1_790_363_624_300_000),
        ({"ts": 1_790_363_624}, 1_790_363_624_000_000),
        ({"ts": FRAME_MS}, FRAME_MS * 1000),
        ({"ts": "yesterday"}, None),
        ({}, None),
    ],
)
def test_rule_19_time_is_read_by_its_type(stamps: dict[str, object], venue_us: int | None) -> None:
    """`ts_ms` where there is one; else `ts` as RFC 3339 or integer, by its JSON type."""
    frame = orjson.loads(delta(A, 3, "yes", "0.4000", "1.00"))
    del frame["msg"]["ts"], frame["msg"]["ts_ms"]
    frame["msg"] |= stamps
    (event,) = KalshiAdapter().parse_message(raw(frame))
    assert isinstance(event, Increment)
    assert event.venue_us == venue_us


def test_rule_20_no_level_is_checked_against_a_grid() -> None:
    """A price structure can change while the market is open: any price of the exact range is a level."""
    shown = started()
    shown.frame(delta(A, 3, "yes", "0.3995", "1.00"))
    shown.frame(delta(A, 4, "yes", "0.0001", "1.00"))
    assert ("0.3995", "1") in shown.book(A)[0]
    assert ("0.0001", "1") in shown.book(A)[0]


@pytest.mark.parametrize(
    ("snap", "change"),
    [
        (
            {"yes": [[8, 300], [22, 333]], "no": [[54, 20]]},
            {"price": 22, "delta": -33, "side": "yes"},
        ),
        (
            {
                "yes": [[8, 300], [22, 333]],
                "no": [[54, 20]],
                "yes_dollars": [["0.080", 300], ["0.220", 333]],
                "no_dollars": [["0.540", 20]],
            },
            {"price": 22, "delta": -33, "side": "yes", "price_dollars": "0.220"},
        ),
        (
            {
                "yes": [[8, 300]],
                "yes_dollars_fp": [["0.0800", "300.00"], ["0.2200", "333.00"]],
                "no_dollars_fp": [["0.5400", "20.00"]],
            },
            {"price": 22, "delta": -33, "side": "yes", "price_dollars": "0.220", "delta_fp": "-33.00"},
        ),
    ],
    ids=["until 2025-09", "until 2026-01", "until 2026-03"],
)
def test_legacy_forms_give_the_same_book(snap: dict[str, object], change: dict[str, object]) -> None:
    """Recordings of 2025 and early 2026 hold integer cents beside or instead of decimal text."""
    shown = reader()
    shown.frame(raw({"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": A, **snap}}))
    shown.frame(raw({"type": "orderbook_delta", "sid": 1, "seq": 2, "msg": {"market_ticker": A, **change}}))
    assert shown.book(A) == ([("0.22", "300"), ("0.08", "300")], [("0.46", "20")])


def test_parse_message_is_pure_and_says_what_it_cannot_read() -> None:
    """The adapter turns one frame into one event, and raises with the kind of what is wrong."""
    adapter = KalshiAdapter(use_yes_price=True)
    (event,) = adapter.parse_message(snapshot(A, 5, None, [["0.4500", "1.00"]]))
    assert isinstance(event, Snapshot)
    assert (event.asks, event.sequence, event.stream) == ([("0.45", "1")], 5, "1")
    for frame, kind in (
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b"{}", "unknown_type"),
        (raw({"type": "orderbook_delta", "sid": 1, "seq": 1, "msg": {}}), "bad_field"),
        (
            raw({"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": A, "yes": {}}}),
            "bad_field",
        ),
        (
            raw(
                {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": A, "yes": [[1]]}}
            ),
            "bad_level",
        ),
    ):
        with pytest.raises(VenueMessageError) as problem:
            adapter.parse_message(frame)
        assert problem.value.kind == kind
