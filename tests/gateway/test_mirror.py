"""The verified mirror: nothing unverified goes on, every hole is found, said and repaired."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.engine import FED_25, GAME, TABLE, Engine
from wup.bus import LocalBus, Message
from wup.clock import ManualClock
from wup.gateway.mirror import Mirrors
from wup.gateway.mirrored import Kind, MirroredBook
from wup.gateway.source import BusSource, SourceError


class Ear:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.payloads: list[bytes] = []

    def added(self, book: MirroredBook) -> None:
        self.heard.append(("added", book.book))

    def changed(self, book: MirroredBook, payload: bytes, kind: Kind) -> None:
        assert book.serving
        assert book.mirror.exact
        self.heard.append((kind, book.book))
        self.payloads.append(payload)

    def traded(self, book: MirroredBook, payload: bytes) -> None:
        self.heard.append(("trade", book.book))

    def lost(self, book: MirroredBook, why: str) -> None:
        self.heard.append((f"lost:{why}", book.book))

    def restored(self, book: MirroredBook) -> None:
        assert book.mirror.exact
        self.heard.append(("restored", book.book))

    def relinked(self, book: MirroredBook, before: frozenset[str]) -> None:
        self.heard.append(("relinked", book.book))

    def removed(self, book: MirroredBook) -> None:
        self.heard.append(("removed", book.book))

    def of(self, book: str) -> list[str]:
        return [what for what, which in self.heard if which == book and what not in ("added", "relinked")]


class Bench:
    """Mirrors over a real store, on a clock that only the test moves."""

    def __init__(self) -> None:
        self.bus = LocalBus()
        self.engine = Engine(self.bus)
        self.clock = ManualClock()
        self.ear = Ear()
        self.mirrors = Mirrors(BusSource(self.bus, timeout=0.05), self.ear, self.clock, random.Random(1))

    async def begin(self) -> None:
        await self.bus.subscribe("orderbook.>", self.mirrors.handle)
        await self.engine.start()
        self.engine.fill()
        self.engine.marks()
        self.mirrors.start()
        await self.settle()
        self.ear.heard.clear()

    async def settle(self) -> None:
        """Until every book is served and nothing is being fetched."""
        async with asyncio.timeout(5):
            while "loading" in self.mirrors.problems() or not all(
                book.serving for book in self.mirrors.books.values()
            ):
                await asyncio.sleep(0.001)

    def agrees(self) -> bool:
        """Every served mirror equals the store."""
        for book in self.mirrors.books.values():
            want = orjson.loads(self.engine.store.snapshot(book.book))
            have = orjson.loads(book.mirror.snapshot())
            for name in ("epoch", "seq", "digest", "bids", "asks", "state"):
                if want[name] != have[name]:
                    return False
        return True


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.begin()
    yield bench
    await bench.mirrors.stop()


async def test_lost_change_is_a_gap(bench: Bench) -> None:
    """A change that never came: the next one is not forwarded, the loss is said, then the book is back."""
    bench.engine.lose = 1
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    assert bench.ear.heard == []
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.42", "8"]], [])
    assert bench.ear.of(FED_25) == ["lost:gap"]
    await bench.settle()
    assert bench.ear.of(FED_25) == ["lost:gap", "restored"]
    assert bench.agrees()


async def test_last_message_lost_is_found_by_a_mark(bench: Bench) -> None:
    """Nothing follows the lost change: the next mark is ahead of the mirror and reveals it."""
    bench.engine.lose = 1
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    bench.engine.marks()
    assert bench.ear.of(FED_25) == ["lost:gap"]
    await bench.settle()
    assert bench.agrees()


async def test_mark_with_another_digest(bench: Bench) -> None:
    """A mark at the mirror's own position with another digest takes the book out of service."""
    book = bench.mirrors.books[FED_25]
    mark = {
        "type": "marks",
        "shard": "0",
        "n": 9,
        "books": {FED_25: [book.mirror.epoch, book.mirror.seq, 1, "live"]},
    }
    bench.mirrors.handle(Message("orderbook.marks.0", orjson.dumps(mark)))
    assert bench.ear.of(FED_25) == ["lost:gap"]
    assert not book.serving


async def test_marks_of_many_books_let_others_in_between(bench: Bench) -> None:
    """Many marks are held against the mirrors in slices: a change that comes meanwhile goes on at once, and a
    hole in the last of them is found all the same."""
    many = [("kalshi", f"MANY-{i}", f"many.{i:016x}.yes", False) for i in range(1000)]
    bench.engine.publish(bench.engine.store.set_mapping(413, [*TABLE, *many], bench.engine.now_us))
    await bench.settle()
    bench.ear.heard.clear()
    marks = [orjson.loads(payload) for payload in bench.engine.store.marks("0", bench.engine.now_us, True)]
    last = next(reversed(marks[-1]["books"]))
    marks[-1]["books"][last][1] += 1
    for one in marks:
        bench.mirrors.handle(Message("orderbook.marks.0", orjson.dumps(one)))
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    async with asyncio.timeout(5):
        while not bench.ear.of(last):
            await asyncio.sleep(0)
    assert [what for what, _ in bench.ear.heard if what != "restored"] == ["delta", "lost:gap"]


async def test_tampered_delta_is_not_forwarded(bench: Bench) -> None:
    """A delta whose content contradicts its digest reaches nobody."""
    seen: list[Message] = []
    await bench.bus.subscribe("orderbook.changes.>", seen.append)
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    bench.ear.heard.clear()
    payload = orjson.loads(seen[-1].payload)
    payload["prev"], payload["seq"] = payload["seq"], payload["seq"] + 1
    payload["digest"] ^= 1
    bench.bus.publish(seen[-1].subject, orjson.dumps(payload))
    assert bench.ear.of(FED_25) == ["lost:gap"]
    await bench.settle()
    assert bench.agrees()


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"\xff\xfe", b'{"type":"delta"}', b'{"type":"delta","book":7}']
)
async def test_unreadable_change(bench: Bench, payload: bytes) -> None:
    """Bytes that are no change are counted, never forwarded, and the book is fetched anew."""
    bench.bus.publish(f"orderbook.changes.{FED_25}", payload)
    assert "delta" not in bench.ear.of(FED_25)
    await bench.settle()
    assert bench.agrees()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"books":[]}',
        b'{"books":{"a.b.yes":[1]}}',
        b'{"books":{"a.b.yes":[1,"x",3]}}',
    ],
)
async def test_unreadable_marks(bench: Bench, payload: bytes) -> None:
    """Marks that cannot be read change nothing."""
    bench.bus.publish("orderbook.marks.0", payload)
    assert bench.ear.heard == []
    assert all(book.serving for book in bench.mirrors.books.values())


async def test_unknown_kind_and_book_are_ignored(bench: Bench) -> None:
    """An unknown message type passes by; a subject that is no book makes none."""
    bench.bus.publish(f"orderbook.changes.{FED_25}", orjson.dumps({"type": "poem", "book": FED_25}))
    bench.bus.publish("orderbook.changes.a.b", b"{}")
    bench.bus.publish("orderbook.changes.a.b.no", b"{}")
    assert bench.ear.heard == []
    assert len(bench.mirrors.books) == 3


async def test_new_epoch_goes_through(bench: Bench) -> None:
    """A changed mapping opens a new epoch with a snapshot on the subject: it is forwarded as it is."""
    table = [*TABLE, ("polymarket", "9999", FED_25, True)]
    bench.engine.publish(bench.engine.store.set_mapping(413, table, bench.engine.now_us))
    assert "snapshot" in bench.ear.of(FED_25)
    assert bench.agrees()
    assert "polymarket:9999" in bench.mirrors.books[FED_25].assets


async def test_lost_epoch_snapshot(bench: Bench) -> None:
    """A delta of a newer epoch whose snapshot was lost is a gap."""
    table = [*TABLE, ("polymarket", "9999", FED_25, True)]
    bench.engine.lose = 1_000
    bench.engine.publish(bench.engine.store.set_mapping(413, table, bench.engine.now_us))
    bench.engine.lose = 0
    bench.engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    assert bench.ear.of(FED_25) == ["lost:gap"]
    await bench.settle()
    assert bench.agrees()


async def test_changes_during_the_request_are_replayed(bench: Bench) -> None:
    """Changes that come while a snapshot is on its way are kept and applied on top of it."""
    engine = bench.engine
    late: list[bytes] = []

    class Slow:
        async def stream(self, pattern: str) -> AsyncIterator[bytes]:
            answers = [engine.store.snapshot(book) for book in engine.store.books(pattern)]
            for _ in range(25):
                engine.step()
            await asyncio.sleep(0)
            for answer in answers:
                late.append(answer)
                yield answer

    bench.mirrors._source = Slow()
    engine.lose = 1
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.42", "8"]], [])
    await bench.settle()
    assert late
    assert bench.agrees()


async def test_old_answer_is_not_served(bench: Bench) -> None:
    """A snapshot older than what was already shown is not served; the next answer is."""
    engine = bench.engine
    old = [engine.store.snapshot(book) for book in engine.store.books(FED_25)]
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    served: list[bytes] = []

    class Forgetful:
        async def stream(self, pattern: str) -> AsyncIterator[bytes]:
            for answer in old if not served else [engine.store.snapshot(FED_25)]:
                served.append(answer)
                yield answer

    bench.mirrors._source = Forgetful()
    bench.mirrors.doubt_all("gap")
    assert not bench.mirrors.books[FED_25].serving
    async with asyncio.timeout(5):
        while not bench.mirrors.books[FED_25].serving:
            await asyncio.sleep(0.001)
    assert len(served) >= 2
    assert bench.mirrors.books[FED_25].mirror.seq == orjson.loads(engine.store.snapshot(FED_25))["seq"]


async def test_source_fails_then_recovers(bench: Bench) -> None:
    """A source that fails is asked again until it answers; the books are out of service meanwhile."""
    engine = bench.engine
    calls: list[str] = []

    class Flaky:
        async def stream(self, pattern: str) -> AsyncIterator[bytes]:
            calls.append(pattern)
            if len(calls) < 4:
                raise SourceError("down")
            for book in engine.store.books(pattern):
                yield engine.store.snapshot(book)

    bench.mirrors._source = Flaky()
    bench.mirrors.doubt_all("gap")
    assert not any(book.serving for book in bench.mirrors.books.values())
    await bench.settle()
    assert len(calls) >= 4
    assert bench.agrees()


async def test_silent_marks_take_books_out(bench: Bench) -> None:
    """No marks for over 2.5 s: no book is served, whatever a snapshot says; marks bring them back."""
    bench.clock.advance(2.4)
    bench.mirrors.check()
    assert bench.ear.heard == []
    bench.clock.advance(0.2)
    bench.mirrors.check()
    assert bench.ear.of(FED_25) == ["lost:upstream_silent"]
    bench.clock.advance(2.5)
    assert bench.mirrors.problems() == ["marks_late"]
    await asyncio.sleep(0.05)
    assert not any(book.serving for book in bench.mirrors.books.values())
    bench.engine.marks()
    await bench.settle()
    assert bench.mirrors.problems() == []
    assert bench.agrees()


async def test_never_any_marks(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any marks nothing is served after 2.5 s, and after 5 s the log names PUBLISH_CHANGES."""
    bench = Bench()
    bench.engine.muted = True
    await bench.begin()
    await bench.mirrors.stop()
    assert bench.mirrors.problems() == ["no_marks"]
    bench.clock.advance(2.6)
    bench.mirrors.check()
    assert bench.ear.of(GAME) == ["lost:upstream_silent"]
    assert "PUBLISH_CHANGES" not in capsys.readouterr().out
    bench.clock.advance(2.5)
    bench.mirrors.check()
    captured = capsys.readouterr()
    assert "PUBLISH_CHANGES" in captured.out + captured.err


async def test_resolved_book_is_dropped(bench: Bench) -> None:
    """A closed book is served with its result for 60 s, then it is gone."""
    bench.engine.publish(bench.engine.store.resolve(GAME, "yes", bench.engine.now_us))
    assert bench.ear.of(GAME)[-1] == "status"
    bench.clock.advance(50)
    bench.engine.marks()
    bench.mirrors.check()
    assert GAME in bench.mirrors.books
    bench.clock.advance(11)
    bench.engine.marks()
    bench.mirrors.check()
    assert GAME not in bench.mirrors.books
    assert bench.ear.of(GAME)[-1] == "removed"


async def test_trades_only_of_served_books(bench: Bench) -> None:
    """Trades pass for a book in service and not for one that is out."""
    trade = {"price": "0.53", "size": "10", "side": "buy", "id": "1"}
    bench.engine.normalised("trade", "kalshi", "KXFED-26DEC-C25", **trade)
    assert bench.ear.of(FED_25) == ["trade"]
    bench.mirrors.doubt_all("gap")
    bench.engine.normalised("trade", "kalshi", "KXFED-26DEC-C25", **trade)
    assert bench.ear.of(FED_25) == ["trade", "lost:gap"]


async def test_what_is_no_trade_is_not_forwarded(bench: Bench) -> None:
    """Unreadable bytes, another type, another book or a wrong number on a trade's subject reach nobody."""
    good = {
        "type": "trade", "book": FED_25, "platform": "kalshi", "asset": "KXFED-26DEC-C25", "price": "0.53",
        "size": "10", "side": "buy", "id": "1", "ts": {},
    }  # fmt: skip
    subject = f"orderbook.trades.{FED_25}"
    bench.bus.publish(subject, orjson.dumps(good))
    assert bench.ear.of(FED_25) == ["trade"]
    wrong = [
        {**good, key: value}
        for key, value in (("type", "delta"), ("book", GAME), ("price", "2"), ("size", 1))
    ]
    for payload in (b"", b"{", b"[]", b"{}", b"7", *map(orjson.dumps, wrong)):
        bench.bus.publish(subject, payload)
    assert bench.ear.of(FED_25) == ["trade"]


async def test_a_useless_answer_to_the_whole_is_asked_again(bench: Bench) -> None:
    """When everything is fetched and one book's answer is too old, that book alone is asked for again."""
    engine = bench.engine
    old = engine.store.snapshot(FED_25)
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    asked: list[str] = []

    class Late:
        async def stream(self, pattern: str) -> AsyncIterator[bytes]:
            asked.append(pattern)
            for book in engine.store.books(pattern):
                yield old if book == FED_25 and len(asked) == 1 else engine.store.snapshot(book)

    bench.mirrors._source = Late()
    bench.mirrors.doubt_all("gap")
    await bench.settle()
    assert asked == [">", FED_25]
    assert bench.agrees()
