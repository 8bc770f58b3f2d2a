"""Slow readers (wire.md section 4 rule 6): bounded, conflated, never in the way of others."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from typing import Any

import pytest

from gateway.conftest import Opener, Starter, ready
from gateway.desk import Calls, Client, Desk, table, verify
from gateway.engine import FED_25, TABLE, Engine
from gateway.plain import PlainBook
from gateway.raw import RawClient, frame
from wup.gateway import Gateway, Limits
from wup.gateway.frame import Control


async def stopped(gateway: Gateway, books: list[str], **options: Any) -> RawClient:
    """A client that subscribes and then does not read."""
    client = await RawClient.open(gateway.port, limit=65536)
    sock: socket.socket = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.op("subscribe", "s", books=books, **options)
    await client.message("subscribed")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def flood(engine: Engine, turns: int) -> None:
    """Enough changes to fill any buffer, with the loop let in between."""
    for turn in range(turns):
        engine.bulk()
        if turn % 10 == 0:
            await asyncio.sleep(0.001)


async def read_all(client: RawClient, until: Any) -> tuple[dict[str, PlainBook], list[dict[str, Any]]]:
    """Start to read again; keep books and the other messages until a condition holds."""
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    books: dict[str, PlainBook] = {}
    others: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while not until(books, others):
            opcode, payload = await client.frame()
            if opcode == -1:
                break
            if opcode == 9:
                client.send(frame(10, payload))
            if opcode != 1:
                continue
            message = json.loads(payload)
            if message["type"] in ("snapshot", "delta", "status"):
                book = books.setdefault(message["book"], PlainBook(message["book"], False))
                assert book.apply(message) in ("ok", "ignored")
            else:
                others.append(message)
    return books, others


async def test_slow_reader_is_conflated(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """Deltas of a reader that stops are dropped, it is told, gets snapshots `conflated` and ends exact."""
    client = await stopped(gateway, [">"])
    fast = await dial(gateway)
    await fast.op("subscribe", books=[">"])
    await flood(engine, 800)
    await asyncio.sleep(0.8)
    seq = {book: int(json.loads(engine.store.snapshot(book))["seq"]) for book in engine.store.books()}
    await fast.until(lambda: all(fast.books[b, None, None].seq == seq[b] for b in seq))
    assert set(fast.verdicts) == {"ok"}

    def caught_up(books: dict[str, PlainBook], _: object) -> bool:
        return len(books) == 3 and all(book.exact and book.seq == seq[b] for b, book in books.items())

    books, others = await read_all(client, caught_up)
    notices = [message for message in others if message["type"] == "notice"]
    assert notices
    assert all(notice["code"] == "slow" and notice["books"] >= 1 for notice in notices)
    assert any("snapshot:conflated" in book.history for book in books.values())
    await client.close()


async def test_a_slow_reader_delays_nobody() -> None:
    """A change is written to the other clients in the very turn of the loop in which it came, whatever waits
    for stopped ones, also in the turns in which their messages are dropped."""
    desk = Desk(Limits(ws_slow_bytes=20_000))
    desk.map(*table(3))
    stopped, fast = [Client(desk) for _ in range(5)], Client(desk)
    for client in (*stopped, fast):
        client.op("subscribe", "1", books=[">"])
    await desk.settled()
    for client in stopped:
        client.session.box.pause()
    with Calls() as calls:
        for change in range(600):
            before = len(fast.messages)
            desk.update("K1", "0.4", str(change + 1))
            await desk.turns(1)
            assert len(fast.messages) > before, change
    assert calls.most < 2_000
    assert all(client.session.box.owed for client in stopped), "nothing was dropped"
    verify(fast.raw)


@pytest.mark.parametrize("dropped", [False, True])
async def test_a_reader_that_is_always_behind_gets_its_heartbeat(dropped: bool) -> None:
    """Every five seconds in any case (rule 4): what waits does not hold it back, nor what is dropped, and its
    count is of what was written before it."""
    desk = Desk(Limits() if dropped else Limits(ws_slow_bytes=10_000_000, ws_slow_ms=3_600_000))
    desk.map(*table(3))
    client = Client(desk)
    client.op("subscribe", "1", books=[">"])
    await desk.settled()
    box = client.session.box
    box.pause()
    now = client.session._heartbeat_at
    for turn in range(40):
        for _ in range(10):
            desk.update(f"K{turn % 3}", "0.4", str(turn + 1))
        await desk.turns(2)
        now += 0.3
        box.progress_at = now
        client.session.check(now)
        if turn % 7 == 6:
            box.resume(now)
            await desk.settled()
            box.pause()
    box.resume(now)
    await desk.settled()
    assert client.closed is None
    assert dropped == ("slow" in {message.get("code") for message in client.messages})
    count, told = 0, []
    for message in client.messages:
        count += message["type"] in ("snapshot", "delta", "status")
        if message["type"] == "heartbeat":
            told.append((message["count"], count))
    assert len(told) >= 2
    assert all(one == other > 0 for one, other in told), told
    verify(client.raw)


async def test_a_change_in_the_turn_of_a_conflation(engine: Engine, start: Starter) -> None:
    """What came in the very turn in which the waiting messages are dropped goes with them: after the drop the
    reader gets the snapshot and nothing before it."""
    gateway = await start(Limits(ws_slow_ms=100_000, ws_slow_bytes=100_000_000))
    engine.marks()
    await ready(gateway)
    client = await stopped(gateway, [">"])
    await flood(engine, 500)
    (connection,) = gateway._core.connections()
    box = connection._box
    assert box is not None
    assert box.paused
    for platform, asset, _, _ in TABLE:
        engine.update(platform, asset, [["0.31", "7"]], [])
    box.conflate()
    seq = {book: int(json.loads(engine.store.snapshot(book))["seq"]) for book in engine.store.books()}

    def caught_up(books: dict[str, PlainBook], _: object) -> bool:
        return len(books) == 3 and all(book.exact and book.seq == seq[b] for b, book in books.items())

    books, _ = await read_all(client, caught_up)  # refuses a gap
    assert all("snapshot:conflated" in book.history for book in books.values())
    await client.close()


async def test_memory_of_a_stopped_reader_is_bounded(engine: Engine, gateway: Gateway) -> None:
    """What waits for a stopped reader stays under its limits, however much is sent."""
    client = await stopped(gateway, [">"])
    (connection,) = gateway._core.connections()
    box = connection._box
    assert box is not None
    most = 0
    for _ in range(12):
        await flood(engine, 150)
        most = max(most, box.backlog())
    assert 0 < most < 1_048_576 + 262_144 + 2 * 65_536
    await client.close()


async def test_answers_that_nobody_reads_close(gateway: Gateway) -> None:
    """Answers wait like all else, but cannot be dropped: a reader that asks on and on and takes nothing is
    closed 4490 before they are many (reliability.md W14)."""
    client = await stopped(gateway, ["nothing.>"])
    (connection,) = gateway._core.connections()
    box = connection._box
    assert box is not None
    box.pause()
    most = 0
    async with asyncio.timeout(20):
        while not box.closed:
            for _ in range(20):
                box.send(Control(b"x" * 52_000))
            most = max(most, box.backlog())
            await asyncio.sleep(0.05)
    # What comes between two looks stands above the limit.
    assert 1_310_720 < most < 4 * 1_310_720 + 16 * 1_040_000
    await client.close()


async def test_heartbeat_count_after_drops(engine: Engine, gateway: Gateway) -> None:
    """The count in a heartbeat is of what was written, not of what was dropped (rule 4)."""
    client = await stopped(gateway, [">"])
    await flood(engine, 800)
    await asyncio.sleep(0.8)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    count, slow = 0, False
    async with asyncio.timeout(15):
        while True:
            opcode, payload = await client.frame()
            if opcode != 1:
                continue
            message = json.loads(payload)
            if message["type"] in ("snapshot", "delta", "status"):
                count += 1
            slow = slow or message.get("code") == "slow"
            if message["type"] == "heartbeat" and slow:
                assert message["count"] == count
                break
    assert slow
    await client.close()


async def test_on_slow_disconnect(engine: Engine, gateway: Gateway) -> None:
    """With `on_slow:"disconnect"` the first hit closes 4490."""
    client = await stopped(gateway, [">"], on_slow="disconnect")
    await flood(engine, 800)
    await asyncio.sleep(0.8)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await client.close_code() == 4490
    await client.close()


async def test_stuck_reader_is_closed(engine: Engine, start: Starter) -> None:
    """A reader that takes no byte for the limit's time is closed with 4490."""
    gateway = await start(Limits(ws_stuck_s=0.5))
    engine.marks()
    await ready(gateway)
    client = await stopped(gateway, [">"])
    await flood(engine, 800)
    (connection,) = gateway._core.connections()
    assert connection._session is not None
    async with asyncio.timeout(8):
        while not connection._session.ended:
            await asyncio.sleep(0.05)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await client.close_code() == 4490
    await client.close()


@pytest.mark.parametrize("books", [300])
async def test_large_subscribe_is_paced_not_slow(
    engine: Engine, gateway: Gateway, dial: Opener, books: int
) -> None:
    """Hundreds of snapshots for one subscriber are paced; it is not called slow, each book comes once."""
    more = [("kalshi", f"KXB-{index}", f"big-2027.{index:016x}.yes", False) for index in range(books)]
    engine.publish(engine.store.set_mapping(413, [*TABLE, *more], engine.now_us))
    for _, asset, _, _ in more:
        engine.snapshot(
            "kalshi",
            asset,
            [[f"0.{i:02}", f"{1000 + i}.25"] for i in range(1, 50)],
            [[f"0.{i:02}", f"{2000 + i}.75"] for i in range(51, 99)],
        )
    client = await dial(gateway)
    assert (await client.op("subscribe", books=["big-2027.>"]))["matched"] == books
    await client.until(lambda: len(client.books) == books)
    engine.update("kalshi", "KXB-7", [["0.02", "1"]], [])
    await client.until(lambda: client.count == books + 1)
    assert not [answer for answer in client.answers if answer["type"] == "notice"]
    assert set(client.verdicts) == {"ok"}
    assert FED_25 not in {key[0] for key in client.books}


async def test_unsubscribe_during_a_large_subscribe(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """After the answer to `unsubscribe` nothing more comes, though the snapshots were still being paid."""
    more = [("kalshi", f"KXB-{index}", f"big-2027.{index:016x}.yes", False) for index in range(1_200)]
    engine.publish(engine.store.set_mapping(413, [*TABLE, *more], engine.now_us))
    client = await RawClient.open(gateway.port)
    client.op("subscribe", "1", books=["big-2027.>"])
    client.op("unsubscribe", "2", books=["big-2027.>"])
    client.op("ping", "3")
    seen: list[str] = []
    async with asyncio.timeout(5):
        while "pong" not in seen:
            seen.append(json.loads(await client.until(1))["type"])
    after = seen[seen.index("unsubscribed") + 1 :]
    assert "snapshot" not in after
    client.op("subscribe", "4", books=[FED_25])
    assert (await client.message("snapshot"))["book"] == FED_25
    await client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel what it has not sent")
async def test_stopped_reader_holds_little_in_the_kernel(engine: Engine, gateway: Gateway) -> None:
    """What a stopped reader's window has no room for stays where it can be dropped: far less waits in the
    kernel than its send buffer would take."""
    client = await stopped(gateway, [">"])
    await flood(engine, 800)
    (connection,) = gateway._core.connections()
    box = connection._box
    assert box is not None
    assert box.paused
    sock = box.transport.get_extra_info("socket")  # type: ignore[attr-defined]
    # SIOCOUTQNSD: bytes not sent yet.
    unsent = struct.unpack("i", fcntl.ioctl(sock.fileno(), 0x894B, bytes(4)))[0]
    assert 0 < unsent <= 2 * 65_536
    assert box.transport.get_write_buffer_size() <= 4 * 65_536
    await client.close()


async def test_a_small_frame_does_not_wait(engine: Engine, gateway: Gateway, dial: Opener) -> None:
    """Nagle's algorithm is off: a frame never waits for the acknowledgement of the one before (40 ms)."""
    client = await dial(gateway)
    await client.op("subscribe", books=[FED_25])
    (connection,) = gateway._core.connections()
    box = connection._box
    assert box is not None
    sock = box.transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
