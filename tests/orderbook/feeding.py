"""A hand-driven normalizer for tests of the orderbook stage."""

from __future__ import annotations

from typing import Any

import orjson

from wup import subjects
from wup.bus import LocalBus, Message
from wup.clock import SYSTEM_CLOCK, ManualClock
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.orderbook import OrderbookService

BOOK = "fed-2026-12.21a66bf6c52cc37d.yes"
OTHER = "fed-2026-12.ffffffffffffffff.yes"


def leg(platform: str, asset: str, *, book: str = BOOK, inverted: bool = False, **more: Any) -> Leg:
    return Leg(platform, asset, f"m-{asset}", "event", book, inverted, **more)


def table(*legs: Leg, version: int = 1, result: str | None = None) -> MappingTable:
    books = {
        one.book: BookInfo(one.book, one.book.split(".")[0], "Fed", "25 bps cut", result=result)
        for one in legs
    }
    return MappingTable(version, legs, books)


class PatientClock:
    """The machine's time, for a service whose hand-driven normalizers send no marks: nobody falls silent."""

    def now_us(self) -> int:
        return SYSTEM_CLOCK.now_us()

    def monotonic(self) -> float:
        return 0.0


class Feed:
    """An orderbook service on a local bus and a clock that the test moves; collects what goes out."""

    def __init__(self, **options: Any) -> None:
        self.bus = LocalBus()
        self.clock = ManualClock()
        self.service = OrderbookService(self.bus, clock=self.clock, **options)
        self.out: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.marks: list[dict[str, Any]] = []
        self.n: dict[str, int] = {}
        self.epoch = 1_795_353_600_001

    async def start(self, first: MappingTable) -> None:
        def collect(message: Message) -> None:
            body = orjson.loads(message.payload)
            (self.marks if message.subject.startswith("orderbook.marks.") else self.out).append(body)

        await self.bus.subscribe("orderbook.changes.>", collect)
        await self.bus.subscribe("orderbook.trades.>", collect)
        await self.bus.subscribe("orderbook.marks.>", collect)
        await self.bus.subscribe("control.>", lambda m: self.asked.append(orjson.loads(m.payload)))
        await self.service.start()
        await self.service.set_table(first)

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.service.stop()

    def take(self) -> list[dict[str, Any]]:
        taken, self.out = self.out, []
        return taken

    def send(self, one: Leg, kind: str, *, skip: int = 0, **body: Any) -> None:
        """One normalised message of `one`, with the running counter (plus `skip`)."""
        n = self.n[one.asset_id] = self.n.get(one.asset_id, 0) + 1 + skip
        message = {
            "type": kind,
            "platform": one.platform,
            "market_id": one.market_id,
            "asset_id": one.asset_id,
            "epoch": self.epoch,
            "n": n,
            **body,
        }
        subject = subjects.normalized(one.platform, one.market_id, one.asset_id)
        self.bus.publish(subject, orjson.dumps(message))

    def book(self, one: Leg, bids: list[list[str]], asks: list[list[str]]) -> None:
        self.send(one, "snapshot", bids=bids, asks=asks, ts={"recv": self.clock.now_us()})

    def mark(self, platform: str, instance: str = "i1") -> None:
        body = {"type": "marks", "epoch": self.epoch, "assets": self.n}
        self.bus.publish(subjects.normalized_marks(platform, instance), orjson.dumps(body))
