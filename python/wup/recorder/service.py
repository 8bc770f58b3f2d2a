"""The recorder on a bus: everything of `market.>` and every mapping, in the order of this process.

Subscribe it after the normalizer: a verdict that the normalizer takes while it reads a frame then stands
before that frame in the log, as it does in the normalizer's own order.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import orjson

from wup import subjects
from wup.clock import SYSTEM_CLOCK
from wup.recorder.follower import Follower
from wup.recorder.journal import Journal
from wup.recorder.writer import Checkpoint, Table, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.bus import Bus, Message, Subscription
    from wup.clock import Clock
    from wup.mapping.table import MappingTable

MIB = 2**20
_AT_ONCE = 16
"""Books taken before the loop may do something else: about 0.2 ms."""
_TRIES, _LATER_S = 8, 0.25


class Books(Protocol):
    """A normalizer's engine, as the recorder needs it."""

    def followed(self) -> list[tuple[str, str]]:
        """(platform, asset) of everything that is followed."""
        ...

    def checkpoint(self, platform: str, asset_id: str) -> tuple[str, bytes] | None:
        """(connection, body of a `book` record) of a live, whole book."""
        ...


class Recorder:
    """Writes the ordered log of wire.md section 6 to a folder; the loop never waits for the disk.

    Args:
        folder: where segments go; made when missing. One recorder per folder.
        segment_bytes: packed size of one segment.
        segment_age_s: age at which a segment is closed.
        max_bytes: all segments together; the oldest are deleted.
        max_age_s: age of a segment's last record at which it is deleted.
        epoch: of the normalizer in this process; without one the recorder's own start.
        book_epoch: the last book epoch given out in this process (`BookStore.last_epoch`), so that a replay
            gives out the same; None where no orderbook service runs here.
        queue_bytes: payload bytes that may wait for the disk.
        books: the engine of the normalizer on this bus, or a `Follower`, which is told here what is recorded.
            Each segment then holds the books as they were at its beginning, and can be read without those
            before it.
    """

    def __init__(
        self,
        bus: Bus,
        folder: str | Path,
        *,
        segment_bytes: int = 64 * MIB,
        segment_age_s: float = 3600.0,
        max_bytes: int = 20 * 1024 * MIB,
        max_age_s: float = 7 * 86_400.0,
        clock: Clock = SYSTEM_CLOCK,
        epoch: int | None = None,
        book_epoch: Callable[[], int] | None = None,
        queue_bytes: int = 64 * MIB,
        books: Books | Follower | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._book_epoch = book_epoch
        self._given_out = 0
        journal = Journal(
            Path(folder),
            segment_bytes=segment_bytes,
            max_bytes=max_bytes,
            max_age_us=round(max_age_s * 1_000_000),
        )
        self._writer = Writer(
            journal,
            clock,
            run=clock.now_us() // 1000 if epoch is None else epoch,
            segment_age_s=segment_age_s,
            queue_bytes=queue_bytes,
            refill=self._refill,
            began=None if books is None else self._segment_began,
        )
        self._books = books
        self._follower = books if isinstance(books, Follower) else None
        self._taking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._subscription: Subscription | None = None

    @property
    def problem(self) -> str | None:
        """Why nothing is being written (`disk_full`, `unwritable`, ...), None while all is well."""
        return self._writer.problem

    async def start(self) -> None:
        """Take the folder and begin. A disk that refuses does not stop the start; it is tried again.

        Raises:
            SettingsError: another recorder writes to this folder.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._writer.claim)
        self._thread = threading.Thread(target=self._writer.run, name="recorder", daemon=True)
        self._thread.start()
        take = self._writer.put if self._follower is None else self._take
        self._subscription = await self._bus.subscribe(subjects.RAW_ALL, take)
        self._bus.on_loss(self._lost)

    def _take(self, message: Message) -> None:
        assert self._follower is not None
        self._follower.take(message)
        self._writer.put(message)

    def set_table(self, table: MappingTable) -> None:
        """A mapping that is in force from now on; to be called after the orderbook service took it."""
        if self._follower is not None:
            self._follower.set_table(table)
        now_us = self._clock.now_us()
        epoch = None if self._book_epoch is None else self._book_epoch()
        rx_us = now_us
        if epoch is not None and self._given_out < epoch <= now_us // 1000:
            # New books were opened with this table, and their epoch says when it came into force.
            rx_us = epoch * 1000
        self._given_out = max(self._given_out, epoch or 0)
        self._writer.put_table(Table(table, rx_us, epoch))

    async def flush(self) -> None:
        """Returns when everything seen so far is on disk, or lost because the disk refused it."""
        if self._thread is None:
            return
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def written() -> None:
            loop.call_soon_threadsafe(done.set)

        self._writer.barrier(written)
        await done.wait()

    async def stop(self) -> None:
        """Write what was seen, end the recording properly, release the folder."""
        if self._subscription is not None:
            await self._subscription.stop()
            self._subscription = None
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        if self._thread is not None:
            self._writer.end()
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _lost(self, why: str) -> None:
        """The bus lost messages on their way to us. Frames leave a hole in their counter; what else was lost
        nobody can tell, so that the run ends."""
        if why in ("slow_reader", "disconnected", "reconnected"):
            self._writer.doubt()

    def _segment_began(self) -> None:
        """Called by the writer's thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take_books)

    def _take_books(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
        self._taking = asyncio.create_task(self._checkpoints(), name="recorder-books")

    async def _checkpoints(self) -> None:
        """Each book at its place in the log, a few at a time; those within a transaction a little later."""
        books = self._books
        assert books is not None
        waiting = books.followed()
        for _ in range(_TRIES):
            later: list[tuple[str, str]] = []
            for place, (platform, asset) in enumerate(waiting, 1):
                found = books.checkpoint(platform, asset)
                if found is None:
                    later.append((platform, asset))
                else:
                    self._writer.put_checkpoint(Checkpoint(platform, *found))
                if place % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            if not later:
                return
            waiting = later
            await asyncio.sleep(_LATER_S)

    def _refill(self, connections: list[tuple[str, str]]) -> None:
        """Ask the venues for whole books: without them nothing of these connections could be replayed.

        Called by the writer's thread.
        """
        loop = self._loop
        if loop is not None:
            # A loop that has ended needs no books.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ask, connections)

    def _ask(self, connections: list[tuple[str, str]]) -> None:
        for platform, connection in connections:
            body = {"assets": "all", "why": "gap", "source": "venue", "connection": connection}
            self._bus.publish(subjects.resync(platform), orjson.dumps(body))
