"""Kalshi discovery: events with nested markets, and the series for its fees.

Facts: venue notes, section 5. No key is needed. Numbers among the fields (`floor_strike`,
`fee_multiplier`) are read as exact decimals; tick sizes come from `price_ranges`, never from the name of the
price structure (notes, rule 20). Combos (`KXMVE*`) are left out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from wup import logs
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import (
    CatalogueError,
    EventNotFound,
    EventUnreadable,
    MarketStatus,
    Pause,
    VenueEventRecord,
    VenueMarket,
)
from wup.mapping.moments import OCCURS
from wup.mapping.rest import RestClient, number_text, text, time_us, write_json
from wup.venues.fields import KnownFields
from wup.venues.kalshi.exchange import SHARD, ExchangeStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from wup.clock import Clock

PLATFORM = "kalshi"
_COMBOS = "KXMVE"
_PAGE = 200
# Venue notes 5: a Basic account has 20 reads/s; unsigned requests have an unpublished limit of their own.
_RATE, _BURST = 10.0, 20
_SERIES_TTL_S = 3600.0
_SMALLEST_SIZE = "0.01"
"""Every market takes fractions of 0.01 since 2026-04-17 (notes, section 4)."""

# Filter words of the API differ from these, the status values (notes, section 5).
_STATUS: dict[str, MarketStatus] = {
    "initialized": "halted",
    "inactive": "halted",
    "active": "open",
    "closed": "closed",
    "determined": "resolved",
    "finalized": "resolved",
    # The result may still change.
    "disputed": "closed",
    "amended": "closed",
}
_TEXT_FACTS = (
    "yes_sub_title",
    "no_sub_title",
    "strike_type",
    "price_level_structure",
    "open_time",
    "close_time",
    "expected_expiration_time",
    "early_close_condition",
    "status",
)
_NUMBER_FACTS = ("floor_strike", "cap_strike", "settlement_timer_seconds", "exchange_index")
_STRIKES = {"floor_strike", "cap_strike"}
_FEE_FIELDS = {"fee_type": "type", "fee_multiplier": "multiplier"}


_EVENT_FIELDS = KnownFields(
    PLATFORM,
    "event",
    """
    available_on_brokers category collateral_return_type event_ticker exchange_index
    fee_multiplier_override fee_type_override last_updated_ts markets mutually_exclusive
    product_metadata series_ticker settlement_sources strike_date strike_period sub_title title
    """,
)
_MARKET_FIELDS = KnownFields(
    PLATFORM,
    "market",
    """
    can_close_early cap_strike close_time created_time custom_strike early_close_condition event_ticker
    exchange_index expected_expiration_time expiration_time expiration_value fee_waiver_expiration_time
    floor_strike fractional_trading_enabled functional_strike is_provisional last_price_dollars
    latest_expiration_time liquidity_dollars market_type mve_collection_ticker mve_selected_legs
    no_ask_dollars no_bid_dollars no_sub_title notional_value_dollars occurrence_datetime
    open_interest_fp open_time previous_price_dollars previous_yes_ask_dollars previous_yes_bid_dollars
    price_level_structure price_ranges primary_participant_key response_price_units result rules_primary
    rules_secondary settlement_bounds_type settlement_floor_dollars settlement_timer_seconds
    settlement_ts settlement_value_dollars status strike_type subtitle tick_size ticker title
    updated_time volume_24h_fp volume_fp yes_ask_dollars yes_ask_size_fp yes_bid_dollars yes_bid_size_fp
    yes_sub_title
    """,
)


class KalshiUrls(Protocol):
    """The part of the venue's settings that discovery needs."""

    @property
    def kalshi_api_url(self) -> str: ...


class KalshiCatalogue:
    """REST discovery by event ticker (see `wup.mapping.catalogue.Catalogue`)."""

    platform = PLATFORM
    bare_slugs = False

    def __init__(self, settings: KalshiUrls, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._rest = RestClient(PLATFORM, settings.kalshi_api_url, rate=_RATE, burst=_BURST, clock=clock)
        self._series: dict[str, tuple[float, dict[str, str]]] = {}
        self._exchange = ExchangeStatus(self._rest, clock)

    async def event(self, slug: str) -> VenueEventRecord:
        if slug in ("", ".", ".."):
            raise EventNotFound(f"{PLATFORM}: {slug!r} is not an event ticker")
        answer = await self._rest.get(f"/events/{quote(slug, safe='')}", {"with_nested_markets": "true"})
        event = answer.get("event") if isinstance(answer, dict) else None
        if not isinstance(event, dict):
            raise EventUnreadable(f"{PLATFORM}: {slug!r}: answer without `event`")
        if event.get("event_ticker") != slug:
            raise EventUnreadable(f"{PLATFORM}: asked for {slug!r}, got {text(event.get('event_ticker'))!r}")
        if not isinstance(event.get("markets"), list) and isinstance(answer.get("markets"), list):
            # The same answer without nesting (notes, section 5).
            event = {**event, "markets": answer["markets"]}
        return self._record(event, await self._fees(text(event.get("series_ticker"))))

    async def events(self) -> AsyncIterator[VenueEventRecord]:
        cursor = ""
        while True:
            params = {"status": "open", "limit": str(_PAGE), "with_nested_markets": "true"}
            if cursor:
                params["cursor"] = cursor
            page = await self._rest.get("/events", params)
            found = page.get("events") if isinstance(page, dict) else None
            if not isinstance(found, list):
                raise CatalogueError(f"{PLATFORM}: event list without `events`")
            for raw in found:
                ticker = text(raw.get("event_ticker")) if isinstance(raw, dict) else ""
                if not ticker:
                    _bad("event_without_ticker", raw)
                elif not ticker.startswith(_COMBOS):
                    # One request per series would multiply a walk of the universe: fees come with `event`.
                    yield self._record(raw, self._known_fees(text(raw.get("series_ticker"))))
            following = text(page.get("cursor"))
            if not following:
                return
            if following == cursor:
                raise CatalogueError(f"{PLATFORM}: the list's cursor does not move on")
            cursor = following

    async def pause(self) -> Pause | None:
        return await self._exchange.pause()

    async def close(self) -> None:
        await self._rest.close()

    def _known_fees(self, series: str) -> dict[str, str]:
        return self._series.get(series, (0.0, {}))[1]

    async def _fees(self, series: str) -> dict[str, str]:
        """Fee fields of a series, asked for once an hour; none while the venue does not tell."""
        if not series:
            return {}
        now = self._clock.monotonic()
        known = self._series.get(series)
        if known is not None and now < known[0]:
            return known[1]
        fees: dict[str, str] = {} if known is None else known[1]
        try:
            answer = await self._rest.get(f"/series/{quote(series, safe='')}")
        except CatalogueError as error:
            _bad("series_unavailable", f"{series}: {error}")
        else:
            raw = answer.get("series") if isinstance(answer, dict) else None
            if isinstance(raw, dict):
                fees = _fee_facts(raw)
            else:
                _bad("series_unreadable", series)
        self._series[series] = (now + _SERIES_TTL_S, fees)
        return fees

    def _record(self, raw: Mapping[str, Any], fees: Mapping[str, str]) -> VenueEventRecord:
        ticker = text(raw.get("event_ticker"))
        _EVENT_FIELDS.see(raw)
        listing = raw.get("markets")
        if not isinstance(listing, list):
            # Settled events beyond the historical cutoff come without markets.
            _bad("no_markets", ticker)
            listing = []
        markets: dict[str, VenueMarket] = {}
        own = {
            name: number_text(raw.get(f"{field}_override")) or text(raw.get(f"{field}_override"))
            for field, name in _FEE_FIELDS.items()
        }
        fees = {**fees, **{name: value for name, value in own.items() if value}}
        series = text(raw.get("series_ticker"))
        for item in listing:
            market = _market(ticker, item, series, fees, text(raw.get("title")))
            if market is None:
                continue
            if market.market_id in markets:
                _bad("duplicate_market", market.market_id)
                continue
            markets[market.market_id] = market
        closes = [m.close_us for m in markets.values() if m.close_us is not None]
        return VenueEventRecord(
            platform=PLATFORM,
            slug=ticker,
            title=text(raw.get("title")) or ticker,
            category=text(raw.get("category")) or None,
            exclusive=raw.get("mutually_exclusive") is True,
            markets=tuple(markets.values()),
            fetched_us=self._clock.now_us(),
            close_us=max(closes) if closes else None,
            raw=raw,
        )


def _bad(kind: str, sample: object) -> None:
    logs.bad_input("events", PLATFORM, kind, sample if isinstance(sample, str) else repr(sample))


def _fee_facts(series: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        name: number_text(series.get(field)) or text(series.get(field)) for field, name in _FEE_FIELDS.items()
    }
    return {name: value for name, value in facts.items() if value}


def _market(event: str, raw: object, series: str, fees: Mapping[str, str], title: str) -> VenueMarket | None:
    if not isinstance(raw, dict):
        _bad("market_not_object", repr(raw))
        return None
    ticker = text(raw.get("ticker"))
    _MARKET_FIELDS.see(raw)
    if not ticker:
        _bad("market_without_ticker", f"{event}: {raw!r}")
        return None
    if text(raw.get("market_type")) not in ("", "binary"):
        _bad("not_binary", f"{ticker}: {raw.get('market_type')!r}")
        return None
    if number_text(raw.get("notional_value_dollars", "1")) != "1":
        # The complement of a price is taken from 1 dollar (notes, section 4).
        _bad("notional_value", f"{ticker}: {raw.get('notional_value_dollars')!r}")
        return None
    status, result = _status(ticker, raw)
    facts = _facts(raw, series)
    label = text(raw.get("yes_sub_title")) or text(raw.get("subtitle")) or ticker
    return VenueMarket(
        market_id=ticker,
        asset_id=ticker,
        assets=(ticker,),
        label=label,
        question=text(raw.get("title")) or f"{title}: {label}",
        status=status,
        rules="\n\n".join(filter(None, (text(raw.get("rules_primary")), text(raw.get("rules_secondary"))))),
        # Between two strikes there is no single number.
        line=facts.get("floor_strike", facts.get("cap_strike"))
        if len(_STRIKES & facts.keys()) == 1
        else None,
        tick=facts.get("tick"),
        min_size=_SMALLEST_SIZE,
        close_us=time_us(raw.get("close_time")),
        result=result,
        fees=fees,
        facts=facts,
        raw=raw,
    )


def _status(ticker: str, raw: Mapping[str, Any]) -> tuple[MarketStatus, str | None]:
    word = text(raw.get("status"))
    status = _STATUS.get(word)
    if status is None:
        # A status that this page does not know may mean anything: the leg stays out.
        _bad("unknown_status", f"{ticker}: {word!r}")
        return "halted", None
    said = text(raw.get("result"))
    result = said if said in ("yes", "no") else None
    return status, result if status == "resolved" else None


def _facts(raw: Mapping[str, Any], series: str) -> dict[str, str]:
    facts = {"series": series} if series else {}
    for name in _TEXT_FACTS:
        if text(raw.get(name)):
            facts[name] = raw[name]
    if text(raw.get("occurrence_datetime")):
        # Three hours late for whole leagues (notes, section 5): not to be held against another start.
        facts[OCCURS] = raw["occurrence_datetime"]
    for name in _NUMBER_FACTS:
        number = number_text(raw.get(name))
        if number is not None:
            facts[name] = number
    # The first shard is what is meant when none is named (notes, section 5).
    facts.setdefault(SHARD, "0")
    if isinstance(raw.get("custom_strike"), dict):
        facts["custom_strike"] = write_json(raw["custom_strike"]).decode()
    ranges = raw.get("price_ranges")
    if isinstance(ranges, list) and ranges:
        facts["price_ranges"] = write_json(ranges).decode()
        steps = [number_text(r.get("step")) if isinstance(r, dict) else None for r in ranges]
        known = [step for step in steps if step is not None]
        if len(known) == len(steps):
            facts["tick"] = min(known, key=Decimal)
        else:
            _bad("price_ranges", facts["price_ranges"])
    facts["min_size"] = _SMALLEST_SIZE
    return facts
