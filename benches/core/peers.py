"""How does the core stand beside other people's books? Same input on both sides, one run, ratios printed.

    .venv/bin/python benches/core/peers.py

The peers live in an environment of their own (`target/peers`), made on the first run: nautilus_trader pins a
uvloop older than ours, and order-book is GPL, so neither ever enters the package's environment. Questions:

1. From the text of a raw Kalshi delta to an updated book: synpath (its stream's `handle_raw`, and its bare
   core) against our adapter, and our adapter plus the consolidated store with its encoded change.
2. One level set from venue text, then both best prices read, in a book of 100 levels: order-book (C),
   sortedcontainers, nautilus_trader against `VenueBook`; also with the peers' own number types made before.

Rounds of the contestants alternate, and the median round counts, so that a noisy neighbour hits all alike.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "target" / "peers"
TICKER = "KXFEDDECISION-26DEC-C25"
BOOK = "fed-2026-12.21a66bf6c52cc37d.yes"
Contestant = tuple[str, "Callable[[], Callable[[], None]]"]


def enter_environment() -> None:
    """Continue in the peers' environment, which falls back to ours for what the peers do not bring."""
    if Path(sys.prefix) == PEERS:
        return
    python = PEERS / "bin" / "python"
    ready = PEERS / "ready"
    if not ready.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEERS)], check=True)
        install = [str(uv), "pip", "install", "--quiet", "--python", str(python), "--group", "peers"]
        subprocess.run(install, check=True, cwd=ROOT)
        site = next((PEERS / "lib").glob("python*/site-packages"))
        ours = next((Path(sys.prefix) / "lib").glob("python*/site-packages"))
        (site / "wup-fallback.pth").write_text(f"{ROOT / 'python'}\n{ours}\n")
        ready.touch()
    os.execv(python, [str(python), *sys.argv])


def kalshi_frames(count: int) -> tuple[str, list[str]]:
    """A snapshot of 100 levels and deltas on them, in the venue's own form; no level falls below zero."""
    dice = random.Random(7)
    sizes = {("yes", cent): 50_000 for cent in range(1, 51)} | {("no", cent): 50_000 for cent in range(1, 50)}
    sides = {
        side: [[f"{cent / 100:.4f}", "50000.00"] for s, cent in sizes if s == side] for side in ("yes", "no")
    }
    message = {
        "market_ticker": TICKER,
        "market_id": "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922",
        "yes_dollars_fp": sides["yes"],
        "no_dollars_fp": sides["no"],
    }
    snapshot = {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": message}
    deltas = []
    for seq in range(2, count + 2):
        key = dice.choice(list(sizes))
        delta = dice.randint(-40, 60)
        sizes[key] += delta
        body = {
            "market_ticker": TICKER,
            "market_id": "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922",
            "price_dollars": f"{key[1] / 100:.4f}",
            "delta_fp": f"{delta}.00",
            "side": key[0],
            "ts": "2026-08-07T06:46:28.416121Z",
            "ts_ms": 1786085188416 + seq,
        }
        deltas.append({"type": "orderbook_delta", "sid": 1, "seq": seq, "msg": body})

    def text(frame: dict[str, Any]) -> str:
        return json.dumps(frame, separators=(",", ":"))

    return text(snapshot), [text(delta) for delta in deltas]


def kalshi_contestants(count: int) -> list[Contestant]:
    """Each returns a fresh round: a call that takes all frames, ending in the same book."""
    snapshot, deltas = kalshi_frames(count)
    raw = [frame.encode() for frame in deltas]
    expected: list[Any] = []

    def agree(bids: list[tuple[str, str]]) -> None:
        found = [(Decimal(price), Decimal(size)) for price, size in bids]
        expected.append(found)
        assert found == expected[0], "the contestants' books differ"

    def ours_adapter() -> Callable[[], None]:
        from wup.venues.kalshi.normalise import KalshiNormaliser

        normaliser = KalshiNormaliser({}, {TICKER: instrument()})
        normaliser.sent(subscribe(), 0)
        normaliser.frame(snapshot.encode(), 0)

        def run() -> None:
            frame = normaliser.frame
            for text in raw:
                frame(text, 1)

        def check() -> None:
            book = normaliser.book(TICKER)
            assert book is not None
            agree(book.levels()[0])

        return then(run, check)

    def ours_whole() -> Callable[[], None]:
        from wup._core import BookStore
        from wup.raw import Meta

        store = BookStore(0)
        store.set_mapping(1, [("kalshi", TICKER, BOOK, False)], 0)
        engine = whole_engine(lambda _subject, payload: store.apply(payload, 2))
        engine.record(Meta("open", "kalshi", "c1", 1, 0), json.dumps({"use_yes_price": False}).encode(), 1)
        engine.record(Meta("sent", "kalshi", "c1", 1, 0), subscribe(), 1)
        engine.record(Meta("frame", "kalshi", "c1", 1, 1), snapshot.encode(), 1)
        metas = [Meta("frame", "kalshi", "c1", 1, n) for n in range(2, len(raw) + 2)]

        def run() -> None:
            record = engine.record
            for meta, text in zip(metas, raw, strict=True):
                record(meta, text, 1)

        def check() -> None:
            agree(texts(store.book(BOOK).bids))

        return then(run, check)

    def ours_bare() -> Callable[[], None]:
        from wup._core import VenueBook, complement, kalshi_delta

        book = VenueBook()
        message = json.loads(snapshot)["msg"]
        book.replace(message["yes_dollars_fp"], [])
        for price, size in message["no_dollars_fp"]:
            book.set("ask", complement(price), size)

        def run() -> None:
            add, read = book.add, kalshi_delta
            for text in raw:
                _sid, _seq, _ticker, side, price, delta, _venue_us = read(text) or (
                    0,
                    0,
                    "",
                    "bid",
                    "",
                    "",
                    0,
                )
                add(side, price, delta)

        return then(run, lambda: agree(book.levels()[0]))

    def synpath_books() -> Callable[[], None]:
        from synpath import _core
        from synpath.ws.base import LocalBook

        books = {TICKER: LocalBook()}
        _core.kalshi_book_message(snapshot, books).apply(books)

        def run() -> None:
            message = _core.kalshi_book_message
            for text in deltas:
                message(text, books).apply(books)

        return then(run, lambda: agree(texts(books[TICKER].levels()[0])))

    def synpath_stream() -> Callable[[], None]:
        from synpath.ws.base import LocalBook

        stream = kalshi_stream()
        stream.books[TICKER] = LocalBook()
        stream.handle_raw(snapshot)

        def run() -> None:
            handle = stream.handle_raw
            for text in deltas:
                handle(text)

        return then(run, lambda: agree(texts(stream.books[TICKER].levels()[0])))

    return [
        ("synpath 0.11.0, handle_raw", synpath_stream),
        ("synpath 0.11.0, bare core", synpath_books),
        ("wup, bare core (kalshi_delta, VenueBook)", ours_bare),
        ("wup, adapter (own book, absolute sizes)", ours_adapter),
        ("wup, adapter + store (merged, digest, encoded change)", ours_whole),
    ]


def then(run: Callable[[], None], check: Callable[[], None]) -> Callable[[], None]:
    """A round whose result is checked after the clock stopped."""
    run.check = check  # type: ignore[attr-defined]
    return run


def texts(levels: Iterable[Any]) -> list[tuple[str, str]]:
    """Levels of any of the contestants as text."""
    return [(str(level.price), str(level.size)) for level in levels]


def instrument() -> Any:
    """The one market as our followers know it."""
    from wup.model import Instrument

    return Instrument("kalshi", TICKER, TICKER)


def subscribe() -> bytes:
    """Our own subscribe frame, which the normaliser reads to know what to expect."""
    params = {"channels": ["orderbook_delta"], "market_tickers": [TICKER], "use_yes_price": False}
    return json.dumps({"id": 1, "cmd": "subscribe", "params": params}).encode()


def whole_engine(emit: Callable[[str, bytes], object]) -> Any:
    """The normalizer's engine with one market followed and its messages given to `emit`."""
    from wup.mapping.table import MappingTable
    from wup.normalizer.engine import Engine
    from wup.venues.registry import VENUES

    engine = Engine(
        epoch=1,
        instance="bench",
        venues=VENUES,
        emit=emit,
        repair=lambda *_: None,
        bad=lambda *what: print("bad input", what),
        verdict=lambda *_: None,
        stamp=lambda: 2,
    )
    engine.set_table(one_market(MappingTable))
    return engine


def one_market(table: Any) -> Any:
    """A mapping table of one market."""
    from wup.mapping.table import Leg

    return table(version=1, legs=(Leg("kalshi", TICKER, TICKER, "KXFEDDECISION-26DEC", BOOK, False),))


def kalshi_stream() -> Any:
    """A synpath stream that never connects; its key is made here."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from synpath.trading.credentials import KalshiCredentials
    from synpath.ws.kalshi import KalshiStream

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return KalshiStream(KalshiCredentials(key_id="bench", private_key_pem=pem, env="demo"))


def operations(count: int) -> list[tuple[str, str, str]]:
    """Sets on the levels of a book of 100; one in ten removes, the next on that level brings it back."""
    dice = random.Random(11)
    steps = [("bid", f"{cent / 1000:.3f}", "10.5") for cent in range(400, 450)]
    steps += [("ask", f"{cent / 1000:.3f}", "10.5") for cent in range(460, 510)]
    for _ in range(count):
        side, price, _ = steps[dice.randrange(100)]
        steps.append((side, price, "0" if dice.random() < 0.1 else f"{dice.randint(1, 10**6) / 100:.2f}"))
    return steps


def book_contestants(count: int) -> list[Contestant]:
    """Each round sets every step and reads both best prices after each."""
    steps = operations(count)
    made = [(side == "bid", Decimal(price), Decimal(size)) for side, price, size in steps]

    def ours() -> Callable[[], None]:
        from wup._core import VenueBook

        book = VenueBook()

        def run() -> None:
            put, best = book.set, book.best
            for side, price, size in steps:
                put(side, price, size)  # type: ignore[arg-type]
                best("bid")
                best("ask")

        return run

    def c_book(from_text: bool) -> Callable[[], Callable[[], None]]:
        def fresh() -> Callable[[], None]:
            from order_book import OrderBook

            book = OrderBook()

            def run() -> None:
                bids, asks = book.bids, book.asks
                for (side, price_text, size_text), (is_bid, price, size) in zip(steps, made, strict=True):
                    if from_text:
                        is_bid, price, size = side == "bid", Decimal(price_text), Decimal(size_text)
                    ladder = bids if is_bid else asks
                    if size:
                        ladder[price] = size
                    elif price in ladder:
                        del ladder[price]
                    if len(bids):
                        bids.index(0)
                    if len(asks):
                        asks.index(0)

            return run

        return fresh

    def sorted_dicts(from_text: bool) -> Callable[[], Callable[[], None]]:
        def fresh() -> Callable[[], None]:
            from sortedcontainers import SortedDict

            bids, asks = SortedDict(), SortedDict()

            def run() -> None:
                for (side, price_text, size_text), (is_bid, price, size) in zip(steps, made, strict=True):
                    if from_text:
                        is_bid, price, size = side == "bid", Decimal(price_text), Decimal(size_text)
                    ladder = bids if is_bid else asks
                    if size:
                        ladder[price] = size
                    else:
                        ladder.pop(price, None)
                    if bids:
                        bids.peekitem(-1)
                    if asks:
                        asks.peekitem(0)

            return run

        return fresh

    def nautilus(from_text: bool) -> Callable[[], Callable[[], None]]:
        def fresh() -> Callable[[], None]:
            from nautilus_trader.model.book import OrderBook
            from nautilus_trader.model.data import BookOrder, OrderBookDelta
            from nautilus_trader.model.enums import BookAction, BookType, OrderSide
            from nautilus_trader.model.identifiers import InstrumentId
            from nautilus_trader.model.objects import Price, Quantity

            name = InstrumentId.from_str("KXFED.KALSHI")
            book = OrderBook(name, BookType.L2_MBP)

            def delta(step: tuple[str, str, str]) -> OrderBookDelta:
                side, price, size = step
                order = BookOrder(
                    OrderSide.BUY if side == "bid" else OrderSide.SELL,
                    Price.from_str(price),
                    Quantity.from_str(size),
                    0,
                )
                action = BookAction.DELETE if size == "0" else BookAction.UPDATE
                return OrderBookDelta(name, action, order, 0, 0, 0, 0)

            ready = [] if from_text else [delta(step) for step in steps]

            def run() -> None:
                apply, best_bid, best_ask = book.apply_delta, book.best_bid_price, book.best_ask_price
                for step in ready or (delta(step) for step in steps):
                    apply(step)
                    best_bid()
                    best_ask()

            return run

        return fresh

    return [
        ("order-book 0.6.1 (C), from text", c_book(True)),
        ("order-book 0.6.1 (C), Decimals made before", c_book(False)),
        ("sortedcontainers 2.4.0, from text", sorted_dicts(True)),
        ("sortedcontainers 2.4.0, Decimals made before", sorted_dicts(False)),
        ("nautilus_trader 1.221.0, from text", nautilus(True)),
        ("nautilus_trader 1.221.0, deltas made before", nautilus(False)),
        ("wup VenueBook, from text", ours),
    ]


def measure(title: str, contestants: list[Contestant], count: int, rounds: int, ours: str) -> None:
    """Print one table; ratios are to our row."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, fresh in contestants:
            try:
                run = fresh()
            except ImportError as error:
                times.setdefault(f"{name}: cannot be driven: {error}", [])
                continue
            started = time.perf_counter_ns()
            run()
            times.setdefault(name, []).append((time.perf_counter_ns() - started) / count)
            getattr(run, "check", lambda: None)()
    base = statistics.median(times[ours])
    print(f"\n{title} ({count} operations, median of {rounds} rounds)")
    print(f"{'':<56}{'ns each':>9}{'ratio':>8}")
    for name, taken in times.items():
        if taken:
            each = statistics.median(taken)
            print(f"{name:<56}{each:>9.0f}{each / base:>8.2f}")
        else:
            print(name)


def machine() -> str:
    """Where this was measured."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    enter_environment()
    peers = ("synpath", "order-book", "sortedcontainers", "nautilus_trader")
    print("peers:", machine())
    print("peers:", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in peers))
    count, rounds = options.count, options.rounds
    title = "raw Kalshi delta to updated book, 99 levels"
    measure(title, kalshi_contestants(count), count, rounds, "wup, adapter (own book, absolute sizes)")
    title = "set one level and read both best prices, 100 levels"
    measure(title, book_contestants(count), count, rounds, "wup VenueBook, from text")


if __name__ == "__main__":
    main()
