"""Every message of wire.md sections 3 and 4: its schema and an example of itself."""

from __future__ import annotations

from typing import Any

from wup.gateway.asyncapi_schemas import Schema, const, integer, ref, shape, text

_BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
_EPOCH = 1_795_353_600_123
_TS = 1_795_353_605_001_000
_SNAPSHOT_WHYS = ["subscribe", "join", "resync", "gap", "conflated", "epoch"]
_STATUS_WHYS = [
    "leg_snapshot", "seq_gap", "hash_mismatch", "venue_silent", "disconnected", "halted", "suspended",
    "maintenance", "upstream_silent", "no_credentials", "gap", "resolved", "closed", "unmapped", "mapping",
]  # fmt: skip

_POSITION = {
    "epoch": integer("Milliseconds; larger than any before for this book."),
    "seq": integer("Rises by one per delta or status.", 1),
    "digest": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**32 - 1,
        "description": "Over the levels shown.",
    },
    "state": ref("state"),
    "crossed": {"type": "boolean", "description": "Best bid above best ask."},
}
_STREAM = {"depth": ref("depth"), "every_ms": ref("everyMs")}
_PREV = {"prev": integer("The seq last sent on this stream.")}
_RESULT = {"result": text("How a resolved book ended.")}


def _message(name: str, summary: str, payload: Schema, example: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": summary,
        "payload": payload,
        "examples": [{"name": name, "payload": example}],
    }


def _books_answer(kind: str, summary: str, example_id: str, **more: Schema) -> dict[str, Any]:
    payload = shape({"type": const(kind), "id": ref("id"), "books": ref("patterns"), **more})
    example = {"type": kind, "id": example_id, "books": ["fed-2026-12.>"], **dict.fromkeys(more, 5)}
    return _message(kind, summary, payload, example)


def _op(name: str, summary: str, fields: dict[str, Schema], example: dict[str, Any], *optional: str) -> Any:
    payload = shape({"op": const(name), "id": ref("id"), **fields}, *optional)
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
        {"books": ref("patterns"), **_OPTIONS},
        {"id": "1", "books": ["fed-2026-12.>"]},
        *_OPTIONS,
    ),
    "unsubscribe": _op(
        "unsubscribe",
        "End patterns in force; with options only the subscription that has them.",
        {"books": ref("patterns"), **_OPTIONS},
        {"id": "2", "books": ["fed-2026-12.>"]},
        *_OPTIONS,
    ),
    "resync": _op(
        "resync",
        "Send these books' snapshots again.",
        {"books": ref("patterns")},
        {"id": "3", "books": [_BOOK]},
    ),
    "auth": _op("auth", "Show a token.", {"token": text("The token.")}, {"id": "4", "token": "..."}),
    "list": _op(
        "list",
        "Name the books that match.",
        {"match": ref("pattern"), "after": {"type": ["string", "null"], "description": "From here on."}},
        {"id": "5", "match": "fed-2026-12.>", "after": None},
        "match",
        "after",
    ),
    "ping": _op("ping", "Ask for a pong with the server's time.", {}, {"id": "6"}),
}

_LIMITS = shape({name: integer("A limit.", 1) for name in ("message_bytes", "patterns", "books", "rate")})
_ENTRY = shape(
    {
        "book": ref("bookId"),
        "title": {"type": ["string", "null"]},
        "label": {"type": ["string", "null"]},
        "state": ref("state"),
    }
)
_EXAMPLE_TS = {"book": _TS}
_HEAD = {"book": _BOOK, "epoch": _EPOCH}
_EXAMPLE_LEG = {"platform": "venue", "asset": "ASSET-1", "inverted": False, "state": "live", "age_ms": 12}

SERVER: dict[str, Any] = {
    "welcome": _message(
        "welcome",
        "The first message of a connection.",
        shape(
            {
                "type": const("welcome"),
                "protocol": const("wup.v1"),
                "connection": text("Names this connection in the gateway's log."),
                "heartbeat_ms": integer("Silence before a heartbeat.", 1),
                "limits": _LIMITS,
                "ts": ref("time"),
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
        shape(
            {
                "type": const("snapshot"),
                "book": ref("bookId"),
                **_POSITION,
                "why": {"type": "string", "enum": _SNAPSHOT_WHYS},
                "mapping": integer("Version of the mapping."),
                "title": text("The event."),
                "label": text("The outcome."),
                "legs": ref("legs"),
                "bids": ref("levels"),
                "asks": ref("levels"),
                "ts": ref("times"),
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
        shape(
            {
                "type": const("delta"),
                "book": ref("bookId"),
                **_PREV,
                **_POSITION,
                "cause": text("The leg whose message made it."),
                "bids": ref("levels"),
                "asks": ref("levels"),
                "ts": ref("times"),
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
        shape(
            {
                "type": const("status"),
                "book": ref("bookId"),
                **_PREV,
                **_POSITION,
                "why": {"type": "string", "enum": _STATUS_WHYS},
                "legs": ref("legs"),
                "ts": ref("times"),
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
        shape(
            {
                "type": const("status"),
                "book": ref("bookId"),
                "by": const("gateway"),
                "state": const("down"),
                "why": {"type": "string", "enum": ["gap", "upstream_silent", "unmapped"]},
                "ts": ref("times"),
                **_STREAM,
            },
            "depth", "every_ms",
        ),
        {"type": "status", "book": _BOOK, "by": "gateway", "state": "down", "why": "gap", "ts": _EXAMPLE_TS},
    ),
    "trade": _message(
        "trade",
        "A trade of a venue, outside the book's sequence.",
        shape(
            {
                "type": const("trade"),
                "book": ref("bookId"),
                "platform": text("The venue."),
                "asset": text("What was traded there."),
                "price": ref("price"),
                "size": ref("size"),
                "side": {"type": "string", "enum": ["buy", "sell"]},
                "id": text("The venue's trade id."),
                "ts": ref("times"),
            },
            "side", "id",
        ),
        {
            "type": "trade", "book": _BOOK, "platform": "venue", "asset": "ASSET-1", "price": "0.53",
            "size": "10", "side": "buy", "id": "0723be0d", "ts": _EXAMPLE_TS,
        },
    ),
    "subscribed": _books_answer(
        "subscribed", "In force; snapshots follow.", "1", matched=integer("Books that match now.")
    ),
    "unsubscribed": _books_answer("unsubscribed", "Out of force.", "2"),
    "resynced": _books_answer("resynced", "Snapshots follow.", "3"),
    "authenticated": _message(
        "authenticated",
        "The token is good.",
        shape(
            {
                "type": const("authenticated"),
                "id": ref("id"),
                "scopes": ref("patterns"),
                "expires": {"type": ["integer", "null"], "description": "Microseconds since 1970 UTC."},
            }
        ),
        {"type": "authenticated", "id": "4", "scopes": [">"], "expires": None},
    ),
    "books": _message(
        "books",
        "A page of the list; `next` is what to ask after.",
        shape(
            {
                "type": const("books"),
                "id": ref("id"),
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
        shape(
            {
                "type": const("heartbeat"),
                "count": integer("Snapshots, deltas, statuses and trades written so far."),
                "ts": ref("time"),
            }
        ),
        {"type": "heartbeat", "count": 48_213, "ts": _TS},
    ),
    "notice": _message(
        "notice",
        "Something the client should know.",
        shape(
            {
                "type": const("notice"),
                "code": {"type": "string", "enum": ["slow", "books_limit", "going_away"]},
                "books": integer("slow: books that were dropped; books_limit: the limit."),
                "in_ms": integer("going_away: until the close."),
                "jitter_ms": integer("going_away: reconnect within this time, at random."),
            },
            "books", "in_ms", "jitter_ms",
        ),
        {"type": "notice", "code": "slow", "books": 12},
    ),
    "pong": _message(
        "pong",
        "The answer to `ping`.",
        shape({"type": const("pong"), "id": ref("id"), "ts": ref("time")}),
        {"type": "pong", "id": "6", "ts": _TS},
    ),
    "error": _message(
        "error",
        "A message was not done, none of it.",
        shape(
            {
                "type": const("error"),
                "id": {"type": ["string", "null"], "description": "Null when none could be read."},
                "code": ref("errorCode"),
                "message": text("For people."),
                "at": integer("Index of the first bad entry."),
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
