"""The page against a real gateway whose store the test holds: what is shown is what is true."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from browser.shown import audit, faded, shows, url
from browser.tab import Tab
from gateway.conftest import Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from wup.bus import LocalBus
    from wup.gateway import Gateway

pytestmark = pytest.mark.timeout(150)


async def test_ladders_show_the_store_and_move(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """Each ladder is the store's book to the digit, after hundreds of changes too; all from one host."""
    await tab.page.goto(url(gateway))
    books = {FED_25, FED_50}
    await tab.until_cards(lambda cards: cards.keys() == books)
    for _ in range(3):
        await tab.until_cards(lambda cards: all(shows(card, engine) for card in cards.values()))
        for _ in range(100):
            engine.step()
    cards = await tab.until_cards(lambda cards: all(shows(card, engine) for card in cards.values()))
    assert all(card["legs"]["kalshi"][0] == "live" for card in cards.values())
    await tab.page.goto(url(gateway, "#/e/game-lal-bos"))
    await tab.until_cards(lambda cards: cards.keys() == {GAME})
    cards = await tab.until_cards(lambda cards: shows(cards[GAME], engine))
    assert set(cards[GAME]["legs"]) == {"kalshi", "kalshi-2", "polymarket"}
    await expect(tab.page.locator("#m-wrong")).to_have_text("0")
    assert tab.hosts == {f"127.0.0.1:{gateway.port}"}


async def test_a_gateway_without_books(bus: LocalBus, start: Starter, tab: Tab) -> None:
    """Before there is any book the page says so, offers nothing to choose, and shows the first by itself."""
    engine = Engine(bus)
    await engine.start([])
    gateway = await start()
    await tab.page.goto(url(gateway))
    await expect(tab.page.locator("#empty")).to_contain_text("No event yet")
    await expect(tab.page.locator("#events-hint")).to_contain_text("No books yet")
    await expect(tab.page.locator("#rows")).to_be_hidden()
    engine.publish(engine.store.set_mapping(413, TABLE, engine.now_us))
    engine.fill()
    engine.marks()
    await tab.until_cards(lambda cards: len(cards) == 2)
    await expect(tab.page.locator("#empty")).to_be_hidden()
    await expect(tab.page.locator("#rows")).to_be_visible()


async def test_best_prices_of_each_leg(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """A leg's own best bid and ask are shown, wherever they stand in the book, and when it last changed."""
    engine.update("kalshi", "KXFED-26DEC-C25", [[f"0.{cent}", "0"] for cent in range(40, 51)], [])
    await tab.page.goto(url(gateway))
    cards = await tab.until_cards(lambda cards: FED_25 in cards and shows(cards[FED_25], engine))
    assert cards[FED_25]["legs"]["kalshi"][2:] == ["0.39", "0.53"]
    assert cards[FED_25]["legs"]["polymarket"][2:] == ["0.5", "0.53"]
    await tab.until_cards(lambda cards: " " in cards[FED_25]["legs"]["kalshi"][1])


async def test_crossed_is_marked(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """When one venue bids above another's ask, the book says so and the levels concerned are marked."""
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: FED_25 in cards and shows(cards[FED_25], engine))
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.55", "9"]], [])
    cards = await tab.until_cards(lambda cards: shows(cards[FED_25], engine))
    card = cards[FED_25]
    assert card["crossed"]
    assert card["between"].startswith("crossed by 0.02")
    assert [row[0] for row in card["bids"] if row[3]] == ["0.55"]
    assert [row[0] for row in card["asks"] if row[3]] == ["0.53", "0.54"]


async def test_a_leg_that_leaves_is_flagged(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """A silent leg: the book is degraded, says which and why, shows none of its size; then none is left."""
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2 and all(shows(c, engine) for c in cards.values()))
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="down", why="venue_silent")
    cards = await tab.until_cards(lambda cards: cards[FED_25]["state"] == "degraded")
    card = cards[FED_25]
    assert card["note"] == "kalshi down (venue silent)"
    assert card["legs"]["kalshi"][0] == "down"
    assert card["legs"]["kalshi"][2:] == ["–", "–"]
    assert not any("kalshi" in row[2] for row in card["bids"] + card["asks"])
    assert cards[FED_50]["state"] == "live"
    await expect(tab.page.locator("#events a").first).to_contain_text("1 of 2 live")
    engine.normalised("state", "polymarket", "6519", state="down", why="disconnected")
    cards = await tab.until_cards(lambda cards: cards[FED_25]["state"] == "down")
    assert (cards[FED_25]["veil"], cards[FED_25]["bids"]) == ("No live leg", [])
    assert (cards[FED_25]["bid"], cards[FED_25]["ask"]) == ("–", "–")


async def test_a_book_that_is_over_goes(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """A book that leaves the mapping leaves the page, without a reload; mapped again, it comes back."""
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: cards.keys() == {FED_25, FED_50})
    table = [row for row in TABLE if row[2] != FED_50]
    engine.publish(engine.store.set_mapping(413, table, engine.now_us))
    await tab.until_cards(lambda cards: cards.keys() == {FED_25})
    await expect(tab.page.locator("#event-note")).to_contain_text("1 book ")
    engine.publish(engine.store.set_mapping(414, TABLE, engine.now_us))
    engine.snapshot("kalshi", "KXFED-26DEC-C50", [["0.4", "5"]], [["0.6", "7"]])
    await tab.until_cards(lambda cards: len(cards) == 2 and all(shows(c, engine) for c in cards.values()))


async def test_no_views(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """The NO view shows complements with sides swapped, to the digit."""
    await tab.page.goto(url(gateway))
    await tab.page.get_by_role("radio", name="No").check(force=True)
    name = FED_25.removesuffix(".yes") + ".no"
    await tab.until_cards(lambda cards: name in cards and shows(cards[name], engine, no=True))
    engine.step()
    await tab.until_cards(lambda cards: all(shows(card, engine, no=True) for card in cards.values()))


async def test_restart_of_the_gateway(engine: Engine, start: Starter, tab: Tab) -> None:
    """The gateway goes: at once nothing looks live. It comes back: the same page heals by itself."""
    tab.expected = ("WebSocket connection to",)
    first = await start()
    engine.marks()
    await ready(first)
    port = first.port
    await tab.page.goto(url(first))
    await tab.until_cards(lambda cards: len(cards) == 2)
    await tab.until_link("Live")
    await tab.page.evaluate("() => { window.same = true; }")
    await first.stop()
    cards = await tab.until_cards(lambda cards: all(card["state"] == "unproven" for card in cards.values()))
    for card in cards.values():
        assert (card["pill"], card["veil"]) == ("not exact", "Not live: not connected")
        assert (card["bid"], card["ask"], card["crossed"]) == ("–", "–", False)
    await tab.until_link("Connection lost")
    await expect(tab.page.get_by_role("alert").filter(has_text="nothing below is live")).to_be_visible()
    assert await faded(tab)
    await expect(tab.page.locator(".event-count")).to_have_text(["not known", "not known"])
    for _ in range(20):
        engine.step()
    second = await start(ws_port=port)
    engine.marks()
    await ready(second)
    await tab.until_cards(lambda cards: all(shows(card, engine) for card in cards.values()), 30)
    await tab.until_link("Live")
    await expect(tab.page.locator("#alarm")).to_be_hidden()
    assert await tab.page.evaluate("() => window.same")


async def test_a_silent_gateway_is_not_live(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """A connection that is open but says nothing is shown as silent within seconds, before it is given up."""
    await tab.page.add_init_script(f"({audit('deafen')})()")
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    # Noted in the page: nobody looks often enough to be sure to meet it.
    await tab.page.evaluate(audit("noteLinks"))
    await tab.page.evaluate("() => { window.deaf = true; }")
    await tab.until_link("Connection lost")
    assert await faded(tab)
    silent = {"link": "silent", "text": "Silent", "faded": True}
    assert silent in await tab.page.evaluate("() => window.links")
    await tab.page.evaluate("() => { window.deaf = false; }")
    await tab.until_cards(lambda cards: all(shows(card, engine) for card in cards.values()))


async def test_a_close_for_good_is_told(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """A close that trying again cannot help: the page says what happened and that nothing is live, does not
    claim to try again, and connects anew when told to."""
    await tab.page.add_init_script(f"({audit('noteSockets')})()")
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    await tab.page.evaluate("() => { for (let n = 0; n < 20; n += 1) window.sockets[0].send('bad'); }")
    alarm = tab.page.get_by_role("alert").filter(has_text="nothing below is live")
    await expect(alarm).to_contain_text("closed 4400")
    await expect(alarm).not_to_contain_text("Trying again.")
    await tab.until_link("Disconnected")
    await tab.until_cards(lambda cards: all(card["state"] == "unproven" for card in cards.values()))
    assert await faded(tab)
    assert await tab.page.evaluate("() => window.sockets.length") == 1
    await tab.page.get_by_role("button", name="Connect again").click()
    await tab.until_link("Live")
    await expect(tab.page.locator("#alarm")).to_be_hidden()
    await tab.until_cards(lambda cards: len(cards) == 2 and all(shows(c, engine) for c in cards.values()))
    await expect(tab.page.locator(".event-count").first).to_have_text("2 live")


async def test_hundreds_of_levels_stay_cheap(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """With 300 levels a side shown, a change of one level touches a handful of elements, not the table."""
    sides = (
        [[f"0.{n:03}", f"{n}"] for n in range(199, 499)],
        [[f"0.{n:03}", f"{n}"] for n in range(501, 801)],
    )
    engine.snapshot("polymarket", "8831", *[[[p.rstrip("0"), s] for p, s in side] for side in sides])
    await tab.page.goto(url(gateway, "#/e/game-lal-bos"))
    await tab.page.select_option("#rows", "All")
    await tab.until_cards(lambda cards: GAME in cards and shows(cards[GAME], engine, 250))
    await tab.page.evaluate(audit("countMutations"))
    engine.update("polymarket", "8831", [["0.4", "77"]], [])
    await tab.until_cards(lambda cards: shows(cards[GAME], engine, 250))
    assert 0 < await tab.page.evaluate("() => window.touched") < 40


async def test_out_of_sight(engine: Engine, gateway: Gateway, browser: Browser) -> None:
    """A card that nobody sees is drawn at once for its state, and for its levels when it is seen."""
    tab = await Tab.open(browser, (320, 500))
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2 and all(shows(c, engine) for c in cards.values()))

    async def hidden() -> bool:
        for _ in range(5):
            engine.update("kalshi", "KXFED-26DEC-C25", [["0.515", f"{engine.published}"]], [])
        engine.update("kalshi", "KXFED-26DEC-C50", [["0.515", f"{engine.published}"]], [])
        cards = await tab.until_cards(lambda cards: shows(cards[FED_50], engine))
        return not shows(cards[FED_25], engine)

    await tab.until(hidden)
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="down", why="venue_silent")
    await tab.until_cards(lambda cards: cards[FED_25]["state"] == "degraded")
    engine.update("polymarket", "6519", [["0.515", "77"]], [])
    await tab.page.locator(f'[data-book="{FED_25}"]').scroll_into_view_if_needed()
    await tab.until_cards(lambda cards: shows(cards[FED_25], engine))
    await tab.close()


async def test_trades_and_measurements(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """Trades appear newest first, and the page measures messages, latency and its round trip."""
    await tab.page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    for number in range(3):
        engine.normalised(
            "trade",
            "kalshi",
            "KXFED-26DEC-C25",
            price="0.53",
            size=f"{number}.5",
            side="buy",
            id=f"t{number}",
        )
    rows = tab.page.locator("#trades tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("2.5")
    await expect(rows.first).to_contain_text("0.53")

    async def measured() -> bool:
        engine.step()
        texts = await tab.page.eval_on_selector_all(".meter dd", "(all) => all.map((one) => one.textContent)")
        return "–" not in texts

    await tab.until(measured)
    await expect(tab.page.locator("#m-exact")).to_have_text("2 of 2")


async def test_playground(engine: Engine, gateway: Gateway, tab: Tab) -> None:
    """An example is sent as it stands and the raw frames are shown; wrong JSON is told and not sent."""
    page = tab.page
    await page.goto(url(gateway))
    await tab.until_cards(lambda cards: len(cards) == 2)
    await page.get_by_role("link", name="Playground").click()
    message = page.get_by_label("Message to send")
    await expect(message).not_to_have_value("")
    assert json.loads(await message.input_value())["books"] == ["fed-2026-12.>"]
    await message.press("Control+Enter")
    log = page.locator("#log")
    for kind in ("welcome", "sent", "subscribed", "snapshot"):
        await expect(log.locator(f".tag-{kind}").first).to_be_visible()
    shown = await log.locator("li", has=page.locator(".tag-snapshot")).locator("code").all_inner_texts()
    assert all(json.loads(text)["type"] == "snapshot" for text in shown)
    entry = log.locator("details", has=page.locator(".tag-subscribed")).first
    await entry.locator("summary").click()
    await expect(entry.locator("pre")).to_contain_text("matched")
    assert json.loads(await entry.locator("pre").inner_text())["matched"] == 2
    await message.fill("{")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#play-fault")).to_contain_text("not JSON")
    await page.get_by_label("Example").select_option("A pattern that is none")
    await page.get_by_role("button", name="Send").click()
    await expect(log.locator(".tag-error").first).to_be_visible()
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.locator("#play-state")).to_have_text("Not connected")
    # What is sent while the old connection closes goes on a new one, and nothing old is shown any more.
    await page.get_by_role("button", name="Connect").click()
    await expect(page.locator("#play-state")).to_have_text("Connected")
    await page.get_by_label("Example").select_option("Ping")
    await page.evaluate(
        "() => ['play-link', 'log-clear'].forEach((id) => document.getElementById(id).click())"
    )
    await page.get_by_role("button", name="Send").click()
    await expect(log.locator(".tag-pong")).to_have_count(1)
    await expect(page.locator("#play-state")).to_have_text("Connected")


async def test_token_is_asked_for(engine: Engine, start: Starter, tab: Tab, tmp_path: Path) -> None:
    """A gateway with tokens: the page asks, and asks again after a wrong one; the right one shows books."""
    tab.expected = ("WebSocket connection to",)
    tokens = tmp_path / "tokens.json"
    hashed = hashlib.sha256(b"open sesame").hexdigest()
    tokens.write_text(
        json.dumps({"tokens": [{"sha256": hashed, "scopes": [">"], "expires": 2_000_000_000_000_000}]})
    )
    tokens.chmod(0o600)
    gateway = await start(tokens_file=str(tokens))
    engine.marks()
    await ready(gateway)
    await tab.page.goto(url(gateway))
    dialog = tab.page.get_by_role("dialog", name="This gateway asks for a token")
    await expect(dialog).to_be_visible()
    await tab.page.get_by_label("Token", exact=True).fill("wrong")
    await tab.page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("4401")
    await tab.page.get_by_label("Token", exact=True).fill("open sesame")
    await tab.page.keyboard.press("Enter")
    await tab.until_cards(
        lambda cards: len(cards) == 2 and all(shows(card, engine) for card in cards.values())
    )
    assert "sesame" not in await tab.page.content()
