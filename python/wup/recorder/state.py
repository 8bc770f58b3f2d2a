"""What has to be known before a record: which run, which mapping, which markets are not open, which
connections are.

Kept up to date with every record, also while nothing can be written, so that a recording can begin anywhere
and say where it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup.normalizer.statuses import KEPT
from wup.playback.record import frame_head
from wup.recorder.records import table_lines

if TYPE_CHECKING:
    from wup.mapping.table import MappingTable
    from wup.raw import Meta

GAP = "gap"
"""Why a connection leaves a recording that does not go on: what it did afterwards is not known."""


class Opened:
    """An open connection: the fields of its `open` record, the counter of the last frame seen of it, also
    while nothing could be written, and what is the same in the lines of all its frames."""

    __slots__ = ("fields", "head", "n")

    def __init__(self, key: tuple[str, str], fields: dict[str, Any], n: int) -> None:
        self.fields = fields
        self.n = n
        self.head = frame_head(*key)


class State:
    """The mapping in force, and every open connection with the record that opened it."""

    def __init__(self) -> None:
        self._table: tuple[MappingTable, int, int | None] | None = None
        self.connections: dict[tuple[str, str], Opened] = {}
        self._statuses: dict[tuple[str, str], dict[str, Any]] = {}
        """By platform and asset: the last `status` record of each market that is not open."""

    def set_table(self, table: MappingTable, rx_us: int, epoch: int | None) -> None:
        """Another mapping is in force."""
        self._table = (table, rx_us, epoch)

    def knows(self, meta: Meta) -> bool:
        """Was the connection of this record seen to open?"""
        return (meta.platform, meta.connection) in self.connections

    def record(self, meta: Meta, payload: bytes) -> bytes | None:
        """Take one record that is no frame into account.

        Returns the line of an `open` for a connection met in its middle (its marks say how it was opened),
        else None.

        Raises:
            ValueError: the payload is no JSON object.
        """
        key = (meta.platform, meta.connection)
        if meta.kind == "close":
            self.connections.pop(key, None)
        elif meta.kind == "open":
            self.connections[key] = Opened(key, _object(payload), meta.n)
        elif meta.kind == "status":
            self._status(meta.platform, _object(payload))
        elif meta.kind == "marks" and not self.knows(meta):
            opened = _object(payload).get("open")
            if isinstance(opened, dict):
                self.connections[key] = Opened(key, opened, meta.n)
                return self._open(key, meta.rx_us)
        return None

    def missed(self, meta: Meta) -> bool:
        """Do these marks tell of frames that did not come here? Asked once for each of their records."""
        opened = self.connections.get((meta.platform, meta.connection))
        if opened is None or meta.n <= opened.n:
            return False
        opened.n = meta.n
        return True

    def opening(self, run: int, rx_us: int, version: str, why: str) -> list[bytes]:
        """Lines that make what follows readable on its own: start, mapping, open connections.

        `why`: what ended the run before. `verdicts`: decisions of clocks are in the log, also when there are
        none: a replay runs no timers.
        """
        start = {
            "kind": "start",
            "rx_us": rx_us,
            "epoch": run,
            "version": version,
            "verdicts": True,
            "why": why,
        }
        lines = [orjson.dumps(start) + b"\n"]
        if self._table is not None:
            table, _, epoch = self._table
            lines += table_lines(table, rx_us, epoch)
        lines += [
            orjson.dumps({**fields, "kind": "status", "rx_us": rx_us, "platform": platform}) + b"\n"
            for (platform, _), fields in self._statuses.items()
        ]
        return lines + [self._open(key, rx_us) for key in self.connections]

    def _status(self, platform: str, fields: dict[str, Any]) -> None:
        key = (platform, str(fields.get("asset")))
        self._statuses.pop(key, None)
        if fields.get("status") != "open":
            self._statuses[key] = fields
            if len(self._statuses) > KEPT:
                del self._statuses[next(iter(self._statuses))]

    def table(self) -> list[bytes]:
        """Lines of the mapping in force."""
        return [] if self._table is None else table_lines(*self._table)

    def ending(self, rx_us: int) -> list[bytes]:
        """Lines that end every open connection: nothing more is known of them."""
        return closes(list(self.connections), rx_us)

    def _open(self, key: tuple[str, str], rx_us: int) -> bytes:
        platform, connection = key
        opened = self.connections[key]
        record = {
            **opened.fields,
            "kind": "open",
            "rx_us": rx_us,
            "platform": platform,
            "conn": connection,
            "n": opened.n,
        }
        return orjson.dumps(record) + b"\n"


def closes(connections: list[tuple[str, str]], rx_us: int) -> list[bytes]:
    """`close` records of connections of which nothing more is known."""
    return [
        orjson.dumps({"kind": "close", "rx_us": rx_us, "platform": platform, "conn": connection, "why": GAP})
        + b"\n"
        for platform, connection in connections
    ]


def _object(payload: bytes) -> dict[str, Any]:
    fields = orjson.loads(payload)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    return fields
