"""Prices as an alarm on confirmed mappings (mapping.md section 5 rule 8); never proof, never a correction.

Two venues in one book whose middle prices are more than 10 cents apart for a minute, or of which one is about
1 minus the other, are likely two contracts, or one of them upside down. Near 0.5 the second sign says
nothing, and around news both are wrong for seconds: hence the distance and the minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Kind = Literal["apart", "turned"]
ONE = 1_000_000
_APART = 100_000
_FROM_EVEN = 100_000
_ABOUT = 30_000
_LASTING_US = 60 * 1_000_000
_UNSEEN = 2
"""Looks in a row that a side may be missing while a doubt grows: time that nobody saw counts for nothing."""

Quote = tuple[int | None, int | None]
"""Best bid and ask in millionths, in the book's YES coordinates; None where there is none."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two platforms of one book that have disagreed for a minute or more."""

    book: str
    platforms: tuple[str, str]
    kind: Kind
    mids: tuple[int, int]
    """Middle prices in millionths, as last seen."""
    since_us: int


@dataclass(slots=True)
class _Doubt:
    kind: Kind
    mids: tuple[int, int]
    since_us: int
    told: bool = False
    unseen: int = 0
    """Looks in a row at which a side was missing."""


class Disagreements:
    """Remembers since when which platforms of which books disagree."""

    def __init__(self) -> None:
        self._doubts: dict[str, dict[tuple[str, str], _Doubt]] = {}

    def see(
        self, book: str, quotes: Mapping[str, Quote], now_us: int
    ) -> tuple[list[Disagreement], list[Disagreement]]:
        """The best prices of a book's platforms now.

        Returns:
            Disagreements that have lasted a minute with this look, and those that have ended.
        """
        mids = {platform: _mid(quote) for platform, quote in quotes.items()}
        raised: list[Disagreement] = []
        ended: list[Disagreement] = []
        doubts = self._doubts.get(book, {})
        unseen = dict(doubts)
        for pair in (*combinations(sorted(quotes), 2), *((name, name) for name in quotes)):
            kind, seen = self._judge(quotes[pair[0]], mids[pair[0]], mids[pair[1]], alone=pair[0] == pair[1])
            if seen is None:
                # A side without a price says nothing, for or against.
                continue
            unseen.pop(pair, None)
            known = doubts.get(pair)
            if kind is None:
                if known is not None:
                    del doubts[pair]
                    if known.told:
                        ended.append(Disagreement(book, pair, known.kind, seen, known.since_us))
                continue
            if known is None:
                known = doubts[pair] = _Doubt(kind, seen, now_us)
            known.kind, known.mids, known.unseen = kind, seen, 0
            if not known.told and now_us - known.since_us >= _LASTING_US:
                known.told = True
                raised.append(Disagreement(book, pair, kind, seen, known.since_us))
        for pair, doubt in unseen.items():
            doubt.unseen += 1
            if doubt.unseen > _UNSEEN and not doubt.told:
                del doubts[pair]
        if doubts:
            self._doubts[book] = doubts
        else:
            self._doubts.pop(book, None)
        return raised, ended

    @staticmethod
    def _judge(
        quote: Quote, mid: int | None, other: int | None, *, alone: bool
    ) -> tuple[Kind | None, tuple[int, int] | None]:
        if alone:
            # Two legs of one venue that cross each other by as much.
            bid, ask = quote
            if bid is None or ask is None:
                return None, None
            return ("apart" if bid - ask > _APART else None), (bid, ask)
        if mid is None or other is None:
            return None, None
        away = min(abs(2 * mid - ONE), abs(2 * other - ONE)) > 2 * _FROM_EVEN
        if away and abs(mid + other - ONE) <= _ABOUT:
            return "turned", (mid, other)
        return ("apart" if abs(mid - other) > _APART else None), (mid, other)

    def keep(self, books: Collection[str]) -> None:
        """Forget the books that are not among these."""
        self._doubts = {book: doubts for book, doubts in self._doubts.items() if book in books}

    def now(self) -> list[Disagreement]:
        """All that have lasted a minute, in order of books."""
        return [
            Disagreement(book, pair, doubt.kind, doubt.mids, doubt.since_us)
            for book, doubts in sorted(self._doubts.items())
            for pair, doubt in sorted(doubts.items())
            if doubt.told
        ]


def _mid(quote: Quote) -> int | None:
    bid, ask = quote
    return None if bid is None or ask is None else (bid + ask) // 2
