"""Does the aggregator's memory stay flat? `python tests/aggregator/soak.py --minutes 60`.

`wup aggregator` with its inline normalizer, as a process of its own over a real NATS, at about 1,000 venue
frames a second, each minute a reset of every socket. Its resident memory is read each few seconds; what it
grows by after the warm-up, and in an hour at that pace, is printed. More than 1 MiB in the run is exit 1
(reliability.md G15: in an hour).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benches"))

from end_to_end.running import command, resident_kib
from machine import machine
from wup import servers

GOAL_KIB = 1024.0
RESET_S = 60.0


def slope(points: list[tuple[float, int]]) -> float:
    """KiB an hour, by least squares."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return above / below * 3600


async def frames(http: httpx2.AsyncClient, port: int) -> float:
    """Venue frames so far."""
    text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("wup_frames_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def run(minutes: float, rate: int, warm_up_s: float) -> float:
    """KiB that the memory grows in the run after the warm-up."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mapping = folder / "mapping.toml"
        nats = await stack.enter_async_context(servers.embedded_nats())
        redis = await stack.enter_async_context(servers.embedded_valkey())
        sim_env = {"SIM_RATE": str(rate), "SIM_EXTRA_EVENTS": "20"}
        sim = await stack.enter_async_context(
            command("sim", "both", "--json", "--mapping", str(mapping), env=sim_env)
        )
        ready = await sim.until("ready", 120)
        env = {**ready["env"], "NATS_URL": nats, "REDIS_URL": redis, "MAPPINGS": str(mapping)}
        env["LOG_LEVEL"] = "error"
        events = await stack.enter_async_context(command("events", env=env))
        await events.until("ready", 60)
        aggregator = await stack.enter_async_context(command("aggregator", env=env))
        port = (await aggregator.until("ready", 60))["metrics"]
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        await asyncio.sleep(warm_up_s)
        start = time.monotonic()
        before, reset_at = await frames(http, port), start + RESET_S
        points: list[tuple[float, int]] = []
        while (now := time.monotonic()) - start < minutes * 60:
            points.append((now - start, resident_kib(aggregator.process.pid)))
            if now >= reset_at:
                reset_at += RESET_S
                await http.post(f"{ready['control']}/faults", json={"kind": "reset"})
            await asyncio.sleep(5)
        passed = time.monotonic() - start
        per_s = (await frames(http, port) - before) / passed
        an_hour = slope(points)
        grown = an_hour * passed / 3600
        sizes = [size for _, size in points]
        print(
            f"{passed / 60:.1f} minutes at {per_s:.0f} frames/s after {warm_up_s / 60:.0f} of warm-up: "
            f"{sizes[0] / 1024:.2f} to {sizes[-1] / 1024:.2f} MiB (least {min(sizes) / 1024:.2f}, most "
            f"{max(sizes) / 1024:.2f}), grown by {grown:.0f} KiB, {an_hour:.0f} KiB an hour"
        )
        return grown


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=700)
    parser.add_argument("--warm-up", type=float, default=600, help="seconds")
    chosen = parser.parse_args()
    print(machine())
    sys.exit(asyncio.run(run(chosen.minutes, chosen.rate, chosen.warm_up)) > GOAL_KIB)
