"""A real orderbook stage in a process of its own, fed on a schedule; what the gateway under test reads.

It publishes to NATS and serves `/v1/snapshots`, as `wup orderbook` does. Lines on standard input: `rate
PER_SECOND SECONDS BURST AGGREGATE`: changes in groups of BURST that are due at the same moment, to books
of AGGREGATE in turn (`*`: of all). Each change carries the moment when it was due in `ts.recv`, so that a
late publisher is charged for its lateness. Prints one JSON line when it serves, and one after each
command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import itertools
import os
import sys
import time
from collections.abc import Iterator

import orjson

from wup.bus import LinkedBus, LocalBus, NatsBus
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.orderbook import OrderbookHttp, OrderbookService
from wup.subjects import normalized, normalized_marks

PLATFORMS = ("kalshi", "polymarket")
_MAKING_S = 0.0001
"""For one message; they are made before the first is due."""
_MARKS_S = 0.1
"""A producer marks each second; many of them do it one after the other."""


class Market:
    """`aggregates` of `books` books each, and `hot` with one; two legs, `levels` levels a side in each."""

    def __init__(self, aggregates: int, books: int, levels: int, hot: bool) -> None:
        self.levels = levels
        names = [f"agg-{a}.{a * books + b:016x}.yes" for b in range(books) for a in range(aggregates)]
        self.books = ["hot.00000000000000ff.yes", *names] if hot else names
        self.table = MappingTable(
            1,
            tuple(
                Leg(p, f"{p}-{i}", f"{p}-{i}", "e", book, False)
                for i, book in enumerate(self.books)
                for p in PLATFORMS
            ),
            {book: BookInfo(book, book.partition(".")[0], "bench", "bench") for book in self.books},
        )
        self._n = [[0, 0] for _ in self.books]
        self._unmarked: dict[str, dict[str, int]] = {platform: {} for platform in PLATFORMS}
        self._size = itertools.count(1)

    def message(self, book: int, leg: int, due_us: int, *, whole: bool = False) -> tuple[str, bytes]:
        """One normalised message: a whole book, or one level of it with a new size."""
        platform = PLATFORMS[leg]
        asset = f"{platform}-{book}"
        n = self._n[book]
        n[leg] += 1
        if whole:
            self._unmarked[platform][asset] = n[leg]
        size = next(self._size) % 999_983 + 100
        prices = range(self.levels) if whole else (size % self.levels,)
        body = {
            "type": "snapshot" if whole else "update",
            "platform": platform,
            "market_id": asset,
            "asset_id": asset,
            "epoch": 1,
            "n": n[leg],
            "bids": [[f"0.{449 - p}", f"{size + p}.25"] for p in prices],
            "asks": [[f"0.{551 + p}", f"{size + p}.5"] for p in prices] if whole else [],
            "ts": {"venue": due_us - 20_000, "recv": due_us, "norm": due_us},
        }
        return normalized(platform, asset, asset), orjson.dumps(body)

    def marks(self) -> Iterator[tuple[str, bytes]]:
        """The marks of this second, for who falls silent loses its legs; they name what was sent whole since
        the last ones."""
        for platform, assets in self._unmarked.items():
            self._unmarked[platform] = {}
            body = {"type": "marks", "epoch": 1, "assets": assets}
            yield normalized_marks(platform, "bench"), orjson.dumps(body)

    def of(self, aggregate: str) -> Iterator[int]:
        """The books of an aggregate, round and round."""
        if aggregate == "*":
            return itertools.cycle([i for i, book in enumerate(self.books) if book.startswith("agg-")])
        return itertools.cycle([i for i, book in enumerate(self.books) if book.startswith(aggregate + ".")])


class Pacer:
    """Wakes the loop at each due moment by a timer of the kernel: the loop's own timers are exact to 1 ms."""

    _REALTIME, _ABSOLUTE, _NONBLOCK = 0, 1, os.O_NONBLOCK

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Python has `os.timerfd_create` from 3.13.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(self._REALTIME, self._NONBLOCK)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self.due = asyncio.Event()
        loop.add_reader(self._timer, self._woken)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, 8)
        self.due.set()

    def run(self, start: float, interval: float) -> None:
        """Wake at start, start + interval, ... until the next call; an interval of 0: no more."""
        every, first = (divmod(round(seconds * 1e9), 1_000_000_000) for seconds in (interval, start))
        when = (ctypes.c_long * 4)(*every, *(first if interval else (0, 0)))
        if self._libc.timerfd_settime(self._timer, self._ABSOLUTE, ctypes.byref(when), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


async def drive(bus: LinkedBus, market: Market, pacer: Pacer, words: list[str]) -> dict[str, object]:
    """One `rate` command."""
    rate, seconds, burst, aggregate = float(words[0]), float(words[1]), int(words[2]), words[3]
    books = market.of(aggregate)
    groups = max(1, round(rate * seconds / burst))
    interval = burst / rate
    # Made beforehand, so that their making takes nothing from the stage that is fed.
    start = time.time() + 0.5 + groups * burst * _MAKING_S
    dues = [start + group * interval for group in range(groups)]
    made = [
        [market.message(next(books), (group + i) % 2, round(due * 1_000_000)) for i in range(burst)]
        for group, due in enumerate(dues)
    ]
    if time.time() > start:
        raise RuntimeError("the messages were not made in time")
    pacer.run(start, interval)
    done = 0
    latest = 0.0
    while done < groups:
        await pacer.due.wait()
        pacer.due.clear()
        now = time.time()
        while done < groups and dues[done] <= now:
            latest = max(latest, now - dues[done])
            for subject, payload in made[done]:
                bus.publish(subject, payload)
            done += 1
    pacer.run(0, 0)
    return {"type": "sent", "changes": groups * burst, "latest_us": round(latest * 1_000_000)}


async def keep_marking(bus: LinkedBus, market: Market) -> None:
    while True:
        for subject, payload in market.marks():
            bus.publish(subject, payload)
        await asyncio.sleep(_MARKS_S)


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    remote = await NatsBus.connect(arguments.nats, name="bench-publisher", no_echo=True)
    bus = LinkedBus(LocalBus(), remote, ("orderbook.",), ("orderbook.snapshot",))
    market = Market(arguments.aggregates, arguments.books, arguments.levels, arguments.hot)
    service = OrderbookService(bus, epoch_ms=time.time_ns() // 1_000_000)
    await service.start()
    await service.set_table(market.table)
    marking = asyncio.create_task(keep_marking(bus, market))
    for book in range(len(market.books)):
        for leg in range(2):
            bus.publish(*market.message(book, leg, time.time_ns() // 1_000, whole=True))
        if book % 50 == 0:
            await remote.flush()
    http = OrderbookHttp(service, "127.0.0.1", 0)
    await http.start()
    pacer = Pacer(loop)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    say({"type": "ready", "http": http.port, "books": len(market.books)})
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        say(await drive(bus, market, pacer, line[1:]))
    marking.cancel()
    await http.stop()
    await service.stop()
    await bus.close()


def say(message: dict[str, object]) -> None:
    print(orjson.dumps(message).decode(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nats", required=True)
    parser.add_argument("--aggregates", type=int, default=40)
    parser.add_argument("--books", type=int, default=125)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--hot", action=argparse.BooleanOptionalAction, default=True)
    asyncio.run(main(parser.parse_args()))
