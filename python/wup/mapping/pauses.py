"""The pauses of venues as a whole, kept in Redis: a service that starts in one must not show open markets
until the venue has said again that it does not trade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup import logs
from wup.mapping.catalogue import Pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

PAUSED = "mapping:paused"
"""A hash: platform -> `{"part": null or [fact, [values]], "until_us": integer or null}`."""
_LARGEST = 64 * 1024


async def load_pauses(redis: Redis) -> dict[str, Pause]:
    """By platform, what an earlier run heard last; what cannot be read is counted and left out."""
    kind: Any = await redis.type(PAUSED)
    if kind != b"hash":
        if kind != b"none":
            logs.bad_input("events", "", "bad_record", f"{PAUSED}: a {kind.decode()}")
        return {}
    found: dict[str, Pause] = {}
    stored: Any = await redis.hgetall(PAUSED)
    for name, text in stored.items():
        try:
            found[name.decode()] = _read(text)
        except (ValueError, TypeError, KeyError) as error:
            logs.bad_input("events", "", "bad_record", f"{PAUSED}: {error!r}")
    return found


async def save_pauses(redis: Redis, pauses: Mapping[str, Pause | None]) -> None:
    """Remember these; None: the venue trades. Others stay as they are."""
    if await redis.type(PAUSED) not in (b"hash", b"none"):
        await redis.delete(PAUSED)
    async with redis.pipeline(transaction=True) as pipe:
        for platform, pause in pauses.items():
            if pause is None:
                pipe.hdel(PAUSED, platform)
            else:
                pipe.hset(PAUSED, platform, _text(pause))
        await pipe.execute()


def _text(pause: Pause) -> str:
    part = None if pause.part is None else [pause.part[0], sorted(pause.part[1])]
    return orjson.dumps({"part": part, "until_us": pause.until_us}).decode()


def _read(text: bytes) -> Pause:
    if len(text) > _LARGEST:
        raise ValueError(f"over {_LARGEST} bytes")
    body = orjson.loads(text)
    part, until_us = body["part"], body["until_us"]
    if until_us is not None and type(until_us) is not int:
        raise ValueError(f"until_us {until_us!r}")
    if part is None:
        return Pause(None, until_us)
    fact, values = part
    if not isinstance(fact, str) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"part {part!r}"[:200])
    return Pause((fact, frozenset(values)), until_us)
