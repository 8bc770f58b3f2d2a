"""Runs the market model on a clock: each event leaves when its engine time has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wup.clock import Clock
    from wup.sim.exchange import Exchange
    from wup.sim.market import MarketModel

_EVENTS_PER_RUN = 2_000


def advance(model: MarketModel, exchanges: dict[str, Exchange], now_us: int, limit: int | None = None) -> int:
    """Carry the model to `now_us` (at most `limit` events) and let every exchange speak; events done.

    This is the whole engine: a test on a virtual clock calls it with its own times.
    """
    done = 0
    for event in model.advance(now_us):
        exchange = exchanges.get(event.market.listing.venue)
        if exchange is not None:
            exchange.poll(event.at_us)
            exchange.engine_event(event)
        done += 1
        if done == limit:
            return done
    for exchange in exchanges.values():
        exchange.poll(now_us)
    return done


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
        self.events = 0

    def start(self) -> None:
        """Begin."""
        self._running = True
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
        self.events += advance(self._model, self._exchanges, self._clock.now_us(), _EVENTS_PER_RUN)
        self.arm()
