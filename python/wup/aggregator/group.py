"""The connections of one venue: assets placed on them, and moved between them without a gap.

A move makes before it breaks: the new connection subscribes, and the old one gives up each asset whose book
the new one has brought, not before it has been open for as long as first books may take. Until then both
bring them; the normalizer shows the asset from the connection that has it live and goes over to the other
when that one ends. What the new one has not brought at the deadline of the move stays where it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wup import logs
from wup.aggregator.connection import Connection
from wup.aggregator.gate import Gate
from wup.aggregator.plan import gathered, halved, spread
from wup.metrics import UNPLACED

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Sequence
    from typing import Any

    from wup.bus import Bus
    from wup.clock import Clock
    from wup.venues.base import Venue

_OLD_S = 300.0
_MOVE_BOOKS = 6
"""Deadline of a move, in times of a first book: a target may have to connect more than once."""
_CALM_S = 300.0
"""After a move that came to nothing, none that is merely useful."""
_DECAY_S = 60.0
"""After so long old traffic counts half."""


@dataclass(slots=True)
class Move:
    """Assets on their way from one connection to another, those that the source has not given up yet.

    `since`: when the target had them asked for.
    """

    source: Connection
    target: Connection
    assets: frozenset[str]
    since: float


class Group:
    """One venue's connections.

    Args:
        venue, settings: the venue and its settings.
    """

    def __init__(self, venue: Venue, settings: Any, bus: Bus, clock: Clock, rng: random.Random) -> None:
        self.venue = venue
        self.limits = venue.limits
        self.connections: list[Connection] = []
        self.activity: dict[str, int] = {}
        """Frames per asset, old ones counting less and less: which books are the busiest."""
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._rng = rng
        self.gate = Gate(venue.name, venue.limits, clock, rng.uniform)
        self._moves: list[Move] = []
        self._made = 0
        self._decayed = clock.monotonic()
        self._calm_until = 0.0
        self._unplaced: list[str] = []

    # --- what is wanted ----------------------------------------------------------------------------

    async def follow(self, wanted: Sequence[str]) -> None:
        """Carry exactly `wanted` from now on; assets that stay keep their connection."""
        carried = [connection.assets for connection in self.connections]
        plan, self._unplaced = spread(carried, wanted, self.limits)
        UNPLACED.labels(self.venue.name).set(len(self._unplaced))
        if self._unplaced:
            logs.bad_input("aggregator", self.venue.name, "no_place", self._unplaced[0])
        for index, assets in enumerate(plan):
            if index < len(self.connections):
                if list(self.connections[index].assets) != assets:
                    self.connections[index].want(assets)
            else:
                self._open(assets)
        for asset in self.activity.keys() - set(wanted):
            del self.activity[asset]
        await self._drop_empty()
        self._gather()

    def assets(self) -> set[str]:
        """All assets that open connections carry."""
        return {asset for connection in self.connections if connection.open for asset in connection.assets}

    def elsewhere(self, asking: Connection) -> Collection[str]:
        """Assets that an open connection other than `asking` carries."""
        return {
            asset
            for connection in self.connections
            if connection is not asking and connection.open
            for asset in connection.assets
        }

    def repair(self, assets: Sequence[str] | None, owner: str | None, why: str, *, anew: bool) -> None:
        """Ask the venue for fresh books (None: of all) on the connection `owner`, or on every one.

        Args:
            anew: not on this connection any more: another one takes over.
        """
        for connection in list(self.connections):
            if owner is not None and connection.id != owner:
                continue
            if anew:
                self.succeed(connection, why)
            else:
                connection.repair(list(connection.assets) if assets is None else assets)

    # --- moving ------------------------------------------------------------------------------------

    def succeed(self, connection: Connection, why: str) -> None:
        """Another connection takes over all of this one's assets; at once where that is not allowed."""
        if self._moving(connection):
            # Under way already, or hardly begun.
            return
        if len(self.connections) >= self.limits.connections or not connection.open:
            connection.replace(why)
            return
        self._move(connection, self._open(list(connection.assets)), connection.assets)

    def move_away(self, asset: str, why: str) -> None:
        """Another connection for what carries `asset`, unless that is young: then it was not the cause."""
        for connection in list(self.connections):
            if asset in connection.assets and connection.open_s >= _OLD_S:
                self.succeed(connection, why)

    def _open(self, assets: Sequence[str]) -> Connection:
        self._made += 1
        connection = Connection(
            f"{self.venue.name}-{self._made}",
            lambda: self.venue.session(self._settings),
            self._bus,
            self._clock,
            self.limits,
            self._rng,
            self.gate,
            activity=self.activity,
            elsewhere=self.elsewhere,
        )
        connection.want(assets)
        connection.start()
        self.connections.append(connection)
        return connection

    def _move(self, source: Connection, target: Connection, assets: Collection[str]) -> None:
        self._moves.append(Move(source, target, frozenset(assets), self._clock.monotonic()))

    def _moving(self, connection: Connection) -> bool:
        return any(connection in (move.source, move.target) for move in self._moves)

    async def tick(self) -> None:
        """Each second: finish what is due, and see whether something should move."""
        for move in list(self._moves):
            if move.source not in self.connections or move.target not in self.connections:
                self._moves.remove(move)
            else:
                self._go_on(move)
        await self._drop_empty()
        now = self._clock.monotonic()
        if now - self._decayed >= _DECAY_S:
            self._decayed = now
            for asset, count in list(self.activity.items()):
                self.activity[asset] = count >> 1
        self._split()

    def _go_on(self, move: Move) -> None:
        """The source gives up what the target serves; at the deadline the target gives back the rest."""
        source, target, now = move.source, move.target, self._clock.monotonic()
        # One that left and came back meanwhile may be on the source alone.
        left = move.assets.intersection(source.assets, target.assets)
        if not source.open or min(target.open_s, now - move.since) >= self.limits.first_book_s:
            served = {asset for asset in left if target.has_book(asset) or self._nothing_to_lose(move, asset)}
            if served:
                source.want([asset for asset in source.assets if asset not in served])
                left -= served
        move.assets = left
        if left and now - move.since < _MOVE_BOOKS * self.limits.first_book_s:
            return
        self._moves.remove(move)
        if left:
            target.want([asset for asset in target.assets if asset not in left])
            self._calm_until = now + _CALM_S
            self.gate.tell("move_undone", target.name, f"no books of {len(left)} assets")

    def _nothing_to_lose(self, move: Move, asset: str) -> bool:
        """Both are open for long, and the venue has a book of this asset for neither of them."""
        open_s = min(move.source.open_s, move.target.open_s)
        return open_s >= self.limits.first_book_s and not move.source.has_book(asset)

    async def _drop_empty(self) -> None:
        empty = [connection for connection in self.connections if not connection.assets]
        for connection in empty:
            self.connections.remove(connection)
        await asyncio.gather(*(connection.stop() for connection in empty))

    def _gather(self) -> None:
        """Give up a connection that is no longer needed."""
        if self._moves or self._clock.monotonic() < self._calm_until:
            return
        index = gathered([len(connection.assets) for connection in self.connections], self.limits)
        if index is None:
            return
        source = self.connections[index]
        others = [connection for connection in self.connections if connection is not source]
        left = list(source.assets)
        for target in others:
            taken = left[: max(0, self.limits.assets_per_connection - len(target.assets))]
            left = left[len(taken) :]
            if taken:
                target.want([*target.assets, *taken])
                self._move(source, target, taken)

    def _split(self) -> None:
        """Give half of the traffic of a connection that brings too much to a new one."""
        if self._moves or self._clock.monotonic() < self._calm_until:
            return
        if len(self.connections) >= self.limits.connections:
            return
        for connection in self.connections:
            if connection.frames_per_s > self.limits.frames_per_s and len(connection.assets) > 1:
                taken = halved(connection.assets, self.activity)
                self._move(connection, self._open(taken), taken)
                return

    # --- the rest ----------------------------------------------------------------------------------

    def mark(self) -> None:
        """Every connection publishes its counter."""
        for connection in self.connections:
            try:
                connection.mark()
            except Exception as error:
                logs.bad_input("aggregator", connection.platform, "mark_failed", repr(error))

    def lost(self) -> None:
        """The bus lost records of nobody knows which connection."""
        for connection in self.connections:
            connection.lost()

    async def stop(self) -> None:
        """Close every connection."""
        connections, self.connections = self.connections, []
        await asyncio.gather(*(connection.stop() for connection in connections))

    def health(self) -> dict[str, int | str]:
        """Connections planned and open, the breaker's state, and assets without a place."""
        return {
            "connections": len(self.connections),
            "open": sum(connection.open for connection in self.connections),
            "breaker": self.gate.state,
            "unplaced": len(self._unplaced),
        }
