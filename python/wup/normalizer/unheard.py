"""Followed assets of which nothing was ever heard, though their venue is connected.

A normalizer may learn the mapping later than the aggregator did: the subscription and the first books were
then for assets that nobody followed here yet, and nothing would ask again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.normalizer.legs import Asset

LOOK_US = 1_000_000
FIRST_US = 10_000_000
LONGEST_US = 60_000_000


class Unheard:
    """When to ask the venue for first books: after 10 s, then after 20 s, 40 s, and each minute."""

    def __init__(self) -> None:
        self._look_us = 0
        self._due: dict[tuple[str, str], tuple[int, int]] = {}
        """(platform, asset) -> (when to ask, how long to wait after that), microseconds."""

    def wanted(
        self, assets: Mapping[str, Mapping[str, Asset]], connected: Iterable[str], now_us: int
    ) -> dict[str, tuple[str, ...]]:
        """Assets to ask for now, by platform; looks once a second and only where a connection is open."""
        if now_us < self._look_us:
            return {}
        self._look_us = now_us + LOOK_US
        found: dict[str, tuple[str, ...]] = {}
        waiting: dict[tuple[str, str], tuple[int, int]] = {}
        for platform in connected:
            asked: list[str] = []
            for asset_id, asset in assets.get(platform, {}).items():
                if asset.state != "syncing" or asset.owner is not None:
                    continue
                key = (platform, asset_id)
                due_us, wait_us = self._due.get(key, (now_us + FIRST_US, FIRST_US))
                if now_us >= due_us:
                    asked.append(asset_id)
                    wait_us = min(2 * wait_us, LONGEST_US)
                    due_us = now_us + wait_us
                waiting[key] = (due_us, wait_us)
            if asked:
                found[platform] = tuple(asked)
        self._due = waiting
        return found
