"""A book as a client holds it: verified message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup._core import MirrorBook

if TYPE_CHECKING:
    from wup._core import Book, Level


class LiveBook:
    """One stream's book. Prices and sizes are exact (`decimal.Decimal`).

    `exact` is true while the copy is proven equal to the server's at (`epoch`, `seq`); everything else is
    only worth looking at then.
    """

    __slots__ = ("_mirror", "depth", "every_ms", "id", "label", "title")

    def __init__(self, book: str, depth: int | None, every_ms: int | None) -> None:
        self.id = book
        self.depth = depth
        self.every_ms = every_ms
        self.title: str | None = None
        self.label: str | None = None
        self._mirror = MirrorBook()

    @property
    def mirror(self) -> MirrorBook:
        """The native copy."""
        return self._mirror

    @property
    def exact(self) -> bool:
        """Is the copy proven?"""
        return self._mirror.exact

    @property
    def epoch(self) -> int:
        """Epoch of the last message applied."""
        return self._mirror.epoch

    @property
    def seq(self) -> int:
        """Sequence number of the last message applied."""
        return self._mirror.seq

    @property
    def digest(self) -> int:
        """Digest of the last message applied."""
        return self._mirror.digest

    @property
    def state(self) -> str:
        """`live`, `degraded`, `down` or `closed`; `down` while not exact."""
        return self._mirror.state if self._mirror.exact else "down"

    @property
    def crossed(self) -> bool:
        """Is the best bid above the best ask?"""
        return self._mirror.exact and self._mirror.crossed

    @property
    def best_bid(self) -> Level | None:
        """The highest bid with its size per leg; None when there is none or the book is not exact."""
        return self._mirror.view().best_bid if self._mirror.exact else None

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask with its size per leg; None when there is none or the book is not exact."""
        return self._mirror.view().best_ask if self._mirror.exact else None

    def view(self) -> Book:
        """All levels, as a frozen copy.

        Raises:
            wup._core.UnknownBook: no snapshot has come yet.
        """
        return self._mirror.view()

    def __repr__(self) -> str:
        return f"LiveBook({self.id!r}, seq={self.seq}, state={self.state!r}, exact={self.exact})"
