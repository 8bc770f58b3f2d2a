"""A client written against wire.md alone: no code of ours, its own digest, numbers as integers of 1e-6."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

Side = dict[int, dict[str, int]]
_MASK = 0xFFFFFFFF


def micro(text: str) -> int:
    """Exact decimal text in millionths; refuses what is not shortest form."""
    value = int((Decimal(text) * 1_000_000).to_integral_exact())
    shortest = f"{Decimal(value).scaleb(-6):f}".rstrip("0").rstrip(".") if value else "0"
    assert text == shortest, f"{text!r} is not {shortest!r}"
    return value


def _mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x85EBCA6B & _MASK
    x ^= x >> 13
    x = x * 0xC2B2AE35 & _MASK
    return x ^ (x >> 16)


def _salt(leg: str) -> int:
    value = 0x811C9DC5
    for byte in leg.encode("ascii"):
        value = (value ^ byte) * 0x01000193 & _MASK
    return value


def cell(leg: str, side: int, price: int, size: int) -> int:
    """wire.md section 3, the digest."""
    h = _mix((2 * price + side + 0x9E3779B9 + _salt(leg)) & _MASK)
    h = _mix(h ^ (size & _MASK))
    return _mix(h ^ (size >> 32))


class PlainBook:
    """One book by the rules of "What a client does to be exact"."""

    def __init__(self, name: str, optioned: bool) -> None:
        self.name = name
        self.optioned = optioned
        self.no = name.endswith(".no")
        self.epoch = self.seq = -1
        self.exact = False
        self.state = ""
        self.bids: Side = {}
        self.asks: Side = {}
        self.history: list[str] = []

    def digest(self) -> int:
        total = 0
        for side, levels in ((0, self.bids), (1, self.asks)):
            for price, legs in levels.items():
                for leg, size in legs.items():
                    if self.no:
                        total += cell(leg, 1 - side, 1_000_000 - price, size)
                    else:
                        total += cell(leg, side, price, size)
        return total & _MASK

    def _levels(self, message: dict[str, Any]) -> None:
        for side, target in (("bids", self.bids), ("asks", self.asks)):
            seen: set[str] = set()
            for price, size, legs in message[side]:
                assert price not in seen, "a price twice in one message"
                seen.add(price)
                parts = {leg: micro(part) for leg, part in legs.items()}
                assert sum(parts.values()) == micro(size), "parts do not add up"
                assert 0 < micro(price) < 1_000_000
                if size == "0":
                    assert legs == {}
                    target.pop(micro(price), None)
                else:
                    target[micro(price)] = parts

    def apply(self, message: dict[str, Any]) -> str:
        """`ok`, `ignored`, `gap` or `broken`."""
        kind = message["type"]
        self.history.append(kind if "why" not in message else f"{kind}:{message['why']}")
        if kind == "status" and message.get("by") == "gateway":
            assert message["state"] == "down"
            assert not {"prev", "seq", "digest"} & message.keys()
            self.exact = False
            return "ignored"
        at = (message["epoch"], message["seq"])
        if kind == "snapshot":
            if self.exact and at < (self.epoch, self.seq):
                return "ignored"
            self.bids, self.asks = {}, {}
            prices = [micro(level[0]) for level in message["bids"]]
            assert prices == sorted(prices, reverse=True), "bids are not best first"
            prices = [micro(level[0]) for level in message["asks"]]
            assert prices == sorted(prices), "asks are not best first"
        else:
            if not self.exact or message["epoch"] < self.epoch:
                return "ignored"
            prev = message["prev"]
            if message["epoch"] > self.epoch or (prev != self.seq if self.optioned else prev > self.seq):
                self.exact = False
                return "gap"
            if message["seq"] <= self.seq:
                return "ignored"
        if "bids" in message:
            self._levels(message)
        self.epoch, self.seq = at
        self.state = message["state"]
        self.exact = self.digest() == message["digest"]
        if self.exact and self.bids and self.asks:
            assert message["crossed"] == (max(self.bids) > min(self.asks))
        return "ok" if self.exact else "broken"


Key = tuple[str, int | None, int | None]


class PlainClient:
    """Reads everything, judges everything."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.books: dict[Key, PlainBook] = {}
        self.count = 0
        self.heartbeats: list[tuple[int, int]] = []
        self.answers: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.verdicts: dict[str, int] = {}
        self.raw: list[bytes] = []
        self.changed = asyncio.Event()
        self.closed: tuple[int, str] | None = None
        self._reader = asyncio.create_task(self._read())
        self._id = 0

    @classmethod
    async def open(cls, port: int, **options: Any) -> PlainClient:
        ws = await connect(
            f"ws://127.0.0.1:{port}/ws", compression=None, ping_interval=None, proxy=None, **options
        )
        client = cls(ws)
        await client.answer("welcome")
        return client

    async def _read(self) -> None:
        try:
            async for text in self.ws:
                assert isinstance(text, str), "a binary frame"
                self.take(text)
        except ConnectionClosedError:
            pass
        self.closed = (self.ws.close_code or 0, self.ws.close_reason or "")
        self.changed.set()

    def take(self, text: str) -> None:
        message = json.loads(text)
        kind = message["type"]
        if kind in ("snapshot", "delta", "status"):
            self.count += 1
            self.raw.append(text.encode())
            key = (message["book"], message.get("depth"), message.get("every_ms"))
            book = self.books.get(key)
            if book is None:
                book = self.books[key] = PlainBook(key[0], key[1] is not None or key[2] is not None)
            verdict = book.apply(message)
            self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
            if key[1] is not None:
                assert len(book.bids) <= key[1]
                assert len(book.asks) <= key[1]
        elif kind == "trade":
            self.count += 1
            self.trades.append(message)
        elif kind == "heartbeat":
            self.heartbeats.append((message["count"], self.count))
        else:
            self.answers.append(message)
        self.changed.set()

    async def until(self, condition: Any, timeout: float = 10.0) -> None:
        """Wait until `condition()` holds; every message wakes it."""
        async with asyncio.timeout(timeout):
            while not condition():
                if self._reader.done() and self._reader.exception() is not None:
                    raise self._reader.exception()  # type: ignore[misc]
                self.changed.clear()
                await self.changed.wait()

    async def answer(self, kind: str, op_id: str | None = None) -> dict[str, Any]:
        """The answer of a kind, or to an operation, once it came."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [
                answer
                for answer in self.answers
                if answer["type"] == kind and (op_id is None or answer.get("id") == op_id)
            ]
            return bool(found)

        await self.until(look)
        return found[-1]

    async def op(self, name: str, **more: Any) -> dict[str, Any]:
        """Send an operation and wait for its one answer."""
        self._id += 1
        op_id = f"t{self._id}"
        await self.ws.send(json.dumps({"op": name, "id": op_id, **more}))
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [answer for answer in self.answers if answer.get("id") == op_id]
            return bool(found)

        await self.until(look)
        assert len(found) == 1
        return found[0]

    async def close(self) -> None:
        await self.ws.close()
        await self._reader
