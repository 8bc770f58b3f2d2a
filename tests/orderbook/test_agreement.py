"""Venues of one book that disagree: an alarm after a minute, and nothing else."""

from __future__ import annotations

import httpx2
import pytest
from structlog.testing import capture_logs

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup.mapping.disagreement import Disagreements
from wup.metrics import REGISTRY
from wup.orderbook.http import OrderbookHttp

K = leg("kalshi", "KXFED-26DEC-C25")
P = leg("polymarket", "6519")
ALONE = leg("kalshi", "KXFED-26DEC-H0", book=OTHER)


def show(feed: Feed, kalshi: tuple[str, str], polymarket: tuple[str, str]) -> None:
    """Best bid and ask of both legs."""
    for one, (bid, ask) in ((K, kalshi), (P, polymarket)):
        feed.book(one, [[bid, "10"]], [[ask, "10"]])


def wait(feed: Feed, seconds: int) -> None:
    """So many ticks of the service; upstream goes on living."""
    for _ in range(seconds):
        feed.clock.advance(1)
        for platform in ("kalshi", "polymarket"):
            feed.mark(platform)
        feed.service.tick()
        for _ in feed.service.agreement.look(feed.clock.now_us()):
            pass


def value(name: str, kind: str) -> float:
    return REGISTRY.get_sample_value(name, {"kind": kind}) or 0.0


@pytest.mark.parametrize(
    ("kalshi", "polymarket", "kind"),
    [
        (("0.50", "0.52"), ("0.62", "0.64"), "apart"),
        # 0.71 and 0.29 add up to 1: one of them is upside down.
        (("0.70", "0.72"), ("0.28", "0.30"), "turned"),
        # They add up to 1, but near even that says nothing; they are apart all the same.
        (("0.55", "0.57"), ("0.43", "0.45"), "apart"),
        (("0.50", "0.52"), ("0.59", "0.61"), None),
        (("0.10", "0.12"), ("0.18", "0.20"), None),
    ],
)
async def test_an_alarm_after_a_minute(
    kalshi: tuple[str, str], polymarket: tuple[str, str], kind: str | None
) -> None:
    """More than 10 cents apart, or about 1 together, for a minute: told once; the book is not touched."""
    async with Feed() as feed:
        await feed.start(table(K, P, ALONE))
        show(feed, kalshi, polymarket)
        before = value("wup_mapping_disagreements_raised_total", kind or "apart")
        with capture_logs() as logs:
            wait(feed, 58)
            assert feed.service.agreement.listed() == []
            books = feed.service.store.book(BOOK)
            wait(feed, 10)
        said = [line for line in logs if line["event"].startswith("confirmed legs disagree")]
        after = feed.service.store.book(BOOK)
        assert (after.digest, after.seq, after.state) == (books.digest, books.seq, "live")
        if kind is None:
            assert said == []
            assert feed.service.agreement.warnings() == []
            return
        (one,) = feed.service.agreement.listed()
        assert (one["book"], one["kind"], one["platforms"]) == (BOOK, kind, ["kalshi", "polymarket"])
        assert [line["log_level"] for line in said] == ["warning"]
        assert feed.service.agreement.warnings() == ["mapping_disagreement"]
        assert value("wup_mapping_disagreements", kind) == 1
        assert value("wup_mapping_disagreements_raised_total", kind) == before + 1


async def test_it_ends_when_they_agree_and_starts_anew() -> None:
    """Agreement for one look ends the alarm and the minute; a missing side says nothing either way."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        far, near = ("0.70", "0.72"), ("0.50", "0.52")
        show(feed, near, far)
        wait(feed, 40)
        show(feed, near, near)
        wait(feed, 6)
        show(feed, near, far)
        wait(feed, 40)
        assert feed.service.agreement.listed() == [], "the minute begins anew"
        feed.book(P, [], [])
        wait(feed, 10)
        show(feed, near, far)
        wait(feed, 20)
        assert len(feed.service.agreement.listed()) == 1
        show(feed, near, near)
        wait(feed, 6)
        assert feed.service.agreement.listed() == []
        assert feed.service.agreement.warnings() == []


async def test_a_leg_that_is_not_live_says_nothing() -> None:
    """A venue that is down has no prices to disagree with."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        show(feed, ("0.50", "0.52"), ("0.70", "0.72"))
        feed.send(P, "state", state="down", why="disconnected")
        wait(feed, 90)
        assert feed.service.agreement.listed() == []


async def test_a_changed_mapping_is_judged_anew() -> None:
    """The leg is turned by a new mapping: the alarm is gone at once; an unrelated change keeps it."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        show(feed, ("0.70", "0.72"), ("0.28", "0.30"))
        wait(feed, 70)
        assert len(feed.service.agreement.listed()) == 1
        await feed.service.set_table(table(K, P, ALONE, version=2))
        assert len(feed.service.agreement.listed()) == 1
        turned = leg("polymarket", "6519", inverted=True)
        await feed.service.set_table(table(K, turned, version=3))
        assert feed.service.agreement.listed() == []
        wait(feed, 90)
        assert feed.service.agreement.listed() == []


@pytest.mark.parametrize(
    "missing", [{"a": (500_000, 520_000), "b": (None, 720_000)}, {"b": (None, None)}, {}]
)
def test_time_that_nobody_saw_does_not_count(missing: dict[str, tuple[int | None, int | None]]) -> None:
    """A side that is missing for two looks leaves a doubt as it was, for more it begins anew; an alarm that
    was raised stays until prices say otherwise."""
    far = {"a": (500_000, 520_000), "b": (700_000, 720_000)}
    s = 1_000_000
    found = Disagreements()
    for at in (0, 20):
        assert found.see(BOOK, far, at * s) == ([], [])
    for at in (25, 30):
        found.see(BOOK, missing, at * s)
    assert len(found.see(BOOK, far, 60 * s)[0]) == 1
    found = Disagreements()
    found.see(BOOK, far, 0)
    for at in (5, 10, 15):
        found.see(BOOK, missing, at * s)
    assert found.see(BOOK, far, 70 * s) == ([], []), "the minute begins now"
    assert found.see(BOOK, far, 129 * s) == ([], [])
    raised, _ = found.see(BOOK, far, 130 * s)
    assert [one.since_us for one in raised] == [70 * s]
    for at in range(135, 200, 5):
        assert found.see(BOOK, missing, at * s) == ([], [])
    assert len(found.now()) == 1
    near = {"a": (500_000, 520_000), "b": (500_000, 520_000)}
    assert len(found.see(BOOK, near, 205 * s)[1]) == 1


def test_two_legs_of_one_venue_that_cross() -> None:
    """Both markets of a game on one venue, one of them upside down: its bid stands far above its ask."""
    found = Disagreements()
    quotes = {"kalshi": (700_000, 320_000)}
    assert found.see(BOOK, quotes, 0) == ([], [])
    raised, _ = found.see(BOOK, quotes, 60_000_000)
    assert [(one.platforms, one.kind) for one in raised] == [(("kalshi", "kalshi"), "apart")]
    _, ended = found.see(BOOK, {"kalshi": (520_000, 500_000)}, 61_000_000)
    assert len(ended) == 1


async def test_it_is_served() -> None:
    """`/v1/disagreements` lists it, `/readyz` stays 200 and warns."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        http = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await http.start()
        try:
            show(feed, ("0.70", "0.72"), ("0.28", "0.30"))
            wait(feed, 70)
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{http.port}") as client:
                (one,) = (await client.get("/v1/disagreements")).json()["disagreements"]
                ready = await client.get("/readyz")
        finally:
            await http.stop()
        assert one["mids"] == ["0.71", "0.29"]
        assert (ready.status_code, ready.json()["warnings"]) == (200, ["mapping_disagreement"])
