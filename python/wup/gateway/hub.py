"""Who reads what: the subscription index, and the fan-out of verified messages.

Patterns are looked at when a client subscribes and when a book appears, never when a change goes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from wup.gateway import pattern as patterns
from wup.gateway.chores import Chores
from wup.gateway.stream import ShapedStream, Stream, TradeFeed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from wup.clock import Clock
    from wup.gateway.mirror import Mirrors
    from wup.gateway.mirrored import Kind, MirroredBook
    from wup.gateway.outbox import Wakeup
    from wup.gateway.pattern import Pattern, Place
    from wup.gateway.protocol import Options
    from wup.gateway.reading import Subscription


_K = TypeVar("_K")


class Hub:
    """All subscriptions over all books. Implements the mirror's `Listener`."""

    def __init__(self, wakeup: Wakeup, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.mirrors: Mirrors  # set by the service: hub and mirrors know each other
        self.chores = Chores(loop)
        self._wakeup = wakeup
        self._clock = clock
        self._loop = loop
        self._wild: dict[Place, dict[Subscription, None]] = {}
        self._named: dict[str, dict[Subscription, None]] = {}
        self._by_place: dict[Place, dict[str, MirroredBook]] = {}
        self._by_asset: dict[str, dict[MirroredBook, None]] = {}

    # --- finding books ----------------------------------------------------------------------------

    def find(self, pattern: Pattern) -> list[MirroredBook]:
        """The books that a pattern matches now."""
        if pattern.kind == "asset":
            return list(self._by_asset.get(pattern.yes, ()))
        if pattern.kind == "book":
            book = self.mirrors.books.get(pattern.yes)
            return [] if book is None else [book]
        return list(self._by_place.get(pattern.place, {}).values())

    def stream(self, book: MirroredBook, pattern: Pattern, options: Options) -> Stream:
        """The stream of `book` that a subscription reads, made on first use."""
        key = (pattern.no, options.depth, options.every_ms)
        stream = book.streams.get(key)
        if stream is None:
            if options.depth is None and options.every_ms is None:
                stream = Stream(book, pattern.no, self._wakeup, self._clock)
            else:
                stream = ShapedStream(
                    book,
                    pattern.no,
                    options.depth,
                    options.every_ms,
                    self._wakeup,
                    self._clock,
                    self._loop,
                )
            book.streams[key] = stream
        return stream

    def feed(self, book: MirroredBook, no: bool) -> TradeFeed:
        """The trades of `book`."""
        feed = book.trades.get(no)
        if feed is None:
            feed = book.trades[no] = TradeFeed(no, self._wakeup)
        return feed

    def add(self, subscription: Subscription) -> None:
        """Tell this subscription about books that appear later."""
        pattern = subscription.pattern
        if pattern.kind == "wild":
            self._wild.setdefault(pattern.place, {})[subscription] = None
        else:
            self._named.setdefault(pattern.yes, {})[subscription] = None

    def discard(self, subscription: Subscription) -> None:
        """The opposite of `add`."""
        pattern = subscription.pattern
        if pattern.kind == "wild":
            _discard(self._wild, pattern.place, subscription)
        else:
            _discard(self._named, pattern.yes, subscription)

    # --- what the mirror says ---------------------------------------------------------------------

    def added(self, book: MirroredBook) -> None:
        """A book appeared: it joins every subscription that matches."""
        for place in patterns.places(book.book):
            self._by_place.setdefault(place, {})[book.book] = book
            self._join(book, self._wild.get(place, ()))
        self._join(book, self._named.get(book.book, ()))

    def _join(self, book: MirroredBook, subscriptions: Iterable[Subscription]) -> None:
        for subscription in list(subscriptions):
            subscription.reading.join(subscription, book)

    def changed(self, book: MirroredBook, payload: bytes, kind: Kind) -> None:
        """One verified message: every stream of the book that somebody reads."""
        now = self._clock.monotonic()
        for stream in book.streams.values():
            stream.advance(payload, kind, now)

    def traded(self, book: MirroredBook, payload: bytes) -> None:
        """One trade."""
        now = self._clock.monotonic()
        for feed in book.trades.values():
            feed.send(payload, now)

    def lost(self, book: MirroredBook, why: str) -> None:
        """Readers are told that the book is not exact."""
        now = self._clock.monotonic()
        for stream in book.streams.values():
            stream.lost(why, now)

    def restored(self, book: MirroredBook) -> None:
        """Readers get their snapshots."""
        for stream in book.streams.values():
            stream.restored()

    def relinked(self, book: MirroredBook, before: frozenset[str]) -> None:
        """The legs of a book are others than before: subscriptions by asset follow."""
        for asset in sorted(before - book.assets):
            books = self._by_asset.get(asset)
            if books is not None:
                books.pop(book, None)
                if not books:
                    del self._by_asset[asset]
            for subscription in list(self._named.get(asset, ())):
                subscription.reading.part(subscription, book)
        for asset in sorted(book.assets - before):
            self._by_asset.setdefault(asset, {})[book] = None
            self._join(book, self._named.get(asset, ()))

    def removed(self, book: MirroredBook) -> None:
        """A book is over: nobody reads it any more."""
        for place in patterns.places(book.book):
            books = self._by_place.get(place, {})
            books.pop(book.book, None)
            if not books:
                self._by_place.pop(place, None)
            for subscription in list(self._wild.get(place, ())):
                subscription.reading.part(subscription, book)
        before, book.assets = book.assets, frozenset()
        book.said = frozenset()
        self.relinked(book, before)
        for subscription in list(self._named.get(book.book, ())):
            subscription.reading.part(subscription, book)
        for stream in book.streams.values():
            stream.drop()
        book.streams.clear()
        book.trades.clear()

    def release(self, stream: Stream) -> None:
        """Forget a stream that no client wants any more."""
        if stream.users == 0:
            stream.drop()
            stream.book.streams.pop((stream.no, stream.depth, stream.every_ms), None)


def _discard(index: dict[_K, dict[Subscription, None]], key: _K, subscription: Subscription) -> None:
    subscriptions = index.get(key)
    if subscriptions is not None:
        subscriptions.pop(subscription, None)
        if not subscriptions:
            del index[key]
