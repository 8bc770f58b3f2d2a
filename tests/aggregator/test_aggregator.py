"""Connections of the aggregator against a real WebSocket server and a venue of the test's own."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
from websockets.asyncio.server import ServerConnection, serve

from wup import subjects
from wup.aggregator import Aggregator
from wup.bus import LocalBus, Message
from wup.mapping.table import Leg, MappingTable
from wup.raw import Meta, read_meta
from wup.venues.base import Limits, Venue, VenueUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class ToySession:
    """A venue that is told what to send in one word."""

    platform = "toy"
    heartbeat_s: float | None = None

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    async def handshake(self) -> tuple[str, dict[str, str]]:
        if self._settings.url is None:
            raise VenueUnavailable("no_credentials", "no key")
        return self._settings.url, {"X-Toy": "1"}

    def open_info(self) -> dict[str, Any]:
        return {"mode": "toy"}

    def opened(self, assets: Sequence[str]) -> list[str]:
        return ["sub " + ",".join(assets)]

    def want(self, assets: Sequence[str]) -> list[str]:
        return ["want " + ",".join(assets)]

    def repair(self, assets: Sequence[str]) -> list[str]:
        return ["repair " + ",".join(assets)]

    def received(self, raw: bytes) -> list[str]:
        if raw == b"poison":
            raise KeyError("a session's own fault")
        return ["answer"] if raw == b"question" else []

    def heartbeat(self) -> str | None:
        return None

    def asset_of(self, raw: bytes) -> str | None:
        return raw.split(b" ")[1].decode() if raw.startswith(b"book ") else None

    def books_of(self, raw: bytes) -> list[str]:
        asset = self.asset_of(raw)
        return [] if asset is None else [asset]


class ToyServer:
    """What clients said, and the open connections."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.clients: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.url = ""

    async def handle(self, ws: ServerConnection) -> None:
        self.clients.put_nowait(ws)
        async for message in ws:
            self.heard.put_nowait(str(message))


class Tape:
    """Everything on market.>, in order."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, Meta]] = []
        self._arrived = asyncio.Event()

    def __call__(self, message: Message) -> None:
        meta = read_meta("toy", message.headers)
        assert meta is not None
        self.records.append((message.subject, message.payload, meta))
        self._arrived.set()

    async def until(self, kind: str, count: int = 1) -> list[tuple[str, bytes, Meta]]:
        async with asyncio.timeout(10):
            while len(found := [r for r in self.records if r[2].kind == kind]) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return found


def table(*assets: str) -> MappingTable:
    legs = tuple(
        Leg("toy", asset, asset, "event", f"agg.{i:016x}.yes", False) for i, asset in enumerate(assets)
    )
    return MappingTable(1, legs)


@asynccontextmanager
async def running(
    limits: Limits | None = None, *, credentials: bool = True
) -> AsyncIterator[tuple[ToyServer, Aggregator, Tape, LocalBus]]:
    toy = ToyServer()
    async with serve(toy.handle, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        toy.url = f"ws://127.0.0.1:{port}"
        venue = Venue(
            "toy",
            object,
            ToySession,
            lambda *_: None,
            lambda _: None,
            limits or Limits(),  # type: ignore[arg-type,return-value]
        )
        bus, tape = LocalBus(), Tape()
        await bus.subscribe(subjects.RAW_ALL, tape)
        settings = SimpleNamespace(url=toy.url if credentials else None)
        aggregator = Aggregator(bus, {"toy": (venue, settings)}, rng=random.Random(1))
        await aggregator.start()
        try:
            yield toy, aggregator, tape, bus
        finally:
            await aggregator.stop()


async def test_frames_are_forwarded_untouched_and_counted() -> None:
    """Each frame goes out byte for byte on its asset's subject (else the connection's), counted from 1."""
    async with running() as (toy, aggregator, tape, _):
        await aggregator.set_table(table("A", "B"))
        assert await toy.heard.get() == "sub A,B"
        client = await toy.clients.get()
        frames = ["book A \u00e9\n", "question", "book B {", "noise"]
        for frame in frames:
            await client.send(frame)
        got = await tape.until("frame", 4)
        assert [payload for _, payload, _ in got] == [frame.encode() for frame in frames]
        assert [meta.n for _, _, meta in got] == [1, 2, 3, 4]
        connection = got[0][2].connection
        assert [subject for subject, _, _ in got] == [
            "market.toy.A",
            subjects.raw_connection("toy", connection),
            "market.toy.B",
            subjects.raw_connection("toy", connection),
        ]
        assert await toy.heard.get() == "answer"
        kinds = [meta.kind for _, _, meta in tape.records]
        assert kinds[:2] == ["open", "sent"]


async def test_a_lost_connection_is_told_and_replaced() -> None:
    """After a reset the tape has a `close`, then an `open` under a larger epoch with a counter from 1."""
    async with running() as (toy, aggregator, tape, _):
        await aggregator.set_table(table("A"))
        first = await toy.clients.get()
        await first.send("book A 1")
        await tape.until("frame", 1)
        first.transport.abort()
        await tape.until("close", 1)
        second = await toy.clients.get()
        await second.send("book A 2")
        frames = await tape.until("frame", 2)
        before, after = frames[0][2], frames[1][2]
        assert after.n == 1
        assert int(after.connection.rpartition(".")[2]) > int(before.connection.rpartition(".")[2])


async def test_a_silent_venue_goes_down_and_is_replaced() -> None:
    """No frame and no pong: a `down` verdict after the first limit, a new socket after the second."""
    limits = Limits(silent_down_s=1.0, silent_replace_s=2.0)
    async with running(limits) as (toy, aggregator, tape, _):
        await aggregator.set_table(table("A"))
        client = await toy.clients.get()
        client.transport.pause_reading()
        verdicts = await tape.until("verdict")
        body = orjson.loads(verdicts[0][1])
        assert (body["assets"], body["state"], body["why"]) == (["A"], "down", "venue_silent")
        close = (await tape.until("close"))[0]
        assert orjson.loads(close[1])["why"] == "venue_silent"
        await toy.clients.get()
        client.transport.abort()


async def test_assets_are_spread_and_kept() -> None:
    """No connection carries more than the venue allows; an asset that stays keeps its connection."""
    async with running(Limits(assets_per_connection=2)) as (toy, aggregator, _, _bus):
        await aggregator.set_table(table("A", "B", "C"))
        said = {await toy.heard.get(), await toy.heard.get()}
        assert said == {"sub A,B", "sub C"}
        await aggregator.set_table(table("B", "C", "D"))
        assert await toy.heard.get() == "want B,D"
        await aggregator.set_table(table("C"))
        assert aggregator.health()["toy"]["connections"] == 1


async def test_repair_requests_for_the_venue_reach_their_connection() -> None:
    """`source: venue` makes the owner ask the venue; other requests, and other owners, are left alone."""
    async with running() as (toy, aggregator, tape, bus):
        await aggregator.set_table(table("A", "B"))
        await toy.heard.get()
        await tape.until("open")
        owner = tape.records[0][2].connection
        for body in (
            {"assets": ["A"], "why": "join"},
            {"assets": ["A"], "why": "gap", "source": "venue", "connection": "other.1"},
            {"assets": ["B", "Z"], "why": "gap", "source": "venue", "connection": owner},
        ):
            bus.publish(subjects.resync("toy"), orjson.dumps(body))
        bus.publish(subjects.resync("toy"), b"{not json")
        assert await toy.heard.get() == "repair B"
        assert toy.heard.empty()


async def test_without_credentials_the_legs_are_down() -> None:
    """A venue that cannot be connected to gives its reason for every asset."""
    async with running(credentials=False) as (_, aggregator, tape, _bus):
        await aggregator.set_table(table("A"))
        _, payload, meta = (await tape.until("verdict"))[0]
        assert orjson.loads(payload) == {"assets": ["A"], "state": "down", "why": "no_credentials"}
        assert meta.connection == "none.0"


async def test_a_fault_in_a_session_costs_one_socket_only() -> None:
    """An exception that nobody expected closes the socket, is counted, and the next socket is opened."""
    async with running() as (toy, aggregator, tape, _):
        await aggregator.set_table(table("A"))
        first = await toy.clients.get()
        await first.send("poison")
        await tape.until("close")
        second = await toy.clients.get()
        await second.send("book A 2")
        assert (await tape.until("frame", 2))[-1][1] == b"book A 2"
