"""The invariants that every mapping must keep (mapping.md section 5), checked before anything is published.

`lint` looks at the files alone. Each problem is one line, `file:line: reason; what to do`. A file with any
problem is refused whole: a mapping that is half wrong is not half right.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from wup.errors import SettingsError
from wup.mapping.file import MappingFiles, read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime
    from pathlib import Path

    from wup.mapping.file import AggregateEntry, LegEntry, MarketEntry

_CLAIMING = ("confirmed", "suspended")
"""Status words of legs that own their venue market; the others only speak about it."""
_MERGEABLE = ("identity", "complement")
NEVER_MAPPED = ("other", "field", "another", "none-of-these")
_START_TOLERANCE_S = 15 * 60
_MIRRORED_TIE = {"yes": "no", "no": "yes", "half": "half", "void": "void", "fair_price": "fair_price"}


def load_checked(path: str | Path, platforms: Collection[str]) -> MappingFiles:
    """Read mapping files and check the invariants.

    Raises:
        SettingsError: every problem of form and of meaning, with file and line.
    """
    files, problems = read(path)
    problems.extend(lint(files, platforms))
    if problems:
        raise SettingsError(problems)
    return files


def lint(files: MappingFiles, platforms: Collection[str]) -> list[str]:
    """Every broken invariant. `platforms` are the venues that exist here."""
    problems: list[str] = []
    problems.extend(_duplicates(files))
    problems.extend(_claims(files))
    problems.extend(_series(files, platforms))
    for aggregate in files.aggregates:
        problems.extend(_aggregate(aggregate, platforms))
        for market in aggregate.market:
            problems.extend(_market(market))
            problems.extend(_two_sided(market))
            problems.extend(_ties(market))
            for leg in market.leg:
                problems.extend(_leg(aggregate, market, leg, platforms))
    return problems


# --- across files ---------------------------------------------------------------------------------


def _duplicates(files: MappingFiles) -> Iterator[str]:
    ids: dict[str, str] = {}
    keys: dict[str, str] = {}
    for aggregate in files.aggregates:
        if aggregate.id in ids:
            yield (
                f"{aggregate.where}: aggregate {aggregate.id!r} is already defined at {ids[aggregate.id]}; "
                "put all its markets in one place"
            )
        ids.setdefault(aggregate.id, aggregate.where)
        for market in aggregate.market:
            if market.key in keys:
                yield (
                    f"{market.where}: market key {market.key!r} is already used at {keys[market.key]}; "
                    "two markets need two keys, one market has one entry"
                )
            keys.setdefault(market.key, market.where)


def _claims(files: MappingFiles) -> Iterator[str]:
    """Invariant 1, and 9 (a mirrored token book counts the same liquidity twice)."""
    owners: dict[tuple[str, str], tuple[LegEntry, str]] = {}
    for aggregate in files.aggregates:
        for market in aggregate.market:
            for leg in market.leg:
                if leg.status not in _CLAIMING:
                    continue
                owner, key = owners.setdefault((leg.platform, leg.market), (leg, market.key))
                if owner is leg:
                    continue
                if key == market.key:
                    yield (
                        f"{leg.where}: {leg.platform} {leg.market} feeds {market.key!r} twice "
                        f"(also {owner.where}): its outcomes are one order book shown twice; keep one leg"
                    )
                else:
                    yield (
                        f"{leg.where}: {leg.platform} {leg.market} is already claimed by {key!r} at "
                        f"{owner.where}; a venue market belongs to one unified market: retire one of the legs"
                    )


def _series(files: MappingFiles, platforms: Collection[str]) -> Iterator[str]:
    """Series rules: one for each venue's series, over venues that exist, in a zone that exists."""
    owners: dict[tuple[str, str], str] = {}
    for entry in files.series:
        try:
            ZoneInfo(entry.timezone)
        except (KeyError, ValueError, OSError):
            yield (
                f"{entry.where}: unknown timezone {entry.timezone!r}; write one like America/New_York or UTC"
            )
        names = [side.platform for side in entry.side]
        if len(set(names)) != len(names):
            yield (
                f"{entry.where}: a platform stands twice in one series rule; one side per platform, with all "
                "its rule texts in `rules`"
            )
        for side in entry.side:
            if side.platform not in platforms:
                known = ", ".join(sorted(platforms))
                yield f"{entry.where}: unknown platform {side.platform!r}; known: {known}"
            owner = owners.setdefault((side.platform, side.series), entry.where)
            if owner != entry.where:
                yield (
                    f"{entry.where}: {side.platform} {side.series} already has the rule at {owner}; put both "
                    "into one"
                )


# --- one aggregate --------------------------------------------------------------------------------


def _aggregate(aggregate: AggregateEntry, platforms: Collection[str]) -> Iterator[str]:
    for platform in platforms:
        if aggregate.id.startswith(f"{platform}-"):
            yield (
                f"{aggregate.where}: aggregate id {aggregate.id!r} begins like the ids of unmapped "
                f"{platform} "
                "events; choose a name of the event itself"
            )
    bases = {market.key.split("|")[1] for market in aggregate.market}
    if len(bases) > 1:
        yield (
            f"{aggregate.where}: keys of aggregate {aggregate.id!r} name several events "
            f"({', '.join(sorted(bases))}); "
            "all markets of an aggregate share the second part of the key"
        )


# --- one market -----------------------------------------------------------------------------------


def _market(market: MarketEntry) -> Iterator[str]:
    _, _, _, subject, line, _ = market.key.split("|")
    if subject.casefold() in NEVER_MAPPED:
        yield (
            f"{market.where}: subject {subject!r} must not be mapped: its meaning changes when a "
            "venue adds a "
            "named outcome; remove the market"
        )
    if line != "-" and _number(line) is None:
        yield f"{market.where}: line {line!r} in the key is not a decimal number; use '-' for no line"


def _two_sided(market: MarketEntry) -> Iterator[str]:
    """Invariant 2: of two markets of one venue event, one is the statement and one its negation."""
    sides: dict[tuple[str, str], dict[str, list[LegEntry]]] = defaultdict(lambda: defaultdict(list))
    for leg in market.leg:
        if leg.status in _CLAIMING:
            sides[(leg.platform, leg.event)][leg.polarity].append(leg)
    for (platform, event), by_polarity in sides.items():
        for polarity, legs in by_polarity.items():
            others = {leg.market for leg in legs}
            if len(others) > 1:
                yield (
                    f"{legs[-1].where}: {len(others)} markets of {platform} {event} are all {polarity!r} in "
                    f"{market.key!r} ({', '.join(sorted(others))}): of two markets of a two-sided event "
                    "exactly one "
                    "is 'same' and one 'inverted'; check which side each market's YES pays"
                )


def _ties(market: MarketEntry) -> Iterator[str]:
    """Invariant 3: where a tie can happen, 'A wins' NO is not 'B wins' YES unless both pay alike on a tie."""
    legs = [leg for leg in market.leg if leg.status in _CLAIMING]
    inverted = [leg for leg in legs if leg.polarity == "inverted"]
    if inverted and market.tie is None:
        yield (
            f"{inverted[0].where}: inverted leg, but {market.key!r} does not say whether a tie can "
            "happen; add "
            'tie = "impossible" if the outcome space has two values, else tie = "possible" and each '
            "leg's tie rule"
        )
    if market.tie != "possible":
        return
    told = {leg.where: leg.tie for leg in legs if leg.tie is not None}
    if inverted:
        for leg in legs:
            if leg.tie is None:
                yield (
                    f"{leg.where}: a tie is possible in {market.key!r} and a leg is inverted: say what this "
                    "leg's YES "
                    "pays on a tie (tie = ...)"
                )
    in_market_terms = {
        _MIRRORED_TIE[leg.tie] if leg.polarity == "inverted" else leg.tie
        for leg in legs
        if leg.tie is not None
    }
    if len(in_market_terms) > 1:
        shown = ", ".join(f"{where} {tie}" for where, tie in told.items())
        yield (
            f"{market.where}: tie rules of the legs of {market.key!r} differ ({shown}): they are not "
            "one contract; "
            "keep the legs whose rules agree and retire the others"
        )


# --- one leg --------------------------------------------------------------------------------------


def _leg(
    aggregate: AggregateEntry, market: MarketEntry, leg: LegEntry, platforms: Collection[str]
) -> Iterator[str]:
    if leg.platform not in platforms:
        yield f"{leg.where}: unknown platform {leg.platform!r}; known: {', '.join(sorted(platforms))}"
    if leg.status not in _CLAIMING:
        return
    yield from _confirmed(leg)
    if leg.relation not in _MERGEABLE:
        yield (
            f'{leg.where}: relation {leg.relation!r} never enters a book; set status = "rejected", or '
            "the relation "
            "that it really is"
        )
    if leg.relation == "complement" and leg.polarity != "inverted":
        yield f'{leg.where}: a complement is merged inverted; set polarity = "inverted"'
    told = None if leg.evidence is None else leg.evidence.fields.get("polarity")
    if told is not None and told != leg.polarity:
        yield (
            f"{leg.where}: polarity is {leg.polarity!r}, but {told!r} was confirmed (evidence); "
            "compare the rule "
            "texts again and confirm anew, do not turn the word alone"
        )
    yield from _line(market, leg)
    yield from _start(aggregate, market, leg)


def _confirmed(leg: LegEntry) -> Iterator[str]:
    """Invariant 6."""
    missing = [
        name for name in ("rules_sha256", "confirmed_by", "confirmed_at") if getattr(leg, name) is None
    ]
    if missing:
        yield (
            f"{leg.where}: {leg.status} leg without {', '.join(missing)}; review the rule texts and "
            "fill them in, or "
            'set status = "proposed"'
        )
    if leg.evidence is None or "polarity" not in leg.evidence.fields:
        yield (
            f"{leg.where}: {leg.status} leg without evidence of its polarity; say what was read: "
            'evidence = { source = "human", fields = { yes_subject = "what YES pays on", '
            'polarity = "same" or "inverted" } } (wup map review writes it)'
        )
    automatic = leg.confirmed_by is not None and leg.confirmed_by.startswith("auto:")
    if automatic and (leg.evidence is None or leg.evidence.source == "human"):
        yield (
            f"{leg.where}: confirmed by {leg.confirmed_by}, which needs evidence deterministic_key or "
            "venue_cross_reference; a person must confirm anything else"
        )


def _line(market: MarketEntry, leg: LegEntry) -> Iterator[str]:
    """Invariant 4: a leg with a line never joins one without, and lines are equal."""
    wanted = market.key.split("|")[4]
    if leg.line is None:
        stated = next((o for o in market.leg if o.line is not None and o.status in _CLAIMING), None)
        if stated is not None:
            yield (
                f"{leg.where}: leg without a line beside {stated.market} with {stated.line} at "
                f"{stated.where}; read what it is about, and write its line or retire the leg"
            )
        return
    if wanted == "-":
        yield (
            f"{leg.where}: leg with line {leg.line} in {market.key!r}, which has none; put the line "
            "into the key or "
            "the leg into another market"
        )
    elif _number(wanted) is not None and Decimal(leg.line) != Decimal(wanted):
        yield f"{leg.where}: line {leg.line} is not the key's {wanted}: another contract; retire the leg"


def _start(aggregate: AggregateEntry, market: MarketEntry, leg: LegEntry) -> Iterator[str]:
    """Invariant 5."""
    starts: list[tuple[str, datetime]] = [
        (other.where, other.start)
        for other in market.leg
        if other.start is not None and other.status in _CLAIMING and other is not leg
    ]
    if aggregate.start is not None:
        starts.append((aggregate.where, aggregate.start))
    for where, start in starts if leg.start is not None else ():
        assert leg.start is not None
        if abs((leg.start - start).total_seconds()) > _START_TOLERANCE_S:
            yield (
                f"{leg.where}: starts {leg.start.isoformat()}, but {where} starts {start.isoformat()}: "
                "more than "
                "15 minutes apart is another game; check dates (UTC or local) and the game number"
            )
            break
    games = {other.game for other in market.leg if other.game is not None and other.status in _CLAIMING}
    if leg.game is not None and len(games) > 1:
        yield f"{leg.where}: game {leg.game} beside game {', '.join(map(str, sorted(games - {leg.game})))}"


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except ArithmeticError:
        return None
    return number if number.is_finite() else None
