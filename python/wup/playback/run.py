"""`wup replay`: a log in, consolidated messages and a summary out."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wup.errors import SettingsError
from wup.playback import reader
from wup.playback.identity import comparable
from wup.playback.replay import Replay
from wup.playback.sources import FilesLog, show_time
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wup._core import Change
    from wup.playback.player import Player
    from wup.playback.replay import Emitted
    from wup.venues.base import Venue

_SHOWN_BAD_LINES = 20
_SHOWN_BOOKS = 1000


def run(
    paths: Sequence[str],
    emit_change: Callable[[Change], None],
    *,
    venues: Mapping[str, Venue] = VENUES,
) -> tuple[Player, list[reader.BadLine]]:
    """Play files; the player with the final books, and the lines that could not be read.

    Raises:
        SettingsError: a file that cannot be opened.
    """
    reader.check(paths)
    replay = Replay(FilesLog(tuple(paths)), venues=venues)
    replay.play(emit_change)  # type: ignore[arg-type]
    return replay.player, replay.bad_lines


def cli_run(replay: Replay, out: str | None, *, speed: float | None = None) -> dict[str, Any]:
    """Play it; with `out` the consolidated messages go there as JSON lines, `-` is stdout.

    Two runs of the same log give identical bytes. `sha256` of the summary is over all messages without the
    fields that differ between live and replay (wire.md section 6). `speed`: times the recording's own; None
    as fast as it goes.

    Raises:
        SettingsError: `out` cannot be written. BusError: a stream cannot be read.
    """
    digest = hashlib.sha256()
    update = digest.update
    kinds = {"snapshot": 0, "delta": 0, "status": 0, "trade": 0}
    with ExitStack() as stack:
        sink = _sink(out, stack)

        def put(change: Emitted) -> None:
            payload = change.payload
            kinds[change.kind] += 1
            update(comparable(payload))
            if sink is not None:
                sink.write(payload)
                sink.write(b"\n")

        replay.begin(put)
        feed = replay.feed
        if speed is None:
            for meta, payload in replay.records():
                feed(meta, payload)
        else:
            pace = Pace(speed)
            for meta, payload in replay.records():
                wait = pace.wait(meta.rx_us)
                if wait > 0:
                    if sink is not None:
                        sink.flush()
                    time.sleep(wait)
                feed(meta, payload)
        if sink is not None:
            sink.flush()
    return {**summary(replay, kinds), "sha256": digest.hexdigest()}


class Pace:
    """A clock that runs `speed` times as fast as the machine's, beginning with the first time it is asked
    about."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._zero_us: int | None = None
        self._zero = 0.0

    def wait(self, at_us: int) -> float:
        """Seconds until it is `at_us` on this clock; negative when that is past."""
        now = time.monotonic()
        if self._zero_us is None:
            self._zero_us, self._zero = at_us, now
        return (at_us - self._zero_us) / 1_000_000 / self._speed - (now - self._zero)

    def now_us(self) -> int:
        """What this clock shows; 0 before it has begun."""
        if self._zero_us is None:
            return 0
        return self._zero_us + round((time.monotonic() - self._zero) * self._speed * 1_000_000)


def summary(replay: Replay, kinds: Mapping[str, int]) -> dict[str, Any]:
    """What was played, and how the books stand at its end."""
    player = replay.player
    books = {name: player.store.book(name) for name in sorted(player.store.books())}
    shown = dict(list(books.items())[:_SHOWN_BOOKS])
    bad = replay.bad_lines
    return {
        "type": "summary",
        "records": player.records,
        "frames": player.frames,
        "messages": sum(kinds.values()),
        "by_kind": dict(kinds),
        "first": None if replay.first_us is None else show_time(replay.first_us),
        "last": show_time(player.now_us) if player.records else None,
        "books": len(books),
        "levels_with_several_legs": sum(
            len(level.by_leg) > 1 for book in books.values() for level in [*book.bids, *book.asks]
        ),
        "states": {name: book.state for name, book in shown.items()},
        "digests": {name: [book.epoch, book.seq, book.digest] for name, book in shown.items()},
        "checks": player.checks(),
        "bad_input": dict(sorted(player.bad.items())),
        "bad_lines": len(bad),
        "bad_line_samples": [str(line) for line in bad[:_SHOWN_BAD_LINES]],
    }


def _sink(out: str | None, stack: ExitStack) -> BinaryIO | None:
    if out is None:
        return None
    if out == "-":
        return sys.stdout.buffer
    try:
        return stack.enter_context(Path(out).open("wb"))
    except OSError as error:
        raise SettingsError([f"{out}: {error.strerror}"]) from None
