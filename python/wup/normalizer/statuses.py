"""The market's own status: what the venue said about the market and not about a connection.

A halt, or an end, is told once, on the connection that happened to be open then. It is held here over
reconnects, moves from one connection to another and changes of the mapping; every change is told as a
`status` record, so that a recording whose beginning is gone still has it. A halt ends when the venue says so,
when an order placed after it proves that trading goes on, or when the mapping, which said halted while it
was held, says so no more, by a word that no cache can have kept from before. An end has no end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

RESUMED_US = 2_000_000
"""Venue time after a halt from which a placed order proves that trading goes on: what was on its way when the
halt was told is older."""
LISTED_HALT = "halted"
"""The mapping's word for a leg that the venue's catalogue lists as halted (mapping.md section 3)."""
CACHED_US = 18_000_000
"""How long after a halt was told the venue's catalogue must have been asked for its word to be about the time
since: an answer may lie in a cache for some 15 s, and clocks of two machines differ."""
KEPT = 100_000
"""Markets whose status is held; beyond that those that ended first are forgotten."""

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""(platform, asset, fields of the `status` record)."""


class Status:
    """A market that is not open.

    `venue_us`: the latest venue time known when it was told. `told_us`: wall time when the stream told it
    last; None: only the mapping did. `listed`: the mapping said so too while it was held.
    """

    __slots__ = ("listed", "result", "status", "told_us", "venue_us", "why")

    def __init__(
        self,
        status: Literal["halted", "closed"],
        why: str,
        result: str | None = None,
        venue_us: int | None = None,
        listed: bool = False,
        told_us: int | None = None,
    ) -> None:
        self.status = status
        self.why = why
        self.result = result
        self.venue_us = venue_us
        self.listed = listed
        self.told_us = told_us

    def over_at(self, asked_us: int | None) -> bool:
        """Is what the catalogue said when it was asked then about the time after the halt was told?"""
        return self.told_us is None or (asked_us is not None and asked_us >= self.told_us + CACHED_US)

    def fields(self) -> dict[str, Any]:
        """As the `status` record has them."""
        return {
            "status": self.status,
            "why": self.why,
            "result": self.result,
            "venue_us": self.venue_us,
            "listed": self.listed,
            "told_us": self.told_us,
        }


class Statuses:
    """Every market that is not open, also of assets that are not followed just now."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._held: dict[tuple[str, str], Status] = {}
        self._round: list[tuple[str, str]] = []
        """What this round of telling all once more goes through."""
        self._part = 0

    def of(self, platform: str, asset_id: str) -> Status | None:
        """None: open, or never heard of."""
        return self._held.get((platform, asset_id))

    def hold(
        self,
        platform: str,
        asset_id: str,
        status: Literal["halted", "closed"],
        why: str,
        *,
        result: str | None = None,
        venue_us: int | None = None,
        listed: bool = False,
        told_us: int | None = None,
    ) -> Status:
        """The market is halted or closed; said again it only adds what was not known."""
        key = (platform, asset_id)
        held = self._held.get(key)
        if held is None or (held.status == "halted" and status == "closed"):
            held = self._held[key] = Status(status, why, result, venue_us, listed, told_us)
            if len(self._held) > KEPT:
                self._forget()
            self._told(key, held)
            return held
        before = held.fields()
        if held.status == status:
            held.result = result or held.result
            held.listed = held.listed or listed
            if venue_us is not None or not listed:
                # Told once more: what came before proves nothing any longer.
                held.venue_us = venue_us
            if told_us is not None:
                held.told_us = told_us
        if held.fields() != before:
            self._told(key, held)
        return held

    def opened(self, platform: str, asset_id: str) -> bool:
        """The halt is over; False when there was none, or the market is closed."""
        key = (platform, asset_id)
        held = self._held.get(key)
        if held is None or held.status != "halted":
            return False
        del self._held[key]
        self._tell(platform, asset_id, {"asset": asset_id, "status": "open"})
        return True

    def proves(self, platform: str, asset_id: str, venue_us: int | None) -> bool:
        """Does an order placed at this venue time prove that trading goes on?"""
        key = (platform, asset_id)
        held = self._held.get(key)
        if held is None or held.status != "halted" or venue_us is None:
            return False
        if held.venue_us is None:
            # No time was told with the halt: it is hardly later than this, which may have been on its way.
            held.venue_us = venue_us
            self._told(key, held)
        return venue_us >= held.venue_us + RESUMED_US

    def again(self, parts: int, followed: Callable[[str, str], bool]) -> None:
        """Tell the next of so many parts once more, for a log may have lost its beginning: each halt, and the
        ends of what is followed."""
        if self._part == 0:
            self._round = list(self._held)
        count, part = len(self._round), self._part
        for key in self._round[part * count // parts : (part + 1) * count // parts]:
            held = self._held.get(key)
            if held is not None and (held.status == "halted" or followed(*key)):
                self._told(key, held)
        self._part = (part + 1) % parts

    def _forget(self) -> None:
        """The oldest end: a halt may still be one that is waited for."""
        oldest = next((key for key, held in self._held.items() if held.status == "closed"), None)
        if oldest is not None:
            del self._held[oldest]

    def _told(self, key: tuple[str, str], held: Status) -> None:
        told = {name: value for name, value in held.fields().items() if value}
        self._tell(*key, {"asset": key[1], **told})
