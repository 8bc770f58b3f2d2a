"""One client's outgoing frames: coalesced, bounded, and never waiting for each other's clients.

In a wake-up the hub appends frames to `frames` of every reader; once, at its end, each outbox is flushed
with one transport write. Clients that got the same frames share the bytes of that write. While the transport
is full, frames wait here, where they can still be dropped (wire.md section 4 rule 6). Snapshots that are owed
are not queued: they are encoded when there is room.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Protocol

from wup import logs
from wup.gateway.frame import Beat
from wup.gateway.stream import Stream
from wup.metrics import FAN_OUT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from wup._core import Histogram
    from wup.gateway.frame import Control, Frame
    from wup.gateway.limits import Limits

_WRITE = 65_536  # one write to the transport, and what it may hold before it says stop
_AT_ONCE = 64  # frames that are joined without looking at their sizes
_PAID_AT_ONCE = 16  # snapshots encoded for one client in one wake-up


class Transport(Protocol):
    """What an outbox needs of an asyncio transport."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...


class Owner(Protocol):
    """The session behind an outbox."""

    def slow(self, streams: list[Stream]) -> None:
        """The deltas of these streams were dropped; each is owed a snapshot already."""
        ...

    def broken(self, error: Exception) -> None:
        """Writing failed in a way that is a fault of ours."""
        ...


class Wakeup:
    """Flushes the outboxes that got something, once per turn of the loop."""

    __slots__ = ("_latency", "_loop", "_now", "_scheduled", "_since", "dirty")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], latency: Histogram | None = None
    ) -> None:
        self._loop = loop
        self._now = now
        self._latency = latency
        self._scheduled = False
        self._since = 0.0
        self.dirty: list[Outbox] = []

    def schedule(self, since: float = 0.0) -> None:
        """Flush soon; `since` (monotonic) is when the first change of this turn came in."""
        if not self._scheduled:
            self._scheduled = True
            self._since = since
            self._loop.call_soon(self.run)

    def run(self) -> None:
        """Flush everything that is dirty now."""
        self._scheduled = False
        boxes, self.dirty = self.dirty, []
        now = self._now()
        same: list[Frame | Control] = []
        data = b""
        size = written = writes = 0
        for box in boxes:
            frames = box.frames
            try:
                if box.direct and 0 < len(frames) <= _AT_ONCE:
                    # Nearly every flush: book messages only, nothing before them, room in the transport.
                    if frames != same:
                        same = frames
                        size = len(frames)
                        data = frames[0].data if size == 1 else b"".join([frame.data for frame in frames])
                    box.frames = []
                    box.touched = False
                    box.count += size
                    box.sent_at = now
                    box.written += len(data)
                    written += size
                    writes += 1
                    box.transport.write(data)
                else:
                    box.flush(now)
            except Exception as error:  # one connection's fault must not reach the others
                box.owner.broken(error)
        FAN_OUT.frames += written
        FAN_OUT.writes += writes
        if self._latency is not None and self._since:
            self._latency.observe(int((self._now() - self._since) * 1_000_000))
            self._since = 0.0


class Outbox:
    """Frames of one connection, in order.

    `count` is the number of book messages written so far (wire.md section 4 rule 4). `direct` is true while
    what comes may be written at once: open, not paused, nothing waiting or owed, no answer among `frames`.
    """

    __slots__ = (
        "_accepted",
        "_controls",
        "_held",
        "_limits",
        "_waiting",
        "_waiting_bytes",
        "_wakeup",
        "closed",
        "count",
        "direct",
        "frames",
        "owed",
        "owner",
        "paused",
        "progress_at",
        "sent_at",
        "touched",
        "transport",
        "written",
    )

    def __init__(
        self, transport: Transport, wakeup: Wakeup, owner: Owner, limits: Limits, now: float
    ) -> None:
        self.transport = transport
        self._wakeup = wakeup
        self._limits = limits
        self.owner = owner
        self.frames: list[Frame | Control] = []
        self._controls = 0
        self.touched = False
        self._waiting: deque[Frame | Control] = deque()
        self._waiting_bytes = 0
        self._held = 0  # bytes waiting that count against the slow limit
        self.written = 0
        self._accepted = 0
        self.owed: dict[Stream, str] = {}
        self.paused = False
        self.closed = False
        self.direct = True
        self.count = 0
        self.sent_at = now
        self.progress_at = now

    def send(self, frame: Control) -> None:
        """Queue an answer or a protocol frame."""
        self._controls += 1
        self.direct = False
        self.put(frame)

    def beat(self, now_us: int, now: float) -> None:
        """Send a heartbeat: now, or behind what waits."""
        beat = Beat(now_us)
        self.flush(now)
        if self._waiting or self.paused:
            self._waiting.append(beat)
        elif not self.closed:
            self._write(beat.frame(self.count), 0, now)

    def put(self, frame: Frame | Control) -> None:
        """Queue one frame and see that it goes out in this turn. (The fan-out does the same by hand.)"""
        if self.closed:
            return
        if not self.frames:
            self.touch()
        self.frames.append(frame)

    def touch(self) -> None:
        """Have this outbox flushed soon."""
        if self.touched:
            return
        self.touched = True
        self._wakeup.dirty.append(self)
        self._wakeup.schedule()

    def owe(self, stream: Stream, why: str) -> None:
        """A snapshot of `stream` is due when there is room; until then it gets no deltas."""
        stream.detach(self)
        self.direct = False
        if stream not in self.owed:
            self.owed[stream] = why
        if not self.paused:
            self.touch()

    def forget(self, stream: Stream) -> None:
        """The client does not want this stream any more."""
        stream.detach(self)
        self.owed.pop(stream, None)

    # --- writing ----------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Write what came in this turn, in as few writes as the transport takes."""
        self.touched = False
        if self.closed:
            self.frames = []
            return
        frames = self.frames
        if frames:
            self.frames = []
            if self._waiting or self.paused or len(frames) > _AT_ONCE:
                self._hold(frames)
                self._drain(now)
            elif len(frames) == 1:
                self._write(frames[0].data, 1 - self._controls, now)
                self._controls = 0
            else:
                self._write(b"".join([frame.data for frame in frames]), len(frames) - self._controls, now)
                self._controls = 0
        if self.owed and not self.paused:
            self._pay(now)
        self._settle()

    def _settle(self) -> None:
        """Whether the next flush may take the short way."""
        self.direct = not (self.closed or self.paused or self._waiting or self.owed or self._controls)

    def _write(self, data: bytes, counted: int, now: float) -> None:
        self.count += counted
        self.sent_at = now
        self.written += len(data)
        FAN_OUT.frames += counted
        FAN_OUT.writes += 1
        self.transport.write(data)

    def _hold(self, frames: list[Frame | Control]) -> None:
        self._queue(frames)
        if self.paused and self._held > self._limits.ws_slow_bytes:
            self.conflate()

    def _queue(self, frames: list[Frame | Control]) -> None:
        self._controls = 0
        self._waiting.extend(frames)
        for frame in frames:
            self._waiting_bytes += len(frame.data)
            self._held += frame.weight

    def _drain(self, now: float) -> None:
        waiting = self._waiting
        while waiting and not self.paused:
            parts: list[bytes] = []
            size = counted = 0
            while waiting and size < _WRITE:
                frame = waiting.popleft()
                if isinstance(frame, Beat):
                    parts.append(frame.frame(self.count + counted))
                    continue
                parts.append(frame.data)
                size += len(frame.data)
                self._held -= frame.weight
                if frame.source is not None:
                    counted += 1
            self._waiting_bytes -= size
            self._write(b"".join(parts), counted, now)

    def _pay(self, now: float) -> None:
        """Encode owed snapshots, oldest debt first, while less than the limit is waiting."""
        room = self._limits.ws_snapshot_bytes
        paid: list[Frame | Control] = []
        size = self.backlog()
        for stream in list(itertools.islice(self.owed, _PAID_AT_ONCE)):
            if size >= room:
                break
            why = self.owed.pop(stream)
            frame = stream.snapshot(why, now)
            if frame is None:
                stream.refused(self, why)
                continue
            stream.attach(self)
            paid.append(frame)
            size += len(frame.data)
        if paid:
            self._hold(paid)
            self._drain(now)
        if self.owed and not self.paused and self.backlog() < room:
            self.touch()

    def pause(self) -> None:
        """The transport is full."""
        self.paused = True
        self.direct = False

    def resume(self, now: float) -> None:
        """The transport takes data again."""
        self.paused = False
        if not self.closed:
            self._drain(now)
            if self.owed and not self.paused:
                self.touch()
        self._settle()

    # --- the slow-reader policy -------------------------------------------------------------------

    def backlog(self) -> int:
        """Bytes not yet taken by the kernel."""
        return self._waiting_bytes + self.transport.get_write_buffer_size()

    def idle(self) -> bool:
        """Nothing waits here."""
        return not self.frames and not self._waiting

    def late(self, now: float) -> bool:
        """Has a delta waited longer than a slow reader may let it?"""
        if not self._held:
            return False
        limit = self._limits.ws_slow_ms / 1000
        return any(now - frame.born > limit for frame in self._waiting if frame.weight)

    def stuck(self, now: float) -> bool:
        """Has the client taken no byte for too long?"""
        accepted = self.written - self.transport.get_write_buffer_size()
        if accepted != self._accepted or not self.backlog():
            self._accepted = accepted
            self.progress_at = now
        return now - self.progress_at > self._limits.ws_stuck_s

    def flooded(self) -> bool:
        """Do answers that nobody reads pile up? They cannot be dropped as deltas can, and owed snapshots are
        not encoded before there is room."""
        return self._waiting_bytes - self._held > self._limits.ws_slow_bytes + self._limits.ws_snapshot_bytes

    def conflate(self) -> None:
        """Drop the waiting messages of every book that has deltas waiting; owe their snapshots instead."""
        # What came in this turn stands behind what waits: it must not outlive it.
        frames, self.frames = self.frames, []
        self._queue(frames)
        hit = dict.fromkeys(frame.source for frame in self._waiting if frame.weight)
        keep = [frame for frame in self._waiting if frame.source is None or frame.source not in hit]
        self._waiting = deque(keep)
        self._waiting_bytes = sum(len(frame.data) for frame in keep)
        self._held = 0
        streams: list[Stream] = []
        for source in hit:
            if isinstance(source, Stream):
                streams.append(source)
                self.owe(source, "conflated")
        self.owner.slow(streams)

    def close(self) -> None:
        """Take nothing more."""
        self.closed = True
        self.direct = False
        self.frames = []
        self._waiting.clear()
        self._waiting_bytes = 0
        self._held = 0
        self.owed.clear()

    def flush_for_close(self, now: float) -> None:
        """Write what can be written before the close frame."""
        try:
            self.owed.clear()
            self.flush(now)
        except Exception as error:
            logs.log("gateway").warning("flush at close failed", error=repr(error))
