"""A book as a client holds it: verified message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup._core import MirrorBook
from wup.client import tables

if TYPE_CHECKING:
    import pandas
    import polars

    from wup._core import Book, Level


class LiveBook:
    """One stream's book. Prices and sizes are exact (`decimal.Decimal`).

    `exact` is true while the copy is proven equal to the server's at (`epoch`, `seq`); everything else is
    only worth looking at then.
    """

    __slots__ = ("_mirror", "depth", "every_ms", "id", "label", "result", "title")

    def __init__(self, book: str, depth: int | None, every_ms: int | None) -> None:
        self.id = book
        self.depth = depth
        self.every_ms = every_ms
        self.title: str | None = None
        self.label: str | None = None
        self.result: str | None = None
        """The outcome of a closed book, when it is known."""
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
        view = self._proven()
        return None if view is None else view.best_bid

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask with its size per leg; None when there is none or the book is not exact."""
        view = self._proven()
        return None if view is None else view.best_ask

    def _proven(self) -> Book | None:
        """A view that is exact, also when another thread feeds the copy (`connect_sync`)."""
        while self._mirror.exact:
            view = self._mirror.view()
            if self.exact and (view.epoch, view.seq, view.digest) == (self.epoch, self.seq, self.digest):
                return view
        return None

    def view(self) -> Book:
        """All levels, as a frozen copy.

        Raises:
            wup._core.UnknownBook: no snapshot has come yet.
        """
        return self._mirror.view()

    def rows(self) -> list[tables.Row]:
        """All levels, one row each (`wup.client.tables.book_rows`).

        Raises:
            ValueError: the book is not exact.
        """
        view = self._proven()
        if view is None:
            raise ValueError(f"{self.id} is not exact")
        return tables.book_rows(view)

    def to_polars(self, *, floats: bool = False) -> polars.DataFrame:
        """`rows` as a polars frame; exact decimals unless `floats`."""
        return tables.to_polars(self.rows(), floats=floats)

    def to_pandas(self, *, floats: bool = False) -> pandas.DataFrame:
        """`rows` as a pandas frame; exact decimals unless `floats`."""
        return tables.to_pandas(self.rows(), floats=floats)

    def snapshot(self) -> bytes:
        """The `snapshot` message of the copy as it is now."""
        message = self._mirror.snapshot(no=self.id.endswith(".no"), depth=self.depth)
        if self.every_ms is None:
            return message
        return message[:-1] + b',"every_ms":%d}' % self.every_ms

    def __repr__(self) -> str:
        return f"LiveBook({self.id!r}, seq={self.seq}, state={self.state!r}, exact={self.exact})"
