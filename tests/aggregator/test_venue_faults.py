"""What happens to a venue's sockets happens here to the simulators': legs down in time, live again after."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from aggregator.system import Judge, System, running, venues_for
from aggregator.test_aggregator import ToySession, table
from end_to_end.running import Command, command, resident_kib
from wup import servers
from wup.aggregator import Aggregator
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.metrics import REGISTRY
from wup.normalizer.service import NormalizerService
from wup.sim import SimSettings, Simulators
from wup.venues.base import Limits, Venue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(150)
VENUES = ["kalshi", "polymarket"]
QUICK = {"ping_s": 0.5, "silent_down_s": 2.0, "silent_replace_s": 4.0}
"""The limits of production by about seven: what they are is data, not code."""
EARLY_S = 1.0
"""The last ping may have been answered so long before the venue fell silent."""
LATE_S = 3.0
"""What a busy machine may add to a limit: the goals themselves are well inside."""


def done(system: System, platform: str, kind: str) -> list[Any]:
    return [entry for entry in system.simulators.exchanges[platform].menu.done if entry.kind == kind]


def all_down(system: System) -> bool:
    return set(system.judge.state.values()) == {"down"}


async def healthy_again(system: System) -> None:
    """All live, and right for a while."""
    await system.all_live()
    compared = system.judge.compared
    await system.judge.until(lambda: system.judge.compared > compared + 30, 20)
    assert system.judge.wrong == []


@pytest.mark.parametrize("platform", VENUES)
async def test_tcp_reset(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """After a reset all legs are down within 1 s (G3), and live again within 3 s (G12)."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}) as system:
        await system.all_live()
        system.fault("reset")
        assert await system.judge.until(lambda: all_down(system), 10) < 1.0 + LATE_S
        assert {why for *_, why in system.judge.left} == {"disconnected"}
        assert await system.all_live() < 3.0 + LATE_S
        await healthy_again(system)


@pytest.mark.parametrize("platform", VENUES)
async def test_half_open(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """A socket that stays open and says nothing: legs down with `venue_silent` at the first limit, the socket
    replaced at the second, everything live again."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=QUICK) as system:
        await system.all_live()
        (connection,) = system.aggregator.groups[platform].connections
        before = connection.id
        system.fault("half_open")
        took = await system.judge.until(lambda: all_down(system), 15)
        assert QUICK["silent_down_s"] - EARLY_S < took < QUICK["silent_down_s"] + LATE_S
        assert {why for *_, why in system.judge.left} == {"venue_silent"}
        took += await system.all_live()
        assert took < QUICK["silent_replace_s"] + 2 * LATE_S
        assert connection.id != before
        await healthy_again(system)


@pytest.mark.parametrize("platform", VENUES)
@pytest.mark.parametrize(
    ("kind", "why"), [("unauthorized", "no_credentials"), ("rate_limited", "disconnected")]
)
async def test_refused(monkeypatch: pytest.MonkeyPatch, platform: str, kind: str, why: str) -> None:
    """401 and 429 on reconnect: legs down with their reason, few attempts, none before a `Retry-After` is
    over, and live again once the venue lets us in."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}) as system:
        await system.all_live()
        system.fault(kind, seconds=4.0)
        system.fault("reset")
        assert await system.judge.until(lambda: all_down(system), 10) < 1.0 + LATE_S
        refused_at = time.monotonic()
        await system.judge.until(lambda: {last[3] for last in system.judge.left[-2:]} == {why}, 10)
        refused_s = time.monotonic() - refused_at
        await system.all_live(seconds=30)
        attempts = [entry.at_us for entry in done(system, platform, kind) if entry.frame == "handshake"]
        assert 1 <= len(attempts) <= 12
        if kind == "rate_limited" and platform == "polymarket":
            # Its 429 says when to come back (1 s).
            assert all(later - earlier >= 1_000_000 for earlier, later in pairwise(attempts))
        assert refused_s < 2.0 + LATE_S
        await healthy_again(system)


# --- processes --------------------------------------------------------------------------------------


class Deferred(Judge):
    """A judge whose truth is in another process: asked in one go, later."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None)
        self._candidates: list[tuple[str, str, int, dict[str, str], dict[str, str]]] = []

    def _compare(self, asset: str, at_us: int) -> None:
        bids, asks = self.books[asset]
        if len(self._candidates) < 2_000:
            self._candidates.append((self.platform[asset], asset, at_us, dict(bids), dict(asks)))

    async def settle(self, control: str) -> None:
        """Hold what was collected against the truth of a simulator process."""
        candidates, self._candidates = self._candidates, []
        async with httpx2.AsyncClient(timeout=20) as http:
            answer = await http.post(
                f"{control}/truth",
                content=orjson.dumps({"queries": [one[:3] for one in candidates]}),
                headers={"content-type": "application/json"},
            )
        for (_, asset, at_us, bids, asks), true in zip(candidates, answer.json(), strict=True):
            if true is not None:
                self.compared += 1
                if (dict(true["bids"]), dict(true["asks"])) != (bids, asks):
                    self.wrong.append((asset, at_us))


@asynccontextmanager
async def simulator(platform: str, env: dict[str, str]) -> AsyncIterator[Command]:
    async with command("sim", platform, "--json", env=env) as process:
        process.lines.append(await process.until("ready"))
        yield process


@asynccontextmanager
async def beside_a_process(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    platform: str,
    limits: dict[str, Any],
    rng: random.Random | None = None,
) -> AsyncIterator[tuple[System, dict[str, str], Command]]:
    """Aggregator and normalizer here, the venue in a process that signals can be sent to."""
    names = ("KALSHI_WS", "KALSHI_HTTP", "POLYMARKET_WS", "POLYMARKET_HTTP")
    env = {f"SIM_{name}_PORT": str(servers.free_port()) for name in names}
    env |= {"SIM_KALSHI_KEY_PATH": str(folder / "key.pem"), "SIM_SEED": "5", "SIM_RATE": "200"}
    # The same world, for the assets' names only.
    world = Simulators(SimSettings(sim_seed=5, sim_venues=(platform,)))
    async with simulator(platform, env) as process:
        monkeypatch.setattr(world, "env", lambda: process.lines[-1]["env"])
        bus, judge = LocalBus(), Deferred()
        normalizer = NormalizerService(bus, SYSTEM_CLOCK, "test")
        aggregator = Aggregator(bus, venues_for(world, monkeypatch, limits), rng=rng)
        system = System(world, aggregator, bus, judge)
        await bus.subscribe("normalized.>", judge)
        normalizer.set_table(system.table)
        await normalizer.start()
        await aggregator.start()
        await aggregator.set_table(system.table)
        try:
            yield system, env, process
        finally:
            await aggregator.stop()
            await normalizer.stop()


async def judged(system: System, process: Command) -> None:
    judge = system.judge
    assert isinstance(judge, Deferred)
    async with asyncio.timeout(20):
        while len(judge._candidates) < 100:
            await asyncio.sleep(0.05)
    await judge.settle(process.lines[-1]["control"])
    assert judge.compared > 0
    assert judge.wrong == []


@pytest.mark.parametrize("platform", VENUES)
async def test_sigkill_of_a_venue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str) -> None:
    """A venue dies: every leg is down within 1 s; it is tried gently while it is away, and every leg is live
    again after it is back."""
    async with beside_a_process(monkeypatch, tmp_path, platform, {}) as (system, env, process):
        await system.all_live()
        await judged(system, process)
        reconnects = attempts()
        await process.end(signal.SIGKILL)
        assert await system.judge.until(lambda: all_down(system), 10) < 1.0 + LATE_S
        await asyncio.sleep(3.0)
        async with simulator(platform, env) as again:
            await system.all_live(seconds=30)
            assert attempts() - reconnects < 20
            await judged(system, again)


async def stopped(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    platform: str,
    limits: dict[str, Any],
    down_s: float,
    for_s: float,
) -> None:
    async with beside_a_process(monkeypatch, folder, platform, limits) as (system, _, process):
        await system.all_live()
        await judged(system, process)
        process.process.send_signal(signal.SIGSTOP)
        try:
            took = await system.judge.until(lambda: all_down(system), down_s + 10)
            assert down_s - limits.get("ping_s", 5.0) - EARLY_S < took < down_s + LATE_S
            assert {why for *_, why in system.judge.left} == {"venue_silent"}
            await asyncio.sleep(for_s - took)
            assert system.judge.live() == set()
        finally:
            process.process.send_signal(signal.SIGCONT)
        assert await system.all_live(seconds=60) < 35
        await judged(system, process)


@pytest.mark.parametrize("platform", VENUES)
async def test_sigstop_of_a_venue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str) -> None:
    """A venue that stands still with open sockets: legs down at the first limit, sockets replaced at the
    second, no leg live while it lasts, all live again after (limits shortened by seven)."""
    await stopped(monkeypatch, tmp_path, platform, QUICK, QUICK["silent_down_s"], 7.0)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("platform", VENUES)
async def test_sigstop_for_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str) -> None:
    """The same for 60 s with the limits of production: down at 15 s (G3)."""
    await stopped(monkeypatch, tmp_path, platform, {}, 15.0, 60.0)


def attempts() -> float:
    """Sockets opened anew, by all venues and reasons."""
    metrics = [metric for metric in REGISTRY.collect() if metric.name == "wup_venue_reconnects"]
    return sum(s.value for metric in metrics for s in metric.samples if s.name.endswith("_total"))


# --- leaks ------------------------------------------------------------------------------------------


class AtOnce(random.Random):
    """No wait between attempts."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.mark.parametrize("platform", VENUES)
async def test_a_lost_connection_is_freed_at_once(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """A reset leaves nothing of ours to the garbage collector, which hardly ever runs in production: books
    in a cycle would stay for hours."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}) as system:
        await system.all_live()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            system.fault("reset")
            await system.judge.until(lambda: all_down(system), 10)
            await system.all_live()
            gc.collect()
            found = {f"{type(kept).__module__}.{type(kept).__qualname__}" for kept in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert {name for name in found if name.startswith("wup.") and not name.startswith("wup.sim")} == set()


async def test_nothing_is_left_of_a_thousand_reconnects() -> None:
    """After 1,000 sockets that a venue opened and reset there are as many tasks, descriptors and objects as
    after the first hundred, and hardly more memory."""
    limits = Limits(assets_per_connection=1, connects_per_minute=6e6, connects_at_once=10_000, connections=5)
    served = 0
    enough = asyncio.Event()
    wanted = 0

    async def handle(ws: ServerConnection) -> None:
        nonlocal served
        served += 1
        await ws.send("book A 1")
        if served >= wanted:
            enough.set()
            await ws.wait_closed()
        elif served % 2:
            ws.transport.abort()

    class Session(ToySession):
        heartbeat_s = 5.0

    async with serve(handle, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        nothing: Any = lambda *_: None  # noqa: E731
        venue = Venue("toy", object, Session, nothing, nothing, limits)
        settings = type("Settings", (), {"url": f"ws://127.0.0.1:{port}"})()
        measured: list[tuple[int, int, int]] = []
        resident: list[int] = []
        for wanted in (100, 1_100):  # noqa: B007 - read by the server
            enough.clear()
            bus = LocalBus()
            aggregator = Aggregator(bus, {"toy": (venue, settings)}, rng=AtOnce(1))
            await aggregator.start()
            await aggregator.set_table(table("A", "B", "C", "D", "E"))
            async with asyncio.timeout(60):
                await enough.wait()
            await aggregator.stop()
            del aggregator, bus
            async with asyncio.timeout(10):
                while server.connections:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            gc.collect()
            measured.append(
                (len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), len(gc.get_objects()))
            )
            resident.append(resident_kib(os.getpid()))
        (tasks, files, objects), (tasks_after, files_after, objects_after) = measured
        assert served >= 1_100
        assert tasks_after == tasks
        assert files_after == files
        assert objects_after - objects < 500
        # 4 KiB each: a leaked socket, task or read buffer is more.
        assert resident[1] - resident[0] < 4096


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("platform", VENUES)
async def test_nothing_is_left_of_a_thousand_resets_of_a_simulator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str
) -> None:
    """The same with the venue's own conversation, books and normalizer, and without the garbage collector."""
    limits = {"connects_per_minute": 6e6, "connects_at_once": 10_000, "audit_s": 86_400.0}
    async with beside_a_process(monkeypatch, tmp_path, platform, limits, AtOnce(1)) as (system, _, process):
        system.judge._compare = lambda asset, at_us: None  # type: ignore[method-assign]
        measured: list[tuple[int, int, int]] = []
        async with httpx2.AsyncClient(timeout=20) as http:
            for count in (200, 1_000):
                for _ in range(count):
                    await system.all_live()
                    system.judge.left.clear()
                    await http.post(f"{process.lines[-1]['control']}/faults", json={"kind": "reset"})
                    await system.judge.until(lambda: bool(system.judge.left), 10)
                await system.all_live()
                gc.collect()
                gc.disable()
                tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
                measured.append((tasks, files, resident_kib(os.getpid())))
        gc.enable()
        (tasks, files, resident), (tasks_after, files_after, resident_after) = measured
        print(f"{platform}: {measured}")
        assert abs(tasks_after - tasks) <= 2
        assert abs(files_after - files) <= 2
        assert resident_after - resident < 4096
