"""`wup replay --serve`: a recording behind a gateway of its own, in the recording's time.

Nobody must take it for the present: the ports are others than those of a live gateway, every title begins
with REPLAY, the greeting of each connection says `"replay":true`, all stamps are the recording's, `/readyz`
warns of it, and when the recording ends every leg goes `down`.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from wup.access import Access
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.gateway.service import Gateway
from wup.gateway.source import BusSource
from wup.orderbook import OrderbookHttp, OrderbookService
from wup.playback.run import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wup.config import Settings
    from wup.playback.replay import Emitted, Replay
    from wup.raw import Meta

MARK = "REPLAY"
WS_PORT = 8092
HTTP_PORT = 8090
_BATCH = 256


class _PaceClock:
    """The recording's time for stamps, the machine's for durations."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def now_us(self) -> int:
        return self._pace.now_us()

    def monotonic(self) -> float:
        return time.monotonic()


class Serving:
    """One recording, served once.

    Args:
        speed: times the recording's own.
    """

    def __init__(self, settings: Settings, replay: Replay, speed: float) -> None:
        chosen = settings.model_fields_set
        ws = settings.ws_port if "ws_port" in chosen else WS_PORT
        self._http_port = settings.orderbook_http_port if "orderbook_http_port" in chosen else HTTP_PORT
        self._settings = settings.model_copy(update={"ws_port": ws})
        self._replay = replay
        self._pace = Pace(speed)
        self._bus = LocalBus()
        self._clock = _PaceClock(self._pace)
        self._books = OrderbookService(self._bus, clock=self._clock)
        self.messages = 0

    async def run(self, stop: asyncio.Event, started: Any) -> None:
        """Play up to the part that is wanted, serve, play the part in its own time, and go on serving until
        `stop`. `started` is called with the addresses.

        Raises:
            PortInUse: names the setting. BusError: a stream cannot be read.
        """
        replay, settings = self._replay, self._settings
        replay.begin(self._publish, store=self._books.store, mark=MARK)
        records = replay.records()
        waiting = await self._up_to_the_part(records, stop)
        await self._books.start()
        http = OrderbookHttp(
            self._books,
            settings.bind_host,
            self._http_port,
            setting="ORDERBOOK_HTTP_PORT",
            warnings=lambda: ["replay"],
            access=Access.of(settings),
        )
        gateway: Gateway | None = None
        try:
            await http.start()
            url = f"http://{settings.bind_host}:{http.port}"
            settings = settings.model_copy(update={"orderbook_service_url": (url,)})
            greeting = {"replay": True}
            gateway = Gateway(
                settings,
                self._bus,
                BusSource(self._bus),
                SYSTEM_CLOCK,
                greeting=greeting,
                stamps=self._clock,
            )
            await gateway.start()
            started({"ws": f"ws://{settings.bind_host}:{gateway.port}/ws", "http": url})
            await self._play(waiting, records, stop)
            self._end()
            await stop.wait()
        finally:
            if gateway is not None:
                await gateway.stop()
            await http.stop()
            await self._books.stop()

    def _publish(self, message: Emitted) -> None:
        self.messages += 1
        self._bus.publish(message.subject, message.payload)

    async def _up_to_the_part(
        self, records: Iterator[tuple[Meta, bytes]], stop: asyncio.Event
    ) -> list[tuple[Meta, bytes]]:
        """Feed what comes before the part; the records read beyond it."""
        replay = self._replay
        while not replay.opened and not stop.is_set():
            batch = await asyncio.to_thread(list, islice(records, _BATCH))
            if not batch:
                break
            for place, (meta, payload) in enumerate(batch):
                self._feed(meta, payload)
                if replay.opened:
                    self._pace.wait(meta.rx_us)
                    return batch[place + 1 :]
        return []

    def _feed(self, meta: Meta, payload: bytes) -> None:
        self._replay.feed(meta, payload)
        self._books.table = self._replay.player.table

    async def _play(
        self,
        batch: list[tuple[Meta, bytes]],
        records: Iterator[tuple[Meta, bytes]],
        stop: asyncio.Event,
    ) -> None:
        while not stop.is_set():
            for meta, payload in batch:
                wait = self._pace.wait(meta.rx_us)
                if wait > 0 and await _stopped(stop, wait):
                    return
                self._feed(meta, payload)
            batch = await asyncio.to_thread(list, islice(records, _BATCH))
            if not batch:
                return

    def _end(self) -> None:
        """What was true last in the recording is not true any more."""
        for leg in self._books.table.legs:
            for change in self._books.store.set_leg_state(
                leg.platform, leg.asset_id, "down", "upstream_silent", self._pace.now_us()
            ):
                self._publish(change)


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    """Wait that long; True as soon as `stop` is set."""
    try:
        async with asyncio.timeout(within_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True
