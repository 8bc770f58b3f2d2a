"""What is listed: real-world outcomes, and the venue markets that trade them.

An `Outcome` is one fact with one fair price. A `Listing` is one market of one venue on an outcome, maybe
on its opposite. Ids, titles and rule texts follow the venues' own forms, so that the event service and the
mapping see what they would see in production.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from wup.sim.fixed import MICRO

KALSHI = "kalshi"
POLYMARKET = "polymarket"

Band = tuple[int, int, int]
"""(from, to, step) of a price grid, in millionths."""

CENT_GRID: tuple[Band, ...] = ((0, MICRO, 10_000),)
TAPERED_GRID: tuple[Band, ...] = ((0, 100_000, 1_000), (100_000, 900_000, 10_000), (900_000, MICRO, 1_000))
MILLE_GRID: tuple[Band, ...] = ((0, MICRO, 1_000),)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fact that resolves to yes or no."""

    key: str
    """Canonical market key (`wup1|...`)."""
    label: str
    fair: int
    """First fair price, millionths."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One binary market of one venue."""

    venue: str
    event: str
    """Event ticker or slug."""
    market_id: str
    """What the venue calls the market: ticker or condition id."""
    assets: tuple[str, ...]
    """Quoted assets, the YES side first."""
    outcome: Outcome
    inverted: bool
    """Is this market's YES the outcome's NO?"""
    label: str
    """Short outcome name, in the venue's words."""
    no_label: str
    question: str
    primary: str
    """Main rule text."""
    secondary: str
    """Further rule text; "" when there is none."""
    grid: tuple[Band, ...]
    structure: str = "linear_cent"
    uuid: str = ""
    number: int = 0
    slug: str = ""
    outcomes: tuple[str, str] = ("Yes", "No")

    @property
    def rules(self) -> str:
        """All rule texts joined by an empty line: what `rules_sha256` is taken over."""
        return f"{self.primary}\n\n{self.secondary}" if self.secondary else self.primary

    @property
    def rules_sha256(self) -> str:
        """SHA-256 hex of the UTF-8 of `rules`."""
        return hashlib.sha256(self.rules.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Event:
    """One event as one venue lists it."""

    venue: str
    slug: str
    title: str
    sub_title: str
    series: str
    category: str
    exclusive: bool
    close_at: datetime
    listings: tuple[Listing, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One real-world event: its outcomes, and every venue's event on it."""

    id: str
    title: str
    category: str
    exclusive: bool
    outcomes: tuple[Outcome, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is listed."""

    aggregates: tuple[Aggregate, ...]
    listings: tuple[Listing, ...] = field(default=())

    def events(self, venue: str) -> list[Event]:
        """One venue's events."""
        return [event for item in self.aggregates for event in item.events if event.venue == venue]


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("|".join(parts).encode()).digest()


def _uuid(name: str) -> str:
    text = _digest("uuid", name).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def _condition(name: str) -> str:
    return "0x" + _digest("condition", name).hex()


def _token(name: str, side: str) -> str:
    return str(int.from_bytes(_digest("token", name, side)) | 1 << 255)


def _number(name: str) -> int:
    return 900_000 + int.from_bytes(_digest("number", name)[:3])


_FED_CLOSE = datetime(2026, 12, 9, 19, 0, tzinfo=UTC)
_FED = (
    # subject, label, Kalshi suffix, Kalshi words, Polymarket words, slug words, fair
    (
        "cut-50",
        "50+ bps cut",
        "C26",
        "Cut >25bps",
        "50+ bps decrease",
        "decrease-interest-rates-by-50-bps",
        28_000,
    ),
    (
        "cut-25",
        "25 bps cut",
        "C25",
        "Cut 25bps",
        "25 bps decrease",
        "decrease-interest-rates-by-25-bps",
        262_000,
    ),
    (
        "hold",
        "No change",
        "H0",
        "Fed maintains rate",
        "No change",
        "there-be-no-change-in-interest-rates",
        615_000,
    ),
    (
        "hike-25",
        "25 bps hike",
        "H25",
        "Hike 25bps",
        "25 bps increase",
        "increase-interest-rates-by-25-bps",
        81_000,
    ),
    (
        "hike-50",
        "50+ bps hike",
        "H26",
        "Hike >25bps",
        "50+ bps increase",
        "increase-interest-rates-by-50-bps",
        19_000,
    ),
)


def _kalshi_listing(
    event: str,
    suffix: str,
    outcome: Outcome,
    *,
    label: str,
    no_label: str,
    question: str,
    primary: str,
    secondary: str,
    inverted: bool = False,
    tapered: bool = False,
) -> Listing:
    ticker = f"{event}-{suffix}"
    return Listing(
        venue=KALSHI,
        event=event,
        market_id=ticker,
        assets=(ticker,),
        outcome=outcome,
        inverted=inverted,
        label=label,
        no_label=no_label,
        question=question,
        primary=primary,
        secondary=secondary,
        grid=TAPERED_GRID if tapered else CENT_GRID,
        structure="tapered_deci_cent" if tapered else "linear_cent",
        uuid=_uuid(ticker),
    )


def _polymarket_listing(
    event: str,
    slug: str,
    outcome: Outcome,
    *,
    label: str,
    question: str,
    primary: str,
    secondary: str = "",
    grid: tuple[Band, ...],
    outcomes: tuple[str, str] = ("Yes", "No"),
) -> Listing:
    return Listing(
        venue=POLYMARKET,
        event=event,
        market_id=_condition(slug),
        assets=(_token(slug, "0"), _token(slug, "1")),
        outcome=outcome,
        inverted=False,
        label=label,
        no_label=outcomes[1],
        question=question,
        primary=primary,
        secondary=secondary,
        grid=grid,
        number=_number(slug),
        slug=slug,
        outcomes=outcomes,
    )


def _fed() -> Aggregate:
    ticker, slug = "KXFEDDECISION-26DEC", "fed-decision-in-december-2026"
    outcomes, on_kalshi, on_polymarket = [], [], []
    for subject, label, suffix, kalshi_words, words, slug_words, fair in _FED:
        outcome = Outcome(f"wup1|fed:2026-12|rate_decision|{subject}|-|meeting", label, fair)
        outcomes.append(outcome)
        on_kalshi.append(
            _kalshi_listing(
                ticker,
                suffix,
                outcome,
                label=kalshi_words,
                no_label=kalshi_words,
                question=f"Will the Federal Reserve decide on {kalshi_words} at its December 2026 meeting?",
                primary=f"If the Federal Reserve's decision at its December 2026 meeting is: {kalshi_words}, then the "
                "market resolves to Yes.",
                secondary="The decision is the change of the upper bound of the target federal funds range, as stated "
                "by the Federal Open Market Committee after its meeting of December 8-9, 2026. If no statement is "
                "released by the expiration date, the market resolves to No change.",
                tapered=subject in ("cut-50", "hike-50"),
            )
        )
        on_polymarket.append(
            _polymarket_listing(
                slug,
                f"will-{slug_words}-after-the-december-2026-meeting",
                outcome,
                label=words,
                question=f"Fed decision after the December 2026 meeting: {words}?",
                primary="The FED interest rates are defined in this market by the upper bound of the target federal "
                f'funds range. This market will resolve to "Yes" if the change announced after the December 2026 '
                f"meeting (December 8-9) is: {words}. If no statement is released by the end date of the next "
                'scheduled meeting, this market will resolve to the "No change" bracket.',
                grid=MILLE_GRID,
            )
        )
    title = "Fed decision in December 2026"
    return Aggregate(
        "fed-2026-12",
        title,
        "economics",
        True,
        tuple(outcomes),
        (
            Event(
                KALSHI,
                ticker,
                "Fed decision in Dec 2026?",
                "On Dec 9, 2026",
                "KXFEDDECISION",
                "Economics",
                True,
                _FED_CLOSE,
                tuple(on_kalshi),
            ),
            Event(
                POLYMARKET,
                slug,
                "Fed Decision in December?",
                "",
                "fomc",
                "Economic Policy",
                True,
                _FED_CLOSE,
                tuple(on_polymarket),
                _number(slug),
            ),
        ),
    )


def _game() -> Aggregate:
    ticker, slug = "KXMLBGAME-26DEC012305TEXNYY", "mlb-tex-nyy-2026-12-01"
    start = datetime(2026, 12, 2, 4, 5, tzinfo=UTC)
    outcome = Outcome(
        "wup1|mlb:tex@nyy:2026-12-02T04:05Z:g1|moneyline|tex|-|game", "Texas beats New York Y", 547_000
    )
    secondary = (
        "The following market refers to the team who wins the Texas vs New York Y professional baseball game "
        "originally scheduled for Dec 1, 2026, extra innings included. If the game is not started within two days, "
        "the market will resolve to a fair market price."
    )
    on_kalshi = tuple(
        _kalshi_listing(
            ticker,
            suffix,
            outcome,
            label=team,
            no_label=team,
            inverted=inverted,
            question=f"Will {team} win the Texas vs New York Y game?",
            primary=f"If {team} wins the Texas vs New York Y professional baseball game originally scheduled for Dec 1, "
            "2026, then the market resolves to Yes.",
            secondary=secondary,
        )
        for suffix, team, inverted in (("TEX", "Texas", False), ("NYY", "New York Y", True))
    )
    teams = ("Texas Rangers", "New York Yankees")
    on_polymarket = _polymarket_listing(
        slug,
        slug,
        outcome,
        label="",
        question="Texas Rangers vs. New York Yankees",
        primary="In the upcoming MLB game, scheduled for December 1 at 11:05PM ET: If the Texas Rangers win, the market "
        'will resolve to "Texas Rangers". If the New York Yankees win, the market will resolve to "New York Yankees". '
        "Extra innings count. If the game is canceled entirely, with no make-up game, this market will resolve 50-50.",
        secondary="https://www.mlb.com/",
        grid=CENT_GRID,
        outcomes=teams,
    )
    title = "Texas at New York Y, 1 December 2026"
    return Aggregate(
        "mlb-tex-nyy-2026-12-01",
        title,
        "sports",
        True,
        (outcome,),
        (
            Event(
                KALSHI,
                ticker,
                "Texas vs New York Y",
                "TEX vs NYY (Dec 1)",
                "KXMLBGAME",
                "Sports",
                True,
                start + timedelta(days=2),
                on_kalshi,
            ),
            Event(
                POLYMARKET,
                slug,
                "Texas Rangers vs. New York Yankees",
                "",
                "mlb",
                "Sports",
                False,
                start,
                (on_polymarket,),
                _number(slug + "-event"),
            ),
        ),
    )


def _extra(index: int, outcomes_per_event: int) -> Aggregate:
    name = f"{index:04d}"
    ticker, slug = f"KXSIMLOAD-26DEC31N{name}", f"simulated-load-event-{name}"
    close = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    outcomes, on_kalshi, on_polymarket = [], [], []
    for rank in range(outcomes_per_event):
        fair = 60_000 + int.from_bytes(_digest("fair", name, str(rank))[:4]) % 880_000
        # A dot in every fourth ticker, as real strikes have: readers must treat tickers as opaque.
        suffix = f"T{rank}.99" if rank % 4 == 3 else f"O{rank}"
        words = f"Outcome {rank} of event {name}"
        outcome = Outcome(f"wup1|simload:{name}|category|o{rank}|-|day", words, fair)
        outcomes.append(outcome)
        on_kalshi.append(
            _kalshi_listing(
                ticker,
                suffix,
                outcome,
                label=words,
                no_label=words,
                question=f"Will it be {words.lower()}?",
                primary=f"If {words.lower()} happens, then the market resolves to Yes.",
                secondary="",
            )
        )
        on_polymarket.append(
            _polymarket_listing(
                slug,
                f"{slug}-o{rank}",
                outcome,
                label=f"Outcome {rank}",
                question=f"{words}?",
                primary=f'This market will resolve to "Yes" if {words.lower()} happens.',
                grid=MILLE_GRID if rank % 2 else CENT_GRID,
            )
        )
    title = f"Simulated load event {name}"
    return Aggregate(
        f"simload-{name}",
        title,
        "simulated",
        False,
        tuple(outcomes),
        (
            Event(KALSHI, ticker, title, "", "KXSIMLOAD", "Simulated", False, close, tuple(on_kalshi)),
            Event(
                POLYMARKET,
                slug,
                title,
                "",
                "simload",
                "Simulated",
                False,
                close,
                tuple(on_polymarket),
                _number(slug),
            ),
        ),
    )


def build_world(extra_events: int = 0, *, outcomes_per_event: int = 4) -> World:
    """The rate decision, the game, and `extra_events` generated events for load. The same each time."""
    aggregates = (_fed(), _game(), *(_extra(index, outcomes_per_event) for index in range(extra_events)))
    return World(
        aggregates,
        tuple(listing for item in aggregates for event in item.events for listing in event.listings),
    )
