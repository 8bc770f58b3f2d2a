"""Snapshots for readers of the bus (wire.md section 3 rule 9).

One message per book, then an empty one that says how many there were. The answer to a pattern may be larger
than any queue, so it is written in portions, each when the one before has left; when a message is dropped all
the same there is no end, and the reader, who waits for it, knows that the list is not whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import orjson

from wup import logs
from wup._core import CoreError, UnknownBook
from wup.bus.base import COUNT
from wup.metrics import DROPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup._core import BookStore
    from wup.bus import Bus, Message

_BOOKS_IN_A_LIST = 256
_PORTION = 16
"""Books in one turn of the loop: in one process the readers behind them take their time in it too."""
_WAITING_BYTES = 8 * 1024 * 1024
"""More than this waiting for the bus, and the next portion waits too."""
_LOOK_S = 0.005
_PATIENCE_S = 10.0
_REQUESTS = 64
"""Requests that wait; one more is dropped, and its sender will ask again."""


class SnapshotAnswers:
    """Answers one request after the other, beside the hot path."""

    def __init__(self, bus: Bus, store: BookStore, now_us: Callable[[], int]) -> None:
        self._bus = bus
        self._store = store
        self._now_us = now_us
        self._requests: deque[tuple[str, list[str]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def take(self, message: Message) -> None:
        """A request: answered soon. One that cannot be read gets an empty list."""
        if message.reply is None:
            return
        try:
            body = orjson.loads(message.payload)
            named = body["books"] if "match" not in body else None
            if named is None:
                books = self._store.books(body["match"])
            elif isinstance(named, list) and len(named) <= _BOOKS_IN_A_LIST:
                books = [str(book) for book in named]
            else:
                raise TypeError(f"books is a list of at most {_BOOKS_IN_A_LIST}")
        except (orjson.JSONDecodeError, KeyError, TypeError, CoreError) as error:
            logs.bad_input("orderbook", "", "bad_snapshot_request", message.payload, error=repr(error))
            self._bus.publish(message.reply, b"", {COUNT: "0"})
            return
        if len(self._requests) >= _REQUESTS:
            DROPPED.labels("snapshot_requests").inc()
            return
        self._requests.append((message.reply, books))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_all(), name="orderbook-snapshots")

    async def stop(self) -> None:
        """No answer goes out after this returns."""
        self._requests.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _answer_all(self) -> None:
        while self._requests:
            reply, books = self._requests.popleft()
            try:
                whole = await self._answer(reply, books)
            except Exception as error:
                # The next reader's answer must not depend on this one's.
                logs.bad_input("orderbook", "", "snapshots_failed", repr(error))
                whole = False
            if not whole:
                DROPPED.labels("snapshot_answers").inc()

    async def _answer(self, reply: str, books: list[str]) -> bool:
        sent = 0
        for start in range(0, len(books), _PORTION):
            if not await self._room():
                return False
            now_us = self._now_us()
            for book in books[start : start + _PORTION]:
                try:
                    snapshot = self._store.snapshot(book, None, "resync", now_us)
                except UnknownBook:
                    continue
                if not self._bus.publish(reply, snapshot):
                    return False
                sent += 1
            # The stream goes first.
            await asyncio.sleep(0)
        return self._bus.publish(reply, b"", {COUNT: str(sent)})

    async def _room(self) -> bool:
        """Wait until little is queued; False when that does not happen."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self._bus.waiting_bytes > _WAITING_BYTES:  # noqa: ASYNC110 - the bus has no such event
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            return False
        return True
