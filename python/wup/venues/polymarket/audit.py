"""This venue's books by REST. Each carries the hash that proves it, and one that does not prove itself (the
ghost books of section 1.8) is no evidence against anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup import logs
from wup._core import NumberError, VenueBook
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import CatalogueError
from wup.mapping.rest import RestClient
from wup.venues.base import RestBook
from wup.venues.numbers import shortest
from wup.venues.polymarket.adapter import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.clock import Clock
    from wup.model import Level
    from wup.venues.polymarket.settings import PolymarketSettings

PATH = "/books"
# 500 in 10 s are allowed for this call alone (section 3.1): a tenth of it.
_RATE, _BURST = 5.0, 5
RECIPE_LOST = 500
"""Books in a row that do not prove themselves, until the recipe of the hash is taken to have changed."""


class PolymarketAudit:
    """`POST /books`."""

    batch = 250

    def __init__(self, settings: PolymarketSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._rest = RestClient(PLATFORM, settings.polymarket_clob_url, rate=_RATE, burst=_BURST, clock=clock)
        self._unproven = RECIPE_LOST

    async def books(self, assets: Sequence[str]) -> list[RestBook]:
        """See `wup.venues.base.BookAudit`."""
        body = orjson.dumps([{"token_id": asset} for asset in assets])
        answer, _ = await self._rest.fetch("POST", PATH, body=body)
        if not isinstance(answer, list):
            raise CatalogueError(f"{PLATFORM}: {PATH}: not a list")
        books: list[tuple[RestBook, bool]] = []
        for item in answer:
            try:
                books.append(_book(item))
            except (KeyError, TypeError, ValueError, NumberError) as error:
                logs.bad_input("aggregator", PLATFORM, "bad_rest_book", str(item), error=repr(error))
        for _, proven in books:
            self._unproven = 0 if proven else self._unproven + 1
        # Where no book has a hash that we can follow, the levels have to speak for themselves.
        trusted = self._unproven >= RECIPE_LOST
        for book, proven in books:
            if not proven and not trusted:
                logs.bad_input("aggregator", PLATFORM, "unproven_rest_book", book.asset_id)
        return [book for book, proven in books if proven or trusted]

    async def close(self) -> None:
        """Release connections."""
        await self._rest.close()


def _book(item: Any) -> tuple[RestBook, bool]:
    """The book, and whether its hash proves it.

    Raises:
        KeyError, TypeError, ValueError, NumberError: it is no book.
    """
    asset, stamp = item["asset_id"], item["timestamp"]
    bids: list[Level] = [(level["price"], level["size"]) for level in item["bids"]]
    asks: list[Level] = [(level["price"], level["size"]) for level in item["asks"]]
    if not isinstance(asset, str) or not isinstance(stamp, str):
        raise TypeError("asset_id or timestamp is no text")
    book = VenueBook()
    book.replace(bids, asks)
    facts = [item.get(name) for name in ("market", "min_order_size", "tick_size", "last_trade_price")]
    proven = False
    if all(isinstance(fact, str) for fact in facts) and isinstance(item.get("neg_risk"), bool):
        market, min_size, tick, last = facts
        found = book.polymarket_hash(market, asset, stamp, min_size, tick, item["neg_risk"], last)
        proven = found == item.get("hash")
    short = [[(shortest(price), shortest(size)) for price, size in side] for side in (bids, asks)]
    return RestBook(asset, short[0], short[1], int(stamp) * 1000), proven
