"""How late the event loop runs: everything in a stage waits that long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wup.metrics import LOOP_LAG

if TYPE_CHECKING:
    from wup.clock import Clock

_EVERY_S = 0.1


async def watch_lag(clock: Clock) -> None:
    """Measure for ever, into `wup_loop_lag_seconds`."""
    histogram = LOOP_LAG.stage("main")
    while True:
        due = clock.monotonic() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        histogram.observe(max(0, round((clock.monotonic() - due) * 1_000_000)))
