"""Both simulated venues behind real sockets, with faults, read by the aggregator and the normalizer.

The virtual run (`market_run`) compares after every transaction; here bytes take their time, so each book is
compared once the asset's next engine time shows that all of the last one was read: with the simulator's book
at the end of that millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from normalizer.feed import Reader, table
from venues.market_run import difference
from wup import subjects
from wup.aggregator import Aggregator
from wup.bus import LocalBus
from wup.clock import SystemClock
from wup.config import load
from wup.normalizer.service import NormalizerService
from wup.sim.faults import Fault
from wup.sim.service import SimSettings, Simulators
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.bus import Message
    from wup.venues.base import Venue

LOSING = frozenset(["drop", "malformed", "truncate", "reorder", "silence", "mute", "negative", "mixed_array"])
"""Something did not arrive, or not so that it could be read: known by the next frame or transaction."""
OTHER = """
    duplicate unknown_type unknown_field huge skip_book reset close unauthorized rate_limited maintenance halt
    burst slice no_ping no_pong skip_seq repeat_seq reset_seq early_delta channel_error overflow no_event_type
    strings_for_arrays empty_optional late_trade tick_change new_market
"""
ONCE = ("close_market", "half_open")
"""Once in a run, the second in every other one: a market is taken away for good, a venue for seconds."""
QUICK = {"ping_s": 0.5, "silent_down_s": 2.0, "silent_replace_s": 3.0}
"""A half open socket is found out by its silence, which is borne for so long here."""
SECONDS = 3.0
BOOKLESS = frozenset(["trade", "best"])
"""Frames that hold nothing of a book: their loss excuses no difference."""
GRACE_US = {"kalshi": None, "polymarket": 500_000}
"""How long a book may differ after the asset's first engine time since a loss: not at all where the next
frame of the subscription shows it (a time after the loss has then been read), and as long as a transaction
may stay open, with what a busy machine adds, where the next transaction does."""
HEALED_S = 30.0
"""Generous for a busy machine; what it took is in the figures, and judged there."""


class SocketRun:
    """One seed; `read`: the venues as the normalizer reads them."""

    def __init__(self, seed: int, read: Mapping[str, Venue] = VENUES) -> None:
        self.seed = seed
        self.read = read
        self.rng = random.Random(f"sockets/{seed}")
        self.simulators = Simulators(SimSettings(sim_seed=seed, sim_rate=120))
        self.assets = {
            market.listing.assets[0]: platform
            for platform, exchange in self.simulators.exchanges.items()
            for market in exchange.markets.values()
        }
        self.reader = Reader()
        self.news = asyncio.Event()
        self.stamps: dict[str, int | None] = {}
        # Per asset, for each loss that may not be known yet: when it was, and the first engine time after it.
        self.losses: dict[str, list[list[int | None]]] = {asset: [] for asset in self.assets}
        self.looked = dict.fromkeys(self.simulators.exchanges, 0)
        self.figures: Counter[str] = Counter()
        self.proven: set[str] = set()
        self.ended: set[str] = set()
        self.wrong: list[str] = []

    def take(self, message: Message) -> None:
        """One normalised message; what the asset showed before is final when a later time begins."""
        self.figures["messages"] += 1
        fields = orjson.loads(message.payload)
        asset = fields.get("asset_id")
        if asset is not None and fields["type"] != "trade":
            stamp = fields.get("ts", {}).get("venue")
            if self.stamps.get(asset) != stamp:
                self.compare(asset)
            self.stamps[asset] = stamp
            self.lost()
            for loss in self.losses.get(asset, ()):
                if loss[1] is None and stamp is not None and stamp > (loss[0] or 0):
                    loss[1] = stamp
            self.figures["resyncs"] += fields.get("state") == "resync"
        self.reader.take(message.subject, message.payload)
        self.reader.messages.clear()
        self.news.set()

    def compare(self, asset: str) -> None:
        """What is shown is the true book of its time, or a loss of a moment ago is not known yet."""
        stamp = self.stamps.get(asset)
        if stamp is None or self.reader.state.get(asset) != "live":
            return
        truth = self.truth(asset, stamp)
        if truth is None:
            return
        self.figures["compared"] += 1
        self.lost()
        excused = self.excused(asset, stamp)
        self.figures["strict"] += not excused
        if self.reader.books[asset] == truth:
            self.proven.add(asset)
            return
        if excused:
            self.figures["not_known_yet"] += 1
        else:
            done = self.simulators.exchanges[self.assets[asset]].menu.done
            last = [(d.kind, d.frame, d.assets, d.at_us - stamp) for d in done[-8:]]
            self.wrong.append(f"{asset} at {stamp}: {last}")

    def lost(self) -> None:
        """Note what has not arrived, or not so that it could be read, since the last look."""
        for platform, exchange in self.simulators.exchanges.items():
            done = exchange.menu.done
            for fault in done[self.looked[platform] :]:
                if fault.kind in LOSING and fault.frame not in BOOKLESS:
                    for named in fault.assets:
                        market = exchange.market_of(named)
                        asset = market.listing.assets[0] if market is not None else named
                        if asset in self.losses:
                            self.losses[asset].append([fault.at_us, None])
                elif fault.kind == "half_open":
                    for asset, of in self.assets.items():
                        if of == platform:
                            self.losses[asset].append([fault.at_us, None])
            self.looked[platform] = len(done)

    def excused(self, asset: str, stamp: int) -> bool:
        """Is there a loss of this asset that nothing has shown yet?"""
        grace_us = GRACE_US[self.assets[asset]]
        for at_us, first_us in self.losses[asset]:
            if at_us is not None and stamp <= at_us:
                return True
            if grace_us is not None and (first_us is None or stamp <= first_us + grace_us):
                return True
        return False

    def truth(self, asset: str, at_us: int | None) -> tuple[dict[str, str], dict[str, str]] | None:
        """The simulator's book, in the reader's form."""
        book = self.simulators.truth(self.assets[asset], asset, at_us)
        if book is None:
            return None
        return dict(map(tuple, book["bids"])), dict(map(tuple, book["asks"]))

    async def suffer(self) -> None:
        """Faults every tenth of a second, about."""
        clock = self.simulators.clock
        end_us = clock.now_us() + round(SECONDS * 1_000_000)
        once = {round(self.rng.uniform(3, 15)): kind for kind in ONCE[: 2 - self.seed % 2]}
        number = 0
        while clock.now_us() < end_us:
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
            number += 1
            kind = once.get(number) or self.rng.choice(self.rng.choice((sorted(LOSING), OTHER.split())))
            wish: dict[str, Any] = {"kind": kind, "seconds": self.rng.uniform(0.05, 0.5)}
            if kind in ONCE:
                self.figures[kind] += 1
                asset = self.rng.choice(sorted(self.assets))
                wish |= {"asset": asset, "venue": self.assets[asset]}
                if kind == "close_market":
                    self.ended.add(asset)
            if kind == "mute":
                # At the other venue a market that falls silent within its sid shows in no frame at all.
                wish["venue"] = "polymarket"
            if kind in LOSING:
                # Steps of a market's life are told once; what loses one of those only the catalogue tells.
                wish["frames"] = ("snapshot", "delta", "book", "price_change", "trade", "best")
            if kind == "huge":
                wish["value"] = 2_000_000
            if (
                kind not in ("silence", "mute", "slice", "maintenance", "halt", *ONCE)
                and self.rng.random() < 0.5
            ):
                wish["count"] = 1
            with contextlib.suppress(ValueError):
                self.simulators.fault(Fault(**wish))
                self.figures["faults"] += 1

    async def heal(self) -> None:
        """No more faults: every leg comes back and shows a true book; then, while the engines stand still,
        all of them at once."""
        clock = self.simulators.clock
        for exchange in self.simulators.exchanges.values():
            exchange.menu.clear()
            exchange.refuse_until_us = 0
        started = clock.now_us()
        # What the last fault took away only the next transaction of the asset can show.
        self.proven.clear()
        going_on = self.assets.keys() - self.ended
        await self.until(lambda: self.proven >= going_on and not self.sick(compared=False))
        self.figures["healed_ms"] = (clock.now_us() - started) // 1000
        self.simulators.fault(Fault(kind="restart", seconds=600))
        await self.until(lambda: not self.sick(compared=True))

    async def until(self, holds: Any) -> None:
        """Wait for news until something holds."""
        try:
            async with asyncio.timeout(HEALED_S):
                while not holds():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"seed {self.seed}: {self.sick(compared=True)}") from None

    def sick(self, *, compared: bool) -> dict[str, str]:
        """Legs that are not live, or not the true book of now."""
        found = {}
        for asset in self.assets:
            state = self.reader.state.get(asset)
            if asset in self.ended and state != "live":
                # Whether its end was told or that was lost: it is not shown any more.
                continue
            if state != "live":
                found[asset] = f"{state} ({self.reader.why.get(asset)})"
            elif compared and self.reader.books[asset] != self.truth(asset, None):
                found[asset] = difference(self.reader.books[asset], self.truth(asset, None) or ({}, {}))
        return found

    async def go(self) -> Counter[str]:
        """Begin, suffer, heal; what happened in numbers."""
        bus, clock = LocalBus(), SystemClock()
        await self.simulators.start()
        overrides = {name.lower(): value for name, value in self.simulators.env().items()}
        venues = {}
        for name, venue in VENUES.items():
            own = {key: value for key, value in overrides.items() if key in venue.settings.model_fields}
            quick = dataclasses.replace(venue, limits=dataclasses.replace(venue.limits, **QUICK))
            venues[name] = (quick, load(venue.settings, **own))
        mapping = table(*((platform, asset, self.market(asset)) for asset, platform in self.assets.items()))
        normalizer = NormalizerService(bus, clock, "n", table=mapping, venues=self.read)
        aggregator = Aggregator(bus, venues, clock, random.Random(self.seed))
        await bus.subscribe(subjects.NORMALIZED_ALL, self.take)
        await normalizer.start()
        await aggregator.start()
        try:
            await aggregator.set_table(mapping)
            await self.until(lambda: not self.sick(compared=False))
            await self.suffer()
            await self.heal()
        finally:
            await aggregator.stop()
            await normalizer.stop()
            await self.simulators.stop()
            await bus.close()
        assert self.wrong == [], f"seed {self.seed}: {self.wrong[:3]}"
        return self.figures

    def market(self, asset: str) -> str:
        """The market id of an asset."""
        market = self.simulators.model.by_asset[self.assets[asset], asset]
        return market.listing.market_id
