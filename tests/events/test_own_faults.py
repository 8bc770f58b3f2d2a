"""Faults of our own in the event service: they stay where they are, are said, and lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from events.venue_rest import VenueRest, gamma_event, gamma_market
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.service import EventService
from wup.venues.polymarket.catalog import PolymarketCatalogue

Start = Callable[[], Awaitable[EventService]]


@pytest.fixture
async def start(rest: VenueRest, redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """start() -> a running service that follows one event; all are stopped in the end."""
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1), gamma_market(2)])
    settings = Settings(
        mappings=str(tmp_path), events_http_port=0, event_slug=("fed",), refresh_interval_secs=0.05
    )
    running: list[EventService] = []

    async def run() -> EventService:
        service = EventService(
            settings, LocalBus(), redis_url, {"polymarket": PolymarketCatalogue(rest.urls)}
        )
        await service.start()
        running.append(service)
        return service

    yield run
    for service in running:
        await service.stop()


async def test_an_event_that_was_not_compiled_is_news_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, rest: VenueRest
) -> None:
    """A fault of ours while an event is compiled loses nothing: the same answer is taken the next time."""
    running = await start()
    await running.settled()
    compile_, faults = running.compiler.set_event, [ZeroDivisionError("ours")]

    def set_event(event: Any) -> set[str]:
        if faults:
            raise faults.pop()
        return compile_(event)

    monkeypatch.setattr(running.compiler, "set_event", set_event)
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    async with asyncio.timeout(10):
        while faults or len(running.compiler.units["event:polymarket:fed"].markets) != 1:
            await asyncio.sleep(0.01)


async def test_a_part_that_ended_is_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that must run for ever and ends by a fault of ours: `/readyz` is 503 and names it; a service
    that is stopped says nothing of the kind."""
    fail = asyncio.Event()

    async def watch() -> None:
        await fail.wait()
        raise ZeroDivisionError("ours")

    running = await start()
    await running.stop()
    assert running.ended == []
    monkeypatch.setattr("wup.events.files.WatchedFiles.watch", lambda _: watch())
    running = await start()
    await running.settled()
    url = f"http://127.0.0.1:{running.port}/readyz"
    async with httpx2.AsyncClient() as http:
        assert (await http.get(url)).status_code == 200
        fail.set()
        async with asyncio.timeout(10):
            while (answer := await http.get(url)).status_code == 200:
                await asyncio.sleep(0.01)
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["part_ended:mapping-files"])
