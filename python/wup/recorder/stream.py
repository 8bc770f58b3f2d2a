"""JetStream as a second home of the log: a stream that captures `market.>`, and the mapping beside it.

Frames, marks and verdicts go into the stream by their subject, without us. What is about no connection is
not on `market.>`: the mapping is published on `recording.>`, which the same stream captures, each time it
changes and again every ten minutes, so that a stream that forgets its oldest messages still has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import orjson
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from wup import __version__, logs, subjects
from wup.bus.once import connect_once
from wup.clock import SYSTEM_CLOCK
from wup.errors import BusError
from wup.raw import Kind, Meta
from wup.recorder.records import table_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.bus import Bus
    from wup.clock import Clock
    from wup.mapping.table import MappingTable

AGAIN_S = 600.0


async def capture(url: str, name: str, *, max_bytes: int, max_age_s: float) -> None:
    """Make the stream `name`, or bring an existing one to these bounds.

    Raises:
        BusError: NATS is away, has no JetStream, or refuses the stream.
    """
    config = StreamConfig(
        name=name,
        subjects=[subjects.RAW_ALL, subjects.RECORDING_ALL],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_bytes=max_bytes,
        max_age=max_age_s,
    )
    client = await connect_once(url, "wup-stream")
    try:
        manager = client.jsm(timeout=5)
        try:
            await manager.stream_info(name)
        except NotFoundError:
            await manager.add_stream(config)
        else:
            await manager.update_stream(config)
    except (NatsError, TimeoutError) as problem:
        detail = problem.description if isinstance(problem, BadRequestError) else repr(problem)
        raise BusError(
            f"JetStream at {logs.redacted(url)} refuses stream {name}: {logs.clean(str(detail))}"
        ) from problem
    finally:
        await client.close()


class MappingLog:
    """Publishes the mapping in force as records of the log.

    `epoch` is that of the normalizer in this process: another epoch tells a reader that nothing is connected
    any more. Without one (a recorder alone) no `start` is published.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock = SYSTEM_CLOCK,
        *,
        epoch: int | None = None,
        book_epoch: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._epoch = epoch
        self._book_epoch = book_epoch
        self._table: MappingTable | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say which run this is, and begin to repeat the mapping."""
        if self._epoch is not None:
            body = {"epoch": self._epoch, "version": __version__, "verdicts": True, "why": "starting"}
            self._publish("start", "", orjson.dumps(body))
        self._task = asyncio.create_task(self._repeat(), name="recording-mapping")

    async def stop(self) -> None:
        """No more is published after this returns."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def set_table(self, table: MappingTable) -> None:
        """A mapping that is in force from now on."""
        self._table = table
        self._say()

    def _say(self) -> None:
        if self._table is None:
            return
        epoch = None if self._book_epoch is None else self._book_epoch()
        for line in table_lines(self._table, self._clock.now_us(), epoch):
            fields = orjson.loads(line)
            self._publish(fields["kind"], fields.get("platform", ""), line.rstrip())

    def _publish(self, kind: Kind, platform: str, payload: bytes) -> None:
        meta = Meta(kind, platform, "", self._clock.now_us(), 0)
        self._bus.publish(subjects.recording(kind, platform), payload, meta.headers())

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            self._say()
