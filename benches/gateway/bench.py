"""Which question: how many frames does a gateway write per second and core, how late are they, what does a
stopped reader cost the others, and what does a client cost in memory? Beside it the two plain ways to
serve the same stream.

`make bench-gateway`, or `python benches/gateway/bench.py [--quick] [--only mix]`. A real `wup gateway`
reads a real orderbook stage (`publisher.py`) over a real NATS server; the load client (`benches/load`, Rust)
verifies every message, when the window in which it came is over. The gateway has a core of its own, all else
shares the others. Latency is open loop: from the moment when a change was due, the orderbook stage and the
NATS hop included, to the moment when the kernel had its bytes for the client.
"published" is from the orderbook stage's stamp in it instead. "per core" is frames over processor seconds of
the server alone, the tail of the window included.

At the end the answers stand as Markdown tables, for `benches/README.md`.

A message that is not exact ends the bench with an error; so does, in the long form, a frame that did not
come. --quick judges no time and no completeness: a machine that is too slow conflates, as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import rig

sys.path.insert(0, str(rig.HERE.parent))

from rig import Child, Cores
from window import HEAD, Found, Load, measure, median, say, show, spread

from machine import machine, wakes

_LIMIT_S = 320.0


class Answers:
    """What the bench found out, as the tables of `benches/README.md`."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str]] = []
        self._servers: dict[int, dict[str, str]] = {}

    def add(self, question: str, target: str, measured: str) -> None:
        self._rows.append((question, target, measured))

    def fan_out(self, name: str, clients: int, found: Found) -> None:
        """One server with so many clients."""
        burst, core = found.load.burst, f"{found.per_core:,.0f}"
        if not found.whole:
            core += f", {100 * found.frames / found.expected:.0f} % came"
        if name == "wup":
            much = "each change by itself" if burst == 1 else f"{burst} changes at a time"
            target = "150,000" if burst == 1 else "800,000"
            held = f"{core} ({found.per_write:.1f} in a write)"
            self.add(f"frames a second and core, {much}, {clients:,} clients", target, held)
        if burst == 1:
            due = found.raw["due_us"]
            self._servers.setdefault(clients, {})[name] = f"{core}; p99 {due['p99'] / 1000:,.1f} ms"

    def show(self) -> None:
        print("\n| question | target | measured |\n|---|---|---|")
        for row in self._rows:
            print(f"| {' | '.join(row)} |")
        names = list(dict.fromkeys(name for row in self._servers.values() for name in row))
        print(f"\n| clients | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for clients, row in self._servers.items():
            print(f"| {clients:,} | {' | '.join(row.get(name, '-') for name in names)} |")
        print()


class Bench:
    """All scenarios against one NATS server."""

    def __init__(self, binary: Path, cores: Cores, nats: str, *, quick: bool) -> None:
        self.binary = binary
        self.cores = cores
        self.nats = nats
        self.quick = quick
        self.failures: list[str] = []
        self.answers = Answers()

    def clients(self, port: int, count: int, **more: Any) -> Any:
        return rig.clients(self.binary, port, count, self.cores, **more)

    # --- fan-out of one book ----------------------------------------------------------------------

    async def fan_out(self, name: str, server: Child, publisher: Child, counts: list[int]) -> None:
        """50,000 frames/s to a growing number of readers of one book, one and eight changes at a time."""
        for count in counts:
            async with self.clients(server.hello["ws"], count) as load:
                for burst, frames in (
                    ((1, 50_000), (8, 200_000)) if name.startswith("wup") else ((1, 50_000),)
                ):
                    rate = min(2_000 * burst, max(10 * burst, frames / count))
                    await self._fan_out(name, server, load, publisher, count, Load(rate, burst, self.seconds))

    async def _fan_out(
        self, name: str, server: Child, load: Child, publisher: Child, count: int, what: Load
    ) -> None:
        found = await measure(server, load, publisher, what, count)
        show(name, count, found, f"{what.burst} at once")
        self.answers.fan_out(name, count, found)
        if name.startswith("wup") and not self.quick and not found.whole:
            self.failures.append(f"{name}, {count} clients: {found.frames} of {found.expected} frames")

    @property
    def seconds(self) -> float:
        return 0.5 if self.quick else 3.0

    async def knee(
        self, name: str, server: Child, publisher: Child, count: int, burst: int, start: float
    ) -> None:
        """Raise the rate by 30 % until the server falls behind; the last rate that it kept up with."""
        rate, best = start / count, None
        async with self.clients(server.hello["ws"], count) as load:
            for _ in range(8):
                found = await measure(server, load, publisher, Load(round(rate), burst, 1.0), count)
                if not found.whole or found.raw["due_us"]["p99"] > 100_000:
                    break
                best = found
                rate *= 1.3
        if best is None:
            print(f"{name:20} {count:>7}  does not keep up with {start:,.0f} frames/s", flush=True)
        else:
            share = 100 * best.cpu_s / best.load.seconds
            most = f"{best.per_second:,.0f}, at {share:.0f} % of a core"
            self.answers.add(
                f"{name}: the most frames a second, {burst} at a time, {count} clients", "", most
            )
            show(name, count, best, f"{burst} at once: its knee, at {share:.0f} % of a core")

    # --- many books, some readers of each ---------------------------------------------------------

    async def mix(self, server: Child, publisher: Child) -> None:
        """1,000 clients with 125 of 5,000 books each; 2,000 changes/s, each read by 25: 50,000 frames/s.

        Then a tenth of them reads no more: measured at once, and when they have been closed. Each time some
        windows, whose median counts.
        """
        count = 80 if self.quick else 1_000
        load_of = Load(2_000, 1, 1.0 if self.quick else 5.0, "*")
        readers = count / 40
        async with self.clients(
            server.hello["ws"], count, pattern="agg-{}.>", groups=40, receive_buffer=4_096
        ) as load:
            hello = load.hello
            books, size = hello["snapshots"] // count, hello["bytes"] / 1e6
            say(f"{count} clients with {books} books each: all there in {hello['took_s']} s, {size:.0f} MB")
            if not self.quick:
                await measure(server, load, publisher, Load(2_000, 1, 1.0, "*"), readers)
            windows = await self._windows(server, load, publisher, load_of, readers, 5, f"to {readers:.0f}")
            self.answers.add(
                f"{count:,} clients, {40 * books:,} books, 2,000 changes/s each to {readers:.0f}",
                "p99 < 1 ms",
                "published " + spread(windows, "published_us") + "; due " + spread(windows, "due_us"),
            )
            stopped = count // 10
            before, kernel = rig.resident(server.pid), rig.tcp_bytes()
            await load.ask(f"stop {stopped}", 5)
            others = (count - stopped) / 40
            note = f"{stopped} of them stopped"
            found = await self._windows(server, load, publisher, load_of, others, 1, note)
            # Now: they are closed before long.
            grown = (rig.resident(server.pid) - before) / stopped / 1024
            held = (rig.tcp_bytes() - kernel) / stopped / 1024
            found += await self._windows(server, load, publisher, load_of, others, 2, note)
            note = f"{stopped} stopped long ago"
            again = await self._windows(server, load, publisher, load_of, others, 3, note)
            say(f"per stopped client: {grown:.0f} KiB in the gateway, {held:.0f} KiB in the kernel")
            every = (*windows, *found, *again)
            lost = [(one.frames, one.expected) for one in every if one.frames != one.expected]
            if lost and not self.quick:
                self.failures.append(f"mix, frames of those who read: {lost}")
            first = max(1.0, median(windows, "published_us", "p99"))
            ratios = [median(many, "published_us", "p99") / first for many in (found, again)]
            say(f"p99 of the others: x {ratios[0]:.2f}, x {ratios[1]:.2f}")
            self.answers.add(
                "the same, a tenth stopped, just now and long ago: p99 of the others",
                "x 1.2",
                f"x {ratios[0]:.2f}, x {ratios[1]:.2f}",
            )
            self.answers.add(
                "a stopped client", "", f"{grown:.0f} KiB in the gateway, {held:.0f} KiB in the kernel"
            )

    async def _windows(
        self,
        server: Child,
        load: Child,
        publisher: Child,
        what: Load,
        readers: float,
        count: int,
        note: str,
    ) -> list[Found]:
        """Measure so many times the same."""
        found = []
        for _ in range(1 if self.quick else count):
            found.append(await measure(server, load, publisher, what, readers))
            show("wup", load.hello["clients"], found[-1], note)
        return found

    # --- memory -----------------------------------------------------------------------------------

    async def idle(self, server: Child, count: int) -> None:
        """What a client costs that has subscribed to one quiet book."""
        before, kernel = rig.resident(server.pid), rig.tcp_bytes()
        async with self.clients(server.hello["ws"], count, pattern="agg-{}.0000000000000000.yes") as load:
            await asyncio.sleep(1.5)
            own = (rig.resident(server.pid) - before) / count / 1024
            held = (rig.tcp_bytes() - kernel) / count / 1024
            start = rig.cpu_s(server.pid)
            await asyncio.sleep(2)
            share = 100 * (rig.cpu_s(server.pid) - start) / 2
        say(f"{count} idle clients, each: {own:.1f} KiB in the gateway, {held:.1f} KiB in the kernel")
        say(f"all of them together: {share:.1f} % of a core; opened in {load.hello['took_s']} s")
        self.answers.add(
            f"an idle client, of {count:,}", "32 KiB", f"{own:.1f} KiB; all of them {share:.1f} % of a core"
        )

    async def everything(self, server: Child, books: int, name: str) -> None:
        """All books to one subscriber."""
        async with self.clients(server.hello["ws"], 1, pattern=">") as load:
            hello = load.hello
            size = hello["bytes"] / 1e6
            say(f"{hello['snapshots']} books of {name} to one subscriber: {size:.1f} MB, {hello['took_s']} s")
            slow = "called slow" if hello["slow"] else "no notice"
            told = f"{size:.0f} MB in {hello['took_s']} s, {slow}"
            self.answers.add(
                f"{hello['snapshots']:,} books of {name} to one subscriber", "not called slow", told
            )
            if hello["slow"] or hello["mismatches"] or hello["snapshots"] != books:
                self.failures.append(f"{books} books to one subscriber: {hello}")

    # --- the whole --------------------------------------------------------------------------------

    async def run(self, only: str | None = None) -> None:
        if only == "mix":
            print(HEAD)
            async with (
                rig.publisher(self.nats, self.cores, 40, 25 if self.quick else 125, 5) as publisher,
                rig.gateway(self.nats, publisher.hello["http"], self.cores, "uvloop") as server,
            ):
                await rig.settled(server)
                await self.mix(server, publisher)
            return
        counts = [20] if self.quick else [1, 100, 1_000, 5_000]
        books = 25 if self.quick else 125
        print(HEAD)
        async with rig.publisher(self.nats, self.cores, 40, books, 5) as publisher:
            http = publisher.hello["http"]
            for loop in ("uvloop",) if self.quick else ("uvloop", "asyncio"):
                async with rig.gateway(self.nats, http, self.cores, loop) as server:
                    name = "wup" if loop == "uvloop" else "wup on asyncio"
                    await rig.settled(server)
                    await self.fan_out(name, server, publisher, counts if loop == "uvloop" else [100, 1_000])
                    if not self.quick and loop == "uvloop":
                        await self.knee(name, server, publisher, 100, 1, 100_000)
                        await self.knee(name, server, publisher, 100, 8, 400_000)
                    if loop == "uvloop":
                        await self.mix(server, publisher)
            for kind in ("send_text", "broadcast"):
                async with rig.peer(kind, self.nats, http, self.cores) as server:
                    name = "FastAPI send_text" if kind == "send_text" else "websockets.broadcast"
                    await self.fan_out(name, server, publisher, [20] if self.quick else counts)
                    if not self.quick:
                        await self.knee(name, server, publisher, 100, 1, 20_000)
            async with rig.gateway(self.nats, http, self.cores, "uvloop") as server:
                await rig.settled(server)
                await self.idle(server, 50 if self.quick else 1_000)
                if not self.quick:
                    await self.idle(server, 5_000)
        levels, books = (20, 25) if self.quick else (39, 125)
        async with (
            rig.publisher(self.nats, self.cores, 40, books, levels, hot=False) as publisher,
            rig.gateway(self.nats, publisher.hello["http"], self.cores, "uvloop") as server,
        ):
            await rig.settled(server)
            await self.everything(server, 40 * books, f"{2 * levels} levels")


def build(target: str) -> Path:
    """Compile the load client."""
    manifest = rig.HERE.parent / "load" / "Cargo.toml"
    subprocess.run(
        [
            "cargo",
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--manifest-path",
            str(manifest),
            "--target-dir",
            target,
        ],
        check=True,
    )
    return Path(target) / "release" / "wup-load"


async def main(arguments: argparse.Namespace) -> int:
    files = rig.raise_files()
    binary = build(arguments.target_dir)
    cores = Cores.split(not arguments.no_pin)
    print(machine())
    limits = " ".join(f"{name}={value}" for name, value in rig.LIMITS.items())
    print(
        f"limits set: {limits}, {files} open files; server on cores {sorted(cores.server)}, "
        f"all others on {sorted(cores.others)}"
    )
    if not arguments.quick:
        print(wakes())
    async with rig.nats(cores) as nats:
        bench = Bench(binary, cores, nats, quick=arguments.quick)
        async with asyncio.timeout(_LIMIT_S):
            await bench.run(arguments.only)
    bench.answers.show()
    print(f"load at the end: {os.getloadavg()[0]:.1f}")
    if not arguments.quick:
        print(wakes())
    for failure in bench.failures:
        print(f"FAILED: {failure}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="seconds, few clients: for CI")
    parser.add_argument("--only", choices=["mix"], help="1,000 clients with some books each, nothing else")
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of cores to the system")
    parser.add_argument("--target-dir", default="target/load", help="not the package's: features differ")
    sys.exit(asyncio.run(main(parser.parse_args())))
