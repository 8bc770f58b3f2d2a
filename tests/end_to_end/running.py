"""Commands of WUP as real processes, for the end-to-end tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from wup.processes import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

FREE_PORTS = {
    "METRICS_PORT": "0",
    "HTTP_PORT": "0",
    "ORDERBOOK_HTTP_PORT": "0",
    "EVENTS_HTTP_PORT": "0",
    "WS_PORT": "0",
}


class Command:
    """A running `wup` command and the JSON lines it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def until(self, kind: str, timeout: float = 40) -> dict[str, Any]:
        """The next line of a type."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            while True:
                line = await self.process.stdout.readline()
                if not line:
                    raise AssertionError(
                        f"ended with {await self.process.wait()} before {kind!r}: {self.lines[-3:]}"
                    )
                if line.startswith(b"{"):
                    message = orjson.loads(line)
                    self.lines.append(message)
                    if message.get("type") == kind:
                        return message  # type: ignore[no-any-return]

    async def end(self, how: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
        """Signal, then the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await asyncio.wait_for(self.process.wait(), timeout)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without servers of its own, on free ports, with `more`."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("NATS_URL", "REDIS_URL", "MAPPINGS")}
    return {**inherited, **FREE_PORTS, **more}


@contextlib.asynccontextmanager
async def command(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Command]:
    """Run `wup ARGUMENTS...` on free ports; killed at the end if it still runs, and when we are."""
    process = await asyncio.create_subprocess_exec(
        *guarded([sys.executable, "-m", "wup", *arguments]),
        env=environment(env or {}),
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1024 * 1024,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def descendants(pid: int) -> list[int]:
    """All living children, their children, and so on."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    """Does the process run (a zombie does not)?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        # Gone before the file was opened, or between that and reading it.
        return False


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


async def all_gone(pids: list[int], timeout: float = 10) -> bool:
    """Do these processes end within `timeout` seconds?"""
    try:
        async with asyncio.timeout(timeout):
            while any(alive(pid) for pid in pids):
                await asyncio.sleep(0.02)
    except TimeoutError:
        return False
    return True
