"""What `/readyz` of the orderbook service says about things that go wrong beside it."""

from __future__ import annotations

import httpx2
import pytest

from wup.bus import LocalBus
from wup.orderbook import OrderbookHttp, OrderbookService


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
