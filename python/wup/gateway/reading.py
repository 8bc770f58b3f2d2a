"""What one client reads: its subscriptions, the streams they come to, and each stream once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.gateway.hub import Hub
    from wup.gateway.limits import Limits
    from wup.gateway.mirrored import MirroredBook
    from wup.gateway.outbox import Outbox
    from wup.gateway.pattern import Pattern
    from wup.gateway.protocol import Options
    from wup.gateway.stream import Stream, TradeFeed

_AT_ONCE = 250

_StreamName = tuple[str, bool, int | None, int | None]


def _name(book: MirroredBook, pattern: Pattern, options: Options) -> _StreamName:
    return (book.book, pattern.no, options.depth, options.every_ms)


class Subscription:
    """One pattern of one client, with its options, and the streams it reads."""

    __slots__ = ("feeds", "options", "pattern", "reading", "streams")

    def __init__(self, reading: Reading, pattern: Pattern, options: Options) -> None:
        self.reading = reading
        self.pattern = pattern
        self.options = options
        self.streams: dict[Stream, None] = {}
        self.feeds: dict[TradeFeed, None] = {}


class Reading:
    """All subscriptions of one client. `left_out` is called when a book is one too many."""

    def __init__(self, hub: Hub, limits: Limits, left_out: Callable[[], None]) -> None:
        self.box: Outbox
        self.subscriptions: dict[tuple[str, Options], Subscription] = {}
        self._hub = hub
        self._limits = limits
        self._left_out = left_out
        self._uses: dict[Stream, int] = {}
        self._pending: deque[tuple[Subscription, MirroredBook]] = deque()
        self._reserved: dict[_StreamName, int] = {}
        self._scheduled = False

    def reads(self, book: MirroredBook, pattern: Pattern, options: Options) -> bool:
        """Is this stream read already, or about to be?"""
        stream = book.streams.get((pattern.no, options.depth, options.every_ms))
        used = stream is not None and stream in self._uses
        return used or _name(book, pattern, options) in self._reserved

    def room_for(self, more: int) -> bool:
        """Would this many more streams be within the limit?"""
        return len(self._uses) + len(self._reserved) + more <= self._limits.ws_books

    def streams_of(self, book: MirroredBook, no: bool) -> list[Stream]:
        """The streams of one view of a book that are read, whatever their options."""
        return [stream for stream in book.streams.values() if stream in self._uses and stream.no == no]

    def begin(self, pattern: Pattern, options: Options, books: list[MirroredBook]) -> None:
        """Put a subscription in force; `books` are those that match now."""
        subscription = Subscription(self, pattern, options)
        self.subscriptions[pattern.text, options] = subscription
        self._hub.add(subscription)
        for book in books:
            self._pending.append((subscription, book))
            stream = book.streams.get((pattern.no, options.depth, options.every_ms))
            if stream is None or stream not in self._uses:
                name = _name(book, pattern, options)
                self._reserved[name] = self._reserved.get(name, 0) + 1
        if not self._scheduled:
            self._read_some()

    def _read_some(self) -> None:
        """Join the streams of a large subscribe in slices, so that nobody else waits for all of them."""
        for _ in range(min(_AT_ONCE, len(self._pending))):
            subscription, book = self._pending.popleft()
            self._unreserve(_name(book, subscription.pattern, subscription.options))
            if self._hub.mirrors.books.get(book.book) is book:
                self._read(subscription, book, "subscribe")
        self._scheduled = bool(self._pending)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._read_some)

    def _unreserve(self, name: _StreamName) -> None:
        left = self._reserved.get(name, 0) - 1
        if left > 0:
            self._reserved[name] = left
        else:
            self._reserved.pop(name, None)

    def _read(self, subscription: Subscription, book: MirroredBook, why: str) -> None:
        stream = self._hub.stream(book, subscription.pattern, subscription.options)
        if stream in subscription.streams:
            return
        subscription.streams[stream] = None
        uses = self._uses.get(stream, 0)
        self._uses[stream] = uses + 1
        self._reserved.pop((stream.book.book, stream.no, stream.depth, stream.every_ms), None)
        if uses == 0:
            stream.users += 1
            stream.want(self.box, why)
        if subscription.options.trades:
            feed = self._hub.feed(book, subscription.pattern.no)
            subscription.feeds[feed] = None
            feed.join(self.box)

    def join(self, subscription: Subscription, book: MirroredBook) -> None:
        """A book began to match one of our patterns."""
        if self.reads(book, subscription.pattern, subscription.options) or self.room_for(1):
            self._read(subscription, book, "join")
        else:
            self._left_out()

    def part(self, subscription: Subscription, book: MirroredBook) -> None:
        """A book matches one of our patterns no more."""
        for stream in [stream for stream in subscription.streams if stream.book is book]:
            subscription.streams.pop(stream, None)
            self._unread(stream)
        for feed in book.trades.values():
            if feed in subscription.feeds:
                subscription.feeds.pop(feed, None)
                feed.leave(self.box)

    def end(self, key: tuple[str, Options]) -> None:
        """Take a subscription out of force."""
        subscription = self.subscriptions.pop(key)
        self._hub.discard(subscription)
        if self._pending:
            waiting, self._pending = self._pending, deque()
            for entry in waiting:
                if entry[0] is subscription:
                    self._unreserve(_name(entry[1], subscription.pattern, subscription.options))
                else:
                    self._pending.append(entry)
        for stream in subscription.streams:
            self._unread(stream)
        for feed in subscription.feeds:
            feed.leave(self.box)
        subscription.streams.clear()
        subscription.feeds.clear()

    def end_all(self) -> None:
        """The client is gone."""
        for key in list(self.subscriptions):
            self.end(key)
        self._pending.clear()
        self._reserved.clear()

    def _unread(self, stream: Stream) -> None:
        uses = self._uses.get(stream, 0) - 1
        if uses > 0:
            self._uses[stream] = uses
            return
        if self._uses.pop(stream, None) is None:
            return
        stream.users -= 1
        self.box.forget(stream)
        self._hub.release(stream)
