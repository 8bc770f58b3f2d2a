"""How the followed events of a venue are kept fresh: schedule, breaker, rate limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from mapping.files import venue_event, venue_market
from wup.clock import ManualClock
from wup.events.discovery import Breaker, Discovery
from wup.mapping.catalogue import CatalogueError, EventNotFound, EventUnreadable, Pause, VenueEventRecord
from wup.mapping.rest import TokenBucket


class Listing:
    """A catalogue that answers from a dictionary; an exception in it is raised."""

    platform = "kalshi"
    bare_slugs = False

    def __init__(self) -> None:
        self.answers: dict[str, VenueEventRecord | Exception] = {}
        self.pauses: list[Pause | Exception | None] = [None]
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    async def event(self, slug: str) -> VenueEventRecord:
        self.asked.append(slug)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        answer = self.answers.get(slug, EventNotFound(f"no {slug}"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def events(self) -> AsyncIterator[VenueEventRecord]:
        for answer in self.answers.values():
            if not isinstance(answer, Exception):
                yield answer

    async def pause(self) -> Pause | None:
        answer = self.pauses.pop(0) if len(self.pauses) > 1 else self.pauses[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing is open."""


def listed(slug: str) -> VenueEventRecord:
    """An event."""
    return venue_event("kalshi", slug, venue_market(f"{slug}-A"))


@asynccontextmanager
async def running(discovery: Discovery) -> AsyncIterator[None]:
    """The discovery's loop."""
    task = asyncio.create_task(discovery.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_event_is_fetched_at_once_and_again() -> None:
    """All followed events come in the first round, a new one at once, each again after the interval."""
    listing = Listing()
    listing.answers = {name: listed(name) for name in "ABCDEFGH"}
    found: asyncio.Queue[str] = asyncio.Queue()
    discovery = Discovery(listing, 0.1, lambda event: found.put_nowait(event.slug))
    discovery.follow("ABCDEFG")
    async with running(discovery):
        async with asyncio.timeout(5):
            await discovery.first_round.wait()
        assert {found.get_nowait() for _ in range(7)} == set("ABCDEFG")
        assert listing.most_at_once <= 4
        discovery.follow("AH")
        async with asyncio.timeout(5):
            seen = [await found.get() for _ in range(6)]
        assert seen[0] == "H"
        assert set(seen) == {"A", "H"}
        assert set(discovery.attempts) == {"A", "H"}


async def test_one_bad_event_does_not_stop_the_others() -> None:
    """Missing, unreadable and faulty answers are noted; the other events go on being refreshed."""
    listing = Listing()
    listing.answers = {
        "A": listed("A"),
        "B": CatalogueError("unreadable"),
        "C": KeyError("a fault of ours"),
        "E": listed("E"),
    }
    found: asyncio.Queue[str] = asyncio.Queue()
    discovery = Discovery(listing, 0.05, lambda event: found.put_nowait(event.slug))
    discovery.follow("ABCDE")
    async with running(discovery), asyncio.timeout(10):
        seen = [await found.get() for _ in range(6)]
    assert set(seen) == {"A", "E"}
    outcomes = {slug: attempt.outcome for slug, attempt in discovery.attempts.items()}
    assert outcomes == {"A": "ok", "B": "failed", "C": "failed", "D": "missing", "E": "ok"}


@pytest.mark.parametrize(
    ("fault", "about_the_event"),
    [
        (EventUnreadable("asked for X, got Y"), True),
        (KeyError("a fault of ours"), True),
        (CatalogueError("HTTP 500"), False),
        (CatalogueError("HTTP 503", 5.0), False),
    ],
)
async def test_an_event_that_always_fails_does_not_stop_its_venue(
    fault: Exception, about_the_event: bool
) -> None:
    """Over ten minutes the other events go on being refreshed; what is wrong with one is not the venue's."""

    class AtOnce(Listing):
        async def event(self, slug: str) -> VenueEventRecord:
            self.asked.append(slug)
            answer = self.answers[slug]
            if isinstance(answer, Exception):
                raise answer
            return answer

    listing, clock, down = AtOnce(), ManualClock(), 0
    listing.answers = {name: listed(name) for name in "ABCD"} | {"X": fault}
    discovery = Discovery(listing, 60, lambda _: None, clock)
    discovery.follow("ABCDX")
    # Without a traceback written out for every one of them.
    with capture_logs():
        task = asyncio.create_task(discovery.run())
        for _ in range(600):
            clock.advance(1)
            # Wakes the loop, which would wait by the real clock.
            discovery.follow("ABCDX")
            for _ in range(20):
                await asyncio.sleep(0)
            down += not discovery.up
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert all(listing.asked.count(name) >= 4 for name in "ABCD"), listing.asked
    assert listing.asked.count("X") <= 200
    if about_the_event:
        assert down == 0
        assert all(listing.asked.count(name) == 10 for name in "ABCD"), listing.asked
        assert listing.asked.count("X") <= 20


async def test_an_event_dropped_while_it_was_fetched_is_not_reported() -> None:
    """An answer that comes after the event was untracked goes nowhere."""
    listing = Listing()
    listing.answers = {"A": listed("A")}
    found: list[str] = []
    discovery = Discovery(listing, 60, lambda event: found.append(event.slug))
    discovery.follow("A")
    async with running(discovery), asyncio.timeout(5):
        while not listing.asked:
            await asyncio.sleep(0)
        discovery.follow("")
        await discovery.first_round.wait()
    assert found == []
    assert discovery.attempts == {}


async def test_a_venue_that_is_down_is_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three failures the breaker lets one attempt at a time through; the first success closes it."""
    monkeypatch.setattr("wup.events.discovery._OPEN_BASE_S", 0.05)
    listing = Listing()
    listing.answers = {name: CatalogueError("down") for name in "ABCDEFGH"}
    found: asyncio.Queue[str] = asyncio.Queue()
    discovery = Discovery(listing, 60, lambda event: found.put_nowait(event.slug))
    discovery.follow("ABCDEFGH")
    async with running(discovery), asyncio.timeout(10):
        await discovery.first_round.wait()
        assert not discovery.up
        before = len(listing.asked)
        listing.most_at_once = 0
        while len(listing.asked) < before + 3:
            await asyncio.sleep(0.005)
        assert listing.most_at_once <= 1
        listing.answers = {name: listed(name) for name in "ABCDEFGH"}
        seen = {await found.get() for _ in range(8)}
    assert seen == set("ABCDEFGH")
    assert discovery.up


async def test_an_open_breaker_answers_at_once() -> None:
    """A person's request does not wait for a venue that is down; the error says when to try again."""
    discovery = Discovery(Listing(), 60, lambda _: None)
    for _ in range(3):
        discovery.breaker.failed(30)
    with pytest.raises(CatalogueError) as caught:
        await discovery.fetch("A")
    assert caught.value.retry_after is not None
    assert 25 < caught.value.retry_after <= 30


def test_breaker() -> None:
    """Closed for two failures, open at the third; the venue's own word about when wins; success resets."""
    clock = ManualClock()
    breaker = Breaker(clock)
    breaker.failed(None)
    breaker.failed(None)
    assert not breaker.open
    assert breaker.wait_s() == 0
    breaker.failed(120)
    assert breaker.open
    assert breaker.wait_s() == 120
    clock.advance(121)
    assert breaker.wait_s() == 0
    for _ in range(50):
        breaker.failed(None)
        assert breaker.wait_s() <= 60
    breaker.succeeded()
    assert not breaker.open
    assert breaker.wait_s() == 0


async def test_token_bucket_holds_the_rate() -> None:
    """A burst goes at once, then one at a time at the rate, in the order of asking; a pause holds all."""
    bucket = TokenBucket(rate=50, burst=5)
    began = time.monotonic()
    order: list[int] = []

    async def one(number: int) -> None:
        await bucket.take()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(5)))
    assert order == list(range(5))
    await asyncio.gather(*(one(number) for number in range(5, 15)))
    assert time.monotonic() - began >= 10 / 50 * 0.9
    assert order == list(range(15))
    bucket.pause(0.2)
    began = time.monotonic()
    await bucket.take()
    assert time.monotonic() - began >= 0.19


async def test_an_event_that_cannot_be_taken_fails_alone() -> None:
    """A fault of ours over one event is counted and logged once, shows as failed, and is tried again; the
    other events are taken, and the venue is not counted as down."""
    listing = Listing()
    listing.answers = {name: listed(name) for name in "AB"}
    taken: asyncio.Queue[str] = asyncio.Queue()
    faults = [ZeroDivisionError("ours")] * 2

    def take(event: VenueEventRecord) -> None:
        if event.slug == "A" and faults:
            raise faults.pop()
        taken.put_nowait(event.slug)

    discovery = Discovery(listing, 0.02, take)
    discovery.follow("AB")
    with capture_logs() as logged:
        async with running(discovery), asyncio.timeout(10):
            while discovery.attempts["A"].outcome != "failed":
                await asyncio.sleep(0)
            assert "ours" in discovery.attempts["A"].detail
            assert discovery.up
            while await taken.get() != "A":
                pass
            assert await taken.get() == "B"
    assert discovery.attempts["A"].outcome == "ok"
    assert not faults
    assert len([line for line in logged if line.get("kind") == "event_fault"]) == 1
