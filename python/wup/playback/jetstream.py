"""A log that JetStream captured (`wup.recorder.stream`), read from its beginning to what is there now.

The client is asyncio's and lives in a thread of its own, so that a replay reads a stream as it reads a file.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

import orjson
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from wup.bus.once import connect_once
from wup.errors import BusError
from wup.logs import redacted
from wup.playback.reader import LAST_N, LAST_US, BadLine
from wup.raw import Meta, read_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nats.aio.msg import Msg

_BATCH = 500
_WAITING = 4000
SILENT_US = 5_000_000
"""Marks come each second: a connection silent for so long is gone, and nobody was there to say so."""

_Item = tuple[Meta, bytes] | BadLine | Exception | None


class StreamLog:
    """One JetStream stream as a log.

    Args:
        end_us: records received at or after this time are left out.
    """

    def __init__(self, url: str, stream: str, *, end_us: int | None = None) -> None:
        self._url = url
        self._stream = stream
        self._end_us = end_us

    def timers(self) -> bool:
        """Normalizers publish their decisions on `market.>`, so that they are in the stream."""
        return False

    def records(self, bad: Callable[[BadLine], None]) -> Iterator[tuple[Meta, bytes]]:
        """All records that are in the stream now.

        Raises:
            BusError: NATS is away, has no JetStream, or no such stream.
        """
        return self._closing(self._read(bad))

    def _read(self, bad: Callable[[BadLine], None]) -> Iterator[tuple[Meta, bytes]]:
        items: queue.Queue[_Item] = queue.Queue(_WAITING)
        over = threading.Event()
        thread = threading.Thread(target=self._run, args=(items, over), name="jetstream", daemon=True)
        thread.start()
        try:
            while (item := items.get()) is not None:
                if isinstance(item, BadLine):
                    bad(item)
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield item
        finally:
            over.set()
            while thread.is_alive():
                # It may wait for room.
                try:
                    items.get(timeout=0.05)
                except queue.Empty:
                    continue

    def _closing(self, log: Iterator[tuple[Meta, bytes]]) -> Iterator[tuple[Meta, bytes]]:
        """The log with a `close` for each connection whose marks stopped."""
        heard: dict[tuple[str, str], int] = {}
        looked_us = 0
        for meta, payload in log:
            key = (meta.platform, meta.connection)
            if meta.kind == "close":
                heard.pop(key, None)
            elif meta.kind in ("open", "frame", "marks"):
                heard[key] = meta.rx_us
            if meta.rx_us - looked_us >= 1_000_000:
                looked_us = meta.rx_us
                for gone in [k for k, last_us in heard.items() if meta.rx_us - last_us > SILENT_US]:
                    del heard[gone]
                    yield Meta("close", gone[0], gone[1], meta.rx_us, 0), b'{"why":"upstream_silent"}'
            yield meta, payload

    # --- the thread --------------------------------------------------------------------------------

    def _run(self, items: queue.Queue[_Item], over: threading.Event) -> None:
        try:
            asyncio.run(self._fetch(items, over))
        except Exception as error:
            items.put(error)
        else:
            items.put(None)

    async def _fetch(self, items: queue.Queue[_Item], over: threading.Event) -> None:
        where = f"NATS at {redacted(self._url)}"
        client = await connect_once(self._url, "wup-replay")
        try:
            jetstream = client.jetstream(timeout=10)
            try:
                state = (await client.jsm(timeout=10).stream_info(self._stream)).state
            except NotFoundError as problem:
                raise BusError(f"{where} has no stream {self._stream}") from problem
            if not state.messages:
                return
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, inactive_threshold=30.0
            )
            consumer = await jetstream.pull_subscribe("", stream=self._stream, config=config)
            place = 0
            while place < state.last_seq and not over.is_set():
                for message in await consumer.fetch(_BATCH, timeout=10):
                    place = message.metadata.sequence.stream
                    if place > state.last_seq:
                        break
                    item = self._item(message, place)
                    if item is not None:
                        try:
                            items.put_nowait(item)
                        except queue.Full:
                            await asyncio.to_thread(items.put, item)
                    if over.is_set():
                        break
        except (NatsError, TimeoutError) as problem:
            raise BusError(f"{where}, stream {self._stream}: {problem!r}") from problem
        finally:
            await client.close()

    def _item(self, message: Msg, place: int) -> _Item:
        tokens = message.subject.split(".")
        platform = tokens[1] if tokens[0] == "market" else tokens[2] if len(tokens) > 2 else ""
        meta = read_meta(platform, message.headers)
        error = None
        if meta is None:
            error = "no record of ours"
        elif not (0 <= meta.rx_us <= LAST_US and 0 <= meta.n <= LAST_N):
            error = "rx_us or n out of range"
        elif meta.kind not in ("frame", "sent"):
            try:
                if not isinstance(orjson.loads(message.data), dict):
                    error = f"{meta.kind} is no JSON object"
            except orjson.JSONDecodeError as problem:
                error = f"{meta.kind}: {problem}"
        if error is not None or meta is None:
            return BadLine(f"jetstream:{self._stream}", place, str(error))
        if self._end_us is not None and meta.rx_us >= self._end_us:
            return None
        return meta, message.data
