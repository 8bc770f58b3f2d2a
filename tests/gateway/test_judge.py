"""The plain client must be able to fail: a gateway that breaks one rule on purpose is found out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.conftest import Opener
from gateway.engine import FED_25, Engine
from wup.gateway import Gateway
from wup.gateway.outbox import Outbox
from wup.gateway.stream import Stream


async def test_dropped_delta_is_found(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that leaves out one delta gives a gap at the client."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.until(lambda: client.count == 1)
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "send", lambda *_: None)
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "1"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "2"]], [])
    await client.until(lambda: client.count == 2)
    assert client.verdicts == {"ok": 1, "gap": 1}


async def test_changed_delta_is_found(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that forwards other levels than the digest is of is broken at the client."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.until(lambda: client.count == 1)
    honest = Stream.send

    def lie(stream: Stream, payload: bytes, now: float) -> None:
        honest(stream, payload.replace(b'"116.5"', b'"117.5"').replace(b'"7"', b'"8"'), now)

    monkeypatch.setattr(Stream, "send", lie)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    await client.until(lambda: client.count == 2)
    assert client.verdicts == {"ok": 1, "broken": 1}


async def test_wrong_count_is_found(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat that counts a frame that was never written does not agree with the client's count."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.until(lambda: client.count == 1)
    honest = Outbox._write

    def forget(box: Outbox, data: bytes, counted: int, now: float) -> None:
        if b'"type":"delta"' in data:
            box.count += counted
        else:
            honest(box, data, counted, now)

    monkeypatch.setattr(Outbox, "_write", forget)
    # Not by the short way past it.
    monkeypatch.setattr(Outbox, "direct", property(lambda box: False, lambda box, value: None))
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "1"]], [])
    await client.until(lambda: client.heartbeats, 3)
    assert client.heartbeats[-1] == (2, 1)


async def test_unverified_delta_is_found(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that forwards without asking its mirror passes a wrong digest on, and the client says so."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.until(lambda: client.count == 1)

    def credulous(mirrors: Any, book: Any, payload: bytes) -> None:
        mirrors._listener.changed(book, payload, "delta")

    monkeypatch.setattr("wup.gateway.mirror.Mirrors._change", credulous)
    seen: list[bytes] = []
    await engine.bus.subscribe("orderbook.changes.>", lambda message: seen.append(message.payload))
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "1"]], [])
    body = orjson.loads(seen[-1])
    forged = {**body, "prev": body["seq"], "seq": body["seq"] + 1, "digest": body["digest"] ^ 1}
    engine.bus.publish(f"orderbook.changes.{FED_25}", orjson.dumps(forged))
    await client.until(lambda: client.count == 3)
    assert client.verdicts == {"ok": 2, "broken": 1}


async def test_snapshot_of_another_moment_is_found(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that is not of the state that the next delta leads on from gives a gap."""
    old = engine.store.snapshot(FED_25, why="subscribe")
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "1"]], [])
    monkeypatch.setattr(Stream, "_encode", lambda *_: old)
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.until(lambda: client.count == 1)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "2"]], [])
    await client.until(lambda: client.count == 2)
    assert client.verdicts == {"ok": 1, "gap": 1}
