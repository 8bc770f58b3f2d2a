"""wire.md section 4: the rules of the conversation that the gateway's own tests do not hold yet."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from conformance.conftest import Dial
from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.plain import PlainClient
from gateway.raw import RawClient, frame
from wup.gateway import Gateway, Limits

BOOK_KINDS = ("snapshot", "delta", "status")


def mib(engine: Engine, count: int) -> None:
    """Changes of about 4 KB each."""
    for _ in range(count):
        engine.bulk()


async def messages(client: RawClient, until: str) -> list[dict[str, Any]]:
    """Every text message up to and with the first of a type."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] != until:
        found.append(json.loads(await client.until(1)))
    return found


async def test_one_object_per_text_frame(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """Every frame that the server sends is one whole text frame with one JSON object that has a `type`."""
    client = await raw(gateway)
    client.op("subscribe", "1", books=[">"], trades=True)
    client.op("list", "2")
    client.op("dance", "3")
    await client.message("error")
    for _ in range(20):
        engine.step()
    client.op("ping", "4")
    kinds = set()
    while "pong" not in kinds:
        opcode, payload = await client.frame()
        assert opcode == 1
        message = json.loads(payload)
        assert isinstance(message, dict)
        kinds.add(message["type"])
    assert "delta" in kinds


async def test_each_op_gets_one_answer_with_its_id(gateway: Gateway, dial: Opener) -> None:
    """Each op is answered once, with its id, whatever it is; the error of an unreadable id has null."""
    client = await dial(gateway)
    for op_id in ("1", "~", " ", "x" * 36, 'a"b\\c'):
        for op in ({"op": "ping"}, {"op": "dance"}, {"op": "subscribe", "books": ["a..b"]}):
            await client.ws.send(json.dumps({**op, "id": op_id}))
    await client.until(lambda: len(client.answers) == 16)
    await client.op("ping")
    assert [answer.get("id") for answer in client.answers[1:16]] == [
        op_id for op_id in ("1", "~", " ", "x" * 36, 'a"b\\c') for _ in range(3)
    ]
    client.answers.clear()
    await client.ws.send('{"op":"ping","id":7}')
    assert (await client.answer("error", None))["id"] is None


async def test_auth_without_tokens_is_answered(gateway: Gateway, dial: Opener) -> None:
    """Where no tokens are asked for, `auth` is answered: everything is allowed."""
    client = await dial(gateway)
    answer = await client.op("auth", token="anything")
    assert (answer["type"], answer["scopes"], answer["expires"]) == ("authenticated", [">"], None)


async def test_list_is_paged(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """`list` gives at most 500 books and `next`, from which `after` goes on, without a repeat or a hole."""
    more = [("kalshi", f"KXL-{n}", f"long-2027.{n:016x}.yes", False) for n in range(1_203)]
    engine.publish(engine.store.set_mapping(413, [*TABLE, *more], engine.now_us))
    client = await dial(gateway)
    found: list[str] = []
    pages = 0
    after: str | None = None
    while pages == 0 or after is not None:
        answer = await client.op("list", match="long-2027.>", after=after)
        found += [entry["book"] for entry in answer["books"]]
        after = answer["next"]
        pages += 1
    assert pages == 3
    assert found == sorted(row[2] for row in more)


async def test_a_late_reader_gets_the_state_last_sent(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """On an interval stream a snapshot at join is what the other readers have, and bytes are shared."""
    early, late = await dial(gateway), await dial(gateway)
    await early.op("subscribe", books=[FED_25], every_ms=1000, depth=5)
    await early.until(lambda: early.count == 1)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.5", "1"]], [])
    await early.until(lambda: early.count == 2)
    shown = early.books[FED_25, 5, 1000]
    shown_seq = shown.seq
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.5", "2"]], [])  # held back until the interval is over
    await late.op("subscribe", books=[FED_25], every_ms=1000, depth=5)
    await late.until(lambda: late.count == 1)
    joined = late.books[FED_25, 5, 1000]
    assert (joined.seq, joined.bids) == (shown.seq, shown.bids)
    await late.until(lambda: late.count == 2 and early.count == 3, 3)
    assert late.raw[-1] == early.raw[-1]
    body = json.loads(late.raw[-1])
    assert (body["depth"], body["every_ms"]) == (5, 1000)
    assert body["prev"] == shown_seq
    assert set(late.verdicts) == set(early.verdicts) == {"ok"}


async def test_heartbeat_in_any_case(
    engine: Engine, gateway: Gateway, dial: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a connection that is never silent a heartbeat comes in time, with the exact count."""
    monkeypatch.setattr("wup.gateway.session._HEARTBEAT_ANYWAY_S", 0.5)
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])

    async def talk() -> None:
        while True:
            engine.step()
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(talk())
    await client.until(lambda: len(client.heartbeats) >= 2, 4)
    talking.cancel()
    assert all(count == received for count, received in client.heartbeats)
    assert client.heartbeats[-1][0] > 20


async def test_an_owed_book_gets_no_deltas(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """Between `slow` and a book's snapshot nothing of that book comes; notices are a second apart."""
    client = await raw(gateway, limit=65536)
    client.op("subscribe", "s", books=[">"])
    await client.message("subscribed")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(90):
        mib(engine, 10)
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.8)
    for _ in range(30):
        engine.step()  # everything is owed now, so none of these may come
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    last: dict[str, int] = {}
    notices = conflated = 0
    async with asyncio.timeout(15):
        while conflated < 3:
            message = json.loads(await client.until(1))
            if message["type"] == "notice":
                notices += message["code"] == "slow"
            elif message["type"] in BOOK_KINDS:
                if message["type"] == "snapshot":
                    conflated += message["why"] == "conflated"
                else:
                    assert message["prev"] == last[message["book"]], (
                        "a delta of a book that is owed a snapshot"
                    )
                last[message["book"]] = message["seq"]
    assert 1 <= notices <= 4


async def test_on_slow_belongs_to_its_subscription(engine: Engine, gateway: Gateway, raw: Dial) -> None:
    """Slow on books without `on_slow:"disconnect"` does not close, whatever other subscriptions say."""
    client = await raw(gateway, limit=65536)
    client.op("subscribe", "1", books=["nobody.>"], on_slow="disconnect")
    client.op("subscribe", "2", books=[">"])
    await client.message("subscribed")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(90):
        mib(engine, 10)
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.8)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(15):
        assert (await client.message("notice"))["code"] == "slow"


class Faulty:
    """A transport that fails once a delta is to be written."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if b'"type":"delta"' in data:
            raise RuntimeError("injected")
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_server_fault_closes_1011(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """A fault of ours in writing to one client closes that one with 1011 and nobody else."""
    bad = await dial(gateway)
    (connection,) = gateway._core.connections()
    good = await dial(gateway)
    await bad.op("subscribe", books=[FED_25])
    await good.op("subscribe", books=[FED_25])
    await bad.until(lambda: bad.count == 1)
    assert connection._box is not None
    connection._box.transport = Faulty(connection._box.transport)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "1"]], [])
    await bad.until(lambda: bad.closed is not None)
    assert bad.closed == (1011, "server fault")
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "2"]], [])
    await good.until(lambda: good.count == 3)
    assert set(good.verdicts) == {"ok"}


async def test_overload_closes_1013(engine: Engine, start: Starter, raw: Dial, dial: Opener) -> None:
    """When more waits for all clients than may, those with the most waiting go, with 1013; others stay."""
    gateway = await start(Limits(ws_waiting_bytes=100_000))
    engine.marks()
    await ready(gateway)
    slow = await raw(gateway, limit=65536)
    slow.op("subscribe", "s", books=[">"])
    await slow.message("subscribed")
    fast = await dial(gateway)
    await fast.op("subscribe", books=[FED_50])
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (connection,) = [
        each for each in gateway._core.connections() if each._session.name != fast.answers[0]["connection"]
    ]  # type: ignore[union-attr]
    async with asyncio.timeout(20):
        while connection._session is not None and not connection._session.ended:
            # Little of it is for the other client: only what the slow one leaves lying can be too much.
            mib(engine, 30)
            await asyncio.sleep(0.01)
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await slow.close_code() == 1013
    assert (await fast.op("ping"))["type"] == "pong"
    assert set(fast.verdicts) <= {"ok", "ignored"}


async def test_overload_keeps_new_clients_out(gateway: Gateway, raw: Dial) -> None:
    """While the loop is late for a whole second new clients get 503 with `Retry-After`; then they may."""
    overload = gateway._core.overload
    overload.ticked(10.0, 0.2)
    assert not overload.busy
    overload.ticked(11.0, 0.2)
    assert overload.busy
    refused = await raw(gateway)
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    overload.ticked(11.1, 0.0)
    assert (await raw(gateway)).status == 101


def entry(token: str, *scopes: str) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": list(scopes)}


def write(path: Path, *entries: dict[str, Any]) -> str:
    path.write_bytes(orjson.dumps({"tokens": list(entries)}))
    path.chmod(0o600)
    return str(path)


async def test_narrowed_scopes_close_4403(
    engine: Engine, start: Starter, dial: Opener, tmp_path: Path
) -> None:
    """A token that no longer covers what is subscribed closes 4403; one that still does goes on, narrowed."""
    path = tmp_path / "tokens"
    one, two = "first-token", "second-token"
    gateway = await start(tokens_file=write(path, entry(one, ">"), entry(two, ">")))
    engine.marks()
    await ready(gateway)
    wide = await dial(gateway, additional_headers={"Authorization": f"Bearer {one}"})
    narrow = await dial(gateway, additional_headers={"Authorization": f"Bearer {two}"})
    await wide.op("subscribe", books=[">"])
    await narrow.op("subscribe", books=["fed-2026-12.>"])
    write(path, entry(one, "fed-2026-12.>"), entry(two, "fed-2026-12.>"))
    await wide.until(lambda: wide.closed is not None, 5)
    assert wide.closed is not None
    assert wide.closed[0] == 4403
    assert (await narrow.op("subscribe", books=[GAME]))["code"] == "forbidden"
    assert narrow.closed is None


async def test_connections_in_all(engine: Engine, start: Starter, raw: Dial) -> None:
    """Beyond the limit for all addresses together a client gets 503 with `Retry-After`."""
    gateway = await start(Limits(ws_connections=2))
    assert [(await raw(gateway)).status for _ in range(2)] == [101, 101]
    refused = await raw(gateway)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")


async def test_default_limits(gateway: Gateway, dial: Opener) -> None:
    """The defaults are the contract's, and the welcome tells those that a client can obey."""
    limits = Limits()
    assert (limits.ws_message_bytes, limits.ws_json_depth, limits.ws_rate, limits.ws_burst) == (
        65536,
        8,
        20,
        40,
    )
    assert (limits.ws_patterns, limits.ws_books) == (256, 5000)
    assert (limits.ws_per_address, limits.ws_connections, limits.ws_connects_per_second) == (32, 2000, 100)
    assert (limits.ws_heartbeat_ms, limits.ws_slow_bytes, limits.ws_slow_ms) == (1000, 1_048_576, 500)
    assert (limits.ws_snapshot_bytes, limits.ws_stuck_s) == (262_144, 10.0)
    assert (limits.ws_ping_s, limits.ws_pong_s) == (15.0, 10.0)
    assert (limits.ws_auth_s, limits.ws_first_subscribe_s) == (5.0, 30.0)
    client: PlainClient = await dial(gateway)
    assert client.answers[0]["limits"] == {"message_bytes": 65536, "patterns": 256, "books": 5000, "rate": 20}


async def test_duplicate_keys_are_refused(gateway: Gateway, dial: Opener) -> None:
    """A key that comes twice, at any depth, is `bad_json`: two readers could understand two things."""
    client = await dial(gateway)
    for text in (
        '{"op":"ping","id":"1","op":"list"}',
        '{"op":"ping","id":"1","x":{"a":1,"a":2}}',
        '{"op":"subscribe","id":"1","books":[">"],"depth":1,"depth":5}',
    ):
        client.answers.clear()
        await client.ws.send(text)
        assert (await client.answer("error"))["code"] == "bad_json"
    assert (await client.op("ping", x={"a": 1}, y={"a": 2}))["type"] == "pong"


async def test_a_loss_is_told_without_a_position(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """The gateway's own `status` of a lost book carries `by`, `down` and the reason, and no position."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    await client.op("subscribe", books=[FED_25], depth=1, every_ms=50)
    await client.until(lambda: client.count == 2)
    gateway._loss("slow_reader")
    await client.until(lambda: sum(b'"by":"gateway"' in text for text in client.raw) == 2)
    told = [json.loads(text) for text in client.raw if b'"by":"gateway"' in text]
    for message in told:
        assert message.keys() - {"depth", "every_ms"} == {"type", "book", "by", "state", "why", "ts"}
        assert (message["state"], message["why"]) == ("down", "gap")
    assert {message.get("depth") for message in told} == {None, 1}


async def test_ping_op_and_control_pings_are_both_answered(gateway: Gateway, raw: Dial) -> None:
    """The op `ping` gives `pong` with the server's time; a WebSocket ping gives a WebSocket pong."""
    client = await raw(gateway)
    client.op("ping", "p")
    pong = await client.message("pong")
    assert pong.keys() == {"type", "id", "ts"}
    client.send(frame(9, b"x" * 125))
    assert await client.until(10) == b"x" * 125
