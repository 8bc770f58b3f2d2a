"""The native writer of normalised messages against the contract written out in Python."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from wup._core import VenueBook, Writer, format_micro

names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=12)
counts = st.integers(1, 2**62)
stamps = st.one_of(st.none(), st.integers(0, 2**62))
prices = st.integers(1, 999_999).map(format_micro)
sizes = st.integers(1, 10**17).map(format_micro)
ladders = st.dictionaries(prices, sizes, max_size=6)


@given(
    names,
    names,
    names,
    st.integers(0, 2**62),
    st.integers(1, 2**62),
    ladders,
    ladders,
    st.tuples(*[stamps] * 3),
)
def test_messages_are_those_of_the_contract(
    platform: str,
    market: str,
    asset: str,
    epoch: int,
    n: int,
    bids: dict[str, str],
    asks: dict[str, str],
    at: tuple[int | None, int | None, int | None],
) -> None:
    """Fields in the contract's order, levels best first, unknown stamps absent; byte for byte."""
    book = VenueBook()
    book.replace(list(bids.items()), list(asks.items()))
    head = {"platform": platform, "market_id": market, "asset_id": asset, "epoch": epoch, "n": n}
    ts = {name: us for name, us in zip(("venue", "recv", "norm"), at, strict=True) if us is not None}
    best = {
        "bids": sorted(bids.items(), key=lambda level: -float(level[0])),
        "asks": sorted(asks.items(), key=lambda level: float(level[0])),
    }
    writer = Writer(platform, market, asset, epoch)
    assert writer.snapshot(n, book, *at) == orjson.dumps({"type": "snapshot", **head, **best, "ts": ts})
    levels = {"bids": list(bids.items()), "asks": list(asks.items())}
    update = writer.update(n, levels["bids"], levels["asks"], *at)
    assert update == orjson.dumps({"type": "update", **head, **levels, "ts": ts})
