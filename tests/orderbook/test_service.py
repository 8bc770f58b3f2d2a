"""The orderbook stage: what goes out, what is doubted, what is asked for."""

from __future__ import annotations

import orjson
import pytest

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup import subjects
from wup.mapping.table import BookInfo, MappingTable
from wup.orderbook.shard import shard_of

K = leg("kalshi", "KXFED-26DEC-C25")
P = leg("polymarket", "6519", inverted=True)


async def test_legs_merge_and_each_change_goes_out_once() -> None:
    """Two legs in one level, one of them inverted; a repeat of the same sizes sends nothing."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        opening = feed.take()
        assert [m["type"] for m in opening] == ["snapshot"]
        assert opening[0]["seq"] == 1
        feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
        feed.book(P, [["0.46", "7"]], [["0.48", "700"]])
        out = feed.take()
        assert [m["type"] for m in out] == ["delta", "status", "delta", "status"]
        snapshot = orjson.loads(feed.service.store.snapshot(BOOK, None, "subscribe", feed.clock.now_us()))
        assert snapshot["bids"] == [["0.52", "1200", {"kalshi": "500", "polymarket": "700"}]]
        assert snapshot["asks"] == [["0.54", "257", {"kalshi": "250", "polymarket": "7"}]]
        assert snapshot["state"] == "live"
        assert (snapshot["title"], snapshot["label"]) == ("Fed", "25 bps cut")
        feed.book(K, [["0.52", "500"]], [["0.54", "250"]])
        assert feed.take() == []


async def test_everything_mapped_is_asked_for_until_it_comes() -> None:
    """A new mapping asks for snapshots of its legs, and asks again until something is heard."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        assert sorted(a for ask in feed.asked for a in ask["assets"]) == ["6519", "KXFED-26DEC-C25"]
        feed.asked.clear()
        feed.book(K, [], [])
        feed.clock.advance(2.5)
        feed.mark("kalshi")
        feed.service.tick()
        assert [ask["assets"] for ask in feed.asked] == [["6519"]]


async def test_a_hole_takes_the_leg_out_and_asks() -> None:
    """A missing n: the leg's sizes leave in one delta, one status says resync, a snapshot is asked for."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.book(P, [], [["0.48", "700"]])
        feed.take()
        feed.asked.clear()
        feed.send(K, "update", skip=1, bids=[["0.51", "1"]], asks=[])
        out = feed.take()
        assert [m["type"] for m in out] == ["delta", "status"]
        assert out[0]["bids"] == [["0.52", "700", {"polymarket": "700"}]]
        assert out[1]["state"] == "degraded"
        assert out[1]["legs"]["kalshi"]["state"] == "resync"
        assert [ask["assets"] for ask in feed.asked] == [["KXFED-26DEC-C25"]]
        feed.book(K, [["0.51", "9"]], [])
        assert feed.take()[-1]["state"] == "live"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"type":"update"}',
        b'{"type":"snapshot","platform":"x","asset_id":"y"}',
    ],
)
async def test_garbage_on_the_bus_doubts_the_leg_that_the_subject_names(payload: bytes) -> None:
    """Unreadable bytes never crash and never stay unnoticed: that leg goes to resync, the others stay."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.book(P, [], [["0.48", "700"]])
        feed.take()
        feed.bus.publish(subjects.normalized(K.platform, K.market_id, K.asset_id), payload)
        last = feed.take()[-1]
        assert last["legs"]["kalshi"]["state"] == "resync"
        assert last["legs"]["polymarket"]["state"] == "live"


async def test_a_lost_last_message_is_found_by_the_marks() -> None:
    """Marks that are ahead of what arrived make the leg doubtful."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        feed.mark("kalshi")
        feed.take()
        feed.n[K.asset_id] += 1
        feed.mark("kalshi")
        assert feed.take()[-1]["legs"]["kalshi"]["state"] == "resync"


async def test_a_dead_normalizer_takes_its_legs_down() -> None:
    """Two marks missed: the legs of that instance are down, those of another stay."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.book(P, [], [["0.48", "700"]])
        kalshi, poly = {K.asset_id: 1}, {P.asset_id: 1}
        for instance, platform, assets in (("a", "kalshi", kalshi), ("b", "polymarket", poly)):
            body = {"type": "marks", "epoch": feed.epoch, "assets": assets}
            feed.bus.publish(subjects.normalized_marks(platform, instance), orjson.dumps(body))
        feed.take()
        feed.clock.advance(2)
        body = {"type": "marks", "epoch": feed.epoch, "assets": {}}
        feed.bus.publish(subjects.normalized_marks("polymarket", "b"), orjson.dumps(body))
        feed.clock.advance(1)
        feed.service.tick()
        last = [m for m in feed.take() if m["type"] == "status"][-1]
        assert last["why"] == "upstream_silent"
        assert last["legs"]["kalshi"]["state"] == "down"
        assert last["legs"]["polymarket"]["state"] == "live"


async def test_a_mapping_change_opens_a_new_epoch() -> None:
    """Books whose legs changed start anew with a larger epoch at seq 1; the others send nothing."""
    stays = leg("kalshi", "KX-H0", book=OTHER)
    async with Feed() as feed:
        await feed.start(table(K, stays))
        first = {m["book"]: m["epoch"] for m in feed.take()}
        await feed.service.set_table(table(K, P, stays, version=2))
        out = feed.take()
        assert [(m["book"], m["type"], m["seq"], m["why"], m["mapping"]) for m in out] == [
            (BOOK, "snapshot", 1, "epoch", 2)
        ]
        assert out[0]["epoch"] > first[BOOK]


async def test_a_suspended_leg_is_halted_and_not_listened_to() -> None:
    """mapping.md section 3: a suspended leg leaves the book at once and contributes nothing."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.book(P, [], [["0.48", "700"]])
        feed.take()
        halted = leg("kalshi", "KXFED-26DEC-C25", suspended="rules_changed")
        await feed.service.set_table(table(halted, P, version=2))
        last = feed.take()[-1]
        assert last["legs"]["kalshi"]["state"] == "halted"
        assert last["why"] == "suspended"
        feed.book(K, [["0.52", "500"]], [])
        assert feed.take() == []
        feed.mark("kalshi")
        assert feed.take() == []


async def test_a_resolved_book_ends_with_its_result() -> None:
    """The last status of a resolved book is `closed` with the result, though its legs have left the mapping;
    a minute later the book is gone."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.take()
        books = {BOOK: BookInfo(BOOK, "fed-2026-12", "Fed", "25 bps cut", result="yes")}
        await feed.service.set_table(MappingTable(2, (), books))
        last = feed.take()[-1]
        assert (last["type"], last["state"], last["why"], last["result"]) == (
            "status",
            "closed",
            "resolved",
            "yes",
        )
        feed.clock.advance(61)
        feed.service.tick()
        assert feed.service.store.books(">") == []


async def test_snapshots_by_request_end_with_an_empty_answer() -> None:
    """wire.md section 3 rule 9: one message per book, by list or pattern; unknown books are left out."""
    async with Feed() as feed:
        await feed.start(table(K, leg("kalshi", "KX-H0", book=OTHER)))
        ask = feed.bus.request_many
        both = await ask("orderbook.snapshot.0", b'{"match":"fed-2026-12.>"}')
        assert [orjson.loads(m.payload)["book"] for m in both] == sorted([BOOK, OTHER])
        one = await ask("orderbook.snapshot.0", orjson.dumps({"books": [BOOK, "no.such.yes"]}))
        assert [orjson.loads(m.payload)["book"] for m in one] == [BOOK]
        assert await ask("orderbook.snapshot.0", b"garbage") == []


async def test_marks_name_what_changed() -> None:
    """Each second: epoch, seq, digest and state of what changed; also when nothing did."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        last = feed.take()[-1]
        feed.service.tick()
        assert feed.marks[-1]["books"][BOOK] == [last["epoch"], last["seq"], last["digest"], "live"]
        assert feed.marks[-1]["shard"] == "0"
        feed.clock.advance(60)
        feed.mark("kalshi")
        feed.service.tick()
        assert feed.marks[-1]["n"] == feed.marks[-2]["n"] + 1


def test_a_shard_more_moves_its_share_only() -> None:
    """Rendezvous hashing: from n to n+1 shards a book stays or moves to the new shard."""
    names = [f"agg-{i}" for i in range(2000)]
    moved = [(shard_of(a, 3), shard_of(a, 4)) for a in names if shard_of(a, 3) != shard_of(a, 4)]
    assert all(new == 3 for _, new in moved)
    assert 0.15 < len(moved) / len(names) < 0.35


async def test_a_shard_serves_its_own_books_only() -> None:
    """Books of other shards are neither opened nor listened to; together the shards serve everything."""
    legs = [leg("kalshi", f"KX-{i}", book=f"agg-{i}.21a66bf6c52cc37d.yes") for i in range(12)]
    served: list[str] = []
    for index in range(3):
        async with Feed(shard=(index, 3)) as feed:
            await feed.start(table(*legs))
            served += [m["book"] for m in feed.take()]
    assert sorted(served) == sorted(one.book for one in legs)


async def test_books_are_counted_by_state() -> None:
    """Readiness and metrics see how many books are live, degraded, down and closed."""
    async with Feed() as feed:
        await feed.start(table(K, P, leg("kalshi", "KX-H0", book=OTHER)))
        feed.book(K, [["0.52", "500"]], [])
        stats = feed.service.store.stats()
        assert (stats["books_live"], stats["books_degraded"], stats["books_down"]) == (0, 1, 1)
        feed.book(P, [], [])
        assert feed.service.store.stats()["books_live"] == 1


async def test_the_opening_snapshot_has_titles_and_facts() -> None:
    """The first message of a book already says what it is about, and each leg's tick and minimum size."""
    async with Feed() as feed:
        await feed.start(table(leg("kalshi", "KX", tick="0.01", min_size="0.01")))
        opening = feed.take()[0]
        assert (opening["title"], opening["label"]) == ("Fed", "25 bps cut")
        assert opening["legs"]["kalshi"]["tick"] == "0.01"
        assert opening["legs"]["kalshi"]["min_size"] == "0.01"


async def test_a_bus_that_was_away_is_answered_once() -> None:
    """However often the bus says that it came back, everything is asked for once, at the next tick."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [], [])
        feed.book(P, [], [])
        feed.asked.clear()
        for _ in range(1000):
            feed.service._on_loss("reconnected")
        assert feed.asked == []
        feed.service.tick()
        assert sorted(a for ask in feed.asked for a in ask["assets"]) == ["6519", "KXFED-26DEC-C25"]


async def test_silence_does_not_overrule_the_mapping() -> None:
    """A suspended leg stays `halted` when its normalizer falls silent, and is never asked for."""
    async with Feed() as feed:
        halted = leg("kalshi", "KXFED-26DEC-C25", suspended="rules_changed")
        await feed.start(table(halted, P))
        feed.n[halted.asset_id] = 3
        feed.mark("kalshi")
        feed.take()
        feed.asked.clear()
        feed.clock.advance(3)
        feed.service.tick()
        feed.clock.advance(3)
        feed.service.tick()
        assert all("KXFED-26DEC-C25" not in ask["assets"] for ask in feed.asked)
        assert feed.service.store.book(BOOK).legs["kalshi"]["state"] == "halted"
