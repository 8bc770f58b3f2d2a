"""What a segment holds that nobody closed: its whole frames, and the connections open at its end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
import zstandard

if TYPE_CHECKING:
    from pathlib import Path


_PIECE = 1 << 16


@dataclass(slots=True)
class Found:
    """The readable part of a segment; `bytes` is where its last whole frame ends."""

    bytes: int = 0
    sha256: str = ""
    run: int = 0
    first_rx_us: int = 0
    last_rx_us: int = 0
    records: int = 0
    frames: int = 0
    connections: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(platform, connection) opened (True) or closed (False) in it."""


def scan(path: Path) -> Found:
    """Read a segment frame by frame up to the first that is not whole.

    Raises:
        OSError: it cannot be read.
    """
    found = Found()
    sha256 = hashlib.sha256()
    data = memoryview(path.read_bytes())
    while found.bytes < len(data):
        try:
            text, end = _frame(data, found.bytes)
        except zstandard.ZstdError:
            break
        sha256.update(data[found.bytes : end])
        found.bytes = end
        for line in text.splitlines():
            _take(found, line)
    found.sha256 = sha256.hexdigest()
    return found


def _frame(data: memoryview, start: int) -> tuple[bytes, int]:
    """The text of the frame that begins at `start`, and where it ends.

    Raises:
        zstandard.ZstdError: there is no whole frame.
    """
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    place = start
    while not unpacker.eof:
        if place >= len(data):
            raise zstandard.ZstdError("cut off")
        piece = data[place : place + _PIECE]
        place += len(piece)
        parts.append(unpacker.decompress(piece))
    return b"".join(parts), place - len(unpacker.unused_data)


def _take(found: Found, line: bytes) -> None:
    found.records += 1
    try:
        fields = orjson.loads(line)
        rx_us = fields["rx_us"]
        kind = fields.get("kind", "frame")
        key = (fields.get("platform", ""), fields.get("conn", ""))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return
    found.first_rx_us = found.first_rx_us or rx_us
    found.last_rx_us = rx_us
    if kind == "frame":
        found.frames += 1
    elif kind in ("open", "close"):
        found.connections[key] = kind == "open"
    elif kind == "start" and isinstance(fields.get("epoch"), int):
        found.run = fields["epoch"]
