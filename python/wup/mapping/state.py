"""Which mapping stands in Redis: the number of its version, and the run of the event service that gave it.

Numbers alone are not enough: a service that starts over an empty Redis counts from its files' number again,
and a stage that outlived both would meet a number that it knows over another content. So every run of the
service has a random id, which is written with each version, and only equal pairs are equal versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from wup import logs

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

VERSION = "mapping:version"
RUN = "mapping:run"
_TOO_LARGE = 2**60


@dataclass(frozen=True, slots=True)
class State:
    """A published version. `run` is None in what was published before runs had ids."""

    run: str | None
    version: int


async def read_state(redis: Redis) -> State | None:
    """What stands there; None when nothing was published, or the version is not a number."""
    async with redis.pipeline(transaction=True) as pipe:
        queue_state(pipe)
        return state_of(*await pipe.execute(raise_on_error=False))


async def watch_state(pipe: Pipeline) -> State | None:
    """What stands there, watched: the transaction that follows is refused if somebody changes it before."""
    await pipe.watch(VERSION, RUN)
    answers: list[Any] = []
    for key in (VERSION, RUN):
        try:
            answers.append(await pipe.get(key))
        except ResponseError as error:
            answers.append(error)
    return state_of(*answers)


def queue_state(pipe: Pipeline) -> None:
    """Ask for the two keys whose answers `state_of` takes."""
    pipe.get(VERSION)
    pipe.get(RUN)


def state_of(version: Any, run: Any) -> State | None:
    """The state that two answers tell; another type of value under one of the names is none."""
    for key, answer in ((VERSION, version), (RUN, run)):
        if isinstance(answer, ResponseError):
            logs.bad_input("mapping", "", "bad_record", f"{key}: {answer}")
        elif isinstance(answer, Exception):
            raise answer
    if not isinstance(version, bytes) or not version.isdigit() or len(version) > 19:
        return None
    number = int(version)
    if number >= _TOO_LARGE:
        return None
    return State(run.decode("utf-8", "replace") if isinstance(run, bytes) else None, number)
