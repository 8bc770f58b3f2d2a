"""Events and markets that are worded alike: candidates for a person, never more.

Blocking keys first (rare words of the titles in common), then exact gates (numbers, times, lines, directions,
no "Other"), then rapidfuzz over the words that are left. Every gate only takes candidates away.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, utils

from wup.mapping.subjects import alike, subjects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.file import Polarity

LEAST = 70.0
"""Least `token_set_ratio` of a candidate."""
_COMMON = 200
"""A word in more titles of one venue than this brings nothing together."""
_APART_US = 45 * 86_400 * 1_000_000
_WORD = re.compile(r"[^\W\d_]+|[<>\u2264\u2265]?\d+(?:,\d{3})*(?:\.\d+)?\+?")
"""A word, or a number with what bounds it: `>25` is not `25`."""
_STOP = "a an and at be by for from in is of on or the to will with who what when which"
_DIRECTIONS = (
    "above over more higher exceed exceeds reach least",
    "below under less lower fewer dip most",
    "cut cuts decrease decreases reduce reduces",
    "hike hikes increase increases raise raises",
    "hold holds maintain maintains unchanged pause nochange",
)
"""Words that say one thing; a word of one line and a word of another are not one statement."""
_ONE_WORD = {word: group.split()[0] for group in _DIRECTIONS[2:] for word in group.split()}


@dataclass(frozen=True, slots=True)
class MarketPair:
    """Two markets that may be one contract; `polarity` is that of the second to the first."""

    one: VenueMarket
    two: VenueMarket
    polarity: Polarity
    score: float


@dataclass(frozen=True, slots=True)
class EventPair:
    """Two events that may be one, with the markets that may be one."""

    one: VenueEventRecord
    two: VenueEventRecord
    score: float
    markets: tuple[MarketPair, ...]


def pair_events(ones: Iterable[VenueEventRecord], twos: Iterable[VenueEventRecord]) -> list[EventPair]:
    """Candidates between two venues, the most alike first; each event at most once."""
    index: dict[str, list[VenueEventRecord]] = defaultdict(list)
    for event in twos:
        for word in _rare(event.title):
            index[word].append(event)
    found: list[EventPair] = []
    for one in ones:
        shared: dict[int, tuple[int, VenueEventRecord]] = {}
        for word in _rare(one.title):
            if len(index[word]) <= _COMMON:
                for two in index[word]:
                    shared[id(two)] = (shared.get(id(two), (0, two))[0] + 1, two)
        for count, two in shared.values():
            # One word in common is enough only where a title has no other.
            if count < min(2, len(_rare(one.title)), len(_rare(two.title))) or not _may_be_one(one, two):
                continue
            score = fuzz.token_set_ratio(_plain(_words(one.title)), _plain(_words(two.title)))
            markets = pair_markets(one, two) if score >= LEAST else []
            if markets:
                found.append(EventPair(one, two, score, tuple(markets)))
    found.sort(key=lambda pair: (-pair.score, -len(pair.markets), pair.one.slug, pair.two.slug))
    taken: set[tuple[str, str]] = set()
    kept: list[EventPair] = []
    for pair in found:
        keys = {(pair.one.platform, pair.one.slug), (pair.two.platform, pair.two.slug)}
        if not keys & taken:
            taken |= keys
            kept.append(pair)
    return kept


def pair_markets(one: VenueEventRecord, two: VenueEventRecord) -> list[MarketPair]:
    """The markets of two events that may be one contract: each at most once, and none that two others fit."""
    mine, theirs = _own_words(one), _own_words(two)
    found: list[MarketPair] = []
    for a in filter(_offered, one.markets):
        for b in filter(_offered, two.markets):
            words, other_words = mine[a.market_id], theirs[b.market_id]
            if (
                _lines_differ(a, b)
                or _numbers(words) != _numbers(other_words)
                or _opposed(words, other_words)
            ):
                continue
            polarity, named = _polarity(a, b)
            score = 100.0 if named else fuzz.token_set_ratio(_plain(words), _plain(other_words))
            if score >= LEAST:
                found.append(MarketPair(a, b, polarity, score))
    return _clear(found)


def _own_words(event: VenueEventRecord) -> dict[str, list[str]]:
    """What tells each market from the others of its event; of a single market, its whole question."""
    markets = [market for market in event.markets if _offered(market)]
    if len(markets) == 1:
        (market,) = markets
        return {market.market_id: _words(market.question) or _words(market.label)}
    labels = {market.market_id: _words(market.label) for market in markets}
    common = set[str].intersection(*map(set, labels.values())) if labels else set()
    return {name: [w for w in words if w not in common] or words for name, words in labels.items()}


def _clear(found: list[MarketPair]) -> list[MarketPair]:
    """Best first, each market once; where two fit equally well nothing is said."""
    best: dict[str, list[float]] = defaultdict(list)
    for pair in found:
        best[pair.one.market_id].append(pair.score)
        best[pair.two.market_id].append(pair.score)
    kept: list[MarketPair] = []
    for pair in sorted(found, key=lambda p: (-p.score, p.one.market_id, p.two.market_id)):
        names = (pair.one.market_id, pair.two.market_id)
        if all(max(best[n]) == pair.score and best[n].count(pair.score) == 1 for n in names):
            kept.append(pair)
    return kept


def _polarity(a: VenueMarket, b: VenueMarket) -> tuple[Polarity, bool]:
    """How B's YES relates to A's as far as the outcome names say, and whether they say it."""
    (yes, counter), (other_yes, other_counter) = subjects(a), subjects(b)
    same = alike(yes, other_yes)
    opposite = alike(yes, other_counter) or alike(counter, other_yes)
    if same == opposite:
        return "same", False
    return ("same" if same else "inverted"), bool(counter or other_counter)


def _offered(market: VenueMarket) -> bool:
    return market.status in ("open", "halted") and market.facts.get("other") != "true"


def _may_be_one(one: VenueEventRecord, two: VenueEventRecord) -> bool:
    """Gates on events: years agree where both name one, and trading ends within weeks of each other."""
    years = [{w for w in _words(e.title) if re.fullmatch("(?:19|20)\\d\\d", w)} for e in (one, two)]
    if years[0] and years[1] and not years[0] & years[1]:
        return False
    return one.close_us is None or two.close_us is None or abs(one.close_us - two.close_us) <= _APART_US


def _lines_differ(a: VenueMarket, b: VenueMarket) -> bool:
    return a.line is not None and b.line is not None and abs(Decimal(a.line)) != abs(Decimal(b.line))


def _numbers(words: Iterable[str]) -> frozenset[str]:
    """Every number, with its bound, whatever separates its thousands."""
    found = (word.replace(",", "") for word in words if word[-1].isdigit() or word[-1] == "+")
    return frozenset(n.rstrip("0").rstrip(".") if "." in n else n for n in found)


def _opposed(one: Iterable[str], two: Iterable[str]) -> bool:
    """Does one say up where the other says down?"""
    first, second = (
        {place for place, group in enumerate(_DIRECTIONS) if words & set(group.split())}
        for words in (set(one), set(two))
    )
    return bool(first and second and not first & second)


def _plain(words: Iterable[str]) -> str:
    """One word for the usual synonyms."""
    return utils.default_process(" ".join(_ONE_WORD.get(word, word) for word in words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("no change", "nochange"))


def _rare(title: str) -> list[str]:
    return [word for word in dict.fromkeys(_words(title)) if word not in _STOP.split()]
