"""Which question: how long does a snapshot over HTTP take beside the stream, what does asking cost the
stream, and how long do all books take?

The service (a process of its own) takes one-level updates from NATS at a steady rate, and its consolidated
changes are timed; then the same while two kept-alive connections ask for single books, then without again,
and at the end while a reader takes all books again and again.
Both are open loops: a message or request counts from the moment it was due, so a stall counts for all that
it delays. `python benches/orderbook_http.py [--seconds 5] [--rate 2000] [--asks 500]`; with wrk on the PATH
also its figure for two connections as fast as they can (wrk has no fixed rate).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import orjson
import uvloop

import orderbook as stream
from machine import machine
from wup import servers
from wup.bus import NatsBus
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.orderbook import OrderbookHttp, OrderbookService

BOOKS = 5_000
CONNECTIONS = 2


def table() -> MappingTable:
    """Books of two legs; 50 levels a side, the same prices on both: 100 levels a book."""
    books = {f"agg-{i}.{i:016x}.yes": f"agg-{i}" for i in range(BOOKS)}
    infos = {book: BookInfo(book, name, "bench", "bench") for book, name in books.items()}
    legs = [
        Leg(platform, f"{platform}-{name}", f"{platform}-{name}", "e", book, False)
        for book, name in books.items()
        for platform in ("kalshi", "polymarket")
    ]
    return MappingTable(1, tuple(legs), infos)


async def serve(url: str) -> None:
    bus = await NatsBus.connect(url, name="bench-orderbook")
    service = OrderbookService(bus, epoch_ms=1)
    await service.start()
    await service.set_table(table())
    http = OrderbookHttp(service, "127.0.0.1", 0)
    await http.start()
    print(http.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await http.stop()
    await service.stop()
    await bus.close()


class Asker(asyncio.Protocol):
    """One connection: asks when due, one request at a time; times from when it was due."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.delays: list[float] = []
        self.took: list[float] = []
        self.wrong = 0
        self._due: list[float] = []
        self._sent = 0.0
        self._asking = 0.0
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, due: float) -> None:
        self._due.append(due)
        if len(self._due) == 1:
            self._send()

    def _send(self) -> None:
        i = self._rng.randrange(BOOKS)
        self._sent = time.perf_counter()
        self._transport.write(
            f"GET /v1/books/agg-{i}.{i:016x}.yes HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        now = time.perf_counter()
        self._buffer = b""
        self.wrong += not head.startswith(b"HTTP/1.1 200") or body.count(b"],[") < 90
        self.took.append((now - self._sent) * 1e6)
        self.delays.append((now - self._due.pop(0)) * 1e6)
        if self._due:
            self._send()


async def ask(port: int, rate: int, seconds: float) -> None:
    """A process of its own: `rate` requests a second over two connections."""
    loop = asyncio.get_running_loop()
    askers = []
    for seed in range(CONNECTIONS):
        _, asker = await loop.create_connection(lambda seed=seed: Asker(seed), "127.0.0.1", port)
        askers.append(asker)
    total, start = round(rate * seconds), time.perf_counter() + 0.1
    for index in range(total):
        due = start + index / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        askers[index % CONNECTIONS].ask(due)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while sum(len(asker.delays) for asker in askers) < total:
                await asyncio.sleep(0.01)
    delays = sorted(delay for asker in askers for delay in asker.delays)
    took = sorted(each for asker in askers for each in asker.took)
    pick = lambda q, of: of[min(len(of) - 1, int(q * len(of)))]  # noqa: E731
    found = {
        "p50": pick(0.5, delays),
        "p99": pick(0.99, delays),
        "max": delays[-1],
        "took_p50": pick(0.5, took),
        "took_p99": pick(0.99, took),
        "answered": len(delays),
        "asked": total,
        "wrong": sum(asker.wrong for asker in askers),
    }
    print(orjson.dumps(found).decode(), flush=True)


def processor_s(pid: int) -> float:
    """Processor time that a process has used: what it needs, whoever else is on the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def fetch(port: int, seconds: float) -> None:
    """A process of its own: all books, again and again."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        await all_books(port)
        count += 1
    print(count, flush=True)


async def all_books(port: int) -> tuple[float, int, int]:
    """Seconds, books and bytes of `/v1/snapshots`."""
    began = time.perf_counter()
    lines = size = 0
    async with (
        httpx2.AsyncClient(timeout=30) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/v1/snapshots") as answer,
    ):
        async for chunk in answer.aiter_bytes():
            lines += chunk.count(b"\n")
            size += len(chunk)
    return time.perf_counter() - began, lines, size


def child(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # wrk asks from one address as fast as it can.
        env={**os.environ, "HTTP_RATE": "1000000", "HTTP_BURST": "1000000"},
    )


async def main(rate: int, asks: int, seconds: float) -> None:
    print(machine())
    print(f"{BOOKS} books of two legs, {2 * stream.LEVELS} levels each; {rate} updates/s over NATS")
    in_thread = asyncio.get_running_loop().run_in_executor
    async with servers.embedded_nats() as url, contextlib.AsyncExitStack() as stack:
        with child("--serve", url) as service:
            assert service.stdout is not None
            assert service.stdin is not None
            port = int(await in_thread(None, service.stdout.readline))
            bus = await NatsBus.connect(url, name="bench-load")
            load = stream.Load(table().legs)
            await stack.enter_async_context(load.marking(bus))
            for start in range(0, len(load.legs), 500):
                for leg in load.legs[start : start + 500]:
                    bus.publish(*load.message(leg, True))
                await bus.flush()
            await asyncio.sleep(2)
            alone: list[float] = []
            beside: list[float] = []
            used: dict[bool, list[float]] = {False: [], True: []}
            for asking in (False, True, False, True, False):
                asker = child("--ask", f"{port},{asks},{seconds}") if asking else None
                await asyncio.sleep(0.5)
                before = processor_s(service.pid)
                found = await stream.drive(bus, rate, seconds, load)
                used[asking].append(processor_s(service.pid) - before)
                stream.row("with HTTP" if asking else "alone", rate, found)
                (beside if asking else alone).append(found["p99"])
                if asker is not None:
                    with asker:
                        assert asker.stdout is not None
                        said = orjson.loads(await in_thread(None, asker.stdout.readline))
                    print(
                        f"  HTTP {asks}/s on {CONNECTIONS} connections: p50 {said['p50']:.0f} us, p99 "
                        f"{said['p99']:.0f} us, max {said['max']:.0f} us from when it was due; p50 "
                        f"{said['took_p50']:.0f} us, p99 {said['took_p99']:.0f} us from when it was sent; "
                        f"{said['answered']} of {said['asked']} answered, {said['wrong']} wrong",
                        flush=True,
                    )
            ratio = (sum(beside) / len(beside)) / (sum(alone) / len(alone))
            print(f"the stream's p99 beside HTTP is {ratio:.2f} times that without")
            quiet, busy = (sum(each) / len(each) / seconds for each in (used[False], used[True]))
            print(
                f"processor time of the service: {quiet / rate * 1e6:.0f} us an update, "
                f"{(busy - quiet) / asks * 1e6:.0f} us a request"
            )
            took, lines, size = await all_books(port)
            print(f"/v1/snapshots: {lines} books, {size / 1e6:.1f} MB in {took:.2f} s")
            with child("--fetch", f"{port},{seconds}") as fetcher:
                assert fetcher.stdout is not None
                stream.row("with all", rate, await stream.drive(bus, rate, seconds, load))
                print(
                    f"  /v1/snapshots {int(await in_thread(None, fetcher.stdout.readline))} times meanwhile"
                )
            if shutil.which("wrk"):
                address = f"http://127.0.0.1:{port}/v1/books/agg-7.{7:016x}.yes"
                command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d3s", "--latency", address]
                print((await in_thread(None, subprocess.check_output, command)).decode())
            await stack.aclose()
            await bus.close()
            service.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--asks", type=int, default=500)
    parser.add_argument("--serve")
    parser.add_argument("--ask")
    parser.add_argument("--fetch")
    chosen = parser.parse_args()
    if chosen.serve:
        uvloop.run(serve(chosen.serve))
    elif chosen.ask:
        where, often, long = chosen.ask.split(",")
        uvloop.run(ask(int(where), int(often), float(long)))
    elif chosen.fetch:
        where, long = chosen.fetch.split(",")
        uvloop.run(fetch(int(where), float(long)))
    else:
        uvloop.run(main(chosen.rate, chosen.asks, chosen.seconds))
