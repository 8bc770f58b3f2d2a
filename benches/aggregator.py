"""How long from a venue's frame to the raw record, how many frames a second on one core, and is any lost?

A venue and a reader of `market.>` run in processes of their own, a real nats-server between; the aggregator
is the process that is measured, with Polymarket's session. `python benches/aggregator.py`.

* read: from the socket read to the record handed to the in-process readers
* nats: from the socket read to the bytes written to NATS
* through: from the venue's send to the reader in the other process, NATS included
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import orjson
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from machine import machine
from venue_client import framed
from wup import servers
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message, NatsBus
from wup.mapping.table import Leg, MappingTable
from wup.raw import Kind, Meta, read_meta
from wup.venues.base import Limits
from wup.venues.polymarket import VENUE
from wup.venues.polymarket.settings import PolymarketSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

ASSETS = [f"{number}{'7' * 70}" for number in range(1_000_000, 1_000_020)]
MARKET = "0x" + "ab" * 32


def frame(number: int, stamp_ns: int) -> bytes:
    """A change of one market as this venue sends it; the send time stands where the engine's would."""
    change = {
        "price": "0.301",
        "size": "1000",
        "side": "BUY",
        "hash": "b" * 40,
        "best_bid": "0.3",
        "best_ask": "0.4",
    }
    return orjson.dumps(
        {
            "market": MARKET,
            "price_changes": [{"asset_id": ASSETS[number % 20], **change}, {"asset_id": "9" * 77, **change}],
            "timestamp": str(stamp_ns),
            "event_type": "price_change",
        }
    )


def stamp_of(raw: bytes) -> int:
    at = raw.rfind(b'"timestamp":"') + 13
    return int(raw[at : raw.find(b'"', at)])


# --- the venue ------------------------------------------------------------------------------------


async def venue() -> None:
    """Sends what stdin asks for: `RATE SECONDS` a line; answers with the number sent."""
    clients: set[ServerConnection] = set()

    async def handle(socket: ServerConnection) -> None:
        clients.add(socket)
        try:
            async for message in socket:
                if message == "PING":
                    await socket.send("PONG")
        except ConnectionClosed:
            pass
        finally:
            clients.discard(socket)

    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as running:
        print(next(iter(running.sockets)).getsockname()[1], flush=True)
        number = 0
        while line := await lines.readline():
            rate, seconds = (float(part) for part in line.split())
            (socket,) = clients
            start, sent, total = time.perf_counter(), 0, round(rate * seconds)
            while sent < total:
                due = min(total, int((time.perf_counter() - start) * rate) + 1)
                while sent < due:
                    socket.transport.write(framed(frame(number, time.perf_counter_ns())))
                    sent += 1
                    number += 1
                await asyncio.sleep(max(0.0, start + (sent + 0.5) / rate - time.perf_counter()))
            print(total, flush=True)


# --- the reader -----------------------------------------------------------------------------------


async def reader(url: str) -> None:
    """Reads `market.>`; at `bench.report` prints counts and latencies since the last one."""
    bus = await NatsBus.connect(url, name="reader")
    late: list[int] = []
    holes = 0
    last = 0

    def take(message: Message) -> None:
        nonlocal holes, last
        meta = read_meta("polymarket", message.headers)
        if meta is None or meta.kind != "frame" or not message.payload.startswith(b"{"):
            return
        late.append(time.perf_counter_ns() - stamp_of(message.payload))
        holes += last not in (0, meta.n - 1)
        last = meta.n

    def report(message: Message) -> None:
        late.sort()
        pick = lambda q: late[int(q * (len(late) - 1))] / 1000 if late else 0.0  # noqa: E731
        print(
            orjson.dumps({"frames": len(late), "holes": holes, "p50": pick(0.5), "p99": pick(0.99)}).decode(),
            flush=True,
        )
        late.clear()

    await bus.subscribe("market.>", take)
    await bus.subscribe("bench.report", report)
    print("ready", flush=True)
    await asyncio.Event().wait()


# --- the aggregator -------------------------------------------------------------------------------


class Timed:
    """Stands between aggregator and bus: when each frame was published, and when it was written to NATS."""

    def __init__(self, bus: NatsBus | LocalBus) -> None:
        self.bus = bus
        self.read: list[int] = []
        self.written: list[int] = []
        self._waiting: deque[int] = deque()
        if isinstance(bus, NatsBus):
            writer: Any = bus._client._transport._io_writer  # type: ignore[union-attr]
            write = writer.write

            def wrote(data: bytes) -> None:
                write(data)
                now = time.time_ns()
                # Whole messages leave, in the order of their publication.
                for _ in range(data.count(b"HPUB market.polymarket.1")):
                    self.written.append(now - self._waiting.popleft())

            writer.write = wrote

    def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str | None = None
    ) -> bool:
        done = self.bus.publish(subject, payload, headers, reply)
        if subject.startswith("market.polymarket.1") and headers is not None:
            rx_ns = int(headers["Wup-Rx"]) * 1000
            self.read.append(time.time_ns() - rx_ns)
            self._waiting.append(rx_ns)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)


def quantiles(values: list[int]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "p50      - us  p99       - us"
    p50, p99 = (ordered[int(q * (len(ordered) - 1))] / 1000 for q in (0.5, 0.99))
    return f"p50 {p50:6.0f} us  p99 {p99:7.0f} us"


async def measure(url: str | None, orders: list[tuple[str, float, float, int]]) -> None:
    """(name, rate, seconds, times) on NATS, or on the in-process bus when `url` is None."""
    source = subprocess.Popen(
        [sys.executable, __file__, "--venue"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    listener = None
    bus: NatsBus | LocalBus = LocalBus()
    if url is not None:
        listener = subprocess.Popen(
            [sys.executable, __file__, "--reader", url], stdout=subprocess.PIPE, text=True
        )
        assert listener.stdout is not None
        await asyncio.to_thread(listener.stdout.readline)
        bus = await NatsBus.connect(url, name="aggregator")
    else:
        await bus.subscribe("market.>", lambda message: None)
    assert source.stdin is not None
    assert source.stdout is not None
    try:
        port = int(await asyncio.to_thread(source.stdout.readline))
        timed = Timed(bus)
        settings = PolymarketSettings(polymarket_ws_url=f"ws://127.0.0.1:{port}/ws/market")
        plain = replace(VENUE, audit=None, limits=Limits())
        aggregator = Aggregator(timed, {"polymarket": (plain, settings)})  # type: ignore[arg-type]
        await aggregator.start()
        legs = [
            Leg("polymarket", asset, MARKET, "e", f"a.{n:016x}.yes", False) for n, asset in enumerate(ASSETS)
        ]
        await aggregator.set_table(MappingTable(1, tuple(legs)))
        while not aggregator.health()["polymarket"]["open"]:
            await asyncio.sleep(0.01)
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        for name, rate, seconds, times in orders:
            timed.read.clear()
            timed.written.clear()
            sent, used = 0, time.process_time()
            for _ in range(times):
                source.stdin.write(f"{rate} {seconds}\n")
                source.stdin.flush()
                sent += int(await asyncio.to_thread(source.stdout.readline))
                await asyncio.sleep(0.4)
            used = time.process_time() - used
            line = f"{name:<28} read {quantiles(timed.read)}"
            if listener is not None and listener.stdout is not None:
                await bus.flush()
                bus.publish("bench.report", b"")
                found = orjson.loads(await asyncio.to_thread(listener.stdout.readline))
                lost = sent - found["frames"]
                through = f"p50 {found['p50']:6.0f} us  p99 {found['p99']:7.0f} us"
                line += f" | nats {quantiles(timed.written)} | through {through}"
            else:
                lost = sent - len(timed.read)
            print(
                f"{line} | {used / sent * 1e6:5.1f} us of processor a frame, {sent} sent, {lost} lost",
                flush=True,
            )
        await aggregator.stop()
    finally:
        for process in (source, listener):
            if process is not None:
                process.terminate()
                process.wait()
        await bus.close()


# --- headers or a prefix --------------------------------------------------------------------------


class Counted:
    """Reads what stands beside the bytes, in one of the two forms, until all have come."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.Event()

    def by_headers(self, message: Message) -> None:
        if read_meta("polymarket", message.headers) is not None:
            self._one()

    def by_prefix(self, message: Message) -> None:
        line, _, raw = message.payload.partition(b"\n")
        kind, rx_us, connection, n = line.decode().split(" ")
        if raw and Meta(cast("Kind", kind), "polymarket", connection, int(rx_us), int(n)):
            self._one()

    def _one(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


async def beside(url: str, count: int) -> None:
    """NATS headers, or one line before the venue's bytes: published and read in this process, the server
    between."""
    payload = frame(0, time.time_ns())
    rx_us, connection = 1_795_353_605_123_000, "polymarket-1.1795353600001"
    for name in ("headers", "prefix") * 3:
        sender, taker = await NatsBus.connect(url), await NatsBus.connect(url)
        counted = Counted(count)
        await taker.subscribe("market.>", counted.by_headers if name == "headers" else counted.by_prefix)
        used, started = time.process_time(), time.perf_counter()
        for n in range(count):
            meta = Meta("frame", "polymarket", connection, rx_us, n)
            if name == "headers":
                sender.publish("market.polymarket.x", payload, meta.headers())
            else:
                line = f"{meta.kind} {meta.rx_us} {meta.connection} {meta.n}\n".encode()
                sender.publish("market.polymarket.x", line + payload)
            if n % 50 == 0:
                await asyncio.sleep(0)
        await counted.done.wait()
        used, took = time.process_time() - used, time.perf_counter() - started
        each, rate = used / count * 1e6, count / took
        print(f"{name:<8} {each:5.1f} us of processor to publish and read one, {rate:7.0f}/s")
        await sender.close()
        await taker.close()


async def main(seconds: float) -> None:
    print(machine())
    orders = [
        ("1,000 frames/s", 1_000.0, seconds, 1),
        ("5,000 frames/s", 5_000.0, seconds, 1),
        ("20,000 frames/s for 100 ms", 20_000.0, 0.1, 5),
    ]
    print("in-process bus (NORMALIZE=inline)")
    await measure(None, orders)
    async with servers.embedded_nats() as url:
        print("NATS (NORMALIZE=off)")
        await measure(url, orders)
        print("headers or a prefix, over NATS")
        await beside(url, round(4_000 * seconds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--venue", action="store_true")
    parser.add_argument("--reader")
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    if chosen.venue:
        uvloop.run(venue())
    elif chosen.reader:
        uvloop.run(reader(chosen.reader))
    else:
        uvloop.run(main(chosen.seconds))
