"""Lines into zstd segments: one frame per flush, an index beside, and never more than was allowed.

Blocking; used by the writer's thread only. After an `OSError` of any call the segment ends at its last whole
frame and the journal is closed: call `begin` again when the disk may have recovered.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

import zstandard

from wup import logs
from wup.errors import SettingsError
from wup.recorder import files
from wup.recorder.files import Index
from wup.recorder.metrics import RECORDED, RECORDED_BYTES
from wup.recorder.rescue import scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEVEL = 1
"""On venue frames the higher levels cost more and pack no better (benches/recorder.py)."""


class Journal:
    """The segments of one folder.

    Args:
        segment_bytes: packed size after which a segment is closed.
        max_bytes: the oldest segments are deleted when all together are larger than this.
        max_age_us: the oldest segments are deleted when their last record is older than this.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, max_bytes: int, max_age_us: int) -> None:
        self._folder = folder
        # Deleting whole segments keeps to the bound only if the bound is several of them.
        self._segment_bytes = max(1, min(segment_bytes, max_bytes // 4))
        self._max_bytes = max_bytes
        self._max_age_us = max_age_us
        self._packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._lock: int | None = None
        self._fd: int | None = None
        self._index: Index | None = None
        self._sha256 = hashlib.sha256()
        self._lines: list[bytes] = []
        self._frames = 0
        self._first_us = 0
        self._last_us = 0
        self._kept_us = 0
        """`_last_us` of what is on disk."""
        self.began_us = 0

    @property
    def is_open(self) -> bool:
        """Is there a segment to write to?"""
        return self._fd is not None

    @property
    def full(self) -> bool:
        """Is the segment as large as it may become?"""
        return self._index is not None and self._index.bytes >= self._segment_bytes

    @property
    def waiting(self) -> int:
        """Lines not yet on disk."""
        return len(self._lines)

    # --- the folder --------------------------------------------------------------------------------

    def claim(self) -> list[tuple[str, str]]:
        """Take the folder for this recorder alone, and put in order what a killed one left.

        Returns the connections (platform, connection) that were open when its last segment began or opened
        in it, and never closed.

        Raises:
            SettingsError: another recorder writes to this folder.
            OSError: the folder cannot be made or written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise SettingsError([f"RECORD_DIR: another recorder writes to {self._folder}"]) from None
                raise
            self._lock = lock
        known = files.names(self._folder)
        if not known:
            return []
        index = files.read_index(self._folder, known[-1])
        if index is not None and index.closed:
            self._last_us = self._kept_us = max(self._last_us, index.last_rx_us)
            return []
        return self._repair(known[-1], index)

    def release(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _repair(self, name: str, index: Index | None) -> list[tuple[str, str]]:
        """End an unfinished segment at its last whole frame; the connections that were open there."""
        found = scan(files.packed_of(self._folder, name))
        with files.packed_of(self._folder, name).open("r+b") as file:
            file.truncate(found.bytes)
        if index is None:
            index = Index(name, found.run, None)
        index.first_rx_us, index.last_rx_us = found.first_rx_us, found.last_rx_us
        index.records, index.frames = found.records, found.frames
        index.bytes, index.sha256, index.closed = found.bytes, found.sha256, True
        index.write(self._folder)
        self._last_us = self._kept_us = max(self._last_us, found.last_rx_us)
        still = {(platform, connection) for platform, connection in index.connections}
        for key, is_open in found.connections.items():
            if is_open:
                still.add(key)
            else:
                still.discard(key)
        return sorted(still)

    # --- segments ----------------------------------------------------------------------------------

    @property
    def last_us(self) -> int:
        """Receive time of the last record in the folder or waiting to be written, 0 if there is none."""
        return self._last_us

    def begin(
        self,
        run: int,
        now_us: int,
        *,
        continues: bool,
        head: Sequence[bytes],
        connections: Sequence[tuple[str, str]],
    ) -> None:
        """Open the next segment.

        `continues`: it follows the one before without a hole; then `head` says what has to be known before
        it, and is kept beside it.

        Raises:
            OSError: it cannot be made.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        known = files.names(self._folder)
        number = files.number_of(known[-1]) + 1 if known else 1
        name = files.name_of(number, now_us)
        previous = known[-1] if continues and known else None
        index = Index(name, run, previous, connections=[[platform, conn] for platform, conn in connections])
        fd = os.open(
            files.packed_of(self._folder, name),
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
            0o644,
        )
        try:
            if continues:
                files.head_of(self._folder, name).write_bytes(b"".join(head))
            index.write(self._folder)
        except OSError:
            os.close(fd)
            self._remove(name)
            raise
        self._fd, self._index = fd, index
        self._sha256 = hashlib.sha256()
        self._lines, self._frames = [], 0
        self.began_us = now_us

    def add(self, line: bytes, rx_us: int) -> int:
        """Take one line that is no frame; it is on disk after the next `flush`. How long it is."""
        lines = self._lines
        if not lines:
            self._first_us = rx_us
        lines.append(line)
        self._last_us = rx_us
        return len(line)

    def add_frame(self, line: bytes, rx_us: int) -> int:
        """Take the line of a frame, the same without another call."""
        lines = self._lines
        if not lines:
            self._first_us = rx_us
        lines.append(line)
        self._frames += 1
        self._last_us = rx_us
        return len(line)

    def flush(self) -> None:
        """Write what was taken as one zstd frame.

        Raises:
            OSError: it could not be written, and is lost; the journal is closed.
        """
        if self._fd is None or self._index is None or not self._lines:
            return
        packed = self._packer.compress(b"".join(self._lines))
        index = self._index
        try:
            # A folder that was removed under us would swallow everything without a word.
            if os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the segment was removed", index.name)
            rest = memoryview(packed)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._fail()
            raise
        self._sha256.update(packed)
        index.bytes += len(packed)
        index.first_rx_us = index.first_rx_us or self._first_us
        index.last_rx_us = self._kept_us = self._last_us
        index.records += len(self._lines)
        index.frames += self._frames
        RECORDED.inc(len(self._lines))
        RECORDED_BYTES.inc(len(packed))
        self._lines, self._frames = [], 0

    def note(self) -> None:
        """Bring the open segment's index up to date.

        Raises:
            OSError: it could not be written; the journal is closed.
        """
        if self._index is not None:
            try:
                self._index.write(self._folder)
            except OSError:
                self._fail()
                raise

    def close(self) -> None:
        """Flush and end the segment; its index gets the digest.

        Raises:
            OSError: something could not be written; the journal is closed all the same.
        """
        self.flush()
        if self._fd is None or self._index is None:
            return
        try:
            os.fdatasync(self._fd)
            self._index.sha256, self._index.closed = self._sha256.hexdigest(), True
            self._index.write(self._folder)
        finally:
            self._let_go()

    def _fail(self) -> None:
        """Cut the segment at its last whole frame and let it go; what was not written is lost."""
        assert self._fd is not None
        assert self._index is not None
        self._last_us = self._kept_us
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._index.bytes)
            if not self._index.bytes:
                self._remove(self._index.name)
                self._let_go()
                return
        self._index.sha256, self._index.closed = self._sha256.hexdigest(), True
        with contextlib.suppress(OSError):
            # On a full disk this may fail as well: the segment is then put in order by the next `claim`.
            self._index.write(self._folder)
        self._let_go()

    def _let_go(self) -> None:
        assert self._fd is not None
        os.close(self._fd)
        self._fd, self._index = None, None
        self._lines, self._frames = [], 0

    # --- bounds ------------------------------------------------------------------------------------

    def prune(self, now_us: int) -> list[str]:
        """Delete the oldest segments beyond the bounds; never the open one. The names that went.

        Raises:
            OSError: the folder cannot be read or a file not deleted.
        """
        gone: list[str] = []
        known = files.names(self._folder)
        sizes = {name: self._size(name) for name in known}
        total = sum(sizes.values())
        for name in known:
            if self._index is not None and name == self._index.name:
                break
            if total <= self._max_bytes:
                index = files.read_index(self._folder, name)
                last_us = index.last_rx_us if index is not None else 0
                last_us = last_us or self._modified_us(name)
                if last_us >= now_us - self._max_age_us:
                    break
            self._remove(name)
            total -= sizes[name]
            gone.append(name)
        if gone:
            logs.log("recorder").info("old segments deleted", count=len(gone), last=gone[-1])
        return gone

    def _size(self, name: str) -> int:
        size = 0
        for path in (files.packed_of, files.index_of, files.head_of):
            with contextlib.suppress(FileNotFoundError):
                size += path(self._folder, name).stat().st_size
        return size

    def _modified_us(self, name: str) -> int:
        return files.packed_of(self._folder, name).stat().st_mtime_ns // 1000

    def _remove(self, name: str) -> None:
        # The records last: what is left after a crash in between is still a segment that can be read.
        for path in (files.head_of, files.index_of, files.packed_of):
            path(self._folder, name).unlink(missing_ok=True)
