"""A gateway on a free port, a bus, and a real store behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.engine import Engine
from gateway.plain import PlainClient
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.config import Settings
from wup.gateway import BusSource, Gateway, Limits

Opener = Callable[..., Awaitable[PlainClient]]


@pytest.fixture
async def bus() -> AsyncIterator[LocalBus]:
    bus = LocalBus()
    yield bus
    await bus.close()


@pytest.fixture
async def engine(bus: LocalBus) -> AsyncIterator[Engine]:
    """A store with three books, marks every 200 ms."""
    engine = Engine(bus)
    await engine.start()
    engine.fill()

    async def tick() -> None:
        while True:
            engine.marks()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(tick())
    yield engine
    task.cancel()


Starter = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(bus: LocalBus) -> AsyncIterator[Starter]:
    """Start a gateway with its own settings; all are stopped at the end."""
    running: list[Gateway] = []

    async def begin(limits: Limits | None = None, source: Any = None, **settings: Any) -> Gateway:
        # Port 1: no orderbook service that happens to run here may answer for the test's own.
        own = {"ws_port": 0, "orderbook_service_url": ("http://127.0.0.1:1",), **settings}
        gateway = Gateway(Settings(**own), bus, source or BusSource(bus), SYSTEM_CLOCK, limits)
        await gateway.start()
        running.append(gateway)
        return gateway

    yield begin
    for gateway in running:
        await gateway.stop()


@pytest.fixture
async def gateway(engine: Engine, start: Starter) -> Gateway:
    """A gateway that is ready."""
    gateway = await start()
    engine.marks()
    await ready(gateway)
    return gateway


async def ready(gateway: Gateway) -> None:
    """Until the gateway says that it is ready."""
    async with asyncio.timeout(5):
        while gateway.problems():
            await asyncio.sleep(0.002)


@pytest.fixture
async def dial() -> AsyncIterator[Opener]:
    """Connect plain clients; all are closed at the end."""
    clients: list[PlainClient] = []

    async def begin(gateway: Gateway, **options: Any) -> PlainClient:
        client = await PlainClient.open(gateway.port, **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()
