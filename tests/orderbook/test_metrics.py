"""What the service shows of itself: the metrics listed in docs/orderbook.md."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import orjson
from prometheus_client import generate_latest

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup import subjects
from wup.bus import Message, NatsBus
from wup.bus.base import EMPTY_QUEUE, Queue
from wup.clock import SYSTEM_CLOCK
from wup.loop_lag import watch_lag
from wup.metrics import LOOP_LAG, REGISTRY

K = leg("kalshi", "KXFED-26DEC-C25")
P = leg("polymarket", "6519")
H = leg("kalshi", "KX-H0", book=OTHER)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_books_resyncs_marks_and_repairs_are_shown() -> None:
    """Books by state; resyncs by hop, platform and reason; how late marks are; how many legs wait for a
    snapshot, and how long that took once it has come; messages by what became of them."""
    sent = sample("wup_changes_total", kind="delta")
    async with Feed() as feed:
        await feed.start(table(K, P, H))
        for one in (K, P):
            feed.book(one, [["0.52", "500"]], [])
        feed.service.tick()
        assert sample("wup_changes_total", kind="delta") == sent + 2
        feed.mark("kalshi")
        feed.clock.advance(1.5)
        feed.service.tick()
        assert (sample("wup_books", state="live"), sample("wup_books", state="down")) == (1, 1)
        assert sample("wup_marks_late_seconds", platform="kalshi") == 1.5
        assert sample("wup_unanswered_resyncs") == 1
        assert sample("wup_store_messages_total", what="messages") >= 2
        gaps = sample("wup_resyncs_total", hop="orderbook", platform="kalshi", why="seq_gap")
        by_mark = sample("wup_resyncs_total", hop="orderbook", platform="polymarket", why="marks")
        holes = sample("wup_store_messages_total", what="holes")
        took = sample("wup_resync_seconds_sum", platform="kalshi")
        feed.send(K, "update", skip=1, bids=[], asks=[])
        feed.n[P.asset_id] += 1
        feed.mark("polymarket")
        feed.clock.advance(0.4)
        feed.book(K, [["0.52", "500"]], [])
        feed.service.tick()
        assert sample("wup_resyncs_total", hop="orderbook", platform="kalshi", why="seq_gap") == gaps + 1
        assert sample("wup_resyncs_total", hop="orderbook", platform="polymarket", why="marks") == by_mark + 1
        assert sample("wup_store_messages_total", what="holes") == holes + 2
        assert round(sample("wup_resync_seconds_sum", platform="kalshi") - took, 3) == 0.4
        # A platform whose only normalizer died stays late until another speaks for it.
        feed.clock.advance(10)
        feed.service.tick()
        feed.clock.advance(5)
        feed.service.tick()
        assert sample("wup_marks_late_seconds", platform="kalshi") > 15
        feed.mark("kalshi")
        feed.service.tick()
        assert sample("wup_marks_late_seconds", platform="kalshi") == 0


async def test_queues_show_depth_and_age(nats_url: str) -> None:
    """What waits to be handled and what waits to leave: messages, bytes, and the age of the oldest."""
    bus, other = await NatsBus.connect(nats_url), await NatsBus.connect(nats_url)
    looks: list[Queue] = []
    slept: list[bool] = []
    done = asyncio.Event()

    def slow(_: Message) -> None:
        # The service does nothing else meanwhile, so what it looks at here is what waits behind.
        looks.append(bus.queues()[0])
        if looks[-1].messages > 1 and not slept:
            slept.append(True)
            time.sleep(0.05)
        if len(looks) == 200:
            done.set()

    await bus.subscribe("q", slow)
    assert bus.queues()[0] == EMPTY_QUEUE
    for _ in range(200):
        other.publish("q", b"x" * 100)
    async with asyncio.timeout(20):
        await done.wait()
    deepest = max(looks, key=lambda queue: queue.messages)
    assert deepest.messages > 1
    assert all(queue.bytes == queue.messages * 100 for queue in looks)
    assert max(queue.age_s for queue in looks) >= 0.05
    assert bus.queues()[0] == EMPTY_QUEUE
    for _ in range(10):
        bus.publish("nowhere", b"y" * 1000)
    leaving = bus.queues()[1]
    assert (leaving.messages, leaving.bytes >= 10_000) == (10, True)
    assert bus.waiting_bytes == leaving.bytes
    await bus.flush()
    assert bus.queues()[1].messages == 0
    await bus.close()
    await other.close()


async def test_a_stalled_loop_shows() -> None:
    """`wup_loop_lag_seconds` has the time for which something held the loop."""
    task = asyncio.create_task(watch_lag(SYSTEM_CLOCK))
    await asyncio.sleep(0.05)
    before = LOOP_LAG.stage("main").sum()
    asyncio.get_running_loop().call_soon(time.sleep, 0.4)
    await asyncio.sleep(0.15)
    await asyncio.sleep(0.15)
    task.cancel()
    assert LOOP_LAG.stage("main").sum() - before > 200_000


async def test_every_metric_is_listed_and_names_no_book() -> None:
    """Each metric that the registry has is in the list of docs/orderbook.md, the list has no other of this
    stage, and no label holds the id of a book or an asset."""
    async with Feed() as feed:
        await feed.start(table(K, P, H))
        feed.book(K, [["0.52", "500"]], [])
        feed.bus.publish(subjects.normalized(K.platform, K.market_id, K.asset_id), orjson.dumps({}))
        feed.service.tick()
        shown = generate_latest(REGISTRY).decode()
    for name in (BOOK, OTHER, K.asset_id, P.asset_id, "fed-2026-12"):
        assert name not in shown
    page = (Path(__file__).parents[2] / "docs" / "orderbook.md").read_text()
    listed = set(re.findall(r"^\| `(wup_[a-z_]+)`", page, re.MULTILINE))
    ours = {
        "wup_books",
        "wup_changes_total",
        "wup_resyncs_total",
        "wup_resync_seconds",
        "wup_unanswered_resyncs",
        "wup_marks_late_seconds",
        "wup_store_messages_total",
        "wup_foreign_messages_total",
        "wup_bad_input_total",
        "wup_stage_latency_seconds",
        "wup_loop_lag_seconds",
        "wup_bus_queue_messages",
        "wup_bus_queue_bytes",
        "wup_bus_queue_age_seconds",
        "wup_dropped_total",
        "wup_mapping_disagreements",
        "wup_mapping_disagreements_raised_total",
    }
    assert listed == ours
    known = set(re.findall(r"^# TYPE (\S+) ", shown, re.MULTILINE))
    assert ours <= known
