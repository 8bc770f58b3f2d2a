"""Files and catalogues to unified markets.

Everything here is pure. Rules, in the order in which they decide about a leg:

1. The venue lists no such market, or the event is not known yet: the leg stays out (`unknown`).
2. The venue's market is resolved, or has no book yet: the leg leaves, with its result where there is one.
3. Trading has ended and the result is awaited, the file suspends it, its rule text is not the one that was
   confirmed, it is an "Other" outcome, the venue halted it, or it contradicts its market's line or an
   earlier leg in the venues' own words: suspended with the reason; its frames are still followed, its book
   goes without it.
4. Otherwise it is live.

Legs that are only proposed, retired or rejected, or not clean and identical, do not own their market:
that gets a book of its own like every other market of a followed event (wire.md section 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from wup import _core
from wup.mapping.catalogue import VenueEventRecord, VenueMarket, rules_sha256
from wup.mapping.contradiction import contradictions
from wup.mapping.file import NO_FILES
from wup.mapping.listing import EventKey, Listing, MarketName
from wup.mapping.unified import Aggregate, Member, MemberState, UnifiedMarket, part_of, table_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from wup.mapping.file import AggregateEntry, LegEntry, MappingFiles, MarketEntry
    from wup.mapping.table import MappingTable

_OWNING = ("confirmed", "suspended")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLIP = {"yes": "no", "no": "yes"}


@dataclass(frozen=True, slots=True)
class Unit:
    """What one aggregate of a file, or one followed event, makes: the smallest part that changes alone."""

    aggregate: Aggregate | None = None
    markets: tuple[UnifiedMarket, ...] = ()
    problems: tuple[str, ...] = ()
    """What kept a leg out, for people."""
    suggestions: tuple[MarketEntry, ...] = ()
    """Markets with legs that nobody has decided about: for people, never merged."""
    rejections: tuple[tuple[str, str, str], ...] = ()
    """(leg, the leg it was rejected beside, reason), legs as `{platform}:{market}`."""


class Compiler:
    """Files and venue events in, units out; a changed event recompiles only the units that it touches.

    Units are named `file:{aggregate id}` and `event:{platform}:{slug}`.
    """

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self._files = NO_FILES
        self._events: dict[EventKey, VenueEventRecord] = {}
        self._entries: dict[str, AggregateEntry] = {}
        self._touching: dict[EventKey, list[str]] = {}
        self._owned: set[MarketName] = set()
        self._listing = Listing()

    def set_files(self, files: MappingFiles) -> set[str]:
        """Take new mapping files; names of all units, gone ones included."""
        before = set(self.units)
        self._files = files
        self._entries = {f"file:{entry.id}": entry for entry in files.aggregates}
        self._touching = {}
        self._owned = set()
        for name, entry in self._entries.items():
            for market in entry.market:
                for leg in market.leg:
                    if not owns(leg):
                        continue
                    self._owned.add((leg.platform, leg.market))
                    names = self._touching.setdefault((leg.platform, leg.event), [])
                    if name not in names:
                        names.append(name)
        self.units = {}
        for name in (*self._entries, *(_unit(key) for key in self._events)):
            self._compile(name)
        return before | set(self.units)

    def set_event(self, event: VenueEventRecord) -> set[str]:
        """Take a venue event, new or newer; names of the units that may have changed."""
        key = (event.platform, event.slug)
        heirs = self._listing.change(key, self._market_ids(key), {m.market_id for m in event.markets})
        self._events[key] = event
        return self._touch(key, *heirs)

    def drop_event(self, key: EventKey) -> set[str]:
        """Forget a venue event; names of the units that may have changed."""
        heirs = self._listing.change(key, self._market_ids(key), ())
        self._events.pop(key, None)
        return self._touch(key, *heirs)

    def contested(self) -> dict[MarketName, tuple[EventKey, ...]]:
        """Markets that several followed events list, the event that has the market's own book first."""
        return self._listing.contested()

    def prefer(self, name: MarketName, key: EventKey) -> set[str]:
        """Give a contested market's book to this event, if it lists it; names of the units that change."""
        before = self._listing.prefer(name, key)
        return set() if before is None else self._touch(key, before)

    def _market_ids(self, key: EventKey) -> set[str]:
        event = self._events.get(key)
        return set() if event is None else {market.market_id for market in event.markets}

    def home(self, key: EventKey) -> str:
        """The aggregate id of a venue event: the first one that maps it, else its own."""
        names = self._touching.get(key)
        return names[0].removeprefix("file:") if names else _core.unmapped_aggregate(*key)

    def table(self, version: int) -> MappingTable:
        """The table of everything as it is now."""
        markets = (market for unit in self.units.values() for market in unit.markets)
        return table_of(version, map(part_of, markets))

    def problems(self) -> list[str]:
        """Everything that keeps a leg out, and colliding hashes."""
        found = [problem for unit in self.units.values() for problem in unit.problems]
        seen: dict[str, str] = {}
        for unit in self.units.values():
            for market in unit.markets:
                other = seen.setdefault(market.hid, market.key)
                if other != market.key:
                    found.append(f"{market.key!r} and {other!r} have one hash {market.hid}")
        return found

    def _touch(self, *keys: EventKey) -> set[str]:
        names = {name for key in keys for name in (_unit(key), *self._touching.get(key, ()))}
        for name in names:
            self._compile(name)
        return names

    def _compile(self, name: str) -> None:
        entry = self._entries.get(name)
        if entry is not None:
            self.units[name] = compile_entry(entry, self._files.version, self._events)
            return
        _, platform, slug = name.split(":", 2)
        event = self._events.get((platform, slug))
        if event is None:
            self.units.pop(name, None)
        else:
            self.units[name] = compile_event(event, self._owned, self._listing)


def _unit(key: EventKey) -> str:
    return f"event:{key[0]}:{key[1]}"


def compile_entry(entry: AggregateEntry, version: int, events: Mapping[EventKey, VenueEventRecord]) -> Unit:
    """The markets of one aggregate of a checked file, over the venue events that are known."""
    problems: list[str] = []
    markets: list[UnifiedMarket] = []
    owners = [leg for market in entry.market for leg in market.leg if owns(leg)]
    for market in entry.market:
        legs = [leg for leg in market.leg if owns(leg)]
        if not legs:
            continue
        members = _consistent(
            market,
            legs,
            [_member(leg, place, version, events, problems) for place, leg in enumerate(legs)],
            events,
            entry.start,
            problems,
        )
        markets.append(
            UnifiedMarket(
                hid=_core.market_hash(market.key),
                key=market.key,
                aggregate=entry.id,
                title=entry.title,
                label=market.label,
                exclusive=entry.exclusive,
                members=members,
                tie=market.tie,
                result=_agreed(market, members, problems),
            )
        )
    confirmed = max((leg for leg in owners if leg.confirmed_at is not None), key=_when, default=None)
    aggregate = Aggregate(
        id=entry.id,
        title=entry.title,
        events=tuple(dict.fromkeys((leg.platform, leg.event) for leg in owners)),
        markets=tuple(market.hid for market in markets),
        category=entry.category,
        league=entry.league,
        start_us=_us(entry.start),
        close_us=_us(entry.close),
        status=_status(markets),
        exclusive=entry.exclusive,
        source=entry.where,
        confirmed_by=None if confirmed is None else confirmed.confirmed_by,
        confirmed_at=None if confirmed is None else _iso(confirmed.confirmed_at),
    )
    waiting = tuple(m for m in entry.market if any(leg.status == "proposed" for leg in m.leg))
    return Unit(aggregate, tuple(markets), tuple(problems), waiting, tuple(_rejections(entry)))


def _rejections(entry: AggregateEntry) -> Iterator[tuple[str, str, str]]:
    for market in entry.market:
        for leg in market.leg:
            if leg.status == "rejected":
                for other in market.leg:
                    if other is not leg:
                        names = (f"{leg.platform}:{leg.market}", f"{other.platform}:{other.market}")
                        yield (*names, leg.reason or "rejected")


def compile_event(event: VenueEventRecord, owned: Collection[MarketName], listing: Listing) -> Unit:
    """A book of its own for every market of a followed event that no leg owns, and that no event which was
    followed before lists too."""
    name = _core.unmapped_aggregate(event.platform, event.slug)
    markets: list[UnifiedMarket] = []
    problems: list[str] = []
    for market in event.markets:
        if (event.platform, market.market_id) in owned:
            continue
        platform, holder = listing.holder((event.platform, market.market_id))
        if holder != event.slug:
            problems.append(
                f"{platform} {market.market_id} is listed by two followed events: it has one book, under "
                f"{holder}, which was followed first, and none under {event.slug}"
            )
            continue
        start = Member(event.platform, event.slug, market.market_id, "same", "live", 0)
        member = _venue_member(event, market, start, market.asset_id)
        key = f"wup1|{event.platform}|{market.market_id}"
        markets.append(
            UnifiedMarket(
                hid=_core.market_hash(key),
                key=key,
                aggregate=name,
                title=event.title,
                label=market.label,
                exclusive=event.exclusive,
                members=(member,),
                result=member.result,
            )
        )
    if not markets:
        return Unit(problems=tuple(problems))
    aggregate = Aggregate(
        id=name,
        title=event.title,
        events=((event.platform, event.slug),),
        markets=tuple(market.hid for market in markets),
        category=event.category,
        close_us=event.close_us,
        status=_status(markets),
        exclusive=event.exclusive,
        source=f"{event.platform}:{event.slug}",
    )
    return Unit(aggregate, tuple(markets), tuple(problems))


def _status(markets: list[UnifiedMarket]) -> Literal["open", "closed", "resolved"]:
    states = {member.why if member.why == "closed" else member.state for m in markets for member in m.members}
    if not states or not states <= {"closed", "resolved"}:
        return "open"
    return "resolved" if states == {"resolved"} else "closed"


def _member(
    leg: LegEntry,
    place: int,
    version: int,
    events: Mapping[EventKey, VenueEventRecord],
    problems: list[str],
) -> Member:
    start = Member(
        platform=leg.platform,
        event=leg.event,
        market_id=leg.market,
        polarity=leg.polarity,
        state="unknown",
        place=place,
        status=leg.status,
        relation=leg.relation,
        fungibility=leg.fungibility,
        rules_sha256=leg.rules_sha256,
        confirmed_by=leg.confirmed_by,
        confirmed_at=_iso(leg.confirmed_at),
        evidence=None if leg.evidence is None else leg.evidence.model_dump(exclude={"where"}),
        settlement=None if leg.settlement is None else leg.settlement.model_dump(exclude={"where"}),
        mapping_version=version,
    )
    event = events.get((leg.platform, leg.event))
    if event is None:
        return replace(start, why="event_unknown")
    market = event.market(leg.market)
    if market is None:
        problems.append(
            f"{leg.where}: {leg.platform} event {leg.event} has no market {leg.market}; check both ids"
        )
        return replace(start, why="market_unknown")
    asset = market.asset_id if leg.outcome is None else _asset_of(market, leg.outcome)
    if asset is None:
        problems.append(f"{leg.where}: {leg.platform} {leg.market} has no outcome {leg.outcome!r}")
        return replace(start, why="outcome_unknown")
    member = _venue_member(event, market, start, asset)
    if member.why == "rules_changed":
        problems.append(
            f"{leg.where}: rules of {leg.platform} {leg.market} are not those confirmed (sha256 now "
            f"{rules_sha256(market.rules)}): suspended; read them again and confirm anew"
        )
    return member


def _consistent(
    market: MarketEntry,
    legs: list[LegEntry],
    members: list[Member],
    events: Mapping[EventKey, VenueEventRecord],
    start: datetime | None,
    problems: list[str],
) -> tuple[Member, ...]:
    """The members, those that are live and contradict the rest in the venues' words suspended."""
    known = [
        (leg, listed)
        for leg, member in zip(legs, members, strict=True)
        if member.state == "live"
        and (listed := events[leg.platform, leg.event].market(leg.market)) is not None
    ]
    wrong: set[int] = set()
    for leg, reason in contradictions(market, known, start):
        problems.append(f"{leg.where}: {reason}")
        wrong.add(id(leg))
    if not wrong:
        return tuple(members)
    return tuple(
        replace(member, state="suspended", why="contradiction") if id(leg) in wrong else member
        for leg, member in zip(legs, members, strict=True)
    )


def _agreed(market: MarketEntry, members: tuple[Member, ...], problems: list[str]) -> str | None:
    """The result when every leg has it; venues that disagree give none, and a problem to read."""
    results = {member.result for member in members}
    if len(results) == 1:
        return results.pop()
    if {"yes", "no"} <= results:
        problems.append(f"{market.where}: venues resolved {market.key!r} differently")
    return None


def owns(leg: LegEntry) -> bool:
    """Does this leg own its venue market? Only clean identity is merged (mapping.md section 3)."""
    return leg.status in _OWNING and leg.relation in ("identity", "complement") and leg.fungibility == "clean"


def _venue_member(event: VenueEventRecord, market: VenueMarket, start: Member, asset: str) -> Member:
    """`start` with the venue's facts, and the state that rules 2 to 4 give it."""
    result = market.result
    crossed = (start.polarity == "inverted") != (asset != market.asset_id)
    if crossed and result is not None:
        result = _FLIP.get(result)
    state: MemberState = "live"
    why: str | None = None
    if market.status in ("resolved", "unlisted"):
        state, why = market.status, market.status
    elif market.status == "closed":
        # The book stays until its result is known: its last word is to be the result.
        state, why = "suspended", "closed"
    elif start.status == "suspended":
        state, why = "suspended", "suspended"
    elif start.rules_sha256 is not None and rules_sha256(market.rules) != start.rules_sha256:
        state, why = "suspended", "rules_changed"
    elif start.confirmed_by is not None and market.facts.get("other") == "true":
        state, why = "suspended", "other_outcome"
    elif market.status in ("halted", "maintenance"):
        state, why = "suspended", market.status
    return replace(
        start,
        state=state,
        why=why,
        asset_id=asset,
        assets=market.assets,
        result=result,
        tick=market.tick,
        min_size=market.min_size,
        close_us=market.close_us or event.close_us,
        fees=market.fees,
        facts_us=market.facts_us,
        changes=market.changes,
        status_us=market.status_us,
        facts=market.facts,
    )


def _asset_of(market: VenueMarket, outcome: str) -> str | None:
    """The asset of a named outcome; None when the venue has none of that name."""
    return dict(zip(market.outcomes, market.assets, strict=False)).get(outcome)


def _when(leg: LegEntry) -> datetime:
    assert leg.confirmed_at is not None
    return leg.confirmed_at


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
