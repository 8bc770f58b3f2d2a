"""What came into force with each version of the mapping, as a line of JSON in Redis, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.mapping.unified import Member, UnifiedMarket

_SHOWN = 20


def entry_of(
    version: int, previous: int, now_us: int, hids: Iterable[str], markets: Mapping[str, UnifiedMarket]
) -> str:
    """One version: the markets that changed (at most 20 of them in full) as they are from now on."""
    changed = sorted(hids)
    body = {
        "version": version,
        "previous": previous,
        "ts": now_us,
        "changed": len(changed),
        "markets": [_market(hid, markets.get(hid)) for hid in changed[:_SHOWN]],
    }
    return orjson.dumps(body).decode()


def _market(hid: str, market: UnifiedMarket | None) -> dict[str, Any]:
    if market is None:
        return {"book": hid, "aggregate": None, "label": "gone", "legs": []}
    legs = [_leg(member) for member in market.members]
    return {"book": market.book, "aggregate": market.aggregate, "label": market.label, "legs": legs}


def _leg(member: Member) -> str:
    state = member.state if member.why in (None, member.state) else f"{member.state} ({member.why})"
    by = "" if member.confirmed_by is None else f", confirmed by {member.confirmed_by} {member.confirmed_at}"
    return f"{member.platform}:{member.market_id} {member.polarity} {state}{by}"


def read(found: Iterable[bytes], aggregate: str | None, limit: int) -> list[dict[str, Any]]:
    """Stored lines as entries; what is not one is counted and left out.

    Args:
        aggregate: only versions in which a market of it changed.
    """
    entries: list[dict[str, Any]] = []
    for line in found:
        try:
            entry = orjson.loads(line)
            touched = {market["aggregate"] for market in entry["markets"]}
            int(entry["version"]), int(entry["ts"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            logs.bad_input("events", "", "bad_record", line, error=repr(error))
            continue
        if aggregate is None or aggregate in touched:
            entries.append(entry)
        if len(entries) == limit:
            break
    return entries
