"""The audit: shown books beside the venue's REST, for what no stream reveals (one mute market).

A sample of the followed books is compared all the time, the busiest often and each of the others in its turn,
within the venue's limits and spread over the time there is. The normalizer, which knows the books, compares
(`wup.normalizer.audit`); here it is decided what to ask for and what follows. Once different proves nothing:
the book is compared again at once, and only twice different takes the leg to `resync`, as a verdict on the
bus like every decision that a clock or a failure makes, so that a recording holds it.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from wup import logs, subjects
from wup.errors import BusError
from wup.mapping.catalogue import CatalogueError
from wup.metrics import AUDITS, VERDICTS
from wup.raw import Meta
from wup.venues.base import VenueUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.aggregator.group import Group
    from wup.bus import Bus
    from wup.clock import Clock
    from wup.venues.base import BookAudit, RestBook

BUSIEST = 200
WHOLE_S = 600.0
"""In which every followed book is compared once."""
SLICE = 50
"""Books in one call: the venues would take more, but reading those would stall the loop for milliseconds."""
AROUND_S = 1.0
"""How long before the request and after the answer the shown book may have been what REST says."""
ANSWER_S = 5.0
HELD_S = 30.0
"""After a verdict the same book is left alone for so long, doubled each time it is still wrong."""
LONGEST_HELD_S = 900.0
_NOBODY = "none.0"
_WRONG = ("different", "silent")


@dataclass(slots=True)
class _Strikes:
    count: int
    until: float


class Auditor:
    """Audits one venue's books, until it is cancelled.

    Args:
        source: the venue's books by REST.
    """

    def __init__(self, group: Group, source: BookAudit, bus: Bus, clock: Clock) -> None:
        self._group = group
        self._source = source
        self._bus = bus
        self._clock = clock
        self._platform = group.venue.name
        self._every_s = group.limits.audit_s
        self._around_s = min(AROUND_S, self._every_s / 4)
        self._number = 0
        self._turn = 0.0
        """How far through the books the turn of all is, as a share of one round."""
        self._place = 0
        self._strikes: dict[str, _Strikes] = {}

    async def run(self) -> None:
        """Audit for ever; a fault costs one slice."""
        while True:
            sample = self.sample()
            size = min(SLICE, self._source.batch)
            slices = [sample[start : start + size] for start in range(0, len(sample), size)]
            async with asyncio.TaskGroup() as tasks:
                for assets in slices:
                    tasks.create_task(self._slice(assets), name=f"audit-{self._platform}")
                    await asyncio.sleep(self._every_s / len(slices))
            if not slices:
                await asyncio.sleep(self._every_s)

    async def _slice(self, assets: Sequence[str]) -> None:
        try:
            await self._examine(assets)
        except Exception as error:
            logs.bad_input("aggregator", self._platform, "audit_failed", repr(error))

    async def close(self) -> None:
        """Release connections to the venue."""
        await self._source.close()

    def sample(self) -> list[str]:
        """What to compare now: the busiest, and of the others those whose turn it is."""
        activity, now = self._group.activity, self._clock.monotonic()
        known = sorted(self._group.assets())
        for asset in self._strikes.keys() - set(known):
            del self._strikes[asset]
        ready = [asset for asset in known if asset not in self._strikes or self._strikes[asset].until <= now]
        busiest = heapq.nlargest(BUSIEST, ready, key=lambda asset: activity.get(asset, 0))
        chosen = set(busiest)
        others = [asset for asset in ready if asset not in chosen]
        self._turn += len(others) * self._every_s / WHOLE_S
        count = min(int(self._turn), len(others))
        self._turn -= count
        if not others:
            return busiest
        start = self._place % len(others)
        self._place = start + count
        return [*busiest, *(others + others)[start : start + count]]

    async def _examine(self, assets: Sequence[str]) -> None:
        first = await self._compare(assets)
        suspects = [asset for asset, verdict in first.items() if verdict in _WRONG]
        for asset, verdict in first.items():
            if verdict == "same":
                self._strikes.pop(asset, None)
        if not suspects:
            return
        moving = sum(verdict == "different" for verdict in first.values())
        if moving > max(5, len(first) // 2):
            # Streams that bring changes are not all wrong at once: what REST says is not what is now.
            logs.bad_input("aggregator", self._platform, "rest_in_doubt", f"{moving} of {len(first)} differ")
            return
        second = await self._compare(suspects)
        for asset in suspects:
            again = second.get(asset)
            if again in _WRONG:
                self._condemn(asset, "venue_silent" if again == "silent" else "gap")

    async def _compare(self, assets: Sequence[str]) -> dict[str, str]:
        """A verdict for each asset that could be compared (`wup.normalizer.audit`)."""
        self._number += 1
        audit, subject = f"{id(self):x}-{self._number}", subjects.audit(self._platform)
        self._bus.publish(subject, orjson.dumps({"audit": audit, "watch": assets}))
        await asyncio.sleep(self._around_s)
        try:
            books = await self._source.books(assets)
        except (CatalogueError, VenueUnavailable) as error:
            AUDITS.labels(self._platform, "unanswered").inc(len(assets))
            logs.bad_input("aggregator", self._platform, "audit_unanswered", str(error))
            return {}
        await asyncio.sleep(self._around_s)
        request = orjson.dumps({"audit": audit, "books": {book.asset_id: _fields(book) for book in books}})
        try:
            answers = await self._bus.request_many(subject, request, timeout=ANSWER_S)
        except BusError as error:
            AUDITS.labels(self._platform, "uncompared").inc(len(assets))
            logs.bad_input("aggregator", self._platform, "audit_uncompared", str(error))
            return {}
        found: dict[str, str] = {}
        for answer in answers:
            found.update(orjson.loads(answer.payload))
        for verdict in found.values():
            AUDITS.labels(self._platform, verdict).inc()
        return found

    def _condemn(self, asset: str, why: str) -> None:
        """Twice different: the leg leaves until its next whole book, which the normalizer asks for. A book
        that is wrong again after that needs another connection."""
        now = self._clock.monotonic()
        strikes = self._strikes.setdefault(asset, _Strikes(0, 0.0))
        strikes.until = now + min(HELD_S * 2.0**strikes.count, LONGEST_HELD_S)
        strikes.count += 1
        logs.log("aggregator").warning(
            "audit", platform=self._platform, asset=asset, why=why, times=strikes.count
        )
        VERDICTS.labels(self._platform, "resync", why).inc()
        meta = Meta("verdict", self._platform, _NOBODY, self._clock.now_us(), 0)
        body = orjson.dumps({"assets": [asset], "state": "resync", "why": why})
        self._bus.publish(subjects.raw_connection(self._platform, _NOBODY), body, meta.headers())
        if strikes.count > 1:
            self._group.move_away(asset, why)


def _fields(book: RestBook) -> dict[str, object]:
    return {"bids": book.bids, "asks": book.asks, "venue_us": book.venue_us}
