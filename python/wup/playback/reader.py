"""Recordings from disk: JSON lines, plain or zstd, to records (wire.md section 6)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson
import zstandard

from wup.errors import SettingsError
from wup.raw import KINDS, UNCOUNTED, Kind, Meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20
_WITHOUT_CONNECTION = frozenset(("start", "catalog", "mapping"))
LAST_US = 253_402_300_799_999_999
"""The end of the year 9999: a later time is no time, and sums with it might not fit the core's numbers."""
LAST_N = 2**53
"""What every JSON reader holds exactly; at 10,000 frames a second it takes 28,000 years."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record; the lines after it are read all the same."""

    file: str
    line: int
    error: str
    ends: bool = False
    """The rest of the file could not be read either."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.error}"


def check(paths: Sequence[str]) -> None:
    """Are these files that can be opened?

    Raises:
        SettingsError: every one that is not.
    """
    problems: list[str] = []
    for path in paths:
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    if problems:
        raise SettingsError(problems)


def records(
    paths: Sequence[str],
    bad: Callable[[BadLine], None],
    *,
    timeless: bool = False,
    counters: dict[tuple[str, str], int] | None = None,
) -> Iterator[tuple[Meta, bytes]]:
    """All records of the files, in the order given: (meta, payload).

    Frames without a counter are numbered per connection in order. What is no record goes to `bad`.
    `timeless`: records may lack their time, which is then 0. `counters` go on from files read before.
    """
    counters = {} if counters is None else counters
    for path in paths:
        for first, lines, error in _lines(path):
            for number, line in enumerate(lines, first):
                try:
                    fields = orjson.loads(line)
                    frame = _frame(fields, counters)
                    if frame is None:
                        frame = _record(fields, counters, timeless=timeless)
                except ValueError as problem:
                    if line.strip():
                        bad(BadLine(path, number, _said(problem)))
                    continue
                yield frame
            if error is not None:
                bad(BadLine(path, first + len(lines), error, ends=True))


def _said(problem: ValueError) -> str:
    return f"no JSON: {problem}" if isinstance(problem, orjson.JSONDecodeError) else str(problem)


def has_verdicts(paths: Sequence[str]) -> bool:
    """Did whoever recorded this take down the decisions of its clocks?"""
    for path in paths:
        for _, lines, _ in _lines(path):
            for line in lines:
                if b'"verdict' not in line:
                    continue
                try:
                    fields = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(fields, dict) and fields.get("kind") == "verdict":
                    return True
    return False


def _lines(path: str) -> Iterator[tuple[int, list[bytes], str | None]]:
    """(number of the first, lines, error) of one file, block by block; an error ends the file."""
    number = 1
    with Path(path).open("rb") as file:
        begins = file.read(len(_ZSTD_MAGIC))
        packed = begins == _ZSTD_MAGIC
        if begins and not packed and path.endswith(".zst"):
            yield number, [], "cannot be read: this is no zstd"
            return
        file.seek(0)
        rest = b""
        try:
            for block in _unpacked(file) if packed else iter(lambda: file.read(_BLOCK), b""):
                lines = (rest + block).split(b"\n")
                rest = lines.pop()
                yield number, lines, None
                number += len(lines)
        except (OSError, zstandard.ZstdError) as error:
            yield number, [], f"cannot be read further: {error}"
            return
        if rest:
            yield number, [rest], None


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The text of one or more zstd frames.

    Raises:
        zstandard.ZstdError: not zstd, or the last frame has no end: whoever wrote it did not finish.
    """
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    while block := file.read(_BLOCK):
        while block:
            if frame.eof:
                frame = decompressor.decompressobj()
            yield frame.decompress(block)
            block = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise zstandard.ZstdError("the file is cut off")


def _frame(fields: Any, counters: dict[tuple[str, str], int]) -> tuple[Meta, bytes] | None:
    """A frame with all its fields, as nearly every line is; None for everything else."""
    try:
        rx_us, platform, connection = fields["rx_us"], fields["platform"], fields["conn"]
        n, raw = fields["n"], fields["raw"]
    except (KeyError, TypeError):
        return None
    if (
        "kind" in fields
        or type(rx_us) is not int
        or type(n) is not int
        or type(raw) is not str
        or type(platform) is not str
        or type(connection) is not str
        or not platform
        or not 0 <= rx_us <= LAST_US
        or not 0 <= n <= LAST_N
    ):
        return None
    counters[platform, connection] = n
    return Meta("frame", platform, connection, rx_us, n), raw.encode()


def _record(fields: Any, counters: dict[tuple[str, str], int], *, timeless: bool) -> tuple[Meta, bytes]:
    """Any record.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(fields, dict):
        raise ValueError("a record is a JSON object")
    kind = fields.get("kind", "frame")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}"[:80])
    rx_us = fields.get("rx_us", 0 if timeless else None)
    if type(rx_us) is not int or not 0 <= rx_us <= LAST_US:
        raise ValueError("rx_us must be microseconds since 1970 UTC")
    platform, connection = fields.get("platform", ""), fields.get("conn", "")
    if not isinstance(platform, str) or not isinstance(connection, str):
        raise ValueError("platform and conn must be text")
    if kind not in _WITHOUT_CONNECTION and not platform:
        raise ValueError(f"a {kind} needs a platform")
    key = (platform, connection)
    n = fields.get("n")
    if n is None:
        n = UNCOUNTED if kind == "open" else counters.get(key, 0) + (kind == "frame")
    elif type(n) is not int or not 0 <= n <= LAST_N:
        raise ValueError("n must be a count of frames")
    if kind == "open":
        counters[key] = max(n, 0)
    epoch = fields.get("epoch", 0)
    if kind in ("start", "mapping") and (type(epoch) is not int or not 0 <= epoch <= LAST_US // 1000):
        raise ValueError("epoch must be milliseconds since 1970 UTC")
    if kind in ("frame", "marks"):
        counters[key] = n
    payload = _raw(fields) if kind in ("frame", "sent") else orjson.dumps(fields)
    return Meta(cast("Kind", kind), platform, connection, rx_us, n), payload


def _raw(fields: dict[str, Any]) -> bytes:
    raw = fields.get("raw")
    if isinstance(raw, str):
        return raw.encode()
    packed = fields.get("raw_b64")
    if isinstance(packed, str):
        try:
            return base64.b64decode(packed, validate=True)
        except binascii.Error as error:
            raise ValueError(f"raw_b64: {error}") from None
    raise ValueError("a frame needs its text in raw")
