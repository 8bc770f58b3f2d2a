"""`wup replay`: files in, consolidated messages and a summary out."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from wup import logs
from wup.errors import SettingsError
from wup.playback import reader
from wup.playback.player import STAGE, Player

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wup._core import Change
    from wup.venues.base import Venue

_SHOWN_BAD_LINES = 20


def run(
    paths: Sequence[str],
    emit_change: Callable[[Change], None],
    *,
    venues: Mapping[str, Venue] | None = None,
) -> tuple[Player, list[reader.BadLine]]:
    """Play recordings; the player with the final books, and the lines that could not be read.

    Raises:
        SettingsError: a file that cannot be opened.
    """
    reader.check(paths)
    bad: list[reader.BadLine] = []

    def unreadable(line: reader.BadLine) -> None:
        bad.append(line)
        logs.bad_input(STAGE, "", "bad_line", str(line))

    timers = not reader.has_verdicts(paths)
    player = (
        Player(emit_change, timers=timers)
        if venues is None
        else Player(emit_change, timers=timers, venues=venues)
    )
    for meta, payload in reader.records(paths, unreadable):
        player.record(meta, payload)
    return player, bad


def cli_run(files: list[str], out: str | None) -> dict[str, Any]:
    """Replay `files`; with `out` the consolidated messages go there as JSON lines, `-` is stdout.

    Two runs of the same files give identical bytes. `sha256` of the summary is over all messages without
    the fields that differ between live and replay (wire.md section 6).

    Raises:
        SettingsError: a file that cannot be opened, or `out` that cannot be written.
    """
    reader.check(files)
    digest = hashlib.sha256()
    with ExitStack() as stack:
        sink = _sink(out, stack)

        def put(change: Change) -> None:
            payload = change.payload
            digest.update(comparable(payload))
            if sink is not None:
                sink.write(payload)
                sink.write(b"\n")

        player, bad = run(files, put)
        if sink is not None:
            sink.flush()
    books = {name: player.store.book(name) for name in sorted(player.store.books())}
    return {
        "type": "summary",
        "files": len(files),
        "frames": player.frames,
        "messages": player.changes,
        "books": len(books),
        "levels_with_several_legs": sum(
            len(level.by_leg) > 1 for book in books.values() for level in [*book.bids, *book.asks]
        ),
        "states": {name: book.state for name, book in books.items()},
        "digests": {name: [book.epoch, book.seq, book.digest] for name, book in books.items()},
        "checks": player.checks(),
        "bad_input": dict(sorted(player.bad.items())),
        "bad_lines": len(bad),
        "bad_line_samples": [str(line) for line in bad[:_SHOWN_BAD_LINES]],
        "sha256": digest.hexdigest(),
    }


def comparable(payload: bytes) -> bytes:
    """A consolidated message without what differs between a live run and its replay."""
    message = orjson.loads(payload)
    stamps = message.get("ts")
    if isinstance(stamps, dict):
        stamps.pop("norm", None)
        stamps.pop("book", None)
    legs = message.get("legs")
    if isinstance(legs, dict):
        for leg in legs.values():
            if isinstance(leg, dict):
                leg.pop("age_ms", None)
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def _sink(out: str | None, stack: ExitStack) -> BinaryIO | None:
    if out is None:
        return None
    if out == "-":
        return sys.stdout.buffer
    try:
        return stack.enter_context(Path(out).open("wb"))
    except OSError as error:
        raise SettingsError([f"{out}: {error.strerror}"]) from None
