"""Asking for fresh snapshots of books in doubt: in batches, and ever more slowly when it does not help."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from wup.client.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.client.operations import Operations

_DELAY_S = 0.05
_DELAY_MAX_S = 5.0
_AT_ONCE = 200


class Repair:
    """The books of one feed that wait for a `resync`."""

    def __init__(self, operations: Operations, unknown: Callable[[str], None]) -> None:
        """`unknown` is told which book the gateway does not serve (any more)."""
        self._operations = operations
        self._unknown = unknown
        self._doubtful: set[str] = set()
        self._asked: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._delay = _DELAY_S

    def ask(self, book: str) -> None:
        """Ask for a snapshot soon; requests of one moment go in one message."""
        self._doubtful.add(book)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._send)
            # A server that answers with books that do not verify is asked ever more slowly.
            self._delay = min(2 * self._delay, _DELAY_MAX_S)

    def done(self, book: str) -> None:
        """A snapshot came, and was right."""
        self._doubtful.discard(book)
        self._asked.discard(book)
        self._delay = _DELAY_S

    def drop(self, book: str) -> None:
        """Nobody wants this book any more."""
        self._doubtful.discard(book)
        self._asked.discard(book)

    def forget(self) -> None:
        """The connection is gone: the next one brings all snapshots by itself."""
        self._doubtful.clear()
        self._asked.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        self._timer = None
        batch = sorted(self._doubtful)[:_AT_ONCE]
        if not batch:
            return
        self._doubtful.difference_update(batch)
        self._asked.update(batch)

        def answered(answer: dict[str, Any] | Refused) -> None:
            if not isinstance(answer, Refused):
                return
            # One book that is gone spoils the whole operation: the others are asked for again without it.
            # When it does not say which, all are, ever more slowly.
            if answer.at is not None and 0 <= answer.at < len(batch):
                gone = batch[answer.at]
                self._asked.discard(gone)
                if answer.code == "unknown_book":
                    self._unknown(gone)
            for book in sorted(self._asked.intersection(batch)):
                self.ask(book)

        self._operations.ask({"op": "resync", "books": batch}, answered)
        if self._doubtful:
            self._timer = asyncio.get_running_loop().call_later(_DELAY_S, self._send)
