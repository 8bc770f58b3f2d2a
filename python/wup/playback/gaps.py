"""What is missing in a log, and why: seen from its records alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from wup.playback.sources import show_time
from wup.raw import UNCOUNTED

if TYPE_CHECKING:
    from wup.raw import Meta

FRAMES_LOST = "frames_lost"
RECORDER_OFF = "recorder_off"
_WHY = {"starting": RECORDER_OFF}


@dataclass(frozen=True, slots=True)
class Gap:
    """A time of which the log does not know everything.

    `why`: `frames_lost` (a hole in a connection's counter: between two frames, after its `open`, or told by
    its marks or its `close`), `recorder_off` (it was stopped or killed), or
    what the recorder itself had to say (`disk_full`, `unwritable`, `records_lost`, ...).
    """

    from_us: int
    to_us: int
    why: str
    platform: str = ""
    connection: str = ""
    frames: int = 0

    def fields(self) -> dict[str, Any]:
        """For a line of JSON."""
        found: dict[str, Any] = {
            "why": self.why,
            "from": show_time(self.from_us),
            "to": show_time(self.to_us),
        }
        if self.connection:
            found |= {"platform": self.platform, "conn": self.connection}
        if self.frames:
            found["frames"] = self.frames
        return found


class Gaps:
    """Fed with every record of a log, in order."""

    def __init__(self) -> None:
        self.found: list[Gap] = []
        self._counters: dict[tuple[str, str], tuple[int, int]] = {}
        self._run: int | None = None
        self._last_us = 0

    def record(self, meta: Meta, payload: bytes) -> None:
        """One record."""
        kind = meta.kind
        if kind == "frame":
            self._count(meta, 1)
        elif kind == "marks":
            self._count(meta, 0)
        elif kind == "close":
            self._count(meta, 0)
            self._counters.pop((meta.platform, meta.connection), None)
        elif kind == "open":
            self._counters[(meta.platform, meta.connection)] = (meta.n, meta.rx_us)
        elif kind == "start":
            self._start(meta, payload)
        self._last_us = max(self._last_us, meta.rx_us)

    def _count(self, meta: Meta, own: int) -> None:
        """`own`: how much this record itself adds to its connection's counter."""
        key = (meta.platform, meta.connection)
        n, at_us = self._counters.get(key, (UNCOUNTED, 0))
        # Where the log does not say after which frame it met the connection, the first one tells.
        if n != UNCOUNTED and meta.n > n + own:
            self.found.append(Gap(at_us, meta.rx_us, FRAMES_LOST, *key, meta.n - n - own))
        if meta.n >= n:
            self._counters[key] = (meta.n, meta.rx_us)

    def _start(self, meta: Meta, payload: bytes) -> None:
        fields = orjson.loads(payload)
        epoch = fields.get("epoch")
        if self._run is not None and epoch != self._run:
            why = fields.get("why")
            known = why if isinstance(why, str) and why else RECORDER_OFF
            self.found.append(Gap(self._last_us, max(meta.rx_us, self._last_us), _WHY.get(known, known)))
            self._counters.clear()
        self._run = epoch
