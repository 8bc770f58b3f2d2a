"""The orderbook service's HTTP interface on a real port."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup._core import MirrorBook
from wup.errors import PortInUse
from wup.orderbook import OrderbookHttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

K = leg("kalshi", "KXFED-26DEC-C25", tick="0.01", min_size="0.01")
P = leg("polymarket", "6519", tick="0.001", min_size="5")
DOWN = leg("kalshi", "KX-H0", book=OTHER)
NO = BOOK.replace(".yes", ".no")


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Feed, httpx2.AsyncClient]]:
    async with Feed() as feed:
        await feed.start(table(K, P, DOWN))
        feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
        feed.book(P, [["0.53", "10"]], [["0.51", "4"]])
        http = OrderbookHttp(feed.service, "127.0.0.1", 0, **options)
        await http.start()
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{http.port}") as client:
                yield feed, client
        finally:
            await http.stop()


async def test_a_book_is_the_snapshot_message() -> None:
    """YES and NO by id, cut by depth; the ETag of an unchanged book answers 304."""
    async with serving() as (_, client):
        answer = await client.get(f"/v1/books/{BOOK}")
        body = answer.json()
        assert body["type"] == "snapshot"
        assert body["bids"][0] == ["0.53", "10", {"polymarket": "10"}]
        assert body["legs"]["kalshi"]["tick"] == "0.01"
        again = await client.get(f"/v1/books/{BOOK}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
        no = (await client.get(f"/v1/books/{NO}")).json()
        assert no["book"] == NO
        assert no["asks"][0][0] == "0.47"
        cut = (await client.get(f"/v1/books/{BOOK}?depth=1")).json()
        assert (len(cut["bids"]), len(cut["asks"]), cut["depth"]) == (1, 1, 1)


async def test_a_book_that_nobody_vouches_for_is_503() -> None:
    """A book without a live leg is a problem document with status 503, never old levels."""
    async with serving() as (_, client):
        answer = await client.get(f"/v1/books/{OTHER}")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["state"] == "down"


async def test_lists_page_and_filter() -> None:
    """By pattern, by asset, with limit and after."""
    async with serving() as (_, client):
        first = (await client.get("/v1/books?match=fed-2026-12.>&limit=1")).json()
        rest = (await client.get(f"/v1/books?match=fed-2026-12.>&after={first['next']}")).json()
        assert [b["book"] for b in first["books"] + rest["books"]] == sorted([BOOK, OTHER])
        found = (await client.get("/v1/books?asset=kalshi:KXFED-26DEC-C25")).json()["books"]
        assert [b["book"] for b in found] == [BOOK]
        assert found[0]["best_bid"] == ["0.53", "10"]
        assert found[0]["best_ask"] == ["0.51", "4"]
        assert found[0]["crossed"] is True


async def test_snapshots_are_streamed_one_per_line() -> None:
    """`/v1/snapshots` gives every matching book, each line one snapshot message."""
    async with serving() as (_, client):
        lines = (await client.get("/v1/snapshots?match=>")).text.splitlines()
        assert sorted(orjson.loads(line)["book"] for line in lines) == sorted([BOOK, OTHER])


async def test_a_long_list_of_snapshots_lets_changes_pass() -> None:
    """While all books are streamed changes go on, never waiting for more than a few books, and each line is
    its book at one moment: levels and digest are those of its epoch and seq, which the stream's deltas
    continue."""
    legs = [leg("kalshi", f"KX-{i}", book=f"agg.{i:016x}.yes") for i in range(400)]
    async with Feed() as feed:
        await feed.start(table(*legs))
        for one in legs:
            feed.book(one, [[f"0.{price}", "1"] for price in range(11, 50) if price % 10], [])
        http = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await http.start()
        clients = {one.book: MirrorBook() for one in legs}
        feed.take()
        turns = 0
        chosen = random.Random(7)

        async def change() -> None:
            nonlocal turns
            for size in itertools.count(2):
                turns += 1
                feed.send(chosen.choice(legs), "update", bids=[["0.5", str(size)]], asks=[])
                await asyncio.sleep(0)

        changing = asyncio.create_task(change())
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{http.port}") as client:
                before = turns
                lines = (await client.get("/v1/snapshots")).content.splitlines()
        finally:
            changing.cancel()
            await http.stop()
        assert turns - before > len(legs) // 16
        assert len(lines) == len(legs)
        for line in lines:
            assert clients[orjson.loads(line)["book"]].apply(line) == "exact"
        seen = {book: mirror.seq for book, mirror in clients.items()}
        assert len(set(seen.values())) > 1
        for message in feed.take():
            if message["seq"] > seen[message["book"]]:
                assert clients[message["book"]].apply(orjson.dumps(message)) == "exact"
        for one in legs:
            assert clients[one.book].seq == feed.service.store.book(one.book).seq
            assert clients[one.book].digest == feed.service.store.book(one.book).digest


async def test_best_bid_and_offer_per_platform_and_at_a_crossing() -> None:
    """Total and per platform, and the size that crosses."""
    async with serving() as (_, client):
        body = (await client.get(f"/v1/bbo/{BOOK}")).json()
        assert body["platforms"]["kalshi"] == {"best_bid": ["0.52", "500"], "best_ask": ["0.54", "250"]}
        assert body["platforms"]["polymarket"] == {"best_bid": ["0.53", "10"], "best_ask": ["0.51", "4"]}
        assert body["crossed"] is True
        assert body["crossing_size"] == "4"
        # The levels with the legs behind them, and how old each leg is.
        assert body["best_bid"] == ["0.53", "10", {"polymarket": "10"}]
        assert body["best_ask"] == ["0.51", "4", {"polymarket": "4"}]
        assert {name: leg["age_ms"] for name, leg in body["legs"].items()} == {"kalshi": 0, "polymarket": 0}
        no = (await client.get(f"/v1/bbo/{NO}")).json()
        assert no["best_bid"] == ["0.49", "4", {"polymarket": "4"}]
        assert no["crossing_size"] == "4"


async def test_aggregates_tell_what_books_are_about() -> None:
    """Titles, labels, and per leg tick and minimum size."""
    async with serving() as (_, client):
        listed = (await client.get("/v1/aggregates")).json()["aggregates"]
        assert [a["aggregate"] for a in listed] == ["fed-2026-12"]
        one = (await client.get("/v1/aggregates/fed-2026-12")).json()
        market = next(m for m in one["markets"] if m["book"] == BOOK)
        assert [(x["platform"], x["tick"], x["min_size"]) for x in market["legs"]] == [
            ("kalshi", "0.01", "0.01"),
            ("polymarket", "0.001", "5"),
        ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/books/no.such.yes", 404),
        ("/v1/books/garbage", 404),
        ("/v1/books?limit=0", 400),
        ("/v1/books?match=a..b", 400),
        ("/v1/books?asset=kalshi", 400),
        (f"/v1/books/{BOOK}?depth=x", 400),
        ("/v1/bbo/no.such.yes", 404),
        ("/v1/aggregates/none", 404),
        ("/nowhere", 404),
    ],
)
async def test_errors_are_problem_documents(path: str, status: int) -> None:
    """RFC 9457 for everything that is wrong with a request."""
    async with serving() as (_, client):
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def test_health_and_readiness() -> None:
    """Liveness is unconditional; readiness is 503 with the reason codes while something is missing."""
    reasons: list[str] = []
    async with serving(ready=lambda: reasons) as (_, client):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        reasons.append("bus_disconnected")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["bus_disconnected"])


async def test_a_busy_port_names_its_setting() -> None:
    """A port that is taken is an error that says which setting to change."""
    async with Feed() as feed:
        await feed.start(table(K))
        first = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await first.start()
        second = OrderbookHttp(feed.service, "127.0.0.1", first.port, setting="ORDERBOOK_HTTP_PORT")
        with pytest.raises(PortInUse, match="ORDERBOOK_HTTP_PORT"):
            await second.start()
        await first.stop()


async def test_pages_are_whole_whatever_the_mapping_order() -> None:
    """Books that joined later are neither skipped nor repeated by paging."""
    names = [f"agg-{name}.{index:016x}.yes" for index, name in enumerate(["mm", "zz", "aa", "kk"])]
    legs = [leg("kalshi", f"KX-{index}", book=book) for index, book in enumerate(names)]
    async with Feed() as feed:
        await feed.start(table(*legs[:2]))
        await feed.service.set_table(table(*legs, version=2))
        http = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await http.start()
        seen: list[str] = []
        after = ""
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{http.port}") as client:
            while True:
                page = (await client.get(f"/v1/books?limit=1{after}")).json()
                seen += [row["book"] for row in page["books"]]
                if page["next"] is None:
                    break
                after = f"&after={page['next']}"
        await http.stop()
        assert seen == sorted(names)


@pytest.mark.parametrize(
    "path", [f"/v1/books/{BOOK}", f"/v1/books/{NO}", f"/v1/bbo/{BOOK}", f"/v1/bbo/{OTHER}"]
)
@pytest.mark.parametrize("query", ["", "depth=1"])
async def test_the_short_way_answers_as_the_long_one(path: str, query: str) -> None:
    """Plain requests for a book go past uvicorn's and FastAPI's machinery; with a parameter it does not know
    the same request goes through them: status, headers, body, ETag and 304 are the same."""
    async with serving() as (_, client):
        path = f"/v1/{path}"
        short = await client.get(f"{path}?{query}")
        long = await client.get(f"{path}?{query}&unknown=1")
        assert (short.status_code, short.content) == (long.status_code, long.content)
        assert dict(short.headers) == dict(long.headers)
        if "ETag" in short.headers:
            asked = {"If-None-Match": short.headers["ETag"]}
            for way in (f"{path}?{query}", f"{path}?{query}&unknown=1"):
                assert (await client.get(way, headers=asked)).status_code == 304


async def test_a_closed_book_is_shown_with_its_result() -> None:
    """A resolved book is `closed` with its result in the snapshot, in the list and at its best prices, until
    it is dropped; then an asset that still names it is no error."""
    async with serving() as (feed, client):
        await feed.service.set_table(table(K, P, DOWN, version=2, result="yes"))
        for path in (f"/v1/books/{BOOK}", f"/v1/bbo/{BOOK}"):
            body = (await client.get(path)).json()
            assert (body["state"], body["result"]) == ("closed", "yes")
        rows = (await client.get("/v1/books")).json()["books"]
        assert {row["result"] for row in rows} == {"yes"}
        market = (await client.get("/v1/aggregates/fed-2026-12")).json()["markets"][0]
        assert market["result"] == "yes"
        feed.clock.advance(61)
        feed.service.tick()
        assert (await client.get(f"/v1/books/{BOOK}")).status_code == 404
        assert (await client.get("/v1/books?asset=kalshi:KX-H0")).json()["books"] == []
