"""Polymarket discovery: Gamma's events and markets, the CLOB for what Gamma leaves out.

Facts: venue notes, sections 3 and 4. Gamma wraps lists in strings (`outcomes`, `clobTokenIds`,
`positionIds`, `outcomePrices`); protocol V2 markets are quoted by position id instead of token id. A market
that cannot be read is counted and left out; the rest of its event is used.
"""

from __future__ import annotations

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
from wup.mapping.moments import START
from wup.mapping.rest import RestClient, listed, number_text, text, time_us
from wup.venues.fields import KnownFields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from wup.clock import Clock

PLATFORM = "polymarket"
_PAGE = 100
# Venue notes 3.1: Gamma /events 500 per 10 s, CLOB 9,000 per 10 s; half of it leaves room for others.
_GAMMA_RATE, _GAMMA_BURST = 25.0, 50
_CLOB_RATE, _CLOB_BURST = 100.0, 100

# Gamma's field -> name among the facts, for values that are plain text.
_TEXT_FACTS = {
    "slug": "slug",
    "version": "version",
    "questionID": "question_id",
    "groupItemTitle": "group_item_title",
    "groupItemThreshold": "group_item_threshold",
    "sportsMarketType": "sports_market_type",
    "gameStartTime": START,
    "endDate": "end_time",
    "startDate": "start_time",
    "umaResolutionStatus": "uma_status",
}
_NUMBER_FACTS = {"line": "line"}
_FEE_NUMBERS = {"takerBaseFee": "taker_base_fee", "makerBaseFee": "maker_base_fee"}


_EVENT_FIELDS = KnownFields(
    PLATFORM,
    "event",
    """
    active archived automaticallyActive automaticallyResolved category closed closedTime commentCount
    competitive createdAt creationDate cumulativeMarkets cyom deploying deployingTimestamp description
    enableNegRisk enableOrderBook endDate ended estimateValue eventMetadata featured featuredOrder
    gameId gmpChartMode icon id image liquidity liquidityClob live markets negRisk negRiskAugmented
    negRiskMarketID new openInterest pendingDeployment period published_at requiresTranslation
    resolutionSource restricted score series seriesSlug showAllOutcomes showMarketImages slug sortBy
    startDate startTime tags ticker title updatedAt version volume volume1mo volume1wk volume1yr
    volume24hr
    """,
)
_MARKET_FIELDS = KnownFields(
    PLATFORM,
    "market",
    """
    acceptingOrders acceptingOrdersTimestamp active approved archived automaticallyActive
    automaticallyResolved bestAsk bestBid category clearBookOnStart clobRewards clobTokenIds closed
    closedTime competitive conditionId createdAt customLiveness cyom deploying deployingTimestamp
    description enableOrderBook endDate endDateIso events featured feeSchedule feeType feesEnabled
    funded gameId gameStartTime groupItemThreshold groupItemTitle hasReviewedDates holdingRewardsEnabled
    icon id image lastTradePrice line liquidity liquidityClob liquidityNum makerBaseFee manualActivation
    marketMakerAddress negRisk negRiskMarketID negRiskOther negRiskRequestID new oneDayPriceChange
    oneHourPriceChange oneMonthPriceChange oneWeekPriceChange oneYearPriceChange orderMinSize
    orderPriceMinTickSize outcomePrices outcomes pagerDutyNotificationEnabled pendingDeployment
    positionIds question questionID ready requiresTranslation resolutionSource resolvedBy restricted
    rewardsMaxSpread rewardsMinSize rfqEnabled secondsDelay seriesColor showGmpOutcome showGmpSeries
    slug sportsMarketType spread startDate startDateIso submitted_by takerBaseFee teamAID teamBID
    umaBond umaEndDate umaResolutionStatus umaResolutionStatuses umaReward updatedAt version volume
    volume1mo volume1moClob volume1wk volume1wkClob volume1yr volume1yrClob volume24hr volume24hrClob
    volumeClob volumeNum
    """,
)


class PolymarketUrls(Protocol):
    """The part of the venue's settings that discovery needs."""

    @property
    def polymarket_gamma_url(self) -> str: ...
    @property
    def polymarket_clob_url(self) -> str: ...


class PolymarketCatalogue:
    """REST discovery by event slug (see `wup.mapping.catalogue.Catalogue`)."""

    platform = PLATFORM
    bare_slugs = True

    def __init__(self, settings: PolymarketUrls, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._gamma = RestClient(
            PLATFORM, settings.polymarket_gamma_url, rate=_GAMMA_RATE, burst=_GAMMA_BURST, clock=clock
        )
        self._clob = RestClient(
            PLATFORM, settings.polymarket_clob_url, rate=_CLOB_RATE, burst=_CLOB_BURST, clock=clock
        )
        self._from_clob: dict[str, dict[str, str]] = {}

    async def event(self, slug: str) -> VenueEventRecord:
        if slug in ("", ".", ".."):
            raise EventNotFound(f"{PLATFORM}: {slug!r} is not a slug")
        answer = await self._gamma.get(f"/events/slug/{quote(slug, safe='')}")
        if isinstance(answer, list):
            if not answer:
                raise EventNotFound(f"{PLATFORM}: no event {slug!r}")
            answer = answer[0]
        if not isinstance(answer, dict):
            raise EventUnreadable(f"{PLATFORM}: {slug!r}: not an event")
        if answer.get("slug") != slug:
            # Another event under this name would be merged under a wrong key.
            raise EventUnreadable(f"{PLATFORM}: asked for {slug!r}, got {text(answer.get('slug'))!r}")
        return await self._record(answer)

    async def events(self) -> AsyncIterator[VenueEventRecord]:
        cursor = ""
        while True:
            params = {"closed": "false", "limit": str(_PAGE)}
            if cursor:
                # Any other name is silently ignored by the venue (notes 4.2), which would loop for ever.
                params["after_cursor"] = cursor
            page = await self._gamma.get("/events/keyset", params)
            found = page.get("events") if isinstance(page, dict) else None
            if not isinstance(found, list):
                raise CatalogueError(f"{PLATFORM}: event list without `events`")
            for raw in found:
                if isinstance(raw, dict) and text(raw.get("slug")):
                    yield await self._record(raw)
                else:
                    _bad("event_without_slug", raw)
            following = text(page.get("next_cursor"))
            if not following:
                return
            if following == cursor:
                raise CatalogueError(f"{PLATFORM}: the list's cursor does not move on")
            cursor = following

    async def pause(self) -> Pause | None:
        """This venue says nothing of the kind: a market that takes no orders says so itself."""
        return None

    async def close(self) -> None:
        await self._gamma.close()
        await self._clob.close()

    async def _record(self, raw: Mapping[str, Any]) -> VenueEventRecord:
        slug = text(raw.get("slug"))
        _EVENT_FIELDS.see(raw)
        markets: list[VenueMarket] = []
        listing = raw.get("markets")
        if not isinstance(listing, list):
            _bad("no_markets", slug)
            listing = []
        seen: set[str] = set()
        for item in listing:
            market = await self._market(slug, item)
            if market is None:
                continue
            if market.market_id in seen:
                _bad("duplicate_market", market.market_id)
                continue
            seen.add(market.market_id)
            markets.append(market)
        return VenueEventRecord(
            platform=PLATFORM,
            slug=slug,
            title=text(raw.get("title")) or slug,
            category=_category(raw),
            # Without negRisk the markets of an event are independent statements.
            exclusive=raw.get("negRisk") is True,
            markets=tuple(markets),
            fetched_us=self._clock.now_us(),
            close_us=time_us(raw.get("endDate")),
            raw=raw,
        )

    async def _market(self, slug: str, raw: object) -> VenueMarket | None:
        if not isinstance(raw, dict):
            _bad("market_not_object", repr(raw))
            return None
        condition = text(raw.get("conditionId"))
        _MARKET_FIELDS.see(raw)
        if not condition:
            _bad("no_condition_id", f"{slug}: {raw.get('id')!r}")
            return None
        status, result = _status(raw)
        outcomes = _strings(raw.get("outcomes"))
        version2 = text(raw.get("version")).lower() == "v2"
        tokens = _strings(raw.get("positionIds" if version2 else "clobTokenIds"))
        if (
            len(outcomes) != 2
            or len(tokens) != 2
            or not all(t.isdigit() for t in tokens)
            or tokens[0] == tokens[1]
        ):
            if status == "open":
                # Placeholders of augmented events have no tokens yet: nothing wrong with those.
                _bad("no_tokens", f"{slug}: {condition}: {outcomes!r} {tokens!r}")
            return None
        facts = _facts(raw)
        if status in ("open", "halted"):
            await self._complete(condition, facts)
        rules = text(raw.get("description"))
        source = text(raw.get("resolutionSource"))
        return VenueMarket(
            market_id=condition,
            asset_id=tokens[0],
            assets=(tokens[0], tokens[1]),
            label=_label(raw, outcomes),
            question=text(raw.get("question")),
            status=status,
            rules=f"{rules}\n\n{source}" if source else rules,
            outcomes=(outcomes[0], outcomes[1]),
            line=facts.get("line"),
            tick=facts.get("tick"),
            min_size=facts.get("min_order_size"),
            close_us=time_us(raw.get("endDate")),
            result=result,
            fees=_fees(raw),
            facts=facts,
            raw=raw,
        )

    async def _complete(self, condition: str, facts: dict[str, str]) -> None:
        """The three facts that the book hash needs (venue notes 2.1), from the CLOB where Gamma has none."""
        missing = [name for name in ("tick", "min_order_size", "neg_risk") if name not in facts]
        if not missing:
            return
        known = self._from_clob.get(condition)
        if known is None:
            try:
                answer = await self._clob.get(f"/clob-markets/{quote(condition, safe='')}")
            except CatalogueError as error:
                _bad("facts_missing", f"{condition}: {missing}: {error}")
                return
            known = {}
            if isinstance(answer, dict):
                tick, least = number_text(answer.get("mts")), number_text(answer.get("mos"))
                if tick is not None:
                    known["tick"] = tick
                if least is not None:
                    known["min_order_size"] = least
                if isinstance(answer.get("nr"), bool):
                    known["neg_risk"] = _flag(answer["nr"])
            self._from_clob[condition] = known
        for name in missing:
            if name in known:
                facts[name] = known[name]
            else:
                _bad("facts_missing", f"{condition}: {name}")


def _bad(kind: str, sample: object) -> None:
    logs.bad_input("events", PLATFORM, kind, sample if isinstance(sample, str) else repr(sample))


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _strings(value: object) -> list[str]:
    """A list of strings, or a string holding one; numbers in it become their digits."""
    found = listed(value) or []
    return [item if isinstance(item, str) else (number_text(item) or "") for item in found]


def _category(raw: Mapping[str, Any]) -> str | None:
    if text(raw.get("category")):
        return text(raw["category"])
    tags = raw.get("tags")
    if isinstance(tags, list):
        for tag in tags:
            if isinstance(tag, dict) and tag.get("forceShow") is True and text(tag.get("label")):
                return text(tag["label"])
        for tag in tags:
            if isinstance(tag, dict) and text(tag.get("label")):
                return text(tag["label"])
    return None


def _label(raw: Mapping[str, Any], outcomes: list[str]) -> str:
    """The short outcome name: the group's, else the first outcome's (a team), else the question."""
    if text(raw.get("groupItemTitle")):
        return text(raw["groupItemTitle"])
    if outcomes[0].casefold() != "yes":
        return outcomes[0]
    return text(raw.get("question")) or outcomes[0]


def _status(raw: Mapping[str, Any]) -> tuple[MarketStatus, str | None]:
    """Status, and the result of a resolved market for its first outcome.

    Gamma keeps a closed market's last prices until the oracle has spoken, so a result is believed only when
    the prices are exactly 1 and 0 and no proposal or dispute is open.
    """
    if raw.get("closed") is True or raw.get("archived") is True:
        prices = [number_text(p) for p in listed(raw.get("outcomePrices")) or []]
        oracle = text(raw.get("umaResolutionStatus")) or next(
            (s for s in reversed(_strings(raw.get("umaResolutionStatuses")))), ""
        )
        if oracle in ("", "resolved"):
            if prices == ["1", "0"]:
                return "resolved", "yes"
            if prices == ["0", "1"]:
                return "resolved", "no"
            if oracle == "resolved":
                return "resolved", None
        return "closed", None
    if raw.get("active") is False or raw.get("enableOrderBook") is False:
        # Placeholder outcomes and markets without a book: nothing to follow, now or until they are listed.
        return "unlisted", None
    if raw.get("acceptingOrders") is False:
        return "halted", None
    return "open", None


def _facts(raw: Mapping[str, Any]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for field, name in _TEXT_FACTS.items():
        if text(raw.get(field)):
            facts[name] = raw[field]
    for field, name in _NUMBER_FACTS.items():
        number = number_text(raw.get(field))
        if number is not None:
            facts[name] = number
    tick, least = number_text(raw.get("orderPriceMinTickSize")), number_text(raw.get("orderMinSize"))
    if tick is not None:
        facts["tick"] = tick
    if least is not None:
        facts["min_order_size"] = least
    for field, name in (
        ("negRisk", "neg_risk"),
        ("negRiskOther", "other"),
    ):
        if isinstance(raw.get(field), bool):
            facts[name] = _flag(raw[field])
    return facts


def _fees(raw: Mapping[str, Any]) -> dict[str, str]:
    """Gamma's fee fields; those of `feeSchedule` by their own names (`rate`, `takerOnly`, ...)."""
    fees: dict[str, str] = {}
    if isinstance(raw.get("feesEnabled"), bool):
        fees["enabled"] = _flag(raw["feesEnabled"])
    if text(raw.get("feeType")):
        fees["type"] = raw["feeType"]
    schedule = raw.get("feeSchedule")
    for name, value in schedule.items() if isinstance(schedule, dict) else ():
        shown = _flag(value) if isinstance(value, bool) else number_text(value) or text(value)
        if shown:
            fees[name] = shown
    for field, name in _FEE_NUMBERS.items():
        number = number_text(raw.get(field))
        if number is not None:
            fees[name] = number
    return fees
