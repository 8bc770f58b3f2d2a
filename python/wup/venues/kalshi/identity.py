"""What an id of Kalshi's says: `KX{LEAGUE}{TYPE}-{YY}{MMM}{DD}[HHMM]{SIDES}[G{n}]-{OUTCOME}`.

Kalshi advises against reading tickers, so this only proposes; catalogue fields decide.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from itertools import permutations
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from wup.mapping.series import Game, GameMarket
from wup.mapping.statement import Statement

if TYPE_CHECKING:
    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.statement import Kind

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_GAME = re.compile(
    r"(?P<yy>\d\d)(?P<mmm>[A-Z]{3})(?P<dd>\d\d)(?P<hhmm>[0-2]\d[0-5]\d)?(?P<sides>[A-Z0-9]{4,}?)(?P<game>G\d)?"
)
_TYPES: tuple[tuple[str, Kind, str], ...] = (
    # The longest first: F5SPREAD ends in SPREAD.
    ("CHALLENGERMATCH", "winner", "game"),
    ("SETWINNER", "set_winner", "game"),
    ("F5SPREAD", "spread", "f5"),
    ("GSPREAD", "spread", "games"),
    ("GTOTAL", "total", "games"),
    ("SPREAD", "spread", "game"),
    ("TOTAL", "total", "game"),
    ("MATCH", "winner", "game"),
    ("GAME", "winner", "game"),
    ("MAP", "winner", "map"),
    ("HRR", "player", "game:hrr"),
    ("F5", "result", "f5"),
)
_TOUCH = re.compile(r"KX(?P<what>[A-Z]+)(?P<way>MAX|MIN)MON-[A-Z]+-(?P<day>\d\d[A-Z]{3}\d\d)-(?P<cents>\d+)")
_HALF = Decimal("0.5")
_EASTERN = ZoneInfo("America/New_York")
"""Whose days and hours tickers name."""
_TIES = ("tie", "draw")


def identity(text: str) -> Statement:
    """The statement of an event or market ticker; empty where the grammar is not known."""
    touch = _TOUCH.fullmatch(text)
    if touch is not None:
        return Statement(
            kind="touch",
            subject=f"{touch['what'].lower()}:{touch['way'].lower()}",
            day=_day(touch["day"][:2], touch["day"][2:5], touch["day"][5:]),
            line=Decimal(touch["cents"]) / 100,
        )
    series, _, rest = text.partition("-")
    event, _, outcome = rest.partition("-")
    found = _GAME.fullmatch(event)
    kind = next((known for known in _TYPES if series.endswith(known[0]) and series != known[0]), None)
    if found is None or kind is None:
        return Statement()
    start = Statement(
        kind=kind[1],
        league=series.removeprefix("KX").removesuffix(kind[0]).lower(),
        day=_day(found["yy"], found["mmm"], found["dd"]),
        sides=(found["sides"].lower(),),
        period=kind[2],
        game=None if found["game"] is None else int(found["game"][1:]),
    )
    return _outcome(start, outcome.lower())


def start_of(ticker: str) -> time | None:
    """The start that an event ticker carries, in US Eastern time; None when it carries none."""
    found = _GAME.fullmatch(ticker.partition("-")[2].partition("-")[0])
    if found is None or found["hhmm"] is None or int(found["hhmm"][:2]) > 23:
        return None
    return time(int(found["hhmm"][:2]), int(found["hhmm"][2:]))


def _outcome(start: Statement, outcome: str) -> Statement:
    if start.period == "map":
        number, _, outcome = outcome.partition("-")
        start = replace(start, period=f"map{number}")
    if start.kind == "player":
        person, _, least = outcome.rpartition("-")
        if not least.isdigit() or not person:
            return replace(start, whole_event=True)
        return replace(start, subject=person, line=int(least) - _HALF)
    if not outcome:
        return replace(start, whole_event=True)
    if start.kind == "total":
        return replace(start, line=int(outcome) - _HALF) if outcome.isdigit() else Statement()
    if start.kind == "spread":
        found = re.fullmatch(r"([a-z0-9]*[a-z])(\d+)", outcome)
        return Statement() if found is None else replace(start, subject=found[1], line=int(found[2]) - _HALF)
    if start.game is not None and outcome in (f"g{start.game}", *start.sides):
        # What looked like the number of a game is a team of that name.
        return replace(start, subject=outcome, sides=(f"{start.sides[0]}g{start.game}",), game=None)
    return replace(start, subject=outcome)


def _day(yy: str, mmm: str, dd: str) -> date | None:
    try:
        return date(2000 + int(yy), _MONTHS.index(mmm) + 1, int(dd))
    except ValueError:
        return None


def game(event: VenueEventRecord) -> Game | None:
    """A two-sided game: one market per side, and a ticker that agrees with both codes; else None."""
    series, _, rest = event.slug.partition("-")
    found = _GAME.fullmatch(rest)
    if found is None or len(event.markets) != 2 or not series.endswith(("GAME", "MATCH")):
        return None
    by_code: dict[str, VenueMarket] = {}
    for market in event.markets:
        prefix, _, code = market.market_id.rpartition("-")
        name = market.facts.get("yes_sub_title", "")
        if prefix != event.slug or not code or not name or name.casefold() in _TIES or market.line:
            return None
        by_code[code] = market
    sides = found["sides"] + (found["game"] or "")
    number = None
    order = next((pair for pair in permutations(by_code) if "".join(pair) == sides), None)
    if order is None and found["game"]:
        number = int(found["game"][1:])
        order = next((pair for pair in permutations(by_code) if "".join(pair) == found["sides"]), None)
    if order is None:
        return None
    first, second = (by_code[code] for code in order)
    names = first.facts["yes_sub_title"], second.facts["yes_sub_title"]
    if names[0].casefold() == names[1].casefold():
        return None
    day = _day(found["yy"], found["mmm"], found["dd"])
    clock = start_of(event.slug)
    return Game(
        event=event,
        series=first.facts.get("series") or series,
        sides=names,
        codes=(order[0].lower(), order[1].lower()),
        markets=(GameMarket(first, *names), GameMarket(second, names[1], names[0])),
        day=day,
        start=None if day is None or clock is None else datetime.combine(day, clock, tzinfo=_EASTERN),
        number=number,
    )
