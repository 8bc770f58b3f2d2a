"""One plain NATS connection for a task with an end: now or an error, no reconnecting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import nats
from nats.errors import Error as NatsError

from wup.errors import BusError
from wup.logs import redacted

if TYPE_CHECKING:
    from nats.aio.client import Client


async def connect_once(url: str, name: str, timeout: float = 5.0) -> Client:
    """A client of nats-py; the caller closes it.

    Raises:
        BusError: no server answers within `timeout` seconds.
    """
    problems: list[Exception] = []

    async def note(problem: Exception) -> None:
        problems.append(problem)

    try:
        async with asyncio.timeout(timeout):
            return await nats.connect(
                [part.strip() for part in url.split(",") if part.strip()],
                name=name,
                allow_reconnect=False,
                connect_timeout=max(1, int(timeout)),
                error_cb=note,
            )
    except (TimeoutError, NatsError, OSError) as problem:
        found = problems[-1] if problems else problem
        detail = str(found) or type(found).__name__
        raise BusError(f"NATS at {redacted(url)} cannot be reached: {detail}") from problem
