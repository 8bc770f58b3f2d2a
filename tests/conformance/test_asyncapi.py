"""`/asyncapi.json`: a sound document, and every frame of a live conversation is one of its messages."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft7Validator

from conformance.conftest import Dial
from gateway.conftest import Starter, ready
from gateway.engine import FED_25, GAME, TABLE, Engine
from gateway.raw import RawClient, frame
from security.conftest import entry
from wup.gateway import Gateway, Limits
from wup.gateway.protocol import ERROR_CODES

Document = dict[str, Any]
CLIENT = ("subscribe", "unsubscribe", "resync", "auth", "list", "ping")


@pytest.fixture
async def document(gateway: Gateway) -> Document:
    """As it is served."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        answer = await client.get("/asyncapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: Document = answer.json()
    assert found["servers"]["gateway"]["host"] == f"127.0.0.1:{gateway.port}"
    return found


def resolve(document: Document, ref: str) -> Any:
    """What a `$ref` points to."""
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def refs(value: Any) -> list[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for item in value.values() for ref in refs(item)]
    return [ref for item in value for ref in refs(item)] if isinstance(value, list) else []


def strict(value: Any) -> Any:
    """The same schema without room for fields that it does not name."""
    if isinstance(value, list):
        return [strict(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: strict(item) for key, item in value.items()}
    if value.get("type") == "object" and "properties" in value:
        changed.setdefault("additionalProperties", False)
    return changed


class Judge:
    """Which message of the document a frame is."""

    def __init__(self, document: Document) -> None:
        components = strict(document["components"])
        self._validators = {
            name: Draft7Validator({**message["payload"], "components": components})
            for name, message in components["messages"].items()
        }
        self.seen: dict[str, int] = {}

    def matches(self, body: Any) -> list[str]:
        """The messages whose schema a frame obeys, with no field beyond."""
        return [name for name, validator in self._validators.items() if validator.is_valid(body)]

    def take(self, body: Any) -> None:
        """A frame must be exactly one message, the one that it says it is."""
        kind = body.get("type", body.get("op"))
        kind = "lost" if kind == "status" and "by" in body else kind
        if self.matches(body) != [kind]:
            errors = [error.message for error in self._validators[kind].iter_errors(body)]
            raise AssertionError(f"{kind}: matches {self.matches(body)}, {errors}, {json.dumps(body)[:500]}")
        self.seen[kind] = self.seen.get(kind, 0) + 1


async def test_the_document_is_sound(document: Document) -> None:
    """References resolve, nothing is unused, schemas are schemas, each message has an example of itself."""
    assert document["asyncapi"] == "3.0.0"
    assert document["info"].keys() >= {"title", "version", "description", "license"}
    used = refs(document)
    for ref in used:
        resolve(document, ref)
    for kind in ("messages", "schemas", "securitySchemes"):
        for name in document["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, f"{kind}/{name} is used nowhere"
    judge = Judge(document)
    for name, message in document["components"]["messages"].items():
        Draft7Validator.check_schema(message["payload"])
        assert message["name"] == message["title"] == name
        assert message["summary"].endswith(".")
        for example in message["examples"]:
            judge.take(example["payload"])
    assert judge.seen.keys() == document["components"]["messages"].keys()


async def test_every_op_code_and_message_is_described(document: Document) -> None:
    """Each op is an operation with its answers, each error code is named, each message is somebody's."""
    operations = document["operations"]
    assert operations.keys() == {*CLIENT, "stream"}
    for name in CLIENT:
        assert operations[name]["action"] == "receive"
        replies = [ref["$ref"].rpartition("/")[2] for ref in operations[name]["reply"]["messages"]]
        assert len(replies) == 2
        assert replies[1] == "error"
    assert set(document["components"]["schemas"]["errorCode"]["enum"]) == ERROR_CODES
    spoken = {ref.rpartition("/")[2] for ref in refs(operations) if "/messages/" in ref}
    assert (
        spoken
        == document["channels"]["stream"]["messages"].keys()
        == document["components"]["messages"].keys()
    )


async def test_live_frames_obey_the_document(
    engine: Engine, start: Starter, raw: Dial, document: Document, tmp_path: Path
) -> None:
    """Every kind of message, in both directions, occurs and is described to its last field."""
    judge = Judge(document)
    path = tmp_path / "tokens"
    path.write_text(json.dumps({"tokens": [entry("good", ">")]}))
    path.chmod(0o600)
    gateway = await start(
        Limits(ws_heartbeat_ms=200, ws_books=40, ws_rate=1_000, ws_burst=1_000), tokens_file=str(path)
    )
    engine.marks()
    await ready(gateway)
    client: RawClient = await raw(gateway, limit=65_536)
    client.writer.transport.set_write_buffer_limits(high=1 << 20)
    number = 0

    def op(name: str, **more: Any) -> None:
        nonlocal number
        number += 1
        body = {"op": name, "id": f"i{number}", **more}
        if number not in wrong:
            judge.take(body)
        client.send(frame(1, json.dumps(body).encode()))

    async def until(kind: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                opcode, payload = await client.frame()
                assert opcode == 1, (opcode, payload)
                body: dict[str, Any] = json.loads(payload)
                judge.take(body)
                if kind in (body["type"], body.get("code"), "lost" if "by" in body else None):
                    return body

    wrong = {1, 3, 8}
    await until("welcome")
    op("subscribe", books=["a..b"])
    op("auth", token="good")
    op("dance")
    await until("authenticated")
    op("subscribe", books=[">"], trades=True)
    op("subscribe", books=["*.*.no"], depth=5, every_ms=50, on_slow="conflate")
    op("list", match="fed-2026-12.>", after=None)
    op("ping")
    op("resync", books=["no-such.book.yes", 7])
    op("resync", books=[FED_25])
    for kind in ("subscribed", "books", "pong", "error", "resynced"):
        await until(kind)
    for _ in range(120):
        engine.step()
        if _ % 10 == 0:
            await asyncio.sleep(0.01)
    engine.normalised("trade", "kalshi", "KXNBA-LAL", price="0.53", size="10", side="buy", id="0723be0d")
    await until("trade")
    engine.normalised("state", "kalshi", "KXNBA-LAL", state="halted", why="halted")
    await until("status")
    gateway._loss("slow_reader")
    await until("lost")
    engine.publish(engine.store.resolve(GAME, "yes", engine.now_us))
    await until("status")
    await until("heartbeat")
    more = [("kalshi", f"KXM-{n}", f"more-2027.{n:016x}.yes", False) for n in range(60)]
    engine.publish(engine.store.set_mapping(413, [*TABLE, *more], engine.now_us))
    await until("books_limit")
    op("unsubscribe", books=["*.*.no"])
    await until("unsubscribed")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for turn in range(900):
        engine.bulk()
        if turn % 10 == 0:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.8)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await until("slow")
    stopping = asyncio.create_task(gateway.stop())
    await until("going_away")
    await stopping
    assert judge.seen.keys() == document["components"]["messages"].keys()
    assert judge.seen["delta"] > 50


async def test_what_is_not_described_is_found(document: Document) -> None:
    """A field too many, one missing, a float, an unknown word: each is no message of the document."""
    judge = Judge(document)
    good = document["components"]["messages"]["delta"]["examples"][0]["payload"]
    assert judge.matches(good) == ["delta"]
    for key, value in (
        ("colour", "red"), ("seq", 1.5), ("digest", 2**32), ("state", "stale"), ("bids", [["0.50", "1", {}]]),
        ("bids", [["0.5", 1, {}]]), ("book", "a.b.maybe"), ("ts", {"book": "now"}), ("depth", 3),
    ):  # fmt: skip
        assert judge.matches({**good, key: value}) == [], key
    for key in ("prev", "seq", "digest", "bids", "ts"):
        short = copy.deepcopy(good)
        del short[key]
        assert judge.matches(short) == [], key
