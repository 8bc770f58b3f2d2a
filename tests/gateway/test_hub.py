"""Finding books by pattern, and limits that count each stream once."""

from __future__ import annotations

import asyncio
import random

from gateway.conftest import Opener, Starter, ready
from gateway.engine import TABLE, Engine
from wup._core import matches
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.gateway import BusSource, Gateway, Limits
from wup.gateway.hub import Hub
from wup.gateway.mirror import Mirrors
from wup.gateway.outbox import Wakeup
from wup.gateway.pattern import parse


async def test_two_look_ups_find_what_matching_finds() -> None:
    """For every kind of pattern the index gives exactly the books that the native matcher accepts, also after
    books have gone."""
    rng = random.Random(3)
    loop = asyncio.get_running_loop()
    hub = Hub(Wakeup(loop, loop.time), SYSTEM_CLOCK, loop)
    mirrors = hub.mirrors = Mirrors(BusSource(LocalBus()), hub, SYSTEM_CLOCK)
    tokens = ["a", "b", "c", "*"]
    texts = {">", "*.>", "a.>", "b.>"}
    texts |= {f"{a}.{m}.{t}" for a in tokens for m in tokens for t in ("yes", "*", ">", "no")}

    def check() -> int:
        found = 0
        for text in texts:
            pattern = parse(text)
            have = {book.book for book in hub.find(pattern)}
            assert have == {book for book in mirrors.books if matches(pattern.yes, book)}, text
            found += len(have)
        return found

    for book in [f"{a}.{m}.yes" for a in "abd" for m in "abcd"]:
        mirrors._book(book)
    assert check() > 100
    for book in rng.sample(list(mirrors.books.values()), 7):
        mirrors._remove(book)
        check()
    for book in list(mirrors.books.values()):
        mirrors._remove(book)
    assert check() == 0
    assert hub._by_place == {}


async def test_overlapping_large_subscribes_count_each_stream_once(
    engine: Engine, start: Starter, dial: Opener
) -> None:
    """Patterns over the same books, asked for while the first is still being served, are one set of streams
    for the limit; another form of them is not, and what was left gives its room back."""
    more = [("kalshi", f"KXO-{n}", f"over-2027.{n:016x}.yes", False) for n in range(900)]
    engine.publish(engine.store.set_mapping(413, [*TABLE, *more], engine.now_us))
    gateway: Gateway = await start(Limits(ws_books=1_000))
    engine.marks()
    await ready(gateway)
    client = await dial(gateway)
    answers = await asyncio.gather(
        client.ws.send('{"op":"subscribe","id":"a","books":["over-2027.>"]}'),
        client.ws.send('{"op":"subscribe","id":"b","books":["over-2027.*.yes","over-2027.*.*"]}'),
        client.ws.send('{"op":"subscribe","id":"c","books":["*.*.*"]}'),
        client.ws.send('{"op":"subscribe","id":"d","books":["over-2027.>"],"depth":5}'),
        client.ws.send('{"op":"unsubscribe","id":"e","books":["*.*.*","over-2027.>"]}'),
        client.ws.send('{"op":"unsubscribe","id":"f","books":["over-2027.*.yes","over-2027.*.*"]}'),
        client.ws.send('{"op":"subscribe","id":"g","books":["over-2027.>"],"depth":5}'),
    )
    assert len(answers) == 7
    await client.until(lambda: {answer.get("id") for answer in client.answers} >= set("abcdefg"))
    told = {answer["id"]: answer.get("code", answer["type"]) for answer in client.answers if answer.get("id")}
    assert told == {
        "a": "subscribed",
        "b": "subscribed",
        "c": "subscribed",
        "d": "too_many_books",
        "e": "unsubscribed",
        "f": "unsubscribed",
        "g": "subscribed",
    }
    await client.until(lambda: sum(key[1] == 5 for key in client.books) == 900)
    (connection,) = gateway._core.connections()
    assert connection._session is not None
    assert connection._session._reading._claims == set()
    await client.op("unsubscribe", books=["over-2027.>"])
    assert connection._session._reading._uses == {}
