"""`wup up` prints the SHA-256 of what it said, and `wup verify` finds the same in its recording."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from end_to_end.running import command


async def test_a_live_process_and_its_recording_agree(tmp_path: Path) -> None:
    """With the event service, the mapping, the gateway and real sockets; the recording is whole."""
    mapping, folder = tmp_path / "sim.toml", tmp_path / "log"
    async with command("sim", "both", "--mapping", str(mapping), "--json", env={"SIM_RATE": "80"}) as sims:
        where = (await sims.until("ready"))["env"]
        env = {**where, "MAPPINGS": str(mapping), "RECORD_DIR": str(folder), "RECORD_SEGMENT_SIZE": "64KiB"}
        async with command("up", "--json", "--sha256", env=env) as up:
            await up.until("ready")
            await asyncio.sleep(6)
            up.process.terminate()
            live = await up.until("output")
            assert await asyncio.wait_for(up.process.wait(), 20) == 0
    async with command("verify", str(folder)) as judged:
        assert judged.process.stdout is not None
        found = orjson.loads(await judged.process.stdout.read())
    assert found["whole"], found
    assert found["messages"] == live["messages"] > 100
    assert found["sha256"] == live["sha256"]
