"""A client that we did not write reads the simulators and ends with the true books.

`synpath` has habits of its own: no `use_yes_price`, no `initial_dump`, no array of ids in one first frame,
repair by unsubscribe and subscribe, its own decoder. It is no dependency: without it these tests skip.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wup.sim.faults import Fault
from wup.sim.fixed import micro

synpath = pytest.importorskip("synpath", reason="the package synpath is not installed")
credentials_module = pytest.importorskip("synpath.trading.credentials")

if TYPE_CHECKING:
    from wup.sim import Simulators


def levels(book: Any) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """A synpath book in millionths."""
    bids, asks = book.levels()
    return tuple(  # type: ignore[return-value]
        [(micro(format(level.price, "f")), micro(format(level.size, "f"))) for level in side]
        for side in (bids, asks)
    )


async def agree(
    simulators: Simulators, platform: str, stream: Any, wanted: dict[str, tuple[str, str]]
) -> None:
    """Read a while, stop the engine, read what is left: then every book is the true one.

    `wanted`: asset -> (market, side) as the stream names it.
    """
    events = stream.events()

    def differing() -> list[str]:
        return [
            asset
            for asset, (market, side) in wanted.items()
            if (book := stream.book(market, side)) is None
            or not book.ready
            or levels(book) != simulators.model.by_asset[platform, asset].truth(asset)
        ]

    for _ in range(600):
        await asyncio.wait_for(anext(events), 10)
    simulators.fault(Fault(kind="restart", venue=platform, seconds=60))  # type: ignore[arg-type]
    while differing():
        try:
            await asyncio.wait_for(anext(events), 10)
        except TimeoutError:
            break
    assert differing() == []


async def test_kalshi_stream(simulators: Simulators) -> None:
    """KalshiStream builds the true books, also after a number was skipped."""
    env = simulators.env()
    pem = await asyncio.to_thread(Path(env["KALSHI_PRIVATE_KEY_PATH"]).read_bytes)
    credentials = credentials_module.KalshiCredentials(env["KALSHI_API_KEY_ID"], pem)
    stream = synpath.KalshiStream(credentials, url=env["KALSHI_WS_URL"])
    tickers = list(simulators.exchanges["kalshi"].markets)
    simulators.fault(Fault(kind="skip_seq", every=100))
    async with stream:
        await stream.watch_order_book(tickers[:3])
        await stream.watch_order_book(tickers)
        await stream.watch_trades(tickers)
        await agree(simulators, "kalshi", stream, {name: (name, "yes") for name in tickers})
    assert [done.kind for done in simulators.exchanges["kalshi"].menu.done] == ["skip_seq", "restart"]


async def test_polymarket_stream(simulators: Simulators) -> None:
    """PolymarketMarketStream builds the true books of both tokens."""
    env = simulators.env()
    stream = synpath.PolymarketMarketStream(
        url=env["POLYMARKET_WS_URL"], gamma_url=env["POLYMARKET_GAMMA_URL"]
    )
    markets = list(simulators.exchanges["polymarket"].markets.values())
    wanted = {
        asset: (market.listing.market_id, side)
        for market in markets
        for asset, side in zip(market.listing.assets, ("yes", "no"), strict=True)
    }
    async with stream:
        await stream.watch_order_book([market.listing.market_id for market in markets])
        await agree(simulators, "polymarket", stream, wanted)
