"""Full queues: what is lost is found, its legs are `resync`, and nothing pretends to be whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from end_to_end.plain import PlainClient, micro
from orderbook.feeding import Feed, PatientClock, leg, table
from wup import subjects
from wup.bus import LocalBus, Message, NatsBus
from wup.bus import nats as nats_bus
from wup.bus.base import COUNT
from wup.errors import BusError
from wup.orderbook import OrderbookService, answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.table import Leg

LEGS = [leg("kalshi", f"KX-{i}", book=f"agg-{i}.{i:016x}.yes") for i in range(40)]
BUSY, QUIET = LEGS[:20], LEGS[20:]


class Normalizer:
    """Says one-level books with running numbers, and answers requests from memory."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.n = {one.asset_id: 0 for one in LEGS}
        self.size = dict(self.n)
        self.asked: set[str] = set()

    def say(self, one: Leg, kind: str) -> None:
        self.n[one.asset_id] += 1
        body = {
            "type": kind,
            "platform": one.platform,
            "market_id": one.market_id,
            "asset_id": one.asset_id,
            "epoch": 1,
            "n": self.n[one.asset_id],
            "bids": [["0.5", str(self.size[one.asset_id])]],
            "asks": [],
        }
        subject = subjects.normalized(one.platform, one.market_id, one.asset_id)
        self.bus.publish(subject, orjson.dumps(body))

    def change(self, one: Leg) -> None:
        self.size[one.asset_id] += 1
        self.say(one, "update")

    def answer(self, message: Message) -> None:
        for asset in orjson.loads(message.payload)["assets"]:
            self.asked.add(asset)
            self.say(next(one for one in LEGS if one.asset_id == asset), "snapshot")

    def mark(self) -> None:
        body = {"type": "marks", "epoch": 1, "assets": self.n}
        self.bus.publish(subjects.normalized_marks("kalshi", "i"), orjson.dumps(body))


async def test_a_full_queue_costs_its_own_legs_a_snapshot(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the service cannot keep up and its queue drops messages, the legs they were about leave their
    books as `resync` and are asked for; nobody ever sees a wrong book, all is as it should be after the next
    marks, and legs that lost nothing are never touched."""
    monkeypatch.setattr(nats_bus, "_READER_MESSAGES", 64)
    inside = await NatsBus.connect(nats_url)
    monkeypatch.undo()
    outside = await NatsBus.connect(nats_url)
    losses: list[str] = []
    inside.on_loss(losses.append)
    client = PlainClient()
    statuses: dict[str, list[str]] = {}

    def receive(message: Message) -> None:
        client.receive(message.payload)
        body = orjson.loads(message.payload)
        if body["type"] == "status":
            statuses.setdefault(body["book"], []).append(body["legs"]["kalshi"]["state"])

    monkeypatch.setattr(nats_bus, "_READER_MESSAGES", 64)
    service = OrderbookService(inside, epoch_ms=1, clock=PatientClock())
    await service.start()
    monkeypatch.undo()
    normalizer = Normalizer(outside)
    await outside.subscribe("orderbook.changes.>", receive)
    await outside.subscribe(subjects.resync("kalshi"), normalizer.answer)
    await service.set_table(table(*LEGS))

    def right() -> bool:
        return all(
            (book := client.books.get(one.book)) is not None
            and book.exact
            and book.state == "live"
            and book.levels == {(0, micro("0.5")): {"kalshi": micro(str(normalizer.size[one.asset_id]))}}
            for one in LEGS
            if normalizer.size[one.asset_id]
        )

    async with asyncio.timeout(20):
        while len(statuses) < len(LEGS):
            await asyncio.sleep(0.01)
        statuses.clear()
        normalizer.asked.clear()
        for one in QUIET:
            normalizer.change(one)
        while not right():
            await asyncio.sleep(0.01)
        for _ in range(100):
            for one in BUSY:
                normalizer.change(one)
        while not losses:
            await asyncio.sleep(0.01)
        while not right():
            normalizer.mark()
            await asyncio.sleep(0.2)
    assert "slow_reader" in losses
    assert client.wrong == []
    touched = {one.book for one in BUSY if "resync" in statuses.get(one.book, [])}
    assert touched
    assert not any(one.book in statuses for one in QUIET)
    assert normalizer.asked <= {one.asset_id for one in BUSY}
    await service.stop()
    await inside.close()
    await outside.close()


class Narrow(LocalBus):
    """A bus that can be made to hold back, and to drop, what is published to inboxes."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.most_held = 0
        self.drop_after: int | None = None
        self.ends: list[Mapping[str, str] | None] = []

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        if subject.startswith("_INBOX."):
            if not payload:
                self.ends.append(headers)
            elif self.drop_after is not None:
                self.drop_after -= 1
                if self.drop_after < 0:
                    return False
            self.held += len(payload)
            self.most_held = max(self.most_held, self.held)
        return super().publish(subject, payload, headers, reply)

    @property
    def waiting_bytes(self) -> int:
        return self.held

    async def drain(self) -> None:
        """What a network does: takes away what waits, now and then."""
        while True:
            await asyncio.sleep(0.001)
            self.held = 0


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """A service with 2,000 books on a bus of small capacity."""
    monkeypatch.setattr(answers, "_WAITING_BYTES", 20_000)
    feed = Feed()
    feed.bus = Narrow()
    feed.service = OrderbookService(feed.bus, clock=feed.clock)
    legs = [leg("kalshi", f"KX-{i}", book=f"agg.{i:016x}.yes") for i in range(2_000)]
    await feed.start(table(*legs))
    return feed


async def test_a_huge_answer_waits_for_the_bus(narrow: Feed) -> None:
    """All books in one answer: at no time more waits than the limit and one portion, and the end says how
    many there were."""
    bus = narrow.bus
    assert isinstance(bus, Narrow)
    draining = asyncio.create_task(bus.drain())
    found = await bus.request_many("orderbook.snapshot.0", b'{"match":">"}', timeout=20)
    draining.cancel()
    assert len({orjson.loads(m.payload)["book"] for m in found}) == 2_000
    assert bus.ends == [{COUNT: "2000"}]
    assert bus.most_held < 20_000 + 16 * 600
    await narrow.service.stop()


async def test_an_answer_with_a_hole_has_no_end(narrow: Feed) -> None:
    """When a snapshot of an answer is dropped the reader is never told that the list is whole: the request
    fails, and the next one is answered."""
    bus = narrow.bus
    assert isinstance(bus, Narrow)
    draining = asyncio.create_task(bus.drain())
    bus.drop_after = 1_500
    with pytest.raises(BusError):
        await bus.request_many("orderbook.snapshot.0", b'{"match":">"}', timeout=1)
    assert bus.ends == []
    bus.drop_after = None
    assert len(await bus.request_many("orderbook.snapshot.0", b'{"match":">"}', timeout=20)) == 2_000
    draining.cancel()
    await narrow.service.stop()


async def test_a_bus_that_takes_nothing_gets_no_end(narrow: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that stays full ends the answer after a while, without the message that would make it look whole;
    requests beyond the limit are dropped."""
    monkeypatch.setattr(answers, "_PATIENCE_S", 0.05)
    bus = narrow.bus
    assert isinstance(bus, Narrow)
    got: list[Message] = []
    await bus.subscribe("_INBOX.me", got.append)
    for _ in range(100):
        bus.publish("orderbook.snapshot.0", b'{"match":">"}', reply="_INBOX.me")
    assert len(narrow.service._answers._requests) <= 64
    async with asyncio.timeout(20):
        while narrow.service._answers._requests:
            await asyncio.sleep(0.01)
    assert got
    assert bus.ends == []
    await narrow.service.stop()


@pytest.mark.parametrize("over_nats", [False, True])
async def test_a_reader_notices_answers_that_got_lost(nats_url: str, over_nats: bool) -> None:
    """An end that names more answers than arrived is an error, on either bus."""
    bus = await NatsBus.connect(nats_url) if over_nats else LocalBus()

    def lossy(message: Message) -> None:
        assert message.reply is not None
        bus.publish(message.reply, b"one")
        bus.publish(message.reply, b"", {COUNT: "2"})

    await bus.subscribe("ask", lossy)
    with pytest.raises(BusError, match="lost"):
        await bus.request_many("ask", b"")
    await bus.close()
