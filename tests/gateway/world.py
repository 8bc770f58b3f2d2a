"""A random run from a seed, on a virtual clock and network: everything that can go wrong, in any order."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson

from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.judge import DEPTH, LightClient, Truth
from gateway.puppet import NodeFeed, Puppet
from gateway.virtual import LoopClock, VirtualNet, VirtualServer
from wup.bus import LocalBus
from wup.client import Feed, Subscription, connect
from wup.config import Settings
from wup.gateway import BusSource, Gateway, Limits
from wup.gateway.source import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATTERNS = [
    ">", "*.*.no", "fed-2026-12.>", "fed-2026-12.*.no", "*.77d4e1b0c3f2a695.*", FED_25, FED_25[:-3] + "no",
    GAME, "kalshi:KXNBA-BOS", "polymarket:7720", "nobody.>",
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {}, {}, {"trades": True}, {"depth": DEPTH}, {"every_ms": 100}, {"depth": DEPTH, "every_ms": 250},
    {"on_slow": "disconnect"},
]  # fmt: skip
EXTRA = [("polymarket", "late-1", FED_50, False), ("kalshi", "KXCUP", "cup-2027.aaaabbbbccccdddd.yes", False)]
LIMITS = Limits(
    ws_rate=10_000,
    ws_burst=10_000,
    ws_slow_bytes=60_000,
    ws_slow_ms=500,
    ws_snapshot_bytes=30_000,
    ws_connects_per_second=10_000,
    ws_first_subscribe_s=10_000,
)
PORT = 8082


class Source:
    """Snapshots over the bus, sometimes late (what came meanwhile has to be put on top) or not at all."""

    def __init__(self, bus: LocalBus, rng: random.Random) -> None:
        self._inner = BusSource(bus, timeout=2.0)
        self._rng = rng
        self.trouble = 0.2

    async def stream(self, pattern: str) -> AsyncIterator[bytes]:
        found = [payload async for payload in self._inner.stream(pattern)]
        luck = self._rng.random()
        if luck < self.trouble:
            await asyncio.sleep(self._rng.uniform(0, 0.5))
        if luck < self.trouble / 4:
            found = found[: self._rng.randint(0, len(found))]
        for payload in found:
            yield payload
        if luck < self.trouble / 4:
            raise SourceError("cut short")


class World:
    """One bus, one store, one gateway, light clients and one of the library; each may be lost at any time."""

    def __init__(self, seed: int, net: VirtualNet, clients: int = 12, puppet: Puppet | None = None) -> None:
        self.seed = seed
        self.puppet = puppet
        self.node: NodeFeed | None = None
        self.rng = random.Random(seed)
        self.net = net
        self.bus = LocalBus()
        self.truth = Truth()
        self.clock = LoopClock()
        self.engine: Engine | None = None
        self.epoch = 1_795_353_600_000
        self.gateway: Gateway | None = None
        self.server: VirtualServer
        self.source: Source
        self.clients: list[LightClient] = []
        self.faults: dict[str, int] = {}
        self.told: list[bytes] = []
        self.feed: Feed
        self._wanted = clients
        self._tasks: list[asyncio.Task[None]] = []
        self._second: Subscription | None = None
        self._fill = False

    # --- the cast ---------------------------------------------------------------------------------

    async def start(self) -> None:
        self.new_engine()
        await self.engine_up()
        await self.new_gateway()
        for _ in range(self._wanted):
            await self.new_client()
        self.clients[0].texts = self.told
        self.feed = connect(f"ws://localhost:{PORT}/ws", uniform=self.rng.uniform)
        await self.feed.__aenter__()
        events = self.feed.subscribe(">", "*.*.no")
        self._tasks = [asyncio.create_task(self._marks()), asyncio.create_task(self._follow(events))]
        if self.puppet is not None:
            lost = partial(self.note, "JavaScript lost a book")
            self.node = NodeFeed(self.puppet, self.net, PORT, self.truth, self.seed, lost)
            self.node.act(("subscribe", "all", [">", "*.*.no"], {}))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.feed.close()
        if self.node is not None:
            self.node.end()
        for client in self.clients:
            client.transport.close()
        if self.gateway is not None:
            await self.gateway.stop()
        await asyncio.sleep(1)

    def failed(self) -> BaseException | None:
        """What a task of the world died of."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    def new_engine(self) -> None:
        """An orderbook process with larger epochs; it knows nothing until the venues' snapshots."""
        if self.engine is not None:
            self.engine.refuse = self.engine.muted = True
            self.epoch = self.engine.store.last_epoch() + self.rng.randint(1, 1_000)
        self.engine = Engine(self.bus, self.epoch)
        self.engine._rng = self.rng
        self.truth.watch(self.engine)

    async def engine_up(self) -> None:
        assert self.engine is not None
        await self.engine.start(self._table())
        self.engine.fill()
        self.engine.marks()

    def _table(self) -> list[tuple[str, str, str, bool]]:
        return [*TABLE, *(row for row in EXTRA if self.rng.random() < 0.5)]

    async def new_gateway(self) -> None:
        self.source = Source(self.bus, self.rng)
        settings = Settings(ws_port=0, orderbook_service_url=("http://localhost:1",))
        self.gateway = Gateway(settings, self.bus, self.source, self.clock, LIMITS)  # type: ignore[arg-type]
        self.server = VirtualServer(self.net, self.gateway, PORT)
        self.gateway._server = self.server  # type: ignore[assignment]
        self.gateway._mirrors._rng = random.Random(self.rng.random())
        await self.gateway.start()

    async def new_client(self) -> None:
        client = LightClient(self.truth, self._lost_client)
        try:
            self.net.dial(client, PORT)
        except ConnectionRefusedError:
            return
        self.clients.append(client)
        await client.open.wait()
        if client.closed is None:
            # Half of them want everything at once, so that there is much to be wrong about.
            pattern = self.rng.choice((*PATTERNS[:2], *PATTERNS))
            options = self.rng.choice(OPTIONS)
            client.held[f"{pattern} {options}"] = options
            await self._ask(client, "subscribe", books=[pattern], **options)

    def _lost_client(self, client: LightClient) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self.note(f"close {client.closed}")

    def note(self, what: str) -> None:
        """Count what happened, so that a run can show that it did."""
        self.faults[what] = self.faults.get(what, 0) + 1

    # --- what goes on beside ----------------------------------------------------------------------

    async def _marks(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.engine is not None:
                self.engine.now_us += 1_000_000
                self.engine.marks(full=False)

    async def _follow(self, events: Any) -> None:
        """The library's client: judged at every event."""
        async for event in events:
            book = event.book
            if book is None:
                continue
            if event.type in ("snapshot", "delta", "status") and book.exact:
                mirror = book.mirror
                key = (book.id, book.depth, book.every_ms)
                self.truth.check(key, mirror.epoch, mirror.seq, mirror.digest, mirror)
            elif event.type == "lost":
                self.note("library lost a book")

    # --- one step ---------------------------------------------------------------------------------

    async def step(self) -> None:
        """Some changes, and perhaps something bad."""
        rng = self.rng
        engine = self.engine
        assert engine is not None
        for _ in range(rng.randint(1, 40)):
            if rng.random() < 0.05:
                engine.bulk()
            else:
                engine.step()
            if rng.random() < 0.05:
                await asyncio.sleep(0)
        luck = rng.random()
        if luck < 0.08:
            self.note("bus message lost")
            engine.lose = rng.randint(1, 3)
        elif luck < 0.11:
            self.note("orderbook restart")
            self.new_engine()
            await asyncio.sleep(rng.choice((0.0, 0.0, 1.0, 5.0)))
            await self.engine_up()
        elif luck < 0.13:
            assert self.gateway is not None
            self.note("subscription overflow")
            self.gateway._loss("slow_reader")
        elif luck < 0.20:
            platform, asset = rng.choice(TABLE)[:2]
            state, why = rng.choice((("resync", "seq_gap"), ("down", "disconnected"), ("halted", "halted")))
            engine.normalised("state", platform, asset, state=state, why=why)
        elif luck < 0.27:
            platform, asset = rng.choice(TABLE)[:2]
            engine.snapshot(platform, asset, [["0.45", "10"]], [["0.55", "20"]])
        elif luck < 0.29:
            self.note("mapping")
            engine.publish(
                engine.store.set_mapping(413 + engine.now_us % 1_000, self._table(), engine.now_us)
            )
        elif luck < 0.31:
            self.note("garbage")
            book = rng.choice((FED_25, GAME))
            for junk in (b"", b"{", b'{"type":"delta","book":"' + book.encode() + b'"}', b'{"books":[]}'):
                self.bus.publish(f"orderbook.{rng.choice(('changes', 'trades'))}.{book}", junk)
        elif luck < 0.34:
            await self._restart_gateway()
        elif luck < 0.40 and self.clients:
            self.note("client leaves")
            transport = rng.choice(self._transports())
            rng.choice((transport.close, transport.abort))()
        elif luck < 0.48 and self.clients:
            self.note("client stops reading")
            pause = self._pause(rng.choice(self._transports()), rng.choice((0.2, 1.0, 4.0, 15.0)))
            asyncio.create_task(pause)  # noqa: RUF006
        elif luck < 0.80 and self.clients:
            if rng.random() < 0.2:
                await self._toggle_libraries()
            else:
                await self._toggle(rng.choice(self.clients))
        elif luck < 0.85 and self.clients:
            self.note("resync")
            await self._ask(rng.choice(self.clients), "resync", books=[rng.choice((FED_25, FED_50, GAME))])
        while len(self.clients) < self._wanted and PORT in self.net.servers:
            await self.new_client()
        await asyncio.sleep(rng.choice((0.0, 0.001, 0.01, 0.1, 0.4)))

    async def _ask(self, client: LightClient, name: str, **more: Any) -> dict[str, Any] | None:
        """An answer is waited for, but not for ever: the client may have stopped reading."""
        try:
            async with asyncio.timeout(0.5):
                return await client.op(name, **more)
        except TimeoutError:
            return None

    def _transports(self) -> list[asyncio.Transport]:
        """Every client's connection, those of the libraries included."""
        found = [client.transport for client in self.clients]
        if self.feed._ws is not None:
            found.append(self.feed._ws.transport)
        return [*found, *(self.node.transports if self.node is not None else ())]

    async def _pause(self, transport: asyncio.Transport, seconds: float) -> None:
        transport.pause_reading()
        await asyncio.sleep(seconds)
        transport.resume_reading()

    async def _toggle_libraries(self) -> None:
        """The same second subscription of both libraries begins, or ends."""
        if self._second is not None:
            self.note("library unsubscribes")
            second, self._second = self._second, None
            await second.close()
            if self.node is not None:
                self.node.act(("unsubscribe", "second"))
            return
        self.note("library subscribes")
        pattern = self.rng.choice(PATTERNS)
        depth, every_ms = self.rng.choice(((None, None), (DEPTH, None), (None, 100), (DEPTH, 250)))
        self._second = self.feed.subscribe(pattern, depth=depth, every_ms=every_ms)
        self._tasks.append(asyncio.create_task(self._follow(self._second)))
        if self.node is not None:
            options = {"depth": depth, "everyMs": every_ms}
            self.node.act(("subscribe", "second", [pattern], options))

    async def _toggle(self, client: LightClient) -> None:
        pattern, options = self.rng.choice(PATTERNS), self.rng.choice(OPTIONS)
        key = f"{pattern} {options}"
        if key in client.held and options:
            del client.held[key]
            await self._ask(client, "unsubscribe", books=[pattern], **options)
        else:
            client.held[key] = options
            await self._ask(client, "subscribe", books=[pattern], **options)

    async def _restart_gateway(self) -> None:
        assert self.gateway is not None
        old, self.gateway = self.gateway, None
        if self.rng.random() < 0.5:
            self.note("gateway stopped")
            await old.stop()
        else:
            self.note("gateway killed")
            self.server.crash()
            assert old._subscription is not None
            await old._subscription.stop()
            for task in [*old._tasks, *old._mirrors._tasks]:
                task.cancel()
            await old._upstream.close()
        await asyncio.sleep(self.rng.choice((0.0, 0.5, 3.0)))
        await self.new_gateway()

    # --- the end ----------------------------------------------------------------------------------

    async def settle(self) -> None:
        """With nothing going wrong any more, who asks for everything is exact and up to date within 40 s."""
        engine = self.engine
        assert engine is not None
        engine.lose = 0
        self.source.trouble = 0.0
        engine.publish(engine.store.set_mapping(9_999, TABLE, engine.now_us))
        engine.fill()
        await asyncio.sleep(20)
        while len(self.clients) < self._wanted:
            await self.new_client()
        for client in self.clients:
            for pattern in (">", "*.*.no"):
                await client.op("subscribe", books=[pattern])
        for _ in range(50):
            engine.step()
        want = {
            book: (body["epoch"], body["seq"], body["digest"])
            for book in engine.store.books()
            for body in [orjson.loads(engine.store.snapshot(book))]
        }
        assert len(want) == 3
        async with asyncio.timeout(20):
            while not self._all_right(want):
                await asyncio.sleep(0.05)

    def _all_right(self, want: dict[str, tuple[int, int, int]]) -> bool:
        views = [(book, book) for book in want] + [(book[:-3] + "no", book) for book in want]
        held = [
            {key[0]: m for key, m in client.mirrors.items() if key[1:] == (None, None)}
            for client in self.clients
        ]
        held.append({key[0]: book.mirror for key, book in self.feed.books.items() if key[1:] == (None, None)})
        in_node = self.node.held() if self.node is not None else {}
        if self.node is not None and any(in_node.get(view) != (True, *want[book]) for view, book in views):
            return False
        return all(
            view in mirrors
            and mirrors[view].exact
            and (mirrors[view].epoch, mirrors[view].seq, mirrors[view].digest) == want[book]
            for mirrors in held
            for view, book in views
        )


def run(seed: int, steps: int, puppet: Puppet | None = None) -> World:
    """One whole run; with `puppet` the JavaScript client is in it."""
    net = VirtualNet()
    asyncio.set_event_loop(net)

    async def play() -> World:
        world = World(seed, net, puppet=puppet)
        await world.start()
        try:
            for _ in range(steps):
                await world.step()
                failed = world.failed()
                if failed is not None:
                    raise failed
            await world.settle()
            failed = world.failed()
            if failed is not None:
                raise failed
        finally:
            await world.stop()
        return world

    errors: list[dict[str, Any]] = []
    net.set_exception_handler(lambda _, context: errors.append(context))
    # Nothing is asked over HTTP here, and making an HTTP client costs more than the rest of a gateway.
    upstream = mock.patch("wup.gateway.service.app.Upstream", return_value=mock.AsyncMock())
    world, cause = None, None
    try:
        with upstream:
            world = net.run_until_complete(play())
    except Exception as error:
        cause = error
    finally:
        asyncio.set_event_loop(None)
        net.close()
    # The first fault comes before whatever followed from it.
    cause = next((context["exception"] for context in errors if context.get("exception")), cause)
    if cause is not None:
        raise AssertionError(f"seed {seed}: {cause!r}") from cause
    assert world is not None
    return world
