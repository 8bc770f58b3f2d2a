"""Mapping files, written: the inverse of `wup.mapping.file`, in the form that people review."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.file import AggregateEntry, LegEntry, MappingFiles, MarketEntry, SeriesEntry

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_APART = ("where", "evidence", "settlement")
_DEFAULTS: dict[str, object] = {"relation": "identity", "fungibility": "clean", "exclusive": False}


def dump(files: MappingFiles) -> str:
    """A file's text; `parse` of it gives `files` again."""
    parts = [*map(dump_series, files.series), *map(dump_aggregate, files.aggregates)]
    return "\n".join([f"version = {files.version}", *parts])


def digest(files: MappingFiles) -> str:
    """SHA-256 of what the files say, whatever their names, comments and spaces."""
    return hashlib.sha256(dump(files).encode("utf-8", "surrogatepass")).hexdigest()


def dump_aggregate(entry: AggregateEntry) -> str:
    """One aggregate with its markets and legs, to be appended to a file."""
    parts = ["", "[[aggregate]]", *_fields(entry, "")]
    for market in entry.market:
        parts += _market(market)
    return "\n".join(parts) + "\n"


def dump_series(entry: SeriesEntry) -> str:
    """One series rule with its sides, to be appended to a file."""
    parts = ["", "[[series]]", *_fields(entry, "")]
    for side in entry.side:
        parts += ["", "  [[series.side]]", *_fields(side, "  ")]
        parts += ["  rules = [", *(f"    {toml_text(digest)}," for digest in side.rules), "  ]"]
    return "\n".join(parts) + "\n"


def _market(market: MarketEntry) -> list[str]:
    parts = ["", "  [[aggregate.market]]", *_fields(market, "  ")]
    for leg in market.leg:
        parts += _leg(leg)
    return parts


def _leg(leg: LegEntry) -> list[str]:
    parts = ["", "    [[aggregate.market.leg]]", *_fields(leg, "    ")]
    for name in ("evidence", "settlement"):
        table = getattr(leg, name)
        if table is not None:
            fields = {k: v for k, v in table.model_dump(exclude={"where"}).items() if v not in (None, {})}
            parts.append(f"    {name} = {_value(fields)}")
    return parts


def _fields(table: Any, indent: str) -> list[str]:
    lines = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        if name in _APART or value is None or value == {} or isinstance(value, tuple):
            continue
        if _DEFAULTS.get(name, ...) != value:
            lines.append(f"{indent}{name} = {_value(value)}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return _inline(value)
    return toml_text(str(value))


def _inline(table: Mapping[str, object]) -> str:
    return "{ " + ", ".join(f"{toml_text(key)} = {_value(value)}" for key, value in table.items()) + " }"


def toml_text(value: str) -> str:
    """A string as TOML."""
    shown = "".join(
        _ESCAPES.get(char) or (f"\\u{ord(char):04X}" if ord(char) < 0x20 or ord(char) == 0x7F else char)
        for char in value
    )
    return f'"{shown}"'
