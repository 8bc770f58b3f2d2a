"""A naive model of consolidated books for the tests: dictionaries, recomputed from scratch each time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ONE = 1_000_000
Ladder = dict[int, int]
Row = tuple[str, str, str, bool]


def text(micro: int) -> str:
    """Shortest exact text."""
    whole, part = divmod(micro, ONE)
    return f"{whole}.{part:06}".rstrip("0").rstrip(".")


def micro(number: str) -> int:
    """The other way round."""
    whole, _, part = number.partition(".")
    return int(whole) * ONE + int(part.ljust(6, "0") or 0)


def finish(h: int) -> int:
    """MurmurHash3's finaliser."""
    h = ((h ^ h >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    h = ((h ^ h >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return h ^ h >> 16


def cell(leg: str, side: int, price: int, size: int) -> int:
    """Hash of one cell by the contract's recipe."""
    salt = 0x811C9DC5
    for byte in leg.encode():
        salt = ((salt ^ byte) * 0x01000193) & 0xFFFFFFFF
    h = finish((2 * price + side + 0x9E3779B9 + salt) & 0xFFFFFFFF)
    return finish(finish(h ^ (size & 0xFFFFFFFF)) ^ (size >> 32))


@dataclass
class Asset:
    """One venue asset in its own coordinates."""

    state: str = "syncing"
    last: tuple[int, int] | None = None
    sides: tuple[Ladder, Ladder] = field(default_factory=lambda: ({}, {}))


@dataclass
class Naive:
    """All assets and the table that says which book they feed."""

    table: list[Row] = field(default_factory=list)
    assets: dict[tuple[str, str], Asset] = field(default_factory=dict)

    def set_mapping(self, table: list[Row]) -> None:
        """Assets that stay mapped keep what they show."""
        self.assets = {row[:2]: self.assets.get(row[:2], Asset()) for row in table}
        self.table = table

    def books(self) -> list[str]:
        """Ids in the order of the table."""
        return list(dict.fromkeys(row[2] for row in self.table))

    def legs(self, book: str) -> list[tuple[str, Row]]:
        """Name and row of each leg."""
        seen: dict[str, int] = {}
        legs = []
        for row in self.table:
            if row[2] == book:
                seen[row[0]] = seen.get(row[0], 0) + 1
                legs.append((row[0] if seen[row[0]] == 1 else f"{row[0]}-{seen[row[0]]}", row))
        return legs

    def content(self, book: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
        """Price to size per leg, both sides, of the live legs."""
        sides: tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]] = ({}, {})
        for name, row in self.legs(book):
            asset = self.assets[row[:2]]
            if asset.state != "live":
                continue
            for side, ladder in enumerate(asset.sides):
                for price, size in ladder.items():
                    shown = (1 - side, ONE - price) if row[3] else (side, price)
                    sides[shown[0]].setdefault(text(shown[1]), {})[name] = text(size)
        return sides

    def digest(self, book: str, depth: int | None = None) -> int:
        """The digest from scratch over the best `depth` levels of each side."""
        total = 0
        for side, ladder in enumerate(self.content(book)):
            prices = sorted(ladder, key=micro, reverse=side == 0)[:depth]
            total += sum(cell(leg, side, micro(p), micro(s)) for p in prices for leg, s in ladder[p].items())
        return total & 0xFFFFFFFF

    def state(self, book: str) -> str:
        """Closed legs are left out of the count unless all are closed."""
        states = [self.assets[row[:2]].state for _, row in self.legs(book)]
        open_states = [state for state in states if state != "closed"]
        if states and not open_states:
            return "closed"
        live = open_states.count("live")
        return "down" if live == 0 else "live" if live == len(open_states) else "degraded"


def levels(message: dict[str, Any], side: str) -> dict[str, dict[str, str]]:
    """Price to parts; checks that the parts add up and that a price appears once."""
    found: dict[str, dict[str, str]] = {}
    for price, total, parts in message[side]:
        assert price not in found
        assert micro(total) == sum(micro(size) for size in parts.values())
        found[price] = parts
    return found


def normalised(kind: str, asset: tuple[str, str], number: tuple[int, int], **fields: object) -> bytes:
    """A normalised message."""
    platform, asset_id = asset
    head = {"type": kind, "platform": platform, "market_id": "m", "asset_id": asset_id}
    return json.dumps({**head, "epoch": number[0], "n": number[1], **fields}).encode()
