"""Where a log comes from: files, a recorder's folder, a JetStream stream; and which part of it is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wup.errors import SettingsError
from wup.playback import reader
from wup.playback.jetstream import StreamLog
from wup.raw import Meta
from wup.recorder import files
from wup.recorder.files import segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wup.playback.reader import BadLine

STREAM = "jetstream:"


class Source(Protocol):
    """An ordered log."""

    def records(self, bad: Callable[[BadLine], None]) -> Iterator[tuple[Meta, bytes]]:
        """All records, in order: (meta, payload); what is no record goes to `bad`.

        Raises:
            BusError: a stream that cannot be read.
        """
        ...

    def timers(self) -> bool:
        """Must a replay run its own timers, because the log has no decisions of the recording's clocks?"""
        ...


@dataclass(frozen=True, slots=True)
class FilesLog:
    """Recordings on disk, in the order given."""

    paths: tuple[str, ...]

    def records(self, bad: Callable[[BadLine], None]) -> Iterator[tuple[Meta, bytes]]:
        """Where a segment is missing or cannot be read to its end, nobody knows what was said there: every
        connection ends, and the next segment's head says what is open then."""
        open_now: dict[tuple[str, str], None] = {}
        counters: dict[tuple[str, str], int] = {}
        at_us = 0
        broken = False

        def unreadable(line: BadLine) -> None:
            nonlocal broken
            broken = broken or line.ends
            bad(line)

        for place, path in enumerate(self.paths):
            head = head_beside(path)
            after_gap = place > 0 and path == str(head)
            if broken or after_gap:
                broken = False
                for platform, connection in open_now:
                    yield Meta("close", platform, connection, at_us, 0), b'{"why":"gap"}'
                open_now.clear()
                if head is not None and not after_gap:
                    yield from reader.records([str(head)], bad, counters=counters)
            for record in reader.records([path], unreadable, counters=counters):
                meta = record[0]
                kind = meta.kind
                at_us = meta.rx_us
                if kind != "frame":
                    if kind == "open":
                        open_now[meta.platform, meta.connection] = None
                    elif kind == "close":
                        open_now.pop((meta.platform, meta.connection), None)
                yield record

    def timers(self) -> bool:
        return not reader.has_verdicts(self.paths)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a log is wanted, microseconds since 1970 UTC: from `start` on, before `end`.

    `quick`: begin with the books of a segment shortly before `start`, instead of the beginning of its run.
    """

    start_us: int | None = None
    end_us: int | None = None
    quick: bool = False


WHOLE = Part()
_SETTLED_US = 10_000_000
"""By then the books of a segment stand in it, those within a transaction too."""


def head_beside(path: str) -> Path | None:
    """The head of a segment, given its records or the head itself; None when it has none."""
    file = Path(path)
    name, dot, _ = file.name.partition(".")
    head = files.head_of(file.parent, name)
    return head if dot and files.is_segment(name) and head.is_file() else None


def find(names: Sequence[str | Path], *, nats_url: str | None = None, part: Part = WHOLE) -> Source:
    """The log of files, folders, or one `jetstream:STREAM`.

    Raises:
        SettingsError: every name that is no recording, and why.
    """
    texts = [str(name) for name in names]
    streams = [text.removeprefix(STREAM) for text in texts if text.startswith(STREAM)]
    if streams:
        if len(texts) > 1:
            raise SettingsError([f"{STREAM}{streams[0]}: one stream, or files and folders"])
        return StreamLog(nats_url or "nats://localhost:4222", streams[0], end_us=part.end_us)
    problems: list[str] = []
    paths: list[str] = []
    for text in texts:
        if Path(text).is_dir():
            try:
                found = _of_folder(text, part)
            except OSError as error:
                problems.append(f"{text}: {error.strerror}")
                continue
            if not found:
                problems.append(f"{text}: no recording in this folder (no *.jsonl.zst of a recorder)")
            paths += found
        else:
            paths.append(text)
    try:
        reader.check(paths)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return FilesLog(tuple(paths))


def _of_folder(folder: str, part: Part) -> list[str]:
    """The segments that are needed to know everything in `part`.

    A run is known from its first segment on, so what comes before the run in which `part` begins is left out.
    """
    place = Path(folder)
    paths = segments(place)
    if part.start_us is None and part.end_us is None:
        return paths
    first = 0
    before: list[str] = []
    last = len(paths)
    for number, path in enumerate(paths):
        name = Path(path).name.split(".", 1)[0]
        index = files.read_index(place, name)
        if index is None or not index.first_rx_us:
            continue
        # A run that follows a killed one begins by ending that one's connections, at that one's time.
        begins_us = max(index.first_rx_us, index.run * 1000 if index.previous is None else 0)
        if part.start_us is not None and begins_us <= part.start_us:
            head = files.head_of(place, name)
            if index.previous is None or str(head) in paths:
                first = paths.index(str(head)) if str(head) in paths else number
                before = []
            elif part.quick and begins_us + _SETTLED_US <= part.start_us and head.is_file():
                first, before = number, [str(head)]
        if part.end_us is not None and index.first_rx_us >= part.end_us and last == len(paths) and number:
            last = number
    return [*before, *paths[first : max(last, first + 1)]]


def read_catalog_file(path: str | Path) -> list[tuple[Meta, bytes]]:
    """The `catalog` and `mapping` records of a file (JSON lines, `rx_us` may be left out).

    Raises:
        SettingsError: it cannot be opened, or holds anything else.
    """
    problems: list[str] = []
    reader.check([str(path)])
    found: list[tuple[Meta, bytes]] = []
    for meta, payload in reader.records([str(path)], lambda bad: problems.append(str(bad)), timeless=True):
        if meta.kind not in ("catalog", "mapping"):
            problems.append(f"{path}: a {meta.kind} record; only catalog and mapping records belong here")
            break
        found.append((meta, payload))
    if problems:
        raise SettingsError(problems[:20])
    return found


def with_catalog(
    log: Iterator[tuple[Meta, bytes]], catalog: Sequence[tuple[Meta, bytes]]
) -> Iterator[tuple[Meta, bytes]]:
    """The log with `catalog` in force from the beginning of each of its runs."""
    begun = False
    for meta, payload in log:
        if meta.kind == "start" or not begun:
            begun = True
            if meta.kind == "start":
                yield meta, payload
            for known, body in catalog:
                yield replace(known, rx_us=meta.rx_us), body
            if meta.kind == "start":
                continue
        yield meta, payload


def parse_time(text: str) -> int:
    """Microseconds since 1970 UTC from `2026-11-22T16:00:00.5Z`, `2026-11-22 16:00`, or such a number.

    Raises:
        ValueError: none of these.
    """
    text = text.strip()
    if text.isdigit():
        if len(text) != 16:
            raise ValueError(f"{text!r}: a number must be microseconds since 1970 UTC (16 digits)")
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time (2026-11-22T16:00:00Z, or microseconds since 1970)") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def show_time(us: int) -> str:
    """A time as people and `parse_time` read it."""
    whole = datetime.fromtimestamp(us // 1_000_000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06d}Z"
