"""Who may ask the orderbook service's HTTP interface, and how the gateway does."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

from orderbook.feeding import BOOK, Feed, leg, table
from wup import access as accesses
from wup.access import Access
from wup.clock import ManualClock
from wup.config import Settings
from wup.errors import SettingsError
from wup.gateway.app import Upstream
from wup.gateway.source import HttpSource, SourceError
from wup.orderbook import OrderbookHttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FULL, FED, OLD = "token-for-everything", "token-for-fed-only", "token-that-is-over"
K = leg("kalshi", "KXFED-26DEC-C25", tick="0.01", min_size="0.01")


def write_tokens(path: Path, *tokens: tuple[str, str, int | None]) -> str:
    entries = [
        {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": [scope], "expires": expires}
        for token, scope, expires in tokens
    ]
    path.write_bytes(orjson.dumps({"tokens": entries}))
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    """Three tokens: everything, one aggregate, expired."""
    return write_tokens(tmp_path / "tokens", (FULL, ">", None), (FED, "fed-2026-12.>", None), (OLD, ">", 1))


@asynccontextmanager
async def serving(access: Access | None) -> AsyncIterator[str]:
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
        http = OrderbookHttp(feed.service, "127.0.0.1", 0, access=access)
        await http.start()
        try:
            yield f"http://127.0.0.1:{http.port}"
        finally:
            await http.stop()


async def statuses(url: str, *asked: dict[str, str], path: str = "/v1/books") -> list[int]:
    async with httpx2.AsyncClient(base_url=url) as client:
        answers = [await client.get(path, headers=headers) for headers in asked]
    for answer in answers:
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
    return [answer.status_code for answer in answers]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("given", [True, False])
async def test_foreign_hosts_and_origins_are_refused(given: bool) -> None:
    """A rebound name is 421 and another site's page 403, with the settings' lists and without any."""
    access = Access.of(Settings(allowed_hosts=("127.0.0.1", "books.example"))) if given else None
    own: dict[str, Any] = {"Host": "books.example:80"} if given else {"Host": "localhost"}
    async with serving(access) as url:
        assert await statuses(
            url,
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ) == [421, 421, 403, 403]
        assert await statuses(url, {}, own, {"Origin": url}) == [200, 200, 200]
        assert await statuses(url, {"Host": "evil.example"}, path="/healthz") == [421]


async def test_tokens_are_asked_for_if_there_are_any(tokens_file: str) -> None:
    """With TOKENS_FILE only a valid token for everything reads `/v1`; health needs none."""
    async with serving(Access.of(Settings(tokens_file=tokens_file))) as url:
        asked = [{}, bearer("wrong"), bearer(OLD), bearer(FED), {"Authorization": f"Basic {FULL}"}]
        assert await statuses(url, *asked) == [401] * 5
        for path in ("/v1/books", f"/v1/books/{BOOK}", "/v1/snapshots", "/v1/aggregates"):
            assert await statuses(url, {}, bearer(FULL), path=path) == [401, 200]
        assert await statuses(url, {}, path="/healthz") == [200]
        assert await statuses(url, {}, path="/readyz") == [200]


def test_a_removed_token_is_refused_within_seconds(tmp_path: Path) -> None:
    """The file is read again when it changes, and one that others can read revokes everything."""
    path = tmp_path / "tokens"
    write_tokens(path, (FULL, ">", None), (FED, "*.*.yes", None))
    clock = ManualClock()
    access = Access(("h",), (), accesses.TokensFile(str(path), accesses.Grant), clock)

    def status(token: str) -> int | None:
        headers = [(b"host", b"h"), (b"authorization", f"Bearer {token}".encode())]
        refused = access.refusal("/v1/books", headers)
        return None if refused is None else refused.status_code

    assert (status(FULL), status(FED)) == (None, None)
    write_tokens(path, (FED, ">", None))
    clock.advance(2)
    assert (status(FULL), status(FED)) == (401, None)
    path.chmod(0o644)
    write_tokens(path, (FED, ">", None), (OLD, ">", None))
    path.chmod(0o644)
    clock.advance(2)
    assert status(FED) == 401


async def test_the_gateway_shows_its_token(tokens_file: str) -> None:
    """Mirrors and passed-on requests of a gateway with ORDERBOOK_TOKEN_FILE are served; without it both fail
    and say so."""
    async with serving(Access.of(Settings(tokens_file=tokens_file))) as url:
        lines = [line async for line in HttpSource([url], token=FULL).stream(">")]
        assert [orjson.loads(line)["book"] for line in lines] == [BOOK]
        with pytest.raises(SourceError, match="401"):
            _ = [line async for line in HttpSource([url]).stream(">")]
        for token, status in ((FULL, 200), (None, 502)):
            upstream = Upstream([url], token)
            try:
                assert (await upstream.get("/v1/books", "", {})).status_code == status
            finally:
                await upstream.close()


async def test_the_gateway_asks_every_shard() -> None:
    """A shard that answers 421 for another's book is passed over, in either order."""
    async with Feed(shard=(0, 2)) as zero, Feed(shard=(1, 2)) as one:
        services = [OrderbookHttp(feed.service, "127.0.0.1", 0) for feed in (zero, one)]
        for feed, service in zip((zero, one), services, strict=True):
            await feed.start(table(K))
            feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
            await service.start()
        urls = [f"http://127.0.0.1:{service.port}" for service in services]
        try:
            for order, path, status in (
                (urls, BOOK, 200),
                (urls[::-1], BOOK, 200),
                (urls, "no-such.21a66bf6c52cc37d.yes", 404),
                (urls[::-1], "no-such.21a66bf6c52cc37d.yes", 404),
            ):
                upstream = Upstream(order)
                assert (await upstream.get(f"/v1/books/{path}", "", {})).status_code == status
                await upstream.close()
        finally:
            for service in services:
                await service.stop()


def test_the_token_of_the_gateway_is_a_private_file(tmp_path: Path) -> None:
    """ORDERBOOK_TOKEN_FILE holds one token, mode 0600; anything else is a settings error that names it."""
    path = tmp_path / "token"
    settings = Settings(orderbook_token_file=str(path))
    with pytest.raises(SettingsError, match="ORDERBOOK_TOKEN_FILE"):
        settings.orderbook_token()
    path.write_text(f"{FULL}\n")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        settings.orderbook_token()
    path.chmod(0o600)
    assert settings.orderbook_token() == FULL
    path.write_text("two\ntokens")
    with pytest.raises(SettingsError, match="one token"):
        settings.orderbook_token()
    assert Settings().orderbook_token() is None
