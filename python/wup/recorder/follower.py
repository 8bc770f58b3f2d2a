"""The books of a recorder that runs apart from the normalizer: an engine that says nothing, without timers.

Decisions of clocks come over the bus as verdicts, as they do in a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup import logs
from wup.normalizer.engine import Engine
from wup.raw import read_meta
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.bus import Message
    from wup.mapping.table import MappingTable
    from wup.venues.base import Venue


class Follower:
    """Reads what is recorded, for the checkpoints at the beginning of each segment."""

    def __init__(self, venues: Mapping[str, Venue] = VENUES) -> None:
        self._now_us = 0
        self._engine = Engine(epoch=0, instance="recorder", venues=venues, emit=lambda subject, payload: None)

    def set_table(self, table: MappingTable) -> None:
        """Follow exactly the table's assets from now on."""
        self._engine.set_table(table)

    def take(self, message: Message) -> None:
        """One message of `market.>`, in the order in which it is recorded."""
        meta = read_meta(message.subject.split(".", 2)[1], message.headers)
        if meta is None or meta.kind == "book":
            return
        self._now_us = max(self._now_us, meta.rx_us)
        try:
            self._engine.record(meta, message.payload, self._now_us)
        except Exception as error:
            # Whatever it was: the recording itself goes on.
            logs.bad_input("recorder", meta.platform, "follower_error", repr(error))

    def followed(self) -> list[tuple[str, str]]:
        """(platform, asset) of everything that is followed."""
        return self._engine.followed()

    def checkpoint(self, platform: str, asset_id: str) -> tuple[str, bytes] | None:
        """(connection, body of a `book` record) of a live, whole book."""
        return self._engine.checkpoint(platform, asset_id)
