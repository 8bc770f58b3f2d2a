"""The gateway: verified books of the bus to any number of WebSocket clients (wire.md section 4)."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, cast

from wup import config, logs, subjects
from wup.access import Access
from wup.errors import SettingsError
from wup.gateway import app
from wup.gateway.connection import Connection
from wup.gateway.core import SLOTS, Core
from wup.gateway.hub import Hub
from wup.gateway.limits import Admission, Limits
from wup.gateway.mirror import Mirrors
from wup.gateway.outbox import Wakeup
from wup.gateway.overload import Overload
from wup.gateway.tokens import Tokens
from wup.http_guard import HttpGuard
from wup.http_server import HttpServer
from wup.metrics import LATENCY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.bus import Bus, Subscription
    from wup.clock import Clock
    from wup.config import Settings
    from wup.gateway.source import SnapshotSource

_TICK_S = 0.025
_CHECKS_PER_TURN = 16  # connections; others have their turn between, unless their turns are long
_TOKENS_S = 2.0
_LOSSES = frozenset({"slow_reader", "disconnected", "reconnected"})
_GOODBYE_MS = 5_000
_HTTP_DEADLINE_S = 10.0  # several shards may be asked in turn


class Gateway:
    """One gateway process's worth of state.

    `greeting`: what the `welcome` of each connection says besides. `stamps`: the time of the stream, where
    that is not the present (a replay).

    Raises:
        SettingsError: BIND_HOST is not loopback and no TOKENS_FILE is given, or the tokens file is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        source: SnapshotSource,
        clock: Clock,
        limits: Limits | None = None,
        *,
        greeting: Mapping[str, object] | None = None,
        stamps: Clock | None = None,
    ) -> None:
        if not config.is_loopback(settings.bind_host) and settings.tokens_file is None:
            raise SettingsError(
                [f"BIND_HOST: {settings.bind_host} is not this machine only; set TOKENS_FILE to allow it"]
            )
        self._bus = bus
        self._clock = clock
        loop = asyncio.get_running_loop()
        wakeup = Wakeup(loop, clock.monotonic, LATENCY.stage("gateway"))
        hub = Hub(wakeup, stamps or clock, loop)
        self._mirrors = hub.mirrors = Mirrors(source, hub, clock)
        limits = limits or config.load(Limits)
        tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file)
        self._core = Core(
            limits=limits,
            clock=clock,
            hub=hub,
            wakeup=wakeup,
            admission=Admission(limits, clock.monotonic()),
            overload=Overload(limits, SLOTS),
            access=Access(
                (*settings.allowed_hosts, settings.bind_host),
                settings.allowed_origins,
                tokens,
                clock,
                proxies=settings.trusted_proxies,
                open_paths=app.needs_no_token,
            ),
            tokens=tokens,
            greeting=greeting or {},
        )
        self._upstream = app.Upstream(settings.orderbook_service_url, settings.orderbook_token())
        self._server = HttpServer(
            HttpGuard(
                app.build(self._upstream, self.problems),
                self._core.access,
                deadline_s=_HTTP_DEADLINE_S,
                clock=clock,
            ),
            settings.bind_host,
            settings.ws_port,
            "WS_PORT",
            receive_s=limits.ws_handshake_s,
            # Config stores the class and calls it; a partial is called the same way.
            ws=cast("Any", functools.partial(Connection, core=self._core)),
        )
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    def problems(self) -> list[str]:
        """Why the gateway is not ready: `loading`, `no_marks`, `marks_late`, `bus`, `going_away`."""
        found = self._mirrors.problems()
        if not self._bus.connected:
            found.append("bus")
        if self._core.draining:
            found.append("going_away")
        return found

    async def start(self) -> None:
        """Listen, subscribe, and load all books.

        Raises:
            PortInUse: names WS_PORT.
        """
        await self._server.start()
        self._bus.on_loss(self._loss)
        # One subscription for changes, trades and marks: order holds only within one.
        self._subscription = await self._bus.subscribe(subjects.ORDERBOOK_ALL, self._mirrors.handle)
        self._mirrors.start()
        self._tasks = [asyncio.create_task(self._tick(), name="gateway-tick")]
        if self._core.tokens is not None:
            self._tasks.append(asyncio.create_task(self._reload_tokens(), name="gateway-tokens"))
        logs.log("gateway").info("listening", port=self.port)

    async def stop(self) -> None:
        """Tell every client, flush, close 1012; under ten seconds."""
        self._core.draining = True
        for connection in self._core.connections():
            connection.goodbye(_GOODBYE_MS, _GOODBYE_MS)
        self._core.wakeup.run()
        if self._subscription is not None:
            await self._subscription.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._mirrors.stop()
        await self._server.stop()
        await self._upstream.close()

    def _loss(self, why: str) -> None:
        if why in _LOSSES:
            self._mirrors.doubt_all("gap")

    async def _tick(self) -> None:
        """Look at every connection about four times a second, a tenth of them at a time."""
        slot = 0
        core = self._core
        while True:
            due = self._clock.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            slot = (slot + 1) % SLOTS
            now = self._clock.monotonic()
            core.overload.ticked(now, now - due)
            waiting = 0
            group = core.groups[slot]
            for place, connection in enumerate(list(group), 1):
                if place % _CHECKS_PER_TURN == 0 and self._clock.monotonic() - now < _TICK_S:
                    await asyncio.sleep(0)
                if connection in group:
                    connection.check(now)
                    waiting += connection.backlog()
            if core.overload.weigh(slot, waiting):
                core.overload.shed(core.connections())

    async def _reload_tokens(self) -> None:
        while True:
            await asyncio.sleep(_TOKENS_S)
            if self._core.tokens is not None:
                self._core.tokens.refresh()
