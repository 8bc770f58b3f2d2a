"""Do the venues of a merged book agree? Looked at a part each second, so that no tick takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from wup import logs
from wup._core import UnknownBook, format_micro, parse_micro
from wup.mapping.disagreement import Disagreement, Disagreements
from wup.metrics import DISAGREEMENTS, DISAGREEMENTS_RAISED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wup._core import BookStore
    from wup.mapping.disagreement import Quote
    from wup.mapping.table import MappingTable

_ROUND = 5
"""Ticks in which every merged book is looked at once."""
_AT_ONCE = 10


class Agreement:
    """Raises and ends the alarms of one store's books. It changes nothing in them."""

    def __init__(self, store: BookStore) -> None:
        self._store = store
        self._found = Disagreements()
        self._books: list[str] = []
        self._legs: dict[str, list[tuple[str, str, bool]]] = {}
        self._at = 0

    def follow(self, table: MappingTable) -> None:
        """Take the books with several legs of a new mapping."""
        legs: dict[str, list[tuple[str, str, bool]]] = {}
        for leg in table.legs:
            legs.setdefault(leg.book, []).append((leg.platform, leg.asset_id, leg.inverted))
        before, self._legs = self._legs, {book: some for book, some in legs.items() if len(some) > 1}
        self._books = list(self._legs)
        # A book whose legs were changed is judged anew.
        self._found.keep({book for book, some in self._legs.items() if before.get(book) == some})

    def look(self, now_us: int) -> Iterator[None]:
        """Once a second; yields every few books, where the stream may go on: thousands take milliseconds."""
        for place, book in enumerate(self._books[self._at :: _ROUND], start=1):
            if place % _AT_ONCE == 0:
                yield
            try:
                quotes = _quotes(self._store.bbo(book, now_us))
            except UnknownBook:
                quotes = {}
            raised, ended = self._found.see(book, quotes, now_us)
            for one in raised:
                DISAGREEMENTS_RAISED.labels(one.kind).inc()
                logs.log("orderbook").warning(
                    "confirmed legs disagree: check the mapping of this book", **_words(one)
                )
            for one in ended:
                logs.log("orderbook").info("confirmed legs agree again", **_words(one))
        self._at = (self._at + 1) % _ROUND
        now = self._found.now()
        for kind in ("apart", "turned"):
            DISAGREEMENTS.labels(kind).set(sum(one.kind == kind for one in now))

    def warnings(self) -> list[str]:
        """For `/readyz`: `mapping_disagreement` while there is one."""
        return ["mapping_disagreement"] if self._found.now() else []

    def listed(self) -> list[dict[str, object]]:
        """For people: which platforms of which books disagree, how, and since when."""
        return [_words(one) for one in self._found.now()]


def _quotes(bbo: bytes) -> dict[str, Quote]:
    platforms = orjson.loads(bbo)["platforms"]
    return {
        name: (
            None if sides["best_bid"] is None else parse_micro(sides["best_bid"][0]),
            None if sides["best_ask"] is None else parse_micro(sides["best_ask"][0]),
        )
        for name, sides in platforms.items()
    }


def _words(one: Disagreement) -> dict[str, object]:
    return {
        "book": one.book,
        "kind": one.kind,
        "platforms": list(one.platforms),
        "mids": [format_micro(mid) for mid in one.mids],
        "since": one.since_us,
    }
