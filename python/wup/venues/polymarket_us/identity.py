"""What a slug of Polymarket US says: `{type}-{league}-{a}-{b}-{YYYY-MM-DD}[-{more}]`.

Types: `aec` two sides, `atc` one of three results, `asc` a handicap, `tsc` a total, `astatc` a map or a
player's number. That the long side is the first team is a habit, not a promise; `marketSides[].long` decides.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal

from wup.mapping.statement import Statement

_SLUG = re.compile(
    r"(?P<type>aec|atc|asc|tsc|astatc)-(?P<league>[a-z0-9]+)-(?P<a>[a-z0-9]+)-(?P<b>[a-z0-9]+)"
    r"-(?P<day>\d{4}-\d\d-\d\d)(?:-(?P<more>.+))?"
)
_NUMBER = r"(?P<whole>\d+)pt(?P<part>\d+)"
_SPREAD = re.compile(rf"(?:(?P<period>f5|gs)-)?(?P<sign>neg|pos)-{_NUMBER}")
_TOTAL = re.compile(rf"(?:(?P<period>tg)-)?{_NUMBER}")
_MAP = re.compile(r"(?:map|game)(?P<number>\d)")
_PLAYER = re.compile(r"(?P<stat>[a-z]+)-(?P<person>[a-z]+)-gte(?P<least>\d+)")
_PERIODS = {None: "game", "f5": "f5", "gs": "games", "tg": "games"}


def identity(text: str) -> Statement:
    """The statement of a market slug; empty where the grammar is not known."""
    found = _SLUG.fullmatch(text)
    if found is None:
        return Statement()
    a, b = found["a"], found["b"]
    try:
        day = date.fromisoformat(found["day"])
    except ValueError:
        return Statement()
    start = Statement(league=found["league"], day=day, sides=(a, b))
    more = found["more"] or ""
    match found["type"]:
        case "aec" if not more:
            return replace(start, kind="winner", subject=a)
        case "atc":
            period, _, subject = more.rpartition("-")
            return replace(start, kind="result", subject=subject, period=period or "game")
        case "asc":
            return _spread(start, more)
        case "tsc":
            total = _TOTAL.fullmatch(more)
            if total is not None:
                return replace(start, kind="total", line=_line(total), period=_PERIODS[total["period"]])
        case "astatc":
            return _stat(start, more)
    return Statement()


def _spread(start: Statement, more: str) -> Statement:
    found = _SPREAD.fullmatch(more)
    if found is None:
        return Statement()
    a, b = start.sides
    given = found["sign"] == "pos"
    # "+1.5 for A" fails exactly when B wins by more than 1.5.
    return replace(
        start,
        kind="spread",
        subject=b if given else a,
        negated=given,
        line=_line(found),
        period=_PERIODS[found["period"]],
    )


def _stat(start: Statement, more: str) -> Statement:
    number = _MAP.fullmatch(more)
    if number is not None:
        return replace(start, kind="winner", subject=start.sides[0], period=f"map{number['number']}")
    player = _PLAYER.fullmatch(more)
    if player is None:
        return replace(start, kind="exact_score") if more.startswith("es-") else Statement()
    return replace(
        start,
        kind="player",
        subject=player["person"],
        line=int(player["least"]) - Decimal("0.5"),
        period=f"game:{player['stat']}",
    )


def _line(found: re.Match[str]) -> Decimal:
    return Decimal(f"{found['whole']}.{found['part']}")
