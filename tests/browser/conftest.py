"""A real Chromium, and the same real gateway that the gateway's tests use."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright, expect

from browser.tab import Tab
from gateway.conftest import bus, dial, engine, gateway, start

__all__ = ["bus", "dial", "engine", "gateway", "start"]

SCREENSHOTS = Path(__file__).parent.parent.parent / "screenshots"
"""Kept for people to look at; git ignores it."""

expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here drives a browser."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


def chromium() -> str:
    """The system's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium on this machine")
    pytest.skip("no Chromium on this machine")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """One tab of a desktop's size; what its console says at the end must be nothing."""
    tab = await Tab.open(browser)
    yield tab
    await tab.close()


@pytest.fixture
def screenshots() -> Path:
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS
