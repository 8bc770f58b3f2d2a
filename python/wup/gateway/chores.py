"""Work over many books, done some at a time so that nobody waits for all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

from wup import logs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

PER_TURN = 250
"""How much is done in one turn of the loop for all clients together, in books looked at."""

AT_ONCE = 50
"""How much one piece of work does before others have their turn."""

_T = TypeVar("_T")

Work = Generator[int, None, None]
"""Yields after each piece how much it was, in books looked at (about four microseconds each)."""


class Chores:
    """The pieces of work that are not finished; each gets its turn.

    A chore begins at once while the present turn of the loop has room, so what is small is done when `begin`
    returns. The rest goes on in later turns, between the changes that are sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Work] = deque()
        self._room = PER_TURN
        self._scheduled = False
        self._running = False

    def begin(self, work: Work) -> None:
        """Do `work`, at once or soon. It must not raise: what it raises is logged, and the work is over."""
        self._waiting.append(work)
        if not self._running:
            self._go_on()

    def _turn(self) -> None:
        self._scheduled = False
        self._room = PER_TURN
        self._go_on()

    def _go_on(self) -> None:
        self._running = True
        while self._waiting and self._room > 0:
            work = self._waiting.popleft()
            try:
                self._room -= next(work)
                self._waiting.append(work)
            except StopIteration:
                self._room -= 1
            except Exception as error:  # one client's work must not end another's
                logs.log("gateway").error("work failed", error=logs.clean(repr(error)))
        self._running = False
        if self._room < PER_TURN and not self._scheduled:
            # Also when nothing waits: the next turn has its room anew.
            self._scheduled = True
            self._loop.call_soon(self._turn)


def pieces(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """`items` in pieces that are small enough to be done at once."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
