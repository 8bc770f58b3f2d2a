"""One asset's own book: increments, absolute sizes, the venue's text and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.naive import text
from wup._core import NegativeSize, NumberError, VenueBook

if TYPE_CHECKING:
    from pathlib import Path


def test_levels_come_canonical_and_best_first() -> None:
    """Whatever the venue's form and order, levels come out best first in shortest form."""
    book = VenueBook()
    book.replace([("0.10", "5.0"), ["0.920", "3"]], [{"price": "0.99", "size": "1"}, ("0.930", "00.50")])
    assert book.levels() == ([("0.92", "3"), ("0.1", "5")], [("0.93", "0.5"), ("0.99", "1")])
    assert (book.best("bid"), book.best("ask"), len(book)) == ("0.92", "0.93", 4)
    assert book.texts() == ([("0.920", "3"), ("0.10", "5.0")], [("0.930", "00.50"), ("0.99", "1")])
    book.change([("ask", "0.930", "2.0"), ("bid", "0.10", "0")], None, None)
    book.add("ask", "0.990", "0.50")
    assert book.texts() == ([("0.920", "3")], [("0.930", "2.0"), ("0.99", "1.5")])
    again = VenueBook()
    again.replace(*book.texts())
    assert again.texts() == book.texts()


def test_replace_is_all_or_nothing() -> None:
    """A number that does not fit leaves the book as it was."""
    book = VenueBook()
    book.replace([("0.5", "1")], [])
    for bad in ([("0.6", "-1")], [("1", "1")], [("0.5", "1e3")], [("0.5000001", "1")]):
        with pytest.raises(NumberError):
            book.replace(bad, [])
    with pytest.raises(NumberError):
        book.change([("bid", "0.4", "1"), ("ask", "2", "1")], None, None)
    assert book.levels() == ([("0.5", "1")], [])
    with pytest.raises(TypeError):
        book.replace([5], [])  # type: ignore[list-item]


def test_set_tells_whether_it_changed() -> None:
    """Setting the same size again, or removing what is not there, is no change."""
    book = VenueBook()
    assert book.set("bid", "0.5", "1")
    assert not book.set("bid", "0.50", "1.0")
    assert not book.set("bid", "0.4", "0")
    assert book.set("bid", "0.5", "0")
    several = book.change([("bid", "0.50", "1"), ("ask", "0.6", "2.50"), ("bid", "0.3", "0")], "0.5", "0.60")
    assert several == ([("0.5", "1")], [("0.6", "2.5")], True)
    assert book.change([("bid", "0.5", "2"), ("bid", "0.5", "3")], "0.49", "0.6") == (
        [("0.5", "3")],
        [],
        False,
    )
    for bid, ask in ((None, "0.6"), ("0.5", None), ("no number", "0.6")):
        assert book.change([], bid, ask) == ([], [], None)


def test_increments() -> None:
    """Increments give the new size; one below zero is refused and leaves the level."""
    book = VenueBook()
    assert book.add("bid", "0.08", "300.00") == ("300", False)
    assert book.add("bid", "0.0800", "-54.50") == ("245.5", False)
    with pytest.raises(NegativeSize):
        book.add("bid", "0.08", "-245.51")
    assert book.size("bid", "0.08") == "245.5"
    assert book.add("ask", "0.07", "1") == ("1", True)
    assert book.add("ask", "0.07", "-1") == ("0", False)
    assert book.add("bid", "0.08", "-245.5") == ("0", False)
    assert book.levels() == ([], [])


def test_top() -> None:
    """The venue's best prices are compared as numbers; several spellings mean an empty side."""
    book = VenueBook()
    for empty in (None, "", "0", "1"):
        assert book.top_is(empty, empty)
    book.set("bid", "0.30", "1")
    assert book.top_is("0.3", "1")
    assert not book.top_is("0.31", None)
    assert not book.top_is(None, None)
    book.set("ask", "0.3", "1")
    assert not book.crossed()
    book.set("ask", "0.29", "1")
    assert book.crossed()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bid", "ask"]), st.integers(1, 999_999), st.integers(0, 10**17), st.booleans()
        ),
        max_size=60,
    )
)
def test_equals_a_dictionary(steps: list[tuple[str, int, int, bool]]) -> None:
    """Any sequence of absolute sizes and increments gives the book that dictionaries give."""
    book = VenueBook()
    naive: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
    for side, price, size, absolute in steps:
        price = 1 + price % 7 if size % 3 else price
        before = naive[side].get(price, 0)
        delta = size if before + size <= 10**17 else -before
        if absolute:
            book.set(side, text(price), text(size))  # type: ignore[arg-type]
            naive[side][price] = size
        else:
            sign = "-" if delta < 0 else ""
            book.add(side, text(price), sign + text(abs(delta)))  # type: ignore[arg-type]
            naive[side][price] = before + delta
    expected = [
        [(text(price), text(naive[side][price])) for price in sorted(naive[side]) if naive[side][price]]
        for side in ("bid", "ask")
    ]
    assert book.levels() == (expected[0][::-1], expected[1])


def recipe(market: dict[str, Any]) -> str:
    """The venue's recipe with the standard library: SHA-1 over the compact JSON of the book."""
    order = ("market", "asset_id", "timestamp", "hash", "bids", "asks", "min_order_size", "tick_size")
    body = {key: market[key] for key in order} | {"hash": "", "neg_risk": market["neg_risk"]}
    if "last_trade_price" in market:
        body["last_trade_price"] = market["last_trade_price"]
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha1(text.encode()).hexdigest()


def hash_of(book: VenueBook, market: dict[str, Any]) -> str:
    """The same from the book."""
    keys = ("market", "asset_id", "timestamp", "min_order_size", "tick_size", "neg_risk")
    facts = {key: market[key] for key in keys}
    return book.polymarket_hash(**facts, last_trade_price=market.get("last_trade_price"))


@pytest.mark.parametrize("last", [{"last_trade_price": "0.301"}, {"last_trade_price": ""}, {}])
def test_hash_is_over_the_text_as_sent(last: dict[str, str]) -> None:
    """Text that is not canonical is hashed as sent; without a last price it is the nine-field form."""
    bids = [{"price": "0.010", "size": "5579792.80"}, {"price": "0.920", "size": "007"}]
    asks = [{"price": "0.99", "size": "1"}, {"price": ".95", "size": "2.0"}]
    market: dict[str, Any] = {
        "market": "0xdde0",
        "asset_id": "6519",
        "timestamp": "1778997825875",
        "bids": bids,
        "asks": asks,
        "hash": "of before",
        "min_order_size": "5",
        "tick_size": "0.001",
        "neg_risk": True,
        **last,
    }
    book = VenueBook()
    book.replace(bids, asks)
    assert hash_of(book, market) == recipe(market)
    book.set("bid", "0.5", "1")
    book.set("bid", "0.50", "0")
    assert hash_of(book, market) == recipe(market)


def test_real_hashes(captures: Path) -> None:
    """Every captured book gives the hash that the venue stated."""
    books = json.loads((captures / "polymarket" / "clob-books.json").read_text())
    assert len(books) == 10
    for captured in books:
        book = VenueBook()
        book.replace(captured["bids"], captured["asks"])
        assert hash_of(book, captured) == captured["hash"]
