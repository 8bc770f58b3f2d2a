"""Which question: how many frames does a gateway write per second and core, how late are they, what does a stopped
reader cost the others, and what does a client cost in memory? Beside it the two plain ways to serve the same stream.

`make bench-gateway`, or `python benches/gateway/bench.py [--quick]`. A real `wup gateway` reads a real orderbook stage
(`publisher.py`) over a real NATS server; the load client (`benches/load`, Rust) verifies every message. The gateway has
a core of its own, everything else shares the others. Latency is open loop: from the moment when a change was due, the
orderbook stage and the NATS hop included, to the read that brought it. "per core" is frames over processor seconds of
the server alone, from the system's accounting (10 ms steps), the tail of the window included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rig

sys.path.insert(0, str(rig.HERE.parent))

from machine import machine  # noqa: E402
from rig import BenchError, Child, Cores  # noqa: E402

from wup import servers  # noqa: E402

_BEFORE_S = 0.1
_AFTER_S = 0.5


@dataclass(slots=True)
class Load:
    """Changes per second in groups that are due at once, for some seconds, to the books of an aggregate."""

    rate: float
    burst: int = 1
    seconds: float = 2.0
    aggregate: str = "hot"


@dataclass(slots=True)
class Found:
    """One measured load."""

    load: Load
    readers: int
    raw: dict[str, Any]
    cpu_s: float

    @property
    def frames(self) -> int:
        return int(self.raw["frames"])

    @property
    def per_second(self) -> float:
        return self.frames / self.load.seconds

    @property
    def per_core(self) -> float:
        return self.frames / max(self.cpu_s, 0.01)

    @property
    def expected(self) -> int:
        return round(self.load.rate * self.load.seconds) // self.load.burst * self.load.burst * self.readers

    @property
    def whole(self) -> bool:
        """Everything came, nothing was conflated."""
        return self.frames == self.expected and not self.raw["notices"] and not self.raw["closes"]

    def wrong(self) -> dict[str, int]:
        """Counts that must be 0."""
        names = ("mismatches", "gaps", "unverified", "wrong_counts")
        return {name: self.raw[name] for name in names if self.raw[name]}


async def measure(server: Child, load_client: Child, publisher: Child, load: Load, readers: int) -> Found:
    """Publish a load and read it to its end."""
    window = load.seconds + _BEFORE_S + _AFTER_S
    load_client.say(f"measure {window}")
    before = rig.cpu_s(server.pid)
    await asyncio.sleep(_BEFORE_S)
    publisher.say(f"rate {load.rate} {load.seconds} {load.burst} {load.aggregate}")
    raw = await load_client.line(window + 30)
    spent = rig.cpu_s(server.pid) - before
    sent = await publisher.line(60)
    raw["latest_us"] = sent["latest_us"]
    found = Found(load, readers, raw, spent)
    if found.wrong():
        raise BenchError(f"not exact: {found.wrong()} in {raw}")
    return found


HEAD = (
    f"{'server':20} {'clients':>7} {'changes/s':>9} {'frames/s':>9} {'us/frame':>8} {'per core':>9} {'reads':>6}"
    f" {'p50 us':>8} {'p99 us':>8} {'p99.9 us':>8}"
)


def show(name: str, clients: int, found: Found, note: str = "") -> None:
    due = found.raw["due_us"]
    joined = found.frames / max(1, found.raw["reads"])
    if not found.whole:
        note = f"{note} {found.frames}/{found.expected} frames, {found.raw['notices']}".strip()
    print(
        f"{name:20} {clients:>7} {found.load.rate:>9,.0f} {found.per_second:>9,.0f}"
        f" {1e6 / found.per_core:>8.2f} {found.per_core:>9,.0f} {joined:>6.1f}"
        f" {due['p50']:>8,} {due['p99']:>8,} {due['p999']:>8,} {note}",
        flush=True,
    )


class Bench:
    """All scenarios against one NATS server."""

    def __init__(self, binary: Path, cores: Cores, nats: str, *, quick: bool) -> None:
        self.binary = binary
        self.cores = cores
        self.nats = nats
        self.quick = quick
        self.failures: list[str] = []

    def clients(self, port: int, count: int, **more: Any) -> Any:
        return rig.clients(self.binary, port, count, self.cores, **more)

    # --- fan-out of one book ----------------------------------------------------------------------

    async def fan_out(self, name: str, server: Child, publisher: Child, counts: list[int]) -> None:
        """50,000 frames/s to a growing number of readers of one book, one and eight changes at a time."""
        for count in counts:
            async with self.clients(server.hello["ws"], count) as load:
                for burst, frames in ((1, 50_000), (8, 200_000)):
                    rate = min(2_000 * burst, max(10 * burst, frames / count))
                    await self._fan_out(name, server, load, publisher, count, Load(rate, burst, self.seconds))

    async def _fan_out(
        self, name: str, server: Child, load: Child, publisher: Child, count: int, what: Load
    ) -> None:
        found = await measure(server, load, publisher, what, count)
        show(name, count, found, f"{what.burst} at once")
        if not found.whole:
            self.failures.append(f"{name}, {count} clients: {found.frames} of {found.expected} frames")

    @property
    def seconds(self) -> float:
        return 1.0 if self.quick else 3.0

    async def knee(self, name: str, server: Child, publisher: Child, count: int, burst: int, start: float) -> None:
        """Raise the rate by a quarter until the server falls behind; the last rate that it kept up with."""
        rate, best = start / count, None
        async with self.clients(server.hello["ws"], count) as load:
            for _ in range(12):
                found = await measure(server, load, publisher, Load(round(rate), burst, 1.0), count)
                if not found.whole or found.raw["due_us"]["p99"] > 100_000:
                    break
                best = found
                rate *= 1.25
        if best is None:
            print(f"{name:20} {count:>7}  does not keep up with {start:,.0f} frames/s", flush=True)
        else:
            share = 100 * best.cpu_s / best.load.seconds
            show(name, count, best, f"{burst} at once: its knee, at {share:.0f} % of a core")

    # --- many books, some readers of each ---------------------------------------------------------

    async def mix(self, server: Child, publisher: Child) -> None:
        """1,000 clients with 125 of 5,000 books each, 2,000 changes/s, each read by 25: 50,000 frames/s. Then a
        tenth of them reads no more."""
        count = 100 if self.quick else 1_000
        load_of = Load(2_000, 1, 1.0 if self.quick else 5.0, "*")
        readers = count // 40
        async with self.clients(
            server.hello["ws"], count, pattern="agg-{}.>", groups=40, receive_buffer=4_096
        ) as load:
            print(f"{'':20} {count} clients with {load.hello['snapshots'] // count} books each: all snapshots in "
                  f"{load.hello['took_s']} s, {load.hello['bytes'] / 1e6:.0f} MB", flush=True)
            if not self.quick:
                await measure(server, load, publisher, Load(2_000, 1, 1.0, "*"), readers)
            base = await measure(server, load, publisher, load_of, readers)
            show("wup", count, base, f"each change to {readers}")
            stopped = count // 10
            before, kernel = rig.resident(server.pid), rig.tcp_bytes()
            await load.ask(f"stop {stopped}", 5)
            found = await measure(server, load, publisher, load_of, readers)
            show("wup", count, found, f"{stopped} of them stopped")
            again = await measure(server, load, publisher, load_of, readers)
            show("wup", count, again, f"{stopped} of them stopped, later")
            grown = (rig.resident(server.pid) - before) / stopped / 1024
            held = (rig.tcp_bytes() - kernel) / stopped / 1024
            print(f"{'':20} per stopped client: {grown:.0f} KiB in the gateway, {held:.0f} KiB in the kernel, "
                  f"closed {again.raw['closes']}", flush=True)
            for after in (found, again):
                ratio = after.raw["due_us"]["p99"] / max(1, base.raw["due_us"]["p99"])
                print(f"{'':20} p99 of the others: x {ratio:.2f}", flush=True)

    # --- memory -----------------------------------------------------------------------------------

    async def idle(self, server: Child, count: int) -> None:
        """What a client costs that has subscribed to one quiet book."""
        before, kernel = rig.resident(server.pid), rig.tcp_bytes()
        async with self.clients(server.hello["ws"], count, pattern="agg-{}.0000000000000000.yes") as load:
            await asyncio.sleep(1.5)
            own = (rig.resident(server.pid) - before) / count
            held = (rig.tcp_bytes() - kernel) / count
            start = rig.cpu_s(server.pid)
            await asyncio.sleep(2)
            share = 100 * (rig.cpu_s(server.pid) - start) / 2
        print(
            f"idle client ({count}): {own / 1024:.1f} KiB in the gateway, {held / 1024:.1f} KiB in the kernel's "
            f"buffers (both ends); all of them together {share:.1f} % of a core; opened in {load.hello['took_s']} s",
            flush=True,
        )

    async def everything(self, server: Child, books: int, name: str) -> None:
        """All books to one subscriber."""
        async with self.clients(server.hello["ws"], 1, pattern=">") as load:
            hello = load.hello
            print(
                f"{name}: {hello['snapshots']} books to one subscriber: {hello['bytes'] / 1e6:.1f} MB in "
                f"{hello['took_s']} s, notices {hello['slow']}, mismatches {hello['mismatches']}",
                flush=True,
            )
            if hello["slow"] or hello["mismatches"] or hello["snapshots"] != books:
                self.failures.append(f"{books} books to one subscriber: {hello}")

    # --- the whole --------------------------------------------------------------------------------

    async def run(self) -> None:
        counts = [1, 20] if self.quick else [1, 100, 1_000, 5_000]
        books = 25 if self.quick else 125
        print(HEAD)
        async with rig.publisher(self.nats, self.cores, 40, books, 5) as publisher:
            http = publisher.hello["http"]
            for loop in ("asyncio",) if self.quick else ("asyncio", "uvloop"):
                async with rig.gateway(self.nats, http, self.cores, loop) as server:
                    name = "wup" if loop == "asyncio" else "wup on uvloop"
                    await settled(server)
                    await self.fan_out(name, server, publisher, counts if loop == "asyncio" else [1, 100, 1_000])
                    if not self.quick:
                        await self.knee(name, server, publisher, 100, 1, 100_000)
                        await self.knee(name, server, publisher, 100, 8, 400_000)
                    if loop == "asyncio":
                        await self.mix(server, publisher)
            for kind in ("send_text", "broadcast"):
                async with rig.peer(kind, self.nats, http, self.cores) as server:
                    name = "FastAPI send_text" if kind == "send_text" else "websockets.broadcast"
                    await self.fan_out(name, server, publisher, [20] if self.quick else [1, 100, 1_000])
                    if not self.quick:
                        await self.knee(name, server, publisher, 100, 1, 20_000)
            async with rig.gateway(self.nats, http, self.cores, "asyncio") as server:
                await settled(server)
                await self.idle(server, 50 if self.quick else 1_000)
                if not self.quick:
                    await self.idle(server, 5_000)
        levels, books = (20, 25) if self.quick else (39, 125)
        async with (
            rig.publisher(self.nats, self.cores, 40, books, levels) as publisher,
            rig.gateway(self.nats, publisher.hello["http"], self.cores, "asyncio") as server,
        ):
            await settled(server)
            await self.everything(server, 40 * books + 1, f"{2 * levels} levels")


async def settled(server: Child) -> None:
    """Until the gateway says that it has all books."""
    import httpx2

    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as client:
        while (await client.get(f"http://127.0.0.1:{server.hello['ws']}/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


def build(target: str) -> Path:
    """Compile the load client."""
    manifest = rig.HERE.parent / "load" / "Cargo.toml"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", target],
        check=True,
    )
    return Path(target) / "release" / "wup-load"


async def main(arguments: argparse.Namespace) -> int:
    files = rig.raise_files()
    binary = build(arguments.target_dir)
    cores = Cores.split(not arguments.no_pin)
    print(machine())
    limits = " ".join(f"{name}={value}" for name, value in rig.LIMITS.items())
    print(f"limits set: {limits}, {files} open files; server on cores {sorted(cores.server)}, "
          f"all others on {sorted(cores.others)}")
    async with servers.embedded_nats() as nats:
        bench = Bench(binary, cores, nats, quick=arguments.quick)
        await bench.run()
    print(f"load at the end: {os.getloadavg()[0]:.1f}")
    for failure in bench.failures:
        print(f"FAILED: {failure}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="seconds, few clients: for CI")
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of cores to the system")
    parser.add_argument("--target-dir", default="target")
    sys.exit(asyncio.run(main(parser.parse_args())))
