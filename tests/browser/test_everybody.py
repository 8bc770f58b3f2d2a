"""The page for everybody: by keyboard, by screen reader, in both colour schemes, on small screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from browser.shown import audit, shows, url
from browser.tab import Tab
from gateway.engine import FED_25, FED_50, GAME, Engine

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from wup.gateway import Gateway

pytestmark = pytest.mark.timeout(150)


async def test_keyboard_alone(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """Skip link first; `/`, arrows and Enter choose an event; Tab reaches the switch and the ladder."""
    page = tab.page
    await page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the books")).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search events")).to_be_focused()
    await page.keyboard.type("lal")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await tab.until_cards(lambda cards: cards.keys() == {GAME})
    await expect(page.locator("#events a[aria-current=page]")).to_have_attribute("href", "#/e/game-lal-bos")
    seen: list[str] = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(audit("focused"))
        seen.append(focused["name"])
        outline = focused["outline"]
        assert outline != "none", seen
    assert {"view", "rows", "ladder"} <= set(seen)
    await page.locator('input[name="view"]').first.focus()
    await page.keyboard.press("ArrowRight")
    await tab.until_cards(lambda cards: all(book.endswith(".no") for book in cards) and cards)


async def test_roles_and_names(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """Landmarks, one h1 per view, tables with heads and captions; everything to be operated has a name."""
    page = tab.page
    await page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    for role in ("banner", "main", "complementary"):
        await expect(page.get_by_role(role)).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    await expect(page.get_by_role("article")).to_have_count(2)
    await expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    await expect(page.get_by_role("status").first).to_have_text("Live")
    nameless = await page.evaluate(audit("nameless"))
    assert nameless == []
    assert await page.evaluate("() => document.documentElement.lang") == "en"
    headless = await page.evaluate(audit("headless"))
    assert headless == 0
    repeated = await page.evaluate(audit("repeated"))
    assert repeated == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast(engine: Engine, gateway: Gateway, browser: Browser, scheme: str) -> None:
    """Every text that is not faded on purpose has a contrast of 4.5 (large: 3), whatever states are shown."""
    tab = await Tab.open(browser, scheme=scheme, reduced_motion="reduce")
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    engine.update("kalshi", "KXFED-26DEC-C50", [["0.55", "9"]], [])
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="down", why="venue_silent")
    engine.normalised("trade", "kalshi", "KXFED-26DEC-C25", price="0.53", size="2", side="buy", id="t")
    await tab.until_cards(lambda cards: all(shows(card, engine) for card in cards.values()))
    await expect(tab.page.locator("#trades tr")).to_have_count(1)
    found = await tab.page.evaluate(audit("contrast"))
    assert found["seen"] > 80
    assert found["bad"] == []
    engine.normalised("state", "polymarket", "6519", state="down", why="disconnected")
    await tab.until_cards(lambda cards: cards[FED_25]["state"] == "down")
    assert (await tab.page.evaluate(audit("contrast")))["bad"] == []
    await tab.page.get_by_role("link", name="Playground").click()
    await tab.page.get_by_role("button", name="Send").click()
    await expect(tab.page.locator(".tag-snapshot").first).to_be_visible()
    assert (await tab.page.evaluate(audit("contrast")))["bad"] == []
    await tab.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
async def test_nothing_is_cut_off(engine: Engine, gateway: Gateway, browser: Browser, width: int) -> None:
    """From a small phone to a desktop nothing needs scrolling sideways; the event list can be reached."""
    tab = await Tab.open(browser, (width, 800))
    page = tab.page
    await page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    engine.update(
        "kalshi", "KXFED-26DEC-C50", [["0.515123", "99999999.999999"]], [["0.999999", "100000000000"]]
    )
    await tab.until_cards(lambda cards: cards[FED_50]["bid"] == "0.515123")
    for path in ("#/e/fed-2026-12", "#/playground"):
        await page.goto(url(gateway, path))
        # The address is there before the view: the page hears of it later.
        await expect(page.locator("#playground-view" if "play" in path else "#books-view")).to_be_visible()
        assert await page.evaluate(audit("tooWide")) == [], path
        assert await page.evaluate(audit("clipped")) == []
    if width < 960:
        await page.get_by_role("button", name="Fed").or_(page.locator("#side-open")).first.click()
    await page.locator("#events a").last.click()
    await expect(page.locator("#events a").last).to_have_attribute("aria-current", "page")
    if width < 960:
        await expect(page.locator("#side-body")).to_be_hidden()
    await tab.close()
