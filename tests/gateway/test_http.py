"""HTTP on the gateway's port: health, the page, forwarding; and snapshots over HTTP as a source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, FED_50, GAME, Engine
from wup.gateway import Gateway, HttpSource
from wup.gateway.source import SourceError


class Shard:
    """A small orderbook service over real HTTP, serving some books of the engine's store."""

    def __init__(self, engine: Engine, books: list[str]) -> None:
        self.engine = engine
        self.books = books
        self.fail_after: int | None = None
        self.url = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/snapshots")
        async def snapshots(match: str) -> Response:
            """All books, one per line, in awkward pieces."""
            lines = [
                self.engine.store.snapshot(book)
                for book in self.engine.store.books(match)
                if book in self.books
            ]
            if self.fail_after is not None:
                return JSONResponse({}, status_code=503)
            body = b"\n".join(lines)

            async def pieces() -> AsyncIterator[bytes]:
                for at in range(0, len(body), 700):
                    yield body[at : at + 700]

            return StreamingResponse(pieces(), media_type="application/x-ndjson")

        @app.get("/v1/books")
        async def listing(request: Request) -> Any:
            """A page of the list, as the orderbook service cuts it."""
            query = request.query_params
            limit, after = int(query.get("limit", "100")), query.get("after", "")
            if limit > 1000:
                return JSONResponse({"title": "limit"}, status_code=400)
            ids = sorted(book for book in self.books if book > after)
            page = ids[:limit]
            following = page[-1] if len(ids) > limit else None
            return {"books": [{"book": book} for book in page], "next": following}

        @app.get("/v1/books/{book}")
        async def one(book: str, request: Request) -> Response:
            """One book with an ETag."""
            if book not in self.books:
                return JSONResponse({"title": "unknown"}, status_code=404)
            if request.headers.get("if-none-match") == 'W/"1"':
                return Response(status_code=304)
            payload = self.engine.store.snapshot(book, depth=int(request.query_params.get("depth", "50")))
            return Response(payload, media_type="application/json", headers={"ETag": 'W/"1"'})

        return app


@pytest.fixture
async def shards(engine: Engine) -> AsyncIterator[list[Shard]]:
    """Two shards on free ports."""
    found: list[Shard] = []
    servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
    for books in ([FED_25, FED_50], [GAME]):
        shard = Shard(engine, books)
        config = uvicorn.Config(shard.app(), port=0, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve())
        async with asyncio.timeout(5):
            while not server.started:
                await asyncio.sleep(0.005)
        shard.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        found.append(shard)
        servers.append((server, task))
    yield found
    for server, task in servers:
        server.should_exit = True
        await task


def web(gateway: Gateway, **options: object) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.port}",
        trust_env=False,
        **options,  # type: ignore[arg-type]
    )


async def test_pages_over_shards_lose_nothing(shards: list[Shard], start: Starter) -> None:
    """A list cut into pages has every book of every shard once and in order, and no page is over its limit; a
    wrong question is told as the shards tell it."""
    shards[0].books = [f"a.{place}.yes" for place in range(4)] + ["y.1.yes"]
    shards[1].books = ["z.1.yes", "z.2.yes"]
    sharded = await start(orderbook_service_url=tuple(shard.url for shard in shards))
    async with web(sharded) as client:
        for limit in (1, 2, 3, 6, 7):
            found: list[str] = []
            query = f"limit={limit}"
            while True:
                body = (await client.get(f"/v1/books?{query}")).json()
                assert 0 < len(body["books"]) <= limit
                found += [row["book"] for row in body["books"]]
                if body["next"] is None:
                    break
                query = f"limit={limit}&after={body['next']}"
            assert found == sorted(shards[0].books + shards[1].books), limit
        assert (await client.get("/v1/books?limit=5000")).status_code == 400


async def test_health_and_page(gateway: Gateway) -> None:
    """`/healthz` says only ok, `/readyz` says ready, `/` is a page; every answer has the safe headers."""
    async with web(gateway) as client:
        health = await client.get("/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "<title>WUP" in page.text
        module = await client.get("/wup.js")
        assert module.headers["content-type"].startswith("text/javascript")
        assert "export" in module.text
        for answer in (health, page):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers
            assert "server" not in answer.headers


async def test_not_ready_without_marks(engine: Engine, start: Starter) -> None:
    """Before any mark `/readyz` is 503 and says why."""
    engine.muted = True
    gateway = await start()
    async with web(gateway) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "no_marks" in answer.json()["reasons"]


async def test_errors_are_problems(gateway: Gateway) -> None:
    """Unknown paths, wrong methods, a foreign Host and a plain request to /ws get RFC 9457 answers."""
    async with web(gateway) as client:
        cases = [
            (await client.get("/nothing"), 404),
            (await client.post("/healthz"), 405),
            (await client.delete("/v1/books"), 405),
            (await client.get("/healthz", headers={"Host": "evil.example"}), 421),
            (await client.get("/ws"), 426),
            (await client.get("/v1/books"), 502),
        ]
        for answer, status in cases:
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


async def test_forwarding(engine: Engine, start: Starter, shards: list[Shard]) -> None:
    """Books and lists come from the shard that has them, with ETag and 304 passed on."""
    gateway = await start(orderbook_service_url=tuple(shard.url for shard in shards))
    async with web(gateway) as client:
        for book in (FED_25, GAME):
            answer = await client.get(f"/v1/books/{book}", params={"depth": 5})
            assert answer.status_code == 200
            assert answer.json()["book"] == book
            assert answer.json()["depth"] == 5
            assert answer.headers["etag"] == 'W/"1"'
            again = await client.get(f"/v1/books/{book}", headers={"If-None-Match": 'W/"1"'})
            assert again.status_code == 304
        assert (await client.get("/v1/books/a.b.yes")).status_code == 404
        listed = (await client.get("/v1/books")).json()
        assert [entry["book"] for entry in listed["books"]] == sorted([FED_25, FED_50, GAME])


async def test_cors_only_for_listed_origins(engine: Engine, start: Starter) -> None:
    """Another origin may read only when it is in ALLOWED_ORIGINS, to the letter."""
    gateway = await start(allowed_origins=("https://app.example",))
    async with web(gateway) as client:
        good = await client.get("/healthz", headers={"Origin": "https://app.example"})
        assert good.headers["access-control-allow-origin"] == "https://app.example"
        for origin in ("https://app.example.evil", "http://app.example", "https://app.example:8443", "null"):
            answer = await client.get("/healthz", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers


async def test_mirror_filled_over_http(
    engine: Engine, start: Starter, shards: list[Shard], dial: Opener
) -> None:
    """A gateway in a process of its own fills its mirror from every shard's `/v1/snapshots`."""
    gateway = await start(source=HttpSource([shard.url for shard in shards]))
    engine.marks()
    await ready(gateway)
    client = await dial(gateway)
    assert (await client.op("subscribe", books=[">"]))["matched"] == 3
    engine.update("kalshi", "KXNBA-LAL", [["0.41", "7"]], [])
    await client.until(lambda: client.count == 4)
    assert set(client.verdicts) == {"ok"}


async def test_http_source_tells_failures(engine: Engine, shards: list[Shard]) -> None:
    """A shard that fails or is not there is an error after what the others gave."""
    shards[1].fail_after = 0
    got: list[bytes] = []

    async def read(urls: list[str]) -> None:
        async for line in HttpSource(urls).stream(">"):
            got.append(line)  # noqa: PERF401

    with pytest.raises(SourceError, match="503"):
        await read([shard.url for shard in shards])
    assert len(got) == 2
    with pytest.raises(SourceError):
        await read(["http://127.0.0.1:1"])
