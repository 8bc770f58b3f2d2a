"""What one client reads: its subscriptions, the streams they come to, and each stream once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.gateway.chores import AT_ONCE, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from wup.gateway.chores import Work
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Limits
    from wup.gateway.mirrored import MirroredBook
    from wup.gateway.outbox import Outbox
    from wup.gateway.pattern import Pattern
    from wup.gateway.protocol import Options
    from wup.gateway.stream import Stream, TradeFeed

View = tuple["MirroredBook", bool]
"""A book, as YES or as NO."""

_Form = tuple[int | None, int | None]


def _form(options: Options) -> _Form:
    return (options.depth, options.every_ms)


class Subscription:
    """One pattern of one client, with its options, and the streams it reads.

    `waiting` are books that match and are not read yet, with the `why` of their snapshot to come. The hub
    tells a subscription about books that come and go from the first look at its pattern on, so none is missed
    while the others are counted; `in_force` is true once the client was told.
    """

    __slots__ = ("feeds", "in_force", "options", "pattern", "reading", "streams", "waiting")

    def __init__(self, reading: Reading, pattern: Pattern, options: Options) -> None:
        self.reading = reading
        self.pattern = pattern
        self.options = options
        self.in_force = False
        self.waiting: dict[MirroredBook, str] = {}
        self.streams: dict[Stream, None] = {}
        self.feeds: dict[TradeFeed, None] = {}


class Reading:
    """All subscriptions of one client. `left_out` is called when a book is one too many.

    What takes time in proportion to the books is a `Work`; one is done at a time.
    """

    def __init__(self, hub: Hub, limits: Limits, left_out: Callable[[], None]) -> None:
        self.box: Outbox
        self.subscriptions: dict[tuple[str, Options], Subscription] = {}
        self.ever = False
        """Has anything ever been in force?"""
        self._hub = hub
        self._limits = limits
        self._left_out = left_out
        self._uses: dict[Stream, int] = {}
        self._claims: set[View] = set()  # room taken by what is subscribed to just now
        self._claimed_form: _Form = (None, None)
        self._leaving: list[Subscription] = []

    def streams_of(self, book: MirroredBook, no: bool) -> list[Stream]:
        """The streams of one view of a book that are read, whatever their options."""
        return [stream for stream in book.streams.values() if stream.no == no and stream in self._uses]

    def reads(self, stream: Stream) -> bool:
        """Is this stream read?"""
        return stream in self._uses

    # --- subscribe --------------------------------------------------------------------------------

    def propose(self, pattern: Pattern, options: Options) -> Subscription:
        """A subscription that is not in force: `count` it, then `enforce` or `withdraw` it."""
        subscription = Subscription(self, pattern, options)
        self._hub.add(subscription)
        subscription.waiting = dict.fromkeys(self._hub.find(pattern), "subscribe")
        return subscription

    def count(self, proposed: Subscription, matched: set[View]) -> Generator[int, None, bool]:
        """Note what it matches, and take the room for what is not read yet; is there enough?"""
        if len(proposed.waiting) > self._limits.ws_books:
            return False
        no, form = proposed.pattern.no, _form(proposed.options)
        self._claimed_form = form
        for books in pieces(list(proposed.waiting)):
            for book in books:
                view = (book, no)
                matched.add(view)
                stream = book.streams.get((no, *form))
                if stream is None or stream not in self._uses:
                    self._claims.add(view)
            if not self._room_for(0):
                return False
            yield len(books)
        return True

    def _room_for(self, more: int) -> bool:
        return len(self._uses) + len(self._claims) + more <= self._limits.ws_books

    def enforce(self, proposed: Iterable[Subscription]) -> None:
        """The client is being told; `read` follows."""
        self.ever = True
        for subscription in proposed:
            subscription.in_force = True
            self.subscriptions[subscription.pattern.text, subscription.options] = subscription

    def withdraw(self, proposed: Iterable[Subscription]) -> None:
        """Leave nothing of these behind."""
        for subscription in proposed:
            self._hub.discard(subscription)
            subscription.waiting.clear()
        self._claims.clear()

    def read(self, subscriptions: Iterable[Subscription]) -> Work:
        """Join what waits."""
        for subscription in subscriptions:
            for books in pieces(list(subscription.waiting)):
                for book in books:
                    why = subscription.waiting.pop(book, None)
                    if why == "join":
                        self.join(subscription, book)
                    elif why is not None:
                        self._read(subscription, book, why)
                yield len(books)
        self._claims.clear()

    def _read(self, subscription: Subscription, book: MirroredBook, why: str) -> None:
        stream = self._hub.stream(book, subscription.pattern, subscription.options)
        if stream in subscription.streams:
            return
        subscription.streams[stream] = None
        uses = self._uses.get(stream, 0)
        self._uses[stream] = uses + 1
        if self._claims and _form(subscription.options) == self._claimed_form:
            self._claims.discard((book, stream.no))
        if uses == 0:
            stream.users += 1
            stream.want(self.box, why)
        if subscription.options.trades:
            feed = self._hub.feed(book, subscription.pattern.no)
            subscription.feeds[feed] = None
            feed.join(self.box)

    # --- books that come and go -------------------------------------------------------------------

    def join(self, subscription: Subscription, book: MirroredBook) -> None:
        """A book began to match one of our patterns."""
        if not subscription.in_force:
            subscription.waiting[book] = "join"
            return
        no, form = subscription.pattern.no, _form(subscription.options)
        stream = book.streams.get((no, *form))
        known = stream in self._uses or (form == self._claimed_form and (book, no) in self._claims)
        if known or self._room_for(1):
            self._read(subscription, book, "join")
        else:
            self._left_out()

    def part(self, subscription: Subscription, book: MirroredBook) -> None:
        """A book matches one of our patterns no more."""
        subscription.waiting.pop(book, None)
        for stream in list(book.streams.values()):
            if stream in subscription.streams:
                del subscription.streams[stream]
                self._unread(stream)
        for feed in book.trades.values():
            if feed in subscription.feeds:
                del subscription.feeds[feed]
                feed.leave(self.box)

    # --- unsubscribe ------------------------------------------------------------------------------

    def end(self, subscriptions: Iterable[Subscription]) -> Work:
        """Take these out of force, and leave their streams."""
        for subscription in list(subscriptions):
            del self.subscriptions[subscription.pattern.text, subscription.options]
            self._hub.discard(subscription)
            self._leaving.append(subscription)
        return self._leave()

    def _leave(self) -> Work:
        while self._leaving:
            subscription = self._leaving[-1]
            subscription.waiting.clear()
            done = 0
            # By popping: others may take some out in between.
            while subscription.streams:
                self._unread(subscription.streams.popitem()[0])
                done += 1
                if done % AT_ONCE == 0:
                    yield AT_ONCE
            while subscription.feeds:
                subscription.feeds.popitem()[0].leave(self.box)
                done += 1
                if done % AT_ONCE == 0:
                    yield AT_ONCE
            self._leaving.remove(subscription)
            yield 1

    def end_all(self) -> Work:
        """The client is gone. (What it was about to leave is left too.)"""
        return self.end(list(self.subscriptions.values()))

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
