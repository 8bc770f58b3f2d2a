"""The faults of sockets, handshakes and REST, on real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sim.naive import KalshiReader, kalshi_headers
from wup.sim import SimSettings, Simulators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

SECOND = 1_000_000


def headers(simulators: Simulators) -> dict[str, str]:
    env = simulators.env()
    pem = Path(env["KALSHI_PRIVATE_KEY_PATH"]).read_bytes()
    return kalshi_headers(pem, env["KALSHI_API_KEY_ID"], time.time_ns() // SECOND, "/trade-api/ws/v2")


async def closing(socket: ClientConnection) -> AsyncIterator[object]:
    """Whatever still comes until the connection ends, in whatever way."""
    while True:
        try:
            yield await socket.recv()
        except ConnectionClosed:
            return


async def post(simulators: Simulators, *faults: dict[str, Any]) -> Any:
    async with httpx2.AsyncClient() as http:
        answer = await http.post(f"{simulators.control_url()}/faults", json=list(faults))
        assert answer.status_code == 200, answer.text
        return answer.json()["added"]


async def test_refused_handshakes(simulators: Simulators) -> None:
    """401, 429 and maintenance are answers to the upgrade; REST has its own 429 without Retry-After."""
    env = simulators.env()
    for fault, status in (
        ({"kind": "unauthorized"}, 401),
        ({"kind": "rate_limited"}, 429),
        ({"kind": "maintenance"}, 503),
    ):
        await post(simulators, {**fault, "venue": "kalshi", "seconds": 30})
        with pytest.raises(InvalidStatus) as refused:
            async with connect(env["KALSHI_WS_URL"], additional_headers=headers(simulators)):
                pass
        assert refused.value.response.status_code == status
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"{env['KALSHI_API_URL']}/exchange/status")
            if fault["kind"] == "rate_limited":
                assert (answer.status_code, answer.json()) == (429, {"error": "too many requests"})
                assert "retry-after" not in answer.headers
            elif fault["kind"] == "maintenance":
                assert answer.json()["exchange_active"] is False
            await http.delete(f"{simulators.control_url()}/faults")
    async with connect(env["KALSHI_WS_URL"], additional_headers=headers(simulators)):
        pass


async def test_half_open_reset_close(simulators: Simulators) -> None:
    """Half-open: nothing comes, not even a pong. Reset and close end the connection at once."""
    url = simulators.env()["POLYMARKET_WS_URL"]
    token = next(iter(simulators.exchanges["polymarket"].markets.values())).listing.assets[0]
    wish = json.dumps({"type": "market", "assets_ids": [token]})
    async with connect(url, ping_interval=None, close_timeout=0.1) as socket:
        await socket.send(wish)
        await socket.recv()
        await post(simulators, {"kind": "half_open", "venue": "polymarket"})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(await socket.ping(), 0.3)
        assert socket.close_code is None
    for kind, code in (("reset", 1006), ("close", 1001)):
        async with connect(url, ping_interval=None) as socket:
            await socket.send(wish)
            await socket.recv()
            await post(simulators, {"kind": kind, "venue": "polymarket"})
            async for _ in closing(socket):
                pass
            assert (socket.close_code or 1006) == code


async def test_slices_are_whole_frames_in_the_end(simulators: Simulators) -> None:
    """Bytes one by one are the same frames: nothing is lost, doubled or mixed up."""
    env = simulators.env()
    reader = KalshiReader(yes_price=True)
    async with connect(
        env["KALSHI_WS_URL"], additional_headers=headers(simulators), compression=None
    ) as socket:
        await post(simulators, {"kind": "slice", "venue": "kalshi", "seconds": 0.5})
        names = list(simulators.exchanges["kalshi"].markets)
        params = {"channels": ["orderbook_delta"], "market_tickers": names, "use_yes_price": True}
        await socket.send(json.dumps({"id": 1, "cmd": "subscribe", "params": params}))
        while len(reader.frames) < 300:
            reader.frame(str(await socket.recv()))
    assert reader.gaps == []
    assert reader.negative == 0
    assert set(reader.books) == set(names)


async def test_menu_over_http(simulators: Simulators) -> None:
    """Faults are listed while they wait, wrong wishes are refused all or none, DELETE clears."""
    control = f"{simulators.control_url()}/faults"
    async with httpx2.AsyncClient() as http:
        assert await post(simulators, {"kind": "skip_seq", "count": 3, "asset": "KXFEDDECISION-26DEC-H0"})
        shown = (await http.get(control)).json()
        assert {item["kind"] for item in shown["active"]["kalshi"]} <= {"skip_seq"}
        for wrong in (
            {"kind": "no_such_thing"}, {"kind": "drop", "asset": "KXNOSUCH"}, {"kind": "drop", "surprise": 1},
            {"kind": "ghost_book", "venue": "kalshi"},
        ):  # fmt: skip
            answer = await http.post(control, json=[{"kind": "drop", "count": 1_000}, wrong])
            assert answer.status_code == 422
            assert not any(
                item["kind"] == "drop" for item in (await http.get(control)).json()["active"]["kalshi"]
            )
        await http.delete(control)
        assert (await http.get(control)).json()["active"] == {"kalshi": [], "polymarket": []}


async def test_unanswered_pings_can_close(simulators: Simulators) -> None:
    """With the switch on, a client that leaves a ping unanswered is closed at the next one; else it stays."""
    exchange = simulators.exchanges["kalshi"]
    exchange.ping_every_s = 0.05
    for strict in (False, True):
        exchange.close_without_pong = strict
        url = simulators.env()["KALSHI_WS_URL"]
        async with connect(url, additional_headers=headers(simulators), close_timeout=0.1) as socket:
            socket.protocol.send_pong = lambda data: None  # type: ignore[method-assign]
            plain = socket.protocol.recv_frame
            pings: asyncio.Queue[None] = asyncio.Queue()

            def mute(frame: Any, plain: Any = plain, pings: asyncio.Queue[None] = pings) -> None:
                if frame.opcode == 9:
                    pings.put_nowait(None)
                else:
                    plain(frame)

            socket.protocol.recv_frame = mute  # type: ignore[method-assign]
            await pings.get()
            if strict:
                await socket.wait_closed()
                assert socket.close_code == 1002
            else:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(socket.wait_closed(), 0.3)


async def test_slow_readers() -> None:
    """Too much waiting for a client: Kalshi ends its subscriptions with error 25, Polymarket cuts it off."""
    made = Simulators(SimSettings(sim_rate=300, sim_buffer_bytes=2**20))
    await made.start()
    env = made.env()
    names = list(made.exchanges["kalshi"].markets)
    tokens = [market.listing.assets[0] for market in made.exchanges["polymarket"].markets.values()]
    hello = {
        "id": 1,
        "cmd": "subscribe",
        "params": {"channels": ["orderbook_delta"], "market_tickers": names},
    }
    kalshi = connect(env["KALSHI_WS_URL"], additional_headers=headers(made), max_size=None, max_queue=None)
    polymarket = connect(env["POLYMARKET_WS_URL"], max_size=None, max_queue=None)
    async with kalshi as first, polymarket as second:
        await first.send(json.dumps(hello))
        await second.send(json.dumps({"type": "market", "assets_ids": tokens}))
        await first.recv()
        await second.recv()
        for socket in (first, second):
            socket.transport.pause_reading()
        await post(made, {"kind": "huge", "value": 30_000_000})
        while len([d for item in made.exchanges.values() for d in item.menu.done]) < 2:
            await post(made, {"kind": "burst"})
        for socket in (first, second):
            socket.transport.resume_reading()
        async for text in closing(first):
            if str(text).startswith('{"type":"error"'):
                assert json.loads(str(text))["msg"]["code"] == 25
                break
        async for _ in closing(second):
            pass
        assert (second.close_code or 1006) == 1006
    await made.stop()


async def test_rest_faults(simulators: Simulators) -> None:
    """A cached REST book stays as it was while the true one moves on; a ghost book shows 0.01 and 0.99."""
    env = simulators.env()
    ticker = next(iter(simulators.exchanges["kalshi"].markets))
    market = simulators.exchanges["kalshi"].markets[ticker]
    token = next(iter(simulators.exchanges["polymarket"].markets.values())).listing.assets[0]
    await post(simulators, {"kind": "cached_rest"}, {"kind": "ghost_book"})
    async with httpx2.AsyncClient() as http:
        url = f"{env['KALSHI_API_URL']}/markets/{ticker}/orderbook"
        first, seen = (await http.get(url)).json(), market.changed_us
        while market.changed_us == seen:
            await http.get(f"{simulators.control_url()}/books", params={"asset": ticker})
        assert (await http.get(url)).json() == first
        ghost = (await http.get(f"{env['POLYMARKET_CLOB_URL']}/book", params={"token_id": token})).json()
        assert (ghost["bids"][0]["price"], ghost["asks"][0]["price"]) == ("0.01", "0.99")
        await http.delete(f"{simulators.control_url()}/faults")
        assert (
            len(
                (await http.get(f"{env['POLYMARKET_CLOB_URL']}/book", params={"token_id": token})).json()[
                    "bids"
                ]
            )
            > 1
        )
