"""One sequence per subscription (sid), over all of its markets and every numbered frame (rules 9, 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.base import BadInput

if TYPE_CHECKING:
    from wup.venues.base import Output


class Sequences:
    """The last number of each sid of a connection, and the frame that carried it.

    `use`: the frame is to be read. `gap`: what was shown is no longer known.
    """

    __slots__ = ("_ended", "_frames", "_last")

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._frames: dict[int, bytes] = {}
        # Subscriptions that the venue ended: whatever still comes with their sid is from before.
        self._ended: set[int] = set()

    def next(self, sid: int, seq: int, raw: bytes) -> bool:
        """Whether the frame is simply the next one, or the first one that we see; it is counted then."""
        last = self._last.get(sid)
        # Joined mid-stream nothing is lost: books begin with a snapshot.
        if (last is None and sid not in self._ended) or seq - 1 == last:
            self._last[sid] = seq
            self._frames[sid] = raw
            return True
        return False

    def irregular(self, sid: int, seq: int, raw: bytes, out: list[Output]) -> tuple[bool, bool]:
        """(use, gap) of a frame that is not simply the next one; it is counted (section 2.4).

        The same frame again is a repeat. Another frame with that number, or a lower one, means that the
        server began anew or that frames are out of order: what such a frame says may be older than what
        was seen already, so it is not used, and neither are the books.
        """
        if sid in self._ended:
            out.append(BadInput("ended_subscription", f"sid {sid} seq {seq}"))
            return False, False
        last = self._last[sid]
        if seq == last and raw == self._frames[sid]:
            out.append(BadInput("repeated_sequence", f"sid {sid} seq {seq}"))
            return False, False
        self._last[sid] = seq
        self._frames[sid] = raw
        kind = "sequence_gap" if seq > last else "sequence_reset"
        out.append(BadInput(kind, f"sid {sid}: {last} then {seq}"))
        return seq > last, True

    def last(self, sid: int) -> int | None:
        """The last number counted."""
        return self._last.get(sid)

    def resume(self, sid: int, seq: int) -> None:
        """A reader who begins in the middle is told the last number, unless it has counted itself."""
        if sid not in self._last and sid not in self._ended:
            self._last[sid] = seq
            self._frames[sid] = b""

    def begin(self, sid: int) -> None:
        """The venue began a subscription with this sid, maybe not for the first time."""
        self._ended.discard(sid)

    def end(self, sid: int) -> None:
        """The venue ended it."""
        self._last.pop(sid, None)
        self._frames.pop(sid, None)
        self._ended.add(sid)

    def clear(self) -> None:
        """The connection is gone, and sids mean nothing any more."""
        self._last.clear()
        self._frames.clear()
        self._ended.clear()
