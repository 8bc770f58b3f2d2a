"""A book as a ladder in the terminal: bid size per leg, price, ask size per leg."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from wup._core import Book, Level

_STATE = {"live": "green", "degraded": "yellow", "down": "red", "closed": "magenta"}
_LEG_STATE = {"live": "green", "closed": "magenta", "syncing": "yellow", "resync": "yellow"}


class Ladder:
    """One book, the best `rows` levels a side, asks above bids.

    `exact` false means that the levels are not vouched for: they are not shown.
    """

    def __init__(
        self,
        book: Book | None,
        *,
        title: str | None = None,
        label: str | None = None,
        rows: int = 8,
        exact: bool = True,
        name: str = "",
    ) -> None:
        self._book = book
        self._title = title
        self._label = label
        self._rows = rows
        self._exact = exact
        self._name = name or (book.id if book is not None else "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table()

    def table(self) -> Table:
        """The ladder as a rich table."""
        book = self._book
        table = Table(
            box=SIMPLE_HEAD,
            title=self._heading(),
            caption=self._footing(),
            title_justify="left",
            caption_justify="left",
            title_style="",
            caption_style="",
            pad_edge=False,
            expand=False,
        )
        legs = list(book.legs) if book is not None else []
        for leg in reversed(legs):
            table.add_column(Text(leg, "green"), justify="right", no_wrap=True)
        table.add_column("price", justify="center", style="bold", no_wrap=True)
        for leg in legs:
            table.add_column(Text(leg, "red"), justify="left", no_wrap=True)
        if book is None or not self._exact:
            return table
        best_bid, best_ask = book.best_bid, book.best_ask
        for level in reversed(book.asks[: self._rows]):
            crossed = best_bid is not None and level.price < best_bid.price
            table.add_row(*[""] * len(legs), _price(level, crossed), *_sizes(level, legs, "red"))
        if book.asks and book.bids:
            table.add_section()
        for level in book.bids[: self._rows]:
            crossed = best_ask is not None and level.price > best_ask.price
            sizes = _sizes(level, list(reversed(legs)), "green")
            table.add_row(*sizes, _price(level, crossed), *[""] * len(legs))
        return table

    def _heading(self) -> Text:
        heading = Text()
        if self._title:
            heading.append(self._title, "bold")
            if self._label:
                heading.append(f": {self._label}", "bold")
            heading.append("\n")
        heading.append(self._name, "dim")
        return heading

    def _footing(self) -> Text:
        book = self._book
        if book is None:
            return Text("waiting for the first snapshot", "dim")
        if not self._exact:
            return Text("not exact, waiting for a snapshot", "red")
        footing = Text()
        footing.append(book.state, _STATE.get(book.state, "red"))
        if book.crossed:
            footing.append(" crossed", "bold magenta")
        footing.append(f"  seq {book.seq}", "dim")
        for name, leg in book.legs.items():
            state = str(leg.get("state", ""))
            footing.append(f"  {name} ", "dim")
            footing.append(state, _LEG_STATE.get(state, "red"))
        return footing


def _price(level: Level, crossed: bool) -> Text:
    return Text(f"{level.price:f}", "bold magenta" if crossed else "bold")


def _sizes(level: Level, legs: list[str], style: str) -> list[Text]:
    return [Text(f"{level.by_leg[leg]:f}" if leg in level.by_leg else "", style) for leg in legs]
