"""The examples of docs/clients.md and the README run as they are printed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.engine import Engine
from wup.gateway import Gateway

_ROOT = Path(__file__).parents[2]
_ADDRESS = "ws://127.0.0.1:8082/ws"


def examples(page: str) -> list[str]:
    """The Python blocks of a page that talk to a gateway."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (_ROOT / page).read_text(), re.M | re.S)
    return [block for block in blocks if _ADDRESS in block]


EXAMPLES = examples("docs/clients.md")


def test_there_are_examples() -> None:
    """The page shows the plain, the full, the blocking and the table form."""
    assert len(EXAMPLES) >= 4


@contextlib.asynccontextmanager
async def running(
    engine: Engine, gateway: Gateway, example: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An example as a program of its own, with a market that moves."""
    script = example.replace(_ADDRESS, f"ws://127.0.0.1:{gateway.port}/ws")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-W", "error", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    async def trade() -> None:
        while True:
            engine.step()
            await asyncio.sleep(0.02)

    market = asyncio.create_task(trade())
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        market.cancel()
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_example(engine: Engine, gateway: Gateway, example: str) -> None:
    """A reader who copies the example gets output and no error."""
    async with running(engine, gateway, example) as process:
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert out.strip(), errors.decode()


async def test_readme(engine: Engine, gateway: Gateway) -> None:
    """The first client of the README prints books for as long as it runs."""
    (example,) = examples("README.md")
    async with running(engine, gateway, example) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert b"Level" in await process.stdout.readline()
