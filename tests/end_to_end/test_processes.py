"""Every stage as a process of its own, over real NATS and Redis."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx2
import pytest
from websockets.asyncio.client import connect

from end_to_end.plain import PlainClient
from end_to_end.running import command

if TYPE_CHECKING:
    from pathlib import Path

# Whole systems of processes start here: slow where other suites run beside.
pytestmark = pytest.mark.timeout(150)


async def test_stages_as_processes_give_the_same_books(nats_url: str, redis_url: str, tmp_path: Path) -> None:
    """With NATS_URL and REDIS_URL set, the six stages run apart, the normalizer too, and a client sees exact,
    live books of both events, the same ids as in one process; the aggregator tells how its venues are."""
    mapping = tmp_path / "mapping.toml"
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            command("sim", "both", "--seed", "7", "--json", "--mapping", str(mapping))
        )
        ready = await sim.until("ready")
        env = {
            **ready["env"],
            "NATS_URL": nats_url,
            "REDIS_URL": redis_url,
            "MAPPINGS": str(mapping),
            "PUBLISH_CHANGES": "true",
        }
        orderbook = await stack.enter_async_context(command("orderbook", env=env))
        http = (await orderbook.until("ready"))["http"]
        events = await stack.enter_async_context(command("events", env=env))
        await events.until("ready")
        normalizer = await stack.enter_async_context(command("normalizer", env=env))
        await normalizer.until("ready")
        aggregator = await stack.enter_async_context(command("aggregator", env={**env, "NORMALIZE": "off"}))
        metrics = (await aggregator.until("ready"))["metrics"]
        gateway = await stack.enter_async_context(
            command("gateway", env={**env, "ORDERBOOK_SERVICE_URL": f"http://127.0.0.1:{http}"})
        )
        port = (await gateway.until("ready"))["ws"]
        plain = PlainClient()
        async with connect(f"ws://127.0.0.1:{port}/ws", max_size=None) as ws, asyncio.timeout(30):
            await ws.send('{"op":"subscribe","id":"1","books":[">"]}')
            while not (
                plain.deltas >= 200
                and plain.heartbeats >= 1
                and len(plain.books) >= 6
                and all(book.exact and book.state == "live" for book in plain.books.values())
            ):
                plain.receive(await ws.recv())
        assert plain.wrong == []
        # The ids that every deployment gives these books: wire.md section 1.
        expected = {
            f"{pair['aggregate']}.{hashlib.sha256(pair['key'].encode()).hexdigest()[:16]}.yes"
            for pair in ready["pairs"]
        }
        assert set(plain.books) == expected
        async with httpx2.AsyncClient() as http_client:
            health = (await http_client.get(f"http://127.0.0.1:{metrics}/healthz")).json()
            ready_now = await http_client.get(f"http://127.0.0.1:{metrics}/readyz")
        one = {"connections": 1, "open": 1, "breaker": "closed", "unplaced": 0}
        assert health["venues"] == {"kalshi": one, "polymarket": one}
        assert ready_now.status_code == 200
        for running in (gateway, aggregator, normalizer, events, orderbook, sim):
            assert await running.end() == 0
