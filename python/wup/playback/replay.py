"""One replay: a log, which part of it, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from wup import logs, subjects
from wup.playback.player import STAGE, Player
from wup.playback.sources import WHOLE, with_catalog
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wup._core import Book, BookStore
    from wup.playback.reader import BadLine
    from wup.playback.sources import Part, Source
    from wup.raw import Meta
    from wup.venues.base import Venue

JOIN = "join"
"""Why a replay that begins in the middle opens with snapshots."""


class Emitted(Protocol):
    """A consolidated message: `wup.Change`, or a snapshot that opens a part."""

    @property
    def book(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Message:
    """One consolidated message of a replay (docs/websocket.md says what is in it).

    `rx_us`: when the frame that made it was received, microseconds since 1970 UTC.
    """

    book: str
    kind: Literal["snapshot", "delta", "status", "trade"]
    subject: str
    payload: bytes
    """JSON, the same bytes every time."""
    rx_us: int

    def fields(self) -> dict[str, Any]:
        """The payload, read."""
        return orjson.loads(self.payload)  # type: ignore[no-any-return]


class Replay:
    """A recording played once, from its beginning to its end.

    Iterating gives each consolidated message; between two of them the books are as they were at that moment
    of the recording. Iterating again plays it again.

    Args:
        source: the log.
        part: which part; what comes before it is played in silence, and the part opens with a snapshot of
            each book (why `join`).
        catalog: `catalog` and `mapping` records that the log lacks.
    """

    def __init__(
        self,
        source: Source,
        *,
        part: Part = WHOLE,
        catalog: Sequence[tuple[Meta, bytes]] = (),
        venues: Mapping[str, Venue] = VENUES,
    ) -> None:
        self._source = source
        self._part = part
        self._catalog = catalog
        self._venues = venues
        self.bad_lines: list[BadLine] = []
        self.player = self._player(lambda change: None)
        self._emit: Callable[[Emitted], None] = lambda message: None
        self._silent = part.start_us is not None
        self.first_us: int | None = None

    def __iter__(self) -> Iterator[Message]:
        """Play it.

        Raises:
            BusError: a stream that cannot be read.
        """
        waiting: list[Emitted] = []
        self.begin(waiting.append)
        for meta, payload in self.records():
            self.feed(meta, payload)
            if waiting:
                at_us = self.player.now_us
                for one in waiting:
                    yield Message(one.book, one.kind, one.subject, one.payload, at_us)  # type: ignore[arg-type]
                waiting.clear()

    def play(self, emit: Callable[[Emitted], None]) -> None:
        """All of it, each message to `emit`: the fastest way.

        Raises:
            BusError: a stream that cannot be read.
        """
        self.begin(emit)
        records = self.records()
        for meta, payload in records:
            self.feed(meta, payload)
            if not self._silent:
                break
        # From here on every record goes straight to the player.
        record = self.player.record
        for meta, payload in records:
            record(meta, payload)

    # --- one step at a time ------------------------------------------------------------------------

    def begin(
        self, emit: Callable[[Emitted], None], *, store: BookStore | None = None, mark: str | None = None
    ) -> None:
        """From the beginning, with messages to `emit`; then give `feed` each of `records`.

        `store` and `mark` are for readers that stay (`Player`).
        """
        self.bad_lines = []
        self.first_us = None
        self._emit = emit
        self._silent = self._part.start_us is not None
        self.player = self._player(self._gate if self._silent else emit, store, mark)

    def records(self) -> Iterator[tuple[Meta, bytes]]:
        """What is to be fed, up to the end of the part."""
        log = self._source.records(self._unreadable)
        if self._catalog:
            log = with_catalog(log, self._catalog)
        end_us = self._part.end_us
        return log if end_us is None else takewhile(lambda record: record[0].rx_us < end_us, log)

    def feed(self, meta: Meta, payload: bytes) -> None:
        """One record."""
        if self.first_us is None:
            self.first_us = meta.rx_us
        if self._silent and meta.rx_us >= (self._part.start_us or 0):
            self._open(meta.rx_us)
        self.player.record(meta, payload)

    @property
    def opened(self) -> bool:
        """Has the part that is wanted begun?"""
        return not self._silent

    def _open(self, now_us: int) -> None:
        self._silent = False
        store = self.player.store
        for book in store.books():
            payload = store.snapshot(book, None, JOIN, now_us)
            self._emit(Message(book, "snapshot", subjects.changes(book), payload, now_us))

    def _gate(self, change: Emitted) -> None:
        if not self._silent:
            self._emit(change)

    def _player(
        self, emit: Callable[[Emitted], None], store: BookStore | None = None, mark: str | None = None
    ) -> Player:
        return Player(emit, timers=self._source.timers, venues=self._venues, store=store, mark=mark)

    def _unreadable(self, line: BadLine) -> None:
        self.bad_lines.append(line)
        logs.bad_input(STAGE, "", "bad_line", str(line))

    # --- the books ---------------------------------------------------------------------------------

    def book(self, book: str) -> Book:
        """A book as it stands now (YES or NO by its id).

        Raises:
            wup._core.UnknownBook: there is none at this moment of the recording.
        """
        return self.player.store.book(book, self.player.now_us)

    def books(self, pattern: str = ">") -> list[str]:
        """Ids of the books there are now (NATS rules)."""
        return self.player.store.books(pattern)
