"""The normalizer instances that feed us, known by their marks (wire.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TWO_MARKS_S = 2.5


@dataclass(slots=True)
class _Instance:
    heard: float
    assets: set[str] = field(default_factory=set)


class Upstream:
    """Which instance speaks for which assets, and when it was last heard. Times are monotonic seconds.

    Each snapshot waits for a mark that names its asset, from an instance that speaks for it: who dies between
    an answer and its first mark is in no list of instances, and would never be missed.

    Args:
        vouched: whether a mark has named (platform, asset) since it came back, whatever came here.
    """

    def __init__(self, vouched: Callable[[str, str], bool]) -> None:
        self._vouched = vouched
        self._instances: dict[tuple[str, str], _Instance] = {}
        self._gone: dict[str, float] = {}
        self._unmarked: dict[tuple[str, str], float] = {}

    def snapshot(self, key: tuple[str, str], now: float) -> None:
        """A snapshot of (platform, asset) came: a mark is due."""
        self._unmarked.setdefault(key, now)

    def heard(self, platform: str, instance: str, assets: Iterable[str], now: float) -> None:
        """A mark of `instance` that names `assets`, for all of which it speaks; an asset belongs to the
        instance that named it last.

        An instance is remembered from the first asset that it names.
        """
        named = set(assets)
        entry = self._instances.get((platform, instance))
        if entry is None:
            if not named:
                return
            entry = self._instances[platform, instance] = _Instance(now)
        entry.heard = now
        self._gone.pop(platform, None)
        for asset in named:
            self._unmarked.pop((platform, asset), None)
        for other, them in self._instances.items():
            if other != (platform, instance) and other[0] == platform:
                them.assets -= named
        entry.assets |= named

    def silent(self, now: float) -> list[tuple[str, str]]:
        """(platform, asset) of instances that missed two marks, and of snapshots that no mark came after;
        each is told once."""
        lost: list[tuple[str, str]] = []
        for key, entry in list(self._instances.items()):
            if now - entry.heard >= TWO_MARKS_S:
                lost += [(key[0], asset) for asset in sorted(entry.assets)]
                del self._instances[key]
                self._gone.setdefault(key[0], entry.heard)
        for key, came in [each for each in self._unmarked.items() if now - each[1] >= TWO_MARKS_S]:
            del self._unmarked[key]
            # Else the snapshot was a repeat, or an older process's, and changed nothing.
            if not self._vouched(*key):
                lost.append(key)
                self._gone.setdefault(key[0], came)
        return list(dict.fromkeys(lost))

    def late(self, now: float) -> dict[str, float]:
        """Seconds since the marks of each platform's most silent instance that speaks for something, or spoke
        until it fell silent and nobody came after it."""
        late = {platform: now - heard for platform, heard in self._gone.items()}
        for (platform, _), entry in self._instances.items():
            if entry.assets:
                late[platform] = max(late.get(platform, 0.0), now - entry.heard)
        return late
