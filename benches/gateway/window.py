"""One measured window of the gateway bench: a load that is published, read to its end, and what was found."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import rig
from rig import BenchError, Child


@dataclass(slots=True)
class Load:
    """Changes per second in groups that are due at once, for some seconds, to the books of an aggregate."""

    rate: float
    burst: int = 1
    seconds: float = 2.0
    aggregate: str = "hot"

    @property
    def changes(self) -> int:
        """How many in all."""
        return max(1, round(self.rate * self.seconds / self.burst)) * self.burst


@dataclass(slots=True)
class Found:
    """One measured load."""

    load: Load
    readers: float
    raw: dict[str, Any]
    cpu_s: float
    writes: float

    @property
    def frames(self) -> int:
        return int(self.raw["frames"])

    @property
    def per_second(self) -> float:
        return self.frames / self.load.seconds

    @property
    def per_core(self) -> float:
        return max(1, self.frames) / max(self.cpu_s, 0.01)

    @property
    def expected(self) -> int:
        """Of all readers together, when nothing is conflated."""
        return round(self.load.changes * self.readers)

    @property
    def per_write(self) -> float:
        """Frames in one write, as the gateway counts; for other servers, in one read of the client."""
        return self.frames / max(1.0, self.writes or self.raw["reads"])

    @property
    def whole(self) -> bool:
        """Everything came, nothing was conflated."""
        return self.frames == self.expected and not self.raw["notices"] and not self.raw["closes"]

    def wrong(self) -> dict[str, int]:
        """Counts that must be 0."""
        names = ("mismatches", "gaps", "unverified", "wrong_counts")
        return {name: self.raw[name] for name in names if self.raw[name]}


async def measure(server: Child, load_client: Child, publisher: Child, load: Load, readers: float) -> Found:
    """Publish a load and read it to its end."""
    _, writes = await rig.written(server)
    await load_client.ask("begin", 10)
    before = rig.cpu_s(server.pid)
    sent = await publisher.ask(f"rate {load.rate} {load.seconds} {load.burst} {load.aggregate}", 60)
    raw = await load_client.ask(f"end {round(load.changes * readers)}", 30)
    spent = rig.cpu_s(server.pid) - before
    raw["latest_us"] = sent["latest_us"]
    found = Found(load, readers, raw, spent, (await rig.written(server))[1] - writes)
    if found.wrong() or not found.raw["verified"]:
        raise BenchError(f"not exact: {found.wrong()} in {raw}")
    return found


HEAD = (
    f"{'server':20} {'clients':>7} {'changes/s':>9} {'frames/s':>9} {'us/frame':>8} {'per core':>9}"
    f" {'/write':>6} {'p50 us':>8} {'p99 us':>8} {'p99.9 us':>8}"
)


def show(name: str, clients: int, found: Found, note: str = "") -> None:
    due = found.raw["due_us"]
    if not found.whole:
        note = f"{note} {found.frames}/{found.expected} frames, {found.raw['notices']}".strip()
    print(
        f"{name:20} {clients:>7} {found.load.rate:>9,.0f} {found.per_second:>9,.0f}"
        f" {1e6 / found.per_core:>8.2f} {found.per_core:>9,.0f} {found.per_write:>6.1f}"
        f" {due['p50']:>8,} {due['p99']:>8,} {due['p999']:>8,} {note}",
        flush=True,
    )


def say(text: str) -> None:
    print(f"{'':20} {text}", flush=True)


def median(windows: list[Found], name: str, k: str) -> float:
    """Of one quantile of the windows."""
    return statistics.median(float(window.raw[name][k]) for window in windows)


def spread(windows: list[Found], name: str) -> str:
    """The median of the windows, and from the best to the worst."""
    told = []
    for k in ("p50", "p99", "p999"):
        values = [window.raw[name][k] / 1000 for window in windows]
        told.append(f"{k} {statistics.median(values):.2f} ms ({min(values):.2f} to {max(values):.2f})")
    return ", ".join(told)
