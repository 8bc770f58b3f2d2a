"""Polymarket's REST answers: CLOB books and Gamma catalogue (venue note, sections 3 and 4)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from wup.sim.fixed import MICRO, short
from wup.sim.polymarket import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.sim.engine import Market
    from wup.sim.polymarket.protocol import PolymarketExchange
    from wup.sim.world import Event

_NO_BOOK = "No orderbook exists for the requested token id"
_FEES = {
    "exponent": 1,
    "rate": orjson.Fragment(b"0.05"),
    "takerOnly": True,
    "rebateRate": orjson.Fragment(b"0.25"),
}


def _number(value: int) -> orjson.Fragment:
    """An exact JSON number: no binary fraction comes near it."""
    return orjson.Fragment(short(value).encode())


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(status: int, text: str) -> Response:
    return _json({"error": text}, status)


def _page(items: list[Any], cursor: str, limit: int) -> tuple[list[Any], str | None]:
    """One page, and the next cursor or None.

    Raises:
        ValueError: a cursor that was not given out here.
    """
    start = int(base64.urlsafe_b64decode(cursor.encode()).decode()) if cursor else 0
    end = start + limit
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
    return items[start:end], following


def market_body(market: Market, event: Event) -> dict[str, object]:
    """One market as Gamma shows it: lists are strings holding JSON."""
    item = market.listing
    bid, ask = market.book.best_bid() or 0, market.book.best_ask()
    ask = MICRO if ask is None else ask
    middle = (bid + ask) // 2
    open_now = market.status in ("open", "halted")
    body: dict[str, object] = {
        "id": str(item.number),
        "question": item.question,
        "conditionId": item.market_id,
        "slug": item.slug,
        "endDate": event.close_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "startDate": "2026-10-01T14:05:00.120394Z",
        "description": item.primary,
        "resolutionSource": item.secondary,
        "outcomes": frames.compact(list(item.outcomes)),
        "outcomePrices": frames.compact([short(middle), short(MICRO - middle)]),
        "volume": short(market.volume),
        "volumeNum": _number(market.volume),
        "volume24hr": _number(market.volume),
        "liquidity": "0",
        "liquidityNum": 0,
        "active": True,
        "closed": not open_now,
        "archived": False,
        "createdAt": "2026-10-01T14:00:00.120394Z",
        "updatedAt": "2026-11-20T14:00:00.120394Z",
        "restricted": True,
        "groupItemTitle": item.label,
        "groupItemThreshold": str(event.listings.index(item)),
        "questionID": item.market_id[:-2] + "01",
        "enableOrderBook": True,
        "orderPriceMinTickSize": _number(market.tick),
        "orderMinSize": int(frames.MIN_ORDER_SIZE),
        "clobTokenIds": frames.compact(list(item.assets)),
        "acceptingOrders": open_now,
        "negRisk": frames.neg_risk(item),
        "negRiskOther": False,
        "makerBaseFee": 1000,
        "takerBaseFee": 1000,
        "bestBid": _number(bid),
        "bestAsk": _number(ask),
        "spread": _number(ask - bid),
        "lastTradePrice": _number(market.last_trade),
        "feesEnabled": True,
        "feeType": "economics_fees",
        "feeSchedule": _FEES,
        "umaResolutionStatuses": frames.compact(["resolved"] if market.result else []),
    }
    if market.result:
        won = market.result == "yes"
        body["outcomePrices"] = frames.compact(["1", "0"] if won else ["0", "1"])
        body["closedTime"] = "2026-12-09 20:37:01+00"
    if event.series == "mlb":
        body["sportsMarketType"] = "moneyline"
        body["gameStartTime"] = event.close_at.strftime("%Y-%m-%d %H:%M:%S+00")
    return body


def event_body(event: Event, markets: list[Market]) -> dict[str, object]:
    """One event with its markets as Gamma shows it."""
    closed = all(market.status in ("closed", "resolved") for market in markets)
    body: dict[str, object] = {
        "id": str(event.number),
        "ticker": event.slug,
        "slug": event.slug,
        "title": event.title,
        "description": event.listings[0].primary,
        "resolutionSource": event.listings[0].secondary,
        "startDate": "2026-10-01T14:05:00.120394Z",
        "creationDate": "2026-10-01T14:05:00.120394Z",
        "endDate": event.close_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "active": True,
        "closed": closed,
        "archived": False,
        "restricted": True,
        "liquidity": 0,
        "volume": _number(sum(market.volume for market in markets)),
        "createdAt": "2026-10-01T14:00:00.120394Z",
        "updatedAt": "2026-11-20T14:00:00.120394Z",
        "enableOrderBook": True,
        "negRisk": event.exclusive,
        "negRiskAugmented": False,
        "seriesSlug": event.series,
        "series": [{"id": "35", "ticker": event.series, "slug": event.series, "title": event.series.upper()}],
        "tags": [{"id": "159", "slug": event.series, "label": event.category}],
        "markets": [market_body(market, event) for market in markets],
    }
    if event.exclusive:
        body["negRiskMarketID"] = event.listings[0].market_id[:-2] + "00"
    return body


class PolymarketRest:
    """Routes over one simulated exchange: CLOB and Gamma on one port (their paths do not meet)."""

    def __init__(self, exchange: PolymarketExchange, now_us: Callable[[], int]) -> None:
        self._exchange = exchange
        self._now_us = now_us
        self._events = {event.slug: event for event in exchange.model.world.events(exchange.platform)}

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter()
        for method, path, handler in (
            ("GET", "/events/slug/{slug}", self.event_by_slug),
            ("GET", "/events", self.events),
            ("GET", "/events/keyset", self.events_keyset),
            ("GET", "/events/{number}", self.event_by_number),
            ("GET", "/markets/keyset", self.markets_keyset),
            ("GET", "/markets", self.markets),
            ("GET", "/markets/{number}", self.market_by_number),
            ("GET", "/book", self.book),
            ("POST", "/books", self.books),
            ("GET", "/midpoint", self.midpoint),
            ("GET", "/price", self.price),
            ("GET", "/spread", self.spread),
            ("GET", "/last-trade-price", self.last_trade),
            ("GET", "/tick-size", self.tick_size),
            ("GET", "/neg-risk", self.neg_risk),
            ("GET", "/markets-by-token/{token_id}", self.by_token),
            ("GET", "/clob-markets/{condition_id}", self.clob_market),
            ("GET", "/time", self.time),
            ("GET", "/ok", self.ok),
        ):
            router.add_api_route(path, handler, methods=[method], response_model=None)
        return router

    # --- Gamma --------------------------------------------------------------------------------------

    async def event_by_slug(self, slug: str) -> Response:
        """`GET /events/slug/{slug}`: one object."""
        event = self._events.get(slug)
        return _json(self._body(event)) if event is not None else _error(404, "not found")

    async def event_by_number(self, number: str) -> Response:
        """`GET /events/{id}`: one object."""
        event = next((event for event in self._events.values() if str(event.number) == number), None)
        return _json(self._body(event)) if event is not None else _error(404, "not found")

    async def events(self, slug: str = "") -> Response:
        """`GET /events?slug=`: an array of none or one."""
        event = self._events.get(slug)
        return _json([self._body(event)] if event is not None else [])

    async def events_keyset(self, request: Request, limit: int = Query(100, ge=1, le=500)) -> Response:
        """`GET /events/keyset`: pages by `after_cursor` (any other name is ignored)."""
        if "offset" in request.query_params:
            return _error(422, "offset is not supported")
        closed, slugs = request.query_params.get("closed"), request.query_params.getlist("slug")
        found = [
            body
            for event in self._events.values()
            if (not slugs or event.slug in slugs)
            and ((body := self._body(event))["closed"] == (closed == "true") or closed is None)
        ]
        return self._listed("events", found, request, limit)

    async def markets_keyset(self, request: Request, limit: int = Query(100, ge=1, le=100)) -> Response:
        """`GET /markets/keyset`."""
        if "offset" in request.query_params:
            return _error(422, "offset is not supported")
        return self._listed("markets", self._filtered(request), request, limit)

    async def markets(self, request: Request) -> Response:
        """`GET /markets` with filters: an array."""
        return _json(self._filtered(request)[:100])

    async def market_by_number(self, number: str) -> Response:
        """`GET /markets/{id}`: one object."""
        for event in self._events.values():
            for market in self._of(event):
                if str(market.listing.number) == number:
                    return _json(market_body(market, event))
        return _error(404, "not found")

    def _filtered(self, request: Request) -> list[dict[str, object]]:
        query = request.query_params
        conditions, tokens = set(query.getlist("condition_ids")), set(query.getlist("clob_token_ids"))
        slugs, closed = set(query.getlist("slug")), query.get("closed")
        return [
            body
            for event in self._events.values()
            for market in self._of(event)
            if (not conditions or market.listing.market_id in conditions)
            and (not tokens or tokens & set(market.listing.assets))
            and (not slugs or market.listing.slug in slugs)
            and ((body := market_body(market, event))["closed"] == (closed == "true") or closed is None)
        ]

    @staticmethod
    def _listed(name: str, found: list[dict[str, object]], request: Request, limit: int) -> Response:
        try:
            page, following = _page(found, request.query_params.get("after_cursor", ""), limit)
        except ValueError:
            return _error(400, "invalid after_cursor")
        answer: dict[str, object] = {name: page}
        if following is not None:
            answer["next_cursor"] = following
        return _json(answer)

    # --- CLOB ---------------------------------------------------------------------------------------

    async def book(self, token_id: str = "") -> Response:
        """`GET /book?token_id=`."""
        market, refused = self._market(token_id)
        return refused if market is None else _json(self._book(market, token_id))

    async def books(self, request: Request) -> Response:
        """`POST /books`: unknown tokens are missing from the answer."""
        try:
            wanted = [item["token_id"] for item in orjson.loads(await request.body())]
        except (orjson.JSONDecodeError, TypeError, KeyError, ClientDisconnect):
            return _error(400, "Invalid payload")
        if len(wanted) > 500:
            return _error(400, "Payload exceeds the limit")
        found = [
            (market, token)
            for token in wanted
            if (market := self._exchange.market_of(str(token))) is not None
        ]
        return self._restarting() or _json([self._book(market, token) for market, token in found])

    async def midpoint(self, token_id: str = "") -> Response:
        """`GET /midpoint`."""
        market, refused = self._market(token_id)
        if market is None:
            return refused
        bid, ask = self._top(market, token_id)
        return _json({"mid": short((bid + ask) // 2)})

    async def price(self, token_id: str = "", side: str = "") -> Response:
        """`GET /price`: BUY is the best bid, SELL the best ask."""
        market, refused = self._market(token_id)
        if market is None:
            return refused
        if side not in ("BUY", "SELL"):
            return _error(400, "Invalid side")
        bid, ask = self._top(market, token_id)
        return _json({"price": short(bid if side == "BUY" else ask)})

    async def spread(self, token_id: str = "") -> Response:
        """`GET /spread`."""
        market, refused = self._market(token_id)
        if market is None:
            return refused
        bid, ask = self._top(market, token_id)
        return _json({"spread": short(ask - bid)})

    async def last_trade(self, token_id: str = "") -> Response:
        """`GET /last-trade-price`."""
        market, refused = self._market(token_id)
        return (
            refused
            if market is None
            else _json({"price": self._exchange.view(market).last_trade, "side": "BUY"})
        )

    async def tick_size(self, token_id: str = "") -> Response:
        """`GET /tick-size`: a number."""
        market, refused = self._market(token_id)
        return refused if market is None else _json({"minimum_tick_size": _number(market.tick)})

    async def neg_risk(self, token_id: str = "") -> Response:
        """`GET /neg-risk`."""
        market, refused = self._market(token_id)
        return refused if market is None else _json({"neg_risk": frames.neg_risk(market.listing)})

    async def by_token(self, token_id: str) -> Response:
        """`GET /markets-by-token/{token}`."""
        market, refused = self._market(token_id)
        return refused if market is None else _json({"condition_id": market.listing.market_id})

    async def clob_market(self, condition_id: str) -> Response:
        """`GET /clob-markets/{condition}`: the compact form."""
        market = self._exchange.markets.get(condition_id)
        if market is None:
            return _error(404, "market not found")
        item = market.listing
        tokens = [
            {"t": token, "o": outcome} for token, outcome in zip(item.assets, item.outcomes, strict=True)
        ]
        fees = {"r": orjson.Fragment(b"0.05"), "e": 1, "to": True}
        return _json(
            {
                "c": item.market_id,
                "t": tokens,
                "mos": int(frames.MIN_ORDER_SIZE),
                "mts": _number(market.tick),
                "mbf": 1000,
                "tbf": 1000,
                "ao": market.status == "open",
                "nr": frames.neg_risk(item),
                "cbos": True,
                "fd": fees,
            }
        )

    async def time(self) -> Response:
        """`GET /time`: seconds."""
        return _json(self._now_us() // MICRO)

    async def ok(self) -> Response:
        """`GET /ok`."""
        return _json("OK")

    # --- helpers ------------------------------------------------------------------------------------

    def _book(self, market: Market, token: str) -> dict[str, object]:
        body = self._exchange.view(market).rest_book(token)
        if self._exchange.menu and self._exchange.menu.hit(
            "ghost_book", self._now_us(), market.listing.assets
        ):
            body["bids"] = [{"price": "0.01", "size": "1000"}]
            body["asks"] = [{"price": "0.99", "size": "1000"}]
        return body

    def _market(self, token: str) -> tuple[Market, Response] | tuple[None, Response]:
        """The token's market, or the refusal to send."""
        if not token.isdigit():
            return None, _error(400, "Invalid token id")
        refused = self._restarting()
        if refused is not None:
            return None, refused
        market = self._exchange.market_of(token)
        if market is None:
            return None, _error(404, _NO_BOOK)
        return market, _json({})

    def _restarting(self) -> Response | None:
        if self._now_us() < self._exchange.model.paused_until.get(self._exchange.platform, 0):
            return _error(425, "engine is restarting")
        return None

    @staticmethod
    def _top(market: Market, token: str) -> tuple[int, int]:
        bids, asks = frames.sides(market, token)
        return (bids[-1][0] if bids else 0), (asks[0][0] if asks else MICRO)

    def _of(self, event: Event) -> list[Market]:
        return [self._exchange.markets[item.market_id] for item in event.listings]

    def _body(self, event: Event) -> dict[str, object]:
        return event_body(event, self._of(event))
