"""A small venue REST server for the tests: Gamma, CLOB and Kalshi answers from dictionaries, with faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wup.http_server import HttpServer


def token(number: int) -> str:
    """A token id as long as the venue's."""
    return str(10**76 + number)


def gamma_market(number: int, **changes: Any) -> dict[str, Any]:
    """One market as Gamma shows it."""
    return {
        "id": str(900_000 + number),
        "question": f"Will outcome {number} happen?",
        "conditionId": f"0x{number:064x}",
        "slug": f"outcome-{number}",
        "groupItemTitle": f"Outcome {number}",
        "description": f"Pays if outcome {number} happens.",
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0.5", "0.5"]',
        "clobTokenIds": json.dumps([token(2 * number), token(2 * number + 1)]),
        "active": True,
        "closed": False,
        "acceptingOrders": True,
        "enableOrderBook": True,
        "negRisk": True,
        "orderPriceMinTickSize": 0.001,
        "orderMinSize": 5,
        "endDate": "2026-12-17T00:00:00Z",
        **changes,
    }


def gamma_event(slug: str, markets: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """One event as Gamma shows it."""
    return {
        "id": "1",
        "slug": slug,
        "title": f"Event {slug}",
        "negRisk": True,
        "endDate": "2026-12-17T00:00:00Z",
        "markets": markets,
        **changes,
    }


def kalshi_market(ticker: str, /, **changes: Any) -> dict[str, Any]:
    """One market as Kalshi shows it."""
    return {
        "ticker": ticker,
        "event_ticker": ticker.rsplit("-", 1)[0],
        "market_type": "binary",
        "status": "active",
        "yes_sub_title": ticker.rsplit("-", 1)[1],
        "title": f"Will {ticker} happen?",
        "rules_primary": f"If {ticker} happens, then Yes.",
        "rules_secondary": "Some fine print.",
        "close_time": "2026-12-16T19:00:00Z",
        "notional_value_dollars": "1.0000",
        "price_level_structure": "linear_cent",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
        "result": "",
        **changes,
    }


def kalshi_event(ticker: str, markets: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """One event as Kalshi shows it."""
    return {
        "event_ticker": ticker,
        "series_ticker": ticker.split("-")[0],
        "title": f"Event {ticker}",
        "category": "Economics",
        "mutually_exclusive": True,
        "markets": markets,
        **changes,
    }


@dataclass
class VenueRest:
    """Both venues' REST on one loopback port. Change the dictionaries while it runs."""

    gamma: dict[str, dict[str, Any]] = field(default_factory=dict)
    clob: dict[str, dict[str, Any]] = field(default_factory=dict)
    kalshi: dict[str, dict[str, Any]] = field(default_factory=dict)
    series: dict[str, dict[str, Any]] = field(default_factory=dict)
    exchange: dict[str, Any] | None = None
    """Kalshi's `status` and `schedule`."""
    fault: Response | None = None
    """Answer everything with this."""
    once: list[Response] = field(default_factory=list)
    """Answers given first, one request each."""
    hits: Counter[str] = field(default_factory=Counter)
    page: int = 2

    async def start(self) -> None:
        routes = [
            Route("/gamma/events/slug/{slug:path}", self._gamma_event),
            Route("/gamma/events/keyset", self._gamma_list),
            Route("/clob/clob-markets/{condition}", self._clob_market),
            Route("/kalshi/events/{ticker:path}", self._kalshi_event),
            Route("/kalshi/events", self._kalshi_list),
            Route("/kalshi/series/{ticker}", self._kalshi_series),
            Route("/kalshi/exchange/{what}", self._kalshi_exchange),
        ]
        self._server = HttpServer(Starlette(routes=routes), "127.0.0.1", 0, "TEST_PORT")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    def reset(self) -> None:
        """Nothing listed, no fault, nothing counted."""
        for listing in (self.gamma, self.clob, self.kalshi, self.series, self.once, self.hits):
            listing.clear()
        self.fault = self.exchange = None
        self.page = 2

    @property
    def urls(self) -> SimpleNamespace:
        """Settings of both venues."""
        base = f"http://127.0.0.1:{self._server.port}"
        return SimpleNamespace(
            polymarket_gamma_url=f"{base}/gamma",
            polymarket_clob_url=f"{base}/clob",
            kalshi_api_url=f"{base}/kalshi/",
        )

    def _answer(self, kind: str, body: object) -> Response:
        self.hits[kind] += 1
        if self.once:
            return self.once.pop(0)
        if self.fault is not None:
            return self.fault
        if body is None:
            return Response('{"error":"not found"}', 404)
        text = body if isinstance(body, str) else json.dumps(body)
        return Response(text, media_type="application/json")

    async def _gamma_event(self, request: Request) -> Response:
        return self._answer("gamma", self.gamma.get(request.path_params["slug"]))

    async def _gamma_list(self, request: Request) -> Response:
        # As the venue does: another name than `after_cursor` is silently ignored.
        start = int(request.query_params.get("after_cursor", "0"))
        found = list(self.gamma.values())
        body: dict[str, Any] = {"events": found[start : start + self.page]}
        if start + self.page < len(found):
            body["next_cursor"] = str(start + self.page)
        return self._answer("gamma_list", body)

    async def _clob_market(self, request: Request) -> Response:
        return self._answer("clob", self.clob.get(request.path_params["condition"]))

    async def _kalshi_event(self, request: Request) -> Response:
        event = self.kalshi.get(request.path_params["ticker"])
        return self._answer("kalshi", None if event is None else {"event": event})

    async def _kalshi_list(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor") or "0"
        start = int(cursor) if cursor.isdigit() else 0
        found = list(self.kalshi.values())
        more = start + self.page < len(found)
        body = {"events": found[start : start + self.page], "cursor": str(start + self.page) if more else ""}
        return self._answer("kalshi_list", body)

    async def _kalshi_series(self, request: Request) -> Response:
        series = self.series.get(request.path_params["ticker"])
        return self._answer("series", None if series is None else {"series": series})

    async def _kalshi_exchange(self, request: Request) -> Response:
        body = None if self.exchange is None else self.exchange.get(request.path_params["what"])
        self.hits[request.path_params["what"]] += 1
        return Response("{}", 404) if body is None else Response(json.dumps(body))


@contextlib.contextmanager
def in_thread() -> Iterator[VenueRest]:
    """A server with a loop of its own, for many tests: starting one for each costs more than the tests."""
    server = VenueRest()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="venue-rest")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
