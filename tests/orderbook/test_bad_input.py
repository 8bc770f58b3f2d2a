"""What must not hurt: strangers on the bus, messages that contradict themselves, floods, absurd numbers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup import logs, subjects
from wup.bus import Message
from wup.metrics import REGISTRY
from wup.orderbook.upstream import MOST_INSTANCES

if TYPE_CHECKING:
    from wup.mapping.table import Leg

K = leg("kalshi", "KXFED-26DEC-C25")
P = leg("polymarket", "6519")
H = leg("kalshi", "KX-H0", book=OTHER)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def body_of(one: Leg, feed: Feed, kind: str, n: int, **body: Any) -> bytes:
    return orjson.dumps(
        {
            "type": kind,
            "platform": one.platform,
            "market_id": one.market_id,
            "asset_id": one.asset_id,
            "epoch": feed.epoch,
            "n": n,
            **body,
        }
    )


def subject_of(one: Leg) -> str:
    return subjects.normalized(one.platform, one.market_id, one.asset_id)


@pytest.mark.parametrize("other", [P, H, leg("kalshi", "NEVER-HEARD-OF")])
async def test_a_body_on_the_wrong_subject_touches_no_other_leg(other: Leg) -> None:
    """A message about one asset on the subject of another is applied to neither: the leg that the subject
    names is in doubt and asked for, the one that the body names keeps its levels and its numbering."""
    async with Feed() as feed:
        await feed.start(table(K, P, H))
        for one in (K, P, H):
            feed.book(one, [["0.52", "500"]], [])
        feed.take()
        feed.asked.clear()
        before = counted("wup_bad_input_total", stage="orderbook", platform="kalshi", kind="ParseError")
        payload = body_of(other, feed, "update", 2, bids=[["0.52", "9"]], asks=[])
        feed.bus.publish(subject_of(K), payload)
        assert (
            counted("wup_bad_input_total", stage="orderbook", platform="kalshi", kind="ParseError")
            == before + 1
        )
        legs = feed.service.store.book(BOOK).legs
        assert (legs["kalshi"]["state"], legs["polymarket"]["state"]) == ("resync", "live")
        assert feed.service.store.book(OTHER).legs["kalshi"]["state"] == "live"
        assert [ask["assets"] for ask in feed.asked] == [[K.asset_id]]
        feed.take()
        if other in (P, H):
            feed.send(other, "update", bids=[["0.52", "7"]], asks=[])
            assert feed.take()[-1]["bids"][0][1] == "7"


async def test_messages_of_an_older_epoch_change_nothing() -> None:
    """What a normalizer said before its restart may arrive late: it is ignored, whatever its number."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        old, feed.epoch, feed.n = feed.epoch, feed.epoch + 5_000, {}
        feed.book(K, [["0.53", "1"]], [])
        feed.take()
        ignored = feed.service.store.stats()["ignored"]
        feed.epoch = old
        for n in (2, 3, 999):
            for kind in ("update", "snapshot"):
                feed.bus.publish(
                    subject_of(K), body_of(K, feed, kind, n, bids=[["0.11", "4"]], asks=[], ts={})
                )
            feed.bus.publish(subject_of(K), body_of(K, feed, "state", n, state="down", why="disconnected"))
        assert feed.take() == []
        assert feed.service.store.stats()["ignored"] == ignored + 9
        assert feed.service.store.snapshot(BOOK, None, "subscribe", 0).count(b'"0.53"') == 1


async def test_a_flood_of_unknown_assets_is_counted_and_takes_no_memory() -> None:
    """100,000 assets that nobody mapped, with marks of 10,000 instances: nothing is published or asked for,
    what the service and the metrics remember does not grow, all are counted, and the next real message is
    served as ever."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        feed.take()
        feed.asked.clear()
        foreign = counted("wup_foreign_messages_total")
        bad = counted("wup_bad_input_total", stage="orderbook", platform="other", kind="unknown_asset")
        series = sum(len(metric.samples) for metric in REGISTRY.collect())
        seen = len(logs._seen)
        service = feed.service
        deliver, message_of = service._on_normalized, Message
        for i in range(100_000):
            deliver(message_of(f"normalized.p{i % 977}.m{i}.a{i}", b'{"type":"update"}'))
        for i in range(10_000):
            marks = orjson.dumps({"type": "marks", "epoch": 1, "assets": {f"a{i}": 1}})
            deliver(message_of(f"normalized.p{i % 977}._marks.i{i}", marks))
            deliver(message_of(f"normalized.p{i % 977}._marks.i{i}", b"garbage"))
        service.tick()
        assert feed.take() == []
        assert feed.asked == []
        assert counted("wup_foreign_messages_total") == foreign + 100_000
        assert (
            counted("wup_bad_input_total", stage="orderbook", platform="other", kind="unknown_asset")
            == bad + 100_000
        )
        assert len(logs._seen) - seen <= 2
        # A handful of counters that were never used before.
        assert sum(len(metric.samples) for metric in REGISTRY.collect()) - series < 40
        held = sum(
            sys.getsizeof(value)
            for name, value in vars(service).items()
            if isinstance(value, (dict, set, list)) and name != "store"
        )
        assert held < 50_000
        assert service._upstream.silent(feed.clock.monotonic() + 60) == [(K.platform, K.asset_id)]
        feed.send(K, "update", bids=[["0.52", "1"]], asks=[])
        assert len(feed.take()) == 1


@pytest.mark.parametrize("size", ["1000000000000", "100000000000.000001", "9" * 40, "-1", "1e12", "NaN"])
async def test_an_absurd_size_takes_its_leg_out(size: str) -> None:
    """A leg that says 10^12 contracts (or no number at all) is not believed: it goes to `resync` with its
    sizes, a snapshot is asked for, and the other legs stay."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [["0.52", "500"]], [])
        feed.book(P, [], [["0.48", "700"]])
        feed.take()
        feed.asked.clear()
        bad = feed.service.store.stats()["bad"]
        feed.send(K, "update", bids=[["0.51", size]], asks=[])
        out = feed.take()
        assert out[-1]["legs"]["kalshi"]["state"] == "resync"
        assert out[-1]["legs"]["polymarket"]["state"] == "live"
        assert feed.service.store.stats()["bad"] == bad + 1
        assert [ask["assets"] for ask in feed.asked] == [[K.asset_id]]
        shown = orjson.loads(feed.service.store.snapshot(BOOK, None, "subscribe", 0))
        assert shown["bids"] == []


async def test_the_largest_size_is_exact() -> None:
    """10^11 contracts of each of two legs, the limit of wire.md section 1, add up exactly."""
    both = leg("kalshi", "KX-2")
    async with Feed() as feed:
        await feed.start(table(K, both))
        feed.book(K, [["0.5", "100000000000"]], [])
        feed.book(both, [["0.5", "99999999999.999999"]], [])
        level = feed.take()[-1]
        assert level["type"] == "status"
        shown = orjson.loads(feed.service.store.snapshot(BOOK, None, "subscribe", 0))["bids"][0]
        assert shown[1] == "199999999999.999999"


async def test_garbage_as_a_request_or_a_mark_is_counted() -> None:
    """Requests and marks that cannot be read are counted by kind and leave everything as it was."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        feed.take()
        for payload in (b"", b"{", b"[]", b"\xff", b'{"type":"marks"}', b'{"assets":{"a":"b"}}'):
            feed.bus.publish(subjects.normalized_marks("kalshi", "i"), payload)
        assert counted("wup_bad_input_total", stage="orderbook", platform="kalshi", kind="bad_marks") >= 5
        for payload in (b"", b"{", b"[]", b'"x"', b'{"books":5}', b'{"match":"a..b"}', b'{"match":7}'):
            assert await feed.bus.request_many("orderbook.snapshot.0", payload) == []
        assert (
            counted("wup_bad_input_total", stage="orderbook", platform="", kind="bad_snapshot_request") >= 7
        )
        assert feed.take() == []
        assert feed.service.store.book(BOOK).state == "live"


async def test_invented_instances_take_no_room_from_those_that_speak() -> None:
    """A flood of marks of instances that nobody knows is remembered up to a bound, counted, and pushes nobody
    out: a normalizer that spoke before it is still missed when it falls silent, and one that begins in the
    middle of it is heard and not taken for dead."""

    def mark(one: Leg | None, instance: str) -> None:
        epoch = feed.epoch + (one is None)
        body = {"type": "marks", "epoch": epoch, "assets": {} if one is None else {one.asset_id: 1}}
        feed.bus.publish(subjects.normalized_marks("kalshi", instance), orjson.dumps(body))

    labels = {"stage": "orderbook", "platform": "kalshi", "kind": "too_many_instances"}
    async with Feed() as feed:
        await feed.start(table(K, H))
        feed.book(K, [["0.52", "500"]], [])
        mark(K, "first")
        before = counted("wup_bad_input_total", **labels)
        for number in range(500):
            mark(None, f"invented-{number}")
        feed.book(H, [["0.52", "500"]], [])
        for _ in range(4):
            feed.clock.advance(1.0)
            for number in range(500):
                mark(None, f"invented-{number}")
            mark(H, "second")
            feed.service.tick()
        assert counted("wup_bad_input_total", **labels) - before > 2_000
        assert len(feed.service._upstream._instances) <= MOST_INSTANCES
        store = feed.service.store
        assert store.book(BOOK).legs["kalshi"]["state"] == "down", "the first fell silent"
        assert store.book(OTHER).legs["kalshi"]["state"] == "live"
