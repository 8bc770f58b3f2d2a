"""`wup track` and `wup untrack` against a running service."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from events.venue_rest import VenueRest, gamma_event, gamma_market
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.command import register
from wup.events.service import EventService
from wup.venues.polymarket.catalog import PolymarketCatalogue


@pytest.fixture
async def service(rest: VenueRest, redis_url: str, tmp_path: Path) -> AsyncIterator[EventService]:
    settings = Settings(mappings=str(tmp_path), events_http_port=0)
    catalogues = {"polymarket": PolymarketCatalogue(rest.urls)}
    running = EventService(settings, LocalBus(), redis_url, catalogues)
    await running.start()
    yield running
    await running.stop()


async def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `wup` with these arguments."""
    app = typer.Typer()
    register(app)
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    return result.exit_code, result.output


@pytest.mark.parametrize("slug", ["fed", "a/b.c ☃"])
async def test_track_and_untrack(service: EventService, rest: VenueRest, slug: str) -> None:
    """An event is followed and left by one command each, whatever its name holds."""
    rest.gamma[slug] = gamma_event(slug, [gamma_market(1), gamma_market(2)])
    url = f"http://127.0.0.1:{service.port}"
    code, output = await run("track", f"polymarket:{slug}", "--url", url)
    assert code == 0, output
    assert "2 markets" in output
    assert service.tracked == {("polymarket", slug)}
    code, output = await run("untrack", f"polymarket:{slug}", "--url", url)
    assert code == 0, output
    assert service.tracked == set()


async def test_reasons(service: EventService, rest: VenueRest) -> None:
    """What the service refuses, and a service that is not there, is said in words, with exit 2."""
    url = f"http://127.0.0.1:{service.port}"
    for arguments, reason in (
        (("track", "polymarket:nothing", "--url", url), "not found"),
        (("track", "nyse:x", "--url", url), "unknown platform"),
        (("track", "polymarket", "--url", url), "PLATFORM:EVENT"),
        (("untrack", "polymarket:fed", "--url", url), "not followed"),
        (("track", "polymarket:fed", "--url", "http://127.0.0.1:1"), "no event service"),
    ):
        code, output = await run(*arguments)
        assert code == 2, output
        assert reason in output


async def test_a_token_is_shown(
    rest: VenueRest, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the service asks for tokens: without one the command names the option, with one it works."""
    rest.gamma["fed"] = gamma_event("fed", [gamma_market(1)])
    digest = hashlib.sha256(b"secret").hexdigest()
    tokens, own = tmp_path / "tokens.json", tmp_path / "token"
    granted = f'{{"tokens": [{{"sha256": "{digest}", "scopes": [">"]}}]}}'
    for path, text in ((tokens, granted), (own, "secret")):
        path.write_text(text)
        path.chmod(0o600)
    settings = Settings(mappings=str(tmp_path), events_http_port=0, tokens_file=str(tokens))
    catalogues = {"polymarket": PolymarketCatalogue(rest.urls)}
    service = EventService(settings, LocalBus(), redis_url, catalogues)
    await service.start()
    try:
        url = f"http://127.0.0.1:{service.port}"
        code, output = await run("track", "polymarket:fed", "--url", url)
        assert (code, service.tracked) == (2, set())
        assert "--token-file" in output
        code, output = await run("track", "polymarket:fed", "--url", url, "--token-file", str(own))
        assert (code, service.tracked) == (0, {("polymarket", "fed")}), output
        monkeypatch.setenv("EVENTS_TOKEN_FILE", str(own))
        code, output = await run("untrack", "polymarket:fed", "--url", url)
        assert (code, service.tracked) == (0, set()), output
        own.chmod(0o644)
        code, output = await run("track", "polymarket:fed", "--url", url)
        assert (code, "--token-file" in output) == (2, True)
    finally:
        await service.stop()
