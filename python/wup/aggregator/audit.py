"""The audit: shown books beside the venue's REST, for what no stream reveals (one mute market).

A sample of the followed books is compared all the time, the busiest often and each of the others in its turn,
within the venue's limits and spread over the time there is. The normalizer, which knows the books, compares
(`wup.normalizer.audit`); here it is decided what to ask for and what follows. Once different proves nothing:
the book is compared again, and only twice different takes the leg to `resync`, as a verdict on the bus like
every decision that a clock or a failure makes, so that a recording holds it. Where most of a slice is twice
different, one book alone is tried: the others follow only if its fresh book really is another one.
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
    from collections.abc import Collection, Mapping, Sequence

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
UNDATED_S = 2.0
"""Until an answer without the venue's time is asked for again: the same late answer would only repeat it."""
DOUBT_S = 300.0
"""After a book was taken away for nothing, no further one is tried for so long."""
CONFIRMED_S = 60.0
"""After a tried book has shown its subscription to be mute, whatever else is wrong follows for so long."""
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
        self._undated_s = min(UNDATED_S, self._every_s / 4)
        self._fresh_s = min(group.limits.first_book_s, self._every_s / 2)
        """In which a condemned book's fresh one comes."""
        self._undated: set[str] = set()
        """Assets whose last answer had no time."""
        self._trial = asyncio.Lock()
        self._doubted_until = 0.0
        self._confirmed_until = 0.0
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
        self._undated.intersection_update(known)
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
            self._doubt(f"{moving} of {len(first)} differ")
            return
        if not self._undated.isdisjoint(suspects):
            await asyncio.sleep(self._undated_s)
        second = await self._compare(suspects)
        wrong = {asset: second[asset] for asset in suspects if second.get(asset) in _WRONG}
        compared = sum(verdict == "same" or verdict in _WRONG for verdict in first.values())
        if 2 * len(wrong) > compared:
            await self._try_one(wrong, compared)
        else:
            self._condemn_all(wrong, wrong)

    async def _try_one(self, wrong: Mapping[str, str], compared: int) -> None:
        """Either a whole subscription is mute or REST is not what it seems: one book's fresh one tells, for
        this slice and for those that wait for it."""
        if self._trial.locked():
            async with self._trial:
                pass
            if self._confirmed():
                third = await self._compare(list(wrong))
                self._condemn_all(wrong, third)
                return
            # Not one trial after another: the next round tries again.
        elif self._confirmed():
            self._condemn_all(wrong, wrong)
            return
        elif self._clock.monotonic() >= self._doubted_until:
            async with self._trial:
                await self._try(wrong, compared)
            return
        self._doubt(f"{len(wrong)} of {compared} wrong")

    async def _try(self, wrong: Mapping[str, str], compared: int) -> None:
        # A quiet book will hardly change by itself just now.
        activity = self._group.activity
        tried = min(wrong, key=lambda asset: (wrong[asset] != "silent", activity.get(asset, 0)))
        third = await self._compare(list(wrong), condemned=(tried, _why(wrong[tried])))
        found = third.pop(tried, None)
        # Another book without a message in between: the stream was mute, whatever REST says by now. One that
        # does not come at all is what a dead subscription looks like.
        if found in ("same", "not_live") or (found == "replaced" and wrong[tried] == "silent"):
            self._confirmed_until = self._clock.monotonic() + CONFIRMED_S
            self._condemn_all(wrong, third)
            return
        if found in ("unfounded", "replaced"):
            self._doubted_until = self._clock.monotonic() + DOUBT_S
        # Anything else proves nothing, for or against: the next round tries again.
        self._doubt(f"{len(wrong)} of {compared} wrong, and {tried} was {found} by its fresh book")

    def _confirmed(self) -> bool:
        return self._clock.monotonic() < self._confirmed_until

    def _condemn_all(self, assets: Collection[str], verdicts: Mapping[str, str]) -> None:
        """Those of them that are wrong by the latest comparison."""
        for asset in assets:
            verdict = verdicts.get(asset)
            if verdict in _WRONG:
                self._condemn(asset, _why(verdict))

    def _doubt(self, detail: str) -> None:
        logs.bad_input("aggregator", self._platform, "rest_in_doubt", detail)

    async def _compare(
        self, assets: Sequence[str], condemned: tuple[str, str] | None = None
    ) -> dict[str, str]:
        """A verdict for each asset that could be compared (`wup.normalizer.audit`).

        Args:
            condemned: an asset that is taken to `resync` while it is watched, and why; its fresh book is
                waited for.
        """
        self._number += 1
        audit, subject = f"{id(self):x}-{self._number}", subjects.audit(self._platform)
        self._bus.publish(subject, orjson.dumps({"audit": audit, "watch": assets}))
        if condemned is not None:
            self._condemn(*condemned)
            await asyncio.sleep(self._fresh_s)
        await asyncio.sleep(self._around_s)
        try:
            books = await self._source.books(assets)
        except (CatalogueError, VenueUnavailable) as error:
            AUDITS.labels(self._platform, "unanswered").inc(len(assets))
            logs.bad_input("aggregator", self._platform, "audit_unanswered", str(error))
            return {}
        self._undated.difference_update(assets)
        self._undated.update(book.asset_id for book in books if book.venue_us is None)
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


def _why(verdict: str) -> str:
    return "venue_silent" if verdict == "silent" else "gap"


def _fields(book: RestBook) -> dict[str, object]:
    return {"bids": book.bids, "asks": book.asks, "venue_us": book.venue_us}
