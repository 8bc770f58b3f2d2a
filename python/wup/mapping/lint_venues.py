"""The invariants that need the venues' own words (mapping.md section 5): run before a person publishes.

The event service itself suspends what turns wrong later (`wup.mapping.compile`); this says it beforehand,
with what to do. Only contradictions are problems: a subject that cannot be compared says nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from wup.mapping.catalogue import rules_sha256
from wup.mapping.compile import owns
from wup.mapping.subjects import alike, subjects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.compile import EventKey
    from wup.mapping.file import LegEntry, MappingFiles, MarketEntry


def lint_venues(files: MappingFiles, events: Mapping[EventKey, VenueEventRecord]) -> list[str]:
    """Every contradiction between the files and what the venues list, as `file:line: reason; what to do`.

    Legs of events that are not among `events` are passed over.
    """
    problems: list[str] = []
    for aggregate in files.aggregates:
        for market in aggregate.market:
            known: list[tuple[LegEntry, VenueMarket]] = []
            for leg in market.leg:
                event = events.get((leg.platform, leg.event))
                if not owns(leg) or event is None:
                    continue
                listed = event.market(leg.market)
                if listed is None:
                    names = ", ".join(sorted(m.market_id for m in event.markets)[:10])
                    problems.append(
                        f"{leg.where}: {leg.platform} {leg.event} has no market {leg.market}; it has {names}"
                    )
                    continue
                problems.extend(_alone(market, leg, listed))
                known.append((leg, listed))
            problems.extend(_together(known))
    return problems


def _alone(market: MarketEntry, leg: LegEntry, listed: VenueMarket) -> Iterator[str]:
    now = rules_sha256(listed.rules)
    if leg.rules_sha256 is not None and leg.rules_sha256 != now:
        yield (
            f"{leg.where}: the rules of {leg.market} have changed since they were confirmed; read "
            "them, then set "
            f'rules_sha256 = "{now}" with a new confirmed_by and confirmed_at'
        )
    if listed.facts.get("other") == "true":
        yield f"{leg.where}: {leg.market} is an 'Other' outcome, whose meaning changes; retire the leg"
    if leg.outcome is not None and leg.outcome not in listed.outcomes:
        yield f"{leg.where}: {leg.market} has no outcome {leg.outcome!r}, only {', '.join(listed.outcomes)}"
    yield from _line(market, leg, listed)


def _line(market: MarketEntry, leg: LegEntry, listed: VenueMarket) -> Iterator[str]:
    """Invariant 4 with the venue's own number; an inverted handicap has the other sign."""
    if listed.line is None:
        return
    wanted = market.key.split("|")[4]
    if wanted == "-":
        yield (
            f"{leg.where}: {leg.market} has the line {listed.line}, {market.key!r} has none; put the "
            "line into the "
            "key"
        )
    elif abs(Decimal(listed.line)) != abs(Decimal(wanted)):
        yield (
            f"{leg.where}: {leg.market} has the line {listed.line}, the key {wanted}: another "
            "contract; retire the leg"
        )


def _together(known: list[tuple[LegEntry, VenueMarket]]) -> Iterator[str]:
    """Invariant 2 and 4 by the subjects that YES pays: the same words cannot be both same and inverted."""
    for place, (leg, listed) in enumerate(known):
        for other, other_listed in known[:place]:
            yes, counter = subjects(listed, leg.outcome)
            other_yes, other_counter = subjects(other_listed, other.outcome)
            agree = alike(yes, other_yes)
            opposite = alike(yes, other_counter) or alike(counter, other_yes)
            if agree == opposite:
                continue
            if agree != (leg.polarity == other.polarity):
                relation = "the same as" if agree else "the opposite of"
                yield (
                    f"{leg.where}: YES of {leg.market} pays on {yes!r}, {relation} what {other.market} at "
                    f"{other.where} pays on ({other_yes!r}), but the polarities say otherwise; check "
                    "both and turn one"
                )
