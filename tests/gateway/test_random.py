"""Everything goes wrong at random over real sockets: no exact book is ever wrong, in both languages."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.conftest import Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.plain import PlainBook, PlainClient
from javascript.node import Driver, driver
from wup.bus import LocalBus, Message
from wup.client import Feed, Subscription, connect
from wup.gateway import Gateway

PATTERNS = [">", "*.*.no", "fed-2026-12.>", FED_25, FED_25[:-3] + "no", "kalshi:KXNBA-BOS", "nobody.>"]
ROUNDS = 30


class Truth:
    """The digest of every book at every (epoch, seq) that was ever published, lost ones included."""

    def __init__(self) -> None:
        self.digests: dict[tuple[str, int, int], int] = {}
        self.checked = 0

    def watch(self, engine: Engine) -> None:
        """Note what an engine is about to publish, before any of it is lost."""
        publish = engine.publish

        def noting(changes: list) -> None:  # type: ignore[type-arg]
            for change in changes:
                self.digests[change.book, change.epoch, change.seq] = change.digest
            publish(changes)

        engine.publish = noting  # type: ignore[method-assign]

    def check(self, book: PlainBook) -> None:
        """An exact full-depth book must be the store's at its (epoch, seq)."""
        self.agree(book.name, book.epoch, book.seq, book.digest())

    def agree(self, name: str, epoch: int, seq: int, digest: int) -> None:
        """A book that is called exact must be the store's at its (epoch, seq)."""
        yes = name.removesuffix(".no").removesuffix(".yes") + ".yes"
        assert self.digests[yes, epoch, seq] == digest, name
        self.checked += 1


class World:
    """One bus, one store, one gateway, some clients: all of which may be replaced."""

    def __init__(self, seed: int, bus: LocalBus, start: Starter, nodes: contextlib.AsyncExitStack) -> None:
        self.rng = random.Random(seed)
        self.bus = bus
        self.begin = start
        self.nodes = nodes
        self.truth = Truth()
        self.engine: Engine
        self.gateway: Gateway
        self.clients: list[PlainClient] = []
        self.port = 0
        self.feed: Feed
        self.node: Driver
        self.in_node = 0
        self.held: dict[PlainClient, set[str]] = {}

    async def set_up(self) -> None:
        await self.new_engine()
        await self.new_gateway()
        for _ in range(2):
            await self.new_client()
        self.feed = connect(self.url, uniform=lambda low, high: 0.02)
        await self.feed.__aenter__()
        self.following = asyncio.create_task(self.follow(self.feed.subscribe(">", "*.*.no")))
        self.node = await self.nodes.enter_async_context(driver(self.url, jitter=20))
        await self.node.do("subscribe", name="all", books=[">", "*.*.no"])

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def follow(self, events: Subscription) -> None:
        """The library's client, judged at every event."""
        async for event in events:
            book = event.book
            if book is not None and event.type in ("snapshot", "delta", "status") and book.exact:
                self.truth.agree(book.id, book.epoch, book.seq, book.digest)

    async def look(self) -> list[dict[str, Any]]:
        """What the JavaScript client shows now: all of it that is called exact is judged."""
        report = await self.node.report()
        books: list[dict[str, Any]] = report["books"]
        for book in books:
            if book["exact"]:
                self.truth.agree(book["book"], book["epoch"], book["seq"], book["digest"])
                self.in_node += 1
        assert report["stats"]["mismatches"] == 0
        return books

    async def new_engine(self) -> None:
        """A first or restarted orderbook service: larger epochs, empty until the venues' snapshots."""
        epoch = 1_795_353_600_000
        if hasattr(self, "engine"):
            epoch = self.engine.store.last_epoch() + 1_000
            self.engine.refuse = True
        self.engine = Engine(self.bus, epoch)
        self.engine._rng = self.rng
        self.truth.watch(self.engine)
        await self.engine.start(TABLE)
        self.engine.fill()
        self.engine.marks()

    async def new_gateway(self) -> None:
        self.gateway = await self.begin(ws_port=self.port)
        self.port = self.gateway.port
        self.engine.marks()
        await ready(self.gateway)

    async def new_client(self) -> None:
        client = await PlainClient.open(self.gateway.port)
        take = client.take

        def judged(text: str) -> None:
            take(text)
            message = orjson.loads(text)
            if message["type"] in ("snapshot", "delta", "status") and "depth" not in message:
                book = client.books[message["book"], None, None]
                if book.exact:
                    self.truth.check(book)

        client.take = judged  # type: ignore[method-assign]
        self.clients.append(client)
        self.held[client] = set()

    async def toggle(self, client: PlainClient) -> None:
        """Subscribe to a pattern, or unsubscribe."""
        pattern = self.rng.choice(PATTERNS)
        options = {} if self.rng.random() < 0.7 else {"depth": 5}
        key = f"{pattern}|{options}"
        name = "unsubscribe" if key in self.held[client] else "subscribe"
        answer = await client.op(name, books=[pattern], **options)
        if name == "unsubscribe" and not options:
            # Without options every form of the pattern ends.
            self.held[client] = {k for k in self.held[client] if not k.startswith(f"{pattern}|")}
        elif answer["type"] == "subscribed":
            self.held[client].add(key)
        else:
            self.held[client].discard(key)

    async def step(self) -> None:
        """Some changes, and perhaps something bad."""
        rng = self.rng
        for _ in range(rng.randint(1, 25)):
            self.engine.step()
        luck = rng.random()
        if luck < 0.15:
            self.engine.lose = rng.randint(1, 3)
        elif luck < 0.20:
            await self.new_engine()
        elif luck < 0.25:
            self.gateway._loss("slow_reader")
        elif luck < 0.30:
            self.engine.normalised("state", *TABLE[rng.randrange(7)][:2], state="resync", why="seq_gap")
        elif luck < 0.35:
            platform, asset = TABLE[rng.randrange(7)][:2]
            self.engine.snapshot(platform, asset, [["0.45", "10"]], [["0.55", "20"]])
        elif luck < 0.38:
            self.bus.publish(f"orderbook.changes.{GAME}", b'{"type":"delta","book":"' + GAME.encode())
        elif luck < 0.40:
            await self.restart_gateway()
        elif luck < 0.45:
            client = self.clients.pop(rng.randrange(len(self.clients)))
            await client.close()
            await self.new_client()
        elif luck < 0.75:
            await self.toggle(rng.choice(self.clients))
        elif luck < 0.80:
            await rng.choice(self.clients).op("resync", books=[rng.choice((FED_25, FED_50, GAME))])
        elif luck < 0.84:
            self.node_rests = asyncio.create_task(self.node.do("pause", ms=rng.choice((50, 200))))
        await self.look()
        if self.following.done():
            self.following.result()
        if rng.random() < 0.3:
            self.engine.marks()
        await asyncio.sleep(0.005 if rng.random() < 0.5 else 0)

    async def restart_gateway(self) -> None:
        await self.gateway.stop()
        for client in self.clients:
            await client.close()
        count, self.clients = len(self.clients), []
        await self.new_gateway()
        for _ in range(count):
            await self.new_client()

    async def tick(self) -> None:
        """Marks as the orderbook stage sends them, only faster."""
        while True:
            await asyncio.sleep(0.2)
            self.engine.marks()

    async def finish(self) -> None:
        """With nothing going wrong any more, everybody who asks for everything ends exact."""
        self.engine.lose = 0
        self.engine.fill()
        self.engine.marks()
        store = self.engine.store
        want = {book: orjson.loads(store.snapshot(book))["seq"] for book in store.books()}
        for client in self.clients:
            for pattern in (">", "*.*.no"):
                await client.op("subscribe", books=[pattern])

            def done(client: PlainClient = client) -> bool:
                full = {name: book for (name, depth, _), book in client.books.items() if depth is None}
                return len(full) == 6 and all(
                    book.exact and book.seq == want[name.removesuffix(".no").removesuffix(".yes") + ".yes"]
                    for name, book in full.items()
                )

            await client.until(done)
            assert client.verdicts.get("broken", 0) == 0
            assert client.verdicts.get("gap", 0) == 0
            await client.close()
        await self.library_is_right(want)

    async def library_is_right(self, want: dict[str, int]) -> None:
        """Both libraries reconnected by themselves, and hold every book at its last seq."""

        def right(name: str, seq: int) -> bool:
            return want.get(name.removesuffix(".no").removesuffix(".yes") + ".yes") == seq

        async with asyncio.timeout(15):
            while not (
                len(self.feed.books) == 6
                and all(book.exact and right(book.id, book.seq) for book in self.feed.books.values())
            ):
                await asyncio.sleep(0.02)
            while True:
                books = await self.look()
                if len(books) == 6 and all(
                    book["exact"] and right(book["book"], book["seq"]) for book in books
                ):
                    break
                await asyncio.sleep(0.05)
        assert (self.feed.stats.mismatches, self.feed.stats.count_mismatches) == (0, 0)
        self.following.cancel()
        await self.feed.close()


@pytest.mark.parametrize("seed", range(10))
async def test_random_run(
    bus: LocalBus, start: Starter, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """Lost messages, restarts, resyncs, disconnects, changing patterns: no exact book is ever wrong, and the
    clients of both languages come back by themselves."""
    async with contextlib.AsyncExitStack() as nodes:
        world = World(seed, bus, start, nodes)
        marks: list[Message] = []
        await bus.subscribe("orderbook.marks.>", marks.append)
        await world.set_up()
        clock = asyncio.create_task(world.tick())
        for _ in range(ROUNDS):
            await world.step()
        await world.finish()
        clock.cancel()
    assert world.truth.checked > 100
    assert world.in_node > 6
    assert marks
    record_property(
        f"gateway on real sockets, seed {seed}",
        f"{world.truth.checked} books checked, 0 wrong, {world.in_node} of them in JavaScript",
    )
