"""A market's own status: told once, on one connection, and true on all until it is known to be over."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest

from normalizer.feed import START_US, Feed, table
from normalizer.test_engine import K2, LEVELS, K, P, started
from venues.kal import FRAME_MS, A, B, delta, error, raw, snapshot, subscribed
from venues.poly import MARKET, NO, YES, Book
from venues.poly import raw as poly_raw
from wup.mapping.table import MappingTable
from wup.normalizer.service import STATUS_PARTS
from wup.normalizer.statuses import KEPT, Statuses
from wup.playback.player import Player
from wup.raw import Meta
from wup.recorder.records import table_lines


def life(kind: str, seq: int, asset: str = A, **fields: object) -> bytes:
    """A lifecycle frame; its subscription is the third."""
    message = {"market_ticker": asset, "event_type": kind, **fields}
    return raw({"type": "market_lifecycle_v2", "sid": 3, "seq": seq, "msg": message})


def listed(word: str | None, version: int, asked_us: int | None = START_US + 60_000_000) -> MappingTable:
    """The mapping when the venue's catalogue lists A as `word`, said when it was asked at `asked_us`."""
    whole = table(K, K2, version=version)
    first, *rest = whole.legs
    first = dataclasses.replace(first, suspended=word, status_us=asked_us)
    return dataclasses.replace(whole, legs=(first, *rest))


def halted() -> Feed:
    """A and B shown, then A halted; the latest time known is FRAME_MS."""
    feed = started()
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
    feed.frame("kalshi", life("deactivated", 1))
    assert (feed.reader.state[A], feed.reader.why[A], feed.reader.state[B]) == ("halted", "halted", "live")
    return feed


def again(feed: Feed, connection: str = "c2", *, close: str = "c1") -> None:
    """The connection is lost, and another one brings whole books."""
    feed.record("close", "kalshi", close, {"why": "disconnected"})
    feed.open("kalshi", connection, use_yes_price=False)
    feed.frame("kalshi", snapshot(A, 1, [["0.2000", "7.00"]]), connection)
    feed.frame("kalshi", snapshot(B, 2, [["0.3000", "10.00"]]), connection)


def test_a_halt_ends_when_the_venue_says_so() -> None:
    """While a market is halted its book goes on and is not shown; it comes back whole. What is said twice is
    told once."""
    feed = halted()
    feed.frame("kalshi", life("deactivated", 2))
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00"))
    assert feed.reader.types(A)[-2:] == ["update", "state"]
    feed.frame("kalshi", life("activated", 3))
    assert feed.reader.state[A] == "live"
    assert feed.reader.books[A][0]["0.4"] == "7"
    feed.frame("kalshi", life("activated", 4))
    feed.frame("kalshi", delta(A, 5, "yes", "0.4000", "1.00"))
    assert feed.reader.types(A)[-2:] == ["snapshot", "update"]


def test_a_halt_outlives_the_connection_that_told_it() -> None:
    """After a reconnect the market is halted as soon as its book is known, and never live before the venue
    says so; then its book is the new connection's."""
    feed = halted()
    seen = len(feed.reader.messages)
    again(feed)
    assert (feed.reader.state[A], feed.reader.why[A]) == ("halted", "halted")
    assert feed.reader.state[B] == "live"
    assert [m["state"] for _, m in feed.reader.messages[seen:] if m.get("asset_id") == A] == [
        "down",
        "halted",
    ]
    feed.frame("kalshi", snapshot(A, 3, [["0.2000", "8.00"]]), "c2")
    feed.engine.resync("kalshi", [A], feed.now_us)
    assert feed.reader.state[A] == "halted"
    feed.frame("kalshi", life("activated", 1), "c2")
    assert feed.reader.state[A] == "live"
    assert feed.reader.books[A] == ({"0.2": "8"}, {})


def test_a_halt_is_one_for_all_connections() -> None:
    """While one connection replaces another, a halt told on either holds on both, whichever goes first, and
    so it does when it is told on a connection that does not carry the market."""
    for teller in ("old", "new", "other"):
        feed = Feed(K, K2)
        for connection in ("old", "new"):
            feed.open("kalshi", connection, use_yes_price=False)
            feed.frame("kalshi", snapshot(A, 1, LEVELS), connection)
        feed.open("kalshi", "other", use_yes_price=False)
        feed.frame("kalshi", snapshot(B, 1, LEVELS), "other")
        feed.frame("kalshi", life("deactivated", 1), teller)
        seen = len(feed.reader.messages)
        feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00"), "new")
        feed.record("close", "kalshi", "old", {"why": "disconnected"})
        feed.frame("kalshi", snapshot(A, 3, [["0.2000", "7.00"]]), "new")
        assert feed.reader.messages[seen:] == []
        assert feed.reader.state[A] == "halted"
        feed.frame("kalshi", life("activated", 2), "new" if teller == "old" else teller)
        assert feed.reader.state[A] == "live"
        assert feed.reader.books[A][0] == {"0.2": "7"}


def test_a_loss_in_a_halt_comes_back_as_a_halt() -> None:
    """A gap takes the leg to `resync`; its next whole book makes it halted, and only the venue's word live.
    Ended without a book it is what it was for want of one."""
    feed = halted()
    feed.frame("kalshi", delta(B, 5, "yes", "0.3000", "1.00"))
    assert feed.reader.state == {A: "resync", B: "resync"}
    feed.frame("kalshi", snapshot(A, 6, LEVELS))
    assert feed.reader.state == {A: "halted", B: "resync"}
    feed.frame("kalshi", life("deactivated", 2, B))
    feed.frame("kalshi", life("activated", 3, B))
    assert feed.reader.state == {A: "halted", B: "resync"}


def test_an_order_placed_after_the_halt_proves_its_end() -> None:
    """`activated` is told once and may be lost. A book that grows two seconds of venue time after the first
    growth that was read since the halt proves that trading goes on: while it is paused orders can be
    cancelled, never placed, and the first may have been on its way. So it does on a connection that was
    opened later, and each repetition of the halt begins anew."""
    for reconnect in (False, True):
        feed = halted()
        if reconnect:
            again(feed)
        name, seq = ("c2", 3) if reconnect else ("c1", 4)
        feed.frame("kalshi", delta(A, seq, "yes", "0.2000", "1.00", ts_ms=FRAME_MS + 1_999), name)
        feed.frame("kalshi", delta(A, seq + 1, "yes", "0.2000", "-1.00", ts_ms=FRAME_MS + 5_000), name)
        assert feed.reader.state[A] == "halted"
        feed.frame("kalshi", life("deactivated", 2 - reconnect), name)
        feed.frame("kalshi", delta(A, seq + 2, "yes", "0.2000", "1.00", ts_ms=FRAME_MS + 6_999), name)
        assert feed.reader.state[A] == "halted"
        feed.frame("kalshi", delta(A, seq + 3, "yes", "0.2000", "2.00", ts_ms=FRAME_MS + 8_998), name)
        feed.frame("kalshi", delta(A, seq + 4, "yes", "0.2000", "0.00", ts_ms=FRAME_MS + 9_998), name)
        assert feed.reader.state[A] == "halted"
        feed.frame("kalshi", delta(A, seq + 5, "yes", "0.2000", "2.00", ts_ms=FRAME_MS + 8_999), name)
        assert feed.reader.state[A] == "live"


def test_an_order_from_before_the_halt_does_not_end_it() -> None:
    """A halt may be told on a connection whose books were quiet for long, before the last orders from
    before it are read: they prove nothing."""
    feed = started()
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00", ts_ms=FRAME_MS))
    feed.frame("kalshi", life("deactivated", 1))
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00", ts_ms=FRAME_MS + 9_000))
    assert feed.reader.state[A] == "halted"


def test_without_any_time_before_the_halt_the_first_one_after_it_counts() -> None:
    """What is on its way when the halt is told must not end it."""
    feed = started()
    feed.frame("kalshi", life("deactivated", 1))
    feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00", ts_ms=FRAME_MS))
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00", ts_ms=FRAME_MS + 1_999))
    assert feed.reader.state[A] == "halted"
    feed.frame("kalshi", delta(A, 5, "yes", "0.4000", "1.00", ts_ms=FRAME_MS + 2_000))
    assert feed.reader.state[A] == "live"


def test_the_catalogue_ends_a_halt_that_it_listed_since() -> None:
    """The mapping's `halted`, said after the venue's frame and then said no more, is news of a later time.
    What the catalogue said before the halt, or only that it knows of none, is not."""
    feed = started()
    feed.engine.set_table(listed("halted", 2))
    assert feed.reader.state[A] == "live"
    feed.frame("kalshi", life("deactivated", 1))
    for version, word in enumerate((None, "rules_changed", None), 3):
        feed.engine.set_table(listed(word, version))
        feed.engine.resync("kalshi", [A], feed.now_us)
        assert feed.reader.state[A] == "halted"
    feed.engine.set_table(listed("halted", 6))
    again(feed)
    feed.engine.set_table(listed("suspended", 7))
    feed.engine.resync("kalshi", [A], feed.now_us)
    assert feed.reader.state[A] == "halted"
    feed.engine.set_table(listed(None, 8))
    feed.engine.resync("kalshi", [A], feed.now_us)
    assert feed.reader.state[A] == "live"
    assert feed.reader.books[A][0] == {"0.2": "7"}


@pytest.mark.parametrize("between", ["told", "lost"])
def test_a_second_halt_is_not_ended_by_what_the_catalogue_said_before_it(between: str) -> None:
    """The catalogue's words about a first halt, and about its end, may come after a second halt was told:
    read late, or out of a cache. Only an answer to a question of 18 s after the last telling ends it, at once
    when it comes; one without a time never does."""
    feed = halted()
    feed.engine.set_table(listed("halted", 2, feed.now_us))
    if between == "told":
        feed.frame("kalshi", life("activated", 2))
    feed.now_us += 4_000_000
    feed.frame("kalshi", life("deactivated", 3 - (between == "lost")))
    told_us = feed.now_us
    version = 3
    for asked_us in (told_us - 2_000_000, None, told_us + 1_000_000, told_us + 17_999_999):
        feed.engine.set_table(listed("halted", version, told_us - 3_000_000))
        feed.engine.set_table(listed(None, version + 1, asked_us))
        version += 2
        feed.engine.resync("kalshi", [A], feed.now_us)
        assert feed.reader.state[A] == "halted"
    feed.engine.set_table(listed(None, version, told_us + 18_000_000))
    feed.engine.resync("kalshi", [A], feed.now_us)
    assert feed.reader.state[A] == "live"


def test_a_normalizer_that_starts_in_a_halt_has_the_catalogues_word() -> None:
    """A new process has heard nothing from the venue: a market that its first table lists as halted is
    halted, until the venue's frames or a later table say otherwise."""
    for end in ("venue", "table"):
        feed = Feed()
        feed.engine.set_table(listed("halted", 1))
        feed.open("kalshi", use_yes_price=False)
        feed.frame("kalshi", snapshot(A, 1, LEVELS))
        feed.frame("kalshi", snapshot(B, 2, LEVELS))
        assert feed.reader.state == {A: "halted", B: "live"}
        if end == "venue":
            feed.frame("kalshi", life("activated", 1))
        else:
            feed.engine.set_table(listed(None, 2))
            feed.frame("kalshi", delta(A, 3, "yes", "0.4000", "1.00"))
        assert feed.reader.state[A] == "live"


def test_statuses_outlive_a_market_that_leaves_and_comes_back() -> None:
    """A mapping that lacks the market for a while does not open it: neither from a halt nor from its end."""
    feed = halted()
    feed.frame("kalshi", life("determined", 2, B, result="yes"))
    feed.engine.set_table(table(version=2))
    feed.engine.set_table(table(K, K2, version=3))
    # A reader forgets a market that is gone.
    feed.reader.n.clear()
    again(feed)
    assert feed.reader.state == {A: "halted", B: "closed"}
    feed.engine.resync("kalshi", [B], feed.now_us)
    last = feed.reader.messages[-1][1]
    assert (last["state"], last["why"], last["result"]) == ("closed", "resolved", "yes")


@pytest.mark.parametrize("kind", ["determined", "settled"])
def test_an_end_has_no_end(kind: str) -> None:
    """Closed is closed: over reconnects, whatever a later frame, order or table says."""
    feed = started()
    feed.frame("kalshi", life("deactivated", 1))
    feed.frame("kalshi", life(kind, 2))
    assert feed.reader.state[A] == "closed"
    seen = feed.reader.types(A)
    again(feed)
    feed.frame("kalshi", life("activated", 1), "c2")
    feed.frame("kalshi", life("deactivated", 2), "c2")
    feed.frame("kalshi", delta(A, 3, "yes", "0.2000", "1.00", ts_ms=FRAME_MS + 60_000), "c2")
    feed.engine.set_table(listed("halted", 2))
    feed.engine.set_table(listed(None, 3))
    assert feed.reader.types(A) == seen
    assert feed.reader.state == {A: "closed", B: "live"}


def test_a_resolution_is_held_by_the_same_means() -> None:
    """The other venue's `market_resolved`: the market stays closed on every later connection, and when the
    mapping lacks it for a while."""
    book = Book({"0.3": "1"}, {"0.6": "2"})
    resolved = {
        "event_type": "market_resolved",
        "market": MARKET,
        "assets_ids": [YES, NO],
        "winning_asset_id": YES,
        "timestamp": "1790658827000",
    }
    # Also when it is told before the connection's first book.
    for before in ([poly_raw([book.book()])], []):
        feed = Feed(P)
        feed.open("polymarket", "p1")
        for frame in (*before, poly_raw(resolved)):
            feed.frame("polymarket", frame, "p1")
        assert feed.reader.state == {YES: "closed"}
        feed.record("close", "polymarket", "p1", {"why": "disconnected"})
        feed.engine.set_table(table(version=2))
        feed.engine.set_table(table(P, version=3))
        feed.open("polymarket", "p2")
        feed.frame("polymarket", poly_raw([book.book()]), "p2")
        assert feed.reader.state == {YES: "closed"}
        assert feed.reader.messages[-1][1]["result"] == "yes"


def test_what_may_have_been_missed_is_asked_for() -> None:
    """The venue's catalogue is asked about a market when a halt begins and ends, and about all when a
    connection opens, when frames of the lifecycle are missing, and when records of ours are; never because
    of books."""
    looks: list[tuple[str, tuple[str, ...] | None]] = []

    def news() -> list[tuple[str, tuple[str, ...] | None]]:
        found = looks.copy()
        looks.clear()
        return found

    feed = Feed(K, K2, look=lambda platform, assets: looks.append((platform, assets)))
    everything = [("kalshi", None)]
    feed.open("kalshi", use_yes_price=False)
    assert news() == everything
    feed.frame("kalshi", subscribed(1, "orderbook_delta"))
    feed.frame("kalshi", subscribed(3, "market_lifecycle_v2"))
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00"))
    feed.frame("kalshi", delta(A, 4, "yes", "0.4000", "1.00"))
    feed.frame("kalshi", snapshot(A, 5, LEVELS))
    feed.frame("kalshi", life("created", 1))
    assert news() == []
    feed.frame("kalshi", life("deactivated", 2))
    assert news() == [("kalshi", (A,))]
    # Told again it may be another halt, of which the answers to the first question know nothing.
    feed.frame("kalshi", life("deactivated", 3))
    assert news() == [("kalshi", (A,))]
    for seq, ts_ms in ((6, FRAME_MS + 3_000), (7, FRAME_MS + 5_000)):
        feed.frame("kalshi", delta(A, seq, "yes", "0.4000", "1.00", ts_ms=ts_ms))
    assert news() == [("kalshi", (A,))]
    feed.frame("kalshi", life("deactivated", 4))
    feed.frame("kalshi", life("activated", 5))
    feed.frame("kalshi", life("activated", 6))
    assert news() == [("kalshi", (A,)), ("kalshi", (A,))]
    feed.frame("kalshi", life("created", 8))
    assert news() == everything
    feed.frame("kalshi", error(10, sid=1, seq=8))
    assert news() == []
    feed.frame("kalshi", life("deactivated", 9, ""))
    assert news() == everything
    feed.frame("kalshi", b'{"type":"market_lifecycle_v2","sid":3,"seq":10,"msg":{"market_tick')
    assert news() == everything
    feed.frame("kalshi", error(10, sid=3, seq=11))
    assert news() == everything
    feed.lose()
    feed.record("marks", "kalshi", "c1", {"open": {}})
    assert news() == everything


# --- recordings -----------------------------------------------------------------------------------


def test_every_change_of_a_status_is_told() -> None:
    """What a log needs: each change once, with what is needed to find the end of a halt, and all of them
    again when asked."""
    told: list[tuple[str, str, dict[str, Any]]] = []
    feed = Feed(K, K2, tell=lambda *change: told.append(change))
    feed.open("kalshi", use_yes_price=False)
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    feed.frame("kalshi", life("deactivated", 1))
    feed.frame("kalshi", life("deactivated", 2))
    feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00", ts_ms=FRAME_MS))
    feed.engine.set_table(listed("halted", 2))
    feed.engine.tell_statuses(1)
    feed.frame("kalshi", life("activated", 3))
    feed.frame("kalshi", life("determined", 4, B, result="no"))
    why = {"asset": A, "status": "halted", "why": "halted", "told_us": START_US}
    assert told == [
        ("kalshi", A, why),
        ("kalshi", A, {**why, "venue_us": FRAME_MS * 1000}),
        ("kalshi", A, {**why, "venue_us": FRAME_MS * 1000, "listed": True}),
        ("kalshi", A, {**why, "venue_us": FRAME_MS * 1000, "listed": True}),
        ("kalshi", A, {"asset": A, "status": "open"}),
        ("kalshi", B, {**why, "asset": B, "status": "closed", "why": "resolved", "result": "no"}),
    ]


def test_statuses_are_told_again_a_few_at_a_time() -> None:
    """In one round of so many parts every halt and every end of a followed market is told once, evenly, and
    no end of a market that is not followed; what opened since is not told."""
    told: list[tuple[str, str, dict[str, Any]]] = []
    names = [f"KX-{number}" for number in range(5_000)]
    feed = Feed(*(("kalshi", name, name) for name in names), tell=lambda *one: told.append(one))
    feed.open("kalshi", use_yes_price=False)
    for number, name in enumerate(names):
        kind = {"result": "yes"} if number % 10 else {}
        feed.frame("kalshi", life("determined" if number % 10 else "deactivated", number + 1, name, **kind))
    feed.engine.set_table(table(*(("kalshi", name, name) for name in names[:4_000]), version=2))
    told.clear()
    sizes = []
    for part in range(2 * STATUS_PARTS):
        if part == STATUS_PARTS:
            first, told[:] = sorted(one[1] for one in told), []
        if part == STATUS_PARTS + 1:
            feed.frame("kalshi", life("activated", 9_001, names[3_990]))
        before = len(told)
        feed.engine.tell_statuses(STATUS_PARTS)
        sizes.append(len(told) - before)
    wanted = sorted(name for number, name in enumerate(names) if number < 4_000 or number % 10 == 0)
    assert first == wanted
    second = [one[1] for one in told if one[2]["status"] != "open"]
    assert sorted(second) == [name for name in wanted if name != names[3_990]]
    assert max(sizes) <= 5


def test_a_log_that_begins_in_a_halt_knows_of_it() -> None:
    """`status` records before the first book: the market is halted when its book comes, and its end is found
    as by the one who wrote the log. A whole log with them in it says nothing more than without."""
    feed = Feed(K, K2)
    told = {"asset": A, "status": "halted", "why": "halted", "venue_us": FRAME_MS * 1000}
    feed.record("status", "kalshi", "", told)
    feed.record("status", "kalshi", "", {"asset": B, "status": "closed", "why": "resolved", "result": "no"})
    assert feed.reader.state == {B: "closed"}
    feed.open("kalshi", use_yes_price=False)
    feed.frame("kalshi", snapshot(A, 1, LEVELS))
    assert feed.reader.state[A] == "halted"
    feed.record("status", "kalshi", "", told)
    feed.record("status", "kalshi", "", {"asset": A, "status": "open"})
    assert feed.reader.types(A) == ["state"]
    feed.frame("kalshi", delta(A, 2, "yes", "0.4000", "1.00", ts_ms=FRAME_MS + 2_000))
    assert feed.reader.state[A] == "live"
    assert feed.bad == []
    for wrong in (
        {"asset": 7, "status": "halted", "why": "halted"},
        {"asset": A, "status": "asleep", "why": "halted"},
        {"asset": A, "status": "halted", "why": ["halted"]},
        {"asset": A, "status": "halted", "why": "halted", "venue_us": "soon"},
        {"asset": A, "status": "closed", "why": "resolved", "result": 1},
    ):
        feed.record("status", "kalshi", "", wrong)
    assert [kind for _, kind in feed.bad] == ["bad_record"] * 5
    assert feed.reader.state[A] == "live"


def test_a_halted_book_can_be_gone_on_with() -> None:
    """A halted market has a checkpoint too: a reader who begins there has its book when trading goes on."""
    feed = halted()
    found = feed.engine.checkpoint("kalshi", A)
    assert found is not None
    connection, body = found
    later = Feed(K, K2)
    later.record("status", "kalshi", "", {"asset": A, "status": "halted", "why": "halted"})
    later.open("kalshi", connection, use_yes_price=False)
    later.record("book", "kalshi", connection, body)
    assert later.reader.state == {A: "halted"}
    later.frame("kalshi", life("activated", 2))
    assert later.reader.books[A] == feed.reader.books[A]
    assert later.reader.state == {A: "live"}


def test_a_replay_of_a_log_with_statuses_is_the_live_run() -> None:
    """The player takes `status` records as the engine does: books of a log that begins in a halt."""
    states: list[str] = []
    player = Player(
        lambda change: (
            states.append(orjson.loads(change.payload)["legs"]["kalshi"]["state"])
            if change.kind == "status"
            else None
        ),
        timers=lambda: False,
    )
    row = ["kalshi", A, f"agg.{'0' * 16}.yes", False]
    n = 0

    def put(kind: Any, connection: str, payload: bytes | dict[str, Any]) -> None:
        nonlocal n
        n += kind == "frame"
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        player.record(Meta(kind, "kalshi", connection, START_US + n, n), body)

    put("start", "", {"epoch": START_US // 1000, "verdicts": True})
    put("mapping", "", {"version": 1, "table": [row]})
    put("status", "", {"asset": A, "status": "halted", "why": "halted", "venue_us": 1})
    put("open", "c1", {"use_yes_price": False})
    put("frame", "c1", snapshot(A, 1, LEVELS))
    assert player.store.book(row[2]).legs["kalshi"]["state"] == "halted"  # type: ignore[arg-type]
    put("frame", "c1", life("activated", 1))
    assert player.store.book(row[2]).legs["kalshi"]["state"] == "live"  # type: ignore[arg-type]
    assert states[-2:] == ["halted", "live"]


def test_a_replay_judges_the_catalogues_word_as_the_live_run_did() -> None:
    """A log has when a halt was told and when the catalogue was asked: from both alone a replay, also one
    that begins in the halt, finds that an early word did not end it and a later one did."""
    player = Player(lambda change: None, timers=lambda: False)
    told_us = START_US + 1_000_000

    def put(kind: Any, connection: str, payload: bytes | dict[str, Any]) -> None:
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        player.record(Meta(kind, "kalshi", connection, told_us, int(kind == "frame")), body)

    def mapped(word: str | None, version: int, asked_us: int | None) -> None:
        *_, mapping = table_lines(listed(word, version, asked_us), told_us, None)
        put("mapping", "", mapping)

    def state() -> object:
        return player.store.book(f"agg.{'0' * 16}.yes").legs["kalshi"]["state"]

    put("start", "", {"epoch": START_US // 1000, "verdicts": True})
    mapped(None, 1, None)
    put("status", "", {"asset": A, "status": "halted", "why": "halted", "listed": True, "told_us": told_us})
    put("open", "c1", {"use_yes_price": False})
    put("frame", "c1", snapshot(A, 1, LEVELS))
    assert state() == "halted"
    for version, (asked_us, shown) in enumerate(
        ((told_us + 17_999_999, "halted"), (told_us + 18_000_000, "live")), 1
    ):
        mapped("halted", 2 * version, told_us)
        mapped(None, 2 * version + 1, asked_us)
        assert state() == shown


def test_no_more_statuses_than_so_many_are_held() -> None:
    """Beyond the bound the oldest end is forgotten, never a halt that is waited for."""
    statuses = Statuses(lambda platform, asset, fields: None)
    statuses.hold("kalshi", "H", "halted", "halted")
    for number in range(KEPT):
        statuses.hold("kalshi", str(number), "closed", "resolved")
    assert statuses.of("kalshi", "H") is not None
    assert statuses.of("kalshi", "0") is None
    assert statuses.of("kalshi", "1") is not None


def test_a_quiet_market_is_shown_when_the_catalogue_ends_its_halt() -> None:
    """The catalogue's word ends the halt only when a late enough answer confirms it, in a table that moves no
    leg: the market is shown with that table, without a frame or a request."""
    feed = halted()
    told = feed.now_us
    feed.engine.set_table(listed("halted", 2, told + 3_000_000))
    feed.engine.set_table(listed(None, 3, told + 10_000_000))
    assert feed.reader.state[A] == "halted"
    feed.engine.set_table(listed(None, 4, told + 25_000_000))
    assert feed.reader.state[A] == "live"
