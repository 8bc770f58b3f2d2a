"""The books of one feed: each message applied and checked, told to who reads it, and repaired when wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup._core import CoreError
from wup.client.book import LiveBook
from wup.client.departures import Departures, is_last
from wup.client.event import Event
from wup.client.repair import Repair

if TYPE_CHECKING:
    from wup.client.operations import Operations
    from wup.client.routes import Routes, StreamKey
    from wup.client.stats import Stats
    from wup.client.subscription import Subscription

_MAY_HAVE_OPTIONS = (b'"depth":', b'"every_ms":')


class Books:
    """`held` are the books that have come and are served still, by stream."""

    def __init__(self, operations: Operations, routes: Routes, stats: Stats) -> None:
        self.held: dict[StreamKey, LiveBook] = {}
        self.shaped = False
        """Was a stream with options ever asked for? Only then may a message be one's."""
        self._streams: dict[str, list[LiveBook]] = {}  # what is held, by book
        self._routes = routes
        self._stats = stats
        self._repair = Repair(operations, self._unknown)
        self._departures = Departures(operations, routes, self._remove)

    # --- the connection ---------------------------------------------------------------------------

    def expect(self) -> None:
        """A new connection: what is held comes again, or is over."""
        self._departures.began(self.held)

    def lost(self) -> None:
        """The connection is gone: nothing is exact any more."""
        self._repair.forget()
        self._departures.forget()
        for key, book in self.held.items():
            if book.exact:
                book.mirror.doubt()
                self._tell(key, Event("lost", book, why="disconnected"))

    # --- messages ---------------------------------------------------------------------------------

    def take(self, kind: str, book_id: str, message: bytes) -> None:
        """One `snapshot`, `delta` or `status`."""
        key: StreamKey = (book_id, None, None)
        if self.shaped and any(option in message for option in _MAY_HAVE_OPTIONS):
            shaped = orjson.loads(message)
            key = (book_id, shaped.get("depth"), shaped.get("every_ms"))
        book = self.held.get(key)
        if book is None:
            if kind == "delta" and self._routes.stream(key):
                self._repair.ask(book_id)  # it was over for us, and goes on
            if kind != "snapshot":
                return  # on its way when we unsubscribed
            book = self.held[key] = LiveBook(*key)
            self._streams.setdefault(book_id, []).append(book)
        was_exact = book.exact
        try:
            verdict = book.mirror.apply(message)
        except CoreError:
            verdict = "broken"
        if verdict == "exact":
            if kind == "delta":
                self._tell(key, Event("delta", book, message))
            else:
                self._whole(key, book, kind, message)
            return
        if verdict == "broken":
            self._stats.mismatches += 1
        elif verdict == "gap":
            self._stats.gaps += 1
        elif kind == "status" and is_last(orjson.loads(message)) and not book.exact:
            self._remove(key, "unmapped", message=message)
            return
        if was_exact and not book.exact:
            self._tell(key, Event("lost", book, message, why=verdict if verdict != "ignored" else "gateway"))
        if verdict in ("broken", "gap"):
            self._repair.ask(book_id)

    def _whole(self, key: StreamKey, book: LiveBook, kind: str, message: bytes) -> None:
        """A snapshot or status that was exact, and what it says besides levels."""
        body: dict[str, Any] = orjson.loads(message)
        is_snapshot = kind == "snapshot"
        over = not is_snapshot and is_last(body)
        # A resync is for every stream of the book: one that is right says nothing of the others.
        if is_snapshot and all(stream.exact for stream in self._streams[key[0]]):
            self._repair.done(key[0])
        book.title = body.get("title", book.title)
        book.label = body.get("label", book.label)
        book.result = body.get("result", None if is_snapshot else book.result)
        legs = body.get("legs")
        if isinstance(legs, dict) and not over:
            self._link(key[0], legs)
        # Not held any more: asked for by an asset that feeds it no more. No reader: it was on its way when
        # its last subscription ended.
        if self.held.get(key) is not book:
            return
        if not self._routes.stream(key):
            self._remove(key, "unsubscribed")
            return
        self._tell(key, Event("snapshot" if is_snapshot else "status", book, message))
        if over:
            self._remove(key, body["why"])
        else:
            self._departures.heard(key, book.mirror.state)

    def _link(self, book_id: str, legs: dict[str, dict[str, Any]]) -> None:
        """The legs of a book: who named it by an asset that is none of them any more reads it no more."""
        if not self._routes.relinks(book_id, legs):
            self._routes.legs(book_id, legs)
            return
        before = {key: self._routes.stream(key) for key in self.held if key[0] == book_id}
        self._routes.legs(book_id, legs)
        for key, readers in before.items():
            left = self._routes.stream(key)
            parted = [held for held in readers if held not in left]
            if left:
                for subscription in parted:
                    subscription.put(Event("removed", self.held[key], why="mapping"))
            elif parted:
                self._remove(key, "mapping", parted)

    def trade(self, book_id: str, message: bytes) -> None:
        """One `trade`."""
        for subscription in self._routes.trades(book_id):
            book = self.held.get((book_id, subscription.depth, subscription.every_ms))
            subscription.put(Event("trade", book, message))

    def _tell(self, key: StreamKey, event: Event) -> None:
        for subscription in self._routes.stream(key):
            subscription.put(event)

    # --- what is over -----------------------------------------------------------------------------

    def _remove(
        self, key: StreamKey, why: str, readers: list[Subscription] | None = None, message: bytes = b""
    ) -> None:
        """A book is over: not exact, not held, and its readers (of now, or `readers`) are told."""
        book = self.held.pop(key, None)
        if book is None:
            return
        book.mirror.doubt()
        self._departures.gone(key)
        for subscription in self._routes.stream(key) if readers is None else readers:
            subscription.put(Event("removed", book, message, why=why))
        streams = self._streams[key[0]]
        streams.remove(book)
        if not streams:
            del self._streams[key[0]]
            self._repair.drop(key[0])

    def _unknown(self, book_id: str) -> None:
        """The gateway does not know a book that we asked it for."""
        for key in [key for key in self.held if key[0] == book_id]:
            self._remove(key, "unknown_book")

    def drop_unread(self) -> None:
        """Books that only a subscription which has ended read."""
        for key in [key for key in self.held if not self._routes.stream(key)]:
            self._remove(key, "unsubscribed")
