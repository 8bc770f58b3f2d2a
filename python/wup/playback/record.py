"""Bus records to lines of a recording: the inverse of `wup.playback.reader` (wire.md section 6)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
import zstandard

from wup._core import recorded_frame

if TYPE_CHECKING:
    from wup.raw import Meta

_PLAIN = ("kind", "rx_us", "platform", "conn", "n")
_COUNTED = ("open", "marks", "close")
"""With the counter of the connection's last frame: what is missing after an `open`, before a `close`."""


def line(meta: Meta, payload: bytes) -> bytes:
    """One record as a line with its newline. Of marks only the counter is kept.

    Raises:
        ValueError: the payload of a record other than a frame is no JSON object.
    """
    if meta.kind == "frame":
        return frame_line(meta.platform, meta.connection, meta.rx_us, meta.n, payload)
    fields: dict[str, Any] = {"kind": meta.kind}
    fields["rx_us"] = meta.rx_us
    if meta.platform:
        fields["platform"] = meta.platform
    if meta.connection:
        fields["conn"] = meta.connection
    if meta.kind in _COUNTED:
        fields["n"] = meta.n
    if meta.kind == "marks":
        pass
    elif meta.kind == "sent":
        try:
            fields["raw"] = payload.decode()
        except UnicodeDecodeError:
            # Not text, so it cannot be JSON text: kept byte for byte all the same.
            fields["raw_b64"] = base64.b64encode(payload).decode()
    else:
        body = orjson.loads(payload)
        if not isinstance(body, dict):
            raise ValueError(f"{meta.kind} record is no JSON object")
        fields.update((name, value) for name, value in body.items() if name not in _PLAIN)
    return orjson.dumps(fields) + b"\n"


def frame_line(platform: str, connection: str, rx_us: int, n: int, payload: bytes) -> bytes:
    """`line` of a frame.

    Raises:
        OverflowError: a number beyond 64 bits.
    """
    head = frame_head(platform, connection)
    return recorded_frame(head, rx_us, n, payload) or binary_frame_line(head, rx_us, n, payload)


def binary_frame_line(head: bytes, rx_us: int, n: int, payload: bytes) -> bytes:
    """The line of a frame that is no UTF-8."""
    return b'{"rx_us":%d%b%d,"raw_b64":"%b"}\n' % (rx_us, head, n, base64.b64encode(payload))


def frame_head(platform: str, connection: str) -> bytes:
    """What stands between the time and the counter in each frame of a connection."""
    named = b"".join(
        b",%b:%b" % (orjson.dumps(name), orjson.dumps(value))
        for name, value in (("platform", platform), ("conn", connection))
        if value
    )
    return named + b',"n":'


class RecordWriter:
    """Writes one recording to an open binary file, packed with zstd if asked to.

    Not for the hot path: give it to a thread, or to a queue's reader.
    """

    def __init__(self, file: BinaryIO, *, packed: bool = False) -> None:
        self._file = file
        self._packer = zstandard.ZstdCompressor(level=3).compressobj() if packed else None
        self._counters: dict[tuple[str, str], int] = {}
        self.records = 0

    def start(self, rx_us: int, epoch: int, version: str) -> None:
        """The first record: which normalizer this log is of."""
        self._put(orjson.dumps({"kind": "start", "rx_us": rx_us, "epoch": epoch, "version": version}) + b"\n")

    def mapping(self, rx_us: int, version: int, rows: list[tuple[str, str, str, bool]]) -> None:
        """A mapping that came into force: rows (platform, asset, book, inverted)."""
        self._put(
            orjson.dumps({"kind": "mapping", "rx_us": rx_us, "version": version, "table": rows}) + b"\n"
        )

    def write(self, meta: Meta, payload: bytes) -> None:
        """One record from the bus; marks only where they tell of frames that did not come."""
        key = (meta.platform, meta.connection)
        if meta.kind == "marks" and meta.n <= self._counters.get(key, 0):
            return
        self._counters[key] = meta.n
        self._put(line(meta, payload))

    def raw(self, line: bytes) -> None:
        """One line as it is, with its newline."""
        self._put(line)

    def flush(self) -> None:
        """What was written so far can be read by others, also when packed."""
        if self._packer is not None:
            self._file.write(self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        self._file.flush()

    def close(self) -> None:
        """End the recording; the file stays the caller's."""
        if self._packer is not None:
            self._file.write(self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        self._file.flush()

    def _put(self, text: bytes) -> None:
        self._file.write(text if self._packer is None else self._packer.compress(text))
        self.records += 1
