"""Kalshi's REST answers (venue note, section 5)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from wup.sim.fixed import MICRO
from wup.sim.kalshi import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.sim.engine import Market
    from wup.sim.kalshi.auth import KeyPair
    from wup.sim.kalshi.protocol import KalshiExchange
    from wup.sim.world import Event

# Filter words differ from the values of `status`.
_FILTERS = {
    "unopened": {"initialized"},
    "open": {"active"},
    "paused": {"inactive"},
    "closed": {"closed", "determined"},
    "settled": {"finalized"},
}
_CACHE_US = 15 * MICRO
_STATUS = {"open": "active", "halted": "inactive", "closed": "closed", "resolved": "finalized"}


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any, status: int = 200, age_s: int | None = None) -> Response:
    # The cache headers of the unsigned answers in production.
    headers = {"cache-control": "public, max-age=15"}
    if age_s is not None:
        headers["age"] = str(age_s)
    return Response(orjson.dumps(value), status, headers, "application/json")


def _problem(status: int, code: str, message: str) -> Response:
    return _json({"code": code, "message": message, "details": ""}, status)


def _status(market: Market) -> str:
    if market.status == "closed" and market.result:
        return "determined"
    return _STATUS[market.status]


def market_body(market: Market, event: Event) -> dict[str, object]:
    """One market as the catalogue shows it."""
    item = market.listing
    best = frames.top(market)
    bid, ask = market.book.best_bid(), market.book.best_ask()
    body: dict[str, object] = {
        "ticker": item.market_id,
        "event_ticker": item.event,
        "market_type": "binary",
        "title": item.question,
        "yes_sub_title": item.label,
        "no_sub_title": item.no_label,
        "created_time": "2026-10-01T14:00:00Z",
        "updated_time": "2026-11-20T14:00:00.120394Z",
        "open_time": "2026-10-01T14:05:00Z",
        "close_time": _iso(event.close_at),
        "expected_expiration_time": _iso(event.close_at + timedelta(minutes=5)),
        "latest_expiration_time": _iso(event.close_at + timedelta(days=14)),
        "settlement_timer_seconds": 300,
        "status": _status(market),
        **best,
        "no_bid_dollars": frames.dollars(0 if ask is None else MICRO - ask),
        "no_ask_dollars": frames.dollars(MICRO - (bid or 0)),
        "last_price_dollars": frames.dollars(market.last_trade),
        "previous_price_dollars": frames.dollars(market.last_trade),
        "previous_yes_bid_dollars": best["yes_bid_dollars"],
        "previous_yes_ask_dollars": best["yes_ask_dollars"],
        "volume_fp": frames.count(market.volume),
        "volume_24h_fp": frames.count(market.volume),
        "open_interest_fp": frames.count(_cents(market.open_interest)),
        "notional_value_dollars": "1.0000",
        "result": market.result,
        "expiration_value": market.result,
        "can_close_early": True,
        "strike_type": "structured",
        "custom_strike": {"outcome": item.label},
        "rules_primary": item.primary,
        "rules_secondary": item.secondary,
        "price_level_structure": item.structure,
        "price_ranges": frames.price_ranges(market),
        "is_provisional": False,
        "exchange_index": 0,
    }
    if market.result:
        body["settlement_value_dollars"] = "1.0000" if market.result == "yes" else "0.0000"
    return body


def _cents(value: int) -> int:
    return value - value % 10_000


def event_body(event: Event) -> dict[str, object]:
    """One event without its markets."""
    return {
        "event_ticker": event.slug,
        "series_ticker": event.series,
        "title": event.title,
        "sub_title": event.sub_title,
        "category": event.category,
        "mutually_exclusive": event.exclusive,
        "collateral_return_type": "MECNET" if event.exclusive else "",
        "strike_period": "",
        "exchange_index": 0,
        "last_updated_ts": "2026-11-20T14:00:00.120394Z",
        "settlement_sources": _sources(event),
        "product_metadata": {},
    }


def _sources(event: Event) -> list[dict[str, str]]:
    if event.series == "KXFEDDECISION":
        return [{"name": "Federal Reserve", "url": "https://www.federalreserve.gov/"}]
    return [{"name": "the Governing League", "url": "https://www.mlb.com/"}]


def book_body(market: Market, depth: int = 0) -> dict[str, list[list[str]]]:
    """Both ladders, worst price first; `depth` keeps the best n (0 = all)."""
    yes = market.book.bids.ascending()
    no = [(MICRO - price, size) for price, size in reversed(market.book.asks.ascending())]
    return {
        name: [
            [frames.dollars(price), frames.count(size)]
            for price, size in (levels[-depth:] if depth else levels)
        ]
        for name, levels in (("yes_dollars", yes), ("no_dollars", no))
    }


def _page(items: list[Any], cursor: str, limit: int) -> tuple[list[Any], str]:
    """One page and the next cursor.

    Raises:
        ValueError: a cursor that was not given out here.
    """
    start = int(base64.urlsafe_b64decode(cursor.encode()).decode()) if cursor else 0
    end = start + limit
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following


class KalshiRest:
    """Routes over one simulated exchange."""

    def __init__(
        self, exchange: KalshiExchange, now_us: Callable[[], int], key: KeyPair | None = None
    ) -> None:
        self._exchange = exchange
        self._now_us = now_us
        self._key = key
        self._cache: dict[str, tuple[int, dict[str, list[list[str]]]]] = {}
        self._events = {event.slug: event for event in exchange.model.world.events(exchange.platform)}

    def router(self) -> APIRouter:
        """All routes under `/trade-api/v2`."""
        router = APIRouter(prefix="/trade-api/v2")
        for path, handler in (
            ("/events", self.events),
            ("/events/{ticker}", self.event),
            ("/markets", self.markets),
            ("/markets/orderbooks", self.books),
            ("/markets/{ticker}", self.market),
            ("/markets/{ticker}/orderbook", self.book),
            ("/series/{ticker}", self.series),
            ("/exchange/status", self.status),
            ("/exchange/schedule", self.schedule),
        ):
            router.add_api_route(path, handler, methods=["GET"], response_model=None)
        return router

    async def events(
        self,
        limit: int = Query(200, ge=1, le=200),
        cursor: str = "",
        status: str = "",
        series_ticker: str = "",
        tickers: str = "",
        with_nested_markets: bool = False,
    ) -> Response:
        """`GET /events`, paged."""
        wanted = {item for item in tickers.split(",") if item}
        found = [
            event
            for event in self._events.values()
            if (not series_ticker or event.series == series_ticker)
            and (not wanted or event.slug in wanted)
            and (not status or any(_status(market) in _FILTERS.get(status, ()) for market in self._of(event)))
        ]
        try:
            page, following = _page(found, cursor, limit)
        except ValueError:
            return _problem(400, "bad_request", "invalid cursor")
        bodies = [self._nested(event) if with_nested_markets else event_body(event) for event in page]
        return _json({"events": bodies, "milestones": [], "cursor": following})

    async def event(self, ticker: str, with_nested_markets: bool = False) -> Response:
        """`GET /events/{event_ticker}`."""
        event = self._events.get(ticker)
        if event is None:
            return _problem(404, "not_found", "not found")
        if with_nested_markets:
            return _json({"event": self._nested(event)})
        return _json(
            {
                "event": event_body(event),
                "markets": [market_body(market, event) for market in self._of(event)],
            }
        )

    async def markets(
        self,
        limit: int = Query(100, ge=0, le=1_000),
        cursor: str = "",
        event_ticker: str = "",
        series_ticker: str = "",
        tickers: str = "",
        status: str = "",
    ) -> Response:
        """`GET /markets`, paged."""
        wanted = {item for item in tickers.split(",") if item}
        found = [
            (market, event)
            for event in self._events.values()
            for market in self._of(event)
            if (not event_ticker or event.slug == event_ticker)
            and (not series_ticker or event.series == series_ticker)
            and (not wanted or market.listing.market_id in wanted)
            and (not status or _status(market) in _FILTERS.get(status, ()))
        ]
        try:
            page, following = _page(found, cursor, limit or 100)
        except ValueError:
            return _problem(400, "bad_request", "invalid cursor")
        return _json({"markets": [market_body(*item) for item in page], "cursor": following})

    async def market(self, ticker: str) -> Response:
        """`GET /markets/{ticker}`."""
        market = self._exchange.markets.get(ticker)
        if market is None:
            return _problem(404, "not_found", "not found")
        return _json({"market": market_body(market, self._events[market.listing.event])})

    async def book(self, request: Request, ticker: str, depth: int = Query(0, ge=0, le=100)) -> Response:
        """`GET /markets/{ticker}/orderbook`."""
        signed, refused = self._signed(request)
        if refused is not None:
            return refused
        market = self._exchange.markets.get(ticker)
        if market is None:
            return _problem(404, "not_found", "not found")
        body, age_s = self._book(market, signed, depth)
        return _json({"orderbook_fp": body}, age_s=age_s)

    async def books(self, request: Request) -> Response:
        """`GET /markets/orderbooks`, 1 to 100 tickers."""
        signed, refused = self._signed(request)
        if refused is not None:
            return refused
        tickers = request.query_params.getlist("tickers")
        if not 1 <= len(tickers) <= 100:
            return _problem(400, "bad_request", "tickers must have 1 to 100 entries")
        found = [self._exchange.markets[ticker] for ticker in tickers if ticker in self._exchange.markets]
        bodies = [(item.listing.market_id, *self._book(item, signed)) for item in found]
        ages = [age_s for *_, age_s in bodies if age_s is not None]
        return _json(
            {"orderbooks": [{"ticker": ticker, "orderbook_fp": body} for ticker, body, _ in bodies]},
            age_s=max(ages, default=None),
        )

    async def series(self, ticker: str) -> Response:
        """`GET /series/{ticker}`."""
        event = next((event for event in self._events.values() if event.series == ticker), None)
        if event is None:
            return _problem(404, "not_found", "not found")
        return _json(
            {
                "series": {
                    "ticker": ticker,
                    "title": event.title,
                    "category": event.category,
                    "frequency": "custom",
                    "tags": [],
                    "fee_type": "quadratic",
                    "fee_multiplier": 1,
                    "exchange_index": 0,
                    "settlement_sources": _sources(event),
                    "additional_prohibitions": [],
                    "product_metadata": {},
                    "contract_url": "",
                    "contract_terms_url": "",
                    "last_updated_ts": "2026-11-20T14:00:00.120394Z",
                }
            }
        )

    async def status(self) -> Response:
        """`GET /exchange/status`: not trading while a maintenance is simulated."""
        now_us, model, venue = self._now_us(), self._exchange.model, self._exchange.platform
        closed = now_us < self._exchange.refuse_until_us
        still_us = max(model.paused_until.get(venue, 0), model.cancel_only_until.get(venue, 0))
        paused = closed or now_us < still_us
        resume = (
            _iso(datetime.fromtimestamp(self._exchange.refuse_until_us // MICRO, UTC)) if closed else None
        )
        return _json(
            {
                "exchange_active": not closed,
                "trading_active": not paused,
                "exchange_estimated_resume_time": resume,
                "intra_exchange_transfers_active": True,
                "exchange_index_statuses": [
                    {
                        "exchange_index": 0,
                        "description": "default",
                        "exchange_active": not closed,
                        "trading_active": not paused,
                    }
                ],
            }
        )

    async def schedule(self) -> Response:
        """`GET /exchange/schedule`: open all week but for Thursday 03:00 to 05:00 ET, and a window for the
        maintenance that is simulated."""
        until_us = self._exchange.refuse_until_us
        windows = []
        if self._now_us() < until_us:
            start, end = (_iso(datetime.fromtimestamp(us // MICRO, UTC)) for us in (self._now_us(), until_us))
            windows.append({"start_datetime": start, "end_datetime": end})
        whole = [{"open_time": "00:00", "close_time": "00:00"}]
        thursday = [
            {"open_time": "00:00", "close_time": "03:00"},
            {"open_time": "05:00", "close_time": "00:00"},
        ]
        days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        hours = {day: thursday if day == "thursday" else whole for day in days}
        return _json(
            {
                "schedule": {
                    "standard_hours": [
                        {"start_time": "2026-01-01T00:00:00Z", "end_time": "2027-01-01T00:00:00Z", **hours}
                    ],
                    "maintenance_windows": windows,
                }
            }
        )

    def _signed(self, request: Request) -> tuple[bool, Response | None]:
        """Is the request signed, and what to answer when it is signed wrongly."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self._key is None or "kalshi-access-key" not in headers:
            return False, None
        problem = self._key.problem(headers, request.method, request.url.path, self._now_us())
        return problem is None, None if problem is None else _problem(401, "unauthorized", problem)

    def _book(
        self, market: Market, signed: bool, depth: int = 0
    ) -> tuple[dict[str, list[list[str]]], int | None]:
        """The ladders, and their age in seconds when they come from the cache that signed calls pass by."""
        name, now_us = market.listing.market_id, self._now_us()
        menu = self._exchange.menu
        if signed or not (menu and menu.hit("cached_rest", now_us, (name,), frame="rest")):
            return book_body(market, depth), None
        made_us, body = self._cache.get(name, (0, {}))
        if now_us - made_us > _CACHE_US:
            made_us, body = now_us, book_body(market)
            self._cache[name] = (now_us, body)
        cut = {side: levels[-depth:] if depth else levels for side, levels in body.items()}
        return cut, (now_us - made_us) // MICRO

    def _of(self, event: Event) -> list[Market]:
        return [self._exchange.markets[item.market_id] for item in event.listings]

    def _nested(self, event: Event) -> dict[str, object]:
        return {**event_body(event), "markets": [market_body(market, event) for market in self._of(event)]}
