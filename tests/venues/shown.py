"""A reader of a normaliser's outputs: what a consumer believes about each leg, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from wup.venues.base import (
    BadInput,
    BookChanged,
    BookReplaced,
    LegChanged,
    RepairWanted,
    StatusTold,
    TradeSeen,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup.venues.base import Normaliser, Output

Levels = tuple[list[tuple[str, str]], list[tuple[str, str]]]


class Shown:
    """Applies outputs; `state`, `books`, `trades`, `repairs`, `bad`, `statuses` are what came of them.

    What the venue says about the market itself changes no book, except that an end is the end.
    """

    def __init__(self, normaliser: Normaliser) -> None:
        self.normaliser = normaliser
        self.state: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self.result: dict[str, str | None] = {}
        self._books: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.trades: list[TradeSeen] = []
        self.repairs: list[RepairWanted] = []
        self.statuses: list[StatusTold] = []
        self.bad: list[str] = []
        self.outputs: list[Output] = []
        self.now_us = 1_790_658_827_000_000

    def frame(self, raw: bytes) -> list[Output]:
        """Feed one frame."""
        return self.take(self.normaliser.frame(raw, self.now_us))

    def sent(self, raw: bytes) -> list[Output]:
        """Feed one frame of ours."""
        return self.take(self.normaliser.sent(raw, self.now_us))

    def wait(self, seconds: float) -> list[Output]:
        """Let time pass, then ask the timer."""
        self.now_us += round(seconds * 1_000_000)
        return self.take(self.normaliser.timer(self.now_us))

    def take(self, outputs: Iterable[Output]) -> list[Output]:
        """Apply outputs."""
        taken = list(outputs)
        for output in taken:
            self.outputs.append(output)
            if isinstance(output, BookReplaced):
                book = self.normaliser.book(output.asset_id)
                assert book is not None, "a replaced book must be readable"
                levels = book.levels()
                self._books[output.asset_id] = (dict(levels[0]), dict(levels[1]))
                self.state[output.asset_id] = "live"
            elif isinstance(output, BookChanged):
                assert self.state.get(output.asset_id) == "live", "a change of a leg that is not live"
                for ladder, changes in zip(
                    self._books[output.asset_id], (output.bids, output.asks), strict=True
                ):
                    for price, size in changes:
                        if size == "0":
                            ladder.pop(price, None)
                        else:
                            ladder[price] = size
            elif isinstance(output, LegChanged):
                self.state[output.asset_id] = output.state
                self.why[output.asset_id] = output.why
                self.result[output.asset_id] = output.result
            elif isinstance(output, StatusTold):
                self.statuses.append(output)
                if output.status == "closed":
                    self.state[output.asset_id] = output.status
                    self.why[output.asset_id] = output.why
                    self.result[output.asset_id] = output.result
            elif isinstance(output, TradeSeen):
                self.trades.append(output)
            elif isinstance(output, RepairWanted):
                self.repairs.append(output)
            elif isinstance(output, BadInput):
                self.bad.append(output.kind)
        return taken

    def book(self, asset: str) -> Levels:
        """The asset's levels, best first, as its consumer has them."""
        bids, asks = self._books[asset]
        return (
            sorted(bids.items(), key=lambda level: Decimal(level[0]), reverse=True),
            sorted(asks.items(), key=lambda level: Decimal(level[0])),
        )
