"""The invariants that need the venues' own words (mapping.md section 5): run before a person publishes.

The event service itself suspends what turns wrong later (`wup.mapping.compile`); this says it beforehand,
with what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup.mapping.catalogue import rules_sha256
from wup.mapping.compile import owns
from wup.mapping.contradiction import contradictions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.file import LegEntry, MappingFiles
    from wup.mapping.listing import EventKey


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
                problems.extend(_alone(leg, listed))
                known.append((leg, listed))
            problems.extend(
                f"{leg.where}: {reason}" for leg, reason in contradictions(market, known, aggregate.start)
            )
    return problems


def _alone(leg: LegEntry, listed: VenueMarket) -> Iterator[str]:
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
