"""The mapping as Redis values, and back (keys: mapping.md section 3). Pure; `wup.mapping.redis` does the I/O.

Beside the keys of the design stand some of our own: `mapping:markets` (set of all hashed market ids, so that
a reader need not scan), `mapping:markets:sum` (how many these are, and their exclusive or: a set that is not
this was spoilt), `mapping:rejected` (set of all hashes of rejected pairs), `mapping:tracked` (set of
`{platform}:{slug}` followed by request), `mapping:history` (list of the last versions, the newest first) and
`orderbook:epoch:{shard}`.

What a reader finds is checked record by record: a record that is not what it should be raises with the
reason, and touches no other.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from wup._core import market_hash
from wup.mapping.catalogue import VenueEventRecord, VenueMarket, rules_sha256
from wup.mapping.rest import read_json, write_json
from wup.mapping.unified import Member, UnifiedMarket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wup.mapping.compile import Unit
    from wup.mapping.unified import Aggregate

Record = str | dict[str, str] | frozenset[str]
"""A Redis string, hash or set."""

MARKETS = "mapping:markets"
MARKETS_SUM = "mapping:markets:sum"
REJECTED = "mapping:rejected"
TRACKED = "mapping:tracked"
HISTORY = "mapping:history"

_MEMBER = TypeAdapter(Member)
_MAX_RECORD = 64 * 1024
_MAX_EVENT = 4 * 1024 * 1024
_PARTS = ("kind", "subject", "line", "period")


class BadRecord(ValueError):
    """A stored record that cannot be used; the text says why."""


def epoch_key(shard: str) -> str:
    """Key of the last epoch that a shard of the orderbook service used."""
    return f"orderbook:epoch:{shard}"


def event_key(platform: str, slug: str) -> str:
    """Key of a venue event's full record."""
    return f"event:{platform}:{slug}"


def market_key(hid: str) -> str:
    """Key of a unified market's record."""
    return f"market:{hid}"


def members_key(hid: str) -> str:
    """Key of a unified market's legs."""
    return f"market:{hid}:members"


def sum_of(hids: Iterable[str]) -> tuple[int, int]:
    """How many, and their exclusive or as numbers, to which members that are no hash add nothing."""
    count, folded = 0, 0
    for hid in hids:
        count += 1
        with contextlib.suppress(ValueError):
            folded ^= int(hid, 16)
    return count, folded


def markets_sum(count: int, folded: int) -> str:
    """The value of `mapping:markets:sum`."""
    return f"{count}:{folded:016x}"


def kind_of(key: str) -> Literal["string", "hash", "set"]:
    """The type that a key of the mapping has."""
    first, *rest = key.split(":")
    if (first == "aggregate" and len(rest) == 1) or (first == "market" and rest[1:] == ["members"]):
        return "hash"
    return "set" if first == "aggregate" and rest[1:] in (["events"], ["markets"]) else "string"


# --- to Redis -------------------------------------------------------------------------------------


def unit_records(unit: Unit) -> dict[str, Record]:
    """Every key of one unit, except the event's own pointer to its aggregate (several units may share it)."""
    found: dict[str, Record] = {}
    if unit.aggregate is not None:
        found.update(_aggregate_records(unit.aggregate))
    for market in unit.markets:
        found.update(_market_records(market))
    for entry in unit.suggestions:
        legs = [
            leg.model_dump(mode="json", exclude_none=True, exclude={"where", "evidence", "settlement"})
            for leg in entry.leg
        ]
        body = {"key": entry.key, "label": entry.label, "legs": legs}
        found[f"suggest:{market_hash(entry.key)}"] = orjson.dumps(body).decode()
    for one, two, reason in unit.rejections:
        found[f"reject:{pair_hash(one, two)}"] = reason
    return found


def pair_hash(one: str, two: str) -> str:
    """16 hex digits for two venue markets, whichever comes first."""
    return hashlib.sha256("|".join(sorted((one, two))).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def home_key(platform: str, slug: str) -> str:
    """Key of the pointer from a venue event to its aggregate."""
    return f"{platform}:event:{slug}"


def _aggregate_records(aggregate: Aggregate) -> dict[str, Record]:
    fields = {
        "title": aggregate.title,
        "category": aggregate.category,
        "league": aggregate.league,
        "start_ts_ms": _ms(aggregate.start_us),
        "close_ts_ms": _ms(aggregate.close_us),
        "status": aggregate.status,
        "exclusive": "true" if aggregate.exclusive else "false",
        "created_by": "file" if aggregate.confirmed_by is not None else "loader",
        "confirmed_by": aggregate.confirmed_by,
        "confirmed_at": aggregate.confirmed_at,
        "source": aggregate.source,
    }
    return {
        f"aggregate:{aggregate.id}": {name: value for name, value in fields.items() if value is not None},
        f"aggregate:{aggregate.id}:events": frozenset(f"{p}:{slug}" for p, slug in aggregate.events),
        f"aggregate:{aggregate.id}:markets": frozenset(aggregate.markets),
    }


def _market_records(market: UnifiedMarket) -> dict[str, Record]:
    parts = market.key.split("|")
    named = dict(zip(_PARTS, parts[2:], strict=True)) if len(parts) == 6 else dict.fromkeys(_PARTS)
    body = {
        "aggregate_id": market.aggregate,
        "key": market.key,
        "title": market.title,
        "label": market.label,
        **named,
        "tie_rule": market.tie,
        "outcomes": ["yes", "no"],
        "exclusive": market.exclusive,
        "exclusive_group": market.aggregate if market.exclusive else None,
        "result": market.result,
    }
    found: dict[str, Record] = {
        market_key(market.hid): orjson.dumps(body).decode(),
        members_key(market.hid): {
            f"{member.platform}:{member.market_id}": orjson.dumps(member).decode()
            for member in market.members
        },
    }
    for member in market.members:
        inverted = member.polarity == "inverted"
        found[f"{member.platform}:market:{member.market_id}"] = (
            f"{market.hid}|{member.polarity}|{member.status}"
        )
        if member.assets in ((), (member.market_id,)):
            # One asset with two sides of its own.
            for outcome, flip in (("yes", inverted), ("no", not inverted)):
                found[f"{member.platform}:outcome:{member.market_id}:{outcome}"] = (
                    f"{market.hid}:yes|{flip:d}"
                )
        else:
            # One asset per outcome: the one that feeds the book as told, the other is its complement.
            for asset in member.assets:
                flip = inverted if asset == member.asset_id else not inverted
                found[f"{member.platform}:token:{asset}"] = f"{market.hid}:yes|{flip:d}"
    return found


def event_record(event: VenueEventRecord) -> str:
    """A venue event in full: normalised fields, the venue's own JSON, digest of all rules, time of fetching.

    Over 4 MiB the venue's own JSON is left out (`"raw":null`).
    """
    body: dict[str, Any] = {
        "platform": event.platform,
        "slug": event.slug,
        "title": event.title,
        "category": event.category,
        "exclusive": event.exclusive,
        "close_us": event.close_us,
        "fetched_us": event.fetched_us,
        "rules_sha256": rules_sha256("\n\n".join(market.rules for market in event.markets)),
        "markets": [market_fields(market) for market in event.markets],
        "raw": event.raw,
    }
    encoded = write_json(body)
    if len(encoded) > _MAX_EVENT:
        encoded = write_json({**body, "raw": None})
    return encoded.decode()


def market_fields(market: VenueMarket) -> dict[str, Any]:
    """A venue market's normalised fields, the digest of its rules beside them."""
    fields: dict[str, Any] = {
        name: getattr(market, name) for name in VenueMarket.__dataclass_fields__ if name != "raw"
    }
    return {**fields, "facts": dict(market.facts), "rules_sha256": rules_sha256(market.rules)}


def _ms(us: int | None) -> str | None:
    return None if us is None else str(us // 1000)


# --- from Redis -----------------------------------------------------------------------------------


def read_market(hid: str, raw: object, members: object) -> UnifiedMarket:
    """A unified market from its two stored values.

    Raises:
        BadRecord: missing, of another type, not JSON, too large, or not consistent with its key.
    """
    body = _object(raw, _MAX_RECORD, orjson.loads)
    if not isinstance(members, dict):
        raise BadRecord(f"members: {members!r}"[:200])
    read = [read_member(field, value) for field, value in members.items()]
    try:
        title, label, aggregate, key = (body[name] for name in ("title", "label", "aggregate_id", "key"))
        exclusive, tie, result = body["exclusive"], body.get("tie_rule"), body.get("result")
    except KeyError as error:
        raise BadRecord(f"no {error}") from None
    if not all(isinstance(value, str) and value for value in (title, label, aggregate, key)):
        raise BadRecord("title, label, aggregate_id and key must be text")
    if not isinstance(exclusive, bool) or result not in ("yes", "no", None):
        raise BadRecord(f"exclusive {exclusive!r}, result {result!r}")
    return UnifiedMarket(
        hid=hid,
        key=key,
        aggregate=aggregate,
        title=title,
        label=label,
        exclusive=exclusive,
        members=tuple(sorted(read, key=lambda member: member.place)),
        tie=tie if isinstance(tie, str) else None,
        result=result,
    )


def read_member(field: object, value: object) -> Member:
    """One leg from its hash field and value.

    Raises:
        BadRecord: missing, no leg, too large, or another leg than its field says.
    """
    if not isinstance(field, bytes) or not isinstance(value, bytes) or len(value) > _MAX_RECORD:
        raise BadRecord(f"member {field!r}: not text, or over {_MAX_RECORD} bytes"[:200])
    try:
        member = _MEMBER.validate_json(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadRecord(f"member {field!r}: {first['loc']}: {first['msg']}") from None
    if f"{member.platform}:{member.market_id}".encode() != field:
        raise BadRecord(f"member {field!r} says that it is {member.platform}:{member.market_id}")
    if member.state in ("live", "suspended") and not member.asset_id:
        raise BadRecord(f"member {field!r} has no asset")
    return member


def read_event(raw: object) -> tuple[VenueEventRecord, dict[str, Any]]:
    """A venue event and its whole stored body; `VenueEventRecord.raw` stays empty.

    Raises:
        BadRecord: missing, not JSON, or without a field.
    """
    # The venue's own numbers keep their digits.
    body = _object(raw, _MAX_EVENT, read_json)
    try:
        markets = tuple(_read_venue_market(market) for market in body["markets"])
        event = VenueEventRecord(
            platform=_text(body["platform"]),
            slug=_text(body["slug"]),
            title=_text(body["title"]),
            category=body["category"],
            exclusive=body["exclusive"] is True,
            markets=markets,
            fetched_us=int(body["fetched_us"]),
            close_us=body["close_us"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"event: {error!r}") from None
    return event, body


_VENUE_MARKET = TypeAdapter(VenueMarket)


def _read_venue_market(body: Mapping[str, Any]) -> VenueMarket:
    return _VENUE_MARKET.validate_python({k: v for k, v in body.items() if k != "rules_sha256"})


def _object(raw: object, limit: int, read: Callable[[bytes], Any]) -> dict[str, Any]:
    if not isinstance(raw, bytes):
        raise BadRecord("missing" if raw is None else f"not text: {raw!r}"[:200])
    if len(raw) > limit:
        raise BadRecord(f"over {limit} bytes")
    try:
        body = read(raw)
    except ValueError as error:
        raise BadRecord(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRecord("not a JSON object")
    return body


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not text")
    return value
