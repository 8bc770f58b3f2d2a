"""The demo's verifying client, a process of its own: every digest, every heartbeat count, and the truth.

Run as `python -m wup.demo.verify`, one JSON object of settings on the command line; prints a line when the
first live book is seen and the summary's figures at the end (SIGTERM).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from wup import logs
from wup._core import Histogram, MirrorBook
from wup.cli import running
from wup.demo.truth import Candidate, Collector, merged, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAMPLE_S = 0.005
_BATCH = 50
_COUNTED = frozenset(("snapshot", "delta", "status", "trade"))


class Verifier:
    """Counts and judges what one WebSocket connection receives.

    Args:
        pairs: the simulators' unified markets: which asset belongs to which, and which is inverted.
        control_url: where the simulators serve their true books.
    """

    def __init__(self, pairs: list[dict[str, Any]], control_url: str) -> None:
        self._truth_url = f"{control_url}/truth"
        self._inverted = {
            (leg["platform"], leg["asset_id"]): bool(leg["inverted"])
            for pair in pairs
            for leg in pair["legs"]
        }
        self.mirrors: dict[str, MirrorBook] = {}
        self._collector = Collector()
        self._latency = Histogram()
        self._sampled = 0.0
        self.count = 0
        self.deltas = 0
        self.mismatches = 0
        self.gaps = 0
        self.heartbeats_wrong = 0
        self.compared = 0
        self.different = 0
        self.first_difference: dict[str, Any] | None = None
        self.several_legs = 0
        self._began = time.monotonic()
        self._first_live = False

    def receive(self, raw: bytes) -> list[str]:
        """Judge one message; books that need a `resync`."""
        now_us = time.time_ns() // 1000
        message = orjson.loads(raw)
        kind = message.get("type")
        if kind == "heartbeat":
            self.heartbeats_wrong += message["count"] != self.count
            return []
        if kind not in _COUNTED:
            return []
        self.count += 1
        if kind == "trade":
            return []
        book = message["book"]
        mirror = self.mirrors.get(book)
        if mirror is None:
            mirror = self.mirrors[book] = MirrorBook()
        self._collector.before(message, self._sample(mirror))
        verdict = mirror.apply(raw)
        if kind == "delta":
            self.deltas += 1
            received = message["ts"].get("recv")
            if received is not None:
                self._latency.observe(max(0, now_us - received))
        if not self._first_live and mirror.exact and mirror.state in ("live", "degraded"):
            self._first_live = True
            running.say({"type": "first_book", "book": book, "ts": now_us})
        if verdict == "broken":
            self.mismatches += 1
        if verdict == "gap":
            self.gaps += 1
        return [book] if verdict in ("broken", "gap") else []

    def _sample(self, mirror: MirrorBook) -> bytes | None:
        """The book now, if it is time for a sample."""
        now = time.monotonic()
        if now - self._sampled < _SAMPLE_S or not mirror.exact:
            return None
        self._sampled = now
        return mirror.snapshot()

    async def judge(self) -> None:
        """Compare what can be compared, for ever."""
        async with httpx2.AsyncClient(timeout=10) as http:
            while True:
                await asyncio.sleep(0.2)
                await self.judge_ready(http)

    async def judge_ready(self, http: httpx2.AsyncClient) -> None:
        """Compare all candidates that are ready."""
        ready = self._collector.ready
        while ready:
            batch = [ready.popleft() for _ in range(min(_BATCH, len(ready)))]
            queries: list[tuple[str, str, int]] = [
                (*candidate.legs[leg], at) for candidate in batch for leg, at in candidate.times.items()
            ]
            answer = await http.post(self._truth_url, json={"queries": queries})
            answer.raise_for_status()
            true_books = iter(orjson.loads(answer.content))
            for candidate in batch:
                self._compare(candidate, {leg: next(true_books) for leg in candidate.times})

    def _compare(self, candidate: Candidate, true_books: Mapping[str, Any]) -> None:
        if None in true_books.values():
            # Older than the simulator's memory: nothing to compare with.
            return
        legs = {
            leg: (self._inverted[candidate.legs[leg]], true_book) for leg, true_book in true_books.items()
        }
        self.compared += 1
        true, ours = merged(legs), shown(candidate.snapshot)
        self.several_legs = max(self.several_legs, sum(len(parts) > 1 for parts in ours.values()))
        if true != ours:
            self.different += 1
            if self.first_difference is None:
                wrong = [key for key in true.keys() | ours.keys() if true.get(key) != ours.get(key)]
                self.first_difference = {
                    "book": candidate.book,
                    "times": candidate.times,
                    "cells": [[*key, true.get(key), ours.get(key)] for key in sorted(wrong)[:5]],
                }

    def _quantile(self, q: float) -> int | None:
        """Venue socket read to received here, microseconds; None when nothing was measured."""
        return round(self._latency.quantile(q)) if self._latency.count() else None

    def summary(self) -> dict[str, object]:
        """The figures of the summary line (wire.md section 7), and a few more."""
        took = time.monotonic() - self._began
        levels = sum(
            len(level.by_leg) > 1
            for mirror in self.mirrors.values()
            if mirror.exact
            for level in (*mirror.view().bids, *mirror.view().asks)
        )
        summary: dict[str, object] = {
            "type": "summary",
            "books": len(self.mirrors),
            "levels_with_several_legs": max(levels, self.several_legs),
            "deltas_per_s": round(self.deltas / took, 1),
            "digest_mismatches": self.mismatches,
            "truth": {"compared": self.compared, "different": self.different},
            "latency_us": {"p50": self._quantile(0.5), "p99": self._quantile(0.99)},
            "messages": self.count,
            "gaps": self.gaps,
            "heartbeat_mismatches": self.heartbeats_wrong,
        }
        if self.first_difference is not None:
            summary["first_difference"] = self.first_difference
        return summary


async def run(url: str, verifier: Verifier, stop: asyncio.Event) -> None:
    """Receive until `stop`."""
    async with connect(url, max_size=None, ping_interval=None, max_queue=4096) as ws:
        await ws.send('{"op":"subscribe","id":"1","books":[">"],"trades":true}')
        closer = asyncio.create_task(_close_on(stop, ws.close()))
        try:
            while True:
                for book in verifier.receive(await ws.recv(decode=False)):
                    await ws.send(orjson.dumps({"op": "resync", "id": "r", "books": [book]}), text=True)
        except ConnectionClosed:
            if not stop.is_set():
                raise
        finally:
            closer.cancel()


async def _close_on(stop: asyncio.Event, close: Any) -> None:
    await stop.wait()
    await close


async def _main(stop: asyncio.Event) -> int:
    # Told to stop, it ends with its summary, whenever that is.
    running.started()
    options = orjson.loads(sys.argv[1])
    verifier = Verifier(options["pairs"], options["control"])
    judging = asyncio.create_task(verifier.judge())
    try:
        await run(options["ws"], verifier, stop)
    finally:
        judging.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await judging
    async with httpx2.AsyncClient(timeout=10) as http:
        await verifier.judge_ready(http)
    running.say(verifier.summary())
    return 0


if __name__ == "__main__":
    logs.configure("warning")
    running.run(_main, log_level="warning")
