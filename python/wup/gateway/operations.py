"""What a client asks of its books (wire.md section 4): subscribe, unsubscribe, resync, list.

Each operation is a `Work`: many books are done some at a time. It raises a `Fault` before it says anything,
or says its one answer.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from wup.gateway import pattern as patterns
from wup.gateway.chores import AT_ONCE, pieces
from wup.gateway.protocol import Fault, Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.gateway.chores import Work
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Limits
    from wup.gateway.mirrored import MirroredBook
    from wup.gateway.outbox import Outbox
    from wup.gateway.pattern import Pattern
    from wup.gateway.protocol import Op
    from wup.gateway.reading import Reading, Subscription, View
    from wup.gateway.stream import Stream

_PAGE = 500


class Operations:
    """Carries out the operations of one client, one after the other.

    `say` sends an answer; `allows` is what the client's token covers at the moment.
    """

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        reading: Reading,
        say: Callable[[dict[str, Any]], None],
        allows: Callable[[Pattern], bool],
    ) -> None:
        self.box: Outbox
        self._hub = hub
        self._limits = limits
        self._reading = reading
        self._say = say
        self._allows = allows

    def run(self, op: Op) -> Work:
        """Do it.

        Raises:
            Fault: nothing was done; the code says why.
        """
        if op.name == "subscribe":
            return self._subscribe(op)
        if op.name == "unsubscribe":
            return self._unsubscribe(op)
        if op.name == "resync":
            return self._resync(op)
        return self._list(op)

    def _pattern(self, text: str, at: int | None) -> Pattern:
        try:
            pattern = patterns.parse(text)
        except ValueError as error:
            raise Fault("bad_pattern", str(error), at) from None
        self._check(pattern, at)
        return pattern

    def _check(self, pattern: Pattern, at: int | None) -> None:
        if not self._allows(pattern):
            raise Fault("forbidden", "the token does not cover this", at)

    # --- subscribe --------------------------------------------------------------------------------

    def _subscribe(self, op: Op) -> Work:
        proposed: dict[str, Subscription] = {}
        matched: set[View] = set()
        try:
            for at, text in enumerate(op.books):
                yield from self._propose(op, at, text, proposed, matched)
            for at, subscription in enumerate(proposed.values()):
                self._check(subscription.pattern, at)  # the token may have been narrowed meanwhile
        except BaseException:
            self._reading.withdraw(proposed.values())
            raise
        subscriptions = list(proposed.values())
        self._reading.enforce(subscriptions)
        self._say({"type": "subscribed", "id": op.id, "books": list(op.books), "matched": len(matched)})
        yield from self._reading.read(subscriptions)

    def _propose(
        self, op: Op, at: int, text: str, proposed: dict[str, Subscription], matched: set[View]
    ) -> Work:
        """Judge one entry, and count what it would read."""
        reading, limits = self._reading, self._limits
        pattern = self._pattern(text, at)
        if text in proposed or (text, op.options) in reading.subscriptions:
            raise Fault("already_subscribed", "this pattern is in force already", at)
        if len(reading.subscriptions) + len(proposed) >= limits.ws_patterns:
            raise Fault("too_many_patterns", f"limit {limits.ws_patterns}", at)
        subscription = proposed[text] = reading.propose(pattern, op.options)
        books = len(subscription.waiting)
        if not (yield from reading.count(subscription, matched)):
            raise Fault("too_many_books", f"pattern matches {books} books, limit {limits.ws_books}", at)
        yield 1

    # --- unsubscribe ------------------------------------------------------------------------------

    def _unsubscribe(self, op: Op) -> Work:
        in_force: dict[str, list[Subscription]] = {}
        for (text, options), subscription in self._reading.subscriptions.items():
            if op.options in (Options(), options):
                in_force.setdefault(text, []).append(subscription)
        ending: list[Subscription] = []
        for at, text in enumerate(op.books):
            found = in_force.pop(text, None)
            if found is None:
                raise Fault("not_subscribed", "no such pattern in force", at)
            ending.extend(found)
        yield from self._reading.end(ending)
        self._say({"type": "unsubscribed", "id": op.id, "books": list(op.books)})

    # --- resync and list --------------------------------------------------------------------------

    def _resync(self, op: Op) -> Work:
        wanted: list[Stream] = []
        for at, text in enumerate(op.books):
            pattern = self._pattern(text, at)
            books = self._hub.find(pattern) if pattern.kind != "wild" else []
            held = [stream for book in books for stream in self._reading.streams_of(book, pattern.no)]
            if not held:
                raise Fault("unknown_book", "not a book of this connection", at)
            wanted.extend(held)
            if at % AT_ONCE == AT_ONCE - 1:
                yield AT_ONCE
        self._say({"type": "resynced", "id": op.id, "books": list(op.books)})
        for streams in pieces(wanted):
            for stream in streams:
                if self._reading.reads(stream):
                    stream.want(self.box, "resync")
            yield len(streams)

    def _list(self, op: Op) -> Work:
        pattern = self._pattern(op.match, None)
        page: list[tuple[str, MirroredBook]] = []
        for books in pieces(self._hub.find(pattern)):
            names = [(book.no_book if pattern.no else book.book, book) for book in books]
            page += [pair for pair in names if op.after is None or pair[0] > op.after]
            page = sorted(page, key=itemgetter(0))[: _PAGE + 1]
            yield 2 * len(books)
        more = len(page) > _PAGE
        page = page[:_PAGE]
        self._say(
            {
                "type": "books",
                "id": op.id,
                "books": [
                    {"book": name, "title": book.title, "label": book.label, "state": book.state()}
                    for name, book in page
                ],
                "next": page[-1][0] if more else None,
            }
        )
        yield len(page)
