"""A client written against wire.md alone: no WUP code, integers only, every rule of "What a client does to
be exact"."""

from __future__ import annotations

import json
from typing import Any

MASK = 0xFFFFFFFF
SCALE = 1_000_000


def micro(text: str) -> int:
    """Decimal text in millionths, exactly."""
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or len(fraction) > 6 or (fraction and not fraction.isdigit()):
        raise ValueError(f"not a wire number: {text!r}")
    if fraction.endswith("0") or (len(whole) > 1 and whole[0] == "0"):
        raise ValueError(f"not the shortest form: {text!r}")
    return int(whole) * SCALE + int(fraction.ljust(6, "0") or "0")


def fnv1a(name: str) -> int:
    value = 0x811C9DC5
    for byte in name.encode("ascii"):
        value = ((value ^ byte) * 0x01000193) & MASK
    return value


def finish(h: int) -> int:
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & MASK
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & MASK
    return h ^ (h >> 16)


def cell(leg: str, side: int, price: int, size: int) -> int:
    """The digest's h of one cell in YES coordinates."""
    h = finish((2 * price + side + 0x9E3779B9 + fnv1a(leg)) & MASK)
    h = finish(h ^ (size & MASK))
    return finish(h ^ (size >> 32))


class PlainBook:
    """One book: levels by side and price, each a size per leg."""

    def __init__(self) -> None:
        self.epoch = -1
        self.seq = -1
        self.exact = False
        self.state = "down"
        self.crossed = False
        self.levels: dict[tuple[int, int], dict[str, int]] = {}

    def put(self, message: dict[str, Any], *, no: bool) -> None:
        for side, key in enumerate(("bids", "asks")):
            for price, size, parts in message[key]:
                at = SCALE - micro(price) if no else micro(price)
                on = 1 - side if no else side
                legs = {leg: micro(part) for leg, part in parts.items()}
                if sum(legs.values()) != micro(size):
                    raise AssertionError(f"parts do not add up: {price} {size} {parts}")
                if legs:
                    self.levels[on, at] = legs
                else:
                    self.levels.pop((on, at), None)

    def digest(self) -> int:
        return (
            sum(
                cell(leg, side, price, size)
                for (side, price), legs in self.levels.items()
                for leg, size in legs.items()
            )
            & MASK
        )

    def is_crossed(self) -> bool:
        bids = [price for side, price in self.levels if side == 0]
        asks = [price for side, price in self.levels if side == 1]
        return bool(bids and asks and max(bids) > min(asks))


class PlainClient:
    """Everything one connection must keep: books, and the count of messages."""

    def __init__(self) -> None:
        self.books: dict[str, PlainBook] = {}
        self.count = 0
        self.heartbeats = 0
        self.checks = 0
        self.deltas = 0
        self.wrong: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.resyncs: list[str] = []

    def receive(self, text: str | bytes) -> None:
        message = json.loads(text)
        kind = message.get("type")
        if kind == "heartbeat":
            self.heartbeats += 1
            if message["count"] != self.count:
                self.wrong.append(f"heartbeat says {message['count']}, counted {self.count}")
        elif kind in ("snapshot", "delta", "status", "trade"):
            self.count += 1
            if kind != "trade":
                self._book(kind, message)
        else:
            self.answers.append(message)

    def _book(self, kind: str, message: dict[str, Any]) -> None:
        name = message["book"]
        no = name.endswith(".no")
        book = self.books.setdefault(name, PlainBook())
        if kind == "status" and message.get("by") == "gateway":
            book.exact = False
            return
        epoch, seq = message["epoch"], message["seq"]
        if kind == "snapshot":
            if epoch < book.epoch or (epoch == book.epoch and seq < book.seq and book.exact):
                return
            book.levels.clear()
            book.put(message, no=no)
            book.epoch, book.seq, book.exact = epoch, seq, True
        else:
            if not book.exact or epoch < book.epoch or (epoch == book.epoch and seq <= book.seq):
                return
            if epoch > book.epoch or message["prev"] != book.seq:
                book.exact = False
                self.resyncs.append(name)
                self.wrong.append(f"gap in {name}: prev {message['prev']}, had {book.seq}")
                return
            if kind == "delta":
                self.deltas += 1
                book.put(message, no=no)
            book.seq = seq
        book.state, book.crossed = message["state"], message["crossed"]
        self.checks += 1
        if book.digest() != message["digest"]:
            book.exact = False
            self.resyncs.append(name)
            self.wrong.append(f"digest of {name} at {epoch}/{seq}")
        elif book.is_crossed() != message["crossed"]:
            self.wrong.append(f"crossed of {name} at {epoch}/{seq}")
