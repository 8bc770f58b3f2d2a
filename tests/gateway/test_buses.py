"""The gateway over NATS, and through restarts of what is behind it."""

from __future__ import annotations

import asyncio

import orjson

from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, TABLE, Engine
from wup.bus import LocalBus, NatsBus
from wup.clock import SYSTEM_CLOCK
from wup.config import Settings
from wup.gateway import BusSource, Gateway


async def test_over_nats(nats_url: str, dial: Opener) -> None:
    """With a real NATS server between store and gateway a client keeps every book exact."""
    here = await NatsBus.connect(nats_url, name="orderbook")
    there = await NatsBus.connect(nats_url, name="gateway")
    engine = Engine(here)
    await engine.start()
    engine.fill()
    gateway = Gateway(Settings(ws_port=0), there, BusSource(there), SYSTEM_CLOCK)
    await gateway.start()
    engine.marks()
    await ready(gateway)
    client = await dial(gateway)
    await client.op("subscribe", books=[">", "*.*.no"])
    for turn in range(500):
        engine.step()
        if turn % 10 == 0:
            await asyncio.sleep(0)
    seqs = {book: orjson.loads(engine.store.snapshot(book))["seq"] for book in engine.store.books()}
    await client.until(
        lambda: (
            len(client.books) == 6
            and all(
                book.exact and book.seq == seqs[book.name.removesuffix(".no").removesuffix(".yes") + ".yes"]
                for book in client.books.values()
            )
        )
    )
    assert set(client.verdicts) == {"ok"}
    await client.close()
    await gateway.stop()
    await here.close()
    await there.close()


async def test_bus_loss_takes_books_out_until_fetched(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """When the bus says that messages were lost, every book is told as lost and comes back verified."""
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    await client.until(lambda: len(client.books) == 3)
    gateway._loss("overflow")  # our own outbound queue: no reason to doubt what came in
    gateway._loss("slow_reader")
    await client.until(lambda: all(b.history[-1] == "snapshot:gap" for b in client.books.values()))
    assert all(b.history[1:] == ["status:gap", "snapshot:gap"] for b in client.books.values())
    assert all(b.exact for b in client.books.values())


async def test_orderbook_restart(bus: LocalBus, start: Starter, dial: Opener) -> None:
    """A new orderbook process, with larger epochs, takes over: the readers get its books and are exact."""
    first = Engine(bus)
    await first.start()
    first.fill()
    gateway = await start()
    first.marks()
    await ready(gateway)
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    await client.until(lambda: len(client.books) == 3)
    old = client.books[FED_25, None, None].epoch
    first.refuse = True
    second = Engine(bus, epoch=first.store.last_epoch() + 5_000)
    await second.start(TABLE)
    second.fill()
    second.marks()
    for _ in range(50):
        second.step()
    seq = orjson.loads(second.store.snapshot(FED_25))["seq"]
    book = client.books[FED_25, None, None]
    await client.until(lambda: book.exact and book.epoch > old and book.seq == seq)
    assert client.verdicts.get("broken", 0) == 0


async def test_orderbook_dies(bus: LocalBus, start: Starter, dial: Opener) -> None:
    """No marks and no changes any more: within four seconds every reader is told `upstream_silent`."""
    engine = Engine(bus)
    await engine.start()
    engine.fill()
    gateway = await start()
    engine.marks()
    await ready(gateway)
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    await client.until(lambda: len(client.books) == 3)
    await client.until(
        lambda: all(b.history[-1] == "status:upstream_silent" for b in client.books.values()), 4.5
    )
    assert not any(b.exact for b in client.books.values())
    engine.marks()
    await client.until(lambda: all(b.exact for b in client.books.values()))
