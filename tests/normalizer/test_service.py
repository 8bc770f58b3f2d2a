"""The service: the engine over a bus, in process and over NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import pytest_asyncio

from normalizer.feed import Reader, table
from venues.kal import A, delta, snapshot
from venues.poly import MARKET, YES, Book
from venues.poly import raw as poly_raw
from wup import servers, subjects
from wup.bus import Bus, LocalBus, Message, NatsBus
from wup.clock import ManualClock
from wup.metrics import BAD_INPUT, HASH_CHECKS
from wup.normalizer.service import NormalizerService
from wup.raw import Kind, Meta

LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]


class Publisher:
    """Publishes records as the aggregator does."""

    def __init__(self, bus: Bus, clock: ManualClock, platform: str = "kalshi") -> None:
        self._bus, self._clock, self._platform = bus, clock, platform
        self.n = 0

    def say(self, kind: Kind, payload: bytes, subject: str | None = None) -> None:
        self.n += kind == "frame"
        meta = Meta(kind, self._platform, "c1", self._clock.now_us(), self.n)
        where = subject or subjects.raw_connection(self._platform, "c1")
        self._bus.publish(where, payload, meta.headers())


class Inbox:
    """Collects messages; `until` waits for a condition."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.requests: list[dict[str, object]] = []
        self.news = asyncio.Event()

    def normalised(self, message: Message) -> None:
        self.reader.take(message.subject, message.payload)
        self.news.set()

    def request(self, message: Message) -> None:
        self.requests.append(orjson.loads(message.payload))
        self.news.set()

    async def until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()


@pytest_asyncio.fixture(params=["local", "nats"])
async def buses(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Bus, Bus]]:
    """(the service's bus, everybody else's bus)."""
    if request.param == "local":
        bus = LocalBus()
        yield bus, bus
        await bus.close()
        return
    async with servers.embedded_nats() as url:
        first, second = await NatsBus.connect(url, name="service"), await NatsBus.connect(url, name="others")
        yield first, second
        await first.close()
        await second.close()


@asynccontextmanager
async def running(
    buses: tuple[Bus, Bus], *legs: tuple[str, str, str]
) -> AsyncIterator[tuple[Inbox, Bus, ManualClock]]:
    clock = ManualClock()
    service = NormalizerService(buses[0], clock, "n1", table=table(*legs))
    inbox = Inbox()
    await service.start()
    await buses[1].subscribe(subjects.NORMALIZED_ALL, inbox.normalised)
    await buses[1].subscribe(subjects.resync("kalshi"), inbox.request)
    try:
        yield inbox, buses[1], clock
    finally:
        await service.stop()


async def test_records_in_messages_out_on_either_bus(buses: tuple[Bus, Bus]) -> None:
    """Frames published on `market.>` come out normalised, with our own stamps, whatever the bus."""
    async with running(buses, ("kalshi", A, A)) as (inbox, bus, clock):
        aggregator = Publisher(bus, clock)
        aggregator.say("open", b"{}")
        aggregator.say("frame", snapshot(A, 1, LEVELS), subjects.raw("kalshi", A))
        aggregator.say("frame", delta(A, 2, "yes", "0.4000", "1.00"), subjects.raw("kalshi", A))
        await inbox.until(lambda: inbox.reader.types(A) == ["snapshot", "update"])
        assert inbox.reader.books[A][0] == {"0.4": "6", "0.01": "33338"}
        update = inbox.reader.messages[-1][1]
        assert update["epoch"] == clock.us // 1000
        assert update["ts"]["norm"] == clock.us


async def test_requests_are_answered_and_our_own_wishes_are_not(buses: tuple[Bus, Bus]) -> None:
    """`control.resync.{platform}` gets snapshots from memory and an end; a gap asks the venue by the same
    subject, marked with its source, which nobody answers from memory."""
    async with running(buses, ("kalshi", A, A)) as (inbox, bus, clock):
        aggregator = Publisher(bus, clock)
        aggregator.say("open", b"{}")
        aggregator.say("frame", snapshot(A, 1, LEVELS))
        await inbox.until(lambda: inbox.reader.types(A) == ["snapshot"])
        request = orjson.dumps({"assets": "all", "why": "gap"})
        assert await bus.request_many(subjects.resync("kalshi"), request) == []
        await inbox.until(lambda: inbox.reader.types(A) == ["snapshot", "snapshot"])
        aggregator.say("frame", delta(A, 5, "yes", "0.4000", "1.00"))
        await inbox.until(lambda: inbox.reader.state[A] == "resync" and len(inbox.requests) == 2)
        assert inbox.requests[1] == {
            "assets": [A],
            "why": "seq_gap",
            "source": "venue",
            "connection": "c1",
        }
        assert inbox.reader.types(A) == ["snapshot", "snapshot", "state"]


async def test_statuses_are_told_and_asked_for(buses: tuple[Bus, Bus]) -> None:
    """A halt is told to logs after the frame that told it, once, and its end too; the venue's catalogue is
    asked about all markets when a connection opens. What others tell of statuses, or claim to know of books,
    changes nothing."""
    life = b'{"type":"market_lifecycle_v2","sid":3,"seq":%d,"msg":{"market_ticker":"%s","event_type":"%s"}}'
    async with running(buses, ("kalshi", A, A)) as (inbox, bus, clock):
        records: list[tuple[str, dict[str, object]]] = []
        looks: list[bytes] = []

        def record(message: Message) -> None:
            assert message.headers is not None
            kind = message.headers["Wup-Kind"]
            records.append((kind, orjson.loads(message.payload) if kind == "status" else {}))
            inbox.news.set()

        def look(message: Message) -> None:
            looks.append(message.payload)
            inbox.news.set()

        await bus.subscribe(subjects.RAW_ALL, record)
        await bus.subscribe(subjects.discover("kalshi"), look)
        aggregator = Publisher(bus, clock)
        aggregator.say("open", b"{}")
        aggregator.say("frame", snapshot(A, 1, LEVELS))
        aggregator.say("status", b'{"asset":"%s","status":"closed","why":"resolved","by":"n2"}' % A.encode())
        aggregator.say("frame", life % (1, A.encode(), b"deactivated"))
        await inbox.until(lambda: inbox.reader.state.get(A) == "halted" and len(records) == 5)
        aggregator.say("frame", life % (2, A.encode(), b"activated"))
        await inbox.until(lambda: inbox.reader.state.get(A) == "live" and len(records) == 7)
        kinds = [kind for kind, _ in records]
        assert kinds == ["open", "frame", "status", "frame", "status", "frame", "status"]
        told = {"asset": A, "by": "n1"}
        assert [fields for _, fields in records if fields.get("by") == "n1"] == [
            {**told, "status": "halted", "why": "halted", "told_us": clock.now_us()},
            {**told, "status": "open"},
        ]
        await inbox.until(lambda: b'{"assets":"all"}' in looks)


async def test_marks_come_from_the_start() -> None:
    """Each second marks are published, also when there is nothing to mark."""
    bus = LocalBus()
    inbox = Inbox()
    await bus.subscribe(subjects.NORMALIZED_ALL, inbox.normalised)
    service = NormalizerService(bus, ManualClock(), "n1")
    await service.start()
    await inbox.until(lambda: len(inbox.reader.messages) >= 2)
    await service.stop()
    assert {subject for subject, _ in inbox.reader.messages} == {
        "normalized.kalshi._marks.n1",
        "normalized.polymarket._marks.n1",
    }
    assert all(message["assets"] == {} for _, message in inbox.reader.messages)
    seen = len(inbox.reader.messages)
    service.engine.timer(0)
    assert len(inbox.reader.messages) == seen


async def test_a_clocks_decision_goes_to_the_recorder() -> None:
    """A verdict of our own timer is published beside the frames, and is not judged a second time."""
    bus, clock = LocalBus(), ManualClock()
    verdicts: list[tuple[dict[str, object], str]] = []

    def record(message: Message) -> None:
        assert message.headers is not None
        if message.headers["Wup-Kind"] == "verdict":
            verdicts.append((orjson.loads(message.payload), message.subject))

    inbox = Inbox()
    await bus.subscribe(subjects.RAW_ALL, record)
    await bus.subscribe(subjects.NORMALIZED_ALL, inbox.normalised)
    service = NormalizerService(bus, clock, "n1", table=table(("kalshi", A, A)))
    await service.start()
    aggregator = Publisher(bus, clock)
    aggregator.say("open", b"{}")
    aggregator.say("frame", snapshot(A, 1, LEVELS, [["0.5500", "1.00"]]))
    aggregator.say("frame", delta(A, 2, "yes", "0.6000", "1.00"))
    clock.advance(0.3)
    await inbox.until(lambda: inbox.reader.state.get(A) == "resync")
    await service.stop()
    assert verdicts == [({"asset": A, "state": "resync", "why": "gap", "by": "n1"}, "market.kalshi._conn.c1")]
    assert inbox.reader.types(A) == ["snapshot", "state"]


async def test_bad_messages_are_counted_by_kind() -> None:
    """A message without our headers and a request that cannot be read are counted, and nothing stops."""
    bus, clock = LocalBus(), ManualClock()
    service = NormalizerService(bus, clock, "n1", table=table(("kalshi", A, A)))
    await service.start()

    def counted(kind: str) -> float:
        return BAD_INPUT.labels("normalizer", "kalshi", kind)._value.get()

    before = counted("no_meta"), counted("bad_request"), counted("bad_json")
    bus.publish("market.kalshi.X", b"{}")
    bus.publish(subjects.resync("kalshi"), b"no json")
    bus.publish(subjects.resync("kalshi"), b'{"assets":[1]}')
    aggregator = Publisher(bus, clock)
    aggregator.say("open", b"{}")
    aggregator.say("frame", b'{"type":')
    inbox = Inbox()
    await bus.subscribe(subjects.NORMALIZED_ALL, inbox.normalised)
    aggregator.say("frame", snapshot(A, 1, LEVELS))
    await service.stop()
    assert (counted("no_meta"), counted("bad_request"), counted("bad_json")) == (
        before[0] + 1,
        before[1] + 2,
        before[2] + 1,
    )
    assert inbox.reader.state == {A: "live"}


async def test_verifications_reach_the_metrics() -> None:
    """Matches of the venue's hash are counted in the metric once each."""
    bus, clock = LocalBus(), ManualClock()
    service = NormalizerService(bus, clock, "n1", table=table(("polymarket", YES, MARKET)))
    await service.start()
    metric = HASH_CHECKS.labels("polymarket", "match")
    before = metric._value.get()
    aggregator = Publisher(bus, clock, "polymarket")
    aggregator.say("open", b"{}")
    aggregator.say("frame", poly_raw(Book({"0.3": "1"}, {"0.6": "2"}).book()))
    service.mark()
    service.mark()
    await service.stop()
    assert metric._value.get() == before + 1


async def test_timers_and_marks_outlive_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of the timers, or of the marks, that raises is counted; the next round comes all the same."""
    bus, clock = LocalBus(), ManualClock()
    inbox = Inbox()
    await bus.subscribe(subjects.NORMALIZED_ALL, inbox.normalised)
    service = NormalizerService(bus, clock, "n1", table=table(("kalshi", A, A)))
    timer, marks = service.engine.timer, service.engine.marks
    left = {"timer": 2, "marks": 1}

    def failing_timer(now_us: int) -> None:
        if left["timer"]:
            left["timer"] -= 1
            raise ZeroDivisionError("a fault in a round of the timers")
        timer(now_us)

    def failing_marks(now_us: int) -> list[tuple[str, bytes]]:
        if left["marks"]:
            left["marks"] -= 1
            raise ZeroDivisionError("a fault in a round of the marks")
        return marks(now_us)

    def counted(kind: str) -> float:
        return BAD_INPUT.labels("normalizer", "", kind)._value.get()

    before = counted("timer_failed"), counted("marks_failed")
    monkeypatch.setattr(service.engine, "timer", failing_timer)
    monkeypatch.setattr(service.engine, "marks", failing_marks)
    await service.start()
    aggregator = Publisher(bus, clock)
    aggregator.say("open", b"{}")
    aggregator.say("frame", snapshot(A, 1, LEVELS, [["0.5500", "1.00"]]))
    aggregator.say("frame", delta(A, 2, "yes", "0.6000", "1.00"))
    clock.advance(0.3)
    await inbox.until(lambda: inbox.reader.state.get(A) == "resync")
    await inbox.until(lambda: any(message["type"] == "marks" for _, message in inbox.reader.messages))
    await service.stop()
    assert left == {"timer": 0, "marks": 0}
    assert (counted("timer_failed"), counted("marks_failed")) == (before[0] + 2, before[1] + 1)


async def test_a_standstill_of_ours_is_forgiven_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service tells the engine how long it stood still beyond a timer's usual wait."""
    clock = ManualClock()
    service = NormalizerService(LocalBus(), clock, "n1")
    told: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(service.engine, "forgive", lambda *stall: told.done() or told.set_result(stall))
    await service.start()
    await asyncio.sleep(0)
    clock.advance(3.0)
    async with asyncio.timeout(10):
        assert await told == (2_950_000, clock.us)
    await service.stop()
