"""`wup watch` and the ladder."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from rich.console import Console
from websockets.asyncio.server import ServerConnection

from client.liar import Liar
from gateway.engine import FED_25, Engine
from wup.client import Ladder, watch
from wup.gateway import Gateway


def url(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/ws"


async def test_json_prints_the_messages(engine: Engine, gateway: Gateway) -> None:
    """With --json each message is one line, as received; Ctrl-C (`stop`) ends with 0."""
    out, stop = io.StringIO(), asyncio.Event()
    task = asyncio.create_task(watch(FED_25, url(gateway), json=True, out=out, stop=stop))
    async with asyncio.timeout(5):
        while '"snapshot"' not in out.getvalue():
            await asyncio.sleep(0.005)
        engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
        while '"delta"' not in out.getvalue():
            await asyncio.sleep(0.005)
        stop.set()
        assert await task == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["snapshot", "delta"]
    assert lines[1]["bids"] == [["0.41", "116.5", {"kalshi": "7", "polymarket": "109.5"}]]


async def test_ladder_view_ends_after_duration(engine: Engine, gateway: Gateway) -> None:
    """Without --json a ladder with legs, state and seq is drawn, and `duration` ends it with 0."""
    out = io.StringIO()
    code = await watch(FED_25, url(gateway), json=False, out=out, stop=asyncio.Event(), duration=0.4)
    assert code == 0
    text = out.getvalue()
    for word in (FED_25, "kalshi", "polymarket", "live", "seq", "connected", "0 mismatches"):
        assert word in text


@pytest.mark.parametrize("as_json", [True, False])
async def test_refused_pattern(gateway: Gateway, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """A pattern that is refused ends with 2 and the reason on stderr."""
    async with asyncio.timeout(5):
        code = await watch("a..b", url(gateway), json=as_json, out=io.StringIO(), stop=asyncio.Event())
    assert code == 2
    assert "bad_pattern" in capsys.readouterr().err


async def test_mismatch_ends_with_one(engine: Engine) -> None:
    """One digest that does not agree makes the exit code 1."""
    liar = Liar()
    await liar.start()
    message = json.loads(engine.store.snapshot(FED_25))
    message["digest"] ^= 1

    async def answer(ws: ServerConnection, op: dict[str, Any]) -> None:
        await liar.agree(ws, op)
        if op["op"] == "subscribe":
            await ws.send(json.dumps(message))

    liar.on_op = answer
    code = await watch(FED_25, liar.url, json=True, out=io.StringIO(), stop=asyncio.Event(), duration=0.5)
    assert code == 1
    await liar.stop()


def show(ladder: Ladder) -> list[str]:
    """The ladder as plain lines."""
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(ladder)
    return out.getvalue().splitlines()


async def test_ladder_shows_sizes_per_leg(engine: Engine) -> None:
    """Asks stand above bids, best in the middle, sizes under their legs, crossed and state below."""
    engine.update("polymarket", "6519", [["0.535", "42.5"]], [])
    lines = show(
        Ladder(engine.store.book(FED_25), title="Fed decision in December", label="25 bps cut", rows=2)
    )
    assert lines[0].strip() == "Fed decision in December: 25 bps cut"
    assert lines[1].strip() == FED_25
    assert lines[3].split() == ["polymarket", "kalshi", "price", "kalshi", "polymarket"]
    rows = [line.split() for line in lines[5:] if line.split()[:1] and line.split()[0][0].isdigit()]
    assert rows == [
        ["0.54", "201", "201"],
        ["0.53", "200", "200"],
        ["42.5", "0.535"],
        ["100.5", "100.5", "0.5"],
    ]
    assert "live crossed" in lines[-1]


async def test_ladder_hides_what_is_not_exact(engine: Engine) -> None:
    """A book that is not exact shows no level and says so; before the first snapshot it says that."""
    text = "\n".join(show(Ladder(engine.store.book(FED_25), exact=False)))
    assert "not exact" in text
    assert "0.53" not in text
    assert "waiting" in "\n".join(show(Ladder(None, name=FED_25)))
