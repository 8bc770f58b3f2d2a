"""When to ask again for a book that does not come, and when to give the connection up: shared by venues."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPAIR_US = 5_000_000
REPAIRS = 3
"""Requests in a row without an answer after which the connection itself is in question."""
PAUSE_US = 250_000
"""Between two requests for one asset: a loss that comes back with every answer must not become a storm."""
_LONGEST = 6
"""Doublings of the wait: 5 s, then up to 320 s."""
UNREPAIRED = "unrepaired"
"""The reason that asks for another connection."""


class Repairs:
    """Counts requests per asset since its last whole book on this connection.

    An asset that had a book and does not get another, or a connection on which no asset ever had one, is the
    connection's fault. An asset that never had a book beside others that have is its own: a market that the
    venue does not list takes no connection down, and is asked for ever more rarely.
    """

    __slots__ = ("_asked_us", "_attempts", "_served", "_works")

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._served: set[str] = set()
        self._asked_us: dict[str, int] = {}
        self._works = False
        """Some asset had a book here."""

    def forget(self, asset_id: str) -> None:
        """The asset is not followed any more."""
        self._attempts.pop(asset_id, None)
        self._served.discard(asset_id)
        self._asked_us.pop(asset_id, None)

    def __len__(self) -> int:
        """Assets that something is known of."""
        return max(len(self._attempts), len(self._served), len(self._asked_us))

    def __iter__(self) -> Iterator[str]:
        return iter({*self._attempts, *self._served, *self._asked_us})

    def answered(self, asset_id: str) -> None:
        """A whole book came."""
        self._attempts.pop(asset_id, None)
        self._served.add(asset_id)
        self._works = True

    def attempts(self, asset_id: str) -> int:
        """Requests so far without an answer."""
        return self._attempts.get(asset_id, 0)

    def too_soon(self, asset_id: str, now_us: int) -> int | None:
        """When a book that was just lost may be asked for, if that is not now."""
        asked_us = self._asked_us.get(asset_id)
        if asked_us is not None and now_us - asked_us < PAUSE_US:
            return asked_us + PAUSE_US
        self._asked_us[asset_id] = now_us
        return None

    def ask(self, asset_id: str, why: str, now_us: int) -> tuple[str, int]:
        """One more request: the reason to give for it, and microseconds until the next one."""
        self._asked_us[asset_id] = now_us
        attempts = self._attempts[asset_id] = self._attempts.get(asset_id, 0) + 1
        beyond = attempts - REPAIRS
        if beyond >= 0 and (asset_id in self._served or not self._works):
            why = UNREPAIRED
        return why, REPAIR_US << min(max(beyond, 0), _LONGEST)
