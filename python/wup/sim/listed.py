"""The simulated events themselves: a rate decision, a game, and generated events for load.

The texts are typed after the venues' own forms; ids come from hashes of names, so they are the same in
every run.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from wup.sim.world import (
    CENT_GRID,
    KALSHI,
    MILLE_GRID,
    POLYMARKET,
    TAPERED_GRID,
    Aggregate,
    Band,
    Event,
    Listing,
    Outcome,
    World,
)

_FED_CLOSE = datetime(2026, 12, 9, 19, 0, tzinfo=UTC)
_FED = (
    # subject, label, fair, Kalshi suffix and words, Polymarket words and slug part
    ("cut-50", "50+ bps cut", 28_000, "C26", "Cut >25bps", "50+ bps decrease", "decrease-by-50-bps"),
    ("cut-25", "25 bps cut", 262_000, "C25", "Cut 25bps", "25 bps decrease", "decrease-by-25-bps"),
    ("hold", "No change", 615_000, "H0", "Fed maintains rate", "No change", "no-change"),
    ("hike-25", "25 bps hike", 81_000, "H25", "Hike 25bps", "25 bps increase", "increase-by-25-bps"),
    ("hike-50", "50+ bps hike", 19_000, "H26", "Hike >25bps", "50+ bps increase", "increase-by-50-bps"),
)
_FED_KALSHI = (
    "If the Federal Reserve's decision at its December 2026 meeting is: {words}, then the market resolves "
    "to Yes."
)
_FED_KALSHI_MORE = (
    "The decision is the change of the upper bound of the target federal funds range, as stated by the "
    "Federal Open Market Committee after its meeting of December 8-9, 2026. If no statement is released by "
    "the expiration date, the market resolves to No change."
)
_FED_POLYMARKET = (
    "The FED interest rates are defined in this market by the upper bound of the target federal funds range. "
    'This market will resolve to "Yes" if the change announced after the December 2026 meeting (December '
    "8-9) is: {words}. If no statement is released by the end date of the next scheduled meeting, this "
    'market will resolve to the "No change" bracket.'
)
_GAME_KALSHI = (
    "If {team} wins the Texas vs New York Y professional baseball game originally scheduled for Dec 1, 2026, "
    "then the market resolves to Yes."
)
_GAME_KALSHI_MORE = (
    "The following market refers to the team who wins the Texas vs New York Y professional baseball game "
    "originally scheduled for Dec 1, 2026, extra innings included. If the game is not started within two "
    "days, the market will resolve to a fair market price."
)
_GAME_POLYMARKET = (
    "In the upcoming MLB game, scheduled for December 1 at 11:05PM ET: If the Texas Rangers win, the market "
    'will resolve to "Texas Rangers". If the New York Yankees win, the market will resolve to "New York '
    'Yankees". Extra innings count. If the game is canceled entirely, with no make-up game, this market will '
    "resolve 50-50."
)


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
    for subject, label, fair, suffix, kalshi_words, words, slug_words in _FED:
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
                primary=_FED_KALSHI.format(words=kalshi_words),
                secondary=_FED_KALSHI_MORE,
                tapered=subject in ("cut-50", "hike-50"),
            )
        )
        on_polymarket.append(
            _polymarket_listing(
                slug,
                f"will-the-fed-decide-{slug_words}-after-the-december-2026-meeting",
                outcome,
                label=words,
                question=f"Fed decision after the December 2026 meeting: {words}?",
                primary=_FED_POLYMARKET.format(words=words),
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
    on_kalshi = tuple(
        _kalshi_listing(
            ticker,
            suffix,
            outcome,
            label=team,
            no_label=team,
            inverted=inverted,
            question=f"Will {team} win the Texas vs New York Y game?",
            primary=_GAME_KALSHI.format(team=team),
            secondary=_GAME_KALSHI_MORE,
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
        primary=_GAME_POLYMARKET,
        secondary="https://www.mlb.com/",
        grid=CENT_GRID,
        outcomes=teams,
    )
    title = "Texas at New York Y, 1 December 2026"
    return Aggregate(
        "mlb-tex-nyy-2026-12-01",
        title,
        "sports",
        False,
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
