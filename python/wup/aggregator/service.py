"""The supervisor: the followed assets, reconciled onto connections by the venues' limits."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import orjson

from wup import logs, subjects
from wup.aggregator.connection import Connection
from wup.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        self._venues = venues
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - jitter
        self._connections: dict[str, list[Connection]] = {name: [] for name in venues}
        self._subscriptions: list[Subscription] = []
        self._marker: asyncio.Task[None] | None = None
        self._made = 0

    async def start(self) -> None:
        """Listen for repair requests and begin to mark; connections come with `set_table`."""
        for platform in self._venues:
            self._subscriptions.append(await self._bus.subscribe(subjects.resync(platform), self._on_resync))
        self._marker = asyncio.create_task(self._mark(), name="aggregator-marks")

    async def stop(self) -> None:
        """Close every connection."""
        for subscription in self._subscriptions:
            await subscription.stop()
        if self._marker is not None:
            self._marker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._marker
        await asyncio.gather(*(c.stop() for group in self._connections.values() for c in group))
        self._connections = {name: [] for name in self._venues}

    async def set_table(self, table: MappingTable) -> None:
        """Follow the assets of `table` from now on; assets that stay keep their connection."""
        for platform, (venue, _) in self._venues.items():
            wanted = list(dict.fromkeys(leg.asset_id for leg in table.assets(platform)))
            await self._reconcile(platform, wanted, venue.limits.assets_per_connection)
        unknown = {leg.platform for leg in table.legs} - set(self._venues)
        for platform in sorted(unknown):
            logs.bad_input("aggregator", platform, "unknown_platform", platform)

    async def _reconcile(self, platform: str, wanted: Sequence[str], room: int) -> None:
        group = self._connections[platform]
        keep = set(wanted)
        plan = [[asset for asset in connection.assets if asset in keep] for connection in group]
        placed = {asset for assets in plan for asset in assets}
        fresh = [asset for asset in wanted if asset not in placed]
        for assets in plan:
            while fresh and len(assets) < room:
                assets.append(fresh.pop(0))
        while fresh:
            plan.append(fresh[:room])
            fresh = fresh[room:]
        for index, assets in enumerate(plan):
            if index < len(group):
                if list(group[index].assets) != assets:
                    group[index].want(assets)
            else:
                connection = self._connection(platform)
                connection.want(assets)
                connection.start()
                group.append(connection)
        for connection in [c for c in group if not c.assets]:
            group.remove(connection)
            await connection.stop()

    def _connection(self, platform: str) -> Connection:
        venue, settings = self._venues[platform]
        self._made += 1
        return Connection(
            f"{platform}-{self._made}",
            lambda: venue.session(settings),
            self._bus,
            self._clock,
            venue.limits,
            self._rng,
        )

    def _on_resync(self, message: Message) -> None:
        """Repair requests for the venue; those for the normalizer's memory (no `source`) are not ours."""
        platform = subjects.split(message.subject)[2]
        try:
            body = orjson.loads(message.payload)
            if body.get("source") != "venue":
                return
            assets, owner, why = body["assets"], body.get("connection"), body.get("why")
        except (orjson.JSONDecodeError, AttributeError, KeyError):
            logs.bad_input("aggregator", platform, "bad_resync", message.payload)
            return
        for connection in self._connections.get(platform, ()):
            if owner is not None and connection.id != owner:
                continue
            if why == _UNREPAIRED:
                connection.replace(_UNREPAIRED)
            else:
                connection.repair(list(connection.assets) if assets == "all" else [str(a) for a in assets])

    async def _mark(self) -> None:
        while True:
            await asyncio.sleep(_MARK_S)
            for group in self._connections.values():
                for connection in group:
                    try:
                        connection.mark()
                    except Exception as error:
                        logs.bad_input("aggregator", connection.platform, "mark_failed", repr(error))

    def health(self) -> dict[str, dict[str, int]]:
        """Per platform: connections planned and open."""
        return {
            platform: {"connections": len(group), "open": sum(c.open for c in group)}
            for platform, group in self._connections.items()
        }
