"""Streams with an interval, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from gateway.engine import FED_25, Engine
from wup.bus import LocalBus, Message
from wup.clock import ManualClock
from wup.gateway.mirrored import MirroredBook
from wup.gateway.outbox import Wakeup
from wup.gateway.stream import ShapedStream


class LateTimer:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class LateLoop:
    """A loop that looks at its timers only when the test says so."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.timers: list[LateTimer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> LateTimer:
        timer = LateTimer(self.clock.monotonic() + delay, callback)
        self.timers.append(timer)
        return timer

    def fire(self) -> None:
        """All timers that are due."""
        now = self.clock.monotonic()
        timers, self.timers = self.timers, []
        for timer in timers:
            if timer.due > now:
                self.timers.append(timer)
            elif not timer.cancelled:
                timer.callback()


class Box:
    """An outbox that only collects."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def deltas(self) -> int:
        return sum(b'"type":"delta"' in frame.data for frame in self.frames)


async def test_a_late_timer_does_not_send_twice() -> None:
    """At most one delta per interval, also when a change comes before a timer that is due but late."""
    clock, box = ManualClock(), Box()
    loop = LateLoop(clock)
    bus = LocalBus()
    engine = Engine(bus)
    await engine.start()
    engine.fill()
    book = MirroredBook(FED_25, 0.0)
    book.mirror.apply(engine.store.snapshot(FED_25))
    book.serving = True
    real: Any = asyncio.get_running_loop()
    wakeup = Wakeup(real, clock.monotonic)
    stream = ShapedStream(book, False, None, 50, wakeup, clock, loop)  # type: ignore[arg-type]
    assert stream.snapshot("subscribe", clock.monotonic()) is not None
    stream.attach(box)  # type: ignore[arg-type]

    def take(message: Message) -> None:
        assert book.mirror.apply(message.payload) == "exact"
        stream.advance(message.payload, "delta", clock.monotonic())

    await bus.subscribe(f"orderbook.changes.{FED_25}", take)
    for size in ("1", "2"):
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", size]], [])
    assert (box.deltas(), len(loop.timers)) == (1, 1)
    clock.advance(0.06)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "3"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "4"]], [])
    assert box.deltas() == 2
    clock.advance(0.001)
    loop.fire()
    assert box.deltas() == 2
    clock.advance(0.05)
    loop.fire()
    assert box.deltas() == 3
    last = orjson.loads(box.frames[-1].data[4:])
    assert last["bids"] == [["0.41", "113.5", {"kalshi": "4", "polymarket": "109.5"}]]
