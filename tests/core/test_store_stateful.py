"""Random interleavings against a naive model: every client that follows the stream is exact at every step."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.naive import Naive, Row, levels, micro, normalised, text
from wup._core import BookStore, Change, MirrorBook, mirror_message

BOOKS = ("fed.aaaa.yes", "fed.bbbb.yes")
ASSETS = (("kalshi", "K1"), ("kalshi", "K2"), ("polymarket", "P1"))
TABLES: tuple[list[Row], ...] = (
    [("kalshi", "K1", BOOKS[0], False), ("polymarket", "P1", BOOKS[0], False)],
    [
        ("kalshi", "K1", BOOKS[0], False),
        ("kalshi", "K2", BOOKS[0], True),
        ("polymarket", "P1", BOOKS[0], False),
    ],
    [
        ("kalshi", "K2", BOOKS[0], False),
        ("polymarket", "P1", BOOKS[1], True),
        ("kalshi", "K1", BOOKS[1], False),
    ],
    [("polymarket", "P1", BOOKS[1], False)],
)
DEPTH = 2

asset_ids = st.sampled_from(ASSETS)
prices = st.integers(1, 9).map(lambda tenth: tenth * 100_000)
sizes = st.one_of(st.just(0), st.integers(1, 9).map(lambda n: n * 500_000), st.just(10**17))
ladders = st.dictionaries(prices, sizes, max_size=5)


class Stream:
    """A conflating stream of the best levels, as the contract describes it (section 4 rule 2)."""

    def __init__(self) -> None:
        self.client = MirrorBook()
        self.sent: dict[str, Any] | None = None

    def catch_up(self, snapshot: dict[str, Any]) -> bytes:
        """What a gateway would send: a snapshot first, later the way from the last state to this one."""
        before, self.sent = self.sent, snapshot
        if before is None or before["epoch"] != snapshot["epoch"]:
            return json.dumps(snapshot).encode()
        delta = {
            key: snapshot[key] for key in ("book", "epoch", "seq", "digest", "state", "crossed", "depth")
        }
        delta |= {"type": "delta", "prev": before["seq"], "every_ms": 50, "ts": {}}
        for side in ("bids", "asks"):
            old, new = levels(before, side), levels(snapshot, side)
            gone = [[price, "0", {}] for price in old if price not in new]
            changed = [level for level in snapshot[side] if old.get(level[0]) != level[2]]
            delta[side] = gone + changed
        return json.dumps(delta).encode()


class StoreMachine(RuleBasedStateMachine):
    """One store, the model, and for each book a YES client, a NO client and a client of the best levels."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_795_353_600_000_000
        self.store = BookStore(0)
        self.model = Naive()
        self.yes: dict[str, MirrorBook] = {}
        self.no: dict[str, MirrorBook] = {}
        self.best: dict[str, Stream] = {}
        self.numbers: dict[tuple[str, str], tuple[int, int]] = {}
        self.version = 0

    def deliver(self, changes: list[Change]) -> None:
        """Give each change to the clients, which must call it exact."""
        for change in changes:
            assert mirror_message(mirror_message(change.payload)) == change.payload
            yes = self.yes.setdefault(change.book, MirrorBook())
            no = self.no.setdefault(change.book, MirrorBook())
            assert yes.apply(change.payload) == "exact"
            assert no.apply(mirror_message(change.payload)) == "exact"
            assert (yes.epoch, yes.seq, yes.digest) == (change.epoch, change.seq, change.digest)

    def send(self, asset: tuple[str, str], kind: str, jump: int, **fields: object) -> tuple[bool, bool]:
        """Send a message twice; returns whether it counted and whether others before it were missing."""
        epoch, n = self.numbers.get(asset, (1, 0))
        number = (epoch, n + jump)
        message = normalised(kind, asset, number, **fields)
        if asset not in self.model.assets:
            return False, False
        self.deliver(self.store.apply(message, self.now))
        assert self.store.apply(message, self.now) == []
        known = self.model.assets[asset]
        if known.last is not None and number <= known.last:
            return False, False
        hole = known.last is None or number != (known.last[0], known.last[1] + 1)
        known.last = self.numbers[asset] = number
        return True, hole

    @initialize(table=st.sampled_from(TABLES))
    def start(self, table: list[Row]) -> None:
        """Open the first books."""
        self.map(table)

    @rule(table=st.sampled_from(TABLES))
    def map(self, table: list[Row]) -> None:
        """Put another mapping in force; it is asked for nothing twice."""
        self.version += 1
        self.now += 1_000
        changes = self.store.set_mapping(self.version, table, self.now)
        self.model.set_mapping(table)
        self.deliver(changes)
        assert self.store.set_mapping(self.version, table, self.now) == []
        for gone in set(self.yes) - set(self.model.books()):
            assert json.loads([c for c in changes if c.book == gone][-1].payload)["type"] == "status"
            for clients in (self.yes, self.no, self.best):
                clients.pop(gone, None)

    @rule(asset=asset_ids, bids=ladders, asks=ladders, jump=st.sampled_from([0, 1, 1, 1, 3]))
    def snapshot(self, asset: tuple[str, str], bids: dict[int, int], asks: dict[int, int], jump: int) -> None:
        """A snapshot replaces the leg and makes it live, holes or not."""
        wire = {"bids": pairs(bids), "asks": pairs(asks)}
        if self.send(asset, "snapshot", jump, **wire)[0]:
            known = self.model.assets[asset]
            known.state = "live"
            known.sides = ({p: s for p, s in bids.items() if s}, {p: s for p, s in asks.items() if s})

    @rule(asset=asset_ids, bids=ladders, asks=ladders, jump=st.sampled_from([0, 1, 1, 1, 1, 1, 2]))
    def update(self, asset: tuple[str, str], bids: dict[int, int], asks: dict[int, int], jump: int) -> None:
        """An update sets absolute sizes of a live leg; a hole puts the leg into doubt."""
        counted, hole = self.send(asset, "update", jump, bids=pairs(bids), asks=pairs(asks))
        known = self.model.assets.get(asset)
        if not counted or known is None or known.state not in ("live", "closed"):
            return
        if hole:
            known.state = "resync"
        if known.state != "live":
            return
        for ladder, changed in zip(known.sides, (bids, asks), strict=True):
            ladder.update(changed)
            for price in [price for price, size in ladder.items() if size == 0]:
                del ladder[price]

    @rule(asset=asset_ids, state=st.sampled_from(["resync", "down", "halted", "closed"]))
    def state(self, asset: tuple[str, str], state: str) -> None:
        """A state takes the leg's sizes out at once."""
        if self.send(asset, "state", 1, state=state, why="halted")[0]:
            known = self.model.assets[asset]
            # In order, or graver than the doubt that a hole brings.
            known.state = state

    @rule(asset=asset_ids)
    def bad(self, asset: tuple[str, str]) -> None:
        """A bad message of a known leg is no error but doubt."""
        counted, _ = self.send(asset, "update", 1, bids=[["1.5", "1"]], asks=[])
        if counted and self.model.assets[asset].state in ("live", "closed"):
            self.model.assets[asset].state = "resync"

    @rule()
    def conflate(self) -> None:
        """Clients of the best levels catch up in one leap."""
        for book in self.model.books():
            stream = self.best.setdefault(book, Stream())
            snapshot = json.loads(self.store.snapshot(book, depth=DEPTH, now_us=self.now))
            leap = stream.catch_up(snapshot)
            verdict = stream.client.apply(leap)
            assert verdict == "exact" or (verdict == "ignored" and stream.client.seq == snapshot["seq"])
            assert stream.client.exact
            assert stream.client.digest == self.model.digest(book, DEPTH)

    @invariant()
    def all_equal(self) -> None:
        """Store, clients and model show the same books."""
        assert self.store.books() == sorted(self.store.books(), key=self.store.books().index)
        assert sorted(self.store.books()) == sorted(self.model.books())
        for book in self.model.books():
            message = json.loads(self.store.snapshot(book, now_us=self.now))
            content = (levels(message, "bids"), levels(message, "asks"))
            assert content == self.model.content(book)
            assert message["digest"] == self.model.digest(book) == self.yes[book].digest
            assert message["state"] == self.model.state(book) == self.yes[book].state == self.no[book].state
            assert [micro(p) for p in content[0]] == sorted(map(micro, content[0]), reverse=True)
            assert [micro(p) for p in content[1]] == sorted(map(micro, content[1]))
            view = self.yes[book].view()
            assert view.bids == self.store.book(book).bids
            assert self.no[book].view().asks == view.no().asks
            assert view.no().no().bids == view.bids


def pairs(ladder: dict[int, int]) -> list[list[str]]:
    """A ladder as a normalised message carries it."""
    return [[text(price), text(size)] for price, size in ladder.items()]


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase
