"""HTTP beside the WebSocket: health, the page, and the orderbook service's answers from one origin."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx2
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations
from fastapi.responses import JSONResponse, Response

from wup.gateway.asyncapi import document
from wup.http_docs import documented
from wup.problem import problem
from wup.web import CONTENT_SECURITY_POLICY, assets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fastapi import FastAPI

    from wup.web import Asset

_TIMEOUT_S = 5.0
_LIMIT = 100
"""Entries of a page where the question names no `limit` (wire.md section 5)."""
_PASS_ON = ("etag", "content-type", "retry-after", "link")
_ASK = ("if-none-match", "accept")
_MAX_ANSWER = 16 * 1024 * 1024
_WRONG_QUESTION = (400, 422)


class Upstream:
    """The orderbook service, all its shards; `token` is shown to it (ORDERBOOK_TOKEN_FILE)."""

    def __init__(self, urls: Sequence[str], token: str | None = None) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        own = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=own)

    async def get(self, path: str, query: str, headers: dict[str, str]) -> Response:
        """Ask the shards in turn; the first that knows the thing answers."""
        last: Response | None = None
        for url in self._urls:
            address = f"{url}{path}" + (f"?{query}" if query else "")
            try:
                answer = await self._client.get(address, headers=headers)
            except httpx2.HTTPError as error:
                last = problem(502, f"orderbook service: {type(error).__name__}")
                continue
            if answer.status_code == httpx2.codes.UNAUTHORIZED:
                # The gateway's token, not the client's: it has shown that it may ask.
                return problem(502, "orderbook service: token refused (ORDERBOOK_TOKEN_FILE)")
            if answer.status_code == httpx2.codes.MISDIRECTED_REQUEST:
                # Another shard's book, or a name that the service does not go by.
                last = last or problem(502, "orderbook service: misdirected request")
                continue
            passed = {name: answer.headers[name] for name in _PASS_ON if name in answer.headers}
            if len(answer.content) > _MAX_ANSWER:
                return problem(502, "orderbook service: answer too large")
            last = Response(answer.content, status_code=answer.status_code, headers=passed)
            if answer.status_code != httpx2.codes.NOT_FOUND:
                return last
        return last or problem(502, "no orderbook service")

    async def get_list(self, path: str, query: str, headers: dict[str, str], key: str) -> Response:
        """A list that every shard has a part of, merged in id order."""
        if len(self._urls) == 1:
            return await self.get(path, query, headers)
        merged: list[dict[str, object]] = []
        more = False
        wanted = parse_qs(query).get("limit", [""])[-1]
        for url in self._urls:
            try:
                answer = await self._client.get(f"{url}{path}" + (f"?{query}" if query else ""))
                if answer.status_code in _WRONG_QUESTION:
                    # The question is wrong, and every shard says so.
                    passed = {key: answer.headers[key] for key in _PASS_ON if key in answer.headers}
                    return Response(answer.content, status_code=answer.status_code, headers=passed)
                answer.raise_for_status()
                body = answer.json()
                merged.extend(body[key])
                more = more or bool(body.get("next"))
            except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
                # Half a list would look like a whole one.
                return problem(502, f"orderbook service: {type(error).__name__}")
        name = "book" if key == "books" else "id"
        merged.sort(key=lambda item: str(item.get(name, "")))
        # A shard that cut its page has more behind its last id: nothing after the first `limit` is complete.
        limit = int(wanted) if wanted.isascii() and wanted.isdigit() else _LIMIT
        more = more or len(merged) > limit
        merged = merged[:limit]
        following = merged[-1].get(name) if more and merged else None
        return JSONResponse({key: merged, "next": following})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def needs_no_token(path: str) -> bool:
    """Health, the page and its files, and the documents of the interfaces say nothing about books."""
    return not path.startswith("/v1/")


def build(upstream: Upstream, problems: Callable[[], list[str]]) -> FastAPI:
    """The application; `problems` names why the gateway is not ready."""
    app = documented("WUP gateway")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is up."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Ready to serve exact books, or 503 with reason codes."""
        reasons = problems()
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
        return JSONResponse({"status": "ready"})

    for path, asset in assets().items():
        app.add_api_route(path, _serving(asset), include_in_schema=False)

    @app.get("/asyncapi.json", include_in_schema=False)
    async def described(request: Request) -> JSONResponse:
        """The WebSocket's messages as an AsyncAPI document."""
        return JSONResponse(document(request.headers["host"]))

    @app.get("/ws", include_in_schema=False)
    async def upgrade() -> Response:
        """A plain request where a WebSocket is."""
        return problem(426, "this is a WebSocket", headers={"Upgrade": "websocket"})

    @app.get("/v1/books")
    async def books(request: Request) -> Response:
        """Books of all shards, from the orderbook service."""
        return await upstream.get_list("/v1/books", request.url.query, _headers(request), "books")

    @app.get("/v1/books/{book}")
    async def book(request: Request) -> Response:
        """One book, YES or NO."""
        return await upstream.get(_path(request), request.url.query, _headers(request))

    @app.get("/v1/aggregates")
    async def aggregates(request: Request) -> Response:
        """Aggregates of all shards."""
        return await upstream.get_list("/v1/aggregates", request.url.query, _headers(request), "aggregates")

    @app.get("/v1/aggregates/{aggregate}")
    async def aggregate(request: Request) -> Response:
        """One aggregate."""
        return await upstream.get(_path(request), request.url.query, _headers(request))

    return app


def _serving(asset: Asset) -> Callable[[], Awaitable[Response]]:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "ETag": asset.etag}

    async def serve() -> Response:
        return Response(asset.body, media_type=asset.content_type, headers=headers)

    return serve


def _headers(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _ASK if name in request.headers}


def _path(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii").partition("?")[0]
