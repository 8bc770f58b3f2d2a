"""When a consolidated book may be compared with the true books, and how."""

from __future__ import annotations

import orjson

from wup.demo.truth import Collector, merged, shown

LEGS = {
    "kalshi": {"platform": "kalshi", "asset": "K", "inverted": False, "state": "live"},
    "polymarket": {"platform": "polymarket", "asset": "P", "inverted": True, "state": "live"},
}


def delta(cause: str | None, venue: int | None) -> dict[str, object]:
    message: dict[str, object] = {
        "type": "delta",
        "book": "b",
        "ts": {} if venue is None else {"venue": venue},
    }
    if cause is not None:
        message["cause"] = cause
    return message


def collector() -> Collector:
    made = Collector()
    made.before({"type": "snapshot", "book": "b", "legs": LEGS}, None)
    return made


def test_a_book_is_judged_once_every_leg_has_moved_on() -> None:
    """The state between two engine times of every leg is ready; the times are those it reflects."""
    c = collector()
    c.before(delta("kalshi", 10), b"s0")
    c.before(delta("polymarket", 5), b"s1")
    c.before(delta("kalshi", 11), b"s2")
    assert not c.ready
    c.before(delta("polymarket", 6), b"s3")
    assert [(r.snapshot, r.times) for r in c.ready] == [(b"s2", {"kalshi": 10, "polymarket": 5})]


def test_a_transaction_that_goes_on_spoils_the_candidate() -> None:
    """A further message at the same engine time means the candidate was taken in the middle: dropped."""
    c = collector()
    c.before(delta("kalshi", 10), b"s0")
    c.before(delta("polymarket", 5), b"s1")
    c.before(delta("kalshi", 11), b"middle of polymarket's 5")
    c.before(delta("polymarket", 5), b"s3")
    c.before(delta("polymarket", 6), b"s4")
    assert all(r.snapshot != b"middle of polymarket's 5" for r in c.ready)


def test_unknown_engine_times_and_state_changes_start_anew() -> None:
    """A delta without engine time, or a status, makes what was waiting worthless."""
    c = collector()
    c.before(delta("kalshi", 10), b"s0")
    c.before(delta("polymarket", 5), b"s1")
    c.before(delta("kalshi", 11), b"s2")
    c.before(delta("kalshi", None), b"s3")
    c.before(delta("polymarket", 6), b"s4")
    assert not c.ready


def test_merge_mirrors_inverted_legs_exactly() -> None:
    """venue bid (p, s) of an inverted leg is a unified ask at 1 - p (mapping.md section 2)."""
    cells = merged(
        {
            "kalshi": (False, {"bids": [["0.52", "500"]], "asks": []}),
            "polymarket": (True, {"bids": [["0.479", "7.25"]], "asks": [["0.48", "1"]]}),
        }
    )
    assert cells == {
        ("bid", "0.52"): {"kalshi": "500", "polymarket": "1"},
        ("ask", "0.521"): {"polymarket": "7.25"},
    }


def test_shown_reads_a_snapshot() -> None:
    """The cells of a snapshot are its levels' parts."""
    snapshot = orjson.dumps({"bids": [["0.5", "3", {"a": "1", "b": "2"}]], "asks": []})
    assert shown(snapshot) == {("bid", "0.5"): {"a": "1", "b": "2"}}
