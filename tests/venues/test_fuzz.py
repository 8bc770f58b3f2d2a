"""Whatever arrives: a normaliser never raises, and the next whole book is shown exactly as it is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from venues import kal
from venues.poly import MARKET, YES, Book
from venues.poly import raw as poly_raw
from venues.shown import Shown
from wup.model import Instrument
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.kalshi.session import KalshiSession
from wup.venues.kalshi.settings import KalshiSettings
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.session import PolymarketSession
from wup.venues.polymarket.settings import PolymarketSettings

FACTS = {"min_order_size": "5", "neg_risk": "true", "tick": "0.001"}

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["0.4", "-1", "1e5", "0.0000001", "", "NaN", "99999999999999999999", "BUY", "yes"]),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def poly_frames() -> list[Any]:
    """A first book, changes, a trade, a later book, a tick and a resolution."""
    book = Book({"0.29": "100", "0.301": "20"}, {"0.397": "50"})
    frames: list[Any] = [[book.book()], book.move(("BUY", "0.3", "5")), book.trade("0.3")]
    frames.append(book.move(("SELL", "0.39", "7"), ("BUY", "0.301", "0")))
    frames.append(book.book(first=False))
    frames.append({"event_type": "tick_size_change", "asset_id": YES, "new_tick_size": "0.01"})
    frames.append({"event_type": "market_resolved", "assets_ids": [YES], "winning_asset_id": YES})
    return frames


def kalshi_frames() -> list[Any]:
    """Subscribed, a snapshot, deltas, an ok, a trade, lifecycle, an error."""
    raws = [
        kal.subscribed(1, "orderbook_delta"),
        kal.snapshot(kal.A, 1, [["0.4000", "5.00"]], [["0.5500", "12.00"]]),
        kal.delta(kal.A, 2, "yes", "0.4000", "1.00"),
        kal.ok(3),
        kal.delta(kal.A, 4, "no", "0.5500", "-2.00"),
        kal.raw({"type": "trade", "sid": 2, "seq": 1, "msg": {"market_ticker": kal.A, "count": 3}}),
        kal.raw(
            {"type": "market_lifecycle_v2", "msg": {"market_ticker": kal.A, "event_type": "deactivated"}}
        ),
        kal.error(25, sid=1, seq=5),
    ]
    return [json.loads(raw) for raw in raws]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a JSON value."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """`value` with what is at `path` replaced."""
    if not path:
        return new
    if isinstance(value, dict):
        return {key: put(inner, path[1:], new) if key == path[0] else inner for key, inner in value.items()}
    return [put(inner, path[1:], new) if at == path[0] else inner for at, inner in enumerate(value)]


@st.composite
def spoiled(draw: st.DrawFn, frames: list[Any]) -> list[bytes]:
    """Frames in any order, some with a value replaced or some bytes cut out."""
    raws = []
    for frame in draw(st.lists(st.sampled_from(frames), min_size=1, max_size=12)):
        if draw(st.booleans()):
            frame = put(frame, draw(st.sampled_from(places(frame))), draw(odd))
        raw = json.dumps(frame, separators=(",", ":")).encode()
        if draw(st.integers(0, 5)) == 0:
            cut = draw(st.integers(0, len(raw)))
            raw = raw[:cut] + draw(st.binary(max_size=4)) + raw[cut + draw(st.integers(0, 9)) :]
        raws.append(raw)
    return raws


@settings(max_examples=300, deadline=None)
@given(spoiled(poly_frames()))
def test_polymarket_survives_anything(raws: list[bytes]) -> None:
    """No frame raises, updates come for live legs only, and a whole book afterwards is exactly shown."""
    shown = Shown(PolymarketNormaliser({}, {YES: Instrument("polymarket", YES, MARKET, FACTS)}))
    session = PolymarketSession(PolymarketSettings())
    for text in session.opened([YES]):
        shown.sent(text.encode())
    for raw in raws:
        session.asset_of(raw)
        session.books_of(raw)
        session.received(raw)
        shown.frame(raw)
        shown.wait(0.1)
    if shown.state.get(YES) != "closed":
        book = Book({"0.2": "1"}, {"0.6": "2"}, ts=99_999_999_999_999)
        shown.frame(poly_raw([book.book()]))
        assert (shown.state[YES], shown.book(YES)) == ("live", book.truth())


@settings(max_examples=300, deadline=None)
@given(spoiled(kalshi_frames()))
def test_kalshi_survives_anything(raws: list[bytes]) -> None:
    """No frame raises, updates come for live legs only, and a subscription afterwards is exactly shown."""
    shown = Shown(KalshiNormaliser({}, {kal.A: Instrument("kalshi", kal.A, kal.A)}))
    session = KalshiSession(KalshiSettings())
    for text in session.opened([kal.A]):
        shown.sent(text.encode())
    for raw in raws:
        session.asset_of(raw)
        session.books_of(raw)
        session.received(raw)
        shown.frame(raw)
        shown.wait(0.1)
    shown.frame(
        kal.raw({"type": "market_lifecycle_v2", "msg": {"market_ticker": kal.A, "event_type": "activated"}})
    )
    if shown.state.get(kal.A) != "closed":
        shown.frame(kal.snapshot(kal.A, 1, [["0.4000", "5.00"]], sid=77))
        assert (shown.state[kal.A], shown.book(kal.A)) == ("live", ([("0.4", "5")], []))
