"""Runs the market model on a clock: each event leaves when its engine time has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wup.clock import Clock
    from wup.sim.exchange import Exchange
    from wup.sim.market import MarketModel

_SHARE_US = 50_000


def advance(model: MarketModel, exchanges: dict[str, Exchange], now_us: int) -> int:
    """Carry the model to `now_us` and let every exchange speak; the number of engine events.

    This is the whole engine: a test on a virtual clock calls it with its own times.
    """
    events, done = model.advance(now_us), 0
    while True:
        # What is due before the next event must be said before it happens: a first book that is sent
        # afterwards would hold a change that is then told once more.
        for exchange in exchanges.values():
            exchange.poll(min(model.next_us, now_us))
        event = next(events, None)
        if event is None:
            return done
        exchange_of = exchanges.get(event.market.listing.venue)
        if exchange_of is not None:
            exchange_of.engine_event(event)
        done += 1


def next_due_us(model: MarketModel, exchanges: dict[str, Exchange]) -> int:
    """When `advance` has something to do next."""
    return min(
        [model.next_us, *(due for item in exchanges.values() if (due := item.next_due_us()) is not None)]
    )


class Pump:
    """One timer of the running loop, always set to the next thing to do."""

    def __init__(self, model: MarketModel, exchanges: dict[str, Exchange], clock: Clock) -> None:
        self._model = model
        self._exchanges = exchanges
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self._running = False
        self._reached_us = 0
        self.events = 0

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._reached_us = self._clock.now_us()
        self.arm()

    def stop(self) -> None:
        """End."""
        self._running = False
        if self._handle is not None:
            self._handle.cancel()

    def arm(self) -> None:
        """Set the timer anew: something may have become due earlier."""
        if not self._running:
            return
        if self._handle is not None:
            self._handle.cancel()
        wait_us = next_due_us(self._model, self._exchanges) - self._clock.now_us()
        self._handle = asyncio.get_running_loop().call_later(max(wait_us, 0) / 1_000_000, self._run)

    def _run(self) -> None:
        # A bounded share per wake-up: after a stall the sockets still get their turn.
        now_us = self._clock.now_us()
        self._reached_us = min(
            now_us, max(self._reached_us, next_due_us(self._model, self._exchanges)) + _SHARE_US
        )
        self.events += advance(self._model, self._exchanges, self._reached_us)
        self.arm()
