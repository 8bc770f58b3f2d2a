"""Restarts of the service and of its normalizers: epochs only grow, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest
from redis.exceptions import RedisError

from orderbook.feeding import BOOK, OTHER, Feed, leg, table
from wup import runtime, subjects
from wup._core import BookStore
from wup.clock import SYSTEM_CLOCK, ManualClock
from wup.mapping.redis import connect, load_epoch, save_epoch
from wup.mapping.table import EMPTY
from wup.orderbook import EPOCHS_AHEAD_MS, OrderbookHttp
from wup.orderbook.epochs import Epochs
from wup.orderbook.shard import shard_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from redis.asyncio import Redis

K = leg("kalshi", "KXFED-26DEC-C25")
P = leg("polymarket", "6519")
H = leg("kalshi", "KX-H0", book=OTHER)


def keeping(kept: list[int], *, refused: Iterable[bool] = ()) -> Callable[[int], Awaitable[bool]]:
    """Keeps epochs in a list, unless the next of `refused` says that it cannot."""
    refusals = iter(refused)

    async def keep(epoch: int) -> bool:
        if next(refusals, False):
            return False
        kept.append(epoch)
        return True

    return keep


def marks(feed: Feed, platform: str, instance: str, epoch: int, assets: dict[str, int]) -> None:
    body = {"type": "marks", "epoch": epoch, "assets": assets}
    feed.bus.publish(subjects.normalized_marks(platform, instance), orjson.dumps(body))


@pytest.mark.parametrize("heard_first", ["marks", "snapshot", "update"])
async def test_a_restarted_normalizer_disturbs_its_own_legs_only(heard_first: str) -> None:
    """One of two normalizers comes back with a larger epoch before its marks were missed: its legs are asked
    for, or taken as they come whole, and the other's legs and books get neither message nor request."""
    async with Feed() as feed:
        await feed.start(table(K, P, H))
        for one in (K, P, H):
            feed.book(one, [["0.52", "500"]], [])
        marks(feed, "kalshi", "a", feed.epoch, {K.asset_id: 1, H.asset_id: 1})
        marks(feed, "polymarket", "b", feed.epoch, {P.asset_id: 1})
        feed.take()
        feed.asked.clear()
        seq = feed.service.store.book(BOOK).seq
        later = feed.epoch + 7_000
        if heard_first == "marks":
            marks(feed, "polymarket", "b2", later, {P.asset_id: 5})
        else:
            body = {"type": heard_first, "platform": P.platform, "market_id": P.market_id}
            body |= {"asset_id": P.asset_id, "epoch": later, "n": 5, "bids": [["0.51", "3"]], "asks": []}
            subject = subjects.normalized(P.platform, P.market_id, P.asset_id)
            feed.bus.publish(subject, orjson.dumps(body))
        out = feed.take()
        assert {message["book"] for message in out} == {BOOK}
        legs = feed.service.store.book(BOOK).legs
        assert legs["kalshi"]["state"] == "live"
        if heard_first == "snapshot":
            assert [message["type"] for message in out] == ["delta"]
            assert feed.asked == []
        else:
            assert legs["polymarket"]["state"] == "resync"
            assert [ask["assets"] for ask in feed.asked] == [[P.asset_id]]
        assert feed.service.store.book(BOOK).seq == seq + len(out)
        assert feed.service.store.book(OTHER).state == "live"
        # The old process's silence is no news: its assets have another speaker now.
        if heard_first == "marks":
            feed.clock.advance(2.0)
            marks(feed, "kalshi", "a", feed.epoch, {})
            marks(feed, "polymarket", "b2", later, {})
            feed.clock.advance(1.0)
            feed.service.tick()
            assert all(message["type"] != "status" for message in feed.take())


async def test_a_normalizer_that_dies_right_after_its_answer_takes_its_legs_down() -> None:
    """A leg that a snapshot made live and no mark ever named is `down` as soon as two marks are missed,
    whether or not its platform was heard of before, and one that was marked in time is not."""
    async with Feed() as feed:
        await feed.start(table(K, P, H))
        feed.book(H, [["0.52", "500"]], [])
        other = feed.epoch
        feed.epoch += 7_000
        for one in (K, P):
            feed.book(one, [["0.52", "500"]], [])
        feed.clock.advance(1.0)
        marks(feed, "kalshi", "a", other, {H.asset_id: 1})
        feed.service.tick()
        feed.clock.advance(1.0)
        marks(feed, "kalshi", "a", other, {})
        feed.service.tick()
        assert feed.service.store.book(BOOK).state == "live"
        feed.take()
        feed.asked.clear()
        feed.clock.advance(0.5)
        marks(feed, "kalshi", "a", other, {})
        feed.service.tick()
        last = feed.take()[-1]
        assert (last["book"], last["why"], last["state"]) == (BOOK, "upstream_silent", "down")
        assert {leg["state"] for leg in last["legs"].values()} == {"down"}
        assert feed.service.store.book(OTHER).state == "live"
        assert sorted(asset for ask in feed.asked for asset in ask["assets"]) == [P.asset_id, K.asset_id]


@pytest.mark.parametrize("named", [True, False])
async def test_a_normalizer_whose_marks_are_late_keeps_its_legs_until_it_dies(named: bool) -> None:
    """Marks that come too late to name what changed prove that its process lives: the leg stays, whether they
    name another asset of ours or none; when they stop it is `down`."""
    async with Feed() as feed:
        await feed.start(table(K, H))
        for one in (K, H):
            feed.book(one, [["0.52", "500"]], [])
        feed.take()
        for _ in range(6):
            feed.clock.advance(2.0)
            marks(feed, "kalshi", "busy", feed.epoch, {H.asset_id: 1} if named else {"not-ours": 3})
            feed.service.tick()
        assert feed.take() == []
        feed.clock.advance(2.5)
        feed.service.tick()
        feed.service.tick()
        assert feed.service.store.book(BOOK).state == "down"
        assert feed.service.store.book(OTHER).state == "down"


async def test_an_older_normalizer_does_not_speak_for_what_a_newer_one_showed() -> None:
    """A successor answers in a larger epoch and dies before its first mark, while the old process goes on:
    its marks name the asset, but its messages are of an older epoch and change nothing: the leg is `down`."""
    async with Feed() as feed:
        await feed.start(table(K, H))
        for one in (K, H):
            feed.book(one, [["0.52", "500"]], [])
        old = {K.asset_id: 1, H.asset_id: 1}
        marks(feed, "kalshi", "old", feed.epoch, old)
        body = {"type": "snapshot", "platform": K.platform, "market_id": K.market_id, "asset_id": K.asset_id}
        body |= {"epoch": feed.epoch + 7_000, "n": 1, "bids": [["0.51", "3"]], "asks": []}
        feed.bus.publish(subjects.normalized(K.platform, K.market_id, K.asset_id), orjson.dumps(body))
        for _ in range(3):
            assert feed.service.store.book(BOOK).state == "live"
            feed.clock.advance(1.0)
            marks(feed, "kalshi", "old", feed.epoch, old)
            feed.service.tick()
        assert feed.service.store.book(BOOK).legs["kalshi"]["state"] == "down"
        assert feed.service.store.book(OTHER).state == "live"


async def test_an_older_normalizer_takes_nothing_down() -> None:
    """What an old process says beside its successor is ignored, a snapshot that no mark of the successor
    follows included: the leg stays live."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.epoch += 7_000
        feed.book(K, [["0.52", "500"]], [])
        marks(feed, "kalshi", "new", feed.epoch, {K.asset_id: 1})
        feed.take()
        body = {"type": "snapshot", "platform": K.platform, "market_id": K.market_id, "asset_id": K.asset_id}
        body |= {"epoch": feed.epoch - 7_000, "n": 90, "bids": [["0.51", "3"]], "asks": []}
        feed.bus.publish(subjects.normalized(K.platform, K.market_id, K.asset_id), orjson.dumps(body))
        for _ in range(4):
            feed.clock.advance(1.0)
            marks(feed, "kalshi", "old", feed.epoch - 7_000, {K.asset_id: 90})
            marks(feed, "kalshi", "new", feed.epoch, {})
            feed.service.tick()
        assert feed.take() == []
        assert feed.service.store.book(BOOK).state == "live"


async def test_a_closed_market_is_not_opened_by_silence() -> None:
    """A leg that its venue closed stays `closed` when its normalizer falls silent, and its book `live`."""
    async with Feed() as feed:
        await feed.start(table(K, P))
        feed.book(K, [], [])
        feed.book(P, [["0.52", "500"]], [])
        feed.send(K, "state", state="closed", why="closed")
        marks(feed, "kalshi", "a", feed.epoch, {K.asset_id: 2})
        marks(feed, "polymarket", "b", feed.epoch, {P.asset_id: 1})
        feed.take()
        for _ in range(3):
            feed.clock.advance(1.0)
            marks(feed, "polymarket", "b", feed.epoch, {P.asset_id: 1})
            feed.service.tick()
        assert feed.take() == []
        book = feed.service.store.book(BOOK)
        assert (book.legs["kalshi"]["state"], book.state) == ("closed", "live")


async def test_a_clock_stepped_back_takes_no_epoch_back() -> None:
    """wire.md section 3 rule 2: whatever the wall clock says, each epoch of a process is larger than the one
    before, and a process that is killed right after a mapping change and started with a clock an hour behind
    goes on above everything that was ever given out."""
    kept: list[int] = []
    given: list[int] = []
    last = 0
    for _ in range(4):
        async with Feed(epoch_ms=last, save_epoch=keeping(kept)) as feed:
            # Every process starts with the same clock, which then runs back: time never goes on here.
            kept.append(max(last, feed.clock.now_us() // 1000) + EPOCHS_AHEAD_MS)
            await feed.start(table(K))
            given += [m["epoch"] for m in feed.take() if m["why"] == "epoch"]
            for version, step_s in ((2, 3.0), (3, -3600.0), (4, 0.0)):
                feed.clock.us += round(step_s * 1_000_000)
                feed.service.tick()
                await asyncio.sleep(0)
                legs = (K, P) if version % 2 == 0 else (K,)
                await feed.service.set_table(table(*legs, version=version))
                given += [m["epoch"] for m in feed.take() if m["why"] == "epoch"]
            # Killed here: no tick after the last mapping change.
            last = kept[-1]
    assert len(given) == 16
    assert given == sorted(set(given))


async def test_what_is_kept_is_ahead_of_every_epoch() -> None:
    """The number that is kept was always larger than every epoch given out since, and is written seldom."""
    kept: list[int] = []
    async with Feed(save_epoch=keeping(kept)) as feed:
        kept.append(feed.clock.now_us() // 1000 + EPOCHS_AHEAD_MS)
        await feed.start(table(K))
        for version in range(2, 62):
            feed.clock.advance(1.0)
            feed.service.tick()
            await asyncio.sleep(0)
            before = kept[-1]
            await feed.service.set_table(table(*((K, P) if version % 2 == 0 else (K,)), version=version))
            assert max(m["epoch"] for m in feed.take() if m.get("why") == "epoch") < before
    assert 4 <= len(kept) <= 10


async def test_a_reserve_that_was_refused_is_tried_again_until_it_is_kept() -> None:
    """While the epochs' reserve is not kept each tick tries, the rest of the tick goes on, and `/readyz`
    warns; then it is kept and the warning ends. A save that never ends is told too."""
    kept: list[int] = []
    async with Feed(save_epoch=keeping(kept, refused=[True, True, True])) as feed:
        await feed.start(table(K))
        # No ticks but those of this test, however long it takes.
        assert feed.service._ticker is not None
        feed.service._ticker.cancel()
        http = OrderbookHttp(feed.service, "127.0.0.1", 0)
        await http.start()
        try:
            async with httpx2.AsyncClient() as client:

                async def warned() -> list[str]:
                    answer = await client.get(f"http://127.0.0.1:{http.port}/readyz")
                    assert answer.status_code == 200
                    return list(answer.json().get("warnings", []))

                for count in range(1, 4):
                    feed.clock.advance(1.0)
                    feed.service.tick()
                    assert len(feed.marks) == count
                    await asyncio.sleep(0)
                    assert await warned() == ["epoch_unkept"]
                assert kept == []
                feed.clock.advance(1.0)
                feed.service.tick()
                await asyncio.sleep(0)
                assert kept == [feed.clock.now_us() // 1000 + EPOCHS_AHEAD_MS]
                assert await warned() == []

                async def stuck(_: int) -> bool:
                    return await asyncio.Future()

                feed.service._save_epoch = stuck
                feed.clock.advance(EPOCHS_AHEAD_MS / 1000)
                feed.service.tick()
                assert await warned() == []
                feed.service.tick()
                assert await warned() == ["epoch_unkept"]
        finally:
            await http.stop()


async def test_a_start_goes_on_above_every_shard(redis_url: str) -> None:
    """Books move when the number of shards changes: whatever a shard of before kept, the next epoch is
    larger."""
    settings, venues = runtime.load_settings()
    settings = settings.model_copy(update={"redis_url": redis_url, "http_port": 0, "shard": "1/2"})
    client = connect(redis_url)
    far = SYSTEM_CLOCK.now_us() // 1000 + 3_600_000
    await save_epoch(client, "6", far)
    async with runtime.Process(settings, venues) as process:
        service, _ = await process.start_orderbook(0, "HTTP_PORT")
        mine = next(book for i in range(99) if shard_of(book := f"agg-{i}", 2) == 1)
        await service.set_table(table(leg("kalshi", "KX", book=f"{mine}.21a66bf6c52cc37d.yes")))
        assert service.store.last_epoch() > far
        assert await load_epoch(client, "1") > far
    await client.aclose()


async def test_the_reserve_is_in_redis_before_the_first_epoch(redis_url: str) -> None:
    """A process put together as `wup orderbook` does it keeps its reserve before it opens a book, and the
    next one starts above it."""
    settings, venues = runtime.load_settings()
    settings = settings.model_copy(update={"redis_url": redis_url, "http_port": 0})
    client = connect(redis_url)
    lasts = []
    for _ in range(2):
        async with runtime.Process(settings, venues) as process:
            service, _ = await process.start_orderbook(0, "HTTP_PORT")
            reserve = await load_epoch(client, "0")
            await service.set_table(table(K))
            lasts.append(service.store.last_epoch())
            assert lasts[-1] < reserve
            assert reserve > SYSTEM_CLOCK.now_us() // 1000
    assert lasts[1] > lasts[0] + EPOCHS_AHEAD_MS // 2
    await client.aclose()


class Failing:
    """A Redis client whose reads of several keys fail so many times."""

    def __init__(self, client: Redis, failures: float) -> None:
        self._client, self.failures = client, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def mget(self, keys: list[str]) -> Any:
        self.failures -= 1
        if self.failures >= 0:
            raise RedisError("away")
        return await self._client.mget(keys)


async def test_no_book_opens_before_the_last_epochs_are_known(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wire.md section 3 rule 2: a start that cannot read what was given out asks again before its first book
    opens, and keeps its own reserve above it, however far behind its clock stands."""
    settings, venues = runtime.load_settings()
    settings = settings.model_copy(update={"redis_url": redis_url, "http_port": 0})
    client = connect(redis_url)
    far = SYSTEM_CLOCK.now_us() // 1000 + 3_600_000
    await save_epoch(client, "0", far)
    failing = Failing(client, 2)
    monkeypatch.setattr(runtime, "connect_redis", lambda url: failing)
    async with runtime.Process(settings, venues) as process:
        service, _ = await process.start_orderbook(0, "HTTP_PORT")
        (follow,) = process._followers
        await follow(EMPTY)
        assert (failing.failures, service.store.last_epoch() < far) == (1, True)
        await follow(table(K))
        assert failing.failures == -1
        assert service.store.last_epoch() > far
        assert await load_epoch(client, "0") >= service.store.last_epoch() + EPOCHS_AHEAD_MS // 2
    await client.aclose()


async def test_books_open_a_day_ahead_when_the_last_epochs_stay_unknown(redis_url: str) -> None:
    """The wait for Redis has an end: epochs then lie above what a clock set back by a day gave out."""
    client = connect(redis_url)
    clock = ManualClock()
    epochs = Epochs(Failing(client, math.inf), 0, 1, clock=clock, wait_s=0.0)  # type: ignore[arg-type]
    wall_ms = clock.now_us() // 1000
    store = BookStore(await epochs.first())
    assert store.last_epoch() == wall_ms
    await epochs.opens(store)
    assert store.last_epoch() == wall_ms + 86_400_000
    assert await load_epoch(client, "0") > wall_ms + 86_400_000
    await client.aclose()


async def test_a_successor_under_the_same_name_speaks_for_itself_only() -> None:
    """A container's process comes back under its old name: what it does not show in time was the dead one's
    and goes `down`, however often it marks; what it has shown stays."""
    async with Feed() as feed:
        await feed.start(table(K, H))
        for one in (K, H):
            feed.book(one, [["0.52", "500"]], [])
        marks(feed, "kalshi", "same", feed.epoch, {K.asset_id: 1, H.asset_id: 1})
        feed.epoch += 7_000
        for second in range(4):
            feed.clock.advance(1.0)
            marks(feed, "kalshi", "same", feed.epoch, {})
            if second == 1:
                feed.book(H, [["0.51", "3"]], [])
            feed.service.tick()
        assert feed.service.store.book(BOOK).state == "down"
        assert feed.service.store.book(OTHER).state == "live"


@pytest.mark.parametrize("name", ["same", "other"])
async def test_a_successor_whose_clock_was_set_back_is_believed_after_the_silence(name: str) -> None:
    """A normalizer that starts with a smaller epoch than its dead predecessor: the legs go `down` with the
    silence, and its snapshots are taken from then on."""
    async with Feed() as feed:
        await feed.start(table(K))
        feed.book(K, [["0.52", "500"]], [])
        marks(feed, "kalshi", "same", feed.epoch, {K.asset_id: 1})
        feed.epoch -= 30_000
        for _ in range(4):
            feed.clock.advance(1.0)
            marks(feed, "kalshi", name, feed.epoch, {K.asset_id: 1})
            feed.service.tick()
        assert feed.service.store.book(BOOK).state == "down"
        feed.book(K, [["0.51", "3"]], [])
        book = feed.service.store.book(BOOK)
        assert (book.state, str(book.bids[0].price), len(book.bids)) == ("live", "0.51", 1)
        marks(feed, "kalshi", name, feed.epoch, {K.asset_id: 1})
        feed.clock.advance(2.0)
        feed.service.tick()
        assert feed.service.store.book(BOOK).state == "live"
