"""A gateway as it ships, raw sockets to it, and the three HTTP interfaces side by side."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from conformance.conftest import raw
from gateway.conftest import bus, dial, engine, gateway, ready, start
from orderbook.feeding import Feed, leg, table
from wup.access import Access
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.service import EventService
from wup.gateway import Gateway
from wup.orderbook import OrderbookHttp

__all__ = ["bus", "dial", "engine", "gateway", "raw", "ready", "start"]

Surfaces = dict[str, httpx2.AsyncClient]
"""An HTTP client per interface, by the name of its service."""

DATA = {"gateway": "/v1/books", "orderbook": "/v1/books", "events": "/v1/events"}
"""A path of each that tells about books."""


def rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def entry(token: str, *scopes: str, expires: int | None = None) -> dict[str, Any]:
    """One entry of a tokens file."""
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": list(scopes), "expires": expires}


@pytest.fixture
def tokens(tmp_path: Path) -> Callable[..., str]:
    """Write the tokens file, mode 0600; its path."""

    def write(*entries: dict[str, Any]) -> str:
        path = tmp_path / "tokens.json"
        path.write_bytes(orjson.dumps({"tokens": list(entries)}))
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
async def surfaces(gateway: Gateway, redis_url: str, tmp_path: Path) -> AsyncIterator[Surfaces]:
    """Gateway, orderbook service and event service, each on a port of its own."""
    one = leg("kalshi", "KXFED-26DEC-C25")
    events = EventService(Settings(mappings=str(tmp_path)), LocalBus(), redis_url, {}, http=("HTTP_PORT", 0))
    async with Feed() as feed:
        await feed.start(table(one))
        feed.book(one, [["0.52", "500"]], [["0.54", "250"]])
        orderbook = OrderbookHttp(feed.service, "127.0.0.1", 0, access=Access.of(Settings()))
        await orderbook.start()
        await events.start()
        ports = {"gateway": gateway.port, "orderbook": orderbook.port, "events": events.port}
        clients = {
            name: httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
            for name, port in ports.items()
        }
        try:
            yield clients
        finally:
            for client in clients.values():
                await client.aclose()
            await orderbook.stop()
            await events.stop()
