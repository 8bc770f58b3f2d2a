"""A bus with a recorder on it, and messages as the aggregator publishes them."""

from __future__ import annotations

from typing import Any

import orjson

from wup import subjects
from wup.bus import LocalBus
from wup.playback import reader
from wup.raw import Kind, Meta

US = 1_795_353_600_000_000


class Feed:
    """One connection's records on a bus; `rx_us` rises by one with each."""

    def __init__(self, bus: LocalBus, connection: str = "c.1", platform: str = "kalshi") -> None:
        self.bus = bus
        self.platform = platform
        self.connection = connection
        self.n = 0
        self.rx_us = US

    def say(self, kind: Kind, payload: bytes) -> None:
        self.rx_us += 1
        self.n += kind == "frame"
        meta = Meta(kind, self.platform, self.connection, self.rx_us, self.n)
        self.bus.publish(subjects.raw_connection(self.platform, self.connection), payload, meta.headers())

    def frames(self, count: int, payload: bytes = b'{"type":"ticker"}') -> None:
        for _ in range(count):
            self.say("frame", payload)


def records(paths: list[str]) -> list[tuple[Meta, bytes]]:
    """Everything in these files; a line that is no record fails the test."""

    def bad(line: reader.BadLine) -> None:
        raise AssertionError(str(line))

    return list(reader.records(paths, bad))


def kinds(paths: list[str]) -> list[str]:
    """The kinds of the records, frames of one connection in a row once."""
    found: list[str] = []
    for meta, _ in records(paths):
        if not (meta.kind == "frame" and found and found[-1] == "frame"):
            found.append(meta.kind)
    return found


def fields(payload: bytes) -> dict[str, Any]:
    return orjson.loads(payload)  # type: ignore[no-any-return]
