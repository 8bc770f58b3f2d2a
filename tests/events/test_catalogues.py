"""Both venues' catalogues: real captures and a real HTTP server with faults."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import Response
from structlog.testing import capture_logs

from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market, token
from wup.mapping.catalogue import CatalogueError, EventNotFound, EventUnreadable, rules_sha256
from wup.mapping.rest import number_text, read_json, time_us, write_json
from wup.metrics import BAD_INPUT, REGISTRY
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.polymarket.catalog import PolymarketCatalogue


@pytest.fixture
async def polymarket(rest: VenueRest) -> AsyncIterator[PolymarketCatalogue]:
    catalogue = PolymarketCatalogue(rest.urls)
    yield catalogue
    await catalogue.close()


@pytest.fixture
async def kalshi(rest: VenueRest) -> AsyncIterator[KalshiCatalogue]:
    catalogue = KalshiCatalogue(rest.urls)
    yield catalogue
    await catalogue.close()


def bad(platform: str, kind: str) -> float:
    """How often this kind of bad input was counted."""
    return BAD_INPUT.labels("events", platform, kind)._value.get()


async def test_polymarket_capture(rest: VenueRest, polymarket: PolymarketCatalogue, captures: Path) -> None:
    """The captured Fed event gives five markets with the tokens, ticks and hash facts of the CLOB capture."""
    rest.gamma["fed-decision-in-june-825"] = (captures / "polymarket/gamma-event.json").read_text()  # type: ignore[assignment]
    event = await polymarket.event("fed-decision-in-june-825")
    compact = {m["c"]: m for m in json.loads((captures / "polymarket/clob-markets.json").read_text())}
    books = {b["asset_id"]: b for b in json.loads((captures / "polymarket/clob-books.json").read_text())}
    assert event.exclusive
    assert [m.label for m in event.markets] == [
        "25 bps decrease",
        "25 bps increase",
        "50+ bps decrease",
        "No change",
        "50+ bps increase",
    ]
    for market in event.markets:
        assert [t["t"] for t in compact[market.market_id]["t"]] == list(market.assets)
        book = books[market.asset_id]
        assert (market.tick, market.facts["min_order_size"]) == (book["tick_size"], book["min_order_size"])
        assert market.facts["neg_risk"] == ("true" if book["neg_risk"] else "false")
        assert market.status == "open"
        assert market.result is None
        assert market.close_us == 1_781_654_400_000_000
        assert market.fees == {
            "enabled": "true",
            "type": "economics_fees",
            "exponent": "1",
            "rate": "0.05",
            "takerOnly": "true",
            "rebateRate": "0.25",
            "taker_base_fee": "1000",
            "maker_base_fee": "1000",
        }
    assert rest.hits["clob"] == 0


async def test_kalshi_captures(rest: VenueRest, kalshi: KalshiCatalogue, captures: Path) -> None:
    """Every captured event with its 259 markets is read, with exact strikes, ticks and both rule texts."""
    capture = json.loads((captures / "kalshi/events_mlb_props_nested.json").read_text())
    raw = [event for events in capture["events_by_series"].values() for event in events]
    for event in raw:
        rest.kalshi[event["event_ticker"]] = event
    rest.page = 3
    read = [event async for event in kalshi.events()]
    assert [event.slug for event in read] == [event["event_ticker"] for event in raw]
    assert sum(len(event.markets) for event in read) == sum(a["markets"] for a in capture["answers"]) == 259
    for event, source in zip(read, raw, strict=True):
        for market, original in zip(event.markets, source["markets"], strict=True):
            assert (market.tick, market.min_size, market.status) == ("0.01", "0.01", "open")
            assert market.label == original["yes_sub_title"]
            assert market.rules == f"{original['rules_primary']}\n\n{original['rules_secondary']}"
            assert market.facts["floor_strike"] == str(original["floor_strike"])
            assert market.facts["series"] == source["series_ticker"]


async def test_kalshi_fees(rest: VenueRest, kalshi: KalshiCatalogue, captures: Path) -> None:
    """Fee fields of the series reach every market, exactly, asked for once; an event's override wins."""
    capture = json.loads((captures / "kalshi/series_fee_fields.json").read_text())
    rest.series["KXMLBGAME"] = capture["payloads"]["KXMLBGAME"]["series"]
    rest.kalshi["KXMLBGAME-1"] = kalshi_event("KXMLBGAME-1", [kalshi_market("KXMLBGAME-1-A")])
    rest.kalshi["KXMLBGAME-2"] = kalshi_event(
        "KXMLBGAME-2", [kalshi_market("KXMLBGAME-2-A")], fee_multiplier_override=0.07
    )
    first = await kalshi.event("KXMLBGAME-1")
    second = await kalshi.event("KXMLBGAME-2")
    assert first.markets[0].fees == {"type": "quadratic_with_maker_fees", "multiplier": "0.5"}
    assert second.markets[0].fees == {"type": "quadratic_with_maker_fees", "multiplier": "0.07"}
    assert rest.hits["series"] == 1


async def test_rules_digest(rest: VenueRest, polymarket: PolymarketCatalogue) -> None:
    """The digest is over the description, and over the source after an empty line where there is one."""
    rest.gamma["e"] = gamma_event(
        "e",
        [gamma_market(1, description="Pays é."), gamma_market(2, description="A", resolutionSource="B")],
    )
    first, second = (await polymarket.event("e")).markets
    assert first.rules == "Pays é."
    assert rules_sha256(first.rules) == "0a0ac0fed238c6add45f04cc6016cde5b2961339efb616306e25de4929813d3f"
    assert second.rules == "A\n\nB"


async def test_rules_that_are_not_there_leave_no_gap(rest: VenueRest, kalshi: KalshiCatalogue) -> None:
    """One rule text alone stands alone, whichever it is."""
    rest.kalshi["E"] = kalshi_event(
        "E",
        [
            kalshi_market("E-A", rules_primary="A", rules_secondary=""),
            kalshi_market("E-B", rules_primary=None, rules_secondary="B"),
            kalshi_market("E-C", rules_primary="A", rules_secondary="B"),
        ],
    )
    assert [m.rules for m in (await kalshi.event("E")).markets] == ["A", "B", "A\n\nB"]


async def test_json_lists_in_both_forms(rest: VenueRest, polymarket: PolymarketCatalogue) -> None:
    """Lists are read from strings holding JSON and from real lists alike, also when ids come as numbers."""
    rest.gamma["e"] = gamma_event(
        "e",
        [
            gamma_market(1),
            gamma_market(2, outcomes=["Yes", "No"], clobTokenIds=[token(4), token(5)]),
            gamma_market(3, clobTokenIds=f"[{token(6)}, {token(7)}]"),
        ],
    )
    event = await polymarket.event("e")
    assert [m.assets for m in event.markets] == [(token(2 * n), token(2 * n + 1)) for n in (1, 2, 3)]
    assert [m.outcomes for m in event.markets] == [("Yes", "No")] * 3


async def test_protocol_v2_uses_position_ids(rest: VenueRest, polymarket: PolymarketCatalogue) -> None:
    """A market of protocol V2 is quoted by position ids, not by token ids."""
    rest.gamma["e"] = gamma_event(
        "e", [gamma_market(1, version="v2", positionIds=json.dumps([token(100), token(101)]))]
    )
    (market,) = (await polymarket.event("e")).markets
    assert market.assets == (token(100), token(101))


async def test_missing_hash_facts_come_from_the_clob(
    rest: VenueRest, polymarket: PolymarketCatalogue
) -> None:
    """Tick, minimum size and neg_risk are taken from the CLOB when Gamma has none, once per market."""
    market = gamma_market(1, orderMinSize=None)
    del market["negRisk"], market["orderPriceMinTickSize"]
    rest.gamma["e"] = gamma_event("e", [market])
    rest.clob[market["conditionId"]] = {"mos": 15, "mts": 0.0025, "nr": False}
    for _ in range(2):
        (read,) = (await polymarket.event("e")).markets
        assert (read.tick, read.min_size, read.facts["neg_risk"]) == ("0.0025", "15", "false")
    assert rest.hits["clob"] == 1


@pytest.mark.parametrize(
    ("changes", "status", "result"),
    [
        ({}, "open", None),
        ({"acceptingOrders": False}, "halted", None),
        ({"active": False}, "unlisted", None),
        ({"enableOrderBook": False}, "unlisted", None),
        ({"closed": True}, "closed", None),
        ({"closed": True, "outcomePrices": '["1", "0"]'}, "resolved", "yes"),
        ({"closed": True, "outcomePrices": ["0", "1"]}, "resolved", "no"),
        ({"closed": True, "outcomePrices": '["0.9995", "0.0005"]'}, "closed", None),
        (
            {"closed": True, "outcomePrices": '["1", "0"]', "umaResolutionStatuses": '["proposed"]'},
            "closed",
            None,
        ),
        (
            {
                "closed": True,
                "outcomePrices": '["0", "1"]',
                "umaResolutionStatuses": '["disputed","resolved"]',
            },
            "resolved",
            "no",
        ),
        (
            {"closed": True, "outcomePrices": '["0.5","0.5"]', "umaResolutionStatus": "resolved"},
            "resolved",
            None,
        ),
    ],
)
async def test_polymarket_status(
    rest: VenueRest,
    polymarket: PolymarketCatalogue,
    changes: dict[str, object],
    status: str,
    result: str | None,
) -> None:
    """A result is believed only when the oracle is done and the prices are exactly one and zero."""
    rest.gamma["e"] = gamma_event("e", [gamma_market(1, **changes)])
    (market,) = (await polymarket.event("e")).markets
    assert (market.status, market.result) == (status, result)


@pytest.mark.parametrize(
    ("word", "said", "status", "result"),
    [
        ("initialized", "", "halted", None),
        ("inactive", "", "halted", None),
        ("active", "", "open", None),
        ("closed", "", "closed", None),
        ("determined", "yes", "resolved", "yes"),
        ("finalized", "no", "resolved", "no"),
        ("finalized", "scalar", "resolved", None),
        ("disputed", "yes", "closed", None),
        ("amended", "no", "closed", None),
        ("brand_new_word", "", "halted", None),
    ],
)
async def test_kalshi_status(
    rest: VenueRest, kalshi: KalshiCatalogue, word: str, said: str, status: str, result: str | None
) -> None:
    """Each status word has its meaning; one that is not known keeps the leg out."""
    rest.kalshi["E"] = kalshi_event("E", [kalshi_market("E-A", status=word, result=said)])
    (market,) = (await kalshi.event("E")).markets
    assert (market.status, market.result) == (status, result)


async def test_polymarket_bad_markets_do_not_hide_good_ones(
    rest: VenueRest, polymarket: PolymarketCatalogue
) -> None:
    """What cannot be read is counted by kind, and the rest of the event is used."""
    rest.gamma["e"] = gamma_event(
        "e",
        [
            "not a market",  # type: ignore[list-item]
            gamma_market(1, conditionId=None),
            gamma_market(2, clobTokenIds="[not json"),
            gamma_market(3, outcomes='["A","B","C"]'),
            gamma_market(4, clobTokenIds=json.dumps([token(1), token(1)])),
            gamma_market(5),
            gamma_market(5),
            gamma_market(6, orderPriceMinTickSize="none", newField={"x": [1]}),
        ],
    )
    kinds = ("market_not_object", "no_condition_id", "no_tokens", "duplicate_market", "facts_missing")
    before = {kind: bad("polymarket", kind) for kind in kinds}
    event = await polymarket.event("e")
    assert [m.label for m in event.markets] == ["Outcome 5", "Outcome 6"]
    assert event.markets[1].tick is None
    assert {kind: bad("polymarket", kind) - before[kind] for kind in kinds} == {
        "market_not_object": 1,
        "no_condition_id": 1,
        "no_tokens": 3,
        "duplicate_market": 1,
        "facts_missing": 1,
    }


async def test_kalshi_bad_markets_do_not_hide_good_ones(rest: VenueRest, kalshi: KalshiCatalogue) -> None:
    """What cannot be merged or read is counted by kind, and the rest of the event is used."""
    rest.kalshi["E"] = kalshi_event(
        "E",
        [
            7,  # type: ignore[list-item]
            kalshi_market("E-A", ticker=""),
            kalshi_market("E-B", market_type="scalar"),
            kalshi_market("E-C", notional_value_dollars="10.0000"),
            kalshi_market("E-D", floor_strike=83399.99, new_field=[{}]),
            kalshi_market("E-D"),
            kalshi_market("E-E", price_ranges=[{"start": "0", "end": "1"}]),
        ],
    )
    kinds = (
        "market_not_object",
        "market_without_ticker",
        "not_binary",
        "notional_value",
        "duplicate_market",
        "price_ranges",
    )
    before = {kind: bad("kalshi", kind) for kind in kinds}
    event = await kalshi.event("E")
    assert [m.market_id for m in event.markets] == ["E-D", "E-E"]
    assert event.markets[0].facts["floor_strike"] == "83399.99"
    assert event.markets[1].tick is None
    assert {kind: bad("kalshi", kind) - before[kind] for kind in kinds} == dict.fromkeys(kinds, 1)


async def test_tapered_grid_gives_its_smallest_step(rest: VenueRest, kalshi: KalshiCatalogue) -> None:
    """The tick of a grid with several bands is its smallest step, and the bands stay among the facts."""
    ranges = [
        {"start": "0.0000", "end": "0.1000", "step": "0.0010"},
        {"start": "0.1000", "end": "0.9000", "step": "0.0100"},
        {"start": "0.9000", "end": "1.0000", "step": "0.0010"},
    ]
    rest.kalshi["E"] = kalshi_event("E", [kalshi_market("E-A", price_ranges=ranges)])
    (market,) = (await kalshi.event("E")).markets
    assert market.tick == "0.001"
    assert json.loads(market.facts["price_ranges"]) == ranges


async def test_lists_are_walked_to_the_end(
    rest: VenueRest, polymarket: PolymarketCatalogue, kalshi: KalshiCatalogue
) -> None:
    """Both listings follow their cursor through every page; Kalshi's combos are left out."""
    for n in range(5):
        rest.gamma[f"e{n}"] = gamma_event(f"e{n}", [gamma_market(n)])
        rest.kalshi[f"E{n}"] = kalshi_event(f"E{n}", [kalshi_market(f"E{n}-A")])
    rest.kalshi["KXMVEX-1"] = kalshi_event("KXMVEX-1", [])
    assert [event.slug async for event in polymarket.events()] == [f"e{n}" for n in range(5)]
    assert [event.slug async for event in kalshi.events()] == [f"E{n}" for n in range(5)]
    assert rest.hits["gamma_list"] == rest.hits["kalshi_list"] == 3


async def test_a_cursor_that_stands_still_ends_the_walk(rest: VenueRest, kalshi: KalshiCatalogue) -> None:
    """A venue that returns the same cursor for ever is an error, not an endless loop."""
    page = json.dumps({"events": [], "cursor": "same"})
    rest.once = [Response(page, media_type="application/json") for _ in range(2)]
    with pytest.raises(CatalogueError, match="cursor"):
        _ = [event async for event in kalshi.events()]


async def test_not_found(rest: VenueRest, polymarket: PolymarketCatalogue, kalshi: KalshiCatalogue) -> None:
    """A venue's 404 and names that are no path part are `EventNotFound`."""
    for catalogue in (polymarket, kalshi):
        for slug in ("nothing", "", ".", ".."):
            with pytest.raises(EventNotFound):
                await catalogue.event(slug)


@pytest.mark.parametrize("slug", ["a.b", "a/b", "a b?c=d#e", "ünï-çødé-☃", "x" * 300, "a%2Fb", "..a"])
async def test_odd_slugs_reach_the_venue_unchanged(
    rest: VenueRest, polymarket: PolymarketCatalogue, slug: str
) -> None:
    """Dots, slashes, query characters, unicode and 300 characters arrive as one path part."""
    rest.gamma[slug] = gamma_event(slug, [gamma_market(1)])
    assert (await polymarket.event(slug)).slug == slug


async def test_another_event_than_asked_for_is_refused(
    rest: VenueRest, polymarket: PolymarketCatalogue, kalshi: KalshiCatalogue
) -> None:
    """An answer about another event is never stored under the name that was asked for."""
    rest.gamma["mine"] = gamma_event("other", [])
    rest.kalshi["MINE"] = kalshi_event("OTHER", [])
    for catalogue, slug in ((polymarket, "mine"), (kalshi, "MINE")):
        with pytest.raises(CatalogueError, match="asked for"):
            await catalogue.event(slug)


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Bad gateway</html>", 200),
        Response("[1, 2", 200),
        Response('{"event": NaN}', 200),
        Response("[" * 100_000, 200),
        Response(b"\xff\xfe{}", 200),
        Response("null", 200),
        Response("{}", 200),
        Response("{}", 302, headers={"location": "http://127.0.0.1:9/"}),
        Response("{}", 403),
    ],
)
async def test_unreadable_answers_are_clear_errors(
    rest: VenueRest, polymarket: PolymarketCatalogue, kalshi: KalshiCatalogue, answer: Response
) -> None:
    """HTML, broken JSON, NaN, endless nesting, other types and codes raise `CatalogueError`, nothing else."""
    rest.fault = answer
    for catalogue in (polymarket, kalshi):
        with pytest.raises(CatalogueError):
            await catalogue.event("E")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, EventUnreadable) for status in (400, 402, 405, 406, 410, 414, 422, 431)),
        # About who asks, or about the venue.
        *((status, CatalogueError) for status in (301, 302, 401, 403, 407, 451, 204)),
        *((status, CatalogueError) for status in (425, 429, 500, 502, 503, 504, 520, 599)),
        (404, EventNotFound),
        # An answer, but none that can be used.
        (200, EventUnreadable),
    ],
)
async def test_which_answers_are_about_the_event(
    rest: VenueRest,
    polymarket: PolymarketCatalogue,
    kalshi: KalshiCatalogue,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[CatalogueError],
) -> None:
    """A refused name and an unreadable answer are this event's alone; what the venue would say to any
    question counts against the venue, and opens its breaker."""
    monkeypatch.setattr("wup.mapping.rest.backoff.full_jitter", lambda *_, **__: 0.0)
    rest.fault = Response(
        None if status == 204 else b"[1,", status, headers={"location": "http://127.0.0.1:9/"}
    )
    for catalogue in (polymarket, kalshi):
        with pytest.raises(CatalogueError) as caught:
            await catalogue.event("E")
        assert type(caught.value) is kind


@pytest.mark.parametrize("header", ["inf", "1e300", "999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_endless_wait_is_cut(rest: VenueRest, polymarket: PolymarketCatalogue, header: str) -> None:
    """A venue that says to wait for ever is asked again within the hour."""
    rest.fault = Response("no", 503, headers={"retry-after": header})
    with pytest.raises(CatalogueError) as caught:
        await polymarket.event("e")
    assert caught.value.retry_after == 3600


async def test_short_retry_after_is_waited_for(rest: VenueRest, kalshi: KalshiCatalogue) -> None:
    """After a 429 with `Retry-After: 1` the next request comes a second later and succeeds."""
    rest.kalshi["E"] = kalshi_event("E", [])
    rest.series["E"] = {}
    rest.once = [Response('{"error":"too many requests"}', 429, headers={"retry-after": "1"})]
    began = time.monotonic()
    await kalshi.event("E")
    assert time.monotonic() - began >= 1.0


async def test_long_retry_after_is_told(rest: VenueRest, polymarket: PolymarketCatalogue) -> None:
    """A long wait is not sat out: the caller learns of it, from the header or from the body."""
    rest.fault = Response("<html>", 503, headers={"retry-after": "120"})
    with pytest.raises(CatalogueError) as caught:
        await polymarket.event("e")
    assert caught.value.retry_after == 120
    rest.fault = Response('{"retry_after_seconds": 30}', 429)
    other = PolymarketCatalogue(rest.urls)
    with pytest.raises(CatalogueError) as caught:
        await other.event("e")
    await other.close()
    assert caught.value.retry_after == 30


async def test_server_errors_are_tried_again(rest: VenueRest, polymarket: PolymarketCatalogue) -> None:
    """Two bad gateways in a row do not fail a fetch."""
    rest.gamma["e"] = gamma_event("e", [gamma_market(1)])
    rest.once = [Response("bad gateway", 502), Response("bad gateway", 502)]
    assert (await polymarket.event("e")).slug == "e"
    assert rest.hits["gamma"] == 3


async def test_no_server() -> None:
    """A venue that cannot be connected to is a `CatalogueError`."""
    server = VenueRest()
    await server.start()
    urls = server.urls
    await server.stop()
    catalogue = KalshiCatalogue(urls)
    with pytest.raises(CatalogueError):
        await catalogue.event("E")
    await catalogue.close()


def test_numbers_keep_their_digits() -> None:
    """JSON numbers come back digit by digit, and as text in shortest form."""
    text = '{"a":0.1000000000000000055511151231257827,"b":123456789012345678901234567890,"c":1e-3,"d":-0.0}'
    read = read_json(text)
    assert number_text(read["a"]) == "0.1000000000000000055511151231257827"
    assert number_text(read["b"]) == "123456789012345678901234567890"
    assert number_text(read["c"]) == "0.001"
    assert number_text(read["d"]) == "0"
    assert read_json(write_json(read)) == read
    for value in (True, None, "", "abc", [], "Infinity", "1e999999", "NaN"):
        assert number_text(value) is None


def test_times() -> None:
    """ISO times with Z, with an offset, with a space and with more digits than microseconds are read."""
    assert time_us("1970-01-01T00:00:01Z") == 1_000_000
    assert time_us("1970-01-01 01:00:00.5+01") == 500_000
    assert time_us("1970-01-01T00:00:00.1234569Z") == 123_456
    assert time_us("soon") is None
    assert time_us(None) is None


@pytest.mark.parametrize("known", [True, False])
async def test_new_fields_are_kept_and_counted_once(
    rest: VenueRest, polymarket: PolymarketCatalogue, kalshi: KalshiCatalogue, known: bool
) -> None:
    """A field that this version does not know is counted once by name and kept with the venue's own JSON; the
    event is as usable as before. Known fields count nothing."""
    extra = {} if known else {f"brandNew{number}": number for number in range(3)}
    rest.gamma["fed"] = {**gamma_event("fed", [{**gamma_market(1), **extra}]), **extra}
    rest.kalshi["K"] = {**kalshi_event("K", [{**kalshi_market("K-A"), **extra}]), **extra}
    rest.series["K"] = {}
    for catalogue, slug in ((polymarket, "fed"), (kalshi, "K")):
        with capture_logs() as logs:
            before = counted(catalogue.platform)
            for _ in range(2):
                event = await catalogue.event(slug)
        assert len(event.markets) == 1
        assert counted(catalogue.platform) - before == 2 * len(extra), logs
        for name in extra:
            assert event.raw[name] == event.markets[0].raw[name] == extra[name]


def counted(platform: str) -> float:
    """New fields counted so far."""
    labels = {"stage": "events", "platform": platform, "kind": "new_field"}
    return REGISTRY.get_sample_value("wup_bad_input_total", labels) or 0.0
