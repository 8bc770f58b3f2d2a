"""The verified mirror: one native `MirrorBook` per book, and no message that it did not confirm goes on.

`Mirrors` reads changes, trades and marks of the bus (one subscription, so their order holds), tells its
listener what may be forwarded, and fetches whole books when something is missing: changes are buffered, the
snapshot asked for, the buffer replayed on top (wire.md section 3 rule 9). A snapshot is never applied to a
book that is being served, else readers would miss the deltas between.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

import orjson

from wup import logs, subjects
from wup._core import CoreError, MirrorBook, complement, parse_micro
from wup.backoff import full_jitter
from wup.gateway.mirrored import MirroredBook, kind_of
from wup.gateway.shards import Shards
from wup.metrics import MIRROR_BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wup.bus import Message
    from wup.clock import Clock
    from wup.gateway.listener import Listener
    from wup.gateway.source import SnapshotSource

_BUFFER = 4_096  # messages kept while a book waits for its snapshot
_CLOSED_S = 60.0
_FORGET_S = 90.0
_UNANSWERED = 6
_INSISTS = 5
_ANSWERS_PER_TURN = 50
_MARKS_PER_TURN = 50
_MARKS_AT_ONCE = 8 * 1024
_MARKS_WAIT = 4_096
"""Messages of 16 KiB, those of some seconds with 100,000 books; then the oldest gives way."""
_CHECKS_PER_TURN = 50

_CHANGES = subjects.changes("")
_TRADES = subjects.trades("")
_MARKS = subjects.orderbook_marks("")


class Mirrors:
    """All books of one gateway."""

    def __init__(
        self, source: SnapshotSource, listener: Listener, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self.books: dict[str, MirroredBook] = {}
        self._source = source
        self._listener = listener
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (jitter)
        self._by_subject: dict[str, MirroredBook] = {}
        self._shards = Shards(clock.monotonic())
        self._stopping = False
        # Long messages of marks, looked at some books at a time: shard, when they came, bytes.
        self._comparing = False
        self._marks_waiting: deque[tuple[str, float, bytes]] = deque(maxlen=_MARKS_WAIT)
        self._loaded = False
        self._wanted: dict[str, MirroredBook] = {}
        self._wanted_all = True
        self._wake = asyncio.Event()
        self._wake.set()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to fetch what is missing and to watch the marks."""
        self._shards.begin(self._clock.monotonic())
        self._tasks = [
            asyncio.create_task(self._refill(), name="gateway-refill"),
            asyncio.create_task(self._watch(), name="gateway-watch"),
        ]

    async def stop(self) -> None:
        """End both tasks."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def problems(self) -> list[str]:
        """Why this gateway is not ready; empty when it is."""
        found: list[str] = []
        if not self._loaded:
            found.append("loading")
        return found + self._shards.problems(self._clock.monotonic())

    # --- what the bus brings ----------------------------------------------------------------------

    def handle(self, message: Message) -> None:
        """One message of `orderbook.>`. Never raises for what the message says."""
        subject = message.subject
        book = self._by_subject.get(subject)
        if book is not None:
            self._change(book, message.payload)
        elif subject.startswith(_CHANGES):
            book = self._book(subject[len(_CHANGES) :])
            if book is not None:
                self._change(book, message.payload)
        elif subject.startswith(_TRADES):
            book = self.books.get(subject[len(_TRADES) :])
            if book is not None and book.serving and _is_trade(book.book, message.payload):
                self._listener.traded(book, message.payload)
        elif subject.startswith(_MARKS):
            self._marks(subject[len(_MARKS) :], message.payload)

    def doubt_all(self, why: str) -> None:
        """Messages were lost somewhere: no book is vouched for until it was fetched anew."""
        for book in list(self.books.values()):
            if book.serving:
                self._lost(book, why, None)
        self._wanted_all = True
        self._wake.set()

    def _book(self, book_id: str) -> MirroredBook | None:
        book = self.books.get(book_id)
        if book is None:
            tokens = book_id.split(".")
            if len(tokens) != 3 or tokens[2] != "yes":
                logs.bad_input("gateway", "", "bad_book", book_id)
                return None
            book = self.books[book_id] = MirroredBook(book_id, self._clock.monotonic())
            self._by_subject[subjects.changes(book_id)] = book
            self._listener.added(book)
            self._need(book)
        return book

    def _change(self, book: MirroredBook, payload: bytes) -> None:
        if not book.serving:
            self._hold(book, payload)
            return
        try:
            verdict = book.mirror.apply(payload)
            kind = kind_of(payload)
        except (CoreError, orjson.JSONDecodeError) as error:
            logs.bad_input("gateway", "", "bad_change", payload, error=str(error))
            self._lost(book, "gap", None)
            return
        if verdict == "exact":
            if kind == "delta" or (kind != "other" and self._learn(book, payload)):
                self._listener.changed(book, payload, kind)
                # Who named an asset that is none of its legs any more has to hear that first.
                if kind != "delta":
                    self._relink(book)
        elif verdict == "gap":
            MIRROR_BROKEN.labels(verdict).inc()
            self._lost(book, "gap", payload)
        elif verdict == "broken":
            MIRROR_BROKEN.labels(verdict).inc()
            # What it claims is not believed: neither its seq nor, later, its levels.
            body = orjson.loads(payload)
            self._lost(book, "gap", None, (body["epoch"], body.get("prev", 0)))

    def _hold(self, book: MirroredBook, payload: bytes) -> None:
        """A change of a book that waits for its snapshot."""
        try:
            is_snapshot = kind_of(payload) == "snapshot"
        except orjson.JSONDecodeError:
            logs.bad_input("gateway", "", "bad_change", payload)
            return
        if is_snapshot:
            # It came in order, so it stands above everything buffered before it.
            if self._fill(book, payload):
                book.buffer.clear()
                self._restored(book)
            return
        if len(book.buffer) >= _BUFFER:
            del book.buffer[: _BUFFER // 2]
        book.buffer.append(payload)

    def _fill(self, book: MirroredBook, payload: bytes) -> bool:
        """Put a whole book into the mirror; False when it cannot be used."""
        try:
            verdict = book.mirror.apply(payload)
        except CoreError as error:
            logs.bad_input("gateway", "", "bad_snapshot", payload, error=str(error))
            return False
        if verdict != "exact" or book.mirror.book != book.book:
            logs.bad_input("gateway", "", f"snapshot_{verdict}", payload)
            book.mirror = MirrorBook()
            return False
        if (book.mirror.epoch, book.mirror.seq) < book.high:
            # An answer from before what was already shown: the next one will be newer. A producer that
            # insists is believed, since what made `high` may have been wrong.
            book.mirror.doubt()
            book.behind += 1
            if book.behind >= _INSISTS:
                book.high = (0, 0)
            return False
        book.behind = 0
        return self._learn(book, payload)

    def _learn(self, book: MirroredBook, payload: bytes) -> bool:
        """Title, label and legs of a snapshot or status."""
        body = orjson.loads(payload)
        if body.get("book") != book.book:
            logs.bad_input("gateway", "", "wrong_book", payload)
            self._lost(book, "gap", None)
            return False
        book.title = body.get("title", book.title)
        book.label = body.get("label", book.label)
        legs = body.get("legs")
        if isinstance(legs, dict):
            book.said = frozenset(f"{leg['platform']}:{leg['asset']}" for leg in legs.values())
        if book.mirror.state == "closed":
            book.closed_at = book.closed_at or self._clock.monotonic()
        else:
            book.closed_at = None
        return True

    def _relink(self, book: MirroredBook) -> None:
        """Subscriptions by asset follow the legs that the book has said last."""
        before, book.assets = book.assets, book.said
        if before != book.assets:
            self._listener.relinked(book, before)

    # --- holes ------------------------------------------------------------------------------------

    def _lost(
        self,
        book: MirroredBook,
        why: str,
        payload: bytes | None,
        known: tuple[int, int] | None = None,
    ) -> None:
        """Take a book out of service; `known` is the last position that was verified."""
        if book.serving:
            book.high = max(book.high, known or (book.mirror.epoch, book.mirror.seq))
            book.serving = False
            book.buffer.clear()
            self._listener.lost(book, why)
        if payload is not None:
            book.buffer.append(payload)
        book.mirror.doubt()
        self._need(book)

    def _need(self, book: MirroredBook) -> None:
        self._wanted[book.book] = book
        self._wake.set()

    def _restored(self, book: MirroredBook) -> None:
        book.serving = True
        book.unanswered = 0
        self._relink(book)
        self._wanted.pop(book.book, None)
        self._listener.restored(book)

    def _answered(self, payload: bytes) -> None:
        """One snapshot that was asked for."""
        try:
            body = orjson.loads(payload)
            book_id = body["book"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            logs.bad_input("gateway", "", "bad_snapshot", payload)
            return
        book = self._book(book_id) if isinstance(book_id, str) else None
        if book is None:
            return
        book.unanswered = 0
        if book.serving or not self._shards.vouch(book.shard) or not self._fill(book, payload):
            return
        held, book.buffer = book.buffer, []
        for index, change in enumerate(held):
            try:
                verdict = book.mirror.apply(change)
            except CoreError as error:
                logs.bad_input("gateway", "", "bad_change", change, error=str(error))
                book.mirror.doubt()
                return
            if verdict in ("gap", "broken"):
                MIRROR_BROKEN.labels(verdict).inc()
                book.buffer = held[index + (verdict == "broken") :]
                book.mirror.doubt()
                return
            if verdict == "exact" and kind_of(change) == "status" and not self._learn(book, change):
                return
        self._restored(book)

    async def _refill(self) -> None:
        """Ask for what is missing, until nothing is."""
        attempt = 0
        # A source may swallow the cancellation (asyncio.wait_for did until Python 3.12), hence the flag.
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            whole, self._wanted_all = self._wanted_all, False
            wanted, self._wanted = self._wanted, {}
            try:
                for pattern in [">"] if whole else _patterns(wanted):
                    await self._ask(pattern)
                failed = False
                self._loaded = self._loaded or whole
            except Exception as error:  # a source may fail in any way; this task must outlive it
                logs.log("gateway").warning("snapshots failed", error=str(error) or repr(error))
                failed = True
                self._wanted_all = self._wanted_all or whole
            # Not only what was asked for: an answer to the whole may have been of no use for some.
            missing = [
                book for book in self.books.values() if not book.serving and self._shards.vouch(book.shard)
            ]
            for book in missing:
                book.unanswered += 0 if failed else 1
                if book.unanswered >= _UNANSWERED:
                    self._remove(book)
                else:
                    self._wanted[book.book] = book
            if failed or missing:
                await asyncio.sleep(full_jitter(attempt, self._rng.uniform, cap=2.0))
                attempt += 1
                self._wake.set()
            else:
                attempt = 0

    async def _ask(self, pattern: str) -> None:
        count = 0
        async for payload in self._source.stream(pattern):
            self._answered(payload)
            count += 1
            if count % _ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _remove(self, book: MirroredBook) -> None:
        """The service knows this book no more."""
        if book.closed_at is None:
            # Also to those who wait since an earlier gap: they would wait for ever.
            self._listener.lost(book, "unmapped")
        self.books.pop(book.book, None)
        self._by_subject.pop(subjects.changes(book.book), None)
        self._wanted.pop(book.book, None)
        self._listener.removed(book)

    # --- marks ------------------------------------------------------------------------------------

    def _marks(self, shard: str, payload: bytes) -> None:
        now = self._clock.monotonic()
        if self._shards.marked(shard, now):
            self._wanted_all = True
            self._wake.set()
        if len(payload) <= _MARKS_AT_ONCE and not self._comparing:
            rows = self._rows(payload)
            if len(rows) <= _MARKS_PER_TURN:
                self._compare(shard, now, rows, payload)
                return
        # Thousands would stall the loop for milliseconds. A mark that is looked at late is as good as
        # before: it says how far its book had come.
        self._marks_waiting.append((shard, now, payload))
        if not self._comparing:
            self._comparing = True
            asyncio.get_running_loop().call_soon(self._next_marks)

    def _next_marks(self) -> None:
        """Read one message of marks; its books are looked at in the turns after this one."""
        self._comparing = bool(self._marks_waiting) and not self._stopping
        if self._comparing:
            shard, now, payload = self._marks_waiting.popleft()
            self._some(shard, now, self._rows(payload), payload)

    def _some(self, shard: str, now: float, rows: list[tuple[str, list[int]]], payload: bytes) -> None:
        part = rows[-_MARKS_PER_TURN:]
        del rows[-_MARKS_PER_TURN:]
        self._compare(shard, now, part, payload)
        loop = asyncio.get_running_loop()
        if rows and not self._stopping:
            loop.call_soon(self._some, shard, now, rows, payload)
        else:
            loop.call_soon(self._next_marks)

    def _rows(self, payload: bytes) -> list[tuple[str, list[int]]]:
        try:
            return list(orjson.loads(payload)["books"].items())
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            logs.bad_input("gateway", "", "bad_marks", payload)
            return []

    def _compare(self, shard: str, now: float, rows: list[tuple[str, list[int]]], payload: bytes) -> None:
        """Hold marks that came at `now` against the mirrors."""
        for name, mark in rows:
            try:
                position, digest = (int(mark[0]), int(mark[1])), int(mark[2])
            except (TypeError, ValueError, IndexError, KeyError):
                logs.bad_input("gateway", "", "bad_marks", payload)
                continue
            book = self._book(name)
            if book is None:
                continue
            book.shard = shard
            book.marked_at = now
            book.unanswered = 0
            if not book.serving:
                continue
            own = (book.mirror.epoch, book.mirror.seq)
            if position > own:
                MIRROR_BROKEN.labels("mark_ahead").inc()
                book.high = max(book.high, position)
                self._lost(book, "gap", None)
            elif position == own and digest != book.mirror.digest:
                MIRROR_BROKEN.labels("mark_digest").inc()
                self._lost(book, "gap", None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            for _ in self._checks():
                await asyncio.sleep(0)

    def check(self) -> None:
        """Late marks and books that are over."""
        for _ in self._checks():
            pass

    def _checks(self) -> Iterator[None]:
        """`check`, done four times a second, with a pause for others after some books."""
        now = self._clock.monotonic()
        self._shards.look(now)
        for place, book in enumerate(list(self.books.values()), 1):
            if place % _CHECKS_PER_TURN == 0:
                yield
            if self.books.get(book.book) is not book:
                continue
            if book.serving and not self._shards.vouch(book.shard):
                self._lost(book, "upstream_silent", None)
            elif book.closed_at is not None and now - book.closed_at > _CLOSED_S:
                self._remove(book)
            elif self._shards.complete and now - book.marked_at > _FORGET_S:
                # Marks name every book once in thirty seconds: this one is gone.
                self._remove(book)


def _is_trade(book: str, payload: bytes) -> bool:
    """A trade stands outside the book's sequence, so its form and its book are all that can be verified."""
    try:
        body = orjson.loads(payload)
        complement(body["price"])
        if body["type"] == "trade" and body["book"] == book and parse_micro(body["size"]) > 0:
            return True
    except (CoreError, orjson.JSONDecodeError, KeyError, TypeError):
        pass
    logs.bad_input("gateway", "", "bad_trade", payload)
    return False


def _patterns(wanted: dict[str, MirroredBook]) -> list[str]:
    """Few books are asked for one by one, many all at once."""
    return list(wanted) if len(wanted) <= 8 else [">"]
