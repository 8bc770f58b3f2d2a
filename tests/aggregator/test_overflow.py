"""A NATS that takes nothing: the read loop goes on, what was dropped is found, and its legs come back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import orjson
import pytest

from aggregator.test_aggregator import Tape, running, table
from aggregator.test_bus_away import Apart, count, eventually, standing_still
from wup.bus import LocalBus, nats
from wup.metrics import REGISTRY
from wup.raw import read_meta
from wup.sim import SimSettings, Simulators

if TYPE_CHECKING:
    from collections.abc import Mapping


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.timeout(120)
async def test_a_full_queue_to_nats_costs_books_not_the_read_loop(
    monkeypatch: pytest.MonkeyPatch, nats_url: str
) -> None:
    """While the server takes nothing, frames are still read at their pace, the queue stays within its bound
    and the rest is dropped and counted; afterwards the holes are found, the books of those connections leave
    with `gap`, and soon all are live and what the venues have. None is wrong in between."""
    async with AsyncExitStack() as stack:
        simulators = Simulators(SimSettings(sim_seed=4, sim_rate=400))
        await simulators.start()
        stack.push_async_callback(simulators.stop)
        apart = Apart(stack, simulators, nats_url)
        await apart.start(monkeypatch)
        await eventually(apart.all_live, 30)
        monkeypatch.setattr(nats, "_QUEUE_BYTES", 100_000)
        bus = apart.aggregator._bus
        assert isinstance(bus, nats.NatsBus)
        # As when the server has stopped reading: the socket's own buffers are full.
        monkeypatch.setattr(nats, "_SOCKET_BYTES", 0)
        lost = {name: count("lost_records", name) for name in simulators.exchanges}
        dropped = sample("wup_dropped_total", queue="nats_out")
        await eventually(lambda: sample("wup_dropped_total", queue="nats_out") > dropped + 50, 20)
        read = {name: sample("wup_frames_total", platform=name) for name in simulators.exchanges}
        await asyncio.sleep(1.0)
        assert bus._queued <= 100_000
        for name, before in read.items():
            assert sample("wup_frames_total", platform=name) - before > 50
        monkeypatch.setattr(nats, "_SOCKET_BYTES", 1 << 20)
        for name, before in lost.items():
            await eventually(lambda name=name, before=before: count("lost_records", name) > before, 10)  # type: ignore[misc]
        await eventually(apart.all_live, 30)
        assert {why for _, _, state, why in apart.judge.left if state == "resync"} <= {"gap", "seq_gap"}
        await standing_still(apart)
        assert apart.differences() == []
        assert apart.judge.wrong == []


class Leaky(LocalBus):
    """Drops records of one kind."""

    dropping = ""

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str | None = None,
    ) -> bool:
        meta = read_meta("toy", headers)
        if meta is not None and meta.kind == self.dropping:
            return False
        return super().publish(subject, payload, headers, reply)


async def test_a_lost_record_that_nobody_counts_shows_as_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a `sent` record could not be handed over, the next mark names a number that no frame had, once;
    the frames after it go on from there."""
    monkeypatch.setattr("aggregator.test_aggregator.LocalBus", Leaky)
    async with running() as (toy, aggregator, tape, bus):
        assert isinstance(bus, Leaky)
        assert isinstance(tape, Tape)
        await aggregator.set_table(table("A"))
        client = await toy.clients.get()
        await client.send("book A 1")
        await tape.until("frame", 1)
        assert (await tape.until("marks", 1))[-1][2].n == 1
        bus.dropping = "sent"
        await client.send("question")
        await tape.until("frame", 2)
        assert await toy.heard.get() == "sub A"
        assert await toy.heard.get() == "answer"
        bus.dropping = ""
        seen = len(await tape.until("marks", 1))
        mark = (await tape.until("marks", seen + 2))[-1]
        assert (mark[2].n, orjson.loads(mark[1])["n"]) == (3, 3)
        await client.send("book A 2")
        assert (await tape.until("frame", 3))[-1][2].n == 4
        seen = len(await tape.until("marks", 1))
        assert (await tape.until("marks", seen + 1))[-1][2].n == 4


@pytest.mark.parametrize("marked", [True, False])
async def test_a_second_loss_after_the_marks_told_the_first_is_told_too(
    monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    """Marks told of a `sent` record that was lost; then a verdict is lost: the next marks, or the next frame
    if that is sooner, name yet another number that no frame had."""
    monkeypatch.setattr("aggregator.test_aggregator.LocalBus", Leaky)
    async with running() as (toy, aggregator, tape, bus):
        assert isinstance(bus, Leaky)
        await aggregator.set_table(table("A"))
        client = await toy.clients.get()
        await client.send("book A 1")
        await tape.until("frame", 1)
        (connection,) = aggregator.groups["toy"].connections
        # Marks only when the test says so.
        mark = connection.mark
        monkeypatch.setattr(connection, "mark", lambda: None)
        told = len(await tape.until("marks", 0))
        bus.dropping = "sent"
        connection._record("sent", b"question", 1)
        mark()
        assert (await tape.until("marks", told + 1))[-1][2].n == 2
        bus.dropping = "verdict"
        connection._down("venue_silent")
        bus.dropping = ""
        if marked:
            mark()
            assert (await tape.until("marks", told + 2))[-1][2].n == 3
        await client.send("book A 2")
        assert (await tape.until("frame", 2))[-1][2].n == 4


async def test_a_book_that_the_bus_did_not_take_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose first book was dropped does not count as having it: no market moves there for it."""
    monkeypatch.setattr("aggregator.test_aggregator.LocalBus", Leaky)
    async with running() as (toy, aggregator, tape, bus):
        assert isinstance(bus, Leaky)
        await aggregator.set_table(table("A", "B"))
        client = await toy.clients.get()
        bus.dropping = "frame"
        await client.send("book A 1")
        (connection,) = aggregator.groups["toy"].connections
        await eventually(lambda: connection._n == 1, 10)
        bus.dropping = ""
        await client.send("book B 1")
        await tape.until("frame", 1)
        assert (connection.has_book("A"), connection.has_book("B")) == (False, True)
        await client.send("book A 2")
        await tape.until("frame", 2)
        assert connection.has_book("A")


async def test_a_bus_that_was_away_makes_every_connection_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `reconnected` each connection's counter has a hole, whatever was lost with the server."""
    told: list[object] = []
    monkeypatch.setattr(LocalBus, "on_loss", lambda self, callback: told.append(callback))
    async with running() as (toy, aggregator, tape, _):
        await aggregator.set_table(table("A"))
        await toy.clients.get()
        await tape.until("marks", 1)
        (callback,) = told
        assert callable(callback)
        callback("disconnected")
        seen = len(await tape.until("marks", 1))
        assert (await tape.until("marks", seen + 1))[-1][2].n == 0
        callback("reconnected")
        seen = len(await tape.until("marks", 1))
        assert (await tape.until("marks", seen + 1))[-1][2].n == 1
