"""Stages put together in one process: the only place that knows them all.

`wup aggregator`, `wup orderbook`, ... run one stage over NATS; `wup up` and `wup demo` run all of them over
the in-process bus, with the consolidated stream published to NATS as well (architecture.md section 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

from wup import config, logs, servers
from wup.access import Access
from wup.aggregator import Aggregator
from wup.bus import LinkedBus, LocalBus, NatsBus
from wup.clock import SYSTEM_CLOCK
from wup.errors import BusError, PortInUse
from wup.events.service import EventService
from wup.gateway.service import Gateway
from wup.gateway.source import BusSource, HttpSource
from wup.loop_lag import watch_lag
from wup.mapping.redis import connect as connect_redis
from wup.mapping.source import MappingSource
from wup.metrics import REGISTRY
from wup.metrics_server import MetricsServer
from wup.normalizer.service import NormalizerService
from wup.orderbook import EPOCHS_AHEAD_MS, OrderbookHttp, OrderbookService
from wup.orderbook.epochs import Epochs
from wup.recorder import Recorder
from wup.recorder.follower import Follower
from wup.recorder.http import RecorderHttp
from wup.recorder.stream import MappingLog, capture
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from wup.bus import Bus
    from wup.config import EnvSettings, Settings
    from wup.mapping.table import MappingTable

ALL_OUT = ("orderbook.changes.", "orderbook.trades.", "orderbook.marks.")
"""What a process with all stages publishes to NATS beside its own bus."""
LOG_OUT = ("market.", "recording.")
"""What it publishes besides when a stream captures its log."""


def load_settings(**overrides: Any) -> tuple[Settings, dict[str, EnvSettings]]:
    """The stages' settings and every venue's.

    Raises:
        SettingsError: everything that is wrong, at once.
    """
    kinds: dict[str, type[EnvSettings]] = {"": config.Settings}
    kinds.update({name: venue.settings for name, venue in VENUES.items()})
    loaded = config.load_all(kinds)
    settings = loaded.pop("")
    assert isinstance(settings, config.Settings)
    if overrides:
        settings = settings.model_copy(update=overrides)
    return settings, loaded


class Process:
    """One process of WUP: its bus, its stages, and their orderly end.

    Use as an async context manager; stages stop in reverse order of their start.
    """

    def __init__(self, settings: Settings, venue_settings: Mapping[str, EnvSettings]) -> None:
        self.settings = settings
        self._venue_settings = venue_settings
        self._stack = contextlib.AsyncExitStack()
        self._followers: list[Callable[[MappingTable], Awaitable[None]]] = []
        self._tables: asyncio.Queue[MappingTable] = asyncio.Queue()
        self._mapping: MappingSource | None = None
        self._refused = False
        self.bus: Bus = LocalBus()
        self.nats_url = settings.nats()
        self.redis_url = settings.redis()
        self.orderbook: OrderbookService | None = None
        self.normalizer: NormalizerService | None = None
        self.aggregator: Aggregator | None = None
        self.recorder: Recorder | None = None

    async def __aenter__(self) -> Self:
        lag = asyncio.create_task(watch_lag(SYSTEM_CLOCK), name="loop-lag")
        self._stack.callback(lag.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- servers and bus ---------------------------------------------------------------------------

    async def private_servers(self) -> None:
        """Start a private NATS and Valkey for those whose URL is not set."""
        if self.settings.nats_url is None:
            self.nats_url = await self._stack.enter_async_context(servers.embedded_nats())
        if self.settings.redis_url is None:
            self.redis_url = await self._stack.enter_async_context(servers.embedded_valkey())

    async def use_nats(self, name: str) -> None:
        """NATS alone: for a stage that shares its process with nobody."""
        bus = await _connect_for_ever(self.nats_url, f"wup-{name}", no_echo=False)
        self._stack.push_async_callback(bus.close)
        self.bus = bus

    async def use_local_and_nats(self, name: str, forward: tuple[str, ...], listen: tuple[str, ...]) -> None:
        """The in-process bus, joined to NATS for the given subjects."""
        remote = await _connect_for_ever(self.nats_url, f"wup-{name}", no_echo=True)
        bus = LinkedBus(LocalBus(), remote, forward, listen)
        self._stack.push_async_callback(bus.close)
        self.bus = bus

    def metrics(self, default_port: int) -> int:
        """Serve Prometheus metrics on METRICS_HOST, which is this machine unless set, and beside them
        `/healthz`, `/readyz` and `/legs`; the port.

        Raises:
            PortInUse: METRICS_PORT is taken.
        """
        port = self.settings.metrics_port if self.settings.metrics_port is not None else default_port
        try:
            server = MetricsServer(
                self.settings.metrics_host, port, REGISTRY, self.health, self._unready, self._legs
            )
        except OSError as error:
            raise PortInUse("METRICS_PORT", self.settings.metrics_host, port) from error
        self._stack.callback(server.stop)
        return server.port

    def health(self) -> dict[str, object]:
        """The bus, what each venue's connections are doing, and how its legs stand (read from another
        thread)."""
        found: dict[str, object] = {"bus": self.bus.connected}
        if self.aggregator is not None:
            found["venues"] = self.aggregator.health()
        if self.normalizer is not None:
            found["normalizer"] = self.normalizer.health()
        return found

    def _legs(self, platform: str | None, asset: str | None) -> Iterator[dict[str, Any]] | None:
        """Leg by leg (read from another thread); None where no legs are normalised."""
        return None if self.normalizer is None else self.normalizer.legs(platform, asset)

    def _unready(self) -> list[str]:
        reasons = [] if self.bus.connected else ["bus_disconnected"]
        if self._mapping is not None and not self._mapping.healthy:
            reasons.append("redis_down")
        if self.aggregator is not None:
            venues = self.aggregator.health().values()
            if any(venue["connections"] for venue in venues) and not any(venue["open"] for venue in venues):
                reasons.append("no_venue_live")
        return reasons

    # --- stages ------------------------------------------------------------------------------------

    async def start_events(self, port: int, setting: str) -> EventService:
        """The event service with its HTTP interface."""
        catalogues = {name: venue.catalogue(self._venue_settings[name]) for name, venue in VENUES.items()}
        service = EventService(
            self.settings, self.bus, self.redis_url, catalogues, SYSTEM_CLOCK, http=(setting, port)
        )
        self._stack.push_async_callback(service.stop)
        await service.start()
        return service

    async def start_normalizer(self, instance: str) -> NormalizerService:
        """The normalizer, inline or standalone."""
        service = NormalizerService(self.bus, SYSTEM_CLOCK, instance)
        self._stack.push_async_callback(service.stop)
        await service.start()

        async def follow(table: MappingTable) -> None:
            service.set_table(table)

        self._followers.append(follow)
        self.normalizer = service
        return service

    async def start_orderbook(self, port: int, setting: str) -> tuple[OrderbookService, OrderbookHttp]:
        """The orderbook service with its HTTP interface; a reserve of epochs is kept in Redis."""
        index, shards = self.settings.shard_index()
        client = connect_redis(self.redis_url)
        self._stack.push_async_callback(client.aclose)
        epochs = Epochs(client, index, shards)
        epoch = await epochs.first()
        # Before the first epoch is given out: a process killed right after it must not be forgotten.
        await epochs.keep(epoch + EPOCHS_AHEAD_MS)
        service = OrderbookService(
            self.bus,
            subject=self.settings.nats_subject,
            publish=self.settings.publish_changes,
            shard=(index, shards),
            epoch_ms=epoch,
            save_epoch=epochs.keep,
        )
        self._stack.push_async_callback(service.stop)
        await service.start()

        async def follow(table: MappingTable) -> None:
            if table.legs:
                await epochs.opens(service.store)
            await service.set_table(table)

        self._followers.append(follow)
        self.orderbook = service
        http = OrderbookHttp(
            service,
            self.settings.bind_host,
            port,
            setting=setting,
            ready=self._not_ready,
            warnings=self._served_less,
            access=Access.of(self.settings),
        )
        self._stack.push_async_callback(http.stop)
        await http.start()
        return service, http

    def _warnings(self) -> list[str]:
        """What an operator must mend though the stream goes on."""
        problem = None if self.recorder is None else self.recorder.problem
        return [] if problem is None else [f"recorder_{problem}"]

    def _served_less(self) -> list[str]:
        """Without Redis, or with a mapping that cannot be, the one in force is served as before."""
        found = self._warnings()
        if self._mapping is not None and not self._mapping.healthy:
            found.append("redis_down")
        if self._refused:
            found.append("mapping_refused")
        return found

    def _not_ready(self) -> list[str]:
        """Why the orderbook service cannot serve."""
        reasons = [] if self.bus.connected else ["bus_disconnected"]
        service = self.orderbook
        if service is not None:
            if not service.table.version and (self._mapping is None or not self._mapping.healthy):
                reasons.append("no_mapping")
            stats = service.store.stats()
            if stats["books_down"] and not stats["books_live"] and not stats["books_degraded"]:
                reasons.append("no_venue_live")
        return reasons

    async def start_recorder(self) -> Recorder:
        """The recorder of everything this process's normalizer sees; after it, before the aggregator.

        Raises:
            SettingsError: another recorder writes to RECORD_DIR.
        """
        normalizer, books, settings = self.normalizer, self.orderbook, self.settings
        recorder = Recorder(
            self.bus,
            settings.record_dir,
            segment_bytes=settings.record_segment_size,
            segment_age_s=settings.record_segment_secs,
            max_bytes=settings.record_max_size,
            max_age_s=settings.record_max_age_hours * 3600,
            epoch=None if normalizer is None else normalizer.engine.epoch,
            book_epoch=None if books is None else books.store.last_epoch,
            books=Follower() if normalizer is None else normalizer.engine,
        )
        self._stack.push_async_callback(recorder.stop)
        await recorder.start()

        async def follow(table: MappingTable) -> None:
            recorder.set_table(table)

        self._followers.append(follow)
        self.recorder = recorder
        return recorder

    async def start_stream(self) -> None:
        """Have JetStream capture the log in RECORD_STREAM, with the mapping; `market.>` must reach NATS.

        Raises:
            BusError: NATS has no JetStream, or refuses the stream.
        """
        normalizer, books, settings = self.normalizer, self.orderbook, self.settings
        assert settings.record_stream is not None
        await capture(
            self.nats_url,
            settings.record_stream,
            max_bytes=settings.record_max_size,
            max_age_s=settings.record_max_age_hours * 3600,
        )
        mapping = MappingLog(
            self.bus,
            epoch=None if normalizer is None else normalizer.engine.epoch,
            book_epoch=None if books is None else books.store.last_epoch,
        )
        self._stack.push_async_callback(mapping.stop)
        await mapping.start()

        async def follow(table: MappingTable) -> None:
            mapping.set_table(table)

        self._followers.append(follow)

    async def start_recorder_http(self, port: int) -> RecorderHttp:
        """Health of a process that does nothing but record."""

        def reasons() -> list[str]:
            away = [] if self.bus.connected else ["bus_disconnected"]
            unmapped = self._mapping is not None and not self._mapping.healthy
            return [*away, *(["redis_down"] if unmapped else []), *self._warnings()]

        http = RecorderHttp(self.settings.bind_host, port, reasons, Access.of(self.settings))
        self._stack.push_async_callback(http.stop)
        await http.start()
        return http

    async def start_aggregator(self) -> Aggregator:
        """The aggregator; connections come with the mapping."""
        venues = {name: (venue, self._venue_settings[name]) for name, venue in VENUES.items()}
        service = Aggregator(self.bus, venues)
        self._stack.push_async_callback(service.stop)
        await service.start()
        self._followers.append(service.set_table)
        self.aggregator = service
        return service

    async def start_gateway(self, *, in_process: bool) -> Gateway:
        """The gateway; its mirror is filled over the bus when the store is here, else by HTTP."""
        settings = self.settings
        source = (
            BusSource(self.bus)
            if in_process
            else HttpSource(settings.orderbook_service_url, token=settings.orderbook_token())
        )
        service = Gateway(self.settings, self.bus, source, SYSTEM_CLOCK)
        self._stack.push_async_callback(service.stop)
        await service.start()
        return service

    async def follow_mapping(self) -> None:
        """Give every started stage the mapping, now and whenever it changes, in the order of their start."""
        source = MappingSource(self.redis_url, self.bus)
        self._mapping = source
        self._stack.push_async_callback(source.stop)
        source.on_change(self._tables.put_nowait)
        task = asyncio.create_task(self._hand_over(), name="mapping")

        async def end() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(end)
        self._tables.put_nowait(await source.start(wait_s=0))

    async def _hand_over(self) -> None:
        while True:
            table = await self._tables.get()
            self._refused = False
            for follow in self._followers:
                try:
                    await follow(table)
                except Exception as error:
                    self._refused = True
                    logs.bad_input("mapping", "", "table_refused", repr(error), version=table.version)


async def _connect_for_ever(url: str, name: str, *, no_echo: bool) -> NatsBus:
    """A stage outlives its bus: wait for it, saying so once."""
    told = False
    while True:
        try:
            return await NatsBus.connect(url, name=name, no_echo=no_echo)
        except BusError as error:
            if not told:
                logs.log("bus").warning("waiting for NATS", url=logs.redacted(url), detail=str(error))
                told = True
            await asyncio.sleep(1)


def instance_name() -> str:
    """A name for this process's normalizer, unique on its host."""
    return f"{os.uname().nodename.split('.')[0]}-{os.getpid()}"
