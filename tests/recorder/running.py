"""The whole pipeline on one in-process bus, in the order in which `wup up` puts it together, recorded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wup import config
from wup._core import Change
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import VenueMarket
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.normalizer.service import NormalizerService
from wup.orderbook import OrderbookService
from wup.playback import comparable
from wup.recorder import Recorder
from wup.sim import SimSettings, Simulators
from wup.venues.registry import VENUES


async def table_of(sims: Simulators, version: int = 1) -> MappingTable:
    """The simulated events as the event service would compile them, with what the venues' REST says."""
    found: dict[tuple[str, str], VenueMarket] = {}
    for name, venue in VENUES.items():
        catalogue = venue.catalogue(config.load(venue.settings))
        for slug in {leg["event"] for pair in sims.pairs for leg in pair["legs"] if leg["platform"] == name}:
            for market in (await catalogue.event(slug)).markets:
                found[name, market.asset_id] = market
        await catalogue.close()
    legs: list[Leg] = []
    books: dict[str, BookInfo] = {}
    for number, pair in enumerate(sims.pairs):
        book = f"{pair['aggregate']}.{number:016x}.yes"
        books[book] = BookInfo(book, pair["aggregate"], pair["title"], pair["label"])
        for leg in pair["legs"]:
            market = found[leg["platform"], leg["asset_id"]]
            legs.append(
                Leg(
                    leg["platform"],
                    leg["asset_id"],
                    leg["market_id"],
                    leg["event"],
                    book,
                    leg["inverted"],
                    tick=market.tick,
                    min_size=market.min_size,
                    facts=market.facts,
                )
            )
    return MappingTable(version, tuple(legs), books)


@dataclass
class Live:
    """A running pipeline and everything that it published."""

    sims: Simulators
    bus: LocalBus
    aggregator: Aggregator
    normalizer: NormalizerService
    orderbook: OrderbookService
    recorder: Recorder
    messages: list[bytes] = field(default_factory=list)

    async def set_table(self, table: MappingTable) -> None:
        self.normalizer.set_table(table)
        await self.orderbook.set_table(table)
        self.recorder.set_table(table)
        await self.aggregator.set_table(table)

    def live(self) -> int:
        """How many books are live."""
        store = self.orderbook.store
        return sum(store.book(book).state == "live" for book in store.books())


@contextlib.asynccontextmanager
async def pipeline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, rate: float, **options: Any
) -> AsyncIterator[Live]:
    """Simulators and all stages; the aggregator ends first, so that its connections end in the recording."""
    async with contextlib.AsyncExitStack() as stack:
        sims = Simulators(SimSettings(sim_seed=3, sim_rate=rate))
        stack.push_async_callback(sims.stop)
        await sims.start()
        for name, value in sims.env().items():
            monkeypatch.setenv(name, value)
        bus = LocalBus()
        normalizer = NormalizerService(bus, SYSTEM_CLOCK, "test")
        stack.push_async_callback(normalizer.stop)
        await normalizer.start()
        orderbook = OrderbookService(bus, epoch_ms=SYSTEM_CLOCK.now_us() // 1000)
        stack.push_async_callback(orderbook.stop)
        await orderbook.start()
        recorder = Recorder(
            bus,
            folder,
            epoch=normalizer.engine.epoch,
            book_epoch=orderbook.store.last_epoch,
            books=normalizer.engine,
            **options,
        )
        stack.push_async_callback(recorder.stop)
        await recorder.start()
        settings = {name: (venue, config.load(venue.settings)) for name, venue in VENUES.items()}
        aggregator = Aggregator(bus, settings)
        stack.push_async_callback(aggregator.stop)
        await aggregator.start()
        live = Live(sims, bus, aggregator, normalizer, orderbook, recorder)

        def out(message: Message) -> None:
            live.messages.append(comparable(message.payload))

        for pattern in ("orderbook.changes.>", "orderbook.trades.>"):
            await bus.subscribe(pattern, out)
        yield live


def replayed(files: list[str]) -> tuple[list[bytes], list[str]]:
    """Everything that a replay of `files` publishes, and the lines that it could not read."""
    from wup.playback import run

    messages: list[bytes] = []

    def take(change: Change) -> None:
        messages.append(comparable(change.payload))

    _, bad = run(files, take)
    return messages, [str(line) for line in bad]


def sha256(messages: list[bytes]) -> str:
    """As `wup replay` prints it."""
    digest = hashlib.sha256()
    for message in messages:
        digest.update(message)
    return digest.hexdigest()
