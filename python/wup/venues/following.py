"""The assets that are followed, as the normalisers see them: a live mapping that is changed in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.model import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


MIRROR_OF = "mirror_of"
"""Fact of an asset that shows the same orders as another: verified where the venue lets one, never shown."""


KEPT_BESIDE = 64
"""Of so many assets that are not followed something may be kept, besides once as many as are."""


class Discovering(dict[str, Instrument]):
    """A mapping that takes in each asset that a frame names: replay of logs without a mapping.

    `seen` is told about each asset that was taken in.
    """

    def __init__(self, platform: str, seen: Callable[[Instrument], None]) -> None:
        super().__init__()
        self._platform = platform
        self._seen = seen
        self.adopts = True
        """False once a mapping has said what is followed."""

    def adopt(self, asset_id: str, market_id: str) -> Instrument:
        """Follow one more asset."""
        instrument = self[asset_id] = Instrument(self._platform, asset_id, market_id)
        self._seen(instrument)
        return instrument


def find(instruments: Mapping[str, Instrument], asset_id: str, market_id: str) -> Instrument | None:
    """The followed instrument, or None when nobody follows the asset."""
    found = instruments.get(asset_id)
    if found is None and isinstance(instruments, Discovering) and instruments.adopts:
        return instruments.adopt(asset_id, market_id)
    return found


def too_many(kept: int, followed: Collection[str]) -> bool:
    """Is so much kept about assets that a part of it must be about some that are not followed any more?"""
    return kept > 2 * len(followed) + KEPT_BESIDE


class Dropped:
    """Assets that we unsubscribed: what still arrives of them is not shown. The latest ones, for frames on
    their way come within seconds, and a connection may see hundreds of thousands of markets end."""

    KEPT = 10_000

    __slots__ = ("_assets",)

    def __init__(self) -> None:
        self._assets: dict[str, None] = {}

    def add(self, asset_id: str) -> None:
        """Unsubscribed now."""
        self._assets.pop(asset_id, None)
        self._assets[asset_id] = None
        if len(self._assets) > self.KEPT:
            del self._assets[next(iter(self._assets))]

    def discard(self, asset_id: str) -> None:
        """Subscribed again."""
        self._assets.pop(asset_id, None)

    def __contains__(self, asset_id: str) -> bool:
        return asset_id in self._assets
