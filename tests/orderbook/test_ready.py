"""When the orderbook service says that it can serve, in a process put together as `wup orderbook` does it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx2
import orjson
import pytest

from orderbook.feeding import BOOK, PatientClock, leg, table
from wup import runtime, subjects
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.mapping.table import MappingTable
from wup.orderbook import OrderbookHttp, OrderbookService

K = leg("kalshi", "KXFED-26DEC-C25")


def snapshot(n: int) -> bytes:
    body = {"type": "snapshot", "platform": K.platform, "market_id": K.market_id, "asset_id": K.asset_id}
    return orjson.dumps({**body, "epoch": 1, "n": n, "bids": [["0.5", "1"]], "asks": []})


async def test_ready_says_what_is_missing(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the mapping was read, while no venue is live, or without the bus it is 503 with the code; Redis
    away or a refused mapping leave it 200, with a warning, because the books in force are as right as
    before; a service without any book to serve is ready."""
    settings, venues = runtime.load_settings()
    settings = settings.model_copy(update={"redis_url": redis_url, "http_port": 0})
    async with runtime.Process(settings, venues) as process, httpx2.AsyncClient() as client:
        service, http = await process.start_orderbook(0, "HTTP_PORT")
        monkeypatch.setattr(service, "_clock", PatientClock())

        async def asked() -> tuple[int, list[str], list[str]]:
            answer = await client.get(f"http://127.0.0.1:{http.port}/readyz")
            body: dict[str, Any] = answer.json()
            return answer.status_code, body.get("reasons", []), body.get("warnings", [])

        assert await asked() == (503, ["no_mapping"], [])
        health = SimpleNamespace(healthy=True)
        monkeypatch.setattr(process, "_mapping", health)
        assert await asked() == (200, [], [])
        await service.set_table(table(K))
        assert await asked() == (503, ["no_venue_live"], [])
        process.bus.publish(subjects.normalized(K.platform, K.market_id, K.asset_id), snapshot(1))
        assert await asked() == (200, [], [])
        health.healthy = False
        assert await asked() == (200, [], ["redis_down"])
        monkeypatch.setattr(process, "_refused", True)
        assert await asked() == (200, [], ["redis_down", "mapping_refused"])
        health.healthy = True
        monkeypatch.setattr(process, "_refused", False)
        service._send(service.store.set_leg_state(K.platform, K.asset_id, "down", "x", SYSTEM_CLOCK.now_us()))
        assert await asked() == (503, ["no_venue_live"], [])
        books = {BOOK: table(K, result="yes").books[BOOK]}
        await service.set_table(MappingTable(2, (), books))
        assert service.store.book(BOOK).state == "closed"
        assert await asked() == (200, [], [])
        await process.bus.close()
        assert await asked() == (503, ["bus_disconnected"], [])


@pytest.mark.parametrize(
    ("reasons", "warnings", "status"),
    [
        ([], [], 200),
        ([], ["recorder_disk_full"], 200),
        (["no_venue_live"], ["recorder_disk_full"], 503),
    ],
)
async def test_a_warning_is_told_and_decides_nothing(
    reasons: list[str], warnings: list[str], status: int
) -> None:
    """A recorder that cannot write is named beside the verdict, and the verdict stays what it is."""
    service = OrderbookService(LocalBus())
    http = OrderbookHttp(service, "127.0.0.1", 0, ready=lambda: reasons, warnings=lambda: warnings)
    await http.start()
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{http.port}/readyz")
    finally:
        await http.stop()
    assert answer.status_code == status
    assert answer.json().get("warnings", []) == warnings
    assert answer.json().get("reasons", []) == reasons
