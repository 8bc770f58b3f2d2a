"""Games that confirm by themselves: a rule for the series that a person wrote, and every field in agreement.

A pair of games is confirmed when, and only when (mapping.md section 4):

1. a series rule of the mapping files names both venues' series, for two-valued outcomes;
2. both events name the same two sides, by names that are equal, abbreviated word by word, or listed by the
   rule (codes and order never count, nor does a name that only contains the other: "Oregon" is not
   "Oregon St.");
3. day, and start where it is told, agree; no other game on either side would do as well;
4. the polarity is read twice on each venue: from the outcome names, and from the rule text, which must be,
   with names, dates and times taken out, one of the texts that the person read.

Whatever else is known of two games makes a proposal with the reasons why it is not more.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from wup.mapping.subjects import alike

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.file import SeriesEntry, SeriesSide

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_TOLERANCE = timedelta(minutes=15)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
    rf"(?:(?P<month>{_MONTH}) (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:, ?\d{{4}})?|\d{{4}}-\d\d-\d\d)\b",
    re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORD = re.compile(r"[^\W_]+")
_TIME = re.compile(r"\b\d{1,2}(?::\d\d)? ?[ap]\.?m\.?(?: ?(?:et|edt|est|utc|ct|cdt|cst|pt|pdt|pst)\b)?", re.I)


@dataclass(frozen=True, slots=True)
class GameMarket:
    """One market on who wins: what its YES asset pays on, and what the complement pays on."""

    market: VenueMarket
    yes: str
    no: str


@dataclass(frozen=True, slots=True)
class Game:
    """A two-sided game as one venue lists it, read by that venue's folder."""

    event: VenueEventRecord
    series: str
    """The venue's own series, as series rules name it."""
    sides: tuple[str, str]
    """Names, in the order of `codes`."""
    codes: tuple[str, str]
    """Short codes, lower case: for ids and proposals, never for proof."""
    markets: tuple[GameMarket, ...]
    day: date | None = None
    """The day that the venue names, in its own terms."""
    start: datetime | None = None
    number: int | None = None
    """Of the games of one day, where the venue counts them."""


@dataclass(frozen=True, slots=True)
class GamePair:
    """Two venues' games that may be one. `doubts` are empty when it confirms by itself."""

    one: Game
    two: Game
    rule: SeriesEntry | None
    turned: bool
    """Is the first side of `one` the second of `two`?"""
    by_name: bool
    """Were the sides matched by their names? (Else by codes.)"""
    doubts: tuple[str, ...]


def template(rules: str, yes: str, no: str, names: Iterable[str] = ()) -> str:
    """SHA-256 of a rule text with the two sides, dates and times taken out.

    Args:
        yes: what the market's YES pays on; its places are kept apart from those of `no`.
        names: other names (of either side) are not known here; see `SeriesEntry.names`.
    """
    places = {yes.casefold(): "{yes}", no.casefold(): "{no}"}
    for name in names:
        alias, _, side = name.partition("=")
        if side.casefold() in places:
            places[alias.casefold()] = places[side.casefold()]
    words = sorted(filter(None, places), key=len, reverse=True)
    pattern = r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)"
    text = re.sub(pattern, lambda found: places[found[0].casefold()], rules, flags=re.IGNORECASE)
    text = _TIME.sub("{time}", _DATE.sub("{date}", text))
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()


def pair_games(games: Iterable[Game], rules: Iterable[SeriesEntry]) -> list[GamePair]:
    """Every two venues' games that may be one, with what keeps each from confirming by itself.

    `games` must be all that the venues list: whether a pair is the only one is judged among them.
    """
    rules = list(rules)
    blocks: dict[date, list[Game]] = defaultdict(list)
    for game in games:
        for day in _days(game):
            blocks[day].append(game)
    found: dict[tuple[int, int], GamePair] = {}
    for block in blocks.values():
        for place, two in enumerate(block):
            for one in block[:place]:
                first, second = sorted((one, two), key=lambda game: game.event.platform)
                if first.event.platform != second.event.platform:
                    pair = _pair(first, second, rules)
                    if pair is not None:
                        found[id(first), id(second)] = pair
    return _only_ones(list(found.values()))


def names_of(rule: SeriesEntry) -> list[str]:
    """The rule's other names in the form that `template` takes."""
    return [f"{alias}={side}" for alias, side in rule.names.items()]


def side_of(rule: SeriesEntry, game: Game) -> SeriesSide | None:
    """The rule's side for a game's venue and series."""
    return next((s for s in rule.side if s.platform == game.event.platform and s.series == game.series), None)


def _days(game: Game) -> set[date]:
    """Days under which the same game may be found elsewhere."""
    told = {game.day} if game.day is not None else set()
    if game.start is not None:
        told |= {game.start.date(), (game.start - timedelta(hours=12)).date()}
    return {day + timedelta(days=off) for day in told for off in (0, -1)}


def _pair(one: Game, two: Game, rules: list[SeriesEntry]) -> GamePair | None:
    """None when they cannot be one game."""
    rule = next((r for r in rules if side_of(r, one) is not None and side_of(r, two) is not None), None)
    names = {} if rule is None else {a.casefold(): side for a, side in rule.names.items()}
    mine, theirs = (tuple(names.get(s.casefold(), s) for s in game.sides) for game in (one, two))
    by_name = True
    turned = _turned(mine, theirs)
    if turned is None:
        by_name = False
        if set(one.codes) != set(two.codes) or len(set(one.codes)) != 2:
            return None
        turned = one.codes != two.codes
        against = reversed(theirs) if not turned else theirs
        if any(_resembles(a, b) for a, b in zip(mine, against, strict=True)):
            # The names contradict the codes.
            return None
    doubts = [] if by_name else ["the sides are matched by codes only, whose order proves nothing"]
    if by_name:
        ordered = reversed(theirs) if turned else theirs
        doubts += [
            f"{a!r} and {b!r} are not known to be one name (names of the series rule)"
            for a, b in zip(mine, ordered, strict=True)
            if not one_name(a, b)
        ]
    problem = _moments(one, two, rule)
    if problem is None:
        return None
    doubts += problem
    if rule is None:
        doubts.append(f"no series rule for {one.event.platform} {one.series} and {two.series}")
    else:
        doubts += _texts(rule, one) + _texts(rule, two)
        if rule.fungibility != "clean":
            doubts.append(f"the series rule calls it {rule.fungibility}, not clean")
    doubts += [
        f"{m.market.market_id} is {m.market.status}"
        for game in (one, two)
        for m in game.markets
        if m.market.status not in ("open", "halted")
    ]
    return GamePair(one, two, rule, turned, by_name, tuple(doubts))


def _turned(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool | None:
    """Is my first side their second? None unless exactly one reading fits."""
    straight = _resembles(mine[0], theirs[0]) and _resembles(mine[1], theirs[1])
    crossed = _resembles(mine[0], theirs[1]) and _resembles(mine[1], theirs[0])
    return None if straight == crossed else crossed


def _moments(one: Game, two: Game, rule: SeriesEntry | None) -> list[str] | None:
    """Doubts about the time; None when it is another game."""
    if one.number is not None and two.number is not None and one.number != two.number:
        return None
    zone = ZoneInfo(rule.timezone if rule is not None else "America/New_York")
    days = [g.start.astimezone(zone).date() if g.start is not None else g.day for g in (one, two)]
    if one.start is not None and two.start is not None:
        if abs(one.start - two.start) > _START_TOLERANCE:
            return None
    else:
        if None not in days and days[0] != days[1]:
            return None
        if one.number is not None or two.number is not None:
            return ["one venue counts the games of that day, and the starts are not both told"]
        if one.start is None and two.start is None:
            return ["neither venue tells the start"]
        if rule is not None and rule.start == "minute":
            return ["the series rule wants the start to the minute, and a venue does not tell it"]
    if None in days:
        return ["a venue does not tell the day"]
    assert days[0] is not None
    assert days[1] is not None
    if abs(days[0] - days[1]) > timedelta(days=1):
        return None
    for game in (one, two):
        local = None if game.start is None else game.start.astimezone(zone).date()
        if local is not None and game.day is not None and abs(local - game.day) > timedelta(days=1):
            return [f"{game.event.slug} names another day than its own start"]
    return []


def _resembles(one: str, two: str) -> bool:
    """`alike`, by more than initials."""
    first, second = (_WORD.findall(text.casefold()) for text in (one, two))
    long = any(
        min(len(a), len(b)) > 2 and (a.startswith(b) or b.startswith(a)) for a in first for b in second
    )
    return long and alike(one, two)


def one_name(one: str, two: str) -> bool:
    """Equal, or abbreviated word by word: `New York Y` and `New York Yankees`."""
    first, second = (_WORD.findall(text.casefold()) for text in (one, two))
    return len(first) == len(second) and all(
        a.startswith(b) or b.startswith(a) for a, b in zip(first, second, strict=True)
    )


def _texts(rule: SeriesEntry, game: Game) -> list[str]:
    """The second reading of the polarity: every rule text is one that a person read, for a game that day."""
    side = side_of(rule, game)
    assert side is not None
    zone = ZoneInfo(rule.timezone)
    day = game.start.astimezone(zone).date() if game.start is not None else game.day
    doubts = [
        f"the rule text of {game.event.platform} {m.market.market_id} names another day"
        for m in game.markets
        if day is not None and not _names_day(m.market.rules, day)
    ]
    return doubts + [
        f"the rule text of {game.event.platform} {m.market.market_id} is none that the series rule names "
        f"(its template is {found})"
        for m in game.markets
        if (found := template(m.market.rules, m.yes, m.no, names_of(rule))) not in side.rules
    ]


def _names_day(text: str, day: date) -> bool:
    """Does the text name this day or a neighbour (another zone's)? A text without days says nothing."""
    named = [
        (_MONTHS.index(found["month"][:3].casefold()) + 1, int(found["day"]))
        for found in _DATE.finditer(text)
        if found["month"] is not None
    ]
    near = [day + timedelta(days=off) for off in (-1, 0, 1)]
    return not named or any((near_day.month, near_day.day) in named for near_day in near)


def _only_ones(pairs: list[GamePair]) -> list[GamePair]:
    """Pairs whose games have one partner each on the other's venue; the others are in doubt."""
    partners: dict[tuple[int, str], int] = defaultdict(int)
    for pair in pairs:
        partners[id(pair.one), pair.two.event.platform] += 1
        partners[id(pair.two), pair.one.event.platform] += 1
    return [
        replace(pair, doubts=(*pair.doubts, "more than one game of the other venue would fit"))
        if partners[id(pair.one), pair.two.event.platform] > 1
        or partners[id(pair.two), pair.one.event.platform] > 1
        else pair
        for pair in pairs
    ]
