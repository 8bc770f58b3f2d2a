"""When missing data means something: the watchdog over each connection's subscriptions."""

from __future__ import annotations

import asyncio
import random

import pytest

from aggregator.system import running
from wup.aggregator import expectation
from wup.aggregator.expectation import FACTOR, FLOOR_S, Expectation

VENUES = ["kalshi", "polymarket"]


@pytest.mark.parametrize("per_s", [0.01, 0.2, 5.0, 500.0])
def test_what_is_usual_is_never_overdue(per_s: float) -> None:
    """Ten hours of a steady random stream, rare or busy, and nobody is asked for a sign of life."""
    rng = random.Random(7)
    usual, total, now, following = Expectation(0.0), 0, 0.0, rng.expovariate(per_s)
    while now < 36_000:
        now += 0.5
        if per_s > 100:
            total += rng.randrange(round(per_s))
        else:
            while following <= now:
                total += 1
                following += rng.expovariate(per_s)
        usual.count(total, now)
        assert not usual.overdue(now)


def test_a_busy_stream_that_stops_is_asked_for_once() -> None:
    """Silence after a busy minute is overdue after the floor, a rare stream's after twenty of its gaps; an
    answer ends the question, and a lull that goes on is not asked about again."""
    busy = Expectation(0.0)
    for second in range(1, 61):
        busy.count(second * 10, float(second))
    assert not busy.overdue(60.0 + FLOOR_S - 0.5)
    assert busy.overdue(60.0 + FLOOR_S)
    busy.ask(91.0)
    busy.count(600, 92.0)
    assert busy.asked == 91.0
    assert not busy.overdue(200.0)
    busy.count(601, 201.0)
    assert busy.asked is None

    rare = Expectation(0.0)
    for minute in range(1, 600):
        for half in (30, 60):
            rare.count(minute, minute * 60.0 + half - 60)
    assert not rare.overdue(599 * 60.0 + FACTOR * 30)
    assert rare.overdue(599 * 60.0 + FACTOR * 130)
    assert not Expectation(0.0).overdue(1e9)


@pytest.mark.parametrize("platform", VENUES)
async def test_a_subscription_that_dies_among_heartbeats(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """No data though pings, pongs and heartbeats go on: a fresh book is asked for, and when not even that
    comes the legs go down with `venue_silent` and the socket is replaced. On a connection that is merely
    quiet the book comes, and no leg leaves for longer than that takes."""
    monkeypatch.setattr(expectation, "FLOOR_S", 2.0)
    limits = {"first_book_s": 1.5, "audit_s": 3600.0}
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=limits) as system:
        await system.all_live()
        group = system.aggregator.groups[platform]
        (connection,) = group.connections
        before = connection.id
        exchange = system.simulators.exchanges[platform]
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        # The whole market stands still: quiet, and well.
        system.fault("restart", seconds=4.5)
        await asyncio.sleep(4.5)
        assert connection.id == before
        assert {why for *_, why in system.judge.left} <= {"gap"}
        await system.all_live()
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        left = len(system.judge.left)
        system.judge.excused.update(system.judge.state)
        system.fault("silence", seconds=3600)
        await system.judge.until(
            lambda: (
                {why for *_, state, why in system.judge.left[left:] if state == "down"} == {"venue_silent"}
            ),
            15,
        )
        async with asyncio.timeout(10):
            while connection.id == before:
                await asyncio.sleep(0.05)
        exchange.menu.clear()
        await system.all_live(seconds=40)
        assert system.judge.wrong == []


@pytest.mark.parametrize("platform", VENUES)
async def test_a_first_book_that_does_not_come_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """Of a fresh subscription one book is missing while all others come: it is asked for within 10 s, and
    live, on the same connection."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}) as system:
        await system.all_live()
        (connection,) = system.aggregator.groups[platform].connections
        missing = system.table.legs[0].asset_id
        system.fault("skip_book", asset=missing, venue=platform)
        system.fault("reset")
        await system.judge.until(lambda: missing not in system.judge.live(), 10)
        others = {leg.asset_id for leg in system.table.legs} - {missing}
        await system.judge.until(lambda: others <= system.judge.live(), 10)
        assert missing not in system.judge.live()
        fresh = connection.id
        assert await system.all_live(seconds=20) < 10 + 3
        assert connection.id == fresh
        assert system.judge.wrong == []
