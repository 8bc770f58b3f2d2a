"""Normalised messages without levels as bytes (wire.md section 2); those with levels are written natively."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.model import encode, times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.model import LegState
    from wup.normalizer.legs import Asset
    from wup.venues.base import TradeSeen


def state(asset: Asset, epoch: int, to: LegState, why: str, result: str | None) -> bytes:
    """A `state` message; a resolved market's carries the `result`."""
    instrument = asset.instrument
    message: dict[str, object] = {
        "type": "state",
        "platform": instrument.platform,
        "market_id": instrument.market_id,
        "asset_id": instrument.asset_id,
        "epoch": epoch,
        "n": asset.n,
        "state": to,
        "why": why,
    }
    if result is not None:
        message["result"] = result
    return encode(message)


def trade(asset: Asset, epoch: int, seen: TradeSeen, recv_us: int | None, norm_us: int | None) -> bytes:
    """A `trade` message; block trades happened off the book and say so."""
    instrument = asset.instrument
    message: dict[str, object] = {
        "type": "trade",
        "platform": instrument.platform,
        "market_id": instrument.market_id,
        "asset_id": instrument.asset_id,
        "epoch": epoch,
        "n": asset.n,
        "price": seen.price,
        "size": seen.size,
        "side": seen.side,
        "id": seen.trade_id,
        "ts": times(seen.venue_us, recv_us, norm_us),
    }
    if seen.block:
        message["block"] = True
    return encode(message)


def marks(epoch: int, counters: Mapping[str, int]) -> bytes:
    """The marks of one platform."""
    return encode({"type": "marks", "epoch": epoch, "assets": counters})
