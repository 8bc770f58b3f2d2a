"""What the tests of the security check list share: tokens, a gateway behind them, and the end of a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.conftest import Starter, ready
from gateway.engine import Engine
from wup.gateway import Gateway, Limits

FULL, FED = "canary-token-for-everything", "canary-token-for-fed-only"
Tokens = Callable[..., str]


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


async def guarded(start: Starter, engine: Engine, path: str, **limits: Any) -> Gateway:
    gateway = await start(Limits(**limits), tokens_file=path)
    engine.marks()
    await ready(gateway)
    return gateway


async def rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What comes until the other side ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        found = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return found


def local_addresses(port: int) -> list[str]:
    """The addresses, in hex, on which this machine listens at a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
