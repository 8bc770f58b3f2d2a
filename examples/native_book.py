"""The order book core on its own: no server, no venue, no network.

    python examples/native_book.py

Three ways to use it: a plain book, a consolidated book fed by two venues' messages, and a client's copy that
proves at every message that it is exact.
"""

from __future__ import annotations

import json
from decimal import Decimal

from wup import BookStore, MirrorBook, OrderBook

BOOK = "fed-2026-12.21a66bf6c52cc37d.yes"
NOW_US = 1_795_353_605_000_000


def plain_book() -> OrderBook:
    """A book in three lines; legs are made by naming them."""
    book = OrderBook("my book")
    book.set("bid", "0.52", 500, leg="kalshi")
    book.set("ask", "0.54", 250, leg="polymarket")

    view = book.view()
    assert view.best_bid is not None
    assert view.best_bid.price == Decimal("0.52")
    return book


def message(kind: str, platform: str, n: int, **fields: object) -> bytes:
    """One normalised venue message; a real one comes from an adapter."""
    head = {"type": kind, "platform": platform, "market_id": "m", "asset_id": "a", "epoch": 1, "n": n}
    return json.dumps(head | fields).encode()


def consolidated_book() -> tuple[BookStore, MirrorBook]:
    """Two venues in one book, one of them quoting the opposite outcome, and a client that follows."""
    store = BookStore(epoch=0)
    store.describe(BOOK, title="Fed decision in December", label="25 bps cut")
    opening = store.set_mapping(
        1, [("kalshi", "a", BOOK, False), ("polymarket", "a", BOOK, True)], now_us=NOW_US
    )
    client = MirrorBook()
    changes = list(opening)

    # A snapshot makes a leg live; its sizes are the base of what follows.
    kalshi = message("snapshot", "kalshi", 1, bids=[["0.52", "500"]], asks=[["0.54", "250"]])
    changes += store.apply(kalshi, NOW_US)
    # Polymarket quotes NO here: its ask of 0.48 is a bid of 0.52 for YES.
    polymarket = message("snapshot", "polymarket", 1, bids=[["0.45", "90"]], asks=[["0.48", "700"]])
    changes += store.apply(polymarket, NOW_US)
    changes += store.apply(message("update", "kalshi", 2, bids=[["0.53", "10"]], asks=[]), NOW_US)

    for change in changes:
        verdict = client.apply(change.payload)
        print(f"{change.kind:<9} seq {change.seq}  digest {change.digest:>10}  client is {verdict}")
    return store, client


def main() -> None:
    """Show all three."""
    print(plain_book(), "\n")

    store, client = consolidated_book()
    book = store.book(BOOK)
    print(f"\n{book}\n")
    assert client.exact
    assert client.view().bids == book.bids

    average, there = book.cost("ask", 300)
    print(f"buying 300: {there} there, at {average} on average")
    print(f"the NO view asks {book.no().best_ask}")

    # A message that is lost is found at the next one: the leg's sizes go, and a snapshot is wanted.
    for change in store.apply(message("update", "kalshi", 9, bids=[], asks=[]), NOW_US):
        client.apply(change.payload)
    print(f"\nafter a lost message the book is {store.book(BOOK).state}: ask for {store.take_resyncs()[-1]}")
    print(store.book(BOOK))
    assert client.exact


if __name__ == "__main__":
    main()
