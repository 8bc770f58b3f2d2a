"""Killing the orderbook service under load: how long until every book is exact again, and was any ever wrong?

`python tests/end_to_end/recovery.py --events 1250 --kills 20` is the long form (5,000 books).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).parent.parent))

from end_to_end.running import Command, command
from wup import MirrorBook, servers


@dataclass
class Watcher:
    """A verifying client: which books are exact and live, and everything that was wrong."""

    mirrors: dict[str, MirrorBook] = field(default_factory=dict)
    wrong: int = 0
    count: int = 0
    checked: int = 0
    heartbeats: int = 0
    closes: int = 0

    def receive(self, raw: bytes) -> list[str]:
        message = orjson.loads(raw)
        kind = message.get("type")
        if kind == "heartbeat":
            self.heartbeats += 1
            self.wrong += message["count"] != self.count
        if kind not in ("snapshot", "delta", "status"):
            return []
        self.count += 1
        book = message["book"]
        mirror = self.mirrors.get(book)
        if mirror is None:
            mirror = self.mirrors[book] = MirrorBook()
        verdict = mirror.apply(raw)
        self.checked += verdict == "exact"
        self.wrong += verdict == "broken"
        return [book] if verdict in ("gap", "broken") else []

    def live(self, after_epoch: int = 0) -> int:
        return sum(m.exact and m.state == "live" and m.epoch > after_epoch for m in self.mirrors.values())


@dataclass
class Result:
    books: int
    flagged_s: list[float]
    recovered_s: list[float]
    wrong: int
    checked: int


async def listen(socket: ClientConnection, watcher: Watcher) -> None:
    async for raw in socket:
        text = raw if isinstance(raw, bytes) else raw.encode()
        for book in watcher.receive(text):
            await socket.send(orjson.dumps({"op": "resync", "id": "r", "books": [book]}).decode())


async def run(events: int, kills: int, seed: int = 7, rate: int = 500, limit_s: float = 60) -> Result:
    """One system of real processes; `kills` SIGKILLs of the orderbook service at random moments."""
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nats = await stack.enter_async_context(servers.embedded_nats())
        redis = await stack.enter_async_context(servers.embedded_valkey())
        mapping = folder / "mapping.toml"
        sim_env = {"SIM_EXTRA_EVENTS": str(events), "SIM_RATE": str(rate)}
        sim = await stack.enter_async_context(
            command("sim", "both", "--seed", str(seed), "--json", "--mapping", str(mapping), env=sim_env)
        )
        ready = await sim.until("ready", 120)
        books = len(ready["pairs"])
        port = servers.free_port()
        env = {
            **ready["env"],
            "NATS_URL": nats,
            "REDIS_URL": redis,
            "MAPPINGS": str(mapping),
            "PUBLISH_CHANGES": "true",
            "ORDERBOOK_SERVICE_URL": f"http://127.0.0.1:{port}",
            "LOG_LEVEL": "warning",
        }

        async def start(*arguments: str, **more: str) -> Command:
            made = await stack.enter_async_context(command(*arguments, env={**env, **more}))
            made.lines.append(await made.until("ready", 60))
            return made

        orderbook = await start("orderbook", HTTP_PORT=str(port))
        await start("events")
        await start("aggregator")
        gateway = await start("gateway")
        watcher = Watcher()
        url = f"ws://127.0.0.1:{gateway.lines[-1]['ws']}/ws"
        socket = await stack.enter_async_context(
            connect(url, max_size=None, ping_interval=None, max_queue=None)
        )
        listening = asyncio.create_task(listen(socket, watcher))
        stack.callback(listening.cancel)
        await socket.send('{"op":"subscribe","id":"1","books":[">"]}')
        async with asyncio.timeout(180):
            while watcher.live() < books:
                await asyncio.sleep(0.05)
        flagged, recovered = [], []
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            epoch = max(m.epoch for m in watcher.mirrors.values())
            await orderbook.end(signal.SIGKILL)
            killed = time.monotonic()
            orderbook = await start("orderbook", HTTP_PORT=str(port))
            first: float | None = None
            async with asyncio.timeout(limit_s):
                while watcher.live(epoch) < books:
                    if first is None and watcher.live() < books:
                        first = time.monotonic() - killed
                    await asyncio.sleep(0.02)
            flagged.append(first if first is not None else 0.0)
            recovered.append(time.monotonic() - killed)
            if listening.done():
                raise AssertionError("the client's connection ended")
        return Result(books, flagged, recovered, watcher.wrong, watcher.checked)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1250)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=int, default=500)
    chosen = parser.parse_args()
    found = await run(chosen.events, chosen.kills, rate=chosen.rate)
    times = sorted(found.recovered_s)
    print(
        f"{found.books} books, {chosen.kills} kills: exact again after {times[0]:.2f} to {times[-1]:.2f} s "
        f"(median {times[len(times) // 2]:.2f} s), process start included; "
        f"{found.wrong} wrong of {found.checked} verified messages"
    )


if __name__ == "__main__":
    asyncio.run(main())
