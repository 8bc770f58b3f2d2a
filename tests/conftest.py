"""Shared fixtures: real servers on free ports, and the captured data where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

import figures
from conformance.plugin import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from wup import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

CAPTURES = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def captures() -> Path:
    """Real captured frames, kept beside the project; CI always has them."""
    if not CAPTURES.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"captured data is missing at {CAPTURES}")
        pytest.skip("captured data is not beside this checkout")
    return CAPTURES


@pytest_asyncio.fixture
async def nats_url() -> AsyncIterator[str]:
    """A real NATS server of this test's own."""
    async with servers.embedded_nats() as url:
        yield url


@pytest_asyncio.fixture
async def redis_url() -> AsyncIterator[str]:
    """A real Valkey server of this test's own."""
    async with servers.embedded_valkey() as url:
        yield url


def pytest_configure(config: pytest.Config) -> None:
    """Figures of long runs are printed beside the table of rules."""
    config.pluginmanager.register(figures, "figures")
