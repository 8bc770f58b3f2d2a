"""What is missing in a log, and why: seen from its records alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from wup.playback.sources import show_time

if TYPE_CHECKING:
    from wup.raw import Meta

FRAMES_LOST = "frames_lost"
RECORDER_OFF = "recorder_off"
_WHY = {"starting": RECORDER_OFF}


@dataclass(frozen=True, slots=True)
class Gap:
    """A time of which the log does not know everything.

    `why`: `frames_lost` (a hole in a connection's counter), `recorder_off` (it was stopped or killed), or
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
        if meta.kind == "frame":
            key = (meta.platform, meta.connection)
            n, at_us = self._counters.get(key, (0, meta.rx_us))
            if n and meta.n > n + 1:
                lost = meta.n - n - 1
                self.found.append(Gap(at_us, meta.rx_us, FRAMES_LOST, *key, lost))
            self._counters[key] = (meta.n, meta.rx_us)
        elif meta.kind == "close":
            self._counters.pop((meta.platform, meta.connection), None)
        elif meta.kind == "open":
            # Met in its middle, a connection's first frame here is not its first.
            self._counters[(meta.platform, meta.connection)] = (0, meta.rx_us)
        elif meta.kind == "start":
            self._start(meta, payload)
        self._last_us = max(self._last_us, meta.rx_us)

    def _start(self, meta: Meta, payload: bytes) -> None:
        fields = orjson.loads(payload)
        epoch = fields.get("epoch")
        if self._run is not None and epoch != self._run:
            why = fields.get("why")
            known = why if isinstance(why, str) and why else RECORDER_OFF
            self.found.append(Gap(self._last_us, max(meta.rx_us, self._last_us), _WHY.get(known, known)))
            self._counters.clear()
        self._run = epoch
