"""The event service on a real Valkey and a real HTTP server: discovery, publishing, tracking, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from starlette.responses import Response
from structlog.testing import capture_logs

from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market, token
from wup import _core, subjects
from wup.bus import LocalBus
from wup.config import Settings
from wup.errors import PortInUse, SettingsError
from wup.events.service import EventService
from wup.mapping.catalogue import rules_sha256
from wup.mapping.redis import connect
from wup.mapping.source import MappingSource
from wup.mapping.table import MappingTable
from wup.venues.kalshi.catalog import KalshiCatalogue
from wup.venues.polymarket.catalog import PolymarketCatalogue

KEY = "wup1|fed:2026-12|rate_decision|cut-25|-|meeting"
BOOK = f"fed-2026-12.{_core.market_hash(KEY)}.yes"
EVENT = gamma_event("fed", [gamma_market(1), gamma_market(2)])
TICKER = kalshi_event("KXFED-26DEC", [kalshi_market("KXFED-26DEC-C25"), kalshi_market("KXFED-26DEC-H0")])


def mapping(kalshi_rules: str | None = None) -> str:
    """A file that maps the first markets of both events."""
    rules = kalshi_rules or "If KXFED-26DEC-C25 happens, then Yes.\n\nSome fine print."
    legs = (
        ("kalshi", "KXFED-26DEC", "KXFED-26DEC-C25", rules_sha256(rules)),
        ("polymarket", "fed", f"0x{1:064x}", rules_sha256("Pays if outcome 1 happens.")),
    )
    text = 'version = 412\n[[aggregate]]\nid = "fed-2026-12"\ntitle = "Fed"\n'
    text += f'[[aggregate.market]]\nkey = "{KEY}"\nlabel = "25 bps cut"\n'
    for platform, event, market, digest in legs:
        text += (
            f'[[aggregate.market.leg]]\nplatform = "{platform}"\nevent = "{event}"\nmarket = "{market}"\n'
            f'polarity = "same"\nstatus = "confirmed"\nrules_sha256 = "{digest}"\nconfirmed_by = "human:ab"\n'
            "confirmed_at = 2026-11-20T10:00:00Z\n"
            'evidence = { source = "human", fields = { polarity = "same" } }\n'
        )
    return text


@pytest.fixture
def rest(rest: VenueRest) -> VenueRest:
    """One event on each venue."""
    rest.gamma["fed"], rest.kalshi["KXFED-26DEC"] = EVENT, TICKER
    rest.series["KXFED"] = {}
    return rest


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


Start = Callable[..., Any]


@pytest.fixture
async def start(rest: VenueRest, redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """start(**settings) -> running service; all are stopped in the end."""
    running: list[EventService] = []

    async def run(bus: LocalBus | None = None, url: str | None = None, **changes: Any) -> EventService:
        folder = tmp_path / "mappings"
        folder.mkdir(exist_ok=True)
        settings = Settings(
            **{"mappings": str(folder), "events_http_port": 0, "refresh_interval_secs": 60, **changes}
        )
        urls = rest.urls
        catalogues = {"kalshi": KalshiCatalogue(urls), "polymarket": PolymarketCatalogue(urls)}
        service = EventService(settings, bus or LocalBus(), url or redis_url, catalogues)
        await service.start()
        running.append(service)
        return service

    yield run
    for service in running:
        await service.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


class Follower:
    """What a stage sees: every table, in order."""

    def __init__(self, source: MappingSource) -> None:
        self.source = source
        self.tables: list[MappingTable] = []
        self._more = asyncio.Event()
        source.on_change(self._take)

    def _take(self, table: MappingTable) -> None:
        self.tables.append(table)
        self._more.set()

    async def until(self, right: Callable[[MappingTable], bool]) -> MappingTable:
        """The first table, now or later, that is right."""
        async with asyncio.timeout(15):
            while not right(self.source.table):
                self._more.clear()
                await self._more.wait()
        return self.source.table


@pytest.fixture
async def follow(redis_url: str) -> AsyncIterator[Callable[..., Any]]:
    """follow(bus) -> a started `Follower`."""
    sources: list[MappingSource] = []

    async def run(bus: LocalBus, url: str | None = None, wait_s: float = 10) -> Follower:
        source = MappingSource(url or redis_url, bus, poll_s=0.2)
        sources.append(source)
        follower = Follower(source)
        await source.start(wait_s=wait_s)
        return follower

    yield run
    for source in sources:
        await source.stop()


async def eventually(right: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something without an event of its own is so."""
    async with asyncio.timeout(seconds):
        while not right():
            await asyncio.sleep(0.02)


def assets(table: MappingTable) -> set[str]:
    """Asset ids of a table's legs."""
    return {leg.asset_id for leg in table.legs}


# --- discovery and mapping ------------------------------------------------------------------------


async def test_followed_events_without_mapping(start: Start, follow: Any, redis: Redis) -> None:
    """EVENT_SLUG alone gives single-venue books; a bare slug is Polymarket's; events are stored in full."""
    bus = LocalBus()
    await start(bus, event_slug=("fed", "kalshi:KXFED-26DEC"))
    table = (await follow(bus)).source.table
    assert assets(table) == {token(2), token(4), "KXFED-26DEC-C25", "KXFED-26DEC-H0"}
    assert {book.split(".")[0] for book in table.books} == {"polymarket-fed", "kalshi-KXFED-26DEC"}
    assert await redis.get("polymarket:event:fed") == b"polymarket-fed"
    stored = json.loads(await redis.get("event:polymarket:fed"))
    assert stored["raw"]["markets"][0]["orderPriceMinTickSize"] == 0.001
    assert stored["rules_sha256"] == rules_sha256("Pays if outcome 1 happens.\n\nPays if outcome 2 happens.")


async def test_mapping_file_joins_both_venues(
    start: Start, follow: Any, tmp_path: Path, redis: Redis
) -> None:
    """Events named by the mapping are followed by themselves; the version is not below the file's."""
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "fed.toml").write_text(mapping())
    bus = LocalBus()
    await start(bus)
    table = (await follow(bus)).source.table
    assert table.version >= 412
    assert [x.asset_id for x in table.legs if x.book == BOOK] == ["KXFED-26DEC-C25", token(2)]
    assert table.books[BOOK].label == "25 bps cut"
    assert await redis.get("kalshi:event:KXFED-26DEC") == b"fed-2026-12"
    assert (
        await redis.get("kalshi:market:KXFED-26DEC-C25")
        == f"{_core.market_hash(KEY)}|same|confirmed".encode()
    )


async def test_rules_halt_and_result(start: Start, follow: Any, rest: VenueRest, tmp_path: Path) -> None:
    """A changed rule text and a halt suspend the leg at once; a result leaves with the book resolved."""
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "fed.toml").write_text(mapping())
    bus = LocalBus()
    await start(bus, refresh_interval_secs=0.05)
    follower = await follow(bus)
    await follower.until(lambda t: BOOK in t.books)

    def suspended(why: str | None) -> Callable[[MappingTable], bool]:
        return lambda t: [x.suspended for x in t.legs if x.asset_id == "KXFED-26DEC-C25"] == [why]

    def kalshi(**changes: Any) -> None:
        rest.kalshi["KXFED-26DEC"] = kalshi_event(
            "KXFED-26DEC", [kalshi_market("KXFED-26DEC-C25", **changes)]
        )

    await follower.until(suspended(None))
    kalshi(rules_secondary="Other fine print.")
    await follower.until(suspended("rules_changed"))
    kalshi(status="inactive")
    await follower.until(suspended("halted"))
    kalshi()
    await follower.until(suspended(None))
    kalshi(status="finalized", result="yes")
    table = await follower.until(lambda t: "KXFED-26DEC-C25" not in assets(t))
    assert table.books[BOOK].result is None
    won = gamma_market(1, closed=True, outcomePrices='["1","0"]')
    rest.gamma["fed"] = gamma_event("fed", [won, gamma_market(2), gamma_market(3)])
    table = await follower.until(lambda t: t.books[BOOK].result == "yes")
    assert assets(table) == {token(4), token(6)}


async def test_files_are_taken_while_running(start: Start, follow: Any, tmp_path: Path) -> None:
    """An edited mapping file comes into force; a wrong one changes nothing and is shown as a problem."""
    bus = LocalBus()
    service = await start(bus, event_slug=("fed", "kalshi:KXFED-26DEC"))
    follower = await follow(bus)
    assert BOOK not in follower.source.table.books
    file = tmp_path / "mappings" / "fed.toml"
    file.write_text(mapping())
    await follower.until(lambda t: BOOK in t.books)
    file.write_text(mapping().replace('"same"', '"sideways"', 1))
    await eventually(lambda: bool(service.files_problems))
    assert "fed.toml:12: " in service.files_problems[0]
    assert BOOK in follower.source.table.books
    file.write_text("a = " + "[" * 5000)
    await eventually(lambda: any("cannot be read" in problem for problem in service.files_problems))
    file.unlink()
    table = await follower.until(lambda t: BOOK not in t.books)
    assert len(table.legs) == 4
    assert service.files_problems == []


async def test_a_restart_without_change_changes_no_market(start: Start, redis: Redis) -> None:
    """A second run finds its own mapping in Redis: it gives it a number of its own, on top of the one that
    stood there, and says that no market changed."""
    first = await start(event_slug=("fed",))
    await first.settled()
    run = await redis.get("mapping:run")
    assert (first.version, await redis.llen("mapping:history")) == (1, 1)
    await first.stop()
    bus = LocalBus()
    announced: list[bytes] = []
    await bus.subscribe(subjects.MAPPING_CHANGED, lambda message: announced.append(message.payload))
    second = await start(bus, event_slug=("fed",))
    await second.settled()
    assert await redis.get("mapping:version") == b"2"
    (told,) = map(json.loads, announced)
    assert (told["previous_run"], told["previous"]) == (run.decode(), 1)
    assert (told["run"], told["version"]) == ((await redis.get("mapping:run")).decode(), 2)
    assert told["markets"] == []
    assert await redis.llen("mapping:history") == 1


async def test_keys_that_are_not_wanted_any_more_go(start: Start, redis: Redis) -> None:
    """What an earlier run followed and this one does not is deleted; what somebody else wrote is not."""
    first = await start(event_slug=("fed", "kalshi:KXFED-26DEC"))
    await first.settled()
    await first.stop()
    await redis.set("market:ffffffffffffffff", "somebody else's")
    second = await start(event_slug=("fed",))
    await second.settled()
    keys = {key.decode() for key in await redis.keys("*")}
    assert not [key for key in keys if "kalshi" in key]
    assert "market:ffffffffffffffff" in keys
    assert await redis.scard("mapping:markets") == 2


# --- tracking -------------------------------------------------------------------------------------


async def test_track_and_untrack(
    start: Start, follow: Any, http: httpx2.AsyncClient, rest: VenueRest, redis: Redis, redis_url: str
) -> None:
    """A tracked event joins without a restart, survives one, and leaves when it is no longer asked for."""
    bus = LocalBus()
    service = await start(bus)
    follower = await follow(bus)
    base = f"http://127.0.0.1:{service.port}"
    answer = await http.post(f"{base}/v1/track", json={"platform": "polymarket", "slug": "fed"})
    assert answer.status_code == 201
    assert answer.json()["followed_by"] == ["tracked"]
    await follower.until(lambda t: len(t.legs) == 2)
    await service.settled()
    assert await redis.smembers("mapping:tracked") == {b"polymarket:fed"}
    await service.stop()
    again = await start(bus)
    await again.settled()
    assert again.tracked == {("polymarket", "fed")}
    base = f"http://127.0.0.1:{again.port}"
    assert (await http.delete(f"{base}/v1/track/polymarket/fed")).status_code == 204
    await follower.until(lambda t: not t.legs)
    assert (await http.get(f"{base}/v1/events/polymarket/fed")).status_code == 404
    assert (await http.delete(f"{base}/v1/track/polymarket/fed")).status_code == 404
    await again.settled()
    assert await redis.exists("event:polymarket:fed", "mapping:tracked") == 0


async def test_a_market_of_two_events(start: Start, follow: Any, rest: VenueRest, redis: Redis) -> None:
    """A market that two followed events list has one book and one set of keys: the first event's, also after
    a restart that finds them in another order; when that event leaves, the other has it at once, and nothing
    of it is deleted."""
    rest.gamma["zed"] = gamma_event("zed", [gamma_market(5), gamma_market(6)])
    rest.gamma["abc"] = gamma_event("abc", [gamma_market(6), gamma_market(7)])
    market = f"0x{6:064x}"
    hid = _core.market_hash(f"wup1|polymarket|{market}")
    bus = LocalBus()
    service = await start(bus)
    follower = await follow(bus)
    await service.track(("polymarket", "zed"))
    await service.track(("polymarket", "abc"))
    await follower.until(lambda t: len(t.legs) == 3)
    zed, abc = f"polymarket-zed.{hid}.yes", f"polymarket-abc.{hid}.yes"
    assert [x.book for x in follower.source.table.legs if x.market_id == market] == [zed]
    assert len(service.compiler.problems()) == 1
    await service.settled()
    await service.stop()
    again = await start(bus, refresh_interval_secs=0.1)
    await again.settled()
    assert sorted(again.tracked) == [("polymarket", "abc"), ("polymarket", "zed")]
    assert [x.book for x in again.compiler.table(1).legs if x.market_id == market] == [zed]
    again.untrack(("polymarket", "zed"))
    table = await follower.until(lambda t: any(x.book == abc for x in t.legs))
    assert assets(table) == {token(12), token(14)}
    await again.settled()
    keys = [f"polymarket:market:{market}", f"polymarket:token:{token(12)}", f"market:{hid}:members"]
    assert await redis.exists(*keys) == len(keys)
    assert await redis.exists(f"polymarket:token:{token(10)}", "aggregate:polymarket-zed") == 0
    assert await redis.smembers("aggregate:polymarket-abc:markets") >= {hid.encode()}
    await again.track(("polymarket", "zed"))
    await follower.until(lambda t: len(t.legs) == 3)
    again.untrack(("polymarket", "zed"))
    await follower.until(lambda t: len(t.legs) == 2)
    await again.settled()
    assert await redis.exists(*keys) == len(keys)


@pytest.mark.parametrize("slug", ["a.b", "a/b", "ünï-☃", "x" * 300])
async def test_odd_slugs_are_tracked(
    start: Start, http: httpx2.AsyncClient, rest: VenueRest, slug: str
) -> None:
    """Dots, slashes, unicode and 300 characters go all the way: track, read, untrack."""
    rest.gamma[slug] = gamma_event(slug, [gamma_market(7)])
    service = await start()
    base = f"http://127.0.0.1:{service.port}/v1"
    quoted = httpx2.URL("http://x").copy_with(path=f"/{slug}").raw_path.decode()
    answer = await http.post(f"{base}/track", json={"platform": "polymarket", "slug": slug})
    assert answer.status_code == 201
    assert (await http.get(f"{base}/events/polymarket{quoted}")).json()["slug"] == slug
    assert (await http.delete(f"{base}/track/polymarket{quoted}")).status_code == 204


async def test_tracking_errors(start: Start, http: httpx2.AsyncClient, rest: VenueRest) -> None:
    """Each wrong request gets a problem document with its reason, and changes nothing."""
    service = await start(event_slug=("fed",))
    base = f"http://127.0.0.1:{service.port}/v1"
    wrong = [
        (await http.post(f"{base}/track", json={"platform": "polymarket", "slug": "no-such-event"}), 404),
        (await http.post(f"{base}/track", json={"platform": "nyse", "slug": "fed"}), 400),
        (await http.post(f"{base}/track", json={"platform": "polymarket"}), 400),
        (await http.post(f"{base}/track", json={"platform": "polymarket", "slug": "a\nb"}), 400),
        (await http.post(f"{base}/track", json={"platform": "polymarket", "slug": "x" * 600}), 400),
        (await http.post(f"{base}/track", json={"platform": "polymarket", "slug": "fed", "more": 1}), 400),
        (await http.post(f"{base}/track", content=b"\xff{"), 400),
        (await http.delete(f"{base}/track/polymarket/fed"), 409),
        (await http.put(f"{base}/track"), 405),
        (await http.get(f"{base}/nothing"), 404),
        (await http.get(f"{base}/events?limit=0"), 400),
        (await http.get(f"{base}/events?status=lively"), 400),
    ]
    for answer, status in wrong:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    assert service.tracked == set()


async def test_listing(start: Start, http: httpx2.AsyncClient, rest: VenueRest) -> None:
    """Events are listed by page, platform, status and words, with their age and their aggregate."""
    for n in range(5):
        rest.gamma[f"e{n}"] = gamma_event(f"e{n}", [gamma_market(10 + n)], title=f"Title {n}")
    rest.gamma["e4"]["markets"][0]["closed"] = True
    service = await start(event_slug=(*(f"e{n}" for n in range(5)), "kalshi:KXFED-26DEC"))
    await service.settled()
    base = f"http://127.0.0.1:{service.port}/v1/events"

    async def slugs(query: str) -> list[str]:
        return [event["slug"] for event in (await http.get(f"{base}?{query}")).json()["events"]]

    assert await slugs("") == ["KXFED-26DEC", "e0", "e1", "e2", "e3", "e4"]
    assert await slugs("platform=polymarket&limit=2") == ["e0", "e1"]
    assert (await http.get(f"{base}?platform=polymarket&limit=2")).json()["next"] == "polymarket:e1"
    assert await slugs("platform=polymarket&limit=2&after=polymarket:e1") == ["e2", "e3"]
    assert await slugs("status=closed") == ["e4"]
    assert await slugs("q=tItLe+3") == ["e3"]
    full = (await http.get(f"{base}/polymarket/e3")).json()
    assert full["aggregate"] == "polymarket-e3"
    assert full["raw"]["title"] == "Title 3"
    assert full["markets"][0]["tick"] == "0.001"
    assert 0 <= full["age_ms"] < 60_000


async def test_foreign_hosts_and_origins_are_refused(start: Start, http: httpx2.AsyncClient) -> None:
    """A rebound name and another site's page get nothing, not even a look; the own names are served."""
    service = await start(allowed_origins=("http://desk.example",))
    url = f"http://127.0.0.1:{service.port}/v1/track"
    body = {"platform": "polymarket", "slug": "fed"}
    for headers, status in (
        ({"host": f"evil.example:{service.port}"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://desk.example.evil"}, 403),
    ):
        answer = await http.post(url, json=body, headers=headers)
        assert answer.status_code == status, headers
        assert answer.headers["content-type"] == "application/problem+json"
    assert service.tracked == set()
    for headers in (
        {"host": f"localhost:{service.port}"},
        {"host": "[::1]"},
        {"origin": "http://desk.example"},
    ):
        assert (
            await http.get(f"http://127.0.0.1:{service.port}/healthz", headers=headers)
        ).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_changes_do_not_come_through_a_proxy(
    start: Start, http: httpx2.AsyncClient, rest: VenueRest, header: str
) -> None:
    """A proxy on this machine makes nobody a user of it, trusted or not; reading goes through it."""
    service = await start(event_slug=("fed",), trusted_proxies=("127.0.0.1",))
    base = f"http://127.0.0.1:{service.port}/v1"
    headers = {header: "127.0.0.1"}
    body = {"platform": "kalshi", "slug": "KXFED-26DEC"}
    assert (await http.post(f"{base}/track", json=body, headers=headers)).status_code == 403
    assert (await http.delete(f"{base}/track/polymarket/fed", headers=headers)).status_code == 403
    assert (await http.post(f"{base}/publish", headers=headers)).status_code == 403
    assert service.tracked == set()
    assert (await http.get(f"{base}/events", headers=headers)).status_code == 200
    assert (await http.post(f"{base}/track", json=body)).status_code == 201


async def test_openapi_is_served(start: Start, http: httpx2.AsyncClient) -> None:
    """The OpenAPI document names every route of wire.md section 5, and the two for `wup map`."""
    service = await start()
    paths = (await http.get(f"http://127.0.0.1:{service.port}/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/v1/events",
        "/v1/events/{platform}/{slug}",
        "/v1/track",
        "/v1/track/{platform}/{slug}",
        "/v1/mappings",
        "/v1/mappings/{aggregate_id}",
        "/v1/history",
        "/v1/publish",
        "/healthz",
        "/readyz",
    }


# --- start ----------------------------------------------------------------------------------------


async def test_wrong_settings_come_all_at_once(rest: VenueRest, tmp_path: Path) -> None:
    """Unknown platforms, an empty slug and every mapping problem are one error."""
    (tmp_path / "a.toml").write_text("version = [")
    (tmp_path / "b.toml").write_text(mapping().replace('confirmed_by = "human:ab"\n', ""))
    settings = Settings(mappings=str(tmp_path), event_slug=("nyse:fed", "kalshi:"), bind_host="0.0.0.0")
    urls = rest.urls
    catalogues = {"kalshi": KalshiCatalogue(urls), "polymarket": PolymarketCatalogue(urls)}
    with pytest.raises(SettingsError) as caught:
        EventService(settings, LocalBus(), "redis://127.0.0.1:1", catalogues)
    text = "\n".join(caught.value.problems)
    for part in ("BIND_HOST", "'nyse:fed'", "'kalshi:'", "a.toml:1", "b.toml:8", "b.toml:17"):
        assert part in text
    for catalogue in catalogues.values():
        await catalogue.close()


async def test_missing_mappings(rest: VenueRest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folder may be absent; one that was asked for may not."""
    monkeypatch.chdir(tmp_path)
    catalogues = {"kalshi": KalshiCatalogue(rest.urls)}
    EventService(Settings(), LocalBus(), "redis://127.0.0.1:1", catalogues)
    with pytest.raises(SettingsError, match="no such file"):
        EventService(Settings(mappings="nowhere"), LocalBus(), "redis://127.0.0.1:1", catalogues)
    await catalogues["kalshi"].close()


async def test_a_busy_port_names_its_setting(start: Start, rest: VenueRest, redis_url: str) -> None:
    """A taken port is a clear error that says which setting to change."""
    service = await start()
    for changes, name in (
        ({"http_port": service.port}, "HTTP_PORT"),
        ({"events_http_port": service.port}, "EVENTS_"),
    ):
        with pytest.raises(PortInUse) as caught:
            await start(**changes)
        assert caught.value.setting.startswith(name)


# --- failures -------------------------------------------------------------------------------------


async def test_venue_down_serves_last_good_data(
    start: Start,
    follow: Any,
    http: httpx2.AsyncClient,
    rest: VenueRest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With both venues down a restarted service has events and mapping from Redis, with their age."""
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "fed.toml").write_text(mapping())
    monkeypatch.setattr("wup.events.discovery._OPEN_BASE_S", 0.05)
    first = await start()
    await first.settled()
    await first.stop()
    rest.fault = Response("down", 503)
    bus = LocalBus()
    second = await start(bus)
    await second.settled()
    table = (await follow(bus)).source.table
    assert [x.asset_id for x in table.legs if x.book == BOOK] == ["KXFED-26DEC-C25", token(2)]
    base = f"http://127.0.0.1:{second.port}"
    event = (await http.get(f"{base}/v1/events/polymarket/fed")).json()
    assert event["last_attempt"] in ("failed", "pending")
    assert event["age_ms"] > 0
    answer = await http.post(f"{base}/v1/track", json={"platform": "polymarket", "slug": "new"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    await eventually(lambda: not any(discovery.up for discovery in second.discoveries.values()))
    assert (await http.get(f"{base}/readyz")).json()["reasons"] == ["every_venue_down"]
    assert (await http.get(f"{base}/readyz")).status_code == 503
    rest.fault = None
    rest.gamma["new"] = gamma_event("new", [gamma_market(9)])
    await eventually(lambda: ("polymarket", "new") in second.events)


async def test_one_venue_down_does_not_hold_up_the_other(start: Start, follow: Any, rest: VenueRest) -> None:
    """An event that the venue cannot serve leaves the other venue's books alone."""
    rest.kalshi.clear()
    bus = LocalBus()
    service = await start(bus, event_slug=("fed", "kalshi:KXFED-26DEC"))
    table = (await follow(bus)).source.table
    assert assets(table) == {token(2), token(4)}
    attempt = service.attempt(("kalshi", "KXFED-26DEC"))
    assert attempt is not None
    assert attempt.outcome == "missing"


async def test_garbage_in_redis_is_repaired(start: Start, follow: Any, redis: Redis) -> None:
    """Values that somebody else changed are found and written again; the tables stay right meanwhile."""
    bus = LocalBus()
    service = await start(bus, event_slug=("fed",))
    follower = await follow(bus)
    before = follower.source.table
    keys = [key for key in await redis.keys("market:*") if not key.endswith(b":members")]
    await redis.set(keys[0], "garbage")
    await redis.delete(keys[1])
    await redis.delete("aggregate:polymarket-fed")
    await redis.set("aggregate:polymarket-fed", "another type")
    after = await follower.until(lambda t: t.version > before.version)
    assert after.legs == before.legs
    assert after.books == before.books
    assert (await redis.hget("aggregate:polymarket-fed", "title")) == b"Event fed"
    assert service.version == after.version


async def test_a_name_that_no_venue_has(start: Start, http: httpx2.AsyncClient, rest: VenueRest) -> None:
    """`EVENT_SLUG=nonsense` is said in the log with what to check, and by /readyz; the other events go on."""
    with capture_logs() as logs:
        service = await start(event_slug=("nonsense", "fed"))
        await service.settled()
    told = [line for line in logs if line["event"].startswith("the venue has no such event")]
    assert [(line["platform"], line["slug"]) for line in told] == [("polymarket", "nonsense")]
    body = (await http.get(f"http://127.0.0.1:{service.port}/readyz")).json()
    assert body["ready"]
    assert body["degraded"] == ["events_missing"]
    assert body["missing"] == ["polymarket:nonsense"]
