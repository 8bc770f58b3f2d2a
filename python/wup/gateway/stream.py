"""A stream is (book, view, depth, interval): its readers share every byte (wire.md section 4 rule 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import mirror_message
from wup.gateway.frame import Frame, text_frame

if TYPE_CHECKING:
    import asyncio

    from wup.clock import Clock
    from wup.gateway.mirrored import Kind, MirroredBook
    from wup.gateway.outbox import Outbox, Wakeup

_LevelText = list[Any]  # [price, size, {leg: size}], decimal text


class Stream:
    """Full depth, every change, YES or NO view.

    `readers` hold the state that the next delta leads on from. `asking` are readers that wait until the
    mirror is exact again. A client may also be owed a snapshot, which only its outbox knows; `users` counts
    the clients of all three kinds.
    """

    __slots__ = ("_cached", "_wakeup", "asking", "book", "clock", "no", "readers", "users")

    depth: int | None = None
    every_ms: int | None = None

    def __init__(self, book: MirroredBook, no: bool, wakeup: Wakeup, clock: Clock) -> None:
        self.book = book
        self.no = no
        self.clock = clock
        self.readers: dict[Outbox, None] = {}
        self.asking: dict[Outbox, str] = {}
        self.users = 0
        self._wakeup = wakeup
        self._cached: tuple[tuple[int, int, str], Frame] | None = None

    @property
    def name(self) -> str:
        """The book id as this stream's readers see it."""
        return self.book.no_book if self.no else self.book.book

    def attach(self, box: Outbox) -> None:
        """`box` has the current state; deltas follow."""
        self.readers[box] = None

    def detach(self, box: Outbox) -> None:
        """`box` gets nothing more until its next snapshot."""
        self.readers.pop(box, None)
        self.asking.pop(box, None)

    def want(self, box: Outbox, why: str) -> None:
        """Give `box` a snapshot as soon as there is one."""
        if self.book.serving:
            box.owe(self, why)
        else:
            self.detach(box)
            self.asking[box] = why

    def snapshot(self, why: str, now: float) -> Frame | None:
        """The state that the next delta leads on from; None while the mirror is not exact."""
        if not self.book.serving:
            return None
        mirror = self.book.mirror
        key = (mirror.epoch, mirror.seq, why)
        if self._cached is not None and self._cached[0] == key:
            return self._cached[1]
        frame = Frame(text_frame(self._encode(why)), self, 0, now)
        self._cached = (key, frame)
        return frame

    def _encode(self, why: str) -> bytes:
        return self.book.mirror.snapshot(no=self.no, why=why, now_us=self.clock.now_us())

    def advance(self, payload: bytes, kind: Kind, now: float) -> None:
        """Send one verified message of the book (in YES coordinates) on."""
        self._cached = None
        if self.readers:
            self.send(mirror_message(payload) if self.no else payload, now)

    def send(self, payload: bytes, now: float) -> None:
        """One message to all readers: the frame is built once."""
        data = text_frame(payload)
        frame = Frame(data, self, len(data), now)
        dirty = self._wakeup.dirty
        for box in self.readers:
            frames = box.frames
            if not frames:
                dirty.append(box)
            frames.append(frame)
        self._wakeup.schedule(now)

    def lost(self, why: str, now: float) -> None:
        """The mirror is not exact: say so, and hold every reader until it is."""
        self._cached = None
        body = {
            "type": "status",
            "book": self.name,
            "by": "gateway",
            "state": "down",
            "why": why,
            "ts": {"book": self.clock.now_us()},
        }
        self.readers.update(dict.fromkeys(self.asking))
        self.send(orjson.dumps({**body, **self.options()}), now)
        for box in self.readers:
            self.asking.setdefault(box, "gap")
        self.readers.clear()

    def refused(self, box: Outbox, why: str) -> None:
        """An owed snapshot could not be made because the book was lost in between."""
        self.asking[box] = why

    def restored(self) -> None:
        """The mirror is exact again: everybody who waits is owed a snapshot."""
        waiting, self.asking = self.asking, {}
        for box, why in waiting.items():
            box.owe(self, why)

    def options(self) -> dict[str, int]:
        """`depth` and `every_ms` as messages carry them."""
        return {}

    def drop(self) -> None:
        """The stream ends."""
        self.readers.clear()
        self.asking.clear()


class ShapedStream(Stream):
    """The best `depth` levels a side, and at most one delta per `every_ms`.

    What was last sent is kept as parsed levels; a message is the difference to the mirror now.
    """

    __slots__ = ("_loop", "_next_at", "_shown", "_timer", "depth", "every_ms")

    def __init__(
        self,
        book: MirroredBook,
        no: bool,
        depth: int | None,
        every_ms: int | None,
        wakeup: Wakeup,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(book, no, wakeup, clock)
        self.depth = depth
        self.every_ms = every_ms
        self._loop = loop
        self._shown: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    def options(self) -> dict[str, int]:
        options: dict[str, int] = {}
        if self.depth is not None:
            options["depth"] = self.depth
        if self.every_ms is not None:
            options["every_ms"] = self.every_ms
        return options

    def snapshot(self, why: str, now: float) -> Frame | None:
        if not self.book.serving:
            return None
        if self._shown is None or not self.readers:
            self._stop_timer()
            self._shown = self._now_shown()
        body = {**self._shown, "why": why, **self.options(), "ts": {"book": self.clock.now_us()}}
        return Frame(text_frame(orjson.dumps(body)), self, 0, now)

    def _now_shown(self) -> dict[str, Any]:
        raw = self.book.mirror.snapshot(no=self.no, depth=self.depth, now_us=self.clock.now_us())
        shown: dict[str, Any] = orjson.loads(raw)
        return shown

    def advance(self, payload: bytes, kind: Kind, now: float) -> None:
        if not self.readers or self._shown is None:
            return
        if kind == "snapshot":
            self._stop_timer()
            self._shown = self._now_shown()
            self.send(orjson.dumps({**self._shown, "why": "epoch", **self.options()}), now)
        elif kind == "status":
            self._status(payload, now)
        elif self.every_ms is None:
            self._delta(self._now_shown(), payload, now)
        elif now >= self._next_at:
            # A timer that is due but late would send again, at once.
            self._stop_timer()
            self._delta(self._now_shown(), None, now)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._next_at - now, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.readers and self.book.serving:
            self._delta(self._now_shown(), None, self.clock.monotonic())

    def _delta(
        self, current: dict[str, Any], payload: bytes | None, now: float, seq: int | None = None
    ) -> None:
        """Send the difference between what was sent and `current`, if there is one."""
        shown = self._shown
        assert shown is not None
        bids = _difference(shown["bids"], current["bids"])
        asks = _difference(shown["asks"], current["asks"])
        if not bids and not asks:
            return
        body: dict[str, Any] = {
            "type": "delta",
            "book": self.name,
            "epoch": current["epoch"],
            "prev": shown["seq"],
            "seq": current["seq"] if seq is None else seq,
            "digest": current["digest"],
            "state": current["state"],
            "crossed": current["crossed"],
            "bids": bids,
            "asks": asks,
            "ts": {"book": self.clock.now_us()},
            **self.options(),
        }
        if payload is not None:
            origin = orjson.loads(payload)
            body["ts"] = origin["ts"]
            if "cause" in origin:
                body["cause"] = origin["cause"]
        self._shown = {**current, "seq": body["seq"]}
        if self.every_ms is not None:
            self._next_at = now + self.every_ms / 1000
        self.send(orjson.dumps(body), now)

    def _status(self, payload: bytes, now: float) -> None:
        """A status is never held back; levels that wait go before it."""
        self._stop_timer()
        status = orjson.loads(payload)
        current = self._now_shown()
        self._delta(current, None, now, seq=status["prev"])
        assert self._shown is not None
        body = {
            **status,
            "book": self.name,
            "prev": self._shown["seq"],
            "digest": current["digest"],
            **self.options(),
        }
        self._shown = current
        self.send(orjson.dumps(body), now)

    def lost(self, why: str, now: float) -> None:
        self._stop_timer()
        super().lost(why, now)
        self._shown = None

    def drop(self) -> None:
        self._stop_timer()
        super().drop()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _difference(before: list[_LevelText], after: list[_LevelText]) -> list[_LevelText]:
    """The levels that turn one side into the other."""
    old = {level[0]: level for level in before}
    changed = [level for level in after if old.pop(level[0], None) != level]
    return changed + [[price, "0", {}] for price in old]


class TradeFeed:
    """The trades of one book, YES or NO view. A missed trade is not repaired."""

    __slots__ = ("_wakeup", "no", "readers")

    def __init__(self, no: bool, wakeup: Wakeup) -> None:
        self.no = no
        self.readers: dict[Outbox, int] = {}
        self._wakeup = wakeup

    def join(self, box: Outbox) -> None:
        """One more subscription of this client wants these trades."""
        self.readers[box] = self.readers.get(box, 0) + 1

    def leave(self, box: Outbox) -> None:
        """One subscription fewer."""
        left = self.readers.get(box, 0) - 1
        if left > 0:
            self.readers[box] = left
        else:
            self.readers.pop(box, None)

    def send(self, payload: bytes, now: float) -> None:
        """One trade (in YES coordinates) to all readers."""
        if not self.readers:
            return
        data = text_frame(mirror_message(payload) if self.no else payload)
        frame = Frame(data, self, len(data), now)
        dirty = self._wakeup.dirty
        for box in self.readers:
            if not box.frames:
                dirty.append(box)
            box.frames.append(frame)
        self._wakeup.schedule(now)
