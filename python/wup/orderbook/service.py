"""Normalised messages in, consolidated changes out; all state in the native store."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from time import perf_counter_ns
from typing import TYPE_CHECKING

import orjson

from wup import logs, subjects
from wup._core import BookStore, CoreError
from wup.clock import SYSTEM_CLOCK, Clock
from wup.mapping.apply import asked_for, put_in_force
from wup.mapping.table import EMPTY, MappingTable
from wup.metrics import BAD_INPUT, CHANGES, FOREIGN, LATENCY, RESYNC_TIME, RESYNCS
from wup.orderbook.agreement import Agreement
from wup.orderbook.answers import SnapshotAnswers
from wup.orderbook.contents import Contents
from wup.orderbook.gauges import Gauges
from wup.orderbook.shard import shard_of
from wup.orderbook.upstream import Upstream
from wup.orderbook.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from wup._core import Change
    from wup.bus import Bus, Message, Subscription

_TICK_S = 1.0
_STEP_S = 0.001
"""Between two pieces of a tick, so that they delay what comes meanwhile by one piece at most."""
_STEPS_S = 0.5
"""No pauses after that, for a pause is a whole turn of a loop that is late: the next tick must not be."""
_ASK_AT_ONCE = 500
EPOCHS_AHEAD_MS = 20_000
"""How far the epoch that is kept for the next process runs ahead, so that few writes are needed."""
_SNAPSHOT_OR_STATE, _SNAPSHOT = b'{"type":"s', b'{"type":"sn'
"""How normalised messages of these types begin."""
_OTHER = "other"
"""For counters: a platform that the mapping does not know, of which a stranger can invent any number."""


class OrderbookService:
    """The consolidated books of one shard.

    Args:
        epoch_ms: every book epoch given out is larger than this (wire.md section 3 rule 2).
        publish: whether changes, trades and marks go out (`PUBLISH_CHANGES`).
        save_epoch: keeps the number it is called with for the next process, which must start above it, and
            says whether it did. It reserves: no epoch given out before the next call is larger, so that a
            crash loses none. What was not kept is tried again each second.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock = SYSTEM_CLOCK,
        subject: str = subjects.NORMALIZED_ALL,
        publish: bool = True,
        shard: tuple[int, int] = (0, 1),
        epoch_ms: int = 0,
        save_epoch: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._subject = subject
        self._publish_changes = publish
        self.shard, self.shards = shard
        self.store = BookStore(epoch_ms)
        self._reserved_ms = 0
        self._save_epoch = save_epoch
        self._saving: asyncio.Task[None] | None = None
        self._unkept = False
        self.table: MappingTable = EMPTY
        self.contents = Contents()
        self._known: dict[str, tuple[str, str]] = {}
        self._mine: dict[str, frozenset[str]] = {}
        self._foreign = 0
        self._foreign_sample = ""
        self._suspended: set[tuple[str, str]] = set()
        self._wishes = Wishes()
        self._lost_on_bus: str | None = None
        self._away_since: float | None = None
        self._away_told = False
        self._upstream = Upstream(self.store.leg_epoch)
        self._answers = SnapshotAnswers(bus, self.store, clock.now_us)
        self._gauges = Gauges(bus, self.store)
        self.agreement = Agreement(self.store)
        self._subscriptions: list[Subscription] = []
        self._ticker: asyncio.Task[None] | None = None
        self._latency = LATENCY.stage("orderbook")
        self._sent = dict.fromkeys(("snapshot", "delta", "status", "trade"), 0)

    async def start(self) -> None:
        """Subscribe; snapshots of everything mapped are asked for as tables come in."""
        self._subscriptions = [
            await self._bus.subscribe(self._subject, self._on_normalized),
            await self._bus.subscribe(subjects.orderbook_snapshot(str(self.shard)), self._answers.take),
        ]
        self._bus.on_loss(self._on_loss)
        self._ticker = asyncio.create_task(self._tick(), name="orderbook-tick")

    async def stop(self) -> None:
        """Unsubscribe and stop the marks."""
        for task in (self._ticker, self._saving):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for subscription in self._subscriptions:
            await subscription.stop()
        await self._answers.stop()

    def now_us(self) -> int:
        """The service's wall time."""
        return self._clock.now_us()

    def warnings(self) -> list[str]:
        """For `/readyz`, beside what is ready: `epoch_unkept` while the reserve of epochs cannot be kept, and
        what the books say of their mapping."""
        return [*(["epoch_unkept"] if self._unkept else []), *self.agreement.warnings()]

    # --- mapping -----------------------------------------------------------------------------------

    async def set_table(self, table: MappingTable) -> None:
        """Swap the mapping whole; books whose legs changed get a new epoch and a snapshot."""
        mine = self._of_this_shard(table)
        was_suspended = self._suspended
        changes = put_in_force(self.store, mine, self._clock.now_us())
        self._suspended = {(leg.platform, leg.asset_id) for leg in mine.legs if leg.suspended is not None}
        self._known = {
            subjects.normalized(leg.platform, leg.market_id, leg.asset_id): (leg.platform, leg.asset_id)
            for leg in mine.legs
        }
        platforms = {leg.platform for leg in mine.legs}
        self._mine = {name: frozenset(leg.asset_id for leg in mine.assets(name)) for name in platforms}
        if not self.table.version:
            # What came before the first mapping was nobody's fault.
            self._foreign = 0
        self.table = mine
        self.contents = Contents(mine)
        self.agreement.follow(mine)
        known = set(self._known.values())
        self._wishes.keep(known)
        self._send(changes)
        wanted = asked_for(self.store, was_suspended & known)
        self._ask(wanted, "join")

    def _of_this_shard(self, table: MappingTable) -> MappingTable:
        if self.shards == 1:
            return table
        books = {
            book: info
            for book, info in table.books.items()
            if shard_of(info.aggregate, self.shards) == self.shard
        }
        return replace(table, legs=tuple(leg for leg in table.legs if leg.book in books), books=books)

    # --- the hot path ------------------------------------------------------------------------------

    def _on_normalized(self, message: Message) -> None:
        key = self._known.get(message.subject)
        if key is None:
            self._on_other(message)
            return
        if self._suspended and key in self._suspended:
            return
        now_us = self._clock.now_us()
        started = perf_counter_ns()
        try:
            changes = self.store.apply(message.payload, now_us, *key)
        except CoreError as error:
            # Subject and body disagree, or it cannot be read: the leg that the subject names is in doubt.
            RESYNCS.labels("orderbook", key[0], "unreadable").inc()
            logs.bad_input("orderbook", key[0], type(error).__name__, message.payload, error=str(error))
            self._send(self.store.set_leg_state(*key, "resync", "gap", now_us))
            self._ask([key], "unreadable")
            return
        if message.payload.startswith(_SNAPSHOT_OR_STATE):
            self._on_snapshot_or_state(key, message.payload, now_us)
        if changes:
            # Up to here: in one process the send goes on into the stages behind.
            self._latency.observe((perf_counter_ns() - started) // 1000)
            self._send(changes)
        self._repair("gap")

    def _on_snapshot_or_state(self, key: tuple[str, str], payload: bytes, now_us: int) -> None:
        if payload.startswith(_SNAPSHOT):
            self._upstream.snapshot(key, self._clock.monotonic())
        # A snapshot, or a state that says why there is none: the question, if there was one, is answered.
        took_us = self._wishes.answered(key, now_us)
        if took_us is not None:
            RESYNC_TIME.stage(key[0]).observe(took_us)
            if self._wishes.room:
                self._send_wishes()

    def _on_other(self, message: Message) -> None:
        tokens = message.subject.split(".")
        if len(tokens) == 4 and tokens[2] == "_marks":
            self._on_marks(tokens[1], tokens[3], message.payload)
            return
        self._foreign += 1
        self._foreign_sample = message.subject

    def _send(self, changes: Iterable[Change]) -> None:
        if not self._publish_changes:
            return
        publish, sent = self._bus.publish, self._sent
        for change in changes:
            sent[change.kind] += 1
            publish(change.subject, change.payload)

    # --- trust -------------------------------------------------------------------------------------

    def _on_marks(self, platform: str, instance: str, payload: bytes) -> None:
        now_us = self._clock.now_us()
        mine = self._mine.get(platform, frozenset())
        try:
            self._send(self.store.check_marks(platform, payload, now_us))
            marks = orjson.loads(payload)
            named = list(mine.intersection(marks["assets"]))
            assets = self.store.speaks_for(platform, marks["epoch"], named)
        except (CoreError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            known = platform if mine else _OTHER
            logs.bad_input("orderbook", known, "bad_marks", payload, error=repr(error))
            return
        if mine:
            self._upstream.heard(platform, instance, marks["epoch"], assets, self._clock.monotonic())
        self._repair("marks")

    def _repair(self, how: str) -> None:
        """Ask for the snapshots that the store wants since the last message; `how` it was found."""
        lost = self.store.take_resyncs()
        if lost:
            for platform, _, why in lost:
                RESYNCS.labels("orderbook", platform, how if why == "gap" else why).inc()
            self._ask([(platform, asset) for platform, asset, _ in lost], how)

    def _on_loss(self, why: str) -> None:
        """The bus was away: what came meanwhile is unknown, so all legs are asked for anew, once, at the next
        tick.

        What a full queue drops needs nothing here: each message is numbered, so its leg goes to `resync` with
        the next message or mark, and that leg alone is asked for. To ask for all of them would be the surest
        way to fill the queue again.
        """
        if why == "reconnected":
            self._lost_on_bus = why
            self._away_since = None
        elif why == "disconnected" and self._away_since is None:
            self._away_since, self._away_told = self._clock.monotonic(), False

    def _ask(self, keys: Iterable[tuple[str, str]], why: str, *, anew: bool = False) -> None:
        """Ask the normalizers for fresh snapshots; asked again until something comes."""
        wanted = [key for key in keys if key not in self._suspended]
        self._wishes.add(wanted, why, self._clock.now_us(), anew=anew)
        self._send_wishes()

    def _send_wishes(self) -> None:
        for why, keys in self._wishes.next(self._clock.now_us()).items():
            self._request(keys, why)

    def _request(self, keys: Iterable[tuple[str, str]], why: str) -> None:
        by_platform: dict[str, list[str]] = {}
        for platform, asset in keys:
            by_platform.setdefault(platform, []).append(asset)
        for platform, assets in by_platform.items():
            for start in range(0, len(assets), _ASK_AT_ONCE):
                body = {"assets": assets[start : start + _ASK_AT_ONCE], "why": why}
                self._bus.publish(subjects.resync(platform), orjson.dumps(body))

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + _TICK_S, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                for _ in itertools.chain(self._steps(), self.agreement.look(self._clock.now_us())):
                    if loop.time() < due + _STEPS_S:
                        await asyncio.sleep(_STEP_S)
            except Exception as error:
                # Without ticks a dead upstream would stay unseen: the next one must come.
                logs.bad_input("orderbook", "", "tick_failed", repr(error))

    def tick(self) -> None:
        """Once a second: epochs, silent upstreams, unanswered questions, marks."""
        for _ in self._steps():
            pass

    def _steps(self) -> Iterator[None]:
        """`tick`, with pauses for what comes meanwhile. A mark that goes out a little later than it was made
        is as good: it says how far its book had come."""
        self._reserve_epochs()
        now_us = self._clock.now_us()
        silent: list[tuple[str, str]] = []
        for platform, asset in self._silent():
            if (platform, asset) in self._suspended:
                # The mapping's word about it stays in force.
                continue
            with contextlib.suppress(CoreError):
                self._send(self.store.set_leg_state(platform, asset, "down", "upstream_silent", now_us))
                silent.append((platform, asset))
        if self._lost_on_bus is not None:
            why, self._lost_on_bus = self._lost_on_bus, None
            self._ask([(leg.platform, leg.asset_id) for leg in self.table.legs], f"bus_{why}", anew=True)
        self._request(self._wishes.late(now_us), "again")
        self._ask(silent, "upstream_silent")
        yield
        if self._publish_changes:
            subject = subjects.orderbook_marks(str(self.shard))
            for payload in self.store.marks(str(self.shard), now_us):
                self._bus.publish(subject, payload)
                yield
        self._gauges.tick(self._upstream.late(self._clock.monotonic()), len(self._wishes))
        yield
        self._count()

    def _silent(self) -> list[tuple[str, str]]:
        """Legs whose producer missed two marks; all of them once the bus itself is away for so long, for who
        was never heard of cannot be missed."""
        now = self._clock.monotonic()
        silent = self._upstream.silent(now)
        if self._away_since is None or self._away_told or now - self._away_since < subjects.TWO_MARKS_S:
            return silent
        self._away_told = True
        shown = (leg for book in self.store.books() for leg in self.store.book(book).legs.values())
        return [(str(leg["platform"]), str(leg["asset"])) for leg in shown if leg["state"] == "live"]

    def _reserve_epochs(self) -> None:
        """Keep the reserve ahead of what the wall clock can make us give out until the next look."""
        if self._save_epoch is None:
            return
        if self._saving is not None and not self._saving.done():
            # A second is much longer than it should take.
            self._unkept = True
            return
        ahead_ms = max(self.store.last_epoch(), self._clock.now_us() // 1000) + EPOCHS_AHEAD_MS
        if ahead_ms - self._reserved_ms > EPOCHS_AHEAD_MS // 2:
            self._saving = asyncio.create_task(self._keep(self._save_epoch, ahead_ms), name="epochs")

    async def _keep(self, save: Callable[[int], Awaitable[bool]], ahead_ms: int) -> None:
        try:
            self._unkept = not await save(ahead_ms)
        except Exception as error:
            self._unkept = True
            logs.bad_input("orderbook", "", "epoch_not_kept", str(ahead_ms), error=repr(error))
        if not self._unkept:
            self._reserved_ms = ahead_ms

    def _count(self) -> None:
        """What the hot path counted in plain numbers, for a counter's `inc` costs more than all else there:
        messages sent, and messages of assets that are not ours (other shards', or nobody's)."""
        for kind, number in self._sent.items():
            CHANGES.labels(kind).inc(number)
            self._sent[kind] = 0
        count, self._foreign = self._foreign, 0
        if not count:
            return
        FOREIGN.inc(count)
        if self.shards == 1 and self.table.version:
            # Without shards nobody else serves them: a mapping on its way, or a stranger.
            BAD_INPUT.labels("orderbook", _OTHER, "unknown_asset").inc(count - 1)
            logs.bad_input("orderbook", _OTHER, "unknown_asset", self._foreign_sample)
