"""Consolidated books against the simulators' true books, at equal engine time.

A book at the client reflects each leg at that leg's own last engine time. That state can be judged once
every leg is known to be past its time (a later engine time was seen from it): until then further messages
of the same transaction may follow. So a candidate is taken before a delta is applied, and compared when the
last of its legs has moved on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import complement, format_micro, parse_micro

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Cells = dict[tuple[str, str], dict[str, str]]
"""(side, price) -> leg -> size, exact text."""

_WAITING = 64
_READY = 4096


@dataclass(slots=True)
class Candidate:
    """A consolidated book as the client had it, and how far each leg was."""

    book: str
    snapshot: bytes
    times: dict[str, int]
    passed: set[str]
    legs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(platform, asset) of each leg as they were then."""


@dataclass(slots=True)
class _Watched:
    legs: dict[str, tuple[str, str]] = field(default_factory=dict)
    live: frozenset[str] = frozenset()
    times: dict[str, int] = field(default_factory=dict)
    waiting: deque[Candidate] = field(default_factory=lambda: deque(maxlen=_WAITING))


class Collector:
    """Turns a client's message stream into candidates that can be judged."""

    def __init__(self) -> None:
        self._books: dict[str, _Watched] = {}
        self.ready: deque[Candidate] = deque(maxlen=_READY)

    def before(self, message: Mapping[str, Any], current: bytes | None) -> None:
        """See a message before it is applied; `current` is the book's snapshot then (None: do not sample)."""
        kind = message["type"]
        if kind == "delta":
            self._delta(message, current)
        elif kind == "snapshot":
            watched = self._books[message["book"]] = _Watched()
            self._legs(watched, message["legs"])
        elif kind == "status" and "legs" in message:
            watched = self._books.setdefault(message["book"], _Watched())
            watched.waiting.clear()
            self._legs(watched, message["legs"])

    def _legs(self, watched: _Watched, legs: Mapping[str, Mapping[str, Any]]) -> None:
        watched.legs = {name: (leg["platform"], leg["asset"]) for name, leg in legs.items()}
        live = frozenset(name for name, leg in legs.items() if leg["state"] == "live")
        for name in watched.live ^ live:
            watched.times.pop(name, None)
        watched.live = live

    def _delta(self, message: Mapping[str, Any], current: bytes | None) -> None:
        watched = self._books.get(message["book"])
        if watched is None:
            return
        leg = message.get("cause")
        time = message.get("ts", {}).get("venue")
        if leg is None or time is None:
            # Several legs, or one whose engine time is not told: nothing can be said for a while.
            watched.waiting.clear()
            if leg is None:
                watched.times.clear()
            else:
                watched.times.pop(leg, None)
            return
        last = watched.times.get(leg)
        moved = last is not None and time > last
        if not moved:
            watched.waiting = deque(
                (c for c in watched.waiting if leg in c.passed or c.times.get(leg, time) < time),
                maxlen=_WAITING,
            )
        for candidate in list(watched.waiting):
            if candidate.times[leg] < time:
                candidate.passed.add(leg)
                if candidate.passed >= watched.live:
                    watched.waiting.remove(candidate)
                    self.ready.append(candidate)
        if moved and current is not None and watched.live and watched.live <= watched.times.keys():
            candidate = Candidate(message["book"], current, dict(watched.times), {leg}, watched.legs)
            if candidate.passed >= watched.live:
                self.ready.append(candidate)
            else:
                watched.waiting.append(candidate)
        watched.times[leg] = time


def shown(snapshot: bytes) -> Cells:
    """The cells of a consolidated snapshot."""
    message = orjson.loads(snapshot)
    return {
        (side, price): dict(parts)
        for side, key in (("bid", "bids"), ("ask", "asks"))
        for price, _, parts in message[key]
    }


def merged(legs: Mapping[str, tuple[bool, Mapping[str, Sequence[Sequence[str]]]]]) -> Cells:
    """Brute-force merge of true books: leg name -> (inverted, {"bids": ..., "asks": ...})."""
    cells: Cells = {}
    for leg, (inverted, book) in legs.items():
        for side, key in (("bid", "bids"), ("ask", "asks")):
            for price, size in book[key]:
                at = complement(price) if inverted else format_micro(parse_micro(price))
                on = {"bid": "ask", "ask": "bid"}[side] if inverted else side
                cells.setdefault((on, at), {})[leg] = format_micro(parse_micro(size))
    return cells
