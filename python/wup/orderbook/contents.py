"""What a mapping table holds, found without walking through it: aggregates, their books, a book's legs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wup.mapping.table import EMPTY

if TYPE_CHECKING:
    from wup.mapping.table import BookInfo, Leg, MappingTable


class Contents:
    """One table, indexed once when it comes into force."""

    def __init__(self, table: MappingTable = EMPTY) -> None:
        self._legs: dict[str, list[Leg]] = {}
        self._books_of: dict[tuple[str, str], list[str]] = {}
        for leg in table.legs:
            self._legs.setdefault(leg.book, []).append(leg)
            self._books_of.setdefault((leg.platform, leg.asset_id), []).append(leg.book)
        self._markets: dict[str, list[BookInfo]] = {}
        for info in table.books.values():
            self._markets.setdefault(info.aggregate, []).append(info)
        self.aggregates = sorted(self._markets)
        """Ids, in text order."""

    def books_of(self, platform: str, asset_id: str) -> list[str]:
        """Books that an asset feeds, in text order."""
        return sorted(self._books_of.get((platform, asset_id), ()))

    def aggregate(self, aggregate: str, *, legs: bool) -> dict[str, Any]:
        """An aggregate with its markets, as JSON shows it; with `legs` also what each leg is."""
        infos = self._markets.get(aggregate, [])
        markets: list[dict[str, Any]] = []
        for info in infos:
            market: dict[str, Any] = {"book": info.book, "label": info.label, "result": info.result}
            market["settled"] = [
                {"platform": platform, "market": name, "result": result}
                for platform, name, result in info.settled
            ]
            if legs:
                market["legs"] = [_leg(leg) for leg in self._legs.get(info.book, ())]
            markets.append(market)
        return {"aggregate": aggregate, "title": infos[-1].title if infos else "", "markets": markets}


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "platform": leg.platform,
        "event": leg.event,
        "market": leg.market_id,
        "asset": leg.asset_id,
        "inverted": leg.inverted,
        "suspended": leg.suspended,
        "tick": leg.tick,
        "min_size": leg.min_size,
        "fees": dict(leg.fees),
        "close_us": leg.close_us,
        "facts_us": leg.facts_us,
        "changes": [asdict(change) for change in leg.changes],
    }
