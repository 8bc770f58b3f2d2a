"""`wup map suggest`: what the venues list now, as proposed and, by series rules, confirmed mapping entries.

Games come first and are judged by `wup.mapping.series`; everything else by its wording. What the files
already claim, propose or reject is not suggested again. What the lints refuse is only proposed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Literal

from wup import _core, logs
from wup.mapping.catalogue import rules_sha256
from wup.mapping.file import AggregateEntry, Evidence, LegEntry, MappingFiles, MarketEntry, Settlement
from wup.mapping.link import joined, part
from wup.mapping.lint import NEVER_MAPPED, lint
from wup.mapping.lint_venues import lint_venues
from wup.mapping.moments import seen
from wup.mapping.series import Game, GameMarket, pair_games, side_of
from wup.mapping.wording import pair_events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from wup.mapping.catalogue import VenueEventRecord, VenueMarket
    from wup.mapping.file import Polarity, SeriesEntry
    from wup.mapping.series import GamePair
    from wup.mapping.wording import EventPair

_BY = "auto:series_rule"
_MAX_ID = 64
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An aggregate to be added to the files; `doubts` say why its legs are only proposed."""

    entry: AggregateEntry
    confirmed: bool
    doubts: tuple[str, ...]
    score: float


def suggest(
    events: Iterable[VenueEventRecord],
    files: MappingFiles,
    games: Mapping[str, Callable[[VenueEventRecord], Game | None]],
    platforms: Collection[str],
    *,
    at: datetime,
) -> list[Suggestion]:
    """Everything worth adding, confirmed entries first.

    Args:
        events: all that the venues list: a game confirms only when no other one would do as well.
        games: platform -> reader of its games.
        at: time of confirmation.
    """
    by_platform: dict[str, list[VenueEventRecord]] = defaultdict(list)
    read: dict[tuple[str, str], Game] = {}
    for event in filter(None, map(_nameable, events)):
        by_platform[event.platform].append(event)
        game = games[event.platform](event) if event.platform in games else None
        if game is not None:
            read[event.platform, event.slug] = game
    known = {
        (leg.platform, leg.market)
        for aggregate in files.aggregates
        for market in aggregate.market
        for leg in market.leg
    }
    """Retired ones too: what a person took back is not brought up again."""
    taken = {aggregate.id for aggregate in files.aggregates}
    keys = {market.key for aggregate in files.aggregates for market in aggregate.market}

    def fits(entry: AggregateEntry) -> bool:
        """One refused entry would have the whole folder refused."""
        own = [market.key for market in entry.market]
        if entry.id in taken or keys & set(own) or lint(MappingFiles(1, (entry,)), platforms):
            return False
        taken.add(entry.id)
        keys.update(own)
        return True

    found: list[Suggestion] = []
    for pair in pair_games(read.values(), files.series):
        made = _game_entry(pair, at)
        markets = {(leg.platform, leg.market) for market in made.market for leg in market.leg}
        if markets & known:
            continue
        checked = _checked(made, pair.doubts, 100.0, files, platforms, (pair.one.event, pair.two.event))
        if fits(checked.entry):
            found.append(checked)
    names = sorted(by_platform)
    for place, second in enumerate(names):
        for first in names[:place]:
            ones, twos = (
                [event for event in by_platform[name] if (name, event.slug) not in read]
                for name in (first, second)
            )
            for worded in pair_events(ones, twos):
                entry = _worded_entry(worded, known)
                if entry is not None and fits(entry):
                    found.append(Suggestion(entry, False, ("matched by wording alone",), worded.score))
    return sorted(found, key=lambda s: (not s.confirmed, -s.score, s.entry.id))


def _nameable(event: VenueEventRecord) -> VenueEventRecord | None:
    """The event with the markets that a mapping file can name; None when it cannot name the event."""
    if not _NAME.fullmatch(event.slug):
        logs.bad_input("mapping", event.platform, "unusable_name", event.slug)
        return None
    markets = tuple(market for market in event.markets if _NAME.fullmatch(market.market_id))
    if len(markets) == len(event.markets):
        return event
    logs.bad_input("mapping", event.platform, "unusable_name", event.slug)
    return replace(event, markets=markets)


def _sentence(text: str, otherwise: str) -> str:
    """A venue's words as one line of at most 512 characters, never empty."""
    plain = text.encode("utf-8", "replace").decode()
    return " ".join(plain.split())[:512] or otherwise


def _checked(
    entry: AggregateEntry,
    doubts: tuple[str, ...],
    score: float,
    files: MappingFiles,
    platforms: Collection[str],
    events: tuple[VenueEventRecord, ...],
) -> Suggestion:
    """The entry as confirmed when nothing speaks against it, the lints included; else as proposed."""
    if not doubts:
        known = {(event.platform, event.slug): event for event in events}
        alone = joined(replace(files, aggregates=()), entry)
        doubts = (*lint(joined(files, entry), platforms), *lint_venues(alone, known))
    if not doubts:
        return Suggestion(entry, True, (), score)
    proposed = tuple(
        market.model_copy(update={"leg": tuple(_proposed(leg) for leg in market.leg)})
        for market in entry.market
    )
    return Suggestion(entry.model_copy(update={"market": proposed}), False, doubts, score)


def _proposed(leg: LegEntry) -> LegEntry:
    nothing = dict.fromkeys(("rules_sha256", "confirmed_by", "confirmed_at", "evidence"))
    return leg.model_copy(update={"status": "proposed", **nothing})


# --- games ----------------------------------------------------------------------------------------


def _game_entry(pair: GamePair, at: datetime) -> AggregateEntry:
    """The game as one unified market: the first side of the venue that lists a market per side wins."""
    one, two, turned = pair.one, pair.two, pair.turned
    if len(two.markets) > len(one.markets):
        one, two = two, one
    first, second = one.sides
    rule = pair.rule
    league = part(rule.league if rule is not None else two.series.partition("/")[0])
    start = one.start if one.start is not None else two.start
    day = one.day or two.day
    moment = day.isoformat() if start is None and day is not None else ""
    if start is not None:
        moment = start.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
    a, b = one.codes
    number = one.number or two.number or 1
    legs: list[LegEntry] = []
    for game, other_way in ((one, False), (two, turned)):
        mine = game.sides[1] if other_way else game.sides[0]
        legs += [_game_leg(game, m, "same" if m.yes == mine else "inverted", rule, at) for m in game.markets]
    key = f"wup1|{league}:{part(a)}@{part(b)}:{moment}:g{number}|moneyline|{part(a)}|-|game"
    name = f"{league}-{part(a)}-{part(b)}-{day}" + (f"-g{number}" if number > 1 else "")
    return AggregateEntry(
        id=name[:_MAX_ID].replace(":", "-"),
        title=_sentence(one.event.title, one.event.slug),
        category=one.event.category or two.event.category,
        league=league,
        start=start,
        market=(
            MarketEntry(
                key=key,
                label=_sentence(f"{first} beats {second}", one.event.slug),
                tie=None if rule is None else rule.tie,
                leg=tuple(legs),
            ),
        ),
    )


def _game_leg(
    game: Game, market: GameMarket, polarity: Polarity, rule: SeriesEntry | None, at: datetime
) -> LegEntry:
    side = None if rule is None else side_of(rule, game)
    settlement = None
    if side is not None and (side.source or side.void):
        settlement = Settlement(source=side.source, void=side.void)
    return LegEntry(
        platform=game.event.platform,
        event=game.event.slug,
        market=market.market.market_id,
        polarity=polarity,
        status="confirmed",
        start=game.start,
        game=game.number,
        rules_sha256=rules_sha256(market.market.rules),
        confirmed_by=_BY,
        confirmed_at=at,
        settlement=settlement,
        evidence=Evidence(
            source="deterministic_key",
            fields={
                "polarity": polarity,
                "yes_subject": market.yes,
                "no_subject": market.no,
                "series": game.series,
                "series_rule": "" if rule is None else f"{rule.league} {rule.kind}",
                "rule_by": "" if rule is None else rule.confirmed_by,
                **seen(market.market),
            },
        ),
    )


# --- wording --------------------------------------------------------------------------------------


def _worded_entry(pair: EventPair, known: Collection[tuple[str, str]]) -> AggregateEntry | None:
    """Proposed markets of two events, without those that the files know."""
    name = id_of(pair.one)
    markets: list[MarketEntry] = []
    subjects: set[str] = set()
    for found in pair.markets:
        sides = ((pair.one, found.one), (pair.two, found.two))
        if any((event.platform, market.market_id) in known for event, market in sides):
            continue
        subject = part(found.one.label)[:128]
        if subject in subjects or subject in NEVER_MAPPED:
            continue
        subjects.add(subject)
        line = found.one.line or found.two.line or "-"
        markets.append(
            MarketEntry(
                key=f"wup1|{name}|outcome|{subject}|{line}|event",
                label=_sentence(found.one.label, found.one.market_id),
                leg=(
                    _worded_leg(pair.one, found.one, "same"),
                    _worded_leg(pair.two, found.two, found.polarity),
                ),
            )
        )
    if not markets:
        return None
    return AggregateEntry(
        id=name,
        title=_sentence(pair.one.title, pair.one.slug),
        category=pair.one.category,
        exclusive=pair.one.exclusive and pair.two.exclusive,
        market=tuple(markets),
    )


def id_of(event: VenueEventRecord) -> str:
    """A readable id from the title; where titles meet, the event's own name tells them apart."""
    unmapped = _core.unmapped_aggregate(event.platform, event.slug)
    own = unmapped.removeprefix(f"{event.platform}-").lower()
    words = re.sub(r"[^a-z0-9]+", "-", part(event.title))[:30].strip("-")
    if not words or words.startswith(event.platform):
        # An id that begins like those of unmapped events is refused.
        words = f"event-{words}".rstrip("-")
    return f"{words}-{own}"[:_MAX_ID].rstrip("-")


def _worded_leg(
    event: VenueEventRecord, market: VenueMarket, polarity: Literal["same", "inverted"]
) -> LegEntry:
    return LegEntry(
        platform=event.platform,
        event=event.slug,
        market=market.market_id,
        polarity=polarity,
        status="proposed",
    )
