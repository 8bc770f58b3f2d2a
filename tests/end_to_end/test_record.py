"""`wup record` as a process of its own: over NATS, killed, out of space, and what an operator is told."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import orjson
import pytest

from end_to_end.running import command
from recorder.feeding import Feed, kinds, records
from wup import servers
from wup.bus import NatsBus
from wup.playback import Replay
from wup.playback.sources import FilesLog, Part, find, parse_time
from wup.playback.verify import verify
from wup.recorder import segments


async def ready(url: str) -> tuple[int, list[str]]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/readyz")
    return answer.status_code, answer.json().get("reasons", [])


async def until_ready(url: str, wanted: tuple[int, list[str]]) -> None:
    async with asyncio.timeout(20):
        while await ready(url) != wanted:
            await asyncio.sleep(0.1)


async def until_frames(folder: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while len(frames(folder)) < count:
            await asyncio.sleep(0.1)


def frames(folder: Path) -> list[int]:
    return [meta.n for meta, _ in records(segments(folder)) if meta.kind == "frame"]


async def test_a_recorder_alone_killed_and_begun_again(tmp_path: Path, nats_url: str, redis_url: str) -> None:
    """Over NATS: what was published a second before SIGKILL is on disk and reads without a bad line; the next
    recorder ends the dead one's connections and goes on in a run of its own; a second one is refused."""
    folder = tmp_path / "log"
    env = {"NATS_URL": nats_url, "REDIS_URL": redis_url, "RECORD_DIR": str(folder)}
    bus = await NatsBus.connect(nats_url, name="test")
    feed = Feed(bus)  # type: ignore[arg-type]
    async with command("record", env=env) as recorder:
        said = await recorder.until("ready")
        assert said["folder"] == str(folder)
        feed.say("open", b"{}")
        feed.frames(50)
        await bus.flush()
        assert await ready(f"http://127.0.0.1:{said['http']}") == (200, [])
        async with command("record", env=env) as second:
            assert await asyncio.wait_for(second.process.wait(), 30) == 2
        # A second after the last frame was published.
        await asyncio.sleep(1)
        await recorder.end(signal.SIGKILL)
    assert frames(folder) == list(range(1, 51))
    async with command("record", env=env) as recorder:
        await recorder.until("ready")
        feed.connection = "c.2"
        feed.n = 0
        feed.say("open", b"{}")
        feed.frames(3)
        await bus.flush()
        await until_frames(folder, 53)
        assert await recorder.end() == 0
    assert frames(folder)[50:] == [1, 2, 3]
    found = [
        (meta.kind, meta.connection)
        for meta, _ in records(segments(folder))
        if meta.kind in ("start", "open", "close")
    ]
    (gap,) = verify(Replay(find([folder])), [folder])["gaps"]
    assert gap["why"] == "recorder_off"
    # What happened in a gap shows in both runs around it.
    middle = (parse_time(gap["from"]) + parse_time(gap["to"])) // 2
    source = find([folder], part=Part(middle, None))
    assert isinstance(source, FilesLog)
    assert list(source.paths) == segments(folder)
    assert found == [
        ("start", ""),
        ("open", "c.1"),
        ("close", "c.1"),
        ("start", ""),
        ("open", "c.2"),
        ("close", "c.2"),
    ]
    await bus.close()


async def test_a_file_that_may_not_grow_stops_the_recording_only(
    tmp_path: Path, nats_url: str, redis_url: str
) -> None:
    """The system refuses further bytes: `/readyz` names it, the process lives, and recording goes on by
    itself when there is room again; what was written before is whole."""
    folder = tmp_path / "log"
    env = {"NATS_URL": nats_url, "REDIS_URL": redis_url, "RECORD_DIR": str(folder)}
    bus = await NatsBus.connect(nats_url, name="test")
    feed = Feed(bus)  # type: ignore[arg-type]
    async with command("record", env=env) as recorder:
        url = f"http://127.0.0.1:{(await recorder.until('ready'))['http']}"
        pid = recorder.process.pid
        feed.say("open", b"{}")
        feed.frames(5)
        await bus.flush()
        await until_frames(folder, 5)
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (2_000, most))
        feed.frames(3, os.urandom(4_000).hex().encode())
        await bus.flush()
        await until_ready(url, (503, ["recorder_disk_full"]))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
        await until_ready(url, (200, []))
        feed.frames(2)
        await bus.flush()
        assert await recorder.end() == 0
    found = frames(folder)
    assert found[:5] == [1, 2, 3, 4, 5]
    assert found[-2:] == [9, 10]
    assert kinds(segments(folder))[-1] == "close"
    await bus.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_stops_the_recording_only(small_disk: Path, nats_url: str, redis_url: str) -> None:
    """The same on a real file system that is full, and room made by deleting something else."""
    folder = small_disk / "log"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 600_000)
    env = {"NATS_URL": nats_url, "REDIS_URL": redis_url, "RECORD_DIR": str(folder)}
    bus = await NatsBus.connect(nats_url, name="test")
    feed = Feed(bus)  # type: ignore[arg-type]
    async with command("record", env=env) as recorder:
        url = f"http://127.0.0.1:{(await recorder.until('ready'))['http']}"
        feed.say("open", b"{}")
        feed.frames(5)
        await bus.flush()
        await until_frames(folder, 5)
        feed.frames(100, os.urandom(8_000).hex().encode())
        for _ in range(100):
            feed.frames(1, os.urandom(8_000).hex().encode())
        await bus.flush()
        await until_ready(url, (503, ["recorder_disk_full"]))
        ballast.unlink()
        await until_ready(url, (200, []))
        feed.frames(2)
        await bus.flush()
        assert await recorder.end() == 0
    found = frames(folder)
    assert found[:5] == [1, 2, 3, 4, 5]
    assert found[-2:] == [206, 207]
    await bus.close()


async def test_a_stream_alone(tmp_path: Path, redis_url: str) -> None:
    """With RECORD_STREAM and without a folder: JetStream keeps the log, and another process replays it while
    the recorder is gone."""
    async with servers.embedded_nats(jetstream=True) as url:
        env = {"NATS_URL": url, "REDIS_URL": redis_url, "RECORD": "false", "RECORD_STREAM": "WUP"}
        bus = await NatsBus.connect(url, name="test")
        feed = Feed(bus)  # type: ignore[arg-type]
        async with command("record", env=env) as recorder:
            said = await recorder.until("ready")
            assert (said["folder"], said["stream"]) == (None, "WUP")
            feed.say("open", b"{}")
            feed.frames(20)
            await bus.flush()
            await recorder.end(signal.SIGKILL)
        feed.frames(5)
        await bus.flush()
        async with command("replay", "jetstream:WUP", "--out", str(tmp_path / "out"), env=env) as replay:
            assert await asyncio.wait_for(replay.process.wait(), 30) == 0
        async with command("verify", "jetstream:WUP", env=env) as judged:
            assert judged.process.stdout is not None
            found = orjson.loads(await judged.process.stdout.read())
        assert (found["frames"], found["whole"]) == (25, True)
        await bus.close()


async def test_nothing_to_record_to_is_told() -> None:
    """RECORD=false without a stream: exit 2."""
    async with command("record", env={"RECORD": "false"}) as recorder:
        assert await asyncio.wait_for(recorder.process.wait(), 30) == 2
