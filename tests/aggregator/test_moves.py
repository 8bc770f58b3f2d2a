"""Assets move between connections while everything streams: made before broken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from websockets.asyncio.server import serve

from aggregator.system import running
from aggregator.test_aggregator import table
from aggregator.virtual import Plan, run
from wup import subjects
from wup.aggregator import connection, service
from wup.aggregator.plan import gathered, halved, spread
from wup.mapping.table import MappingTable
from wup.venues.base import Limits

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from aggregator.system import System
    from wup.aggregator import Aggregator

VENUES = ["kalshi", "polymarket"]
QUICK = {"first_book_s": 2.0, "audit_s": 3600.0}


@pytest.fixture(autouse=True)
def slow_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """New sockets take half a second, and the supervisor looks often: who breaks too early is seen."""
    plain = connection.open_socket

    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return await plain(*arguments)

    monkeypatch.setattr(connection, "open_socket", slow)
    monkeypatch.setattr(service, "_MARK_S", 0.05)


async def settled(system: System, platform: str, connections: int, seconds: float = 20) -> None:
    """Wait until no asset is on two connections and there are so many connections."""
    group = system.aggregator.groups[platform]
    async with asyncio.timeout(seconds):
        while True:
            carried = [asset for connection in group.connections for asset in connection.assets]
            if len(group.connections) == connections and len(carried) == len(set(carried)):
                return
            await asyncio.sleep(0.05)


def test_assets_are_placed_within_the_limits() -> None:
    """What stays keeps its place, connections fill up to their usual size, then further ones open, then all
    are crowded; what is left over is said."""
    limits = Limits(assets_per_connection=2, crowded=3, connections=2)
    assert spread([], ["a", "b", "c"], limits) == ([["a", "b"], ["c"]], [])
    assert spread([["a", "b"], ["c"]], ["b", "c", "d"], limits) == ([["b", "d"], ["c"]], [])
    assert spread([["a", "b"], ["c"]], list("abcdefg"), limits) == ([["a", "b", "e"], ["c", "d", "f"]], ["g"])
    assert spread([["a"], ["b"]], [], limits) == ([[], []], [])
    assert gathered([2, 1], limits) is None
    assert gathered([1, 1, 0], Limits(assets_per_connection=4)) == 2
    assert gathered([4], limits) is None
    assert halved(["a", "b", "c", "d"], {"a": 9, "b": 1, "c": 8}) == ["c", "d"]


async def test_an_asset_followed_again_during_a_move_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asset that came back to the source while its move was under way is not taken from it: only what the
    target carries is given up."""
    async with running(monkeypatch, sim={"sim_venues": ("kalshi",)}, limits=QUICK) as system:
        await system.all_live()
        group = system.aggregator.groups["kalshi"]
        (source,) = group.connections
        everything = list(source.assets)
        group.succeed(source, "test")
        kept, again = everything[:-1], everything[-1]
        await group.follow(kept)
        assert again not in group.connections[1].assets
        await group.follow(everything)
        async with asyncio.timeout(20):
            while group._moves:
                await asyncio.sleep(0.05)
        assert {asset for each in group.connections for asset in each.assets} == set(everything)


@pytest.mark.parametrize("platform", VENUES)
async def test_a_mute_target_costs_nothing(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """A successor that opens, answers pings and says nothing more is given up at its deadline: the connection
    that was to be left keeps every asset, and no leg leaves for a moment."""
    limits = {"first_book_s": 0.4, "audit_s": 3600.0}
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=limits) as system:
        await system.all_live()
        group = system.aggregator.groups[platform]
        (source,) = group.connections
        before, everything = source.id, set(source.assets)
        met = 0

        async def mute(socket: ServerConnection) -> None:
            nonlocal met
            met += 1
            await socket.wait_closed()

        async with serve(mute, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            plain = connection.open_socket

            async def astray(url: str, *arguments: Any) -> Any:
                return await plain(f"ws://127.0.0.1:{port}", *arguments)

            with monkeypatch.context() as patch:
                patch.setattr(connection, "open_socket", astray)
                group.succeed(source, "test")
                assert len(group.connections) == 2
                await settled(system, platform, 1)
        assert met >= 1
        assert group.connections == [source]
        assert (source.id, set(source.assets)) == (before, everything)
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        assert system.judge.left == []
        group.succeed(source, "test")
        await settled(system, platform, 1)
        assert source not in group.connections
        assert system.judge.left == []
        assert system.judge.wrong == []


def test_only_what_the_target_serves_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three assets the target has the book of one, and the venue has none of another: these two move; the
    third stays with the source for ever, and nothing is split again soon."""
    limits = Limits(connections=5)

    async def meanwhile(aggregator: Aggregator) -> None:
        group = aggregator.groups["toy"]
        await asyncio.sleep(20)
        (source,) = group.connections
        assert list(source.assets) == ["A0", "A1", "A2"]
        source.frame(b"book A0 1", 0)
        source.frame(b"book A1 1", 0)
        group.succeed(source, "test")
        target = group.connections[1]
        await asyncio.sleep(5)
        target.frame(b"book A0 2", 0)
        await asyncio.sleep(4)
        assert set(source.assets) == {"A0", "A1", "A2"}
        await asyncio.sleep(4)
        assert (list(source.assets), set(target.assets)) == (["A1"], {"A0", "A1", "A2"})
        await asyncio.sleep(60)
        assert (list(source.assets), list(target.assets)) == (["A1"], ["A0", "A2"])
        assert group._moves == []
        await aggregator.set_table(table("A0", "A1", "A2"))
        assert group._moves == []
        await asyncio.sleep(400)
        await aggregator.set_table(table("A0", "A1", "A2"))
        assert len(group._moves) == 1

    run(monkeypatch, Plan(lambda attempt: (1e6, 1)), 0, assets=3, limits=limits, meanwhile=meanwhile)


@pytest.mark.parametrize("platform", VENUES)
async def test_a_connection_that_is_not_needed_is_given_up(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """When most markets are no longer followed the rest gather on fewer connections; none of their legs
    leaves for a moment, and no book is wrong."""
    limits = {**QUICK, "assets_per_connection": 3}
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=limits) as system:
        await system.all_live()
        group = system.aggregator.groups[platform]
        assert len(group.connections) == (3 if platform == "kalshi" else 2)
        kept = MappingTable(2, (system.table.legs[0], system.table.legs[-1]))
        await system.aggregator.set_table(kept)
        await settled(system, platform, 1)
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        staying = {leg.asset_id for leg in kept.legs}
        assert staying <= system.judge.live()
        assert [entry for entry in system.judge.left if entry[1] in staying] == []
        assert system.judge.wrong == []


@pytest.mark.parametrize("platform", VENUES)
async def test_a_connection_that_brings_too_much_is_split(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """Beyond the frames per second that one connection should bring, half of the traffic moves to a new one,
    and no leg leaves."""
    limits = {**QUICK, "frames_per_s": 3.0, "connections": 2}
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=limits) as system:
        await system.all_live()
        await settled(system, platform, 2)
        first, second = system.aggregator.groups[platform].connections
        assert abs(len(first.assets) - len(second.assets)) <= 1
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        assert system.judge.left == []
        assert system.judge.wrong == []


@pytest.mark.parametrize("platform", VENUES)
async def test_an_unrepaired_connection_is_succeeded_by_another(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """`unrepaired` opens a successor and closes the connection only when that has its books: legs that are
    well never leave. At the venue's limit of connections the socket is replaced at once instead."""
    async with running(monkeypatch, sim={"sim_venues": (platform,)}, limits=QUICK) as system:
        await system.all_live()
        group = system.aggregator.groups[platform]
        (before,) = group.connections
        body = {"assets": [], "why": "unrepaired", "source": "venue", "connection": before.id}
        for _ in range(3):
            system.bus.publish(subjects.resync(platform), orjson.dumps(body))
        assert len(group.connections) == 2
        await settled(system, platform, 1)
        (after,) = group.connections
        assert after is not before
        async with asyncio.timeout(5):
            while before.open:
                await asyncio.sleep(0.01)
        compared = system.judge.compared
        await system.judge.until(lambda: system.judge.compared > compared + 50, 20)
        assert system.judge.left == []
        assert system.judge.wrong == []
        group.limits = Limits(connections=1)
        system.bus.publish(subjects.resync(platform), orjson.dumps({**body, "connection": after.id}))
        assert len(group.connections) == 1
        await system.judge.until(lambda: len(system.judge.live()) == 0, 5)
        await system.all_live()
        assert system.judge.wrong == []
