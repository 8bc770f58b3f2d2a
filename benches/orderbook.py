"""Which question: how long from a normalised message handed over to its consolidated change received, and at
which rate does the orderbook service stop keeping up?

Open loop: message i is due at start + i/rate and is timed from then, so a stall counts for all it delays.
`python benches/orderbook.py [--seconds 5] [--rates 1000,5000,20000]` prints p50, p99 and the rate reached,
over the in-process bus and over NATS (service and load in two processes), then looks for the knee: the
highest rate at which 95 % of it come out in time and nothing is lost, to a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import uvloop

from machine import machine
from wup import servers, subjects
from wup.bus import LocalBus, NatsBus
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.orderbook import OrderbookService

LEVELS = 50
BOOKS = 200
MARKS_S = 0.5
AT_ONCE = 256
"""More messages than this are not sent without a look at what came back."""
HIGHEST = 200_000


def table() -> MappingTable:
    legs, books = [], {}
    for i in range(BOOKS):
        book = f"agg-{i}.{i:016x}.yes"
        books[book] = BookInfo(book, f"agg-{i}", "bench", "bench")
        legs += [Leg(p, f"{p}-{i}", f"{p}-{i}", "e", book, False) for p in ("kalshi", "polymarket")]
    return MappingTable(1, tuple(legs), books)


class Load:
    """Messages of a seeded market, one level each; what was sent when, by book."""

    def __init__(self, legs: tuple[Leg, ...] | None = None) -> None:
        self.rng = random.Random(7)
        self.legs = legs if legs is not None else table().legs
        self.n = dict.fromkeys((leg.asset_id for leg in self.legs), 0)
        self.size = 0
        self.unmarked: dict[str, dict[str, int]] = {leg.platform: {} for leg in self.legs}

    def opening(self) -> list[tuple[str, bytes]]:
        return [self.message(leg, True) for leg in self.legs]

    def update(self) -> tuple[str, bytes]:
        return self.message(self.rng.choice(self.legs), False)

    def message(self, leg: Leg, whole: bool) -> tuple[str, bytes]:
        """(subject, payload) of a leg's whole book, or of one changed level."""
        self.n[leg.asset_id] += 1
        self.size += 1
        if whole:
            self.unmarked[leg.platform][leg.asset_id] = self.n[leg.asset_id]
        prices = range(LEVELS) if whole else [self.rng.randrange(LEVELS)]
        body = {
            "type": "snapshot" if whole else "update",
            "platform": leg.platform,
            "market_id": leg.market_id,
            "asset_id": leg.asset_id,
            "epoch": 1,
            "n": self.n[leg.asset_id],
            "bids": [[f"0.{449 - p}", str(self.size + p)] for p in prices],
            "asks": [[f"0.{551 + p}", str(self.size + p)] for p in prices] if whole else [],
            "ts": {"recv": time.time_ns() // 1000},
        }
        return subjects.normalized(leg.platform, leg.market_id, leg.asset_id), orjson.dumps(body)

    def marks(self) -> list[tuple[str, bytes]]:
        """The marks of this second: who falls silent loses its legs. They name what was sent whole since the
        last ones; nothing is lost here, so that is enough."""
        found = []
        for platform, assets in self.unmarked.items():
            body = {"type": "marks", "epoch": 1, "assets": assets}
            found.append((subjects.normalized_marks(platform, "bench"), orjson.dumps(body)))
            self.unmarked[platform] = {}
        return found

    @contextlib.asynccontextmanager
    async def marking(self, bus: LocalBus | NatsBus) -> AsyncIterator[None]:
        """Marks as long as this is open."""

        async def mark() -> None:
            while True:
                for subject, payload in self.marks():
                    bus.publish(subject, payload)
                await asyncio.sleep(MARKS_S)

        task = asyncio.create_task(mark())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def drive(bus: LocalBus | NatsBus, rate: int, seconds: float, load: Load) -> dict[str, float]:
    """Send at `rate` for `seconds`; delays from due time to the change's arrival, microseconds."""
    delays: list[float] = []
    due: list[float] = []
    received = 0

    def arrived(_: object) -> None:
        nonlocal received
        if received < len(due):
            delays.append((time.perf_counter() - due[received]) * 1e6)
        received += 1

    subscription = await bus.subscribe("orderbook.changes.>", arrived)
    total = round(rate * seconds)
    messages = []
    while len(messages) < total:
        messages += [load.update() for _ in range(min(1_000, total - len(messages)))]
        await asyncio.sleep(0)
    start = time.perf_counter()
    sent = 0
    while sent < total:
        now = time.perf_counter()
        limit = min(total, sent + AT_ONCE)
        while sent < limit and start + sent / rate <= now:
            due.append(start + sent / rate)
            bus.publish(*messages[sent])
            sent += 1
        await asyncio.sleep(0)
    patience = time.perf_counter() + 10
    while received < total and time.perf_counter() < patience:
        await asyncio.sleep(0.001)
    took = time.perf_counter() - start
    await subscription.stop()
    delays.sort()
    pick = lambda q: delays[min(len(delays) - 1, int(q * len(delays)))]  # noqa: E731
    return {"p50": pick(0.5), "p99": pick(0.99), "reached": received / took, "lost": total - received}


async def serve(url: str) -> None:
    bus = await NatsBus.connect(url, name="bench-orderbook")
    service = OrderbookService(bus, epoch_ms=1)
    await service.start()
    await service.set_table(table())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await service.stop()
    await bus.close()


async def settle(bus: LocalBus | NatsBus, load: Load) -> None:
    for subject, payload in load.opening():
        bus.publish(subject, payload)
    await bus.flush()
    await asyncio.sleep(0.5)


def row(name: str, rate: int, found: dict[str, float]) -> None:
    print(
        f"{name:10} {rate:>7}/s  p50 {found['p50']:>9.1f} us  p99 {found['p99']:>10.1f} us"
        f"  reached {found['reached']:>8.0f}/s  lost {found['lost']:.0f}",
        flush=True,
    )


def kept_up(rate: int, found: dict[str, float]) -> bool:
    return found["reached"] >= 0.95 * rate and not found["lost"]


async def measure(name: str, bus: LocalBus | NatsBus, rates: list[int], seconds: float) -> str:
    """Drive at each rate, then look for the knee; a line about it."""
    load = Load()
    good, bad = 0, HIGHEST

    async def attempt(rate: int, long: float, what: str) -> None:
        """A rate counts as too high when it fails twice: somebody else may have used the machine."""
        nonlocal good, bad
        for _ in range(2):
            found = await drive(bus, rate, long, load)
            row(what, rate, found)
            if kept_up(rate, found):
                good = max(good, rate)
                return
            # What overflowed is asked for, and nobody answers here: begin anew.
            await settle(bus, load)
        bad = min(bad, rate)

    async with load.marking(bus):
        await settle(bus, load)
        for rate in rates:
            await attempt(rate, seconds, name)
        while good < bad and bad / max(good, 1) > 1.1:
            # Upwards in steps while nothing fails, then by halves.
            rate = round(good * 1.5, -2) if bad == HIGHEST and good else round((good + bad) / 2, -2)
            if not good < rate < bad:
                break
            await attempt(int(rate), min(seconds, 2.0), f"{name}?")
    if good >= bad:
        return f"knee {name}: unclear, {bad}/s failed and {good}/s did not: the machine is not quiet"
    return f"knee {name}: {good}/s holds, {bad}/s does not"


async def main(rates: list[int], seconds: float) -> None:
    print(machine())
    print(f"{BOOKS} books, two legs, {LEVELS} levels a side; one-level updates")
    bus = LocalBus()
    service = OrderbookService(bus, epoch_ms=1)
    await service.start()
    await service.set_table(table())
    knees = [await measure("in-process", bus, rates, seconds)]
    await service.stop()
    async with servers.embedded_nats() as url:
        with subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--serve", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            await asyncio.get_running_loop().run_in_executor(None, child.stdout.readline)
            remote = await NatsBus.connect(url, name="bench-load")
            knees.append(await measure("NATS", remote, rates, seconds))
            await remote.close()
            assert child.stdin is not None
            child.stdin.close()
    print("\n".join(knees))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rates", default="1000,5000,20000,40000")
    parser.add_argument("--serve")
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
    else:
        uvloop.run(main([int(r) for r in arguments.rates.split(",")], arguments.seconds))
