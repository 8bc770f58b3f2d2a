"""The same real gateway that the gateway's tests use, and raw sockets to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.conftest import bus, dial, engine, gateway, start
from gateway.raw import RawClient
from wup.gateway import Gateway

__all__ = ["bus", "dial", "engine", "gateway", "start"]

Dial = Callable[..., Awaitable[RawClient]]


@pytest.fixture
async def raw() -> AsyncIterator[Dial]:
    """Open raw connections; all are closed at the end."""
    clients: list[RawClient] = []

    async def begin(gateway: Gateway, **options: Any) -> RawClient:
        client = await RawClient.open(gateway.port, **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()
