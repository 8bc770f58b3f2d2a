"""The normalizer instances that feed us, known by their marks (wire.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wup import logs
from wup.subjects import TWO_MARKS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_INSTANCES = 64
"""Normalizers of one platform that are remembered at a time; a name on the bus costs nothing to invent."""


@dataclass(slots=True)
class _Instance:
    epoch: int
    heard: float
    assets: set[str] = field(default_factory=set)


class Upstream:
    """Which instance speaks for which assets, and when it was last heard. Times are monotonic seconds.

    An epoch belongs to one process. So each snapshot waits for a mark that names its asset, or for any mark
    of its epoch: who dies between an answer and its first mark is in no list of instances, and would never
    be missed.

    Args:
        leg_epoch: the epoch in which (platform, asset) was last heard.
    """

    def __init__(self, leg_epoch: Callable[[str, str], int | None]) -> None:
        self._leg_epoch = leg_epoch
        self._instances: dict[tuple[str, str], _Instance] = {}
        self._gone: dict[str, float] = {}
        self._unmarked: dict[tuple[str, str], float] = {}

    def snapshot(self, key: tuple[str, str], now: float) -> None:
        """A snapshot of (platform, asset) came: a mark is due."""
        self._unmarked.setdefault(key, now)

    def heard(self, platform: str, instance: str, epoch: int, assets: Iterable[str], now: float) -> None:
        """A mark of `instance`, a process with this epoch, that names `assets`, for all of which it speaks;
        an asset belongs to the instance that named it last. Of more instances than `MOST_INSTANCES` those
        that speak for nothing make room, or are not taken, and no others.
        """
        named = set(assets)
        entry = self._instances.get((platform, instance))
        if entry is None:
            if not self._room(platform, named):
                logs.bad_input("orderbook", platform, "too_many_instances", instance)
                return
            entry = self._instances[platform, instance] = _Instance(epoch, now)
        elif epoch < entry.epoch:
            # Left over from a dead process, or a successor whose clock was set back: it is known once the
            # one of before is silent.
            return
        elif epoch > entry.epoch:
            # Another process under the same name, as after a restart in a container: it speaks for what it
            # says itself. What it does not take over in time was the dead one's.
            for asset in entry.assets - named:
                self._unmarked.setdefault((platform, asset), now)
            entry.assets.clear()
        entry.epoch, entry.heard = epoch, now
        self._gone.pop(platform, None)
        for asset in named:
            self._unmarked.pop((platform, asset), None)
        self._give(platform, entry, named)

    def _room(self, platform: str, named: set[str]) -> bool:
        """Is there room for one more instance, that names these assets?"""
        known = [(key, entry) for key, entry in self._instances.items() if key[0] == platform]
        if len(known) < MOST_INSTANCES:
            return True
        idle = [(entry.heard, key) for key, entry in known if not entry.assets]
        if not named or not idle:
            return False
        del self._instances[min(idle)[1]]
        return True

    def _give(self, platform: str, entry: _Instance, assets: set[str]) -> None:
        for (other, _), them in self._instances.items():
            if them is not entry and other == platform:
                them.assets -= assets
        entry.assets |= assets

    def silent(self, now: float) -> list[tuple[str, str]]:
        """(platform, asset) of instances that missed two marks, and of snapshots that no mark came after;
        each is told once."""
        lost: list[tuple[str, str]] = []
        for key, entry in list(self._instances.items()):
            if now - entry.heard >= TWO_MARKS_S:
                lost += [(key[0], asset) for asset in sorted(entry.assets)]
                del self._instances[key]
                if entry.assets:
                    self._gone.setdefault(key[0], entry.heard)
        for key, came in [each for each in self._unmarked.items() if now - each[1] >= TWO_MARKS_S]:
            del self._unmarked[key]
            speaker = self._speaker(*key)
            if speaker is not None:
                # It lives; a busy one's marks may come too late to name all that it said.
                self._give(key[0], speaker, {key[1]})
            else:
                lost.append(key)
                self._gone.setdefault(key[0], came)
        return list(dict.fromkeys(lost))

    def _speaker(self, platform: str, asset: str) -> _Instance | None:
        """The living instance whose process this asset was last heard from."""
        epoch = self._leg_epoch(platform, asset)
        of_platform = (entry for (name, _), entry in self._instances.items() if name == platform)
        return next((entry for entry in of_platform if entry.epoch == epoch), None)

    def late(self, now: float) -> dict[str, float]:
        """Seconds since the marks of each platform's most silent instance that speaks for something, or spoke
        until it fell silent and nobody came after it."""
        late = {platform: now - heard for platform, heard in self._gone.items()}
        for (platform, _), entry in self._instances.items():
            if entry.assets:
                late[platform] = max(late.get(platform, 0.0), now - entry.heard)
        return late
