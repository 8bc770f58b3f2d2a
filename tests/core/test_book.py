"""Books as scripts read them: frozen, exact, and readable."""

from __future__ import annotations

from decimal import Decimal

import pytest

import wup
from wup._core import Book, Histogram, NumberError, OrderBook, ParseError


@pytest.fixture
def book() -> Book:
    """A small book of two legs."""
    book = OrderBook("demo")
    book.set("bid", "0.52", 500, leg="kalshi")
    book.set("bid", "0.52", Decimal(700), leg="polymarket")
    book.set("bid", "0.51", "300.5", leg="polymarket")
    book.set("ask", Decimal("0.540"), 250, leg="kalshi")
    book.set("ask", "0.6", 1000, leg="polymarket")
    return book.view()


def test_three_lines() -> None:
    """A newcomer has a book in three lines."""
    book = wup.OrderBook()
    book.set("bid", "0.5", 10)
    best = book.view().best_bid
    assert best is not None
    assert (best.price, best.size, best.by_leg) == (Decimal("0.5"), Decimal(10), {"me": Decimal(10)})


def test_levels(book: Book) -> None:
    """Levels come best first, with exact Decimals and the size per leg."""
    assert [level.price for level in book.bids] == [Decimal("0.52"), Decimal("0.51")]
    assert [level.price for level in book.asks] == [Decimal("0.54"), Decimal("0.6")]
    assert book.best_bid == book.bids[0]
    assert book.best_ask == book.asks[0]
    assert book.bids[0].size == 1200
    assert book.bids[0].by_leg == {"kalshi": Decimal(500), "polymarket": Decimal(700)}
    assert str(book.asks[0].price) == "0.54"
    assert book.bids[0] != book.bids[1]


def test_view_is_frozen() -> None:
    """A view stays as it was while the book goes on."""
    book = OrderBook()
    book.set("bid", "0.5", 1)
    before = book.view()
    book.set("bid", "0.5", 0)
    assert before.best_bid is not None
    assert book.view().best_bid is None


def test_depth(book: Book) -> None:
    """Depth keeps the best levels of each side and the book itself."""
    top = book.depth(1)
    assert (len(top.bids), len(top.asks), len(book.bids)) == (1, 1, 2)
    assert top.best_bid == book.best_bid


@pytest.mark.parametrize(
    ("size", "average", "there"),
    [
        (100, Decimal("0.54"), Decimal(100)),
        ("250", Decimal("0.54"), Decimal(250)),
        (Decimal(500), Decimal("0.57"), Decimal(500)),
        (5000, Decimal("0.588"), Decimal(1250)),
        (0, None, Decimal(0)),
    ],
)
def test_cost(book: Book, size: Decimal | str | int, average: Decimal | None, there: Decimal) -> None:
    """Taking a size costs the exact average over the levels it reaches, as far as there is any."""
    assert book.cost("ask", size) == (average, there)


def test_cost_of_an_empty_side() -> None:
    """Nothing to take is no price and no size."""
    assert OrderBook().view().cost("bid", 1) == (None, Decimal(0))


def test_no_view(book: Book) -> None:
    """The NO view swaps the sides and complements prices; of NO it is YES again."""
    no = book.no()
    assert no.best_ask is not None
    assert (no.best_ask.price, no.best_ask.size) == (Decimal("0.48"), Decimal(1200))
    assert no.digest == book.digest
    assert no.no().bids == book.bids
    assert no.no().asks == book.asks


def test_crossed() -> None:
    """A best bid above the best ask is flagged, one equal to it is not."""
    book = OrderBook()
    book.set("bid", "0.5", 1, leg="a")
    book.set("ask", "0.5", 1, leg="b")
    assert not book.view().crossed
    book.set("bid", "0.51", 1, leg="a")
    assert book.view().crossed
    assert "crossed" in repr(book)


def test_reprs(book: Book) -> None:
    """The terminal form and the notebook form show prices, totals and legs, and escape what they show."""
    assert "kalshi 500, polymarket 700" in repr(book)
    assert repr(book).index("0.54") < repr(book).index("0.52")
    assert "<table>" in book._repr_html_()
    odd = OrderBook("<b>")
    odd.set("bid", "0.5", 1, leg="<script>")
    assert "<script>" not in odd._repr_html_()
    assert "&lt;script&gt;" in odd._repr_html_()
    assert repr(book.bids[0]) == "Level(0.52 x 1200 (kalshi 500, polymarket 700))"


def test_bad_arguments() -> None:
    """Floats are refused as inexact, numbers out of bounds as numbers, and a side must be one."""
    book = OrderBook()
    for bad in (0.5, True, None):
        with pytest.raises(TypeError):
            book.set("bid", bad, 1)  # type: ignore[arg-type]
    for price, size in (("0", 1), ("1", 1), ("0.5", -1), ("0.5", 10**12), ("x", 1), (Decimal("NaN"), 1)):
        with pytest.raises(NumberError):
            book.set("bid", price, size)
    with pytest.raises(ParseError):
        book.set("buy", "0.5", 1)  # type: ignore[arg-type]
    assert book.view().bids == []


def test_histogram() -> None:
    """Quantiles are right within one eighth, and buckets count up to all."""
    histogram = Histogram()
    for us in range(1, 1001):
        histogram.observe(us)
    histogram.observe(-5)
    assert histogram.count() == 1001
    assert histogram.sum() == 500_500
    assert abs(histogram.quantile(0.5) - 500) < 500 / 8
    assert histogram.buckets()[-1][1] == 1001
    assert [count for _, count in histogram.buckets()] == sorted(count for _, count in histogram.buckets())
