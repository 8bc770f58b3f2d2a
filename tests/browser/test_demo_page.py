"""The page over the whole pipeline: simulated venues, all stages, and a gateway that can be restarted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import pytest
from playwright.async_api import expect

from browser.tab import DESKTOP, PHONE, Tab
from end_to_end.running import command

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

pytestmark = pytest.mark.timeout(240)
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def whole(card: dict[str, Any]) -> bool:
    """Is this a live book of both venues with some levels a side?"""
    legs = card["legs"].keys() == {"kalshi", "polymarket"}
    return card["state"] == "live" and legs and min(len(card["bids"]), len(card["asks"])) >= 5


async def test_the_demo_in_a_browser(
    browser: Browser, nats_url: str, redis_url: str, tmp_path: Path, screenshots: Path
) -> None:
    """Ladders of the demo's event move; they heal after a restart of the gateway without a reload; a venue
    that the simulator silences is flagged on every book and comes back; the console stays clean."""
    mapping = tmp_path / "mapping.toml"
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            command("sim", "both", "--seed", "7", "--json", "--mapping", str(mapping))
        )
        venues = await sim.until("ready")
        env = {**venues["env"], "NATS_URL": nats_url, "REDIS_URL": redis_url, "MAPPINGS": str(mapping)}
        up = await stack.enter_async_context(
            command("up", "--json", env={**env, "PUBLISH_CHANGES": "true", "RECORD": "false"})
        )
        stages = await up.until("ready")
        alone = {**env, "ORDERBOOK_SERVICE_URL": stages["http"]}
        gateway = await stack.enter_async_context(command("gateway", env=alone))
        port = (await gateway.until("ready"))["ws"]
        tab = await Tab.open(browser)
        tab.expected = ("WebSocket connection to",)  # while the gateway is away
        await tab.page.goto(f"http://127.0.0.1:{port}/#/e/fed-2026-12")

        # Moving ladders.
        cards = await tab.until_cards(
            lambda cards: len(cards) == 5 and all(whole(card) for card in cards.values()), 45
        )
        assert {card["label"] for card in cards.values()} >= {"25 bps cut", "No change"}
        await expect(tab.page.locator("#event-title")).to_have_text("Fed decision in December 2026")
        before = cards
        await tab.until_cards(
            lambda cards: all(
                card["seq"] > before[book]["seq"] + 10 and card["bids"] != before[book]["bids"]
                for book, card in cards.items()
            ),
            45,
        )
        assert await tab.page.inner_text("#m-wrong") in ("0", "–")

        # As people see it.
        await tab.page.locator("#m-p50:not(:text('–'))").wait_for()
        for name, (width, height) in {"phone": PHONE, "desktop": DESKTOP}.items():
            await tab.page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                await tab.page.emulate_media(color_scheme=scheme)
                await tab.page.screenshot(path=screenshots / f"{name}-{scheme}.png")

        # The gateway goes and comes back: the same page, on the same port.
        await tab.page.evaluate("() => { window.same = true; }")
        assert await gateway.end() == 0
        await tab.until_cards(lambda cards: all(card["state"] == "unproven" for card in cards.values()))
        await tab.page.screenshot(path=screenshots / "desktop-lost.png")
        await stack.enter_async_context(command("gateway", env={**alone, "WS_PORT": str(port)}))
        await tab.until_cards(lambda cards: all(card["state"] == "live" for card in cards.values()), 40)
        assert await tab.page.evaluate("() => window.same")
        await tab.until_link("Live")

        # A venue falls silent: every book says so; the other venue goes on.
        async with httpx2.AsyncClient() as client:
            fault = {"kind": "silence", "venue": "kalshi", "seconds": 600}
            answer = await client.post(f"{venues['control']}/faults", json=fault)
            assert answer.status_code == 200, answer.text
            cards = await tab.until_cards(
                lambda cards: all(
                    card["state"] == "degraded"
                    and [leg for leg, shown in card["legs"].items() if shown[0] == "live"] == ["polymarket"]
                    for card in cards.values()
                ),
                45,
            )
            for card in cards.values():
                assert card["note"].startswith("kalshi ")
                assert not any("kalshi" in row[2] for row in card["bids"] + card["asks"])
            await tab.page.screenshot(path=screenshots / "desktop-silent-venue.png")
            assert (await client.delete(f"{venues['control']}/faults")).status_code == 200
        await tab.until_cards(lambda cards: all(card["state"] == "live" for card in cards.values()), 45)
        await tab.close()
