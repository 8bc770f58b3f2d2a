"""What messages of wire.md sections 3 and 4 are made of, as JSON Schema (draft 7, as in AsyncAPI)."""

from __future__ import annotations

from typing import Any

from wup.gateway.protocol import DEPTHS, ERROR_CODES, INTERVALS

Schema = dict[str, Any]

_STATES = ["live", "degraded", "down", "closed"]
_LEG_STATES = ["syncing", "live", "resync", "down", "halted", "closed"]


def ref(name: str) -> Schema:
    """One of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def const(value: str) -> Schema:
    """This word."""
    return {"type": "string", "const": value}


def integer(description: str, minimum: int = 0) -> Schema:
    """A whole number."""
    return {"type": "integer", "minimum": minimum, "description": description}


def text(description: str) -> Schema:
    """Any text."""
    return {"type": "string", "description": description}


def shape(properties: dict[str, Schema], *optional: str) -> Schema:
    """An object with these members; all but the `optional` must be there."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


_DECIMAL = r"(0|[1-9][0-9]{0,13})(\.[0-9]{0,5}[1-9])?"

SCHEMAS: dict[str, Schema] = {
    "id": {
        "type": "string",
        "pattern": "^[ -~]{1,36}$",
        "description": "Chosen by the client, echoed in exactly one answer.",
    },
    "bookId": {
        "type": "string",
        "pattern": r"^[A-Za-z0-9-][A-Za-z0-9_-]{0,63}\.[A-Za-z0-9-][A-Za-z0-9_-]{0,63}\.(yes|no)$",
        "description": "aggregate, hashed market, yes or no.",
    },
    "pattern": {
        "type": "string",
        "maxLength": 210,
        "description": "A book, a pattern with * and >, or platform:asset_id.",
    },
    "patterns": {"type": "array", "minItems": 1, "items": ref("pattern")},
    "price": {
        "type": "string",
        "pattern": r"^0\.[0-9]{0,5}[1-9]$",
        "description": "Between 0 and 1, at most six decimals, shortest exact form.",
    },
    "size": {
        "type": "string",
        "pattern": f"^{_DECIMAL}$",
        "description": "Contracts, at most six decimals, shortest exact form.",
    },
    "legSizes": {
        "type": "object",
        "additionalProperties": ref("size"),
        "description": "Size per leg; adds up to the level's size exactly.",
    },
    "level": {
        "type": "array",
        "items": [ref("price"), ref("size"), ref("legSizes")],
        "minItems": 3,
        "maxItems": 3,
        "description": '[price, size, {leg: size}]; in a delta size "0" with {} removes the level.',
    },
    "levels": {"type": "array", "items": ref("level")},
    "state": {"type": "string", "enum": _STATES},
    "leg": shape(
        {
            "platform": text("The venue's short name."),
            "asset": text("What the venue quotes."),
            "inverted": {"type": "boolean", "description": "The asset is the book's other side."},
            "state": {"type": "string", "enum": _LEG_STATES},
            "age_ms": integer("Since the venue's last word about it."),
            "tick": text("Smallest price step."),
            "min_size": text("Smallest order."),
        },
        "age_ms",
        "tick",
        "min_size",
    ),
    "legs": {"type": "object", "additionalProperties": ref("leg")},
    "time": integer("Microseconds since 1970 UTC."),
    "times": shape(
        {name: ref("time") for name in ("venue", "recv", "norm", "book")}, "venue", "recv", "norm", "book"
    ),
    "depth": {"type": "integer", "enum": list(DEPTHS), "description": "Only the best n levels a side."},
    "everyMs": {
        "type": "integer",
        "enum": list(INTERVALS),
        "description": "At most one delta per book in that time.",
    },
    "errorCode": {"type": "string", "enum": sorted(ERROR_CODES)},
}
