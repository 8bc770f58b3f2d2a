"""Catalogue records of games, typed: what both venues' folders would have read from full answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mapping.files import venue_event, venue_market
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.file import MappingFiles, parse
from wup.mapping.series import template

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
SPORTS = {
    "any": "game",
    "nba": "basketball",
    "nfl": "football",
    "ncaaf": "college football",
}
PLACES = {
    "nba": {
        "MIL": ("Milwaukee", "Bucks"),
        "LAL": ("Los Angeles L", "Lakers"),
        "SAC": ("Sacramento", "Kings"),
        "GSW": ("Golden State", "Warriors"),
        "HOU": ("Houston", "Rockets"),
        "POR": ("Portland", "Trail Blazers"),
        "NYK": ("New York", "Knicks"),
        "PHX": ("Phoenix", "Suns"),
        "ATL": ("Atlanta", "Hawks"),
        "DEN": ("Denver", "Nuggets"),
        "LAC": ("Los Angeles C", "Clippers"),
        "BKN": ("Brooklyn", "Nets"),
        "TOR": ("Toronto", "Raptors"),
        "BOS": ("Boston", "Celtics"),
        "MIN": ("Minnesota", "Timberwolves"),
        "CLE": ("Cleveland", "Cavaliers"),
        "MIA": ("Miami", "Heat"),
        "IND": ("Indiana", "Pacers"),
        "DAL": ("Dallas", "Mavericks"),
        "CHI": ("Chicago", "Bulls"),
        "CHA": ("Charlotte", "Hornets"),
        "UTA": ("Utah", "Jazz"),
    },
    "nfl": {"GB": ("Green Bay", "Packers"), "CHI": ("Chicago", "Bears")},
    "ncaaf": {"ORE": ("Oregon", "Oregon Ducks"), "IND": ("Indiana", "Indiana Hoosiers")},
    "any": {},
}
"""Each side's name on Kalshi and on Polymarket."""


@dataclass(frozen=True)
class Teams:
    """One game in both venues' words."""

    league: str
    away: str
    home: str
    start: datetime
    """In UTC."""
    day: str = "2026-01-09"
    """In US Eastern."""

    def names(self, venue: int) -> tuple[str, str]:
        return PLACES[self.league][self.away][venue], PLACES[self.league][self.home][venue]

    @property
    def date_words(self) -> str:
        year, month, day = self.day.split("-")
        return f"{MONTHS[int(month) - 1].title()} {int(day)}, {year}"


def kalshi(game: Teams, ticker: str, series: str, **changes: object) -> VenueEventRecord:
    """Two markets, one per team."""
    names = game.names(0)
    sport = SPORTS[game.league]
    title = f"{names[0]} vs {names[1]}"
    markets = [
        venue_market(
            f"{ticker}-{code}",
            label=name,
            question=f"{title} Winner?",
            facts={"yes_sub_title": name, "series": series},
            rules=(
                f"If {name} wins the {title} professional {sport} game originally scheduled for "
                f"{game.date_words}, then the market resolves to Yes.\n\nThe following market refers to the "
                f"team who wins the {title} professional {sport} game originally scheduled for "
                f"{game.date_words}, overtime included. If the game is not started within two days, the "
                "market will resolve to a fair market price."
            ),
            **changes,
        )
        for code, name in zip((game.away, game.home), names, strict=True)
    ]
    return venue_event("kalshi", ticker, *markets, title=title)


def polymarket(
    game: Teams,
    slug: str,
    *,
    tokens: dict[str, str],
    condition: str = "",
    swapped: bool = False,
    **changes: object,
) -> VenueEventRecord:
    """One market of two outcomes; `swapped` lists the home team first. `tokens` by team code."""
    order = (game.home, game.away) if swapped else (game.away, game.home)
    words = dict(zip((game.away, game.home), game.names(1), strict=True))
    first, second = (words[code] for code in order)
    at = game.start.astimezone(UTC)
    rules = (
        f"In the upcoming game, scheduled for {game.date_words.partition(',')[0]} at 7:00PM ET:\n"
        f'If the {first} win, the market will resolve to "{first}".\n'
        f'If the {second} win, the market will resolve to "{second}".\n'
        "If the game is canceled entirely, with no make-up game, this market will resolve 50-50. Overtime "
        "counts.\n\nhttps://www.example.com/"
    )
    assets = tuple(tokens.get(code, f"{slug}-{code}") for code in order)
    moneyline = {
        "label": first,
        "question": f"{first} vs. {second}",
        "outcomes": (first, second),
        "asset_id": assets[0],
        "assets": assets,
        "facts": {
            "sports_market_type": "moneyline",
            "start": at.strftime("%Y-%m-%d %H:%M:%S+00"),
            "slug": slug,
        },
        "rules": rules,
        **changes,
    }
    spread = venue_market(
        f"0x{slug}-spread",
        label=first,
        outcomes=(first, second),
        line="-4.5",
        facts={"sports_market_type": "spreads"},
    )
    return venue_event(
        "polymarket",
        slug,
        spread,
        venue_market(condition or f"0x{slug}", **moneyline),
        title=f"{first} vs. {second}",
        exclusive=False,
    )


def rule(league: str, kalshi_series: str, slug_league: str, start: str = "day") -> str:
    """The series rule that a person would write after reading one game's texts."""
    places = PLACES[league]
    names = {theirs: ours for ours, theirs in places.values() if ours != theirs}
    codes = list(places)[:2]
    sample = Teams(league, codes[0], codes[1], datetime(2026, 1, 2, 0, tzinfo=UTC), "2026-01-01")
    one = kalshi(sample, "T", kalshi_series)
    inline = [f'"{a}" = "{b}"' for a, b in names.items()]
    text = (
        f'[[series]]\nleague = "{league}"\ntie = "impossible"\nstart = "{start}"\n'
        'confirmed_by = "human:ab"\nconfirmed_at = 2026-01-01T10:00:00Z\n'
        f"names = {{ {', '.join(inline)} }}\n"
    )
    known = [f"{a}={b}" for a, b in names.items()]
    ours = sample.names(0)
    digests = [
        template(m.rules, m.label, ours[1] if m.label == ours[0] else ours[0], known) for m in one.markets
    ]
    market = polymarket(sample, "t", tokens={}).markets[1]
    theirs = template(market.rules, *market.outcomes, known)
    for platform, series, found in (
        ("kalshi", kalshi_series, digests),
        ("polymarket", f"{slug_league}/moneyline", [theirs]),
    ):
        listed = ", ".join(f'"{digest}"' for digest in found)
        text += f'\n[[series.side]]\nplatform = "{platform}"\nseries = "{series}"\nrules = [{listed}]\n'
    return text


def files(*texts: str) -> MappingFiles:
    """Mapping files of these texts."""
    found, problems = parse("version = 1\n" + "\n".join(texts), "x.toml")
    assert found is not None, problems
    return found
