"""Snapshots that are wanted from the normalizers, and when to ask for which.

Everything at once is what a start needs, and what would keep an overloaded system overloaded: ten thousand
snapshots hold up each stage that handles them, and what is not answered in time would be asked for again.
So only so many requests are under way; the next go out as answers come in, and who does not answer is asked
less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Key = tuple[str, str]
"""(platform, asset)."""

UNDER_WAY = 1_000
_AGAIN_US = 2_000_000
_AGAIN_MOST_US = 8_000_000


@dataclass(slots=True)
class _Wish:
    why: str
    first_us: int
    sent_us: int | None = None
    again_us: int = _AGAIN_US
    under_way: bool = False


class Wishes:
    """Wall times in microseconds come from the caller."""

    def __init__(self) -> None:
        self._wishes: dict[Key, _Wish] = {}
        self._fresh: dict[Key, None] = {}
        self._under_way = 0

    def __len__(self) -> int:
        return len(self._wishes)

    def __contains__(self, key: Key) -> bool:
        return key in self._wishes

    def add(self, keys: Iterable[Key], why: str, now_us: int, *, anew: bool = False) -> None:
        """These are wanted. One that was asked for a moment ago is not asked for again, unless `anew`: what
        was under way is known to be lost."""
        for key in keys:
            wish = self._wishes.get(key)
            if wish is None:
                self._wishes[key] = _Wish(why, now_us)
            elif anew or (wish.sent_us is not None and not 0 <= now_us - wish.sent_us < _AGAIN_US):
                self._settle(wish)
                wish.why, wish.sent_us = why, None
            else:
                continue
            self._fresh[key] = None

    def next(self, now_us: int) -> dict[str, list[Key]]:
        """What to ask for now, by reason; it counts as asked."""
        found: dict[str, list[Key]] = {}
        while self._fresh and self._under_way < UNDER_WAY:
            key = next(iter(self._fresh))
            del self._fresh[key]
            wish = self._wishes[key]
            wish.sent_us, wish.under_way = now_us, True
            self._under_way += 1
            found.setdefault(wish.why, []).append(key)
        return found

    def late(self, now_us: int) -> list[Key]:
        """What was asked for and did not come in time: to be asked for again, after twice the time than the
        last time. It no longer keeps others from being asked for."""
        found: list[Key] = []
        for key, wish in self._wishes.items():
            # A clock stepped back must not keep anybody waiting for hours.
            if wish.sent_us is None or 0 <= now_us - wish.sent_us < wish.again_us:
                continue
            self._settle(wish)
            if len(found) < UNDER_WAY:
                wish.sent_us = now_us
                wish.again_us = min(2 * wish.again_us, _AGAIN_MOST_US)
                found.append(key)
        return found

    def answered(self, key: Key, now_us: int) -> int | None:
        """It came: microseconds since it was wanted; None when it was not."""
        wish = self._wishes.pop(key, None)
        if wish is None:
            return None
        self._settle(wish)
        self._fresh.pop(key, None)
        return max(0, now_us - wish.first_us)

    def keep(self, known: Collection[Key]) -> None:
        """Forget all others."""
        for key in [key for key in self._wishes if key not in known]:
            self._settle(self._wishes.pop(key))
            self._fresh.pop(key, None)

    @property
    def room(self) -> bool:
        """Is it time for the next: some wait, and half of what may be under way is done?"""
        return bool(self._fresh) and self._under_way <= UNDER_WAY // 2

    def _settle(self, wish: _Wish) -> None:
        if wish.under_way:
            wish.under_way = False
            self._under_way -= 1
