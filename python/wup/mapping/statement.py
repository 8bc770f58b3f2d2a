"""What a market says, part by part, in words that two venues can share; and how two such statements compare.

A statement is read from an id (`wup.venues.identities`) or from a catalogue record. Parts that were not told
are None and agree with anything, so that a comparison says three things apart: what contradicts, what agrees,
and what is missing. Nothing here confirms: an id is never evidence (mapping.md section 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from wup.mapping.file import Polarity

Kind = Literal["winner", "result", "spread", "total", "player", "touch", "set_winner", "exact_score", "event"]
"""`winner` has two values, `result` three: one side wins, the other, or neither."""

_Reading = Literal["same", "inverted", "unknown", "other side", "tie"]

_SPORTS = {
    "baseball": ("mlb", "npb", "kbo"),
    "basketball": ("nba", "wnba", "ncaab", "cbb"),
    "football": ("nfl", "ncaaf", "cfb", "cfp"),
    "hockey": ("nhl",),
    "tennis": ("atp", "wta", "itf", "itfme", "itfw"),
    "fighting": ("ufc",),
    "counter-strike": ("cs2",),
    "dota": ("dota2",),
    "league of legends": ("lol",),
    "valorant": ("valorant",),
    "rainbow six": ("r6",),
    "cricket": ("t20", "mlc", "t20gsl", "ipl"),
    "soccer": ("mls", "nwsl", "ucl", "uel", "uecl", "epl", "laliga", "laliga2", "bundesliga", "seriea"),
}
_SPORT_OF = {league: sport for sport, leagues in _SPORTS.items() for league in leagues}
_PERSON = re.compile(r"[a-z]{6}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One market's YES (or one event, where no market is named), as far as it is told."""

    kind: Kind | None = None
    league: str | None = None
    day: date | None = None
    sides: tuple[str, ...] = ()
    """Codes of the participants, lower case; one text of both where the venue does not part them."""
    subject: str | None = None
    """Code of the side, person or thing that the statement is about."""
    line: Decimal | None = None
    """What the subject's number must exceed."""
    period: str = "game"
    game: int | None = None
    """Number of the game, where two are played in one day."""
    negated: bool = False
    """YES pays when the statement fails."""
    oriented: bool = True
    """Is it told which outcome YES is?"""
    whole_event: bool = False
    """Names an event, not a market."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`conflicts` are parts that cannot both be true of one contract; `missing` keep it from a proposal."""

    conflicts: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    polarity: Polarity | None = None

    @property
    def proposed(self) -> bool:
        """Worth a person's look: nothing contradicts and enough agrees."""
        return not self.conflicts and not self.missing


def compare(one: Statement, two: Statement) -> Comparison:
    """Two statements, part by part. Which of them comes first makes no difference."""
    if len(one.sides) > len(two.sides) and len(two.sides) == 1:
        one, two = two, one
    if one.kind is None or two.kind is None:
        return Comparison(missing=("kind",))
    if one.whole_event != two.whole_event:
        return Comparison(missing=("market",))
    conflicts = _conflicts(one, two)
    if one.kind == "touch" == two.kind:
        told = one.subject and two.subject and one.line and two.line
        return Comparison(tuple(conflicts), () if told else ("subject",), "same")
    found = _sides(one, two)
    missing = [] if one.day is not None and two.day is not None else ["day"]
    if one.game != two.game and None in (one.game, two.game):
        missing.append("game number")
    if found is None:
        missing.append("participants")
        return Comparison(tuple(conflicts), tuple(missing))
    if not found.both and (one.league is None or one.league != two.league):
        missing.append("league")
    polarity: Polarity | None = None
    if not one.whole_event:
        reading = _polarity(one, two, found)
        if reading == "same" or reading == "inverted":
            polarity = reading
        elif reading == "unknown":
            missing.append("subject")
        else:
            conflicts.append(reading)
        if not (one.oriented and two.oriented):
            polarity = None
    return Comparison(tuple(conflicts), tuple(missing), polarity)


def _conflicts(one: Statement, two: Statement) -> list[str]:
    found = []
    sports = [_SPORT_OF.get(s.league or "") for s in (one, two)]
    if None not in sports and sports[0] != sports[1]:
        found.append("sport")
    kinds = {one.kind, two.kind}
    if len(kinds) > 1 and kinds != {"winner", "result"}:
        found.append("kind")
    elif (one.line is None) != (two.line is None) or (one.line != two.line):
        found.append("line")
    if one.kind == two.kind == "touch" and one.subject != two.subject:
        found.append("subject")
    if one.period != two.period:
        found.append("period")
    if one.day is not None and two.day is not None and one.day != two.day:
        found.append("day")
    if one.game is not None and two.game is not None and one.game != two.game:
        found.append("game number")
    return found


# --- participants ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sides:
    """Codes of the first statement as codes of the second."""

    name_of: dict[str, str]
    both: bool


def _sides(one: Statement, two: Statement) -> _Sides | None:
    """Which side of `one` is which of `two`; None when it cannot be said."""
    if len(two.sides) != 2 or not one.sides:
        return None
    a, b = two.sides
    best: dict[tuple[str, str], int] = {}
    for x, y in _splits(one):
        for first, second in ((a, b), (b, a)):
            score = (_likeness(x, first), _likeness(y, second))
            # One side alone must be certain.
            if max(score) == 2:
                pairing = (f"{x}={first}", f"{y}={second}")
                best[pairing] = max(best.get(pairing, 0), sum(score))
    if not best:
        return None
    top = max(best.values())
    winners = [pairing for pairing, score in best.items() if score == top]
    readings = {frozenset(pairing) for pairing in winners}
    if len(readings) != 1:
        return None
    return _Sides(dict(part.split("=") for part in winners[0]), both=top > 2)


def _splits(one: Statement) -> list[tuple[str, str]]:
    """The two codes of a statement; every way to part them where the venue writes them as one text."""
    if len(one.sides) == 2:
        return [(one.sides[0], one.sides[1])]
    text = one.sides[0]
    splits = [(text[:at], text[at:]) for at in range(2, len(text) - 1)]
    if one.subject is not None and one.kind in ("winner", "result", "spread"):
        splits = [pair for pair in splits if one.subject in pair]
    return splits


def _likeness(one: str, two: str) -> int:
    """2: one code. 1: one begins the other. 0: nothing said."""
    if one == two or one == two.rstrip("0123456789"):
        return 2
    if _PERSON.fullmatch(two) and len(one) == 3 and two[3:] == one:
        # Three letters of the first name, three of the last.
        return 2
    shorter, longer = sorted((one, two), key=len)
    return 1 if len(shorter) >= 2 and longer.startswith(shorter) else 0


def _polarity(one: Statement, two: Statement, sides: _Sides) -> _Reading:
    """`same`, `inverted`, `unknown`, or the conflict that forbids both."""
    turned: Polarity = "same" if one.negated == two.negated else "inverted"
    if one.kind == "total":
        return turned
    if one.kind == "player":
        return turned if _same_person(one.subject or "", two.subject or "") else "unknown"
    if one.subject is None or two.subject is None:
        return "unknown"
    mine = sides.name_of.get(one.subject)
    if mine is None or two.subject not in two.sides:
        return "unknown"
    if mine == two.subject:
        return turned
    if one.kind == two.kind == "winner":
        return "inverted" if turned == "same" else "same"
    # "A wins" NO is not "B wins" YES when neither may win; "A by 2" is not "B by 2" either.
    return "other side" if "spread" in (one.kind, two.kind) else "tie"


def _same_person(one: str, two: str) -> bool:
    """`rarozarena56` and `ranaro`: the first letter, and three of the last name."""
    shorter, longer = sorted((one, two), key=len)
    if not _PERSON.fullmatch(shorter):
        return False
    return any(longer[at:].startswith(shorter[0] + shorter[3:]) for at in range(max(0, len(longer) - 6)))
