"""When a venue is connected to: breaker, rate, `Retry-After`, backoff. On a virtual clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import orjson

from aggregator.virtual import Plan, run
from wup.aggregator.gate import FAILURES, Gate
from wup.aggregator.socket import Refused, Unreachable, retry_after
from wup.clock import SystemClock
from wup.metrics import REGISTRY
from wup.venues.base import Limits

if TYPE_CHECKING:
    import pytest

    from wup.aggregator import Aggregator


class Steps(SystemClock):
    """Moves only when told."""

    at = 1000.0

    def monotonic(self) -> float:
        return self.at


def breaker() -> float | None:
    return REGISTRY.get_sample_value("wup_venue_breaker", {"platform": "toy"})


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_the_first_retry_after_a_healthy_minute_is_immediate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that lived for 60 s is opened again within 0.25 s, time after time."""
    plan = Plan(lambda attempt: (61.0, 1))
    run(monkeypatch, plan, 1000)
    assert len(plan.times) >= 15
    assert all(61.0 <= gap <= 61.26 for gap in gaps(plan.times))


def test_waits_grow_with_failures_and_stay_under_their_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue that is away is tried ever more rarely, for ever, and never later than the longest waits of
    backoff and breaker together; after it is back once, the next failure is met with a short wait again."""
    plan = Plan(lambda attempt: (90.0, 1) if attempt == 100 else Unreachable("away"))
    run(monkeypatch, plan, 6000)
    waits = gaps(plan.times)
    assert sum(waits[:4]) < 10
    assert max(waits[:99]) <= 30.5
    assert sum(waits[40:98]) / 58 > 10
    assert waits[99] < 90.3
    assert min(waits[100:104]) < 5


def test_retry_after_wins_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `Retry-After: 40` all connections of the venue wait 40 s, however small the backoff; with
    `Retry-After: 1` they are there after a second, however large the backoff has become."""
    limits = Limits(assets_per_connection=1, connects_per_minute=6000, connects_at_once=100)
    plan = Plan(lambda attempt: Refused(429, 40.0))
    run(monkeypatch, plan, 39, assets=3, limits=limits)
    assert len(plan.times) <= 3

    asked = Plan(lambda attempt: Unreachable("away") if attempt < 30 else Refused(429, 1.0))
    run(monkeypatch, asked, 3000, limits=limits)
    waits = gaps(asked.times[30:])
    assert len(waits) > 100
    assert max(waits) < 1.2
    assert min(waits) >= 1.0


def test_retry_after_is_read_in_both_forms() -> None:
    """Seconds and dates are read, what is neither is ignored."""
    now_us = 1_795_353_600_000_000
    assert retry_after("7", now_us) == 7.0
    assert retry_after("Sun, 22 Nov 2026 17:20:30 GMT", now_us) == 1_795_368_030 - 1_795_353_600
    assert retry_after("Mon, 01 Jan 2024 00:00:00 GMT", now_us) == 0.0
    assert [retry_after(text, now_us) for text in (None, "", "soon", "-1", "1e9")] == [None] * 5


def test_the_breaker_lets_one_connection_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five failures in a row, on whichever connections, nobody tries for a while; then one at a time,
    at the end about twice a minute in all; the first word of the venue closes the breaker for everybody. The
    state is in the metric and in health."""
    limits = Limits(assets_per_connection=1, connects_per_minute=6000, connects_at_once=100)
    back = 600.0
    seen: list[tuple[str, float | None]] = []
    plan = Plan(
        lambda attempt: (3600.0, 1) if plan.times[-1] >= 1_000 + back else Unreachable("away"), takes_s=5.0
    )

    async def meanwhile(aggregator: Aggregator) -> None:
        for _ in range(20):
            await asyncio.sleep(30)
            seen.append((str(aggregator.health()["toy"]["breaker"]), breaker()))
        while aggregator.health()["toy"]["open"] != 20:
            await asyncio.sleep(0.1)
        seen.append((str(aggregator.health()["toy"]["breaker"]), breaker()))

    run(monkeypatch, plan, 0, assets=20, limits=limits, meanwhile=meanwhile)
    start = plan.times[0]
    # All twenty may be under way at the first moment; from then on the breaker counts.
    assert sum(at < start + 1.0 for at in plan.times) <= 20
    late = [at for at in plan.times if start + 300 <= at < start + back]
    assert 10 <= len(late) <= 22
    # Those of the first moment were on their way when the breaker opened.
    assert set(plan.together[20 : 20 + len(late)]) == {1}
    assert {state for state, _ in seen[:-1]} <= {"open", "half_open"}
    assert {level for _, level in seen[:-1]} <= {1.0, 2.0}
    assert seen[-1] == ("closed", 0.0)


def test_a_venue_that_hangs_up_without_a_word_opens_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that opens and closes at once is no success."""
    plan = Plan(lambda attempt: (0.01, 0))
    run(monkeypatch, plan, 3600)
    assert plan.busiest_minute() <= 12
    assert len(plan.times) < 250


def test_a_mute_socket_does_not_hold_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that stays open and never says a word is given up, and the others get their turn."""
    plan = Plan(
        lambda attempt: Unreachable("away") if attempt < 8 else (1e6, 0) if attempt == 8 else (1e6, 1)
    )
    limits = Limits(assets_per_connection=1, connects_per_minute=6000, connects_at_once=100)
    run(monkeypatch, plan, 900, assets=3, limits=limits)
    assert len(plan.times) >= 10
    assert breaker() == 0.0


def test_who_waits_at_the_gate_does_not_end_anothers_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is stopped while it waits leaves the attempt of another one alone."""
    left: list[int] = []
    monkeypatch.setattr(Gate, "left", lambda gate, attempt: left.append(attempt))
    plan = Plan(lambda attempt: Refused(429, 600.0))
    run(monkeypatch, plan, 60, assets=1)
    assert plan.times
    assert left == []


async def test_a_probe_that_is_never_decided_expires() -> None:
    """The gate itself lets the next one try when nothing is heard of a probe for long."""
    clock = Steps()
    gate = Gate("toy", Limits(), clock, lambda low, high: high)
    for attempt in range(FAILURES):
        gate.failed(attempt, None)
    clock.at += 100
    await gate.enter()
    assert gate._wait_s() > 0
    clock.at += 100
    assert gate._wait_s() <= 0


async def test_only_the_probe_itself_decides() -> None:
    """While one attempt probes, others that began before the breaker opened may fail or be given up: nobody
    else is let in, and the breaker does not open anew. The probe's own end lets the next one try."""
    clock = Steps()
    gate = Gate("toy", Limits(), clock, lambda low, high: high)
    early = [await gate.enter() for _ in range(FAILURES + 2)]
    for attempt in early[:FAILURES]:
        gate.failed(attempt, None)
    assert gate.state == "open"
    clock.at += 100
    probe = await gate.enter()
    gate.left(early[-2])
    gate.failed(early[-1], None)
    assert gate.state == "half_open"
    assert gate._wait_s() > 0
    gate.left(probe)
    assert gate._wait_s() <= 0
    second = await gate.enter()
    gate.left(probe)
    assert gate._wait_s() > 0
    gate.failed(second, None)
    assert gate.state == "open"


def test_the_reconnect_rate_stays_under_the_venues_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand reconnects of 25 connections to a venue that speaks and hangs up: in no minute more than the
    bucket holds and refills, and every connection comes back again and again."""
    limits = Limits(assets_per_connection=1, connects_per_minute=20, connects_at_once=30)
    plan = Plan(lambda attempt: (2.0, 1))
    records = run(monkeypatch, plan, 3600, assets=25, limits=limits)
    assert len(plan.times) > 1000
    assert plan.busiest_minute() <= 30 + 20 + 1
    settled = [at for at in plan.times if at > plan.times[0] + 120]
    assert len(settled) <= (plan.times[-1] - settled[0]) / 60 * 20 + 25
    opened = [m.headers["Wup-Conn"].rpartition(".")[0] for m in records if m.headers["Wup-Kind"] == "open"]  # type: ignore[index]
    assert len(set(opened)) == 25
    assert min(opened.count(name) for name in set(opened)) > 10


def test_every_attempt_is_signed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signature is used twice, refused or not."""
    plan = Plan(lambda attempt: Refused(401, None) if attempt % 2 else (1.0, 1))
    run(monkeypatch, plan, 600)
    assert len(plan.signed) > 20
    assert len(set(plan.signed)) == len(plan.signed)


def test_a_refused_signature_and_maintenance_name_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """401 takes the legs down with `no_credentials`, 503 with `maintenance`, 429 with `disconnected`."""
    for status, why in ((401, "no_credentials"), (503, "maintenance"), (429, "disconnected")):
        records = run(monkeypatch, Plan(lambda attempt, status=status: Refused(status, None)), 1)  # type: ignore[misc]
        verdicts = [orjson.loads(m.payload) for m in records if m.headers["Wup-Kind"] == "verdict"]  # type: ignore[index]
        assert verdicts
        assert all(v == {"assets": ["A0"], "state": "down", "why": why} for v in verdicts)
