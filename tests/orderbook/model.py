"""A naive world around the orderbook service: normalizers that lose, repeat, restart and die, mappings that
change, and a brute-force reading of what the service was told."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from end_to_end.plain import PlainClient, micro
from wup import subjects
from wup.bus import LocalBus, Message
from wup.clock import ManualClock
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.orderbook import OrderbookService

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.bus import Bus

ONE = 1_000_000
DEAD_US = 5 * ONE
"""So long a dead normalizer stays dead."""
SILENT_US = 4 * ONE
"""After so long without its producer no leg is live: two marks missed, and the next look."""
PLATFORMS = ("kalshi", "polymarket", "toy")
BOOKS = tuple(f"agg-{i}.{i:016x}.yes" for i in range(4))
PRICES = [f"0.{i}" for i in range(11, 90, 7) if i % 10]
Levels = dict[tuple[str, str], str]
"""(side, price) -> size: one asset's own book."""


@dataclass
class Asset:
    """One venue asset as its normalizer has it."""

    platform: str
    name: str
    epoch: int
    n: int = 0
    levels: Levels = field(default_factory=dict)
    state: str = "live"

    @property
    def subject(self) -> str:
        return subjects.normalized(self.platform, self.name, self.name)


@dataclass
class Told:
    """What the service was told of an asset, read by the rules of wire.md section 2."""

    epoch: int = -1
    n: int = 0
    live: bool = False
    levels: Levels = field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        epoch, n, kind = message["epoch"], message["n"], message["type"]
        if (epoch, n) <= (self.epoch, self.n) and self.epoch >= 0:
            return
        if kind == "snapshot":
            self.epoch, self.n, self.live = epoch, n, True
            self.levels = cells(message)
            return
        if epoch != self.epoch or n != self.n + 1:
            self.live = False
            if epoch >= self.epoch:
                self.epoch, self.n = epoch, n
            return
        self.n = n
        if kind == "state":
            self.live = False
        elif kind == "update" and self.live:
            for key, size in cells(message).items():
                if size == "0":
                    self.levels.pop(key, None)
                else:
                    self.levels[key] = size


def cells(message: dict[str, Any]) -> Levels:
    return {(side, p): s for side in ("bids", "asks") for p, s in message[side]}


class World:
    """One seeded run.

    Args:
        break_service: changes a fresh service on purpose; such a run must fail.
    """

    def __init__(
        self,
        seed: int,
        break_service: Callable[[OrderbookService], None] | None = None,
        buses: tuple[Bus, Bus] | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = ManualClock()
        local = LocalBus()
        self.bus, self.service_bus = buses or (local, local)
        self.break_service = break_service
        self.assets = [
            Asset(platform, f"{platform}-{i}", self.clock.us // 1000)
            for platform in PLATFORMS
            for i in range(3)
        ]
        self.told: dict[str, Told] = {}
        self.dead_since: dict[str, int] = {}
        self.deaths = 0
        self.table = MappingTable(0)
        self.client = PlainClient()
        self.wrong_since: dict[str, int] = {}
        self.problems: list[str] = []
        self.compared = 0
        self.losses = 0
        self.calm = False
        self.service: OrderbookService | None = None

    async def start(self) -> None:
        await self.bus.subscribe("orderbook.changes.>", lambda m: self.client.receive(m.payload))
        await self.bus.subscribe("control.>", self._on_resync)
        await self.restart_service()
        await self.remap()

    # --- the normalizers ---------------------------------------------------------------------------

    def deliver(self, asset: Asset, message: dict[str, Any]) -> None:
        """Hand a message to the service: once, twice, or (unless calm) not at all."""
        if not self.calm and self.rng.random() < 0.03:
            self.losses += 1
            return
        for _ in range(2 if self.rng.random() < 0.03 else 1):
            if any(leg.asset_id == asset.name for leg in self.table.legs):
                self.told.setdefault(asset.name, Told()).take(message)
            self.bus.publish(asset.subject, orjson.dumps(message))

    def say(self, asset: Asset, kind: str, **body: Any) -> None:
        asset.n += 1
        self.deliver(
            asset,
            {
                "type": kind,
                "platform": asset.platform,
                "market_id": asset.name,
                "asset_id": asset.name,
                "epoch": asset.epoch,
                "n": asset.n,
                **body,
                "ts": {"recv": self.clock.us},
            },
        )

    def say_book(self, asset: Asset) -> None:
        sides: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for (side, price), size in asset.levels.items():
            sides[side].append([price, size])
        self.say(asset, "snapshot", **sides)

    def change(self, asset: Asset) -> None:
        """One venue transaction: a few levels of one asset."""
        if asset.state != "live" or asset.platform in self.dead_since:
            return
        sides: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for _ in range(self.rng.randint(1, 3)):
            side, price = self.rng.choice(("bids", "asks")), self.rng.choice(PRICES)
            size = self.rng.choice(("0", "1", "2.5", "300.000001"))
            if any(price == known for known, _ in sides[side]):
                continue
            sides[side].append([price, size])
            if size == "0":
                asset.levels.pop((side, price), None)
            else:
                asset.levels[side, price] = size
        self.say(asset, "update", **sides)

    def _on_resync(self, message: Message) -> None:
        if not self.calm and self.rng.random() < 0.05:
            return
        wanted = orjson.loads(message.payload)["assets"]
        for asset in self.assets:
            if asset.name in wanted and asset.platform not in self.dead_since:
                if asset.state == "live":
                    self.say_book(asset)
                else:
                    self.say(asset, "state", state=asset.state, why="disconnected")

    def mark(self) -> None:
        for platform in PLATFORMS:
            if platform in self.dead_since:
                continue
            by_epoch: dict[int, dict[str, int]] = {}
            for asset in self.assets:
                if asset.platform == platform:
                    by_epoch.setdefault(asset.epoch, {})[asset.name] = asset.n
            for epoch, numbers in by_epoch.items():
                for name, n in numbers.items():
                    told = self.told.get(name)
                    if told is not None and (told.epoch, told.n) < (epoch, n):
                        told.live = False
                body = {"type": "marks", "epoch": epoch, "assets": numbers}
                self.bus.publish(subjects.normalized_marks(platform, str(epoch)), orjson.dumps(body))

    async def settle(self) -> None:
        """All that was said is heard, answered, and the answers heard: each hop takes a flush to send and
        one to be handled."""
        for _ in range(8):
            await self.bus.flush()
            await self.service_bus.flush()

    # --- what happens ------------------------------------------------------------------------------

    async def restart_service(self) -> None:
        last = 0
        if self.service is not None:
            await self.service.stop()
            last = self.service.store.last_epoch()
        self.service = OrderbookService(self.service_bus, clock=self.clock, epoch_ms=last)
        if self.break_service is not None:
            self.break_service(self.service)
        self.told = {}
        await self.service.start()
        await self.service.set_table(self.table)

    async def remap(self) -> None:
        chosen = self.rng.sample(self.assets, self.rng.randint(4, len(self.assets)))
        legs = tuple(
            Leg(a.platform, a.name, a.name, "event", self.rng.choice(BOOKS), self.rng.random() < 0.4)
            for a in chosen
        )
        # A leg that keeps its book and sense keeps what it was told; anything else starts anew.
        books = {leg.book: BookInfo(leg.book, leg.book.split(".")[0], "t", "l") for leg in legs}
        gone = {leg.asset_id for leg in self.table.legs} - {leg.asset_id for leg in legs}
        for name in gone:
            self.told.pop(name, None)
        self.table = MappingTable(self.table.version + 1, legs, books)
        assert self.service is not None
        await self.service.set_table(self.table)

    async def step(self) -> None:
        asset = self.rng.choice(self.assets)
        what = self.rng.random()
        if asset.platform in self.dead_since:
            return
        if what < 0.84:
            self.change(asset)
        elif what < 0.85:
            self.die(asset.platform, answering=self.rng.random() < 0.7)
        elif what < 0.88:
            # Also one that the venue closes and opens again: the snapshot that opens it may be lost.
            asset.state = self.rng.choice(("down", "closed"))
            self.say(asset, "state", state=asset.state, why="disconnected")
        elif what < 0.94:
            asset.state = "live"
            self.say_book(asset)
        elif what < 0.96:
            self.restart(asset.platform)
        elif what < 0.98:
            await self.remap()
        else:
            await self.restart_service()

    def restart(self, platform: str) -> None:
        """A normalizer starts: a larger epoch for all its assets, numbers anew."""
        self.dead_since.pop(platform, None)
        assets = [asset for asset in self.assets if asset.platform == platform]
        epoch = max(self.clock.us // 1000, max(asset.epoch for asset in assets) + 1)
        for one in assets:
            one.epoch, one.n = epoch, 0
            if one.state == "live":
                self.say_book(one)

    def die(self, platform: str, *, answering: bool) -> None:
        """A normalizer dies; `answering`: one that has just started, right after its first snapshots, so that
        no mark was ever heard of it."""
        if answering:
            self.restart(platform)
        self.dead_since[platform] = self.clock.us
        self.deaths += 1

    def second(self) -> None:
        """One second passes: marks of both hops, and the judgement."""
        self.clock.advance(1.0)
        for platform, since in list(self.dead_since.items()):
            if self.calm:
                self.restart(platform)
            elif self.clock.us - since >= DEAD_US:
                # Its successor may die as soon as it has answered, too.
                if self.rng.random() < 0.5:
                    self.die(platform, answering=True)
                else:
                    self.restart(platform)
        self.mark()
        assert self.service is not None
        self.service.tick()

    # --- the judgement -----------------------------------------------------------------------------

    def merged(self, book: str, *, true: bool) -> dict[tuple[int, int], dict[str, int]]:
        """Brute-force merge of a book's legs, as told to the service (or as the normalizers have them)."""
        shown: dict[tuple[int, int], dict[str, int]] = {}
        seen: dict[str, int] = {}
        for leg in self.table.legs:
            if leg.book != book:
                continue
            seen[leg.platform] = seen.get(leg.platform, 0) + 1
            name = leg.platform if seen[leg.platform] == 1 else f"{leg.platform}-{seen[leg.platform]}"
            told = self.told.get(leg.asset_id)
            if told is None or not told.live:
                continue
            known = true and leg.platform not in self.dead_since
            levels = next(a.levels for a in self.assets if a.name == leg.asset_id) if known else told.levels
            for (side, price), size in levels.items():
                at = ONE - micro(price) if leg.inverted else micro(price)
                on = (0 if side == "bids" else 1) ^ (1 if leg.inverted else 0)
                shown.setdefault((on, at), {})[name] = micro(size)
        return shown

    def judge(self) -> None:
        """Every book at the client equals the merge of what the service was told; what was lost is found."""
        self.problems += self.client.wrong
        self.client.wrong.clear()
        self.judge_silence()
        for book in {leg.book for leg in self.table.legs}:
            self.compared += 1
            if book not in self.client.books:
                self.problems.append(f"{book} was never opened at the client")
                continue
            ours = self.client.books[book].levels
            if ours != self.merged(book, true=False):
                self.problems.append(f"{book}: {ours} is not {self.merged(book, true=False)}")
            if ours == self.merged(book, true=True):
                self.wrong_since.pop(book, None)
            elif self.clock.us - self.wrong_since.setdefault(book, self.clock.us) > 2_000_000:
                self.problems.append(f"{book}: a loss went unnoticed for more than 2 s")

    def judge_silence(self) -> None:
        """A leg whose normalizer is dead may be live or not for a while, as the service says; then not."""
        assert self.service is not None
        for leg in self.table.legs:
            since, told = self.dead_since.get(leg.platform), self.told.get(leg.asset_id)
            if since is None or told is None or not told.live:
                continue
            legs = self.service.store.book(leg.book).legs.values()
            live = any(one["asset"] == leg.asset_id and one["state"] == "live" for one in legs)
            if live and self.clock.us - since >= SILENT_US:
                self.problems.append(f"{leg.asset_id} is live though its normalizer is long dead")
            told.live = live


async def play(world: World, steps: int) -> World:
    """Run a world and judge it after every step; at the end, without further loss, all is repaired."""
    await world.start()
    for index in range(steps):
        await world.step()
        await world.settle()
        world.judge()
        if index % 12 == 11:
            world.second()
            await world.settle()
            world.judge()
        if world.problems:
            break
    world.calm = True
    for _ in range(5):
        world.second()
        await world.settle()
        world.judge()
    assert world.service is not None
    for leg in world.table.legs:
        asset = next(a for a in world.assets if a.name == leg.asset_id)
        told = world.told.get(asset.name)
        if asset.state == "live" and (told is None or not told.live or told.levels != asset.levels):
            world.problems.append(f"{asset.name} is not repaired")
    await world.service.stop()
    return world
