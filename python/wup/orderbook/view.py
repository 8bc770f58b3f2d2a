"""Answers of the HTTP interface that are put together from a book or the mapping."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wup._core import Book, Level
    from wup.mapping.table import MappingTable


def bbo_view(book: Book, text: Callable[[Decimal], str]) -> dict[str, object]:
    """Best bid and ask, total and per platform, crossed, and how much size stands at the crossing."""

    def level(found: Level | None) -> list[str] | None:
        return None if found is None else [text(found.price), text(found.size)]

    bids, asks = book.bids, book.asks
    return {
        "book": book.id,
        "epoch": book.epoch,
        "seq": book.seq,
        "state": book.state,
        "best_bid": level(book.best_bid),
        "best_ask": level(book.best_ask),
        "crossed": book.crossed,
        "crossing_size": text(crossing_size(bids, asks)),
        "platforms": _per_platform(book, bids, asks, text),
    }


def _per_platform(
    book: Book, bids: Sequence[Level], asks: Sequence[Level], text: Callable[[Decimal], str]
) -> dict[str, dict[str, list[str] | None]]:
    platforms = {name: str(leg["platform"]) for name, leg in book.legs.items()}
    found: dict[str, dict[str, list[str] | None]] = {
        platform: {"best_bid": None, "best_ask": None} for platform in platforms.values()
    }
    for side, levels in (("best_bid", bids), ("best_ask", asks)):
        for level in levels:
            sizes: dict[str, Decimal] = {}
            for leg, size in level.by_leg.items():
                platform = platforms.get(leg, leg)
                sizes[platform] = sizes.get(platform, Decimal(0)) + size
            for platform, size in sizes.items():
                entry = found.setdefault(platform, {"best_bid": None, "best_ask": None})
                if entry[side] is None:
                    entry[side] = [text(level.price), text(size)]
            if all(entry[side] is not None for entry in found.values()):
                break
    return found


def crossing_size(bids: Sequence[Level], asks: Sequence[Level]) -> Decimal:
    """Contracts that bids at or above the asks could take: matched best against best."""
    total = Decimal(0)
    i = j = 0
    bid_left = bids[0].size if bids else Decimal(0)
    ask_left = asks[0].size if asks else Decimal(0)
    while i < len(bids) and j < len(asks) and bids[i].price > asks[j].price:
        taken = min(bid_left, ask_left)
        total += taken
        bid_left -= taken
        ask_left -= taken
        if not bid_left:
            i += 1
            bid_left = bids[i].size if i < len(bids) else Decimal(0)
        if not ask_left:
            j += 1
            ask_left = asks[j].size if j < len(asks) else Decimal(0)
    return total


def aggregate_view(table: MappingTable, aggregate: str, *, legs: bool) -> dict[str, Any]:
    """An aggregate with its markets; with `legs` also what each leg is."""
    markets: list[dict[str, Any]] = []
    title = ""
    for info in table.books.values():
        if info.aggregate != aggregate:
            continue
        title = info.title
        market: dict[str, Any] = {"book": info.book, "label": info.label, "result": info.result}
        if legs:
            market["legs"] = [
                {
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
                }
                for leg in table.legs
                if leg.book == info.book
            ]
        markets.append(market)
    return {"aggregate": aggregate, "title": title, "markets": markets}
