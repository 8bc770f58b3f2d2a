"""Every message of wire.md sections 3 and 4 as JSON Schema (draft 7, as in AsyncAPI), with an example."""

from __future__ import annotations

from typing import Any

from wup.gateway.protocol import DEPTHS, ERROR_CODES, INTERVALS

Schema = dict[str, Any]

_BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
_EPOCH = 1_795_353_600_123
_TS = 1_795_353_605_001_000
_STATES = ["live", "degraded", "down", "closed"]
_LEG_STATES = ["syncing", "live", "resync", "down", "halted", "closed"]
_SNAPSHOT_WHYS = ["subscribe", "join", "resync", "gap", "conflated", "epoch"]
_STATUS_WHYS = [
    "leg_snapshot", "seq_gap", "hash_mismatch", "venue_silent", "disconnected", "halted", "suspended",
    "maintenance", "upstream_silent", "no_credentials", "gap", "resolved", "closed", "unmapped", "mapping",
]  # fmt: skip


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _const(value: str) -> Schema:
    return {"type": "string", "const": value}


def _integer(description: str, minimum: int = 0) -> Schema:
    return {"type": "integer", "minimum": minimum, "description": description}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _object(properties: dict[str, Schema], *optional: str) -> Schema:
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
    "patterns": {"type": "array", "minItems": 1, "items": _ref("pattern")},
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
        "additionalProperties": _ref("size"),
        "description": "Size per leg; adds up to the level's size exactly.",
    },
    "level": {
        "type": "array",
        "items": [_ref("price"), _ref("size"), _ref("legSizes")],
        "minItems": 3,
        "maxItems": 3,
        "description": '[price, size, {leg: size}]; in a delta size "0" with {} removes the level.',
    },
    "levels": {"type": "array", "items": _ref("level")},
    "state": {"type": "string", "enum": _STATES},
    "leg": _object(
        {
            "platform": _text("The venue's short name."),
            "asset": _text("What the venue quotes."),
            "inverted": {"type": "boolean", "description": "The asset is the book's other side."},
            "state": {"type": "string", "enum": _LEG_STATES},
            "age_ms": _integer("Since the venue's last word about it."),
            "tick": _text("Smallest price step."),
            "min_size": _text("Smallest order."),
        },
        "age_ms",
        "tick",
        "min_size",
    ),
    "legs": {"type": "object", "additionalProperties": _ref("leg")},
    "time": _integer("Microseconds since 1970 UTC."),
    "times": _object(
        {name: _ref("time") for name in ("venue", "recv", "norm", "book")}, "venue", "recv", "norm", "book"
    ),
    "depth": {"type": "integer", "enum": list(DEPTHS), "description": "Only the best n levels a side."},
    "everyMs": {
        "type": "integer",
        "enum": list(INTERVALS),
        "description": "At most one delta per book in that time.",
    },
    "errorCode": {"type": "string", "enum": sorted(ERROR_CODES)},
}

_POSITION = {
    "epoch": _integer("Milliseconds; larger than any before for this book."),
    "seq": _integer("Rises by one per delta or status.", 1),
    "digest": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**32 - 1,
        "description": "Over the levels shown.",
    },
    "state": _ref("state"),
    "crossed": {"type": "boolean", "description": "Best bid above best ask."},
}
_STREAM = {"depth": _ref("depth"), "every_ms": _ref("everyMs")}
_PREV = {"prev": _integer("The seq last sent on this stream.")}
_RESULT = {"result": _text("How a resolved book ended.")}


def _message(name: str, summary: str, payload: Schema, example: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": summary,
        "payload": payload,
        "examples": [{"name": name, "payload": example}],
    }


def _books_answer(kind: str, summary: str, example_id: str, **more: Schema) -> dict[str, Any]:
    payload = _object({"type": _const(kind), "id": _ref("id"), "books": _ref("patterns"), **more})
    example = {"type": kind, "id": example_id, "books": ["fed-2026-12.>"], **dict.fromkeys(more, 5)}
    return _message(kind, summary, payload, example)


def _op(name: str, summary: str, fields: dict[str, Schema], example: dict[str, Any], *optional: str) -> Any:
    payload = _object({"op": _const(name), "id": _ref("id"), **fields}, *optional)
    return _message(name, summary, payload, {"op": name, **example})


_OPTIONS = {
    **_STREAM,
    "trades": {"type": "boolean", "description": "Also the trades of the matching books."},
    "on_slow": {"type": "string", "enum": ["conflate", "disconnect"]},
}

CLIENT: dict[str, Any] = {
    "subscribe": _op(
        "subscribe",
        "Read every book that matches, now and later.",
        {"books": _ref("patterns"), **_OPTIONS},
        {"id": "1", "books": ["fed-2026-12.>"]},
        *_OPTIONS,
    ),
    "unsubscribe": _op(
        "unsubscribe",
        "End patterns in force; with options only the subscription that has them.",
        {"books": _ref("patterns"), **_OPTIONS},
        {"id": "2", "books": ["fed-2026-12.>"]},
        *_OPTIONS,
    ),
    "resync": _op(
        "resync",
        "Send these books' snapshots again.",
        {"books": _ref("patterns")},
        {"id": "3", "books": [_BOOK]},
    ),
    "auth": _op("auth", "Show a token.", {"token": _text("The token.")}, {"id": "4", "token": "..."}),
    "list": _op(
        "list",
        "Name the books that match.",
        {"match": _ref("pattern"), "after": {"type": ["string", "null"], "description": "From here on."}},
        {"id": "5", "match": "fed-2026-12.>", "after": None},
        "match",
        "after",
    ),
    "ping": _op("ping", "Ask for a pong with the server's time.", {}, {"id": "6"}),
}

_LIMITS = _object({name: _integer("A limit.", 1) for name in ("message_bytes", "patterns", "books", "rate")})
_ENTRY = _object(
    {
        "book": _ref("bookId"),
        "title": {"type": ["string", "null"]},
        "label": {"type": ["string", "null"]},
        "state": _ref("state"),
    }
)
_EXAMPLE_TS = {"book": _TS}
_HEAD = {"book": _BOOK, "epoch": _EPOCH}
_EXAMPLE_LEG = {"platform": "venue", "asset": "ASSET-1", "inverted": False, "state": "live", "age_ms": 12}

SERVER: dict[str, Any] = {
    "welcome": _message(
        "welcome",
        "The first message of a connection.",
        _object(
            {
                "type": _const("welcome"),
                "protocol": _const("wup.v1"),
                "connection": _text("Names this connection in the gateway's log."),
                "heartbeat_ms": _integer("Silence before a heartbeat.", 1),
                "limits": _LIMITS,
                "ts": _ref("time"),
            }
        ),
        {
            "type": "welcome",
            "protocol": "wup.v1",
            "connection": "c-7f3a",
            "heartbeat_ms": 1000,
            "limits": {"message_bytes": 65_536, "patterns": 256, "books": 5_000, "rate": 20},
            "ts": _TS,
        },
    ),
    "snapshot": _message(
        "snapshot",
        "A whole book, levels best first; replaces what the client has.",
        _object(
            {
                "type": _const("snapshot"),
                "book": _ref("bookId"),
                **_POSITION,
                "why": {"type": "string", "enum": _SNAPSHOT_WHYS},
                "mapping": _integer("Version of the mapping."),
                "title": _text("The event."),
                "label": _text("The outcome."),
                "legs": _ref("legs"),
                "bids": _ref("levels"),
                "asks": _ref("levels"),
                "ts": _ref("times"),
                **_STREAM,
                **_RESULT,
            },
            "title", "label", "depth", "every_ms", "result",
        ),
        {
            "type": "snapshot", **_HEAD, "seq": 10_481, "digest": 0, "state": "live", "crossed": False,
            "why": "subscribe", "mapping": 412, "title": "Fed decision in December", "label": "25 bps cut",
            "legs": {"venue": _EXAMPLE_LEG}, "bids": [["0.52", "1200.5", {"venue": "1200.5"}]], "asks": [],
            "ts": _EXAMPLE_TS,
        },
    ),
    "delta": _message(
        "delta",
        "Changed levels; each replaces the whole level.",
        _object(
            {
                "type": _const("delta"),
                "book": _ref("bookId"),
                **_PREV,
                **_POSITION,
                "cause": _text("The leg whose message made it."),
                "bids": _ref("levels"),
                "asks": _ref("levels"),
                "ts": _ref("times"),
                **_STREAM,
            },
            "cause", "depth", "every_ms",
        ),
        {
            "type": "delta", **_HEAD, "prev": 10_481, "seq": 10_482, "digest": 0, "state": "live",
            "crossed": False, "cause": "venue", "bids": [], "asks": [["0.54", "0", {}]], "ts": _EXAMPLE_TS,
        },
    ),
    "status": _message(
        "status",
        "The book's or a leg's state changed; all legs.",
        _object(
            {
                "type": _const("status"),
                "book": _ref("bookId"),
                **_PREV,
                **_POSITION,
                "why": {"type": "string", "enum": _STATUS_WHYS},
                "legs": _ref("legs"),
                "ts": _ref("times"),
                **_STREAM,
                **_RESULT,
            },
            "depth", "every_ms", "result",
        ),
        {
            "type": "status", **_HEAD, "prev": 10_482, "seq": 10_483, "digest": 0, "state": "down",
            "crossed": False, "why": "venue_silent", "legs": {"venue": {**_EXAMPLE_LEG, "state": "down"}},
            "ts": _EXAMPLE_TS,
        },
    ),
    "lost": _message(
        "lost",
        "A `status` by the gateway: the book is not exact until its next snapshot.",
        _object(
            {
                "type": _const("status"),
                "book": _ref("bookId"),
                "by": _const("gateway"),
                "state": _const("down"),
                "why": {"type": "string", "enum": ["gap", "upstream_silent", "unmapped"]},
                "ts": _ref("times"),
                **_STREAM,
            },
            "depth", "every_ms",
        ),
        {"type": "status", "book": _BOOK, "by": "gateway", "state": "down", "why": "gap", "ts": _EXAMPLE_TS},
    ),
    "trade": _message(
        "trade",
        "A trade of a venue, outside the book's sequence.",
        _object(
            {
                "type": _const("trade"),
                "book": _ref("bookId"),
                "platform": _text("The venue."),
                "asset": _text("What was traded there."),
                "price": _ref("price"),
                "size": _ref("size"),
                "side": {"type": "string", "enum": ["buy", "sell"]},
                "id": _text("The venue's trade id."),
                "ts": _ref("times"),
            },
            "side", "id",
        ),
        {
            "type": "trade", "book": _BOOK, "platform": "venue", "asset": "ASSET-1", "price": "0.53",
            "size": "10", "side": "buy", "id": "0723be0d", "ts": _EXAMPLE_TS,
        },
    ),
    "subscribed": _books_answer(
        "subscribed", "In force; snapshots follow.", "1", matched=_integer("Books that match now.")
    ),
    "unsubscribed": _books_answer("unsubscribed", "Out of force.", "2"),
    "resynced": _books_answer("resynced", "Snapshots follow.", "3"),
    "authenticated": _message(
        "authenticated",
        "The token is good.",
        _object(
            {
                "type": _const("authenticated"),
                "id": _ref("id"),
                "scopes": _ref("patterns"),
                "expires": {"type": ["integer", "null"], "description": "Microseconds since 1970 UTC."},
            }
        ),
        {"type": "authenticated", "id": "4", "scopes": [">"], "expires": None},
    ),
    "books": _message(
        "books",
        "A page of the list; `next` is what to ask after.",
        _object(
            {
                "type": _const("books"),
                "id": _ref("id"),
                "books": {"type": "array", "maxItems": 500, "items": _ENTRY},
                "next": {"type": ["string", "null"]},
            }
        ),
        {
            "type": "books", "id": "5", "next": None,
            "books": [{"book": _BOOK, "title": "Fed decision", "label": None, "state": "live"}],
        },
    ),
    "heartbeat": _message(
        "heartbeat",
        "Nothing was sent for a while; another `count` than the client's own means lost frames.",
        _object(
            {
                "type": _const("heartbeat"),
                "count": _integer("Snapshots, deltas, statuses and trades written so far."),
                "ts": _ref("time"),
            }
        ),
        {"type": "heartbeat", "count": 48_213, "ts": _TS},
    ),
    "notice": _message(
        "notice",
        "Something the client should know.",
        _object(
            {
                "type": _const("notice"),
                "code": {"type": "string", "enum": ["slow", "books_limit", "going_away"]},
                "books": _integer("slow: books that were dropped; books_limit: the limit."),
                "in_ms": _integer("going_away: until the close."),
                "jitter_ms": _integer("going_away: reconnect within this time, at random."),
            },
            "books", "in_ms", "jitter_ms",
        ),
        {"type": "notice", "code": "slow", "books": 12},
    ),
    "pong": _message(
        "pong",
        "The answer to `ping`.",
        _object({"type": _const("pong"), "id": _ref("id"), "ts": _ref("time")}),
        {"type": "pong", "id": "6", "ts": _TS},
    ),
    "error": _message(
        "error",
        "A message was not done, none of it.",
        _object(
            {
                "type": _const("error"),
                "id": {"type": ["string", "null"], "description": "Null when none could be read."},
                "code": _ref("errorCode"),
                "message": _text("For people."),
                "at": _integer("Index of the first bad entry."),
                "retry": {"type": "boolean", "description": "May the same message succeed later?"},
            },
            "at",
        ),
        {
            "type": "error", "id": "1", "code": "too_many_books", "at": 0, "retry": False,
            "message": "pattern matches 8123 books, limit 5000",
        },
    ),
}  # fmt: skip

MESSAGES: dict[str, Any] = {**CLIENT, **SERVER}
