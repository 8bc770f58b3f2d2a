"""Which question: what does recording cost the event loop per frame, and how much can the thread take?

`python benches/recorder.py [--seconds 5] [--rates 1000,5000,20000]` prints (1) the loop's own cost:
publishing with and without the recorder subscribed; (2) how late frames that are due at a rate are published,
without and with the thread writing beside (it shares the interpreter's lock); (3) the rate at which the
thread writes a backlog, its processor time per frame, and how small frames become.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import orjson
import uvloop

from machine import machine
from wup import subjects
from wup.bus import LocalBus, Message
from wup.raw import Meta
from wup.recorder import Recorder, segments

CONNECTION = "bench-1.1795353600000"


def frames(count: int) -> list[bytes]:
    """Book changes of about 600 bytes, as venues send them."""
    return [
        orjson.dumps(
            {
                "market": "0x5d2a8e5c2d7a6a1b64f0fa92f74ee2e5a4b7fa1b5be8a2a3d7d1ab4f8a6ce1fd",
                "price_changes": [
                    {
                        "asset_id": "71321045679252212594626234185010987642012384567219384756102938475610",
                        "price": f"0.{i % 90 + 10}",
                        "size": str(i * 7 % 9973),
                        "side": side,
                        "hash": f"{i * 2654435761 % 2**160:040x}",
                        "best_bid": "0.51",
                        "best_ask": "0.53",
                    }
                    for side in ("BUY", "SELL")
                ],
                "timestamp": str(1_795_353_600_000 + i),
                "event_type": "price_change",
            }
        )
        for i in range(count)
    ]


class Source:
    """Publishes as the aggregator does."""

    def __init__(self, bus: LocalBus) -> None:
        self.bus = bus
        self.frames = frames(2000)
        self.n = 0
        self.subject = subjects.raw_connection("bench", CONNECTION)

    def open(self) -> None:
        meta = Meta("open", "bench", CONNECTION, time.time_ns() // 1000, 0)
        self.bus.publish(self.subject, b"{}", meta.headers())

    def one(self) -> None:
        self.n += 1
        meta = Meta("frame", "bench", CONNECTION, time.time_ns() // 1000, self.n)
        self.bus.publish(self.subject, self.frames[self.n % 2000], meta.headers())


def read(message: Message) -> None:
    """Somebody else reads as well: the normalizer."""


async def publishing(recorded: bool, folder: Path, count: int = 20_000) -> float:
    """Nanoseconds per publish, best of five rounds that never yield to the loop."""
    bus = LocalBus()
    await bus.subscribe("market.>", read)
    recorder = Recorder(bus, folder) if recorded else None
    source = Source(bus)
    if recorder is not None:
        await recorder.start()
    source.open()
    best = float("inf")
    for _ in range(5):
        started = time.thread_time_ns()
        for _ in range(count):
            source.one()
        best = min(best, (time.thread_time_ns() - started) / count)
        if recorder is not None:
            await recorder.flush()
    if recorder is not None:
        await recorder.stop()
    return best


async def paced(rate: int, seconds: float, folder: Path | None) -> list[float]:
    """How late each due frame was published, microseconds, in order of size."""
    bus = LocalBus()
    await bus.subscribe("market.>", read)
    recorder = None if folder is None else Recorder(bus, folder)
    source = Source(bus)
    if recorder is not None:
        await recorder.start()
    source.open()
    late: list[float] = []
    start = time.perf_counter()
    total = round(rate * seconds)
    sent = 0
    while sent < total:
        now = time.perf_counter()
        while sent < total and start + sent / rate <= now:
            late.append((time.perf_counter() - start - sent / rate) * 1e6)
            source.one()
            sent += 1
        await asyncio.sleep(0)
    if recorder is not None:
        await recorder.stop()
    return sorted(late)


async def backlog(folder: Path, count: int = 60_000) -> tuple[float, float, float]:
    """Frames per second that the thread writes, its processor microseconds per frame, and the packed size as
    a share of the payload."""
    bus = LocalBus()
    recorder = Recorder(bus, folder, queue_bytes=1 << 30)
    source = Source(bus)
    await recorder.start()
    source.open()
    for _ in range(count):
        source.one()
    started, used = time.perf_counter(), time.process_time()
    await recorder.flush()
    took, used = time.perf_counter() - started, time.process_time() - used
    await recorder.stop()
    packed = sum(Path(path).stat().st_size for path in segments(folder))
    return count / took, used / count * 1e6, packed / sum(len(source.frames[i % 2000]) for i in range(count))


async def main(rates: list[int], seconds: float) -> None:
    print(machine())
    # As a process of WUP is set up: a full collection would stall the loop for 20 ms, recorder or not.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    sizes = [len(frame) for frame in frames(2000)]
    print(f"frames of {sum(sizes) / len(sizes):.0f} bytes")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        bare = await publishing(False, place / "a")
        with_recorder = await publishing(True, place / "b")
        print(
            f"loop       publish {bare / 1000:.2f} us, recorded {with_recorder / 1000:.2f} us: "
            f"{(with_recorder - bare) / 1000:.2f} us per frame"
        )
        for rate in rates:
            late = await paced(rate, seconds, None)
            late_recorded = await paced(rate, seconds, place / f"r{rate}")
            pick = lambda values, q: values[min(len(values) - 1, int(q * len(values)))]  # noqa: E731
            print(
                f"{rate:>7}/s  late p50 {pick(late, 0.5):.0f} -> {pick(late_recorded, 0.5):.0f} us, "
                f"p99 {pick(late, 0.99):.0f} -> {pick(late_recorded, 0.99):.0f} us, "
                f"max {late[-1]:.0f} -> {late_recorded[-1]:.0f} us",
                flush=True,
            )
        rate_written, used, share = await backlog(place / "c")
        print(
            f"thread     {rate_written:.0f} frames/s, {used:.2f} us of processor per frame, "
            f"packed to {share:.1%} of the payload"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rates", default="1000,5000,20000")
    arguments = parser.parse_args()
    uvloop.run(main([int(r) for r in arguments.rates.split(",")], arguments.seconds))
