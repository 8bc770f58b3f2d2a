"""One sequence per subscription (sid), over all of its markets and every numbered frame (rules 9, 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.venues.base import BadInput

if TYPE_CHECKING:
    from wup.venues.base import Output


class Sequence:
    """One sid's: its last number, the frame that carried it, and what was found in it so far."""

    __slots__ = ("at_us", "counted", "gap_us", "gaps", "last", "raw")

    def __init__(self, last: int, raw: bytes, at_us: int) -> None:
        self.last = last
        self.raw = raw
        self.counted = 0
        """Frames that came in their order, the latest at `at_us`."""
        self.at_us = at_us
        self.gaps = 0
        """Frames that did not, the latest at `gap_us`."""
        self.gap_us = 0


class Sequences:
    """The sequence of each sid of a connection.

    `use`: the frame is to be read. `gap`: what was shown is no longer known.
    """

    __slots__ = ("_ended", "_sids")

    def __init__(self) -> None:
        self._sids: dict[int, Sequence] = {}
        # Subscriptions that the venue ended: whatever still comes with their sid is from before.
        self._ended: set[int] = set()

    def next(self, sid: int, seq: int, raw: bytes, now_us: int) -> bool:
        """Whether the frame is simply the next one, or the first one that we see; it is counted then."""
        known = self._sids.get(sid)
        if known is None:
            if sid in self._ended:
                return False
            # Joined mid-stream nothing is lost: books begin with a snapshot.
            known = self._sids[sid] = Sequence(seq, raw, now_us)
        elif seq - 1 != known.last:
            return False
        known.last = seq
        known.raw = raw
        known.counted += 1
        known.at_us = now_us
        return True

    def irregular(self, sid: int, seq: int, raw: bytes, now_us: int, out: list[Output]) -> tuple[bool, bool]:
        """(use, gap) of a frame that is not simply the next one; it is counted (section 2.4).

        The same frame again is a repeat. Another frame with that number, or a lower one, means that the
        server began anew or that frames are out of order: what such a frame says may be older than what
        was seen already, so it is not used, and neither are the books.
        """
        if sid in self._ended:
            out.append(BadInput("ended_subscription", f"sid {sid} seq {seq}"))
            return False, False
        known = self._sids[sid]
        last = known.last
        if seq == last and raw == known.raw:
            out.append(BadInput("repeated_sequence", f"sid {sid} seq {seq}"))
            return False, False
        known.last = seq
        known.raw = raw
        known.gaps += 1
        known.gap_us = now_us
        kind = "sequence_gap" if seq > last else "sequence_reset"
        out.append(BadInput(kind, f"sid {sid}: {last} then {seq}"))
        return seq > last, True

    def last(self, sid: int) -> int | None:
        """The last number counted."""
        known = self._sids.get(sid)
        return None if known is None else known.last

    def of(self, sid: int | None) -> Sequence | None:
        """What is known of a sid."""
        return None if sid is None else self._sids.get(sid)

    def resume(self, sid: int, seq: int) -> None:
        """A reader who begins in the middle is told the last number, unless it has counted itself."""
        if sid not in self._sids and sid not in self._ended:
            self._sids[sid] = Sequence(seq, b"", 0)

    def begin(self, sid: int) -> None:
        """The venue began a subscription with this sid, maybe not for the first time."""
        self._ended.discard(sid)

    def end(self, sid: int) -> None:
        """The venue ended it."""
        self._sids.pop(sid, None)
        self._ended.add(sid)

    def clear(self) -> None:
        """The connection is gone, and sids mean nothing any more."""
        self._sids.clear()
        self._ended.clear()
