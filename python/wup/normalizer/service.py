"""Raw records from the bus, normalised messages to the bus: the engine with a clock and a socket.

Inline in the aggregator's process or standalone: the same code over an in-process bus or NATS.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import orjson

from wup import logs, subjects
from wup.mapping.table import EMPTY
from wup.metrics import HASH_CHECKS, LATENCY, MARKETS_LISTED
from wup.normalizer.audit import Audits
from wup.normalizer.engine import Engine
from wup.raw import Meta, read_meta
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wup.bus import Bus, Message
    from wup.bus.base import Subscription
    from wup.clock import Clock
    from wup.mapping.table import MappingTable
    from wup.venues.base import ListingChanged, Venue

STAGE = "normalizer"
TIMER_S = 0.05
MARKS_S = 1.0
STATUS_PARTS = 1200
"""Timers between two repeats of a status, a minute, for logs whose beginning is gone: a few at each."""
STATUS_OF = "none.0"
"""Statuses are about markets and no connection; the name stands where a connection's would."""
STALLED_S = 0.5
"""A timer that comes this late means that we stood still, not the others."""
CONTROL = "control.resync.*"
AUDIT = "control.audit.*"


class NormalizerService:
    """Reads `market.>`, publishes `normalized.>`, answers `control.resync.{platform}`.

    Requests with `"source":"venue"` are its own wish for fresh books from the venue and not for it to answer;
    all others get fresh snapshots and states from memory, and an empty reply when one was asked for.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        instance: str,
        *,
        table: MappingTable = EMPTY,
        venues: Mapping[str, Venue] = VENUES,
        epoch: int | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._instance = instance
        # Deadlines count in a time that starts as wall time and then never jumps.
        self._base_us = clock.now_us() - round(clock.monotonic() * 1_000_000)
        self.engine = Engine(
            epoch=clock.now_us() // 1000 if epoch is None else epoch,
            instance=instance,
            venues=venues,
            emit=self._emit,
            repair=self._repair,
            bad=self._bad,
            verdict=self._verdict,
            tell=self._tell,
            listed=self._listed,
            look=self._look,
            stamp=clock.now_us,
        )
        # Events whose listing changed since the last marks, by platform.
        self._relisted: dict[str, set[str]] = {}
        # Changes of markets' statuses, not yet on the bus.
        self._told: list[tuple[str, bytes, dict[str, str]]] = []
        # Markets whose catalogue is to be asked; None: all of the platform.
        self._looks: dict[str, set[str] | None] = {}
        self.engine.set_table(table)
        self._audits = Audits(self.engine.shown, clock)
        self._journals = self._audits.journals
        self._judging: set[asyncio.Task[None]] = set()
        self._latency = LATENCY.stage(STAGE)
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._counted: dict[tuple[str, str], int] = {}

    def set_table(self, table: MappingTable) -> None:
        """Follow exactly the table's assets from now on."""
        self.engine.set_table(table)

    def health(self) -> dict[str, dict[str, Any]]:
        """Per platform: legs by state, and by the last verdict of their checks (from any thread)."""
        return self.engine.health.summary(self._now_us())

    def legs(self, platform: str | None = None, asset: str | None = None) -> Iterator[dict[str, Any]]:
        """Each followed leg: its state, the connection that shows it, its check (from any thread)."""
        return self.engine.health.legs(self._now_us(), platform, asset)

    async def start(self) -> None:
        """Subscribe, and begin timers and marks."""
        self._subscriptions.append(await self._bus.subscribe(subjects.RAW_ALL, self._record))
        self._subscriptions.append(await self._bus.subscribe(CONTROL, self._request))
        self._subscriptions.append(await self._bus.subscribe(AUDIT, self._audit))
        self._tasks.append(asyncio.create_task(self._timers(), name=f"{STAGE}-timers"))
        self._tasks.append(asyncio.create_task(self._marks(), name=f"{STAGE}-marks"))

    async def stop(self) -> None:
        """No message is read or published after this returns."""
        tasks = [*self._tasks, *self._judging]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        for subscription in self._subscriptions:
            await subscription.stop()
        self._subscriptions.clear()

    def _now_us(self) -> int:
        return self._base_us + round(self._clock.monotonic() * 1_000_000)

    # --- in ---------------------------------------------------------------------------------------

    def _record(self, message: Message) -> None:
        started = perf_counter_ns()
        if self._told:
            self._tell_now()
        platform = message.subject.split(".", 2)[1]
        meta = read_meta(platform, message.headers)
        if meta is None:
            logs.bad_input(STAGE, platform, "no_meta", message.payload, subject=message.subject)
            return
        if meta.kind == "verdict" and self._is_mine(message.payload):
            return
        if meta.kind == "status":
            # For the log. Who reads the venue's frames needs no other's word about them, however late.
            return
        if meta.kind == "book":
            # Only a recording has these: from the bus nobody may say what a book is.
            logs.bad_input(STAGE, platform, "unexpected_kind", meta.kind)
            return
        self.engine.record(meta, message.payload, self._now_us())
        if meta.kind == "frame":
            self._latency.observe((perf_counter_ns() - started) // 1000)

    def _is_mine(self, payload: bytes) -> bool:
        try:
            fields = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        return isinstance(fields, dict) and fields.get("by") == self._instance

    def _request(self, message: Message) -> None:
        platform = message.subject.split(".", 2)[2]
        try:
            fields: Any = orjson.loads(message.payload)
        except orjson.JSONDecodeError:
            fields = None
        assets = fields.get("assets") if isinstance(fields, dict) else None
        if assets != "all" and not (
            isinstance(assets, list) and all(isinstance(asset, str) for asset in assets)
        ):
            logs.bad_input(STAGE, platform, "bad_request", message.payload)
        elif fields.get("source") != "venue":
            self.engine.resync(platform, None if assets == "all" else assets, self._now_us())
        if message.reply is not None:
            self._bus.publish(message.reply, b"")

    def _audit(self, message: Message) -> None:
        """`{"audit","watch":[assets]}`, some time later `{"audit","books":{asset: book}}`, which is answered
        with `{asset: verdict}` (`wup.normalizer.audit`)."""
        platform = message.subject.split(".", 2)[2]
        try:
            fields = orjson.loads(message.payload)
            audit, assets, books = str(fields["audit"]), fields.get("watch"), fields.get("books")
            if isinstance(assets, list):
                self._audits.watch(platform, audit, [str(asset) for asset in assets])
            elif isinstance(books, dict) and message.reply is not None:
                task = asyncio.create_task(self._judge(platform, audit, books, message.reply))
                self._judging.add(task)
                task.add_done_callback(self._judging.discard)
            else:
                raise ValueError("neither watch nor books with a reply")
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            logs.bad_input(STAGE, platform, "bad_audit", message.payload, error=repr(error))

    async def _judge(self, platform: str, audit: str, books: Mapping[str, Any], reply: str) -> None:
        found = await self._audits.judge(platform, audit, books)
        self._bus.publish(reply, orjson.dumps(found))
        self._bus.publish(reply, b"")

    # --- out --------------------------------------------------------------------------------------

    def _emit(self, subject: str, payload: bytes) -> None:
        self._bus.publish(subject, payload)
        if self._journals and subject in self._journals:
            self._audits.keep(subject, payload)

    def _repair(self, platform: str, assets: tuple[str, ...], why: str, connection: str) -> None:
        request: dict[str, object] = {"assets": assets, "why": why, "source": "venue"}
        if connection:
            request["connection"] = connection
        self._bus.publish(subjects.resync(platform), orjson.dumps(request))

    def _listed(self, platform: str, change: ListingChanged) -> None:
        if change.new:
            MARKETS_LISTED.labels(platform).inc()
        if change.event is not None:
            self._relisted.setdefault(platform, set()).add(change.event)
        elif change.asset_id is not None and not change.new:
            self._look(platform, (change.asset_id,))

    def _announce(self) -> None:
        """Tell the event service which events have another listing: it knows which are followed. And which
        markets have, or may have changed unheard."""
        relisted, self._relisted = self._relisted, {}
        for platform, events in relisted.items():
            self._bus.publish(subjects.discover(platform), orjson.dumps({"events": sorted(events)}))
        looks, self._looks = self._looks, {}
        for platform, assets in looks.items():
            body = {"assets": "all" if assets is None else sorted(assets)}
            self._bus.publish(subjects.discover(platform), orjson.dumps(body))

    def _bad(self, platform: str, kind: str, detail: str) -> None:
        logs.bad_input(STAGE, platform, kind, detail)

    def _verdict(self, platform: str, connection: str, asset: str, state: str, why: str) -> None:
        """Tell the recorder what our clock decided: replay has none (wire.md section 6)."""
        meta = Meta("verdict", platform, connection, self._clock.now_us(), 0)
        verdict = {"asset": asset, "state": state, "why": why, "by": self._instance}
        self._bus.publish(
            subjects.raw_connection(platform, connection), orjson.dumps(verdict), meta.headers()
        )

    def _tell(self, platform: str, asset: str, fields: Mapping[str, Any]) -> None:
        """Tell the log what the venue said, once the frame that said it is in the log: from there on a reader
        who begins later needs to be told. A recorder reads the frame when we are done with it."""
        meta = Meta("status", platform, STATUS_OF, self._clock.now_us(), 0)
        body = orjson.dumps({**fields, "by": self._instance})
        self._told.append((subjects.raw_connection(platform, STATUS_OF), body, meta.headers()))

    def _look(self, platform: str, assets: tuple[str, ...] | None) -> None:
        known = self._looks.get(platform, set())
        self._looks[platform] = None if assets is None or known is None else known.union(assets)

    def _tell_now(self) -> None:
        told, self._told = self._told, []
        for subject, body, headers in told:
            self._bus.publish(subject, body, headers)

    # --- time -------------------------------------------------------------------------------------

    async def _timers(self) -> None:
        last = self._clock.monotonic()
        while True:
            await asyncio.sleep(TIMER_S)
            now = self._clock.monotonic()
            if now - last > STALLED_S:
                self.engine.forgive(round((now - last - TIMER_S) * 1_000_000), self._now_us())
            last = now
            if self._told:
                self._tell_now()
            try:
                self.engine.tell_statuses(STATUS_PARTS)
                self.engine.timer(self._now_us())
            except Exception as error:
                # Only this loop finds a dead aggregator: it must outlive whatever one round meets.
                logs.bad_input(STAGE, "", "timer_failed", repr(error))

    async def _marks(self) -> None:
        while True:
            try:
                self.mark()
            except Exception as error:
                logs.bad_input(STAGE, "", "marks_failed", repr(error))
            await asyncio.sleep(MARKS_S)

    def mark(self) -> None:
        """Publish the marks of every platform, and bring the cold counters up to date."""
        for subject, payload in self.engine.marks(self._now_us()):
            self._bus.publish(subject, payload)
        self._announce()
        for key, count in self.engine.checks().items():
            news = count - self._counted.get(key, 0)
            if news:
                HASH_CHECKS.labels(*key).inc(news)
                self._counted[key] = count
