"""Legs of one market that the venues' own words contradict (mapping.md section 5, rules 2, 4 and 5).

Only contradictions are found: what cannot be compared says nothing. A person is told before publishing
(`wup.mapping.lint_venues`); a leg that turns wrong later is suspended (`wup.mapping.compile`).
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from wup.mapping.moments import OCCURS, START, moment
from wup.mapping.subjects import alike, subjects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from wup.mapping.catalogue import VenueMarket
    from wup.mapping.file import LegEntry, MarketEntry


_TOLERANCE = timedelta(minutes=15)


def contradictions(
    market: MarketEntry, known: Sequence[tuple[LegEntry, VenueMarket]], start: datetime | None = None
) -> Iterator[tuple[LegEntry, str]]:
    """Each leg that may not stay, with the reason and what to do. `start` is the aggregate's.

    Of two legs that contradict each other it is the later one: without those named, no two of the rest do.
    """
    for place, (leg, listed) in enumerate(known):
        yield from ((leg, reason) for reason in _line(market, leg, listed))
        yield from ((leg, reason) for reason in _start(leg, listed, known[:place], start))
        yield from ((leg, reason) for reason in _occurs(leg, listed))
        yield from ((leg, reason) for reason in _together(leg, listed, known[:place]))


def _line(market: MarketEntry, leg: LegEntry, listed: VenueMarket) -> Iterator[str]:
    """The venue's own number; an inverted handicap has the other sign."""
    if listed.line is None:
        return
    wanted = market.key.split("|")[4]
    if wanted == "-":
        yield f"{leg.market} has the line {listed.line}, {market.key!r} has none; put the line into the key"
    elif abs(Decimal(listed.line)) != abs(Decimal(wanted)):
        yield f"{leg.market} has the line {listed.line}, the key {wanted}: another contract; retire the leg"


def _start(
    leg: LegEntry,
    listed: VenueMarket,
    before: Sequence[tuple[LegEntry, VenueMarket]],
    aggregate: datetime | None,
) -> Iterator[str]:
    """The start that the venue tells now, beside those confirmed and those of the other legs."""
    now = moment(listed.facts, START)
    if now is None:
        return
    others = [(leg.where, leg.start), (leg.where, _confirmed(leg, START)), ("the aggregate", aggregate)]
    for other, other_listed in before:
        others += [(other.where, other.start), (other.where, moment(other_listed.facts, START))]
    for where, start in others:
        if start is not None and abs(now - start) > _TOLERANCE:
            yield (
                f"{leg.market} starts {now.isoformat()} now, {where} says {start.isoformat()}: postponed, or "
                "another game; check both, and set start anew or retire the leg"
            )
            return


def _occurs(leg: LegEntry, listed: VenueMarket) -> Iterator[str]:
    """The venue's own time for the event, beside what it was when the leg was confirmed."""
    now, then = moment(listed.facts, OCCURS), _confirmed(leg, OCCURS)
    if now is not None and then is not None and abs(now - then) > _TOLERANCE:
        yield (
            f"{leg.market} is dated {now.isoformat()} now, {then.isoformat()} when it was confirmed "
            f"(evidence at {leg.where}): postponed, or another game; check it, and confirm anew or retire "
            "the leg"
        )


def _confirmed(leg: LegEntry, name: str) -> datetime | None:
    return None if leg.evidence is None else moment(leg.evidence.fields, name)


def _together(
    leg: LegEntry, listed: VenueMarket, before: Sequence[tuple[LegEntry, VenueMarket]]
) -> Iterator[str]:
    """By the subjects that YES pays: the same words cannot be both same and inverted."""
    yes, counter = subjects(listed, leg.outcome)
    for other, other_listed in before:
        other_yes, other_counter = subjects(other_listed, other.outcome)
        agree = alike(yes, other_yes)
        opposite = alike(yes, other_counter) or alike(counter, other_yes)
        if agree != opposite and agree != (leg.polarity == other.polarity):
            relation = "the same as" if agree else "the opposite of"
            yield (
                f"YES of {leg.market} pays on {yes!r}, {relation} what {other.market} at {other.where} pays "
                f"on ({other_yes!r}), but the polarities say otherwise; check both and turn one"
            )
