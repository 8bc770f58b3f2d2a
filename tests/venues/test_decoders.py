"""The native decoder against the adapters' own: what the one reads, the other reads in the same way.

Recorded, simulated and spoiled frames go through both; where a stream is at hand whole normalisers run side
by side and must say the same after every frame.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.tapes import kalshi_capture, polymarket_array
from venues import kal
from venues.market_run import Run
from venues.poly import MARKET, NO, YES, Book
from venues.poly import raw as poly_raw
from venues.shown import Shown
from venues.test_fuzz import FACTS, kalshi_frames, poly_frames, spoiled
from venues.twin import Twin, reads, twins
from wup.errors import VenueMessageError
from wup.model import Instrument, Snapshot, VenueEvent
from wup.venues.kalshi.adapter import KalshiAdapter
from wup.venues.kalshi.adapter import load as load_kalshi
from wup.venues.numbers import shortest
from wup.venues.polymarket.adapter import PolymarketAdapter
from wup.venues.polymarket.adapter import load as load_polymarket

SAID = ["id", "market", "timestamp", "hash", "tick_size", "last_trade_price", "min_order_size", "neg_risk"]


def ladder(levels: Any) -> dict[str, str]:
    """The order in which a venue writes levels means nothing; of a repeated price the last counts."""
    last = {shortest(price): shortest(size) for price, size in levels}
    return {price: size for price, size in last.items() if size != "0"}


def meaning(event: VenueEvent) -> object:
    """An event for comparison."""
    if not isinstance(event, Snapshot):
        return event
    said = {name: value for name, value in event.extra.items() if name in SAID}
    stream = (event.sequence, event.stream, event.venue_us)
    return (event.asset_id, ladder(event.bids), ladder(event.asks), stream, said)


def compared(platform: str, raw: bytes, *, use_yes_price: bool = False) -> bool:
    """Whether the native decoder reads the frame; if it does the other one must read the same."""
    found: list[VenueEvent] | None
    if platform == "kalshi":
        kalshi = KalshiAdapter(use_yes_price)
        event = kalshi.native(raw)
        if event is None:
            return False
        found, reference = [event], kalshi.events(load_kalshi(raw))
    else:
        polymarket = PolymarketAdapter()
        found = polymarket.native(raw)
        if found is None:
            return False
        problems: list[VenueMessageError] = []
        reference = [event for item in load_polymarket(raw) for event in polymarket.events(item, problems)]
        assert not problems, f"{problems[0]} in {raw!r}"
    assert [meaning(event) for event in found] == [meaning(event) for event in reference], raw
    return True


def test_every_recorded_frame_is_read_alike(captures: Path) -> None:
    """The real captures: every snapshot and delta is read natively, in both price modes, and like the other
    decoder reads it; so is every real book, in an array and alone."""
    read: Counter[str] = Counter()
    for record in kalshi_capture(captures):
        raw = json.dumps(record["frame"], separators=(",", ":")).encode() + b"\n"
        for mode in (False, True):
            read[record["frame"]["type"]] += compared("kalshi", raw, use_yes_price=mode)
    assert read == {"orderbook_snapshot": 24, "orderbook_delta": 490, "subscribed": 0, "ok": 0}
    array = polymarket_array(captures).encode()
    assert compared("polymarket", array)
    for item in json.loads(array):
        assert compared("polymarket", poly_raw(item))


@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
def test_every_simulated_frame_is_read_alike(platform: str) -> None:
    """Runs with all faults mixed, both normalisers side by side: the same outputs, books, texts and checks
    after every frame and every deadline; nearly every book frame is read natively."""
    read: Counter[str] = Counter()
    for seed in range(4):
        Run(platform, seed, venue=twins(platform, read)).go()
    print(platform, dict(read))
    assert read["native"] > 2_000
    # Escapes, schema drift and broken frames are what is left.
    assert read["left"] < read["native"] / 5


@settings(max_examples=400, deadline=None)
@given(spoiled(poly_frames()))
def test_spoiled_polymarket_frames_are_read_alike(raws: list[bytes]) -> None:
    """Whatever is in a frame, both normalisers say the same."""
    shown = Shown(Twin("polymarket", {}, {YES: Instrument("polymarket", YES, MARKET, FACTS)}, Counter()))
    for raw in raws:
        compared("polymarket", raw)
        shown.frame(raw)
        shown.wait(0.1)


@settings(max_examples=400, deadline=None)
@given(spoiled(kalshi_frames()), st.booleans())
def test_spoiled_kalshi_frames_are_read_alike(raws: list[bytes], mode: bool) -> None:
    """Whatever is in a frame, both normalisers say the same."""
    info = {"use_yes_price": mode}
    shown = Shown(Twin("kalshi", info, {kal.A: Instrument("kalshi", kal.A, kal.A)}, Counter()))
    for raw in raws:
        compared("kalshi", raw, use_yes_price=mode)
        shown.frame(raw)
        shown.wait(0.1)


DELTA = kal.delta(kal.A, 7, "no", "0.0400", "12.50")
WHOLE = kal.snapshot(kal.A, 7, [["0.4000", "5.00"]], [["0.5500", "12.00"]])
BOOK = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50.50"})
ITEM = poly_raw(BOOK.book())
CHANGE = poly_raw(BOOK.move(("BUY", "0.3", "5"), ("SELL", "0.39", "0")))


@pytest.mark.parametrize(
    ("platform", "raw", "old", "new"),
    [
        # Escapes: a key or a value may be written in many ways.
        ("kalshi", DELTA, b'"side"', rb'"s\u0069de"'),
        ("kalshi", DELTA, b'"no"', rb'"n\u006f"'),
        ("kalshi", DELTA, b'"sid":1', b'"sid":1,"t\\u0079pe":"trade"'),
        ("polymarket", CHANGE, b'"price_change"', rb'"price\u005fchange"'),
        # Text that is no UTF-8, in fields that nobody uses.
        ("kalshi", DELTA, b"943fcfe7", b"943f\xff"),
        ("polymarket", ITEM, b'"event_type"', b'"x":"\xc3\x28","event_type"'),
        # Of a repeated key the last counts.
        ("kalshi", DELTA, b'"seq":7', b'"seq":7,"seq":8'),
        ("kalshi", DELTA, b'"side":"no"', b'"side":"no","side":"yes"'),
        ("kalshi", DELTA, b'"type":"orderbook_delta"', b'"type":"orderbook_delta","type":"ok"'),
        ("kalshi", WHOLE, b'"yes_dollars_fp"', b'"yes_dollars_fp":[["0.1","1"]],"yes_dollars_fp"'),
        ("polymarket", CHANGE, b'"price":"0.3"', b'"price":"0.4","price":"0.3"'),
        ("polymarket", ITEM, b'"bids"', b'"bids":[{"price":"0.1","size":"1"}],"bids"'),
        ("polymarket", ITEM, b'"hash"', b'"hash":"x","hash"'),
        # Numbers at the border of what fits.
        ("kalshi", DELTA, b"12.50", b"-0.00"),
        ("kalshi", DELTA, b"12.50", b"12.5000001"),
        ("kalshi", DELTA, b"12.50", b"99999999999999999999"),
        ("kalshi", DELTA, b'"seq":7', b'"seq":-0'),
        ("kalshi", DELTA, b'"seq":7', b'"seq":7.0'),
        ("kalshi", DELTA, b'"seq":7', b'"seq":18446744073709551615'),
        ("kalshi", DELTA, b'"ts_ms":1790363624342', b'"ts_ms":9223372036854775807'),
        ("kalshi", DELTA, b'"sid"', b'"x":1e999,"sid"'),
        ("kalshi", DELTA, b'"sid"', b'"x":-1e99,"sid"'),
        ("kalshi", DELTA, b'"sid"', b'"x":' + b"9" * 400 + b',"sid"'),
        ("polymarket", ITEM, b'"tick_size"', b'"x":1e999,"tick_size"'),
        ("polymarket", CHANGE, b'"market"', b'"x":' + b"9" * 400 + b',"market"'),
        ("kalshi", DELTA, b'"ts_ms":1790363624342', b'"ts_ms":-1'),
        ("kalshi", DELTA, b'"ts_ms":1790363624342', b'"ts_ms":1000000000000000'),
        ("kalshi", DELTA, b'"0.0400"', b'"0"'),
        ("kalshi", WHOLE, b'"5.00"', b'"0.00"'),
        ("kalshi", WHOLE, b'"0.5500"', b'"1.0000"'),
        ("polymarket", CHANGE, b'"5"', b'"5."'),
        ("polymarket", CHANGE, b'"0.3"', b'"1"'),
        ("polymarket", ITEM, b'"100"', b'"0"'),
        # Order of keys, white space, depth, unknown fields.
        ("kalshi", DELTA, b'{"type":"orderbook_delta",', b' {\n"msg":{},"type" : "orderbook_delta",'),
        ("kalshi", DELTA, b'"sid"', b'"new":{"a":[1,{"b":null}]},"sid"'),
        ("kalshi", DELTA, b'"sid"', b'"deep":' + b"[" * 70 + b"]" * 70 + b',"sid"'),
        ("polymarket", CHANGE, b'"market"', b'"new":[true,false,null,-1.5e-3],"market"'),
        ("polymarket", CHANGE, NO.encode(), YES.encode()),
        ("polymarket", CHANGE, b'"side":"SELL"', b'"side":"sell"'),
        ("polymarket", CHANGE, b'"best_bid":"0.301"', b'"best_bid":""'),
        ("polymarket", CHANGE, b'"best_bid":"0.301"', b'"best_bid":null'),
        ("polymarket", ITEM, b'"event_type":"book"', b'"event_type":null'),
        (
            "polymarket",
            ITEM,
            b'"tick_size":"0.001"',
            b'"tick_size":"0.001","neg_risk":true,"min_order_size":"5"',
        ),
        ("polymarket", ITEM, b'"tick_size":"0.001"', b'"neg_risk":"true"'),
        ("polymarket", ITEM, b'"timestamp":"', b'"timestamp":"+'),
    ],
)
def test_forms_that_invite_a_misreading(platform: str, raw: bytes, old: bytes, new: bytes) -> None:
    """Each is read by both in the same way, or left to the decoder that reads everything: never otherwise."""
    assert old in raw
    assert compared(platform, raw, use_yes_price=False), "the frame itself is a usual one"
    spoiled_raw = raw.replace(old, new)
    compared(platform, spoiled_raw)
    asset, market = (kal.A, kal.A) if platform == "kalshi" else (YES, MARKET)
    shown = Shown(Twin(platform, {}, {asset: Instrument(platform, asset, market)}, Counter()))
    for frame in (WHOLE, spoiled_raw, DELTA) if platform == "kalshi" else (ITEM, spoiled_raw, CHANGE):
        shown.frame(frame)
    shown.wait(1)


def test_books_and_changes_in_one_frame_are_read_in_order() -> None:
    """An array may hold the first book of an asset and its next change: the change is applied to the book."""
    book = Book({"0.3": "1"}, {"0.6": "2"})
    first = book.book()
    mixed = poly_raw([first, book.move(("BUY", "0.31", "5"))])
    assert reads(mixed)
    assert compared("polymarket", mixed)
    shown = Shown(Twin("polymarket", {}, {YES: Instrument("polymarket", YES, MARKET)}, Counter()))
    shown.frame(mixed)
    assert (shown.state[YES], shown.book(YES)) == ("live", book.truth())
