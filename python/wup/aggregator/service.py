"""The supervisor: the followed assets, reconciled onto connections by the venues' limits."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import orjson

from wup import logs, subjects
from wup.aggregator.audit import Auditor
from wup.aggregator.group import Group
from wup.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.bus import Bus, Message, Subscription
    from wup.mapping.table import MappingTable
    from wup.venues.base import Venue

_MARK_S = 1.0
_UNREPAIRED = "unrepaired"
"""The normaliser's word for repairs that failed again and again: only a new socket helps."""


class Aggregator:
    """Keeps one set of connections per venue.

    Args:
        bus: where raw frames go (`market.>`) and requests come from (`control.resync.*`).
        venues: (venue, its settings) by platform name.
    """

    def __init__(
        self,
        bus: Bus,
        venues: Mapping[str, tuple[Venue, Any]],
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self._bus = bus
        chance = rng if rng is not None else random.Random()  # noqa: S311 - jitter
        self.groups = {
            name: Group(venue, settings, bus, clock, chance) for name, (venue, settings) in venues.items()
        }
        self._auditors = {
            name: Auditor(self.groups[name], venue.audit(settings), bus, clock)
            for name, (venue, settings) in venues.items()
            if venue.audit is not None
        }
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        bus.on_loss(self._lost)

    async def start(self) -> None:
        """Listen for repair requests and begin to mark; connections come with `set_table`."""
        for platform in self.groups:
            self._subscriptions.append(await self._bus.subscribe(subjects.resync(platform), self._on_resync))
        self._tasks.append(asyncio.create_task(self._tick(), name="aggregator-marks"))
        for platform, auditor in self._auditors.items():
            self._tasks.append(asyncio.create_task(auditor.run(), name=f"audit-{platform}"))

    async def stop(self) -> None:
        """Close every connection."""
        for subscription in self._subscriptions:
            await subscription.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(group.stop() for group in self.groups.values()))
        await asyncio.gather(*(auditor.close() for auditor in self._auditors.values()))

    async def set_table(self, table: MappingTable) -> None:
        """Follow the assets of `table` from now on; assets that stay keep their connection."""
        for platform, group in self.groups.items():
            await group.follow(list(dict.fromkeys(leg.asset_id for leg in table.assets(platform))))
        unknown = {leg.platform for leg in table.legs} - set(self.groups)
        for platform in sorted(unknown):
            logs.bad_input("aggregator", platform, "unknown_platform", platform)

    def _on_resync(self, message: Message) -> None:
        """Repair requests for the venue; those for the normalizer's memory (no `source`) are not ours."""
        platform = subjects.split(message.subject)[2]
        try:
            body = orjson.loads(message.payload)
            if body.get("source") != "venue":
                return
            assets, owner, why = body["assets"], body.get("connection"), body.get("why")
            named = None if assets == "all" else [str(asset) for asset in assets]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            logs.bad_input("aggregator", platform, "bad_resync", message.payload)
            return
        self.groups[platform].repair(named, owner, str(why), anew=why == _UNREPAIRED)

    def _lost(self, why: str) -> None:
        """The bus was away: what it held then is gone, and no counter of ours may hide it."""
        if why == "reconnected":
            for group in self.groups.values():
                group.lost()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_MARK_S)
            for platform, group in self.groups.items():
                group.mark()
                try:
                    await group.tick()
                except Exception as error:
                    logs.bad_input("aggregator", platform, "tick_failed", repr(error))

    def health(self) -> dict[str, dict[str, int | str]]:
        """Per platform: connections planned and open, the breaker's state, assets without a place."""
        return {platform: group.health() for platform, group in self.groups.items()}
