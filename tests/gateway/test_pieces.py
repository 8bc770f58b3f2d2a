"""Operations over many books are done in pieces: nobody waits for all of one, and no rule is lost by that."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.desk import Calls, Client, Desk, table, verify
from wup.clock import SYSTEM_CLOCK
from wup.gateway import Limits, chores, reading
from wup.gateway.stream import Stream

BOOKS = 1_200
MOST = 20_000
"""Calls of functions in one turn of the loop. A portion takes half of them, all books many times as many."""

LARGE: list[tuple[str, dict[str, Any]]] = [
    ("subscribe", {"books": [">"]}),
    ("subscribe", {"books": ["*.>", "*.*.*", "big-2027.>", "big-2027.*.no"], "trades": True}),
    ("subscribe", {"books": [f"big-2027.{n:016x}.yes" for n in range(900)]}),
    ("resync", {"books": [f"big-2027.{n:016x}.yes" for n in range(900)]}),
    ("list", {}),
    ("list", {"match": "*.*.no", "after": "big"}),
    ("subscribe", {"books": ["*.>", "*.*.*", ">"], "every_ms": 1000}),
    ("unsubscribe", {"books": ["*.>", ">", "big-2027.*.no"]}),
]


async def large(desk: Desk) -> tuple[Calls, Client]:
    """Every large operation at once, then the end of the connection."""
    client = Client(desk)
    with Calls() as calls:
        for number, (name, more) in enumerate(LARGE):
            client.op(name, str(number), **more)
        await desk.settled()
        client.session.end()
        await desk.settled()
    assert None not in [client.answered(str(number)) for number in range(len(LARGE))]
    return calls, client


async def test_no_turn_of_the_loop_does_all_of_a_large_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a client asks of thousands of books, and when it goes, one turn of the loop does a portion.
    The measure sees the difference: without portions a turn does many times as much."""
    desk = Desk(Limits(ws_rate=1_000_000, ws_burst=1_000_000, ws_books=10_000, ws_patterns=2_000))
    desk.map(*table(BOOKS))
    calls, client = await large(desk)
    assert calls.most < MOST, calls.most
    assert [client.answered(str(number)) for number in range(len(LARGE))] == [
        *("subscribed", "subscribed", "subscribed", "resynced", "books", "books", "subscribed"),
        "unsubscribed",
    ]
    assert desk.hub._wild == desk.hub._named == {}
    assert not any(book.streams for book in desk.mirrors.books.values())
    monkeypatch.setattr(chores, "PER_TURN", 1_000_000)
    desk.hub.chores._room = 1_000_000
    unsliced, _ = await large(desk)
    assert unsliced.most > 5 * MOST


async def test_a_first_subscribe_under_way_is_one() -> None:
    """Who asked in time is not closed for the time that the answer takes."""
    desk = Desk(Limits(ws_books=10_000))
    desk.map(*table(BOOKS))
    client = Client(desk)
    client.op("subscribe", "1", books=[">"])
    client.session.check(SYSTEM_CLOCK.monotonic() + 31)
    assert client.closed is None
    await desk.settled()
    assert client.answered("1") == "subscribed"


async def test_a_fault_of_ours_closes_and_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that nothing would answer any more is told so: 1011."""
    desk = Desk(Limits())
    client = Client(desk)

    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(client.session, "_answer", fails)
    client.op("list", "1")
    await desk.settled()
    assert client.closed == 1011


async def test_what_waits_is_left_in_the_socket() -> None:
    """While an operation is under way the next ones wait, at most one message's worth of them here; all are
    answered, in order, and then the socket is read again."""
    desk = Desk(Limits(ws_rate=1_000_000, ws_burst=1_000_000, ws_message_bytes=4_096))
    desk.map(*table(1_000))
    client = Client(desk)
    client.op("subscribe", "0", books=[">"])
    sent = 0
    while not client.held:
        sent += 1
        client.op("ping", str(sent), pad="x" * 100)
    assert sent < 40
    assert client.answered("0") is None
    await desk.settled()
    assert client.held == 0
    answers = [message["id"] for message in client.messages if "id" in message]
    assert answers == [str(number) for number in range(sent + 1)]


async def test_no_pong_is_not_held_against_a_client_that_is_not_read() -> None:
    """While the gateway does not read, it cannot see the pong: the clock of 4491 starts anew afterwards."""
    desk = Desk(Limits(ws_rate=1_000_000, ws_burst=1_000_000, ws_message_bytes=1_024))
    desk.map(*table(1_000))
    client = Client(desk)
    now = client.session._pinged_at
    client.session.check(now + 15)
    assert client.session._ping is not None
    client.op("subscribe", "0", books=[">"])
    client.op("ping", "1", pad="x" * 2_000)
    assert client.held
    client.session._reading.ever = True
    client.session.check(now + 26)
    assert client.closed is None
    await desk.settled()
    assert not client.held
    client.session.check(client.session._pinged_at + 9)
    assert client.closed is None
    client.session.check(client.session._pinged_at + 10)
    assert client.closed == 4491


async def test_a_book_that_comes_or_goes_during_a_subscribe() -> None:
    """A book that appears, goes, or leaves its asset while a subscribe is under way: the first comes once,
    the others not at all, at every point that the subscribe can have reached."""
    for turn in range(9):
        desk = Desk()
        rows = table(600)
        desk.map(*rows)
        client = Client(desk)
        last = rows[-1]
        client.op("subscribe", "1", books=["kalshi:K599", "big-2027.>"])
        await desk.turns(turn)
        before = len(client.messages)
        new = ("kalshi", "K-new", "big-2027.aaaabbbbccccdddd.yes", False)
        gone, moved = rows[598][2], "small-2027.0000000000000001.yes"
        desk.forget(gone)
        desk.map(*rows[:-1], (last[0], last[1], moved, False), new)
        await desk.settled()
        assert client.answered("1") == "subscribed"
        seen = [message["book"] for message in client.messages if message["type"] == "snapshot"]
        assert seen.count(new[2]) == 1
        later = [m for m in client.messages[before:] if m.get("book") == gone]
        assert later == []
        assert moved in seen  # by its asset
        client.op("unsubscribe", "2", books=["kalshi:K599", "big-2027.>"])
        await desk.settled()
        assert client.session._reading._uses == {}
        assert client.session._reading._claims == set()


async def test_an_end_at_any_point_leaves_nothing_behind() -> None:
    """A client that goes while its subscribe is being counted, joined or taken back leaves no stream, no
    subscription and no reader."""
    desk = Desk()
    desk.map(*table(400))
    for turn in range(12):
        client = Client(desk)
        client.op("subscribe", "1", books=[">", "*.*.no"], trades=True)
        client.op("unsubscribe", "2", books=[">"])
        await desk.turns(turn)
        client.session.end()
        await desk.settled()
        assert desk.hub._wild == desk.hub._named == {}
        for book in desk.mirrors.books.values():
            assert book.streams == {}
            assert not any(feed.readers for feed in book.trades.values())


async def test_a_refused_subscribe_leaves_nothing_behind() -> None:
    """An entry that is refused after others were counted takes their room and their place back."""
    desk = Desk(Limits(ws_rate=1_000_000, ws_burst=1_000_000, ws_books=500))
    desk.map(*table(400))
    client = Client(desk)
    client.op("subscribe", "1", books=[">", "*.*.no"])
    client.op("subscribe", "2", books=[">", "a..b"])
    client.op("subscribe", "3", books=[">"])
    await desk.settled()
    assert [client.answered(op) for op in "123"] == ["too_many_books", "bad_pattern", "subscribed"]
    assert sum(len(held) for held in desk.hub._wild.values()) == 1
    assert client.session._reading._claims == set()
    assert len(verify(client.raw)) == 400


async def test_a_fault_after_the_answer_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails after the one answer was given cannot be answered again: the connection is closed 1011."""
    desk = Desk()
    desk.map(*table(300))
    client = Client(desk)

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Stream, "want", fail)
    client.op("subscribe", "1", books=[">"])
    await desk.settled()
    assert client.answered("1") == "subscribed"
    assert client.closed == 1011


@pytest.mark.parametrize("seed", range(12))
async def test_any_order_of_things_during_large_operations(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscribes, unsubscribes, resyncs and lists of two clients, with changes, losses and books that come
    and go between any two turns: every operation has one answer, in order, every message leads on exactly,
    nothing comes for what was left, and in the end every copy is the store's."""
    monkeypatch.setattr(chores, "PER_TURN", 15)
    monkeypatch.setattr(chores, "AT_ONCE", 5)
    monkeypatch.setattr(reading, "AT_ONCE", 5)
    rng = random.Random(seed)
    desk = Desk()
    rows = table(60)
    desk.map(*rows)
    for row in rows[::3]:
        desk.update(row[1], "0.5", "10")
    clients = [Client(desk), Client(desk)]
    sent: list[list[str]] = [[], []]
    wants: list[set[str]] = [set(), set()]
    texts = [">", "*.>", "big-2027.>", "*.*.*", rows[7][2], "kalshi:K8", "big-2027.*.no"]
    extra = 0
    for step in range(120):
        who = rng.randrange(2)
        client = clients[who]
        op_id = str(len(sent[who]))
        luck = rng.random()
        if luck < 0.25:
            some = rng.sample(texts, rng.randint(1, 3))
            client.op("subscribe", op_id, books=some)
            if not wants[who] & set(some):
                wants[who] |= set(some)
            sent[who].append(op_id)
        elif luck < 0.4 and wants[who]:
            some = rng.sample(sorted(wants[who]), rng.randint(1, len(wants[who])))
            wants[who] -= set(some)
            client.op("unsubscribe", op_id, books=some)
            sent[who].append(op_id)
        elif luck < 0.5:
            client.op("resync", op_id, books=[row[2] for row in rng.sample(rows, 30)])
            sent[who].append(op_id)
        elif luck < 0.55:
            client.op("list", op_id)
            sent[who].append(op_id)
        elif luck < 0.65:
            extra += 1
            rows = [*rows, ("kalshi", f"X{extra}", f"big-2027.{extra:015x}e.yes", False)]
            desk.map(*rows)
        elif luck < 0.7:
            desk.lose(rng.choice(rows)[2])
        for _ in range(rng.randint(0, 30)):
            desk.update(rng.choice(rows)[1], f"0.{rng.randint(1, 9)}", str(rng.randint(1, 9)))
        if step % 3 == 0:
            await desk.turns(rng.randint(0, 6))
    await desk.settled()
    for who, client in enumerate(clients):
        answers = [message["id"] for message in client.messages if "id" in message]
        assert answers == sent[who]
        assert client.closed is None
        mirrors = verify(client.raw)
        assert {text for text, _ in client.session._reading.subscriptions} == wants[who]
        held = {stream.name for stream in client.session._reading._uses}
        for name in held:
            mirror = mirrors[name, None]
            truth = json.loads(desk.store.snapshot(name.replace(".no", ".yes")))
            assert (mirror.epoch, mirror.seq, mirror.digest) == (
                truth["epoch"],
                truth["seq"],
                truth["digest"],
            )
        # What was left gets nothing more.
        mark = len(client.messages)
        for row in rng.sample(rows, 40):
            desk.update(row[1], "0.9", str(rng.randint(10, 99)))
        await desk.settled()
        assert {m["book"] for m in client.messages[mark:] if "book" in m} <= held
