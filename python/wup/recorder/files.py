"""The files of a recording: names, indexes, order.

A segment is `{number}-{time}.jsonl.zst`, one zstd frame per flush. Beside it lies `.index.json` (what it
holds) and, unless it opens a run, `.head.jsonl` (what has to be known before it when the segment before it is
gone: mapping and open connections).
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from wup import logs

_NAME = re.compile(r"^(\d{8})-\d{8}T\d{6}Z$")
_PACKED = ".jsonl.zst"
_INDEX = ".index.json"
_HEAD = ".head.jsonl"
_INDEX_LIMIT = 64 * 2**20


@dataclass(slots=True)
class Index:
    """What one segment holds. Times in microseconds since 1970 UTC; `bytes` as packed on disk."""

    name: str
    run: int
    """Epoch of the run that it is part of."""
    previous: str | None
    """The segment that it continues; None when it opens a run and needs nothing before it."""
    first_rx_us: int = 0
    last_rx_us: int = 0
    records: int = 0
    frames: int = 0
    bytes: int = 0
    closed: bool = False
    sha256: str | None = None
    """Of the packed file, once closed."""
    connections: list[list[str]] = field(default_factory=list)
    """(platform, connection) open at its beginning."""

    def write(self, folder: Path) -> None:
        """Put the index on disk, whole or not at all.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = index_of(folder, self.name)
        draft = path.with_suffix(".new")
        draft.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        draft.replace(path)


def read_index(folder: Path, name: str) -> Index | None:
    """The index of one segment; None, and counted, when it is missing or unreadable."""
    path = index_of(folder, name)
    try:
        if path.stat().st_size > _INDEX_LIMIT:
            raise ValueError("too large")
        fields: dict[str, Any] = orjson.loads(path.read_bytes())
        index = Index(**{key: fields[key] for key in Index.__dataclass_fields__ if key in fields})
        pairs = all(len(pair) == 2 for pair in index.connections)
        numbers = (index.run, index.first_rx_us, index.last_rx_us, index.records, index.frames, index.bytes)
        if index.name != name or not pairs or not all(type(number) is int for number in numbers):
            raise ValueError("fields")
    except (OSError, ValueError, TypeError, KeyError) as error:
        logs.bad_input("recorder", "", "bad_index", str(path), error=repr(error))
        return None
    return index


def name_of(number: int, at_us: int) -> str:
    """A segment's name: its number orders it, its time is for people."""
    return f"{number:08d}-{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y%m%dT%H%M%SZ}"


def packed_of(folder: Path, name: str) -> Path:
    """Where a segment's records are."""
    return folder / f"{name}{_PACKED}"


def index_of(folder: Path, name: str) -> Path:
    """Where a segment's index is."""
    return folder / f"{name}{_INDEX}"


def head_of(folder: Path, name: str) -> Path:
    """Where a segment's head is, if it has one."""
    return folder / f"{name}{_HEAD}"


def names(folder: Path) -> list[str]:
    """The segments in a folder, oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [entry[: -len(_PACKED)] for entry in os.listdir(folder) if entry.endswith(_PACKED)]
    return sorted(name for name in found if _NAME.match(name))


def is_segment(name: str) -> bool:
    """Is this a segment's name?"""
    return _NAME.match(name) is not None


def number_of(name: str) -> int:
    """A segment's number."""
    return int(name[:8])


def segments(folder: str | Path) -> list[str]:
    """The files that make up the recording in `folder`, in the order in which they are to be played.

    Where a segment's predecessor is gone (deleted by age or size), its head comes before it.

    Raises:
        OSError: the folder cannot be read.
    """
    place = Path(folder)
    files: list[str] = []
    before: str | None = None
    for name in names(place):
        index = read_index(place, name)
        # Without an index it is not known what it continues: its head, if it has one, does no harm only
        # when nothing came before.
        continues = before if index is None else index.previous
        head = head_of(place, name)
        if (before is None or continues != before) and head.is_file():
            files.append(str(head))
        files.append(str(packed_of(place, name)))
        before = name
    return files
