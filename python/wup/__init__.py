"""WUP: consolidated order books of prediction markets, streamed and provably exact.

Reading order: `subjects` and `model` (what travels), `bus` (how), `venues` (what the venues say),
`aggregator` -> `normalizer` -> `orderbook` -> `gateway` (the stages), `events` and `mapping` beside
them, `client` for users, `sim` and `demo` to see it all without a venue.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from wup._core import OPTIMISED, Book, BookStore, Change, Level, MirrorBook, OrderBook, VenueBook

if not OPTIMISED:
    warnings.warn("wup._core is a debug build: do not measure with it", RuntimeWarning, stacklevel=2)

if TYPE_CHECKING:
    from pathlib import Path

    from wup.playback import Replay

__version__ = "0.1.0"


def replay(
    *logs: str | Path,
    start: str | int | None = None,
    end: str | int | None = None,
    catalog: str | Path | None = None,
    nats_url: str | None = None,
) -> Replay:
    """Play recordings: `for message in wup.replay("recordings")`.

    Iterating gives each consolidated message (`wup.playback.Message`) in order, the same every time; between
    two of them `.book(id)` and `.books()` show the books as they were at that moment.

    Args:
        logs: a recorder's folder, files (JSON lines, plain or zstd), or one `jetstream:STREAM`.
        start: `2026-11-22T16:00:00Z`, or microseconds since 1970 UTC: what comes before is played in
            silence, and the part opens with a snapshot of each book.
        end: end before this time.
        catalog: a file of `catalog` and `mapping` records that the log lacks.
        nats_url: where the stream is; NATS_URL, or this machine, by default.

    Raises:
        wup.errors.SettingsError: what is no recording, and why, all at once.
        ValueError: `start` or `end` is no time.
        wup.errors.BusError: while iterating, a stream that cannot be read.
    """
    # The stages behind a replay take half a second to import: who only wants a book does not wait for them.
    from wup.playback.open import open_replay

    return open_replay(logs, start=start, end=end, catalog=catalog, nats_url=nats_url)


__all__ = [
    "Book",
    "BookStore",
    "Change",
    "Level",
    "MirrorBook",
    "OrderBook",
    "VenueBook",
    "__version__",
    "replay",
]
