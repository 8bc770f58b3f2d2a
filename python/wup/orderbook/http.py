"""The orderbook service's HTTP interface (wire.md section 5). Bodies of books are encoded by the core."""

from __future__ import annotations

import asyncio
import contextlib
import re
from bisect import bisect_right
from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import Header, HTTPException, Path, Query, Response
from fastapi.responses import StreamingResponse

from wup import problem
from wup._core import CoreError, UnknownBook
from wup.access import Access
from wup.http_docs import documented, problems
from wup.http_guard import HttpGuard
from wup.http_plain import PlainRequests
from wup.http_server import HttpServer
from wup.metrics import LATENCY
from wup.orderbook import bodies
from wup.orderbook.shard import shard_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from fastapi import FastAPI
    from starlette.types import Scope

    from wup.orderbook.service import OrderbookService

_SNAPSHOTS_PER_CHUNK = 8
"""Books written in one turn of the loop: some hundred microseconds of it."""

_LONGEST_ID = 200
BookId = Annotated[str, Path(description="`{aggregate}.{market}.yes` or `.no`", max_length=_LONGEST_ID)]
Pattern = Annotated[str, Query(description="NATS rules over the three parts of a book id", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(description="`next` of the page before", max_length=200)]


_OF_A_BOOK = problems(
    _404="no such book",
    _421="the book belongs to another shard, which the answer names",
    _503="no leg of the book is live",
)
_DEPTH = re.compile(rb"(?:depth=([1-9][0-9]{0,3}))?")


class Json(Response):
    """A body that is JSON already."""

    media_type = "application/json"


class BookRequests:
    """Requests for one book, which are nearly all, past FastAPI's reading of parameters. Parameters that this
    does not know are the application's.

    Args:
        answers: by the beginning of a path, what answers for a book, a depth and an `If-None-Match`.
        nobody: why there is no such book.
    """

    def __init__(
        self, answers: Mapping[str, Callable[..., Response]], nobody: Callable[[str], HTTPException]
    ) -> None:
        self._answers = answers
        self._nobody = nobody

    def known(self, scope: Scope) -> Callable[[], Response] | None:
        """What answers a GET."""
        start, slash, book = scope["path"].rpartition("/")
        answer = self._answers.get(start + slash)
        query = _DEPTH.fullmatch(scope["query_string"])
        etags = [value for name, value in scope["headers"] if name == b"if-none-match"]
        if answer is None or query is None or len(etags) > 1 or not 0 < len(book) <= _LONGEST_ID:
            return None
        depth = None if query[1] is None else int(query[1])
        etag = etags[0].decode("latin-1") if etags else None

        def answering() -> Response:
            try:
                return answer(book, depth, etag)
            except UnknownBook:
                error = self._nobody(book)
                return problem.problem(error.status_code, error.detail)

        return answering


def _json(body: object) -> Response:
    return Json(orjson.dumps(body))


def _down(book: str) -> Response:
    return problem.problem(503, f"no leg of {book} is live", book=book, state="down")


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
        self._latency = LATENCY.stage("orderbook_http")
        self.app = documented("WUP orderbook")
        self._books(self.app)
        self._aggregates(self.app)
        self._health(self.app)
        own = Access(("localhost", "127.0.0.1", "[::1]", host), ())
        guarded = HttpGuard(self.app, access if access is not None else own)
        of_books = BookRequests({"/v1/books/": self._snapshot, "/v1/bbo/": self._bbo}, self._nobody)
        plain = PlainRequests(guarded, of_books.known)
        self._server = HttpServer(guarded, host, port, setting, plain=plain)

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

    def _nobody(self, book: str) -> HTTPException:
        """Why there is no such book here."""
        service = self._service
        aggregate, _, rest = book.partition(".")
        right = shard_of(aggregate, service.shards)
        if rest and right != service.shard:
            return HTTPException(421, f"{book[:200]} belongs to shard {right}/{service.shards}")
        return HTTPException(404, f"no book {book[:200]!r}")

    def _matching(self, pattern: str) -> list[str]:
        try:
            return self._service.store.books(pattern)
        except (CoreError, ValueError) as error:
            raise HTTPException(400, f"match: {error}") from None

    # --- books -------------------------------------------------------------------------------------

    def _snapshot(self, book: str, depth: int | None = None, if_none_match: str | None = None) -> Response:
        store, now_us, started = self._service.store, self._service.now_us(), perf_counter_ns()
        view = store.book(book, now_us)
        etag = f'W/"{view.epoch}-{view.seq}-{depth or 0}"'
        if if_none_match == etag:
            return Response(status_code=304, headers={"ETag": etag})
        if view.state == "down":
            return _down(book)
        answer = Json(store.snapshot(book, depth, "subscribe", now_us), headers={"ETag": etag})
        self._latency.observe((perf_counter_ns() - started) // 1000)
        return answer

    def _bbo(self, book: str, depth: int | None = None, if_none_match: str | None = None) -> Response:
        store = self._service.store
        return (
            _down(book) if store.book(book).state == "down" else Json(store.bbo(book, self._service.now_us()))
        )

    def _books(self, app: FastAPI) -> None:
        service, store = self._service, self._service.store

        @app.get(
            "/v1/books",
            summary="Books by pattern or asset: identity, state, best prices, legs",
            responses={200: {"model": bodies.Rows}},
        )
        async def books(
            match: Pattern = ">",
            asset: Annotated[str | None, Query(description="`platform:asset_id`")] = None,
            limit: Limit = 100,
            after: After = None,
        ) -> Response:
            if asset is not None:
                platform, colon, asset_id = asset.partition(":")
                if not colon:
                    raise HTTPException(400, "asset: must be platform:asset_id")
                ids = service.contents.books_of(platform, asset_id)
            else:
                # In text order, whatever order the mapping had: `after` compares text.
                ids = sorted(self._matching(match))
            if after is not None:
                ids = [book for book in ids if book > after]
            page, now_us = ids[:limit], service.now_us()
            following = orjson.dumps(page[-1] if len(ids) > limit else None)
            return Json(b'{"books":[' + b",".join(rows(page, now_us)) + b'],"next":' + following + b"}")

        def rows(ids: list[str], now_us: int) -> Iterator[bytes]:
            for book in ids:
                # A resolved book may have left since the list was made, and an asset still name it.
                with contextlib.suppress(UnknownBook):
                    yield store.row(book, now_us)

        @app.get(
            "/v1/books/{book}",
            summary="The snapshot message of a book, YES or NO by its id",
            responses={
                200: {"model": bodies.Snapshot},
                304: {"description": "the book of this ETag is the present one"},
                **_OF_A_BOOK,
            },
        )
        async def one(
            book: BookId,
            depth: Annotated[int | None, Query(ge=1, le=10_000)] = None,
            if_none_match: Annotated[str | None, Header()] = None,
        ) -> Response:
            try:
                return self._snapshot(book, depth, if_none_match)
            except UnknownBook:
                raise self._nobody(book) from None

        @app.get(
            "/v1/snapshots",
            summary="Whole books, one snapshot message per line",
            responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
            response_class=StreamingResponse,
        )
        async def snapshots(match: Pattern = ">") -> Response:
            return StreamingResponse(lines(self._matching(match)), media_type="application/x-ndjson")

        async def lines(ids: list[str]) -> AsyncIterator[bytes]:
            for start in range(0, len(ids), _SNAPSHOTS_PER_CHUNK):
                chunk = store.lines(ids[start : start + _SNAPSHOTS_PER_CHUNK], "resync", service.now_us())
                if chunk:
                    yield chunk
                # The stream goes first. Each line is its own book at one moment, whatever comes in between.
                await asyncio.sleep(0)

        @app.get(
            "/v1/bbo/{book}",
            summary="Best bid and ask with the legs behind them, and the size at a crossing",
            responses={200: {"model": bodies.Bbo}, **_OF_A_BOOK},
        )
        async def bbo(book: BookId) -> Response:
            try:
                return self._bbo(book)
            except UnknownBook:
                raise self._nobody(book) from None

    # --- aggregates --------------------------------------------------------------------------------

    def _aggregates(self, app: FastAPI) -> None:
        service = self._service

        @app.get(
            "/v1/aggregates",
            summary="Events with their markets",
            responses={200: {"model": bodies.Aggregates}},
        )
        async def aggregates(limit: Limit = 100, after: After = None) -> Response:
            ids = service.contents.aggregates
            if after is not None:
                ids = ids[bisect_right(ids, after) :]
            page = ids[:limit]
            rows = [service.contents.aggregate(one, legs=False) for one in page]
            return _json({"aggregates": rows, "next": page[-1] if len(ids) > limit else None})

        @app.get(
            "/v1/aggregates/{aggregate}",
            summary="An event with its markets and their legs",
            responses={200: {"model": bodies.Aggregate}, **problems(_404="no such aggregate")},
        )
        async def aggregate(aggregate: Annotated[str, Path(max_length=200)]) -> Response:
            view = service.contents.aggregate(aggregate, legs=True)
            if not view["markets"]:
                raise HTTPException(404, f"no aggregate {aggregate[:200]!r}")
            return _json(view)

        @app.get(
            "/v1/disagreements",
            summary="Merged books whose venues have disagreed for a minute",
            responses={200: {"model": bodies.DisagreementList}},
        )
        async def disagreements() -> Response:
            return _json({"disagreements": service.agreement.listed()})

    # --- health ------------------------------------------------------------------------------------

    def _health(self, app: FastAPI) -> None:
        @app.get("/healthz", summary="The process is up", responses={200: {"model": bodies.Health}})
        async def healthz() -> Response:
            return _json({"status": "ok"})

        @app.get(
            "/readyz",
            summary="Can it serve? 503 with reason codes while it cannot",
            responses={200: {"model": bodies.Health}, **problems(_503="not ready; `reasons` has the codes")},
        )
        async def readyz() -> Response:
            reasons = self._ready()
            warnings = [*self._warnings(), *self._service.warnings()]
            # A warning does not make books wrong: it is told, and the answer stays what it is.
            told: dict[str, Any] = {"warnings": warnings} if warnings else {}
            if reasons:
                return problem.problem(503, "not ready", reasons=reasons, **told)
            return _json({"status": "ready", **told})
