"""`wup demo` as a user runs it: its summary, a plain client beside it, a wrong mapping, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from end_to_end.plain import PlainClient
from end_to_end.running import all_gone, command, descendants, environment

if TYPE_CHECKING:
    from pathlib import Path

# Whole systems of processes start here: slow where other suites run beside.
pytestmark = pytest.mark.timeout(150)
SECONDS = 10


async def test_the_demo_is_exact_and_a_plain_client_agrees() -> None:
    """Books of both events, levels with several legs, no digest mismatch, truth never different; meanwhile
    a client written against wire.md alone keeps every YES and NO book exact and its counts agree."""
    async with command("demo", "--duration", str(SECONDS), "--json") as demo:
        ready = await demo.until("ready")
        plain = PlainClient()

        last = 0.0

        async def listen() -> None:
            nonlocal last
            async with connect(ready["ws"], max_size=None) as ws:
                await ws.send('{"op":"subscribe","id":"1","books":[">","*.*.no"]}')
                with contextlib.suppress(ConnectionClosed):
                    async for message in ws:
                        plain.receive(message)
                        last = time.monotonic()

        listening = asyncio.create_task(listen())
        summary = await demo.until("summary", 60)
        ended = time.monotonic()
        assert await demo.process.wait() == 0
        # Whatever the listener met, a number that is no number included, must come out here.
        await asyncio.wait_for(listening, 10)
        assert ended - last < 5
    assert summary["digest_mismatches"] == 0
    assert summary["heartbeat_mismatches"] == 0
    assert summary["truth"]["different"] == 0
    assert summary["truth"]["compared"] >= 100
    assert summary["levels_with_several_legs"] > 0
    assert summary["books"] >= 6
    assert summary["deltas_per_s"] > 1
    assert plain.wrong == []
    assert plain.heartbeats > 0
    assert plain.deltas > 100
    yes = {name for name in plain.books if name.endswith(".yes")}
    assert {name.rpartition(".")[0] for name in plain.books} == {name.rpartition(".")[0] for name in yes}
    assert len(plain.books) == 2 * len(yes)
    assert all(book.exact for book in plain.books.values())


async def test_a_flipped_polarity_is_seen_by_truth(tmp_path: Path) -> None:
    """With one leg's polarity read wrongly by a person, the comparison with the true books differs."""
    mapping = tmp_path / "mapping.toml"
    async with command("sim", "both", "--seed", "7", "--json", "--mapping", str(mapping)) as sim:
        await sim.until("ready")
    text = mapping.read_text()
    # The leg's own and that of its evidence: a leg that contradicts its evidence is refused.
    turned = text.replace('polarity = "same"', 'polarity = "inverted"', 2)
    assert turned != text
    mapping.write_text(turned)
    environment = {"MAPPINGS": str(mapping)}
    async with command("demo", "--duration", "6", "--json", "--seed", "7", env=environment) as demo:
        summary = await demo.until("summary", 60)
        assert await demo.process.wait() == 1
    assert summary["truth"]["different"] > 0
    assert summary["digest_mismatches"] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_behind(how: signal.Signals) -> None:
    """After Ctrl-C, SIGTERM or SIGKILL of the demo no child process is left; the first two exit 0."""
    async with command("demo", "--json") as demo:
        await demo.until("first_book")
        children = descendants(demo.process.pid)
        assert len(children) >= 4
        code = await demo.end(how)
        assert code == (-signal.SIGKILL if how is signal.SIGKILL else 0)
        assert await all_gone(children)


async def test_a_busy_port_names_its_setting() -> None:
    """A port that is taken: exit 2, and the setting to change is named; nothing is left running."""
    holder = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = holder.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wup", "demo", "--json", "--duration", "1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment({"WS_PORT": str(port)}),
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 40)
    holder.close()
    assert process.returncode == 2
    assert "WS_PORT" in stderr.decode()


async def test_what_was_recorded_can_be_replayed(tmp_path: Path) -> None:
    """With RECORD on, the demo leaves a folder that `wup replay` reads whole: frames, mapping, all books."""
    folder = tmp_path / "recordings"
    environment_ = {"RECORD": "true", "RECORD_DIR": str(folder)}
    async with command("demo", "--duration", "5", "--json", env=environment_) as demo:
        live = await demo.until("summary", 60)
        assert await demo.process.wait() == 0
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wup", "replay", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, stderr.decode()
    summary = orjson.loads(stderr.splitlines()[-1])
    assert summary["bad_lines"] == 0
    assert summary["frames"] > 500
    assert summary["books"] == live["books"]
