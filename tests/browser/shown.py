"""What the page shows, held against the store, and what audit.js finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import mirror_message

if TYPE_CHECKING:
    from browser.tab import Tab
    from gateway.engine import Engine
    from wup.gateway import Gateway

ROWS = 8
AUDIT = Path(__file__).with_name("audit.js").read_text()


def url(gateway: Gateway, path: str = "") -> str:
    return f"http://127.0.0.1:{gateway.port}/{path}"


def audit(name: str) -> str:
    """A function of audit.js, to run in the page."""
    return f"() => ({AUDIT}).{name}()"


def said(legs: dict[str, str]) -> str:
    return ", ".join(f"{leg} {size}" for leg, size in legs.items())


async def faded(tab: Tab) -> bool:
    """Do the ladders look as if they were not live?"""
    opacity = await tab.page.eval_on_selector(".ladder table", "(table) => getComputedStyle(table).opacity")
    return float(opacity) < 0.5


def shows(card: dict[str, Any], engine: Engine, rows: int = ROWS, no: bool = False) -> bool:
    """Does a card show exactly the store's book: levels, sizes per leg, best prices, state, seq?"""
    book = card["book"].removesuffix(".no") + ".yes" if no else card["book"]
    want = orjson.loads(engine.store.snapshot(book))
    if no:
        want = orjson.loads(mirror_message(orjson.dumps(want)))
    for side in ("bids", "asks"):
        levels = [[price, size, said(legs)] for price, size, legs in want[side][:rows]]
        if [row[:3] for row in card[side]] != levels:
            return False
    best = [want[side][0][0] if want[side] else "–" for side in ("bids", "asks")]
    return [card["bid"], card["ask"], card["state"], card["seq"], card["crossed"]] == [
        *best,
        want["state"],
        want["seq"],
        want["crossed"],
    ]
