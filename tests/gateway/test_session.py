"""Every operation, answer, rule and code of wire.md section 4, over real connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson

from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.plain import PlainClient
from wup.gateway import Gateway, Limits
from wup.metrics import FAULTS

NO_25 = FED_25.removesuffix(".yes") + ".no"


async def bad(client: PlainClient, name: str, **more: Any) -> tuple[str, int | None]:
    """(code, at) of the error that an operation gets."""
    answer = await client.op(name, **more)
    assert answer["type"] == "error", answer
    assert isinstance(answer["message"], str)
    assert isinstance(answer["retry"], bool)
    return answer["code"], answer.get("at")


async def test_welcome(gateway: Gateway, dial: Opener) -> None:
    """The first message says the protocol, the connection's name and the limits."""
    client = await dial(gateway, subprotocols=["wup.v1"])
    welcome = client.answers[0]
    assert welcome["type"] == "welcome"
    assert welcome["protocol"] == client.ws.subprotocol == "wup.v1"
    assert welcome["connection"].startswith("c-")
    assert welcome["heartbeat_ms"] == 1000
    assert welcome["limits"] == {"message_bytes": 65536, "patterns": 256, "books": 5000, "rate": 20}
    assert isinstance(welcome["ts"], int)


async def test_other_subprotocol_is_no_error(gateway: Gateway, dial: Opener) -> None:
    """A client that offers no protocol of ours is served without one."""
    client = await dial(gateway, subprotocols=["chat"])
    assert client.ws.subprotocol is None


async def test_ping(gateway: Gateway, dial: Opener) -> None:
    """`ping` is answered by `pong` with its id."""
    client = await dial(gateway)
    answer = await client.op("ping")
    assert answer["type"] == "pong"
    assert isinstance(answer["ts"], int)


PATTERNS: list[tuple[str, set[str]]] = [
    (">", {FED_25, FED_50, GAME}),
    ("fed-2026-12.>", {FED_25, FED_50}),
    ("*.*.yes", {FED_25, FED_50, GAME}),
    ("*.77d4e1b0c3f2a695.*", {GAME}),
    ("fed-2026-12.*.no", {FED_25[:-3] + "no", FED_50[:-3] + "no"}),
    (FED_25, {FED_25}),
    (NO_25, {NO_25}),
    ("kalshi:KXNBA-BOS", {GAME}),
    ("nothing.>", set()),
]


async def test_patterns(gateway: Gateway, dial: Opener) -> None:
    """Each kind of pattern gives one snapshot per matching book, and `matched` says how many (rule 1)."""
    for pattern, books in PATTERNS:
        wanted = len(books)
        client = await dial(gateway)
        answer = await client.op("subscribe", books=[pattern])
        assert answer["matched"] == len(books), pattern
        await client.until(lambda c=client, n=wanted: len(c.books) == n)
        await client.op("ping")
        assert {key[0] for key in client.books} == books
        assert all(book.history == ["snapshot:subscribe"] for book in client.books.values())


BAD_PATTERNS = [
    "", "a", "a.b", "a.b.maybe", "a.b.c.>", ">.b", "a.>.yes", "a..yes", "a b.c.yes", "_x.b.yes", "*", "*.*",
    "kalshi:", ":KX", "KALSHI:x", "a" * 65 + ".b.yes", "é.b.yes",
]  # fmt: skip


async def test_bad_patterns(gateway: Gateway, dial: Opener) -> None:
    """What is no pattern is refused with its place, and nothing of the message is done (rule 3)."""
    client = await dial(gateway)
    for pattern in BAD_PATTERNS:
        assert await bad(client, "subscribe", books=[">", pattern]) == ("bad_pattern", 1), pattern
    assert await bad(client, "unsubscribe", books=[">"]) == ("not_subscribed", 0)
    assert client.count == 0


async def test_overlapping_patterns_deliver_once(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """A stream matched by several patterns comes once, until the last of them is gone (rule 2)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[">", FED_25, "fed-2026-12.*.yes"])
    await client.until(lambda: len(client.books) == 3)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    await client.until(lambda: client.count == 4)
    await client.op("unsubscribe", books=[">"])
    engine.update("kalshi", "KXNBA-LAL", [["0.41", "7"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "8"]], [])
    await client.until(lambda: client.count == 5)
    await client.op("unsubscribe", books=[FED_25, "fed-2026-12.*.yes"])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "9"]], [])
    await client.op("ping")
    assert client.count == 5
    assert set(client.verdicts) == {"ok"}


async def test_already_and_not_subscribed(gateway: Gateway, dial: Opener) -> None:
    """The same pattern with the same options twice is refused; other options are another subscription."""
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    assert await bad(client, "subscribe", books=["*.*.yes", ">"]) == ("already_subscribed", 1)
    assert await bad(client, "subscribe", books=["a.>", "a.>"]) == ("already_subscribed", 1)
    answer = await client.op("subscribe", books=[">"], depth=1)
    assert answer["type"] == "subscribed"
    assert await bad(client, "unsubscribe", books=[">", "*.*.yes"]) == ("not_subscribed", 1)
    await client.op("unsubscribe", books=[">"])
    assert await bad(client, "unsubscribe", books=[">"]) == ("not_subscribed", 0)


async def test_late_book_joins(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """A book that appears later joins with `why:"join"`; so does an id or asset asked for before (rule 1)."""
    late = "cup-2027.aaaabbbbccccdddd.yes"
    wild, named, asset = await dial(gateway), await dial(gateway), await dial(gateway)
    assert (await wild.op("subscribe", books=["cup-2027.>"]))["matched"] == 0
    assert (await named.op("subscribe", books=[late]))["matched"] == 0
    assert (await asset.op("subscribe", books=["kalshi:KXCUP"]))["matched"] == 0
    table = [*TABLE, ("kalshi", "KXCUP", late, False)]
    engine.publish(engine.store.set_mapping(413, table, engine.now_us))
    engine.snapshot("kalshi", "KXCUP", [["0.4", "10"]], [["0.6", "10"]])
    for client in (wild, named, asset):
        await client.until(lambda c=client: (late, None, None) in c.books and c.books[late, None, None].bids)
        assert client.books[late, None, None].history[0] == "snapshot:join"
        assert set(client.verdicts) == {"ok"}


async def test_resync(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """`resync` gives a fresh snapshot after its answer; only for books of this connection (rule 7)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25, "fed-2026-12.*.no"])
    await client.until(lambda: len(client.books) == 3)
    answer = await client.op("resync", books=[FED_25, NO_25])
    assert answer == {"type": "resynced", "id": answer["id"], "books": [FED_25, NO_25]}
    for name in (FED_25, NO_25):
        book = client.books[name, None, None]
        await client.until(lambda b=book: b.history[-1] == "snapshot:resync")
    assert await bad(client, "resync", books=[FED_25, GAME]) == ("unknown_book", 1)
    assert await bad(client, "resync", books=["no-such.book.yes"]) == ("unknown_book", 0)
    assert await bad(client, "resync", books=[">"]) == ("unknown_book", 0)
    assert set(client.verdicts) == {"ok"}


async def test_list(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """`list` names matching books with title, label and state, in order, from `after` on."""
    engine.store.describe(FED_25, "Fed decision in December", "25 bps decrease")
    table = [*TABLE, ("polymarket", "1", FED_25, True)]
    engine.publish(engine.store.set_mapping(413, table, engine.now_us))
    client = await dial(gateway)
    answer = await client.op("list", match="fed-2026-12.>", after=None)
    assert [book["book"] for book in answer["books"]] == sorted([FED_25, FED_50])
    assert answer["next"] is None
    described = next(book for book in answer["books"] if book["book"] == FED_25)
    assert described == {
        "book": FED_25,
        "title": "Fed decision in December",
        "label": "25 bps decrease",
        "state": "degraded",
    }
    answer = await client.op("list", match=">", after=FED_25)
    assert [book["book"] for book in answer["books"]] == [GAME]
    answer = await client.op("list", match="*.*.no")
    assert answer["books"][0]["book"].endswith(".no")
    assert await bad(client, "list", match="a..b") == ("bad_pattern", None)


async def test_trades(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """With `trades` the trades of the books come, mirrored in a NO view, counted, and only then."""
    yes, no, without = await dial(gateway), await dial(gateway), await dial(gateway)
    await yes.op("subscribe", books=[FED_25], trades=True)
    await no.op("subscribe", books=[NO_25], trades=True)
    await without.op("subscribe", books=[FED_25])
    engine.normalised(
        "trade", "kalshi", "KXFED-26DEC-C25", price="0.53", size="10", side="buy", id="0723be0d"
    )
    await yes.until(lambda: yes.trades)
    await no.until(lambda: no.trades)
    trade = yes.trades[0]
    assert (trade["price"], trade["size"], trade["side"], trade["id"]) == ("0.53", "10", "buy", "0723be0d")
    assert (trade["book"], trade["platform"], trade["asset"]) == (FED_25, "kalshi", "KXFED-26DEC-C25")
    assert (no.trades[0]["price"], no.trades[0]["book"]) == ("0.47", NO_25)
    await without.op("ping")
    assert without.trades == []
    await yes.until(lambda: yes.heartbeats, 3)
    assert yes.heartbeats[-1] == (2, 2)


BAD_MESSAGES = [
    ("{", "bad_json"),
    ("nonsense", "bad_json"),
    ("[]", "bad_request"),
    ("7", "bad_request"),
    ("{}", "bad_request"),
    ('{"op":"ping"}', "bad_request"),
    ('{"op":"ping","id":""}', "bad_request"),
    ('{"op":"ping","id":7}', "bad_request"),
    ('{"op":"ping","id":"' + "x" * 37 + '"}', "bad_request"),
    ('{"op":"ping","id":"\\u0007"}', "bad_request"),
    ('{"op":"dance","id":"1"}', "unknown_op"),
    ('{"op":["ping"],"id":"1"}', "bad_request"),
    ('{"op":"subscribe","id":"1"}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[]}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":">"}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">",7]}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"depth":3}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"depth":true}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"depth":"5"}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"every_ms":51}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"trades":1}', "bad_request"),
    ('{"op":"subscribe","id":"1","books":[">"],"on_slow":"wait"}', "bad_request"),
    ('{"op":"auth","id":"1"}', "bad_request"),
    ('{"op":"list","id":"1","match":7}', "bad_request"),
    ('{"op":"list","id":"1","after":7}', "bad_request"),
    ('{"op":"ping","id":"1","x":[[[[[[[[[]]]]]]]]]}', "bad_request"),
]


async def test_bad_messages(gateway: Gateway, dial: Opener) -> None:
    """A message that cannot be done gets one error with its code, is counted, and the connection goes on
    (rule 7)."""
    for first in range(0, len(BAD_MESSAGES), 10):
        client = await dial(gateway)
        for text, code in BAD_MESSAGES[first : first + 10]:
            client.answers.clear()
            before = FAULTS.labels(code)._value.get()
            await client.ws.send(text)
            error = await client.answer("error")
            assert error["code"] == code, text
            assert FAULTS.labels(code)._value.get() == before + 1
            assert error["retry"] is False
        assert (await client.op("ping"))["type"] == "pong"


async def test_unknown_fields_are_ignored(gateway: Gateway, dial: Opener) -> None:
    """Fields that nobody knows do not matter, up to the allowed nesting of 8."""
    client = await dial(gateway)
    answer = await client.op("subscribe", books=[FED_25], colour="red", x=[[[[[[[]]]]]]])
    assert answer["type"] == "subscribed"


async def test_pattern_and_book_limits(engine: Engine, start: Starter, dial: Opener) -> None:
    """Patterns and books beyond the limits are refused whole; later growth is left out with a notice."""
    gateway = await start(Limits(ws_patterns=2, ws_books=3))
    client = await dial(gateway)
    await ready(gateway)
    assert await bad(client, "subscribe", books=["a.>", "b.>", "c.>"]) == ("too_many_patterns", 2)
    assert await bad(client, "subscribe", books=[">", "fed-2026-12.*.no"]) == ("too_many_books", 1)
    assert (await client.op("subscribe", books=[">"]))["matched"] == 3
    table = [*TABLE, ("kalshi", "KXCUP", "cup-2027.aaaabbbbccccdddd.yes", False)]
    engine.publish(engine.store.set_mapping(413, table, engine.now_us))
    notice = await client.answer("notice")
    assert notice["code"] == "books_limit"
    await client.op("ping")
    assert len(client.books) == 3


async def test_twenty_bad_messages_close_4400(gateway: Gateway, dial: Opener) -> None:
    """Twenty messages that cannot be read within ten seconds end the connection with 4400."""
    client = await dial(gateway)
    for _ in range(20):
        await client.ws.send("{")
    await client.until(lambda: client.closed is not None)
    assert client.closed is not None
    assert client.closed[0] == 4400
    assert sum(answer.get("code") == "bad_json" for answer in client.answers) == 20


async def test_message_rate(gateway: Gateway, dial: Opener) -> None:
    """A burst over the rate gets `rate_limited` once more than allowed; going on closes 4429."""
    client = await dial(gateway)
    for index in range(45):
        await client.ws.send(json.dumps({"op": "ping", "id": f"p{index}"}))
    await client.until(lambda: sum(a.get("id", "").startswith("p") for a in client.answers) == 45)
    refused = [answer for answer in client.answers if answer.get("code") == "rate_limited"]
    assert 1 <= len(refused) <= 5
    assert all(answer["retry"] for answer in refused)
    await asyncio.sleep(0.06)
    for index in range(45):
        await client.ws.send(json.dumps({"op": "ping", "id": f"q{index}"}))
        if client.closed is not None:
            break
    await client.until(lambda: client.closed is not None)
    assert client.closed is not None
    assert client.closed[0] == 4429


async def test_deadlines(engine: Engine, start: Starter, dial: Opener) -> None:
    """No first subscribe in time closes 4408; no pong in time closes 4491."""
    gateway = await start(Limits(ws_first_subscribe_s=0.2))
    client = await dial(gateway)
    await client.until(lambda: client.closed is not None, 3)
    assert client.closed is not None
    assert client.closed[0] == 4408


async def test_going_away(engine: Engine, start: Starter, dial: Opener) -> None:
    """A stop says `going_away`, flushes, closes 1012 and takes well under ten seconds (rule 8)."""
    gateway = await start()
    client = await dial(gateway)
    await client.op("subscribe", books=[">"])
    await client.until(lambda: len(client.books) == 3)
    for _ in range(50):
        engine.step()
    began = asyncio.get_running_loop().time()
    await gateway.stop()
    assert asyncio.get_running_loop().time() - began < 5
    await client.until(lambda: client.closed is not None)
    assert client.closed == (1012, "restart")
    notice = await client.answer("notice")
    assert notice == {"type": "notice", "code": "going_away", "in_ms": 5000, "jitter_ms": 5000}
    assert set(client.verdicts) == {"ok"}
    book = client.books[FED_25, None, None]
    assert book.seq == orjson.loads(engine.store.snapshot(FED_25))["seq"]


async def test_lost_bus_message_is_told_and_repaired(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """Readers of a book with a hole are told, get a snapshot `gap`, and are exact (rule 5)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25, NO_25])
    await client.op("subscribe", books=[FED_25], depth=5)
    await client.until(lambda: len(client.books) == 3)
    engine.lose = 1
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.42", "8"]], [])
    await client.until(lambda: all(b.history[-1] == "snapshot:gap" for b in client.books.values()))
    for book in client.books.values():
        assert book.history == ["snapshot:subscribe", "status:gap", "snapshot:gap"]
        assert book.exact
    assert set(client.verdicts) == {"ok", "ignored"}


async def test_random_operations_stay_exact(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """Subscribing, unsubscribing, resync and lost messages in any order never give a wrong exact book."""
    client = await dial(gateway)
    rng = engine._rng
    patterns = [">", "*.*.no", FED_25, NO_25, "fed-2026-12.>", "kalshi:KXNBA-BOS"]
    held: set[str] = set()
    for turn in range(30):
        for _ in range(10):
            if rng.random() < 0.02:
                engine.lose = 1
            engine.step()
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        pattern = rng.choice(patterns)
        if pattern in held:
            assert (await client.op("unsubscribe", books=[pattern]))["type"] == "unsubscribed"
            held.discard(pattern)
        else:
            assert (await client.op("subscribe", books=[pattern]))["type"] == "subscribed"
            held.add(pattern)
        if turn % 5 == 0:
            await asyncio.sleep(0.25)  # stay under the message rate
    engine.lose = 0
    for pattern in held:
        await client.op("unsubscribe", books=[pattern])
    await asyncio.sleep(0.5)
    client.books.clear()
    await client.op("subscribe", books=[">", "*.*.no"])
    await client.until(lambda: len(client.books) == 6)
    assert client.verdicts.get("broken", 0) == 0
    assert client.verdicts.get("gap", 0) == 0


async def test_a_client_that_leaves_takes_no_stream_of_another(
    engine: Engine, gateway: Gateway, dial: Opener
) -> None:
    """While one client is owed a snapshot, another leaves the same stream: the first goes on reading it."""
    leaves, stays = await dial(gateway), await dial(gateway)
    await leaves.op("subscribe", books=[NO_25])
    await leaves.until(lambda: leaves.count == 1)
    await stays.op("subscribe", books=[NO_25])
    await stays.until(lambda: stays.count == 1)
    (box,) = [
        connection._box
        for connection in gateway._core.connections()
        if connection._session is not None and connection._session.name == stays.answers[0]["connection"]
    ]
    assert box is not None
    stream = gateway._mirrors.books[FED_25].streams[True, None, None]
    stream.want(box, "resync")
    box.pause()  # the debt cannot be paid yet
    await leaves.op("unsubscribe", books=[NO_25])
    box.resume(0.0)
    await stays.until(lambda: stays.count == 2)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    await stays.until(lambda: stays.count == 3)
    assert stays.verdicts == {"ok": 3}
    await stays.op("unsubscribe", books=[NO_25])
    assert gateway._mirrors.books[FED_25].streams == {}
