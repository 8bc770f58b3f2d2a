"""The simulated events as a mapping: pairs for checkers, and the mapping file for the event service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.sim.world import Aggregate, Outcome, World

Pair = dict[str, Any]


def _legs(aggregate: Aggregate, outcome: Outcome, venues: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "platform": event.venue,
            "event": event.slug,
            "market_id": item.market_id,
            "asset_id": item.assets[0],
            "inverted": item.inverted,
            "rules_sha256": item.rules_sha256,
            "yes_subject": item.label or item.outcomes[0],
        }
        for event in aggregate.events
        for item in event.listings
        if item.outcome is outcome and event.venue in venues
    ]


def pairs_of(world: World, venues: Sequence[str]) -> list[Pair]:
    """One entry per real-world outcome, with every venue asset that quotes it."""
    return [
        {
            "aggregate": aggregate.id,
            "title": aggregate.title,
            "category": aggregate.category,
            "exclusive": aggregate.exclusive,
            "key": outcome.key,
            "label": outcome.label,
            "legs": _legs(aggregate, outcome, venues),
        }
        for aggregate in world.aggregates
        for outcome in aggregate.outcomes
    ]


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _text(value: str) -> str:
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def mapping_file(pairs: Sequence[Pair], *, version: int = 1) -> str:
    """The mapping TOML (mapping.md section 3) of `pairs`: every leg confirmed, with the hash of its rules."""
    lines = [f"version = {version}"]
    aggregate = None
    for pair in pairs:
        if pair["aggregate"] != aggregate:
            aggregate = pair["aggregate"]
            lines += [
                "",
                "[[aggregate]]",
                f"id = {_text(pair['aggregate'])}",
                f"title = {_text(pair['title'])}",
                f"category = {_text(pair['category'])}",
                f"exclusive = {'true' if pair['exclusive'] else 'false'}",
            ]
        lines += [
            "",
            "[[aggregate.market]]",
            f"key = {_text(pair['key'])}",
            f"label = {_text(pair['label'])}",
            'tie = "impossible"',
        ]
        for leg in pair["legs"]:
            polarity = "inverted" if leg["inverted"] else "same"
            subject = _text(leg["yes_subject"] or pair["label"])
            lines += [
                "",
                "[[aggregate.market.leg]]",
                f"platform = {_text(leg['platform'])}",
                f"event = {_text(leg['event'])}",
                f"market = {_text(leg['market_id'])}",
                f'polarity = "{polarity}"',
                'relation = "identity"',
                'fungibility = "clean"',
                'status = "confirmed"',
                f'rules_sha256 = "{leg["rules_sha256"]}"',
                'confirmed_by = "human:simulator"',
                "confirmed_at = 2026-11-20T10:00:00Z",
                f'evidence = {{ source = "human", fields = {{ yes_subject = {subject}, '
                f'polarity = "{polarity}" }} }}',
            ]
    return "\n".join(lines) + "\n"
