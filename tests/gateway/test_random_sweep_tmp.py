"""Everything goes wrong at random, from a seed: an exact book is never a wrong one."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest

from gateway.conftest import Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.plain import PlainBook, PlainClient
from wup.bus import LocalBus, Message
from wup.gateway import Gateway

PATTERNS = [">", "*.*.no", "fed-2026-12.>", FED_25, FED_25[:-3] + "no", "kalshi:KXNBA-BOS", "nobody.>"]
ROUNDS = 60


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
        yes = book.name.removesuffix(".no").removesuffix(".yes") + ".yes"
        assert self.digests[yes, book.epoch, book.seq] == book.digest()
        self.checked += 1


class World:
    """One bus, one store, one gateway, some clients: all of which may be replaced."""

    def __init__(self, seed: int, bus: LocalBus, start: Starter) -> None:
        self.rng = random.Random(seed)
        self.bus = bus
        self.begin = start
        self.truth = Truth()
        self.engine: Engine
        self.gateway: Gateway
        self.clients: list[PlainClient] = []
        self.held: dict[PlainClient, set[str]] = {}

    async def set_up(self) -> None:
        await self.new_engine()
        await self.new_gateway()
        for _ in range(3):
            await self.new_client()

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
        self.gateway = await self.begin()
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

            try:
                await client.until(done, 4)
            except TimeoutError:
                for b in self.gateway._mirrors.books.values():
                    print("MIRROR", b.book, b.serving, b.high, (b.mirror.epoch, b.mirror.seq), len(b.buffer), b.behind, b.unanswered, "store", orjson.loads(store.snapshot(b.book))["epoch"], want[b.book])
                print("PROBLEMS", self.gateway.problems(), self.gateway._mirrors._wanted, self.gateway._mirrors._wanted_all)
                for k, b in client.books.items():
                    print("CLIENT", k, b.exact, b.epoch, b.seq, b.history[-6:])
                print(client.answers[-6:], client.closed, self.held[client])
                raise
            assert client.verdicts.get("broken", 0) == 0
            assert client.verdicts.get("gap", 0) == 0
            await client.close()


@pytest.mark.parametrize("seed", [143])
async def test_random_run(bus: LocalBus, start: Starter, seed: int) -> None:
    """Lost messages, restarts, resyncs, disconnects, changing patterns: no exact book is ever wrong."""
    world = World(seed, bus, start)
    marks: list[Message] = []
    await bus.subscribe("orderbook.marks.>", marks.append)
    await world.set_up()
    clock = asyncio.create_task(world.tick())
    for _ in range(ROUNDS):
        await world.step()
    await world.finish()
    clock.cancel()
    assert world.truth.checked > 100
    assert marks
