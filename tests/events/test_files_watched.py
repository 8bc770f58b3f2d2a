"""The watcher of mapping files: takes what has settled, and outlives whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from events.venue_rest import VenueRest, gamma_event, gamma_market
from mapping.files import aggregate, leg, market
from wup.bus import LocalBus
from wup.config import Settings
from wup.events import files as module
from wup.events.service import EventService
from wup.mapping.file import MappingFiles
from wup.mapping.lint import load_checked
from wup.venues.polymarket.catalog import PolymarketCatalogue


def text(version: int) -> str:
    """A file of one market."""
    one = leg("polymarket", "fed", f"0x{1:064x}")
    return f"version = {version}\n" + aggregate("a", market("wup1|a|k|s|-|p", one))


@pytest.fixture
async def service(
    rest: VenueRest, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EventService]:
    """A service that looks at its folder as often as it can."""
    monkeypatch.setattr(module, "_CHECK_S", 0.01)
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    (tmp_path / "a.toml").write_text(text(1))
    settings = Settings(mappings=str(tmp_path), events_http_port=0, refresh_interval_secs=60)
    running = EventService(settings, LocalBus(), redis_url, {"polymarket": PolymarketCatalogue(rest.urls)})
    await running.start()
    yield running
    await running.stop()


async def eventually(right: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not right():
            await asyncio.sleep(0.01)


async def test_files_are_taken_when_two_looks_are_alike(
    service: EventService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While every look shows something else nothing is read; the first look that shows the same again is
    followed by one more, and by one reading."""
    looks, at_reading = 0, []

    def look(_: Path) -> tuple[tuple[str, int, int, int], ...]:
        nonlocal looks
        looks += 1
        return (("a.toml", 1, min(looks, 30), 1),)

    def reading(path: str | Path, platforms: Any) -> MappingFiles:
        at_reading.append(looks)
        return load_checked(path, platforms)

    monkeypatch.setattr(module, "_look", look)
    monkeypatch.setattr(module, "load_checked", reading)
    await eventually(lambda: looks >= 60)
    assert at_reading == [32]


async def test_a_file_that_is_written_slowly_is_taken_whole(service: EventService, tmp_path: Path) -> None:
    """Beside the files stands the text of a writer who has not finished: it is none of the files."""
    (tmp_path / ".a.toml.0011223344556677.tmp").write_text("version = [")
    (tmp_path / "b.toml").write_text("version = 7\n")
    await eventually(lambda: service._files.version == 7)
    assert service.files_problems == []
    assert len(service._files.paths) == 2


async def test_a_proposal_brings_no_event(service: EventService, rest: VenueRest, tmp_path: Path) -> None:
    """What `suggest` proposes changes nothing: its events are not followed until a leg is in force."""
    rest.gamma["cup"] = gamma_event("cup", [gamma_market(2)])
    legs = [
        leg(
            "polymarket",
            "cup",
            f"0x{2:064x}",
            status=status,
            rules_sha256="",
            confirmed_by="",
            confirmed_at="",
        )
        for status in ('"proposed"', '"rejected"', '"retired"')
    ]
    markets = [market(f"wup1|b|k|s{place}|-|p", one) for place, one in enumerate(legs)]
    (tmp_path / "b.toml").write_text("version = 5\n" + aggregate("b", *markets))
    await eventually(lambda: service._files.version == 5)
    assert service.attempt(("polymarket", "cup")) is None
    confirmed = market("wup1|b|k|s|-|p", leg("polymarket", "cup", f"0x{2:064x}"))
    (tmp_path / "b.toml").write_text("version = 6\n" + aggregate("b", confirmed))
    await eventually(lambda: ("polymarket", "cup") in service.events)


async def test_files_that_cannot_be_taken_leave_those_of_before(
    service: EventService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours while new files come into force is shown and logged, the files of before stay in force,
    and the next edit finds the watcher there."""
    await service.settled()
    before, table = service._files, service.compiler.table(1)
    original = service.compiler.set_files

    def set_files(files: MappingFiles) -> set[str]:
        if files.version == 2:
            service.compiler.units.clear()
            raise RuntimeError("a fault of ours")
        return original(files)

    monkeypatch.setattr(service.compiler, "set_files", set_files)
    (tmp_path / "a.toml").write_text(text(2))
    await eventually(lambda: bool(service.files_problems))
    assert "a fault of ours" in service.files_problems[0]
    assert service._files == before
    assert service.compiler.table(1) == table
    (tmp_path / "a.toml").write_text(text(3))
    await eventually(lambda: service._files.version == 3)
    assert service.files_problems == []


async def test_of_two_readings_the_newer_stays(
    service: EventService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that began before the files were edited, and ends after the edited ones were asked for, does
    not bring the text of before into force."""
    read, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def reading(path: str | Path, platforms: Any) -> MappingFiles:
        files = load_checked(path, platforms)
        if files.version == 2:
            loop.call_soon_threadsafe(read.set)
            go_on.wait(20)
        return files

    monkeypatch.setattr(module, "load_checked", reading)
    (tmp_path / "a.toml").write_text(text(2))
    slow = asyncio.create_task(service.publish_files())
    await read.wait()
    (tmp_path / "a.toml").write_text(text(3))
    quick = asyncio.create_task(service.publish_files())
    try:
        # Time enough for the second to overtake, if it could.
        await asyncio.wait({quick}, timeout=0.3)
    finally:
        go_on.set()
    assert await slow == await quick == []
    assert service._files.version == 3


async def test_a_link_to_nothing_hides_no_edit(service: EventService, tmp_path: Path) -> None:
    """An editor's lock beside the files, a link that leads nowhere, is none of them: edits are still seen,
    also of a file that is gone at the next look."""
    os.symlink("someone@somewhere.123:456", tmp_path / ".#a.toml")
    (tmp_path / "a.toml").write_text(text(2))
    await eventually(lambda: service._files.version == 2)
    (tmp_path / "b.toml").write_text("version = 5\n")
    await eventually(lambda: service._files.version == 5)
    (tmp_path / "b.toml").unlink()
    await eventually(lambda: service._files.version == 2)
    assert service.files_problems == []
