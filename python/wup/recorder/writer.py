"""The recorder's thread: what the loop queued becomes lines on disk.

The loop only appends; here records are read, written and counted. The thread gives the interpreter back after
every few records, so that a burst on disk never holds up the loop.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wup import __version__, logs
from wup._core import recorded_frame
from wup.bus.base import Message
from wup.errors import SettingsError
from wup.metrics import DROPPED
from wup.playback.record import binary_frame_line, line
from wup.raw import Meta, read_frame, read_meta
from wup.recorder.metrics import DROPPED_QUEUE, RECORD_ERRORS, RECORDING
from wup.recorder.state import State, closes

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.clock import Clock
    from wup.mapping.table import MappingTable
    from wup.recorder.journal import Journal

STAGE = "recorder"
STARTING = "starting"
"""Why a run began, when nothing had gone wrong: also the problem of a recorder that has not begun yet."""
DRAIN_S = 0.1
FLUSH_S = 0.5
"""Together with DRAIN_S: what a killed recorder loses."""
RETRY_S = 1.0
NOTE_S = 5.0
PRUNE_S = 60.0
_BLOCK_BYTES = 1 << 20
_TURN_RECORDS = 32
"""About 0.1 ms of work, after which the loop may have the interpreter."""
_BEHIND_RECORDS = 8192
_BEHIND_TURN = 256
"""A loop that is busy all the time gives little back: with smaller turns the queue would never empty."""
_TURN_BYTES = 1 << 16
_BREATH_S = 0.00005
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_SUBJECTS = 262_144
_OVERHEAD = 512
"""What a queued message takes beside its payload."""


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping that came into force between two records."""

    table: MappingTable
    rx_us: int
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A book as the normalizer had it between two records."""

    platform: str
    connection: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Barrier:
    """`done` is called once everything queued before is on disk, or is known to be lost."""

    done: Callable[[], None]


class Writer:
    """Everything between the queue and the journal. `put` is for the loop, `run` for the thread.

    Args:
        run: epoch of this run's `start` record.
        segment_age_s: a segment is closed when it is older.
        queue_bytes: bytes that may wait; beyond that frames are dropped and counted.
        refill: called in the thread with connections (platform, connection) whose books this recording
            does not know, because it began or went on in their middle.
        began: called in the thread when a segment began and whole books should be put in it; without it a
            recording that goes on asks the venues (`refill`).
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        run: int,
        segment_age_s: float,
        queue_bytes: int,
        refill: Callable[[list[tuple[str, str]]], None],
        began: Callable[[], None] | None = None,
    ) -> None:
        self._journal = journal
        self._refill = refill
        self._began = began
        self._clock = clock
        self._run = run
        self._segment_age_us = round(segment_age_s * 1_000_000)
        self._queue_bytes = queue_bytes
        self._queue: deque[Message | Table | Checkpoint | Barrier] = deque()
        # Each is written by one side only, so that neither needs a lock.
        self._in = 0
        self._out = 0
        self._dropped = 0
        self._lost_control = False
        self._state = State()
        self._claimed = False
        self._seen_us = clock.now_us()
        self._durable: list[tuple[str, str]] = []
        self._platforms: dict[str, str] = {}
        self._block = 0
        self._why: str | None = STARTING
        self._cause = STARTING
        self._flushed = self._noted = self._pruned = self._tried = float("-inf")
        self._wake = threading.Event()
        self._ending = False

    # --- the loop's side ---------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Queue one message of `market.>`; never blocks."""
        size = len(message.payload) + _OVERHEAD
        if self._in - self._out + size > self._queue_bytes and self._refuse(message):
            return
        self._in += size
        self._queue.append(message)

    def _refuse(self, message: Message) -> bool:
        """The queue is full. A lost frame shows in its connection's counter; what has none is kept as long
        as possible, and its loss ends the run."""
        meta = read_meta("", message.headers)
        if meta is not None and meta.kind != "frame":
            if self._in - self._out < 2 * self._queue_bytes:
                return False
            self._lost_control = True
        DROPPED.labels(DROPPED_QUEUE).inc()
        return True

    def put_table(self, table: Table) -> None:
        """Queue a mapping."""
        self._queue.append(table)

    def put_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Queue a book."""
        self._queue.append(checkpoint)

    def barrier(self, done: Callable[[], None]) -> None:
        """Call `done` (in the thread) when what is queued now has been dealt with."""
        self._queue.append(Barrier(done))
        self._wake.set()

    def doubt(self) -> None:
        """Records may be missing that no counter shows: this run is to end, and another one to begin."""
        self._lost_control = True

    def end(self) -> None:
        """Deal with what is queued, close, and let the thread return."""
        self._ending = True
        self._wake.set()

    @property
    def problem(self) -> str | None:
        """Why nothing is being written, None while all is well."""
        return self._why

    # --- the thread's side -------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the folder and open the first segment.

        Raises:
            SettingsError: another recorder has the folder.
        """
        try:
            self._claim()
        except OSError as error:
            self._pause(error)
        else:
            self._try()

    def run(self) -> None:
        """Until `end`."""
        while True:
            ending = self._ending
            if not ending:
                self._wake.wait(DRAIN_S)
                self._wake.clear()
            try:
                self._drain()
                self._keep()
            except OSError as error:
                self._pause(error)
            except Exception as error:
                # Nothing that happens here may end the thread; what is on disk stays whole.
                self._pause(error)
            if ending and not self._queue:
                break
        self._close()

    def _drain(self) -> None:
        records = size = 0
        turn = _TURN_RECORDS if len(self._queue) < _BEHIND_RECORDS else _BEHIND_TURN
        # What arrives meanwhile is for the next turn: by then something else may be due.
        popleft, take = self._queue.popleft, self._message
        for _ in range(len(self._queue)):
            item = popleft()
            if type(item) is Message:
                length = len(item.payload) + _OVERHEAD
                self._out += length
                take(item)
                records += 1
                size += length
                if records >= turn or size >= _TURN_BYTES:
                    records = size = 0
                    # Longer than it takes the loop to wake: else this thread would take the lock again.
                    time.sleep(_BREATH_S)
            elif isinstance(item, Table):
                self._state.set_table(item.table, item.rx_us, item.epoch)
                for text in self._state.table():
                    self._add(text, item.rx_us)
            elif isinstance(item, Checkpoint):
                self._checkpoint(item)
            elif isinstance(item, Barrier):
                try:
                    self._flush()
                except OSError as error:
                    self._pause(error)
                item.done()
            if self._block >= _BLOCK_BYTES:
                self._flush()

    def _message(self, message: Message) -> None:
        frame = read_frame(message.headers)
        if frame is not None:
            self._frame(message, frame)
            return
        tokens = message.subject.split(".", 2)
        platform = tokens[1] if len(tokens) > 1 else ""
        meta = read_meta(platform, message.headers)
        if meta is None:
            logs.bad_input(STAGE, platform, "no_meta", message.payload, subject=message.subject)
            return
        self._seen_us = max(self._seen_us, meta.rx_us)
        kind = meta.kind
        try:
            if kind == "sent":
                if not self._state.knows(meta):
                    logs.bad_input(STAGE, platform, "no_open", meta.connection)
                    return
            elif kind in ("start", "catalog", "mapping", "book"):
                logs.bad_input(STAGE, platform, "unexpected_kind", kind)
                return
            else:
                opened = self._state.record(meta, message.payload)
                if opened is not None:
                    self._add(opened, meta.rx_us)
                    self._refill([(platform, meta.connection)])
                if kind == "marks" and not self._state.missed(meta):
                    return
            text = line(meta, message.payload)
        except ValueError as error:
            logs.bad_input(STAGE, platform, "bad_record", message.payload, error=str(error))
            return
        self._add(text, meta.rx_us)

    def _checkpoint(self, item: Checkpoint) -> None:
        if (item.platform, item.connection) in self._state.connections:
            meta = Meta("book", item.platform, item.connection, self._seen_us, 0)
            self._add(line(meta, item.body), self._seen_us)

    def _frame(self, message: Message, frame: tuple[str, int, int]) -> None:
        """Nearly every message: as little work as possible."""
        connection, rx_us, n = frame
        platform = self._platforms.get(message.subject)
        if platform is None:
            if len(self._platforms) >= _SUBJECTS:
                self._platforms.clear()
            platform = self._platforms[message.subject] = message.subject.split(".", 2)[1]
        opened = self._state.connections.get((platform, connection))
        if opened is None:
            # How it was opened says how it is to be read; its marks will tell within a second.
            logs.bad_input(STAGE, platform, "no_open", connection)
            return
        head, payload = opened.head, message.payload
        try:
            text = recorded_frame(head, rx_us, n, payload) or binary_frame_line(head, rx_us, n, payload)
        except OverflowError:
            logs.bad_input(STAGE, platform, "no_meta", payload, subject=message.subject)
            return
        opened.n = n
        if rx_us > self._seen_us:
            self._seen_us = rx_us
        if self._why is not None:
            self._dropped += 1
        else:
            self._block += self._journal.add_frame(text, rx_us)

    def _add(self, text: bytes, rx_us: int) -> None:
        if self._why is not None:
            self._dropped += 1
            return
        self._block += self._journal.add(text, rx_us)

    def _flush(self) -> None:
        self._flushed = self._clock.monotonic()
        waiting = self._journal.waiting
        try:
            self._journal.flush()
        except OSError:
            self._dropped += waiting
            raise
        self._block = 0
        self._durable = list(self._state.connections)

    def _keep(self) -> None:
        """What is due by time or size."""
        now = self._clock.monotonic()
        if self._dropped:
            DROPPED.labels(DROPPED_QUEUE).inc(self._dropped)
            self._dropped = 0
        if self._why is not None:
            if now - self._tried >= RETRY_S:
                self._try()
            return
        if self._lost_control and now - self._tried >= RETRY_S:
            # A reader that is too slow is told so for every message that it loses: one new run a second.
            self._lost_control = False
            self._break()
            return
        if now - self._flushed >= FLUSH_S:
            self._flush()
        if self._journal.full or self._clock.now_us() - self._journal.began_us >= self._segment_age_us:
            self._rotate()
        if now - self._noted >= NOTE_S:
            self._noted = now
            self._journal.note()
        if now - self._pruned >= PRUNE_S:
            self._prune()

    # --- segments ----------------------------------------------------------------------------------

    def _claim(self) -> None:
        self._durable = self._journal.claim()
        self._claimed = True

    def _try(self) -> None:
        """Begin a run of its own: what was open before ends where the recording ended."""
        self._tried = self._clock.monotonic()
        try:
            if not self._claimed:
                self._claim()
            last_us = self._journal.last_us or self._seen_us
            self._journal.begin(self._run, self._clock.now_us(), continues=False, head=(), connections=())
            ending = closes(self._durable, last_us)
            self._cause = self._why or "records_lost"
            opening = self._opening()
            for text in ending + opening:
                self._journal.add(text, self._seen_us)
            self._flush()
        except (OSError, SettingsError) as error:
            self._pause(error)
            return
        if self._why not in (None, STARTING):
            logs.log(STAGE).warning("recording again", was=self._why, run=self._run)
        self._why = None
        if self._began is not None:
            self._began()
        elif self._state.connections:
            self._refill(list(self._state.connections))
        RECORDING.set(1)
        self._prune()

    def _opening(self) -> list[bytes]:
        return self._state.opening(self._run, self._seen_us, __version__, self._cause)

    def _end_segment(self) -> None:
        self._journal.close()
        self._block = 0
        self._durable = list(self._state.connections)

    def _rotate(self) -> None:
        self._end_segment()
        opening = self._opening()
        self._journal.begin(
            self._run,
            self._clock.now_us(),
            continues=True,
            head=opening,
            connections=list(self._state.connections),
        )
        # The head is for readers who lack what came before; all others need to know only whose log this is.
        self._journal.add(opening[0], self._seen_us)
        self._flush()
        if self._began is not None:
            self._began()
        self._prune()

    def _break(self) -> None:
        """Records are missing that no counter shows: the run ends, the next one begins at once."""
        logs.bad_input(STAGE, "", "records_lost", "queue full, or lost on the bus")
        self._end_segment()
        self._run = self._next_run()
        self._try()

    def _next_run(self) -> int:
        return max(self._run + 1, self._seen_us // 1000)

    def _prune(self) -> None:
        self._pruned = self._clock.monotonic()
        try:
            self._journal.prune(self._clock.now_us())
        except OSError as error:
            logs.bad_input(STAGE, "", "not_deleted", str(error))

    def _pause(self, error: Exception) -> None:
        """Stop recording until it works again; the stream goes on."""
        full = isinstance(error, OSError) and error.errno in _NO_ROOM
        why = "disk_full" if full else "unwritable" if isinstance(error, OSError) else "fault"
        if isinstance(error, SettingsError):
            why = "locked"
        # What could still be written was; a segment that is open now cannot be trusted to go on.
        if self._journal.is_open:
            with contextlib.suppress(OSError):
                self._end_segment()
        self._block = 0
        self._tried = self._clock.monotonic()
        if self._why is None:
            self._run = self._next_run()
        if self._why != why:
            self._why = why
            RECORD_ERRORS.labels(why).inc()
            logs.log(STAGE).error("recording stopped", why=why, detail=logs.clean(repr(error)))
        RECORDING.set(0)

    def _close(self) -> None:
        """The last records: nothing more will be known of what is still open."""
        try:
            if self._why is None:
                for text in self._state.ending(self._seen_us):
                    self._journal.add(text, self._seen_us)
                self._journal.close()
        except OSError as error:
            self._pause(error)
        self._journal.release()
        RECORDING.set(0)
