"""Which snapshots are asked for, and when: paced, repeated, never forgotten."""

from __future__ import annotations

import orjson
import pytest

from orderbook.feeding import Feed, leg, table
from wup import subjects
from wup.bus import Message
from wup.orderbook.wishes import UNDER_WAY, Wishes

KEYS = [("kalshi", f"KX-{i}") for i in range(5 * UNDER_WAY)]
S = 1_000_000


def asked(wishes: Wishes, now_us: int) -> list[tuple[str, str]]:
    return [key for keys in wishes.next(now_us).values() for key in keys]


def test_only_so_many_are_under_way() -> None:
    """However many are wanted, the limit is asked for at once, and the next go as answers come in; all are
    asked for exactly once, in the order in which they were wanted."""
    wishes = Wishes()
    wishes.add(KEYS, "mapping", 0)
    sent = asked(wishes, 0)
    assert len(sent) == UNDER_WAY
    assert asked(wishes, 0) == []
    open_, done = list(sent), 0
    while open_:
        assert len(open_) <= UNDER_WAY
        assert wishes.answered(open_.pop(0), S) == S
        done += 1
        if wishes.room:
            more = asked(wishes, S)
            assert more
            open_ += more
            sent += more
    assert sent == KEYS
    assert done == len(KEYS)
    assert len(wishes) == 0


def test_who_does_not_answer_holds_nobody_up() -> None:
    """What was asked for and did not come is asked for again after 2, 4 and then every 8 seconds, and the
    others are asked for meanwhile."""
    wishes = Wishes()
    wishes.add(KEYS[: UNDER_WAY + 10], "mapping", 0)
    first = asked(wishes, 0)
    times: list[int] = []
    for second in range(1, 31):
        late = wishes.late(second * S)
        if late:
            assert late == first
            times.append(second)
        if second == 2:
            rest = asked(wishes, 2 * S)
            assert rest == KEYS[UNDER_WAY : UNDER_WAY + 10]
            for key in rest:
                wishes.answered(key, 2 * S)
    assert times == [2, 6, 14, 22, 30]


def test_a_wish_is_not_doubled() -> None:
    """A leg that is found wanting again while its request is under way is not asked for twice; after two
    seconds it is, and at once when what was under way is known to be lost."""
    wishes = Wishes()
    wishes.add(KEYS[:1], "seq_gap", 0)
    assert asked(wishes, 0) == KEYS[:1]
    wishes.add(KEYS[:1], "marks", S)
    assert asked(wishes, S) == []
    wishes.add(KEYS[:1], "marks", 2 * S)
    assert wishes.next(2 * S) == {"marks": KEYS[:1]}
    wishes.add(KEYS[:1], "bus_reconnected", 2 * S + 1, anew=True)
    assert wishes.next(2 * S + 1) == {"bus_reconnected": KEYS[:1]}
    assert wishes.answered(KEYS[0], 3 * S) == 3 * S
    assert wishes.answered(KEYS[0], 3 * S) is None


def test_a_clock_stepped_back_delays_nobody() -> None:
    """After a step of an hour back what was asked for is asked for again at once, not an hour later."""
    wishes = Wishes()
    wishes.add(KEYS[:2], "mapping", 3600 * S)
    asked(wishes, 3600 * S)
    assert wishes.late(0) == KEYS[:2]
    assert wishes.answered(KEYS[0], 0) == 0


@pytest.mark.parametrize("answering", [True, False])
def test_what_left_the_mapping_is_forgotten(answering: bool) -> None:
    """Wishes of legs that are mapped no longer neither stay nor keep their place under way."""
    wishes = Wishes()
    wishes.add(KEYS[: 2 * UNDER_WAY], "mapping", 0)
    sent = asked(wishes, 0)
    if answering:
        for key in sent:
            wishes.answered(key, 0)
    wishes.keep(set(KEYS[UNDER_WAY : 2 * UNDER_WAY]))
    assert len(wishes) == UNDER_WAY
    assert asked(wishes, 0) == KEYS[UNDER_WAY : 2 * UNDER_WAY]


async def test_a_large_start_is_paced_by_the_answers() -> None:
    """The service with three times as many legs as may be under way: all of them become live through requests
    that never have more open than the limit."""
    legs = [leg("kalshi", f"KX-{i}", book=f"agg-{i}.{i:016x}.yes") for i in range(3 * UNDER_WAY)]
    by_asset = {one.asset_id: one for one in legs}
    open_: list[str] = []
    most = 0
    async with Feed() as feed:

        def request(message: Message) -> None:
            nonlocal most
            open_.extend(orjson.loads(message.payload)["assets"])
            most = max(most, len(open_))

        await feed.bus.subscribe(subjects.resync("kalshi"), request)
        await feed.start(table(*legs))
        assert len(open_) == UNDER_WAY
        while open_:
            feed.book(by_asset[open_.pop(0)], [["0.5", "1"]], [])
        assert most == UNDER_WAY
        assert feed.service.store.stats()["books_live"] == len(legs)
