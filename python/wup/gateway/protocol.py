"""Client messages of wire.md section 4: bytes to a checked `Op`, or a `Fault` with the contract's code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import orjson

OpName = Literal["subscribe", "unsubscribe", "resync", "auth", "list", "ping"]
_OPS: dict[str, OpName] = {
    "subscribe": "subscribe",
    "unsubscribe": "unsubscribe",
    "resync": "resync",
    "auth": "auth",
    "list": "list",
    "ping": "ping",
}
DEPTHS = (1, 5, 10, 20, 50)
INTERVALS = (50, 100, 250, 500, 1000)
_ID_MAX = 36
_TOKEN_MAX = 4096
_RETRY = frozenset({"rate_limited", "internal"})

ERROR_CODES = frozenset(
    {
        "bad_json",
        "bad_request",
        "unknown_op",
        "bad_pattern",
        "too_many_patterns",
        "too_many_books",
        "unknown_book",
        "already_subscribed",
        "not_subscribed",
        "unauthorized",
        "forbidden",
        "rate_limited",
        "internal",
    }
)
"""Every code of an `error` (rule 7)."""

BAD_MESSAGE = frozenset({"bad_json", "bad_request", "unknown_op", "bad_pattern"})
"""Codes that count towards close 4400."""


class Fault(Exception):
    """An `error` answer. `at` is the index of the first bad entry."""

    def __init__(self, code: str, message: str, at: int | None = None) -> None:
        super().__init__(message)
        assert code in ERROR_CODES
        self.code = code
        self.message = message
        self.at = at
        self.id: str | None = None

    def answer(self) -> dict[str, Any]:
        """The message to send."""
        body: dict[str, Any] = {"type": "error", "id": self.id, "code": self.code, "message": self.message}
        if self.at is not None:
            body["at"] = self.at
        body["retry"] = self.code in _RETRY
        return body


@dataclass(frozen=True, slots=True)
class Options:
    """How a subscription wants its books. `depth` levels a side, `every_ms` between deltas."""

    depth: int | None = None
    every_ms: int | None = None
    trades: bool = False
    disconnect: bool = False


@dataclass(frozen=True, slots=True)
class Op:
    """One client message, checked."""

    name: OpName
    id: str
    books: tuple[str, ...] = ()
    options: Options = Options()
    token: str = ""
    match: str = ">"
    after: str | None = None


def parse(data: bytes, depth: int) -> Op:
    """Read one client message; nesting beyond `depth` is refused.

    Raises:
        Fault: with the code of rule 7; its `id` is the message's where one could be read.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Fault("bad_json", f"not JSON: {error.msg}") from None
    if not isinstance(body, dict):
        raise Fault("bad_request", "a message is a JSON object")
    raw_id = body.get("id")
    known_id = raw_id if _printable(raw_id) else None
    try:
        if _deeper(body, depth):
            raise Fault("bad_request", f"nested deeper than {depth}")
        json.loads(data, object_pairs_hook=_unique)
        if known_id is None:
            raise Fault("bad_request", "id is a string of 1 to 36 printable ASCII characters")
        return _op(body, known_id)
    except Fault as fault:
        fault.id = known_id
        raise


def _unique(pairs: list[tuple[str, object]]) -> None:
    """A key that comes twice means different things to different readers, so it means nothing here."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise Fault("bad_json", "a key comes twice")


def _printable(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _ID_MAX and all(" " <= c <= "~" for c in value)


def _deeper(value: object, depth: int) -> bool:
    layer: list[object] = [value]
    for _ in range(depth):
        below: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, (dict, list)))
        if not below:
            return False
        layer = below
    return True


def _op(body: dict[str, Any], op_id: str) -> Op:
    wanted = body.get("op")
    if not isinstance(wanted, str):
        raise Fault("bad_request", "op is missing")
    name = _OPS.get(wanted)
    if name is None:
        raise Fault("unknown_op", "op is subscribe, unsubscribe, resync, auth, list or ping")
    if name == "ping":
        return Op(name, op_id)
    if name == "auth":
        token = body.get("token")
        if not isinstance(token, str) or not 1 <= len(token) <= _TOKEN_MAX:
            raise Fault("bad_request", "token is missing")
        return Op(name, op_id, token=token)
    if name == "list":
        return _list(body, op_id)
    books = body.get("books")
    if not isinstance(books, list) or not books:
        raise Fault("bad_request", "books is a list with at least one entry")
    for index, entry in enumerate(books):
        if not isinstance(entry, str):
            raise Fault("bad_request", "an entry of books is a string", index)
    return Op(name, op_id, books=tuple(books), options=_options(body))


def _list(body: dict[str, Any], op_id: str) -> Op:
    match = body.get("match", ">")
    after = body.get("after")
    if not isinstance(match, str):
        raise Fault("bad_request", "match is a pattern")
    if after is not None and not isinstance(after, str):
        raise Fault("bad_request", "after is a book id or null")
    return Op("list", op_id, match=match, after=after)


def _options(body: dict[str, Any]) -> Options:
    depth = body.get("depth")
    if depth is not None and (type(depth) is not int or depth not in DEPTHS):
        raise Fault("bad_request", "depth is 1, 5, 10, 20 or 50")
    every_ms = body.get("every_ms")
    if every_ms is not None and (type(every_ms) is not int or every_ms not in INTERVALS):
        raise Fault("bad_request", "every_ms is 50, 100, 250, 500 or 1000")
    trades = body.get("trades", False)
    if type(trades) is not bool:
        raise Fault("bad_request", "trades is true or false")
    on_slow = body.get("on_slow", "conflate")
    if on_slow not in ("conflate", "disconnect"):
        raise Fault("bad_request", "on_slow is conflate or disconnect")
    return Options(depth, every_ms, trades, on_slow == "disconnect")
