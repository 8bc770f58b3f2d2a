"""Random edits of mapping files and venue events while books stream: every consolidated message belongs to
one version of the mapping, and every book equals the brute-force merge under the mapping in force."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from mapping.files import aggregate, leg, market, venue_event, venue_market
from orderbook.model import Asset, World
from wup.bus import Message
from wup.mapping.compile import Compiler
from wup.mapping.file import parse
from wup.mapping.table import Leg, MappingTable
from wup.orderbook import OrderbookService

SEEDS = int(os.environ.get("WUP_MAPPING_SEEDS", "40"))
STEPS = 60
Rows = tuple[tuple[str, str, bool], ...]
"""(platform, asset, inverted) of a book's legs, in mapping order."""


def rows_of(table: MappingTable) -> dict[str, Rows]:
    """The legs of each book."""
    found: dict[str, Rows] = {}
    for one in table.legs:
        found[one.book] = (*found.get(one.book, ()), (one.platform, one.asset_id, one.inverted))
    return found


def named(rows: Rows) -> dict[str, tuple[str, str, bool]]:
    """Legs by their names on the wire."""
    found: dict[str, tuple[str, str, bool]] = {}
    for row in rows:
        count = sum(known[0] == row[0] for known in found.values())
        found[row[0] if not count else f"{row[0]}-{count + 1}"] = row
    return found


@dataclass
class Stream:
    """What one book's stream has said since its epoch opened."""

    epoch: int = 0
    seq: int = 0
    mapping: int = 0
    legs: Rows = ()
    """Of the mapping under which the epoch opened."""
    closed: bool = False


@dataclass
class Watcher:
    """Reads every consolidated message as it is published."""

    table: Callable[[], MappingTable]
    streams: dict[str, Stream] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Books whose epoch opened since the last edit began."""
    messages: int = 0

    def receive(self, message: Message) -> None:
        body = orjson.loads(message.payload)
        self.messages += 1
        wrong = self._snapshot(body) if body["type"] == "snapshot" else self._change(body)
        if wrong:
            self.problems.append(f"{wrong}: {body}")

    def _snapshot(self, body: dict[str, Any]) -> str | None:
        book, stream = body["book"], self.streams.get(body["book"], Stream())
        rows = rows_of(self.table()).get(book, ())
        if body["why"] != "epoch" or body["seq"] != 1 or body["epoch"] <= stream.epoch:
            return "a snapshot that opens no epoch"
        if body["mapping"] != self.table().version:
            return f"a snapshot of version {body['mapping']} under {self.table().version}"
        shown = {n: (one["platform"], one["asset"], one["inverted"]) for n, one in body["legs"].items()}
        if shown != named(rows):
            return f"legs are not those in force ({rows})"
        self.streams[book] = Stream(body["epoch"], 1, body["mapping"], rows)
        self.opened.append(book)
        return self._parts(body, rows)

    def _change(self, body: dict[str, Any]) -> str | None:
        stream = self.streams.get(body["book"])
        if stream is None or stream.closed or body["epoch"] != stream.epoch:
            return "a message outside its epoch"
        if body["prev"] != stream.seq or body["seq"] != stream.seq + 1:
            return f"a hole after {stream.seq}"
        stream.seq = body["seq"]
        now = rows_of(self.table()).get(body["book"], ())
        if body["type"] == "status":
            stream.closed = body.get("why") in ("mapping", "unmapped") and body["legs"] == {}
            if stream.closed and now:
                return f"ended, with {now} in force"
            if not stream.closed:
                shown = {n: (x["platform"], x["asset"], x["inverted"]) for n, x in body["legs"].items()}
                if shown != named(stream.legs):
                    return f"status with other legs than its epoch's ({stream.legs})"
        if now != stream.legs and not stream.closed and body["type"] == "delta" and now:
            return f"the mapping has {now} now, the epoch {stream.legs}"
        return self._parts(body, stream.legs)

    def _parts(self, body: dict[str, Any], rows: Rows) -> str | None:
        known = named(rows)
        legs = {name for side in ("bids", "asks") for level in body.get(side, ()) for name in level[2]}
        legs |= {body["cause"]} if "cause" in body else set()
        return None if legs <= set(known) else f"legs {legs - set(known)} are not of this epoch"


class Edits(World):
    """The world of the orderbook's tests, whose mapping is compiled from edited files and events."""

    def __init__(self, seed: int, break_service: Callable[[OrderbookService], None] | None = None) -> None:
        super().__init__(seed, break_service)
        self.calm = True
        self.compiler = Compiler()
        self.watcher = Watcher(lambda: self.table)
        self.texts: dict[int, list[str]] = {}
        self.listed: dict[str, dict[str, Any]] = {a.name: {} for a in self.assets}
        self.edits = 0

    async def start(self) -> None:
        await self.bus.subscribe("orderbook.changes.>", self.watcher.receive)
        await super().start()

    def deliver(self, asset: Asset, message: dict[str, Any]) -> None:
        one = next((one for one in self.table.legs if one.asset_id == asset.name), None)
        if one is not None and one.suspended is not None:
            # Its frames are still followed, its book goes without them.
            self.bus.publish(asset.subject, orjson.dumps(message))
            return
        super().deliver(asset, message)

    def _edit(self) -> None:
        """One random edit: the files (who is with whom, which way round, what status), or a venue's word."""
        dice = self.rng
        if dice.random() < 0.6:
            groups: dict[int, list[str]] = {}
            for asset in self.assets:
                if dice.random() < 0.8:
                    one = leg(
                        asset.platform,
                        f"event-{asset.platform}",
                        asset.name,
                        polarity=dice.choice(['"same"', '"inverted"']),
                        status=dice.choice(['"confirmed"'] * 6 + ['"suspended"', '"retired"']),
                    )
                    groups.setdefault(dice.randrange(4), []).append(one)
            for group in groups.values():
                dice.shuffle(group)
            self.texts = groups
        else:
            asset = dice.choice(self.assets)
            self.listed[asset.name] = dice.choice(
                [
                    {},
                    {"status": "halted"},
                    {"status": "closed"},
                    {"rules": "other rules"},
                    {"status": "unlisted"},
                ]
            )
        entries = [
            aggregate(f"agg-{number}", market(f"wup1|e{number}|k|s|-|p", *legs, tie='"impossible"'))
            for number, legs in sorted(self.texts.items())
        ]
        files, problems = parse("\n".join(entries), "x.toml")
        assert files is not None, problems
        self.compiler.set_files(files)
        for platform in {asset.platform for asset in self.assets}:
            own = [asset for asset in self.assets if asset.platform == platform]
            markets = (venue_market(asset.name, **self.listed[asset.name]) for asset in own)
            self.compiler.set_event(venue_event(platform, f"event-{platform}", *markets))

    async def remap(self) -> None:
        self._edit()
        self.edits += 1
        before, opened = self.table, self.watcher.opened
        opened.clear()
        table = self.compiler.table(before.version + 1)
        mapped = {one.asset_id for one in table.legs if one.suspended is None}
        for name in list(self.told):
            if name not in mapped:
                self.told.pop(name)
        self.table = table
        assert self.service is not None
        await self.service.set_table(table)
        was, now = rows_of(before), rows_of(table)
        changed = sorted(book for book, rows in now.items() if was.get(book) != rows)
        if sorted(opened) != changed:
            self.problems.append(f"epochs opened for {sorted(opened)}, legs changed of {changed}")
        for book in was.keys() - now.keys():
            stream = self.watcher.streams.get(book)
            if stream is None or not stream.closed:
                self.problems.append(f"{book} has no legs any more, and its stream did not end")

    async def run(self, steps: int) -> Edits:
        """Edits in the middle of the stream; judged after each step."""
        await self.start()
        for index in range(steps):
            for _ in range(self.rng.randrange(1, 5)):
                self.change(self.rng.choice(self.assets))
            if self.rng.random() < 0.4:
                await self.remap()
                if self.problems:
                    # What follows relies on the mapping being in force.
                    break
                for _ in range(self.rng.randrange(3)):
                    self.change(self.rng.choice(self.assets))
            await self.settle()
            self.judge()
            if index % 10 == 9:
                self.second()
                await self.settle()
                self.judge()
            self.problems += self.watcher.problems
            if self.problems:
                break
        assert self.service is not None
        await self.service.stop()
        return self

    def merged(self, book: str, *, true: bool) -> dict[tuple[int, int], dict[str, int]]:
        """As the world's; a suspended leg keeps its name and shows nothing."""
        shown = super().merged(book, true=true)
        return {at: parts for at, parts in shown.items() if parts}


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
async def test_no_message_mixes_two_versions(first: int) -> None:
    """Through random edits every message fits the mapping of its epoch, exactly the changed books open a new
    epoch with a snapshot at once, and each book equals the merge under the mapping in force at every step."""
    compared = edits = messages = 0
    for seed in range(first, min(first + 10, SEEDS)):
        world = await Edits(seed).run(STEPS)
        assert world.problems == [], f"seed {seed}"
        compared, edits = compared + world.compared, edits + world.edits
        messages += world.watcher.messages
    assert compared > 1000
    assert edits > 100
    assert messages > 2000


def _keeps_polarity(service: OrderbookService) -> None:
    """Puts a new mapping in force without its inversions."""
    original = service.set_table

    async def straight(table: MappingTable) -> None:
        legs = tuple(Leg(x.platform, x.asset_id, x.market_id, x.event, x.book, False) for x in table.legs)
        await original(MappingTable(table.version, legs, table.books))

    service.set_table = straight  # type: ignore[method-assign]


def _late_by_one(service: OrderbookService) -> None:
    """Puts each mapping in force one edit late."""
    original, waiting = service.set_table, [MappingTable(0)]

    async def late(table: MappingTable) -> None:
        waiting.append(table)
        await original(waiting.pop(0))

    service.set_table = late  # type: ignore[method-assign]


def _forgets_suspensions(service: OrderbookService) -> None:
    """Takes sizes of legs that the mapping keeps out."""
    original = service.set_table

    async def all_live(table: MappingTable) -> None:
        legs = tuple(
            Leg(x.platform, x.asset_id, x.market_id, x.event, x.book, x.inverted) for x in table.legs
        )
        await original(MappingTable(table.version, legs, table.books))

    service.set_table = all_live  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [_keeps_polarity, _late_by_one, _forgets_suspensions])
async def test_a_service_that_mixes_is_found(broken: Callable[[OrderbookService], None]) -> None:
    """The same run fails for a service that ignores inversions, lags one version, or shows suspended legs."""
    for seed in range(5):
        world = await Edits(seed, broken).run(STEPS)
        if world.problems:
            return
    pytest.fail("nothing was found")
