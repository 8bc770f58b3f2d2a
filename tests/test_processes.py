"""Children never outlive us, however we end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from wup import processes, servers

PARENT = """
import asyncio, sys
from wup import servers
async def main():
    async with servers.embedded_nats() as nats, servers.embedded_valkey() as valkey:
        print(nats, valkey, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_server_is_left_behind(how: signal.Signals) -> None:
    """The embedded servers are gone after SIGKILL, SIGTERM or SIGINT of their parent."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout is not None
    assert await asyncio.wait_for(parent.stdout.readline(), 20)
    pids = children(parent.pid)
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.kill(parent.pid, how)
    await parent.wait()
    async with asyncio.timeout(5):
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.01)


async def test_stop_kills_what_does_not_listen() -> None:
    """A child that ignores SIGTERM is killed after the grace time."""
    child = await processes.start(
        [
            sys.executable,
            "-c",
            "import signal,time;signal.signal(15,signal.SIG_IGN);print(1,flush=True);time.sleep(60)",
        ]
    )
    assert child.stdout is not None
    await child.stdout.readline()
    assert await processes.stop(child, grace_s=0.2) == -signal.SIGKILL


async def test_embedded_servers_answer(nats_url: str, redis_url: str) -> None:
    """Both servers are real, on loopback, and accept what WUP needs of them."""
    import nats
    import redis.asyncio as redis

    client = await nats.connect(nats_url)
    assert client.max_payload == 8 * 1024 * 1024
    await client.close()
    store = redis.Redis.from_url(redis_url)
    await store.set("a", "b")
    assert await store.get("a") == b"b"
    await store.aclose()
    assert "127.0.0.1" in redis_url
    assert "127.0.0.1" in nats_url


def test_a_missing_binary_is_a_settings_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the extra `embedded` and without a server on PATH the error names the variable to set."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    from wup.errors import SettingsError

    with pytest.raises(SettingsError, match="NATS_URL"):
        servers.nats_binary()
