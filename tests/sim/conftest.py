"""Simulators on free ports, for the tests of the simulators themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from wup.sim import SimSettings, Simulators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def simulators() -> AsyncIterator[Simulators]:
    """Both venues, lively enough that a second shows everything."""
    made = Simulators(SimSettings(sim_seed=11, sim_rate=600))
    await made.start()
    yield made
    await made.stop()
