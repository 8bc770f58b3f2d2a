"""Every bus subject: built and parsed here, spelled nowhere else (architecture.md section 4).

A token is `[A-Za-z0-9_-]+`; any other byte is escaped as `=XX` (upper-case hex of its UTF-8 byte), so a
ticker with a dot stays one token.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SAFE = re.compile(r"^[A-Za-z0-9_-]+$")
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_EMPTY = "="
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")

RAW_ALL = "market.>"
NORMALIZED_ALL = "normalized.>"
ORDERBOOK_ALL = "orderbook.>"
CHANGES_ALL = "orderbook.changes.>"
TRADES_ALL = "orderbook.trades.>"
RECORDING_ALL = "recording.>"
MAPPING_CHANGED = "mapping.changed"
CONTROL_ALL = "control.>"
TWO_MARKS_S = 2.5
"""Marks go out each second (wire.md sections 2 and 3): two missed, and half a second for the way."""


@lru_cache(maxsize=262_144)
def escape(token: str) -> str:
    """`token` as one subject token. An empty token becomes `=`."""
    if _SAFE.match(token):
        return token
    if not token:
        return _EMPTY
    return "".join(chr(b) if b in _PLAIN else f"={b:02X}" for b in token.encode())


def unescape(token: str) -> str:
    """The inverse of `escape`."""
    if "=" not in token:
        return token
    if token == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), token).encode("latin-1").decode()


def raw(platform: str, asset_id: str) -> str:
    """Frames about one asset."""
    return f"market.{platform}.{escape(asset_id)}"


def raw_connection(platform: str, connection: str) -> str:
    """Frames about several assets or none, and the connection's records and marks."""
    return f"market.{platform}._conn.{escape(connection)}"


def recording(kind: str, platform: str = "") -> str:
    """Records of a log that are about no connection: `start`, `catalog`, `mapping`."""
    return f"recording.{kind}.{platform}" if platform else f"recording.{kind}"


def normalized(platform: str, market_id: str, asset_id: str) -> str:
    """Normalised messages of one asset."""
    return f"normalized.{platform}.{escape(market_id)}.{escape(asset_id)}"


def normalized_marks(platform: str, instance: str) -> str:
    """Marks of one normalizer instance."""
    return f"normalized.{platform}._marks.{escape(instance)}"


def changes(book: str) -> str:
    """Consolidated messages of a book."""
    return f"orderbook.changes.{book}"


def trades(book: str) -> str:
    """Trades of a book."""
    return f"orderbook.trades.{book}"


def orderbook_marks(shard: str) -> str:
    """Marks of one orderbook shard."""
    return f"orderbook.marks.{shard}"


def orderbook_snapshot(shard: str) -> str:
    """Requests for snapshots of a shard's books."""
    return f"orderbook.snapshot.{shard}"


def resync(platform: str) -> str:
    """Requests for fresh snapshots of venue assets."""
    return f"control.resync.{platform}"


def audit(platform: str) -> str:
    """Books by REST, for the normalizer to compare."""
    return f"control.audit.{platform}"


def discover(platform: str) -> str:
    """Events and assets whose listing changed by the venue's stream, and assets whose status may have changed
    unheard, for the event service."""
    return f"control.discover.{platform}"


def split(subject: str) -> list[str]:
    """The unescaped tokens of a subject."""
    return [unescape(token) for token in subject.split(".")]


def subject_matches(pattern: str, subject: str) -> bool:
    """NATS matching: `*` is one token, a final `>` is one or more."""
    wanted = pattern.split(".")
    tokens = subject.split(".")
    for index, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > index
        if index >= len(tokens) or (want != "*" and want != tokens[index]):
            return False
    return len(wanted) == len(tokens)
