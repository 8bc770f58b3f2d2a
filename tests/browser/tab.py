"""A tab of the browser with the page in it, and what a person could read there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser, BrowserContext, Page

DESKTOP = (1440, 900)
PHONE = (390, 844)

_CARD = """
(card) => {
  const text = (selector) => card.querySelector(selector)?.textContent ?? "";
  const rows = (side) => [...card.querySelectorAll(`.ladder .${side} tr:not([hidden])`)]
    .filter((row) => row.querySelector(".price").textContent !== "")
    .map((row) => [
      row.querySelector(".price").textContent,
      row.querySelector("td.number").textContent.replaceAll(",", ""),
      row.querySelector(".bar-in").getAttribute("aria-label"),
      row.classList.contains("crossed"),
    ]);
  return {
    book: card.dataset.book,
    state: card.dataset.state,
    label: text("h2"),
    pill: text(".pill"),
    crossed: !card.querySelector(".crossed-pill").hidden,
    seq: Number(text(".seq").replace("seq ", "")),
    note: text(".note"),
    veil: text(".veil"),
    bid: text(".best .bid strong"),
    ask: text(".best .ask strong"),
    between: text(".between"),
    asks: rows("asks").reverse(),
    bids: rows("bids"),
    legs: Object.fromEntries([...card.querySelectorAll(".legs tbody tr")].map((row) => [
      row.querySelector("th").textContent,
      [...row.querySelectorAll("td")].map((cell) => cell.textContent),
    ])),
  };
}
"""


@dataclass
class Tab:
    """`errors` is everything that the console called an error, and every exception that nobody caught."""

    context: BrowserContext
    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expected: tuple[str, ...] = ()
    """Parts of messages that this test provokes."""

    @classmethod
    async def open(
        cls, browser: Browser, size: tuple[int, int] = DESKTOP, scheme: Any = "dark", **more: Any
    ) -> Tab:
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **more
        )
        page = await context.new_page()
        page.set_default_timeout(30_000)
        tab = cls(context, page)
        page.on(
            "console",
            lambda said: tab.errors.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: tab.errors.append(str(error)))
        page.on("request", lambda request: tab.hosts.add(urlsplit(request.url).netloc))
        return tab

    async def close(self) -> None:
        """Close it; nothing unexpected may have been on the console."""
        await self.context.close()
        unexpected = [said for said in self.errors if not any(part in said for part in self.expected)]
        assert unexpected == []

    async def cards(self) -> dict[str, dict[str, Any]]:
        """What each book's card shows, by book id."""
        shown = await self.page.eval_on_selector_all(
            ".card[data-book]", f"(cards) => cards.map({_CARD.strip()})"
        )
        return {card["book"]: card for card in shown}

    async def until(self, condition: Callable[[], Awaitable[Any]], timeout: float = 30) -> Any:
        """Wait until `await condition()` is true; asked between frames."""
        async with asyncio.timeout(timeout):
            while not (result := await condition()):
                await self.page.evaluate("() => new Promise(requestAnimationFrame)")
        return result

    async def until_cards(
        self, condition: Callable[[dict[str, dict[str, Any]]], Any], timeout: float = 30
    ) -> dict[str, dict[str, Any]]:
        """Wait until the cards are as wanted; the cards then."""
        cards: dict[str, dict[str, Any]] = {}

        async def look() -> bool:
            cards.clear()
            cards.update(await self.cards())
            return bool(condition(cards))

        try:
            await self.until(look, timeout)
        except TimeoutError:
            raise AssertionError(f"not in {timeout} s: {cards}") from None
        return cards

    async def until_link(self, text: str) -> None:
        """Wait until the connection is shown in this state."""
        await expect(self.page.locator("#link-text")).to_have_text(text)
