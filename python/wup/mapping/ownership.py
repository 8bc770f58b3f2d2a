"""Which keys of a Redis are the mapping's own: by their names, and by what stands in them.

A Redis may be shared, and `aggregate:42` or `market:7` are names that others use too. So a key is only ever
deleted when its name has the exact shape of ours *and* its value is one that only we would have written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import market_hash

if TYPE_CHECKING:
    from collections.abc import Collection

    from wup.mapping.records import Record

_HID = re.compile(r"[0-9a-f]{16}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BY_PLATFORM = ("event", "market", "token", "outcome")
_BY_HID = ("suggest", "reject")
_POINTER = re.compile(r"[0-9a-f]{16}\|(same|inverted)\|(proposed|confirmed|suspended|retired|rejected)")
_SIDE = re.compile(r"[0-9a-f]{16}:yes\|[01]")
_AGGREGATE = {"title", "status", "exclusive", "created_by", "source"}
_AGGREGATE_MAY = {"category", "league", "start_ts_ms", "close_ts_ms", "confirmed_by", "confirmed_at"}
_MARKET = ("aggregate_id", "title", "label", "tie_rule", "outcomes", "exclusive", "result")


def own_shape(key: str, platforms: Collection[str]) -> bool:
    """Could a key of this name be part of a version of the mapping? `platforms`: the venues that exist."""
    first, _, rest = key.partition(":")
    name, _, last = rest.partition(":")
    if first == "aggregate":
        return _ID.fullmatch(name) is not None and last in ("", "events", "markets") and rest[-1] != ":"
    if first == "market":
        return _HID.fullmatch(name) is not None and rest in (name, f"{name}:members")
    if first in _BY_HID:
        return _HID.fullmatch(rest) is not None
    if first not in platforms or name not in _BY_PLATFORM or not last:
        return False
    return name != "outcome" or last.endswith((":yes", ":no"))


def own_value(key: str, value: Record, platforms: Collection[str]) -> bool:
    """Is this what the mapping would write under a key of `own_shape`?

    A reason under `reject:`, a set of an aggregate and a pointer to one say too little by themselves: whose
    they are, `wup.mapping.stored` tells by `mapping:rejected` and by the aggregate itself.
    """
    first, _, rest = key.partition(":")
    name, _, last = rest.partition(":")
    if isinstance(value, dict):
        if first == "aggregate" and not last:
            return _is_aggregate(value)
        return last == "members" and all(_is_member(leg, body) for leg, body in value.items())
    if isinstance(value, frozenset):
        if last == "events":
            return all(member.partition(":")[0] in platforms for member in value)
        return last == "markets" and all(_HID.fullmatch(member) for member in value)
    if first == "market":
        body = _object(value)
        return _hashes_to(body, name) and all(field in body for field in _MARKET)
    if first == "suggest":
        body = _object(value)
        return _hashes_to(body, rest) and isinstance(body.get("legs"), list)
    if first == "reject":
        return True
    if name == "event":
        return _ID.fullmatch(value) is not None
    return (_POINTER if name == "market" else _SIDE).fullmatch(value) is not None


def own_event(platform: str, slug: str, value: bytes) -> bool:
    """Is this what is written under `event:{platform}:{slug}`?"""
    body = _object(value)
    named = (body.get("platform"), body.get("slug")) == (platform, slug)
    return named and isinstance(body.get("markets"), list) and "fetched_us" in body and "raw" in body


def _is_aggregate(value: dict[str, str]) -> bool:
    return (
        value.keys() >= _AGGREGATE
        and value.keys() - _AGGREGATE <= _AGGREGATE_MAY
        and value["status"] in ("open", "closed", "resolved")
        and value["exclusive"] in ("true", "false")
        and value["created_by"] in ("file", "loader")
    )


def _is_member(leg: str, value: str) -> bool:
    body = _object(value)
    return leg == f"{body.get('platform')}:{body.get('market_id')}" and "polarity" in body and "state" in body


def _hashes_to(body: dict[str, Any], hid: str) -> bool:
    key = body.get("key")
    return isinstance(key, str) and market_hash(key) == hid


def _object(value: str | bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
