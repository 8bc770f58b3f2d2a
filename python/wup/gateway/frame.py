"""A message made ready for the wire once, for all its readers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from wup.gateway.stream import Stream, TradeFeed

_TEXT = 0x81  # FIN and the text opcode; servers do not mask (RFC 6455 section 5.2)
_SMALL = 126
_MEDIUM = 65_536


def text_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame."""
    size = len(payload)
    if size < _SMALL:
        return bytes((_TEXT, size)) + payload
    if size < _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


class Frame:
    """One book message on its way to any number of clients.

    `source` is the stream or trade feed it belongs to; `weight` the bytes that count against the slow-reader
    limit (0 for snapshots: those are paced instead); `born` the monotonic second of its making.
    """

    __slots__ = ("born", "data", "source", "weight")

    def __init__(self, data: bytes, source: Stream | TradeFeed, weight: int, born: float) -> None:
        self.data = data
        self.source = source
        self.weight = weight
        self.born = born


class Control:
    """An answer, notice or protocol frame: never dropped, never counted."""

    __slots__ = ("data",)

    born = 0.0
    source = None
    weight = 0

    def __init__(self, data: bytes) -> None:
        self.data = data


class Beat(Control):
    """A heartbeat that waits among other frames: its count is of what goes before it, known when it goes."""

    __slots__ = ("_now_us",)

    def __init__(self, now_us: int) -> None:
        super().__init__(b"")
        self._now_us = now_us

    def frame(self, count: int) -> bytes:
        """The frame, after so many book messages."""
        message = {"type": "heartbeat", "count": count, "ts": self._now_us}
        return text_frame(orjson.dumps(message))


def control(message: dict[str, Any]) -> Control:
    """A server message of wire.md section 4 as a control frame."""
    return Control(text_frame(orjson.dumps(message)))
