"""A Node for the JavaScript tests: the one that Playwright's wheel brings, so that every checkout has it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
_OLDEST = 20


def bundled() -> str:
    """Playwright's own Node; it has a global WebSocket."""
    found = Path(playwright.__file__).parent / "driver" / "node"
    assert found.exists(), f"Playwright brings no node at {found}"
    return str(found)


def installed() -> str | None:
    """The machine's own Node when it is one that the client promises to run in."""
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return found if int(version.lstrip("v").partition(".")[0]) >= _OLDEST else None


class Driver:
    """`driver.mjs` running: wishes in, what the client believes out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._reports = 0

    async def do(self, action: str, **more: Any) -> None:
        """Send one wish."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": action, **more}).encode() + b"\n")
        await self.process.stdin.drain()

    async def until(self, kind: str, timeout: float = 30, **fields: Any) -> dict[str, Any]:
        """The next line of a type with these fields."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            while True:
                line = await self.process.stdout.readline()
                assert line, f"the driver ended before {kind!r}: {self.lines[-3:]}"
                message: dict[str, Any] = json.loads(line)
                self.lines.append(message)
                wanted = {"type": kind, **fields}
                if all(message.get(name) == value for name, value in wanted.items()):
                    return message

    async def report(self, levels: bool = False) -> dict[str, Any]:
        """What the client believes now."""
        self._reports += 1
        await self.do("report", id=self._reports, levels=levels)
        return await self.until("report", id=self._reports)


@contextlib.asynccontextmanager
async def driver(url: str, **options: Any) -> AsyncIterator[Driver]:
    """A JavaScript client connected to `url`; ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(bundled(), str(HERE / "driver.mjs"), url, json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    try:
        yield Driver(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
