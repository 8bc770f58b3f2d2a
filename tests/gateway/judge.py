"""Readers that believe nothing: every exact book they hold is compared with what was really published."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING, Any

import orjson

from gateway.plain import PlainBook
from gateway.raw import HANDSHAKE
from wup._core import MirrorBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engine import Engine
    from wup import Change

DEPTH = 5
_DEEP = 61
Key = tuple[str, int | None, int | None]


class Truth:
    """What every book was at every (epoch, seq) that was published, lost messages included."""

    def __init__(self) -> None:
        self.full: dict[tuple[str, int, int], int] = {}
        self.best: dict[tuple[str, int, int], int] = {}
        self.whole: dict[tuple[str, int, int], bytes] = {}
        self.checks = 0
        self.deep_checks = 0
        self.conflated = 0
        self.published = 0

    def watch(self, engine: Engine) -> None:
        """Note what an engine is about to publish, before any of it is lost."""
        publish = engine.publish

        def noting(changes: list[Change]) -> None:
            for change in changes:
                self.published += 1
                place = (change.book, change.epoch, change.seq)
                self.full[place] = change.digest
                if not engine.store.books(change.book):
                    # Its last word: the book is empty and gone.
                    assert change.digest == 0
                    self.best[place] = 0
                    continue
                self.best[place] = _digest(engine.store.snapshot(change.book, depth=DEPTH))
                if self.published % 16 == 0:
                    self.whole[place] = engine.store.snapshot(change.book)
            publish(changes)

        engine.publish = noting  # type: ignore[method-assign,assignment]

    def check(self, key: Key, epoch: int, seq: int, digest: int, mirror: MirrorBook | None) -> None:
        """An exact book must be the published one at its place; its levels are looked at in `mirror`."""
        place = (key[0][:-3] + ".yes" if key[0].endswith(".no") else key[0], epoch, seq)
        known = self.full if key[1] is None else self.best
        assert known.get(place) == digest, f"wrong book {key} at {place}"
        self.checks += 1
        if mirror is not None and key[1] is None and self.checks % _DEEP == 0 and place in self.whole:
            self._compare(key[0].endswith(".no"), place, mirror)

    def _compare(self, no: bool, place: tuple[str, int, int], mirror: MirrorBook) -> None:
        """Level by level, by the plain reader."""
        want, have = PlainBook(place[0], False), PlainBook(place[0], False)
        assert want.apply(json.loads(self.whole[place])) == "ok"
        assert have.apply(json.loads(mirror.snapshot())) == "ok"
        assert mirror.book.endswith(".no") == no
        assert (have.bids, have.asks, have.state) == (want.bids, want.asks, want.state)
        self.deep_checks += 1


def _digest(snapshot: bytes) -> int:
    at = snapshot.index(b'"digest":') + 9
    return int(snapshot[at : snapshot.index(b",", at)])


def _book(payload: bytes) -> str:
    at = payload.index(b'"book":"') + 8
    return payload[at : payload.index(b'"', at)].decode()


class LightClient(asyncio.Protocol):
    """A client of few instructions: frames by hand, one native mirror per stream, every verdict judged."""

    def __init__(self, truth: Truth, ended: Callable[[LightClient], None]) -> None:
        self.truth = truth
        self.mirrors: dict[Key, MirrorBook] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.held: dict[str, dict[str, Any]] = {}
        self.count = 0
        self.shaped = False
        self.closed: int | None = None
        self.open = asyncio.Event()
        self.texts: list[bytes] | None = None
        self._ended = ended
        self._buffer = b""
        self._shaken = False
        self._number = 0
        self.transport: asyncio.Transport

    # --- the socket -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE.format(path="/ws", host="localhost", more="").encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed is None:
            self.closed = 1006
        self.mirrors.clear()
        self.open.set()
        self._ended(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._shaken:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            if buffer[9:12] != b"101":
                self.transport.close()
                return
            self._shaken = True
            self.open.set()
            at = end + 4
        size = len(buffer)
        while size - at >= 2:
            length = buffer[at + 1]
            start = at + 2
            if length == 126:
                start += 2
                if size < start:
                    break
                length = int.from_bytes(buffer[at + 2 : start])
            elif length == 127:
                start += 8
                if size < start:
                    break
                length = int.from_bytes(buffer[at + 2 : start])
            if size < start + length:
                break
            self._frame(buffer[at] & 15, buffer[start : start + length])
            at = start + length
        self._buffer = buffer[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            self._text(payload)
        elif opcode == 9:
            self._send(10, payload)
        elif opcode == 8:
            self.closed = struct.unpack("!H", payload[:2])[0]
            self._send(8, payload[:2])
            self.transport.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = (
            bytes((0x80 | opcode, 0x80 | size))
            if size < 126
            else struct.pack("!BBH", 0x80 | opcode, 254, size)
        )
        self.transport.write(head + bytes(4) + payload)  # a mask of zeros is a mask

    # --- what is said -----------------------------------------------------------------------------

    def _text(self, payload: bytes) -> None:
        kind = payload[9:13]
        if kind in (b"delt", b"snap", b"stat"):
            self.count += 1
            if self.texts is not None:
                self.texts.append(payload)
            key = self._key(payload)
            mirror = self.mirrors.get(key)
            if mirror is None:
                mirror = self.mirrors[key] = MirrorBook()
            verdict = mirror.apply(payload)
            assert verdict in ("exact", "ignored"), f"{verdict}: {key} {payload[:300]!r}"
            if kind == b"snap" and b'"why":"conflated"' in payload:
                self.truth.conflated += 1
            if verdict == "exact":
                self.truth.check(key, mirror.epoch, mirror.seq, mirror.digest, mirror)
            else:
                assert b'"by":"gateway"' in payload, f"needless: {payload[:300]!r}"
                assert not mirror.exact
            return
        if kind == b"trad":
            self.count += 1
            return
        message = orjson.loads(payload)
        if message["type"] == "heartbeat":
            assert message["count"] == self.count, f"counted {self.count}, told {message['count']}"
        elif message.get("id") is not None:
            assert message["id"] not in self.answers, "a second answer"
            self.answers[message["id"]] = message

    def _key(self, payload: bytes) -> Key:
        if self.shaped and (b'"depth":' in payload or b'"every_ms":' in payload):
            body = orjson.loads(payload)
            return body["book"], body.get("depth"), body.get("every_ms")
        return _book(payload), None, None

    async def op(self, name: str, **more: Any) -> dict[str, Any] | None:
        """Send an operation; its answer, or None when the connection ended first."""
        self.shaped = self.shaped or "depth" in more or "every_ms" in more
        self._number += 1
        op_id = str(self._number)
        self._send(1, orjson.dumps({"op": name, "id": op_id, **more}))
        while op_id not in self.answers:
            if self.closed is not None:
                return None
            await asyncio.sleep(0.002)
        return self.answers[op_id]
