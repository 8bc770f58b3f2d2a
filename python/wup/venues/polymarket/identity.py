"""What a slug of Polymarket's says: `{league}-{a}-{b}-{date}`, `will-{coin}-reach-{n}k-in-{month}-{year}`.

A `token:{id}|slug:{slug}` names one outcome's token; which outcome, only the catalogue knows. Condition ids
say nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from wup.mapping.moments import START
from wup.mapping.rest import time_us
from wup.mapping.series import Game, GameMarket
from wup.mapping.statement import Statement

if TYPE_CHECKING:
    from wup.mapping.catalogue import VenueEventRecord

_GAME = re.compile(
    r"(?P<league>[a-z0-9]+)-(?P<a>[a-z0-9]+)-(?P<b>[a-z0-9]+)-(?P<day>\d{4}-\d\d-\d\d)(?:-game(?P<game>\d))?"
)
_TOUCH = re.compile(
    r"will-(?P<coin>[a-z]+)-(?P<way>reach|dip-to)-(?P<number>\d+)(?:pt(?P<part>\d+))?(?P<kilo>k?)"
    r"-in-(?P<month>[a-z]+)-(?P<year>\d{4})"
)
_COINS = {"bitcoin": "btc", "ethereum": "eth", "solana": "sol", "xrp": "xrp", "dogecoin": "doge"}
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)


def identity(text: str) -> Statement:
    """The statement of a slug (event or market), or of a token with its slug; empty where none is told."""
    token = text.startswith("token:")
    slug = text.partition("slug:")[2] if token else text
    game = _GAME.fullmatch(slug)
    if game is not None:
        return Statement(
            kind="winner",
            league=game["league"],
            day=_day(game["day"]),
            sides=(game["a"], game["b"]),
            subject=game["a"],
            game=None if game["game"] is None else int(game["game"]),
            # The order of a slug does not say which outcome comes first.
            oriented=False,
            whole_event=not token,
        )
    touch = _TOUCH.fullmatch(slug)
    if touch is None or touch["month"] not in _MONTHS or touch["coin"] not in _COINS:
        return Statement()
    month, year = _MONTHS.index(touch["month"]) + 1, int(touch["year"])
    return Statement(
        kind="touch",
        subject=f"{_COINS[touch['coin']]}:{'max' if touch['way'] == 'reach' else 'min'}",
        day=date(year, month, monthrange(year, month)[1]),
        line=Decimal(f"{touch['number']}.{touch['part'] or 0}") * (1000 if touch["kilo"] else 1),
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def game(event: VenueEventRecord) -> Game | None:
    """A two-sided game: the one moneyline market of an event whose title names both outcomes; else None."""
    found = _GAME.fullmatch(event.slug)
    moneylines = [m for m in event.markets if m.facts.get("sports_market_type") == "moneyline"]
    if found is None or len(moneylines) != 1 or len(moneylines[0].outcomes) != 2:
        return None
    (market,) = moneylines
    first, second = market.outcomes
    shown = f"{event.title} {market.question}".casefold()
    if first.casefold() in ("yes", "no") or any(name.casefold() not in shown for name in market.outcomes):
        return None
    began = time_us(market.facts.get(START))
    return Game(
        event=event,
        series=f"{found['league']}/moneyline",
        sides=(first, second),
        codes=(found["a"], found["b"]),
        markets=(GameMarket(market, first, second),),
        day=_day(found["day"]),
        start=None if began is None else datetime.fromtimestamp(began // 1_000_000, UTC),
        number=None if found["game"] is None else int(found["game"]),
    )
