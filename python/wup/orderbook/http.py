"""The orderbook service's HTTP interface (wire.md section 5)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

from wup import __version__, problem
from wup._core import CoreError, UnknownBook, format_micro
from wup.access import Access
from wup.http_guard import HttpGuard
from wup.http_server import HttpServer
from wup.orderbook.shard import shard_of
from wup.orderbook.view import aggregate_view, bbo_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wup._core import Book
    from wup.orderbook.service import OrderbookService

_MICRO = Decimal(1_000_000)
_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_SNAPSHOTS_PER_CHUNK = 64


def decimal_text(value: Decimal) -> str:
    """Shortest exact text of a price or size."""
    return format_micro(int(value * _MICRO))


def _json(body: object, **headers: str) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={**_NO_STORE, **headers})


def summary(book: Book) -> dict[str, object]:
    """One row of `GET /v1/books`."""
    bid, ask = book.best_bid, book.best_ask
    return {
        "book": book.id,
        "epoch": book.epoch,
        "seq": book.seq,
        "digest": book.digest,
        "state": book.state,
        "crossed": book.crossed,
        "best_bid": None if bid is None else [decimal_text(bid.price), decimal_text(bid.size)],
        "best_ask": None if ask is None else [decimal_text(ask.price), decimal_text(ask.size)],
        "legs": book.legs,
    }


class OrderbookHttp:
    """Serves one `OrderbookService`.

    Args:
        ready: reason codes why the service cannot serve; empty = ready.
        warnings: codes of what is wrong beside it, told by `/readyz`.
        access: who may ask; without it, this machine by its own names.
    """

    def __init__(
        self,
        service: OrderbookService,
        host: str,
        port: int,
        *,
        setting: str = "HTTP_PORT",
        ready: Callable[[], list[str]] | None = None,
        warnings: Callable[[], list[str]] | None = None,
        access: Access | None = None,
    ) -> None:
        self._service = service
        self._ready = ready if ready is not None else list
        self._warnings = warnings if warnings is not None else list
        self.app = self._application()
        own = Access(("localhost", "127.0.0.1", "[::1]", host), ())
        guarded = HttpGuard(self.app, access if access is not None else own)
        self._server = HttpServer(guarded, host, port, setting)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._server.port

    async def start(self) -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken.
        """
        await self._server.start()

    async def stop(self) -> None:
        """Close."""
        await self._server.stop()

    def _application(self) -> FastAPI:
        service = self._service
        store = service.store
        app = FastAPI(title="WUP orderbook", version=__version__, docs_url=None, redoc_url=None)
        problem.install(app)

        def known(book: str) -> str:
            stem, _, token = book.rpartition(".")
            if token not in ("yes", "no") or not store.books(f"{stem}.yes"):
                right = shard_of(book.split(".", 1)[0], service.shards)
                if right != service.shard:
                    raise HTTPException(421, f"{book[:200]} belongs to shard {right}/{service.shards}")
                raise HTTPException(404, f"no book {book[:200]!r}")
            return book

        def matching(pattern: str) -> list[str]:
            try:
                return store.books(pattern)
            except (CoreError, ValueError) as error:
                raise HTTPException(400, f"match: {error}") from None

        @app.get("/v1/books")
        async def books(
            match: str = ">",
            asset: str | None = None,
            limit: Annotated[int, Query(ge=1, le=1000)] = 100,
            after: str | None = None,
        ) -> Response:
            if asset is not None:
                platform, colon, asset_id = asset.partition(":")
                if not colon:
                    raise HTTPException(400, "asset: must be platform:asset_id")
                ids = sorted(
                    {
                        leg.book
                        for leg in service.table.legs
                        if leg.platform == platform and leg.asset_id == asset_id
                    }
                )
            else:
                # In text order, whatever order the mapping had: `after` compares text.
                ids = sorted(matching(match))
            if after is not None:
                ids = [book for book in ids if book > after]
            page = ids[:limit]
            rows = [summary(store.book(book)) for book in page]
            return _json({"books": rows, "next": page[-1] if len(ids) > limit else None})

        @app.get("/v1/books/{book}")
        async def one(
            book: str,
            depth: Annotated[int | None, Query(ge=1, le=10_000)] = None,
            if_none_match: Annotated[str | None, Header()] = None,
        ) -> Response:
            view = store.book(known(book))
            etag = f'W/"{view.epoch}-{view.seq}-{depth or 0}"'
            if if_none_match == etag:
                return Response(status_code=304, headers={"ETag": etag})
            if view.state == "down":
                return problem.problem(503, f"no leg of {book} is live", book=book, state="down")
            body = store.snapshot(book, depth, "subscribe", service.now_us())
            return Response(body, media_type="application/json", headers={**_NO_STORE, "ETag": etag})

        @app.get("/v1/snapshots")
        async def snapshots(match: str = ">") -> Response:
            ids = matching(match)
            return StreamingResponse(lines(ids), media_type="application/x-ndjson", headers=_NO_STORE)

        async def lines(ids: list[str]) -> AsyncIterator[bytes]:
            for start in range(0, len(ids), _SNAPSHOTS_PER_CHUNK):
                now_us = service.now_us()
                chunk: list[bytes] = []
                for book in ids[start : start + _SNAPSHOTS_PER_CHUNK]:
                    try:
                        chunk.append(store.snapshot(book, None, "resync", now_us))
                    except UnknownBook:
                        # Evicted since the list was made.
                        continue
                if chunk:
                    yield b"\n".join(chunk) + b"\n"

        @app.get("/v1/bbo/{book}")
        async def bbo(book: str) -> Response:
            view = store.book(known(book))
            if view.state == "down":
                return problem.problem(503, f"no leg of {book} is live", book=book, state="down")
            return _json(bbo_view(view, decimal_text))

        @app.get("/v1/aggregates")
        async def aggregates(
            limit: Annotated[int, Query(ge=1, le=1000)] = 100, after: str | None = None
        ) -> Response:
            ids = sorted({info.aggregate for info in service.table.books.values()})
            if after is not None:
                ids = [one for one in ids if one > after]
            page = ids[:limit]
            rows: list[dict[str, Any]] = [aggregate_view(service.table, one, legs=False) for one in page]
            return _json({"aggregates": rows, "next": page[-1] if len(ids) > limit else None})

        @app.get("/v1/aggregates/{aggregate}")
        async def aggregate(aggregate: str) -> Response:
            view = aggregate_view(service.table, aggregate, legs=True)
            if not view["markets"]:
                raise HTTPException(404, f"no aggregate {aggregate[:200]!r}")
            return _json(view)

        @app.get("/healthz")
        async def healthz() -> Response:
            return _json({"status": "ok"})

        @app.get("/readyz")
        async def readyz() -> Response:
            reasons, warnings = self._ready(), self._warnings()
            # A warning does not make books wrong: it is told, and the answer stays what it is.
            told: dict[str, Any] = {"warnings": warnings} if warnings else {}
            if reasons:
                return problem.problem(503, "not ready", reasons=reasons, **told)
            return _json({"status": "ready", **told})

        return app
