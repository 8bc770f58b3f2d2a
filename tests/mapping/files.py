"""Mapping file texts for the tests."""

from __future__ import annotations

from wup.mapping.catalogue import VenueEventRecord, VenueMarket, rules_sha256


def leg(platform: str, event: str, market: str, **changes: str) -> str:
    """One confirmed leg; `changes` are TOML texts, the empty text leaves a field out."""
    fields = {
        "platform": f'"{platform}"',
        "event": f'"{event}"',
        "market": f'"{market}"',
        "polarity": '"same"',
        "status": '"confirmed"',
        "rules_sha256": f'"{rules_sha256("rules of " + market)}"',
        "confirmed_by": '"human:ab"',
        "confirmed_at": "2026-11-20T10:00:00Z",
        **changes,
    }
    if fields["status"] in ('"confirmed"', '"suspended"') and "evidence" not in changes:
        told = f'yes_subject = "?", polarity = {fields["polarity"]}'
        fields["evidence"] = f'{{ source = "human", fields = {{ {told} }} }}'
    lines = [f"    {name} = {value}" for name, value in fields.items() if value]
    return "\n".join(["    [[aggregate.market.leg]]", *lines, ""])


def market(key: str, *legs: str, **changes: str) -> str:
    """One unified market."""
    fields = {"key": f'"{key}"', "label": '"A label"', **changes}
    lines = [f"  {name} = {value}" for name, value in fields.items() if value]
    return "\n".join(["  [[aggregate.market]]", *lines, *legs])


def aggregate(name: str, *markets: str, **changes: str) -> str:
    """One aggregate."""
    fields = {"id": f'"{name}"', "title": '"A title"', **changes}
    lines = [f"{key} = {value}" for key, value in fields.items() if value]
    return "\n".join(["[[aggregate]]", *lines, *markets])


def venue_market(market_id: str, **changes: object) -> VenueMarket:
    """An open market of a venue whose rules are those that `leg` confirms; two assets where named 0x..."""
    two = market_id.startswith("0x")
    fields: dict[str, object] = {
        "market_id": market_id,
        "asset_id": f"{market_id}-y" if two else market_id,
        "assets": (f"{market_id}-y", f"{market_id}-n") if two else (market_id,),
        "outcomes": ("Yes", "No") if two else (),
        "label": f"label of {market_id}",
        "question": "?",
        "status": "open",
        "rules": f"rules of {market_id}",
        "tick": "0.01",
        "min_size": "1",
        "fees": {"rate": "0.05"},
        "facts": {"neg_risk": "true"},
        **changes,
    }
    return VenueMarket(**fields)  # type: ignore[arg-type]


def venue_event(platform: str, slug: str, *markets: VenueMarket, **changes: object) -> VenueEventRecord:
    """A venue event."""
    fields: dict[str, object] = {
        "platform": platform,
        "slug": slug,
        "title": f"title of {slug}",
        "category": None,
        "exclusive": True,
        "markets": markets,
        "fetched_us": 1,
        **changes,
    }
    return VenueEventRecord(**fields)  # type: ignore[arg-type]
