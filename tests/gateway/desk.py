"""Sessions over a hub and a real store, without sockets: one turn of the loop at a time, each looked at."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from typing import Any

from wup import BookStore, Change
from wup._core import MirrorBook
from wup.bus import LocalBus, Message
from wup.clock import SYSTEM_CLOCK
from wup.gateway import BusSource, Limits
from wup.gateway.hub import Hub
from wup.gateway.mirror import Mirrors
from wup.gateway.outbox import Outbox, Wakeup
from wup.gateway.session import Session


class Client:
    """One session, and what it said: the transport and the wire under it."""

    def __init__(self, desk: Desk) -> None:
        self.messages: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.closed: int | None = None
        self.held = 0
        now = SYSTEM_CLOCK.monotonic()
        self.session = Session(desk.hub, desk.limits, None, SYSTEM_CLOCK)
        self.session.open(self, Outbox(self, desk.wakeup, self.session, desk.limits, now), None)

    def op(self, name: str, op_id: str, **more: Any) -> None:
        """Send an operation."""
        self.session.receive(json.dumps({"op": name, "id": op_id, **more}).encode())

    def answered(self, op_id: str) -> str | None:
        """How an operation was answered: the type of the answer, or the code of the error."""
        found = [m.get("code", m["type"]) for m in self.messages if m.get("id") == op_id]
        assert len(found) < 2, found
        return found[0] if found else None

    # --- Transport --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take whole frames apart."""
        while data:
            size, head = data[1], 2
            if size == 126:
                (size,), head = struct.unpack("!H", data[2:4]), 4
            elif size == 127:
                (size,), head = struct.unpack("!Q", data[2:10]), 10
            payload, data = data[head : head + size], data[head + size :]
            self.raw.append(payload)
            self.messages.append(json.loads(payload))

    def get_write_buffer_size(self) -> int:
        """Everything is taken at once."""
        return 0

    # --- Wire -------------------------------------------------------------------------------------

    def close(self, code: int, _: str) -> None:
        """Flush, and the session ends."""
        self.closed = code
        self.session.box.flush_for_close(0.0)
        self.session.end()

    def ping(self, _: bytes) -> None:
        """Nobody answers."""

    def hold(self) -> None:
        """Nothing is read any more."""
        self.held += 1

    def resume(self) -> None:
        """And again."""
        self.held -= 1


class Desk:
    """A hub whose books come from a real store, with nothing in between that takes a turn of the loop."""

    def __init__(self, limits: Limits | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.limits = limits or Limits(ws_rate=1_000_000, ws_burst=1_000_000)
        self.wakeup = Wakeup(loop, loop.time)
        self.hub = Hub(self.wakeup, SYSTEM_CLOCK, loop)
        self.mirrors = self.hub.mirrors = Mirrors(BusSource(LocalBus()), self.hub, SYSTEM_CLOCK)
        self.store = BookStore(1_795_353_600_000)
        self.table: list[tuple[str, str, str, bool]] = []
        self._version = 0
        self._n: dict[str, int] = {}

    def map(self, *table: tuple[str, str, str, bool]) -> None:
        """Give every asset its book; what is not in the table has none any more."""
        self._version += 1
        self.table = list(table)
        self.take(self.store.set_mapping(self._version, self.table, self._version))

    def update(self, asset: str, price: str, size: str) -> None:
        """One venue message: the whole book at first, then one level."""
        n = self._n[asset] = self._n.get(asset, 0) + 1
        body = {
            "type": "snapshot" if n == 1 else "update",
            "platform": "kalshi",
            "market_id": asset,
            "asset_id": asset,
            "epoch": 1_795_353_600_001,
            "n": n,
            "bids": [[price, size]],
            "asks": [],
            "ts": {"recv": n, "norm": n},
        }
        self.take(self.store.apply(json.dumps(body).encode(), n))

    def take(self, changes: list[Change]) -> None:
        """What the orderbook stage publishes."""
        for change in changes:
            self.mirrors.handle(Message(change.subject, change.payload))

    def lose(self, book: str) -> None:
        """The mirror cannot vouch for a book any more, and gets it anew."""
        mirrored = self.mirrors.books[book]
        self.mirrors._lost(mirrored, "gap", None)
        self.mirrors._answered(self.store.snapshot(book, why="resync"))

    def forget(self, book: str) -> None:
        """A book is over."""
        self.mirrors._remove(self.mirrors.books[book])

    async def turns(self, count: int) -> None:
        """So many turns of the loop."""
        for _ in range(count):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Until nothing is under way."""
        async with asyncio.timeout(20):
            while self.hub.chores._waiting or self.wakeup.dirty or self.wakeup._scheduled:
                await asyncio.sleep(0)


def table(count: int, event: str = "big-2027") -> list[tuple[str, str, str, bool]]:
    """A mapping of so many books with one leg each."""
    return [("kalshi", f"K{n}", f"{event}.{n:016x}.yes", False) for n in range(count)]


class Calls:
    """Counts the calls of functions in each turn of the loop: a measure of work that is the same on every
    machine. `most` is the largest number in one turn."""

    def __init__(self) -> None:
        self.most = 0
        self.total = 0
        self._now = 0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Calls:
        self._loop = asyncio.get_running_loop()
        self._turn()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        assert self._handle is not None
        self._handle.cancel()
        self._end()

    def _count(self, _: object, event: str, __: object) -> None:
        if event in ("call", "c_call"):
            self._now += 1

    def _end(self) -> None:
        self.most = max(self.most, self._now)
        self.total += self._now
        self._now = 0

    def _turn(self) -> None:
        self._end()
        self._handle = self._loop.call_soon(self._turn)


def verify(raw: list[bytes]) -> dict[tuple[str, int | None], MirrorBook]:
    """Apply every message of plain streams in order; each must be exact."""
    mirrors: dict[tuple[str, int | None], MirrorBook] = {}
    for payload in raw:
        message = json.loads(payload)
        if message["type"] in ("snapshot", "delta", "status"):
            mirror = mirrors.setdefault((message["book"], message.get("depth")), MirrorBook())
            verdict = mirror.apply(payload)
            if message.get("by") == "gateway":
                mirror.doubt()
            else:
                assert verdict == "exact", (verdict, message)
    return mirrors
