"""Simulated venues, aggregator and normalizer in one loop, and a reader that knows the truth."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from normalizer.feed import Reader
from wup import config
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message
from wup.clock import SYSTEM_CLOCK
from wup.mapping.table import Leg, MappingTable
from wup.normalizer.service import NormalizerService
from wup.sim import SimSettings, Simulators
from wup.sim.faults import Fault
from wup.sim.fixed import short
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from wup.bus import Bus


class Judge(Reader):
    """Reads `normalized.>`; each book is held against the truth once a later change of it has come.

    `wrong`: live books that differed from what the venue had at the time they name.
    """

    def __init__(self, truth: Callable[[str, str, int], Any]) -> None:
        super().__init__()
        self._truth = truth
        self._venue_us: dict[str, int] = {}
        self.platform: dict[str, str] = {}
        self.excused: set[str] = set()
        self.compared = 0
        self.wrong: list[tuple[str, int]] = []
        self.left: list[tuple[float, str, str, str]] = []
        """(monotonic seconds, asset, state, why) of every message that a leg is not live."""
        self._changed = asyncio.Event()

    def __call__(self, message: Message) -> None:
        fields = orjson.loads(message.payload)
        if fields["type"] == "marks":
            return
        asset = fields["asset_id"]
        self.platform[asset] = fields["platform"]
        venue_us = fields.get("ts", {}).get("venue")
        if fields["type"] in ("update", "snapshot"):
            last_us = self._venue_us.get(asset)
            # Stamps are in milliseconds, and several messages may carry the same one.
            if fields["type"] == "update" and last_us is not None and venue_us > last_us:
                self._compare(asset, last_us)
            if venue_us is None:
                self._venue_us.pop(asset, None)
            else:
                self._venue_us[asset] = venue_us
        elif fields["type"] == "state":
            self._venue_us.pop(asset, None)
            self.left.append((time.monotonic(), asset, fields["state"], fields["why"]))
        self.take(message.subject, message.payload)
        self.messages.clear()
        self._changed.set()

    def _compare(self, asset: str, at_us: int) -> None:
        true = self._truth(self.platform[asset], asset, at_us)
        if true is None or asset in self.excused:
            return
        self.compared += 1
        bids, asks = self.books[asset]
        if (dict(true["bids"]), dict(true["asks"])) != (bids, asks):
            self.wrong.append((asset, at_us))

    def live(self, platform: str | None = None) -> set[str]:
        """Assets that are live now."""
        return {
            asset
            for asset, state in self.state.items()
            if state == "live" and platform in (None, self.platform[asset])
        }

    def counts(self, platform: str) -> Counter[str]:
        """Assets of a platform by state."""
        return Counter(state for asset, state in self.state.items() if self.platform[asset] == platform)

    async def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Wait until `condition` holds; how long it took."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
        return time.monotonic() - began


def table_of(simulators: Simulators) -> MappingTable:
    """Every simulated market, one asset each, a book each."""
    legs: list[Leg] = []
    for name, exchange in simulators.exchanges.items():
        for number, market in enumerate(exchange.markets.values()):
            listing = market.listing
            named = listing.outcomes == ("Yes", "No")
            facts = {} if name == "kalshi" else {"neg_risk": "true" if named else "false"}
            legs.append(
                Leg(
                    name,
                    listing.assets[0],
                    listing.market_id,
                    listing.event,
                    f"{name}.{number:016x}.yes",
                    False,
                    tick=short(market.tick),
                    min_size="5",
                    facts=facts,
                )
            )
    return MappingTable(1, tuple(legs))


class System:
    """What runs; `limits` and environment are this test's own."""

    def __init__(self, simulators: Simulators, aggregator: Aggregator, bus: Bus, judge: Judge) -> None:
        self.simulators = simulators
        self.aggregator = aggregator
        self.bus = bus
        self.judge = judge
        self.table = table_of(simulators)

    def fault(self, kind: str, **more: Any) -> None:
        """Put one fault into force."""
        self.simulators.fault(Fault.model_validate({"kind": kind, **more}))

    async def all_live(self, platform: str | None = None, seconds: float = 20) -> float:
        """Wait until every leg is live."""
        wanted = {leg.asset_id for leg in self.table.legs if platform in (None, leg.platform)}
        return await self.judge.until(lambda: wanted <= self.judge.live(platform), seconds)


def venues_for(
    simulators: Simulators, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> dict[str, Any]:
    """(venue, settings) with other limits, led to the simulators."""
    for name, value in simulators.env().items():
        monkeypatch.setenv(name, value)
    found = {}
    for name in simulators.exchanges:
        venue = VENUES[name]
        found[name] = (
            replace(venue, limits=replace(venue.limits, **limits)),
            config.load(venue.settings),
        )
    return found


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch,
    *,
    sim: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
) -> AsyncIterator[System]:
    """Everything on the in-process bus, all legs asked for."""
    simulators = Simulators(SimSettings(**{"sim_seed": 5, "sim_rate": 200, **(sim or {})}))
    await simulators.start()
    bus = LocalBus()
    judge = Judge(simulators.truth)
    normalizer = NormalizerService(bus, SYSTEM_CLOCK, "test")
    aggregator = Aggregator(bus, venues_for(simulators, monkeypatch, limits or {}))
    system = System(simulators, aggregator, bus, judge)
    try:
        await bus.subscribe("normalized.>", judge)
        normalizer.set_table(system.table)
        await normalizer.start()
        await aggregator.start()
        await aggregator.set_table(system.table)
        yield system
    finally:
        await aggregator.stop()
        await normalizer.stop()
        await simulators.stop()
