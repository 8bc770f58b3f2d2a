"""The normalizer instances that feed us, known by their marks (wire.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TWO_MARKS_S = 2.5


@dataclass(slots=True)
class _Instance:
    heard: float
    assets: set[str] = field(default_factory=set)


class Upstream:
    """Which instance speaks for which assets, and when it was last heard."""

    def __init__(self) -> None:
        self._instances: dict[tuple[str, str], _Instance] = {}

    def heard(self, platform: str, instance: str, assets: Iterable[str], now: float) -> None:
        """A mark of `instance` that names `assets`; an asset belongs to the instance that named it last."""
        entry = self._instances.setdefault((platform, instance), _Instance(now))
        entry.heard = now
        named = set(assets)
        for other, them in self._instances.items():
            if other != (platform, instance) and other[0] == platform:
                them.assets -= named
        entry.assets |= named

    def silent(self, now: float) -> list[tuple[str, str]]:
        """(platform, asset) of instances that missed two marks; each instance is told once."""
        lost: list[tuple[str, str]] = []
        for key, entry in list(self._instances.items()):
            if now - entry.heard >= _TWO_MARKS_S:
                lost += [(key[0], asset) for asset in sorted(entry.assets)]
                del self._instances[key]
        return lost
