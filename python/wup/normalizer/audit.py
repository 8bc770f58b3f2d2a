"""Shown books compared with what the venue's REST says: the half of the audit that knows the books.

The aggregator names the assets some time before it asks the venue (`watch`), and some time after it has the
answer it sends that (`books`). In between every message of those assets is kept, so that the venue's book can
be held against each state in which the book was shown: REST and stream are never at exactly the same moment.
Nothing is decided here; the answer goes back, and what follows from it comes as a verdict (`wup.raw`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson

from wup import logs
from wup.model import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wup.clock import Clock

KEPT_S = 30.0
"""A watch that is never asked about is forgotten."""
MESSAGES = 20_000
"""Of one asset in one audit; a book that changes more often is not compared."""

AuditVerdict = Literal[
    "same", "silent", "different", "older", "not_live", "replaced", "unfounded", "too_busy"
]
"""`silent`: different, and no message came; `older`: the answer is from before the watch began; the leg left
and came back: `unfounded` when its fresh book is what had been shown, `replaced` when it is another, and also
not what REST says."""

Book = dict[tuple[str, str], str]
"""(side, price) -> size."""
Shown = tuple[str, int | None, tuple[Sequence[Level], Sequence[Level]]]
"""Subject of an asset's messages, the venue's time of its book, its levels."""


class Journal:
    """One asset from the moment of its watch."""

    __slots__ = ("base", "messages", "subject", "until", "venue_us")

    def __init__(self, subject: str, venue_us: int | None, base: Book, until: float) -> None:
        self.subject = subject
        self.venue_us = venue_us
        self.base = base
        self.until = until
        self.messages: list[bytes] = []

    def judge(self, rest: Book, rest_us: int | None) -> AuditVerdict:
        """Was the book ever what the venue says?"""
        if len(self.messages) > MESSAGES:
            return "too_busy"
        shown = dict(self.base)
        wrong = {key for key in shown.keys() | rest.keys() if shown.get(key) != rest.get(key)}
        same = not wrong
        moved = False
        left: Book | None = None
        live = True
        for raw in self.messages:
            message: dict[str, Any] = orjson.loads(raw)
            kind = message["type"]
            if kind == "state":
                if message["state"] != "live":
                    if left is None:
                        left = shown
                    live = same = False
            elif kind == "update":
                moved = True
                for key, size in cells(message["bids"], message["asks"]).items():
                    if size == "0":
                        shown.pop(key, None)
                    else:
                        shown[key] = size
                    if shown.get(key) == rest.get(key):
                        wrong.discard(key)
                    else:
                        wrong.add(key)
            elif kind == "snapshot":
                moved = True
                shown = cells(message["bids"], message["asks"])
                wrong = {key for key in shown.keys() | rest.keys() if shown.get(key) != rest.get(key)}
                if left == shown and not live:
                    return "unfounded"
                live = True
            same = same or (live and not wrong)
        if not live:
            return "not_live"
        if same:
            return "same"
        if left is not None:
            return "replaced"
        if rest_us is not None and self.venue_us is not None and rest_us < self.venue_us:
            return "older"
        return "different" if moved else "silent"


class Audits:
    """Watches under way.

    Args:
        look: (platform, asset) to the book that is shown now, or None.
    """

    def __init__(self, look: Callable[[str, str], Shown | None], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._watched: dict[tuple[str, str, str], Journal] = {}
        """By platform, audit and asset."""
        self.journals: dict[str, list[Journal]] = {}
        """By subject of the normalised messages: what the service asks for each message."""

    def keep(self, subject: str, payload: bytes) -> None:
        """One message of a watched asset."""
        for journal in self.journals[subject]:
            if len(journal.messages) <= MESSAGES:
                journal.messages.append(payload)

    def watch(self, platform: str, audit: str, assets: Sequence[str]) -> None:
        """From now on the messages of these assets are kept, where their books are shown."""
        now = self._clock.monotonic()
        for key in [key for key, journal in self._watched.items() if journal.until < now]:
            self._drop(key)
        for asset in assets:
            shown = self._look(platform, asset)
            if shown is None:
                continue
            subject, venue_us, (bids, asks) = shown
            key = (platform, audit, asset)
            self._drop(key)
            journal = self._watched[key] = Journal(subject, venue_us, cells(bids, asks), now + KEPT_S)
            self.journals.setdefault(subject, []).append(journal)

    async def judge(
        self, platform: str, audit: str, books: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, AuditVerdict]:
        """The verdict on each asset; the audit is over. Yields between two assets."""
        found: dict[str, AuditVerdict] = {}
        for asset, book in books.items():
            journal = self._watched.get((platform, audit, asset))
            try:
                rest = cells(book["bids"], book["asks"])
                if journal is None:
                    found[asset] = "not_live"
                else:
                    found[asset] = journal.judge(rest, book.get("venue_us"))
            except (KeyError, TypeError, ValueError) as error:
                logs.bad_input("normalizer", platform, "bad_audit", asset, error=repr(error))
            await asyncio.sleep(0)
        for key in [key for key in self._watched if key[:2] == (platform, audit)]:
            self._drop(key)
        return found

    def _drop(self, key: tuple[str, str, str]) -> None:
        journal = self._watched.pop(key, None)
        if journal is None:
            return
        others = self.journals[journal.subject]
        others.remove(journal)
        if not others:
            del self.journals[journal.subject]


def cells(bids: Sequence[Level], asks: Sequence[Level]) -> Book:
    """Both sides in one dictionary."""
    book: Book = {("bid", price): size for price, size in bids}
    book.update({("ask", price): size for price, size in asks})
    return book
