"""How long from the bytes of a venue's frame to its normalised message, where does the time go, and how long
do others take for the same frame?

    .venv/bin/python benches/venues.py [--frames 4000] [--rounds 5]

Whole way: `Engine.record` with the raw bytes, until a subscriber of the in-process bus has the normalised
message. A Polymarket change of two tokens (600 bytes, a book of 100 levels, its hash verified), a Kalshi
delta (270 bytes, 100 levels), and whole books of 100 levels; by the native decoder and by the one in Python.
Others do less and other work: synpath reads the frame into its own book and its own event without checking
the hash; nautilus_trader into its deltas and book, in floats. They live in `target/peers` (see
`benches/core/peers.py`). Every frame is timed by itself, contestants take turns, p50 and p99 of all rounds
are printed with the ratio to our native row; the clock's own cost is taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import importlib.abc
import json
import random
import statistics
import sys
import time
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from core.peers import enter_environment, kalshi_stream
from machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Take = Callable[[bytes], object]

MARKET = "0x" + "9c" * 32
YES = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
NO = "28290293140018107764072370767749010110409017615323596573647425138985988593200"
TICKER = "KXFEDDECISION-26DEC-C25"
ID = "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922"
START_MS = 1_795_353_600_000


def compact(frame: object) -> bytes:
    """As the venues write it."""
    return json.dumps(frame, separators=(",", ":")).encode()


class PolymarketMarket:
    """A market of 100 levels; changes have both tokens, their hashes and best prices, as the venue's."""

    def __init__(self) -> None:
        self.dice = random.Random(7)
        self.ms = START_MS
        size = lambda: f"{self.dice.randint(100, 9_000_000) / 100:.2f}".rstrip("0").rstrip(".")  # noqa: E731
        self.bids = {price: size() for price in range(401, 451)}
        self.asks = {price: size() for price in range(461, 511)}

    def sides(self, token: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """Levels worst price first, prices in thousandths."""
        bids, asks = sorted(self.bids.items()), sorted(self.asks.items(), reverse=True)
        if token == YES:
            return bids, asks
        mirrored = [[(1000 - price, size) for price, size in side] for side in (asks, bids)]
        return mirrored[0], mirrored[1]

    def book(self, token: str, *, first: bool) -> dict[str, Any]:
        """A `book` object."""
        levels = [
            [{"price": text(price), "size": size} for price, size in side] for side in self.sides(token)
        ]
        hashed = {
            "market": MARKET,
            "asset_id": token,
            "timestamp": str(self.ms),
            "hash": "",
            "bids": levels[0],
            "asks": levels[1],
            "min_order_size": "5",
            "tick_size": "0.001",
            "neg_risk": True,
            "last_trade_price": "0.455",
        }
        sha1 = hashlib.sha1(compact(hashed), usedforsecurity=False).hexdigest()
        said = {**hashed, "hash": sha1, "event_type": "book"}
        for name in ("min_order_size", "neg_risk", *(() if first else ("tick_size", "last_trade_price"))):
            del said[name]
        return said

    def change(self) -> bytes:
        """One level of one side, in a millisecond of its own."""
        self.ms += 1
        side, ladder = self.dice.choice((("BUY", self.bids), ("SELL", self.asks)))
        price, size = self.dice.choice(list(ladder)), f"{self.dice.randint(100, 99_999) / 100}"
        ladder[price] = size
        flipped = "SELL" if side == "BUY" else "BUY"
        elements = [
            {
                "asset_id": token,
                "price": text(own),
                "size": size,
                "side": own_side,
                "hash": self.book(token, first=False)["hash"],
                "best_bid": text(self.sides(token)[0][-1][0]),
                "best_ask": text(self.sides(token)[1][-1][0]),
            }
            for token, own, own_side in ((YES, price, side), (NO, 1000 - price, flipped))
        ]
        return compact(
            {
                "market": MARKET,
                "price_changes": elements,
                "timestamp": str(self.ms),
                "event_type": "price_change",
            }
        )


def text(thousandths: int) -> str:
    """A price as the venue writes it."""
    return f"{thousandths / 1000:.3f}".rstrip("0")


def polymarket_frames(count: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """(first frame, changes, whole books after one change each)."""
    market = PolymarketMarket()
    first = compact([market.book(YES, first=True)])
    changes = [market.change() for _ in range(count)]
    books = []
    for _ in range(count // 8):
        market.change()
        books.append(compact(market.book(YES, first=False)))
    return first, changes, books


def kalshi_frames(count: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """(first snapshot, deltas, snapshots)."""
    dice = random.Random(11)
    # Both ladders are bids, in thousandths: for NO the complement of 0.461 to 0.51.
    yes = {price: dice.randint(2_000, 9_000_000) for price in range(401, 451)}
    no = {price: dice.randint(2_000, 9_000_000) for price in range(490, 540)}

    def snapshot(seq: int) -> bytes:
        rows = [[[f"{price / 1000:.4f}", f"{size}.00"] for price, size in side.items()] for side in (yes, no)]
        body = {"market_ticker": TICKER, "market_id": ID, "yes_dollars_fp": rows[0], "no_dollars_fp": rows[1]}
        return compact({"type": "orderbook_snapshot", "sid": 1, "seq": seq, "msg": body}) + b"\n"

    deltas = []
    for seq in range(2, count + 2):
        side, ladder = dice.choice((("yes", yes), ("no", no)))
        body = {
            "market_ticker": TICKER,
            "market_id": ID,
            "price_dollars": f"{dice.choice(list(ladder)) / 1000:.4f}",
            "delta_fp": f"{dice.choice((-1, 1)) * dice.randint(1, 99) / 100:.2f}",
            "side": side,
            "ts": "2026-09-25T19:13:44.342537Z",
            "ts_ms": START_MS + seq,
        }
        frame = {"type": "orderbook_delta", "sid": 1, "seq": seq, "msg": body}
        deltas.append(compact(frame) + b"\n")
    return snapshot(1), deltas, [snapshot(seq) for seq in range(2, count // 8 + 2)]


# --- ours -------------------------------------------------------------------------------------------


def ours(platform: str, first: bytes, *, native: bool, hash_check: str = "always") -> Take:
    """A fresh engine with the first book taken; the whole way of one frame."""
    from wup.bus import LocalBus
    from wup.clock import SYSTEM_CLOCK
    from wup.mapping.table import Leg, MappingTable
    from wup.normalizer.engine import Engine
    from wup.raw import Meta
    from wup.venues.kalshi.normalise import KalshiNormaliser
    from wup.venues.polymarket.normalise import PolymarketNormaliser
    from wup.venues.registry import VENUES

    kind: Any = KalshiNormaliser if platform == "kalshi" else PolymarketNormaliser
    venue = replace(VENUES[platform], normaliser=functools.partial(kind, native=native))
    bus = LocalBus()
    got: list[bytes] = []
    asyncio.run(bus.subscribe("normalized.>", lambda message: got.append(message.payload)))
    engine = Engine(
        epoch=1,
        instance="bench",
        venues={platform: venue},
        emit=bus.publish,
        bad=lambda *what: print("bad input", what),
        stamp=SYSTEM_CLOCK.now_us,
    )
    asset, market = (TICKER, TICKER) if platform == "kalshi" else (YES, MARKET)
    leg = Leg(platform, asset, market, "event", "agg.0123456789abcdef.yes", False)
    engine.set_table(MappingTable(1, (leg,)))
    opened = compact({"use_yes_price": False, "hash_check": hash_check})
    engine.record(Meta("open", platform, "c1", 1, 0), opened, 1)
    n = 0

    def take(raw: bytes) -> object:
        nonlocal n
        n += 1
        return engine.record(Meta("frame", platform, "c1", START_MS * 1000, n), raw, 1)

    take(first)
    take.got = got  # type: ignore[attr-defined]
    return take


# --- others -----------------------------------------------------------------------------------------


def synpath(platform: str, first: bytes) -> Take:
    """Its stream's `handle_raw`, which answers with its events."""
    if platform == "kalshi":
        from synpath.ws.base import LocalBook

        stream: Any = kalshi_stream()
        stream.books[TICKER] = LocalBook()
    else:
        from synpath.ws.base import LocalBook
        from synpath.ws.polymarket import PolymarketMarketStream

        stream = PolymarketMarketStream()
        stream.tokens.add(YES)
        stream.books[YES] = LocalBook()
    handle = stream.handle_raw

    def take(raw: bytes) -> object:
        events = handle(raw.decode())
        assert events
        return events

    take(first)
    return take


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules of `py_clob_client`, empty: every name in them is an empty class."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Only what is missing comes here."""
        mine = name.partition(".")[0] == "py_clob_client"
        return ModuleSpec(name, self, is_package=True) if mine else None

    def exec_module(self, module: ModuleType) -> None:
        """Nothing but classes."""
        module.__getattr__ = lambda name: type(name, (), {})  # type: ignore[method-assign]


def nautilus(first: bytes) -> Take:
    """Its schema of the frame, its delta of our token, its book: its data client's work without its bus.

    Its package imports a trading client that is no part of this; an empty one stands in for it.
    """
    import msgspec

    sys.meta_path.append(Absent())
    from nautilus_trader.adapters.polymarket.schemas.book import PolymarketBookSnapshot, PolymarketQuotes
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.enums import BookType
    from nautilus_trader.test_kit.providers import TestInstrumentProvider

    instrument = TestInstrumentProvider.binary_option()
    book = OrderBook(instrument.id, BookType.L2_MBP)
    decoder = msgspec.json.Decoder(PolymarketQuotes | PolymarketBookSnapshot)

    def take(raw: bytes) -> object:
        message = decoder.decode(raw)
        if isinstance(message, PolymarketBookSnapshot):
            deltas = message.parse_to_snapshot(instrument, 0)
        else:
            mine = [change for change in message.price_changes if change.asset_id == YES]
            deltas = PolymarketQuotes(message.market, mine, message.timestamp).parse_to_deltas(instrument, 0)
        return book.apply_deltas(deltas)

    take(compact(json.loads(first)[0]))
    return take


# --- measuring --------------------------------------------------------------------------------------


def tick() -> float:
    """What reading the clock twice costs, in ns."""
    clock = time.perf_counter_ns
    return statistics.median([clock() - clock() for _ in range(20_000)]) * -1


def measure(title: str, contestants: dict[str, Callable[[], Take]], frames: list[bytes], rounds: int) -> None:
    """Print one table; ratios are to the first row."""
    clock, cost = time.perf_counter_ns, tick()
    times: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, fresh in contestants.items():
            try:
                take = fresh()
            except (ImportError, AttributeError, NotImplementedError) as error:
                times.setdefault(f"{name}: cannot be driven: {error}", [])
                continue
            taken = times.setdefault(name, [])
            for raw in frames:
                started = clock()
                take(raw)
                taken.append(clock() - started)
            if hasattr(take, "got"):
                assert len(take.got) == len(frames) + 1, "every frame is one message"
    size = statistics.mean(map(len, frames))
    print(f"\n{title} ({size:.0f} bytes, {len(frames)} frames x {rounds})")
    print(f"{'':<52}{'p50 us':>8}{'p99 us':>8}{'ratio':>7}")
    base = 0.0
    for name, taken in times.items():
        if not taken:
            print(name)
            continue
        taken.sort()
        p50, p99 = ((taken[round(len(taken) * share)] - cost) / 1000 for share in (0.5, 0.99))
        base = base or p50
        print(f"{name:<52}{p50:>8.2f}{p99:>8.2f}{p50 / base:>7.2f}")


def step(name: str, call: Callable[[], object], count: int = 20_000) -> None:
    """Print what one call takes: p50, with the clock and an empty call taken off."""
    clock = time.perf_counter_ns

    def p50(timed: Callable[[], object]) -> float:
        taken = []
        for _ in range(count):
            started = clock()
            timed()
            taken.append(clock() - started)
        return statistics.median(taken)

    print(f"  {name:<58}{p50(call) - p50(lambda: None):>8.0f} ns")


def polymarket_steps(first: bytes, change: bytes, whole: bytes) -> None:
    """Where the time of a change and of a whole book goes."""
    from wup._core import Writer, polymarket_frame
    from wup.venues.polymarket.adapter import PolymarketAdapter, load

    adapter = PolymarketAdapter()
    tokens: dict[str, Any] = {YES: None}
    found = polymarket_frame(change, tokens)
    books = polymarket_frame(first)
    assert found is not None
    assert books is not None
    whole_item: Any = books[0]
    (_, _, stamp, _, levels, _, bid, ask), book = found[0], whole_item[3]  # type: ignore[misc]
    writer = Writer("polymarket", MARKET, YES, 1)
    print("\nwhere the time of a Polymarket change goes")
    step("decode, native", lambda: polymarket_frame(change, tokens))
    step("decode, Python", lambda: [adapter.events(item, []) for item in load(change)])
    step("level into the book, best prices compared", lambda: book.change(levels, bid, ask))
    facts = (MARKET, YES, stamp, "5", "0.001", True, "0.455")
    step(f"hash over {len(book)} levels", lambda: book.polymarket_hash(*facts))
    step("message written", lambda: writer.update(1, [("0.4", "5")], [], 1, 2, 3))
    print("where the time of a Polymarket book goes")
    step("decode, native", lambda: polymarket_frame(whole), 2_000)
    step("decode, Python", lambda: [adapter.events(item, []) for item in load(whole)], 2_000)
    step("message written", lambda: writer.snapshot(1, book, 1, 2, 3), 2_000)


def kalshi_steps(first: bytes, delta: bytes) -> None:
    """Where the time of a delta and of a snapshot goes."""
    from wup._core import Writer, kalshi_delta, kalshi_snapshot
    from wup.raw import Meta, read_meta
    from wup.venues.kalshi.adapter import KalshiAdapter, load

    adapter = KalshiAdapter()
    read = kalshi_snapshot(first)
    assert read is not None
    book = read[5]
    writer = Writer("kalshi", TICKER, TICKER, 1)
    print("\nwhere the time of a Kalshi delta goes")
    step("decode, native", lambda: kalshi_delta(delta))
    step("decode, Python", lambda: adapter.events(load(delta)))
    step("increment into the book", lambda: book.add("bid", "0.4", "0.01"))
    step("message written", lambda: writer.update(1, [("0.4", "5")], [], 1, 2, 3))
    print("where the time of a Kalshi snapshot goes")
    step("decode, native", lambda: kalshi_snapshot(first), 2_000)
    step("decode, Python", lambda: adapter.events(load(first)), 2_000)
    step("message written", lambda: writer.snapshot(1, book, 1, 2, 3), 2_000)
    print("beside every frame that comes over NATS")
    headers = Meta("frame", "kalshi", "c1", 1, 1).headers()
    step("the record's headers read", lambda: read_meta("kalshi", headers))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    enter_environment()
    from wup._core import OPTIMISED

    print(machine(), "" if OPTIMISED else "(DEBUG BUILD: worthless)")
    first, changes, books = polymarket_frames(options.frames)
    poly = functools.partial(ours, "polymarket", first)
    title = "Polymarket change, two tokens, book of 100 levels"
    measure(
        title,
        {
            "wup, native": functools.partial(poly, native=True),
            "wup, native, HASH_CHECK=off": functools.partial(poly, native=True, hash_check="off"),
            "wup, Python decoder": functools.partial(poly, native=False),
            "wup, Python decoder, HASH_CHECK=off": functools.partial(poly, native=False, hash_check="off"),
            "synpath 0.11.0, handle_raw (no hash)": functools.partial(synpath, "polymarket", first),
            "nautilus_trader 1.221.0, schema, delta, book (no hash)": functools.partial(nautilus, first),
        },
        changes,
        options.rounds,
    )
    measure(
        "Polymarket book of 100 levels",
        {
            "wup, native": functools.partial(poly, native=True),
            "wup, Python decoder": functools.partial(poly, native=False),
            "synpath 0.11.0, handle_raw (no hash)": functools.partial(synpath, "polymarket", first),
            "nautilus_trader 1.221.0, schema, deltas, book (no hash)": functools.partial(nautilus, first),
        },
        books,
        options.rounds,
    )
    snapshot, deltas, snapshots = kalshi_frames(options.frames)
    kalshi = functools.partial(ours, "kalshi", snapshot)
    rivals: dict[str, Callable[[], Take]] = {
        "wup, native": functools.partial(kalshi, native=True),
        "wup, Python decoder": functools.partial(kalshi, native=False),
        "synpath 0.11.0, handle_raw": functools.partial(synpath, "kalshi", snapshot),
    }
    measure("Kalshi delta, book of 100 levels", rivals, deltas, options.rounds)
    measure("Kalshi snapshot of 100 levels", rivals, snapshots, options.rounds)
    print("nautilus_trader 1.221.0 has no adapter of this venue")
    polymarket_steps(first, changes[-1], books[-1])
    kalshi_steps(snapshot, deltas[-1])


if __name__ == "__main__":
    main()
