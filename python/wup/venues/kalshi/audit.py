"""This venue's books by REST, signed: unsigned answers come from a cache and may be 15 s old (section 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wup import logs
from wup._core import NumberError
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import CatalogueError
from wup.mapping.rest import RestClient
from wup.venues.base import RestBook, VenueUnavailable
from wup.venues.kalshi.adapter import PLATFORM
from wup.venues.kalshi.auth import KeyUnusable, Signer
from wup.venues.numbers import complement, shortest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.clock import Clock
    from wup.model import Level
    from wup.venues.kalshi.settings import KalshiSettings

PATH = "/markets/orderbooks"
# A Basic account has 20 signed reads a second for everything; discovery is unsigned and not billed.
_RATE, _BURST = 2.0, 4


class KalshiAudit:
    """Signed `GET /markets/orderbooks`."""

    batch = 100

    def __init__(self, settings: KalshiSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._rest = RestClient(PLATFORM, settings.kalshi_api_url, rate=_RATE, burst=_BURST, clock=clock)
        self._path = urlsplit(settings.kalshi_api_url).path.rstrip("/") + PATH
        self._signer: Signer | None = None

    async def books(self, assets: Sequence[str]) -> list[RestBook]:
        """See `wup.venues.base.BookAudit`."""
        answer, headers = await self._rest.fetch(
            "GET", PATH, params=[("tickers", ticker) for ticker in assets], sign=self._sign
        )
        age = headers.get("age", "0")
        if age != "0":
            raise CatalogueError(f"{PLATFORM}: {PATH}: from a cache, {logs.clean(age)} s old")
        found = answer.get("orderbooks") if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise CatalogueError(f"{PLATFORM}: {PATH}: answer without `orderbooks`")
        books: list[RestBook] = []
        for item in found:
            try:
                books.append(_book(item))
            except (KeyError, TypeError, ValueError, NumberError) as error:
                logs.bad_input("aggregator", PLATFORM, "bad_rest_book", str(item), error=repr(error))
        return books

    async def _sign(self) -> dict[str, str]:
        settings = self._settings
        if settings.kalshi_api_key_id is None or settings.kalshi_private_key_path is None:
            raise VenueUnavailable("no_credentials", "the audit's requests must be signed")
        try:
            if self._signer is None:
                self._signer = await asyncio.to_thread(
                    Signer, settings.kalshi_api_key_id, settings.kalshi_private_key_path
                )
        except KeyUnusable as error:
            raise VenueUnavailable("no_credentials", str(error)) from None
        return await asyncio.to_thread(self._signer.headers, "GET", self._path, self._clock.now_us())

    async def close(self) -> None:
        """Release connections."""
        await self._rest.close()


def _book(item: Any) -> RestBook:
    """Two ladders of bids; a NO bid is a YES ask at the complement (rule 5).

    Raises:
        KeyError, TypeError, ValueError, NumberError: it is no book.
    """
    ticker, ladders = item["ticker"], item["orderbook_fp"]
    if not isinstance(ticker, str):
        raise TypeError("ticker is no text")
    bids: list[Level] = [(shortest(price), shortest(size)) for price, size in ladders["yes_dollars"]]
    asks: list[Level] = [(complement(price), shortest(size)) for price, size in ladders["no_dollars"]]
    return RestBook(ticker, bids, asks, None)
