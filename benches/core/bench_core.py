"""What does the core cost from Python, the border included?

    .venv/bin/pytest benches/core/bench_core.py --benchmark-columns=median,iqr,ops

Each bench says its question; medians and the machine are in `benches/README.md`. Build optimised first
(`maturin develop --release` for the figures there): a debug build is refused.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from wup import _core
from wup._core import BookStore, Histogram, MirrorBook, OrderBook, VenueBook, kalshi_delta, mirror_message

if TYPE_CHECKING:
    from collections.abc import Callable

Benchmark = Any
BOOK = "fed-2026-12.21a66bf6c52cc37d.yes"
LEGS = ("kalshi", "polymarket", "gemini", "limitless", "predict")
ASSET = "KXFEDDECISION-26DEC-C25"
NOW = 1_795_353_605_123_026
ROUNDS, ITERATIONS = 200, 100

if not _core.OPTIMISED:
    pytest.fail("a debug build measures nothing: maturin develop --release", pytrace=False)


def text(micro: int) -> str:
    """Shortest exact text."""
    return _core.format_micro(micro)


def sides(count: int, salt: int) -> dict[str, list[list[str]]]:
    """Half bids, half asks; `salt` varies the sizes."""
    step = 490_000 // (count // 2)

    def side(sign: int) -> list[list[str]]:
        size = [text((place * 37 + salt) % 5_000 * 10_000 + 1_250_000) for place in range(count // 2)]
        return [[text(500_000 + sign * (1 + place * step)), size[place]] for place in range(count // 2)]

    return {"bids": side(-1), "asks": side(1)}


def message(kind: str, platform: str, n: int, fields: dict[str, Any]) -> bytes:
    """A normalised message as the normalizer writes it."""
    head = {"type": kind, "platform": platform, "market_id": "KXFEDDECISION-26DEC", "asset_id": ASSET}
    stamps = {"venue": 1795353604990000, "recv": 1795353605000100, "norm": 1795353605000130}
    whole = {**head, "epoch": 1795353600001, "n": n, **fields, "ts": stamps}
    return json.dumps(whole, separators=(",", ":")).encode()


def new_store(levels: int, legs: int) -> BookStore:
    """One book in which every leg shows the same prices."""
    store = BookStore(0)
    store.set_mapping(1, [(leg, ASSET, BOOK, False) for leg in LEGS[:legs]], 0)
    for place, leg in enumerate(LEGS[:legs]):
        store.apply(message("snapshot", leg, 1, sides(levels, place)), NOW)
    return store


def fresh(benchmark: Benchmark, call: Callable[[bytes], object], make: Callable[[int], bytes]) -> None:
    """Measure a call that needs a new message each time; they are made outside the clock."""
    queue = deque(make(n) for n in range(2, ROUNDS * ITERATIONS + 4))
    take = queue.popleft
    benchmark.pedantic(lambda: call(take()), rounds=ROUNDS, iterations=ITERATIONS)


@pytest.mark.parametrize("legs", [1, 2, 5])
@pytest.mark.parametrize("levels", [10, 100, 1000])
def test_apply_one_level(benchmark: Benchmark, levels: int, legs: int) -> None:
    """One venue message from bytes to the encoded change: target under 3 us."""
    store = new_store(levels, legs)

    def make(n: int) -> bytes:
        price = text(499_999 - n % 5 * (490_000 // (levels // 2)))
        return message(
            "update", "kalshi", n, {"bids": [[price, text(1_000_000 + n % 977 * 10_000)]], "asks": []}
        )

    fresh(benchmark, lambda raw: store.apply(raw, NOW), make)


@pytest.mark.parametrize("legs", [1, 2])
def test_apply_snapshot(benchmark: Benchmark, legs: int) -> None:
    """A snapshot of 100 levels, all of them changed, to one encoded delta: target under 30 us."""
    store = new_store(100, legs)
    both = [sides(100, 3), sides(100, 4)]
    fresh(
        benchmark, lambda raw: store.apply(raw, NOW), lambda n: message("snapshot", "kalshi", n, both[n % 2])
    )


@pytest.mark.parametrize("levels", [10, 100, 1000])
def test_snapshot(benchmark: Benchmark, levels: int) -> None:
    """A snapshot message for a new subscriber."""
    store = new_store(levels, 2)
    benchmark(store.snapshot, BOOK, None, "join", NOW)


def test_look_at_a_book(benchmark: Benchmark) -> None:
    """A frozen look at a book of 100 levels."""
    store = new_store(100, 2)
    benchmark(store.book, BOOK, NOW)


def test_best_bid(benchmark: Benchmark) -> None:
    """The best bid of a book, before its Decimals are read: target under 150 ns (with the call around it)."""
    book = new_store(100, 2).book(BOOK)
    benchmark.pedantic(lambda: book.best_bid, rounds=ROUNDS, iterations=1000)


def test_best_bid_price(benchmark: Benchmark) -> None:
    """The same with its price as a Decimal."""
    book = new_store(100, 2).book(BOOK)
    benchmark.pedantic(lambda: book.best_bid.price, rounds=ROUNDS, iterations=1000)


def test_mirror_delta(benchmark: Benchmark) -> None:
    """A client's verified copy: one delta of one level."""
    store, mirror = new_store(100, 2), MirrorBook()
    mirror.apply(store.snapshot(BOOK))
    payloads = deque()
    for n in range(2, ROUNDS * ITERATIONS + 4):
        update = {"bids": [["0.5", text(1_000_000 + n % 977 * 10_000)]], "asks": []}
        payloads.append(store.apply(message("update", "kalshi", n, update), NOW)[0].payload)
    take = payloads.popleft
    benchmark.pedantic(lambda: mirror.apply(take()), rounds=ROUNDS, iterations=ITERATIONS)
    assert mirror.exact


def test_no_view_of_a_delta(benchmark: Benchmark) -> None:
    """The NO view of a one-level delta, made once per delta that has NO subscribers."""
    store = new_store(100, 2)
    update = {"bids": [["0.5", "77"]], "asks": []}
    payload = store.apply(message("update", "kalshi", 2, update), NOW)[0].payload
    benchmark(mirror_message, payload)


def test_venue_book_increment(benchmark: Benchmark) -> None:
    """One increment to a venue's own book of 100 levels."""
    book = VenueBook()
    book.replace(**sides(100, 0))
    benchmark(book.add, "bid", "0.4800", "1.00")


def test_kalshi_delta(benchmark: Benchmark) -> None:
    """A venue's hot frame read natively."""
    body = {
        "market_ticker": ASSET,
        "market_id": "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922",
        "price_dollars": "0.4800",
        "delta_fp": "-2.00",
        "side": "yes",
        "ts": "2026-09-25T19:13:44.342537Z",
        "ts_ms": 1790363624342,
    }
    frame = json.dumps({"type": "orderbook_delta", "sid": 1, "seq": 7, "msg": body}).encode()
    benchmark(kalshi_delta, frame)


def test_polymarket_hash(benchmark: Benchmark) -> None:
    """The venue's own checksum over 140 levels: target under 10 us."""
    book = VenueBook()
    book.replace(**sides(140, 0))
    market = "0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d"
    asset = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
    benchmark(book.polymarket_hash, market, asset, "1778997825875", "5", "0.001", True, "0.006")


def test_plain_book(benchmark: Benchmark) -> None:
    """A script's book: one level set from text."""
    book = OrderBook()
    sizes = [str(size) for size in range(1, 1000)]
    state = [0]

    def step() -> None:
        state[0] = (state[0] + 1) % 999
        book.set("bid", "0.5", sizes[state[0]])

    benchmark(step)


def test_histogram(benchmark: Benchmark) -> None:
    """One observation on the hot path: target under 200 ns."""
    histogram = Histogram()
    benchmark(histogram.observe, 42)


def test_marks(benchmark: Benchmark) -> None:
    """One second's marks of 5,000 books, nothing recent: the loop stalls for this long."""
    store = BookStore(0)
    table = [("kalshi", f"K{place}", f"fed-2026-12.{place:016x}.yes", False) for place in range(5_000)]
    store.set_mapping(1, table, NOW)
    benchmark(store.marks, "0", NOW + 10_000_000)
