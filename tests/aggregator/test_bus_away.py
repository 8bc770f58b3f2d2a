"""Aggregator, standalone normalizer and orderbook over a NATS that is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aggregator.system import Judge, System, table_of, venues_for
from end_to_end.running import alive, descendants
from wup import servers, subjects
from wup.aggregator import Aggregator
from wup.bus import Message, NatsBus
from wup.clock import SYSTEM_CLOCK
from wup.demo.truth import shown
from wup.metrics import REGISTRY
from wup.normalizer.service import NormalizerService
from wup.orderbook import OrderbookService
from wup.sim import SimSettings, Simulators

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)


class GapAware(Judge):
    """A consumer of `normalized.>` as wire.md section 2 wants it: after a hole in n a leg counts as live only
    from its next snapshot on, which is asked for."""

    def __init__(self, truth: Callable[[str, str, int], Any], ask: Callable[[str, str], None]) -> None:
        super().__init__(truth)
        self._ask = ask
        self.holes: list[tuple[float, str]] = []

    def __call__(self, message: Message) -> None:
        fields = orjson.loads(message.payload)
        if fields["type"] == "marks":
            for asset, n in fields["assets"].items():
                if self.n.get(asset, 0) < n:
                    self._hole(subjects.split(message.subject)[1], asset, n)
            return
        asset, n = fields["asset_id"], fields["n"]
        if fields["type"] != "snapshot":
            if n <= self.n.get(asset, 0):
                return
            if n != self.n.get(asset, 0) + 1:
                self._hole(fields["platform"], asset, n - 1)
            if self.state.get(asset) == "hole":
                self.n[asset] = n
                return
        super().__call__(message)

    def _hole(self, platform: str, asset: str, n: int) -> None:
        self.holes.append((time.monotonic(), asset))
        self.n[asset] = n
        self.state[asset] = "hole"
        self.platform[asset] = platform
        self._venue_us.pop(asset, None)
        self._ask(platform, asset)


def count(kind: str, platform: str) -> float:
    labels = {"stage": "normalizer", "platform": platform, "kind": kind}
    return REGISTRY.get_sample_value("wup_bad_input_total", labels) or 0.0


async def eventually(condition: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


class Apart:
    """Three stages and two readers, each with a NATS connection of its own."""

    def __init__(self, stack: AsyncExitStack, simulators: Simulators, url: str) -> None:
        self.stack = stack
        self.simulators = simulators
        self.url = url
        self.table = table_of(simulators)

    async def bus(self, name: str) -> NatsBus:
        made = await NatsBus.connect(self.url, name=name)
        self.stack.push_async_callback(made.close)
        return made

    async def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reading = await self.bus("reader")

        def ask(platform: str, asset: str) -> None:
            reading.publish(subjects.resync(platform), orjson.dumps({"assets": [asset], "why": "gap"}))

        self.judge = GapAware(self.simulators.truth, ask)
        await reading.subscribe("normalized.>", self.judge)
        self.books = OrderbookService(await self.bus("orderbook"), publish=True)
        self.stack.push_async_callback(self.books.stop)
        await self.books.start()
        normalizer = NormalizerService(await self.bus("normalizer"), SYSTEM_CLOCK, "apart")
        self.stack.push_async_callback(normalizer.stop)
        normalizer.set_table(self.table)
        await normalizer.start()
        venues = venues_for(self.simulators, monkeypatch, {"audit_s": 2.0})
        self.aggregator = Aggregator(await self.bus("aggregator"), venues)
        self.stack.push_async_callback(self.aggregator.stop)
        await self.aggregator.start()
        await self.books.set_table(self.table)
        await self.aggregator.set_table(self.table)

    def all_live(self) -> bool:
        stats = self.books.store.stats()
        wanted = {leg.asset_id for leg in self.table.legs}
        return stats.get("books_live", 0) == len(wanted) and wanted <= self.judge.live()

    def differences(self) -> list[str]:
        """Books of the orderbook service that are not what the venues have; the venues must stand still."""
        found = []
        for leg in self.table.legs:
            snapshot = self.books.store.snapshot(leg.book)
            cells = shown(snapshot)
            mine: dict[str, dict[str, str]] = {"bid": {}, "ask": {}}
            for (side, price), parts in cells.items():
                mine[side][price] = parts[leg.platform]
            true = self.simulators.truth(leg.platform, leg.asset_id)
            assert true is not None
            if (mine["bid"], mine["ask"]) != (dict(true["bids"]), dict(true["asks"])):
                found.append(leg.asset_id)
        return found


async def standing_still(apart: Apart) -> None:
    """No more transactions, and everything said so far has arrived everywhere."""
    system = System(apart.simulators, apart.aggregator, None, apart.judge)  # type: ignore[arg-type]
    for venue in apart.simulators.exchanges:
        system.fault("restart", venue=venue, seconds=3600)
    await asyncio.sleep(1.0)


async def test_nats_killed_and_restarted_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames lost while the server is away are found by their counters, their legs leave, the venue is asked
    for fresh books, and within seconds of the return every book is live and what the venues have; no leg that
    a reader may take for live is ever wrong, and the audit works across processes as well."""
    async with AsyncExitStack() as stack:
        simulators = Simulators(SimSettings(sim_seed=9, sim_rate=200))
        await simulators.start()
        stack.push_async_callback(simulators.stop)
        flagged: list[tuple[float, str, str]] = []
        emit = NormalizerService._emit

        def noted(service: NormalizerService, subject: str, payload: bytes) -> None:
            message = orjson.loads(payload)
            if message["type"] == "state" and message["state"] != "live":
                flagged.append((time.monotonic(), message["asset_id"], message["why"]))
            emit(service, subject, payload)

        monkeypatch.setattr(NormalizerService, "_emit", noted)
        port = servers.free_port()
        others = set(descendants(os.getpid()))
        async with servers.embedded_nats(port=port) as url:
            (server,) = set(descendants(os.getpid())) - others
            apart = Apart(stack, simulators, url)
            await apart.start(monkeypatch)
            asked: set[str] = set()

            def ask(message: Message) -> None:
                if orjson.loads(message.payload).get("source") == "venue":
                    asked.add(subjects.split(message.subject)[2])

            await (await apart.bus("control")).subscribe("control.resync.*", ask)
            await eventually(apart.all_live, 30)
            before_audit = audited()
            await eventually(lambda: audited() > before_audit, 20)
            lost = {name: count("lost_records", name) for name in simulators.exchanges}
            killed_at = time.monotonic()
            os.kill(server, signal.SIGKILL)
            await eventually(lambda: not alive(server), 5)
        await eventually(lambda: apart.books.store.stats().get("books_live", 0) == 0, 30)
        await asyncio.sleep(1.0)
        asked.clear()
        async with servers.embedded_nats(port=port):
            await eventually(lambda: all(count("lost_records", name) > n for name, n in lost.items()), 30)
            await eventually(apart.all_live, 30)
            # The normalizer said so of every leg, and asked the venues for new books.
            said = [entry for entry in flagged if entry[0] > killed_at]
            assert {asset for _, asset, _ in said} == {leg.asset_id for leg in apart.table.legs}
            assert {why for *_, why in said} <= {"gap", "seq_gap", "upstream_silent"}
            assert asked >= set(simulators.exchanges)
            compared = apart.judge.compared
            await eventually(lambda: apart.judge.compared > compared + 300, 30)
            await standing_still(apart)
            assert apart.differences() == []
            assert apart.judge.wrong == []
            assert {asset for _, asset in apart.judge.holes} <= {leg.asset_id for leg in apart.table.legs}
            await stop(stack)


async def test_nats_lost_before_the_first_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Legs that were live for a moment only, of a normalizer whose marks never came, leave as well when the
    bus is away."""
    async with AsyncExitStack() as stack:
        simulators = Simulators(SimSettings(sim_seed=9, sim_rate=200))
        await simulators.start()
        stack.push_async_callback(simulators.stop)
        monkeypatch.setattr(NormalizerService, "mark", lambda self: None)
        async with servers.embedded_nats() as url:
            apart = Apart(stack, simulators, url)
            await apart.start(monkeypatch)
            await eventually(apart.all_live, 30)
        await eventually(lambda: apart.books.store.stats().get("books_live", 0) == 0, 10)


async def stop(stack: AsyncExitStack) -> None:
    """Everything ends while the server is there."""
    await stack.aclose()


def audited() -> float:
    return sum(
        REGISTRY.get_sample_value("wup_audits_total", {"platform": name, "verdict": "same"}) or 0.0
        for name in ("kalshi", "polymarket")
    )
