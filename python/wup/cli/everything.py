"""All stages in one process, and where to reach them: `wup up`, and the middle of `wup demo`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from wup import runtime
from wup.cli import running
from wup.errors import PortInUse, SettingsError
from wup.http_server import bind
from wup.logs import redacted

if TYPE_CHECKING:
    from wup.config import EnvSettings, Settings
    from wup.playback.identity import OutputDigest


class Everything(runtime.Process):
    """A `Process` with every stage on the in-process bus."""

    def __init__(self, settings: Settings, venue_settings: dict[str, EnvSettings]) -> None:
        super().__init__(settings.model_copy(update={"publish_changes": True}), venue_settings)
        self.ready: dict[str, object] = {}
        self.output: OutputDigest | None = None
        """Set before `start`, it sees every consolidated message."""

    async def start(self) -> None:
        """Servers, bus, then the stages from the client's end to the venue's, then the mapping.

        Raises:
            SettingsError: ports are taken; names all their settings at once.
            PortInUse: a port was taken meanwhile; names its setting.
        """
        settings = self.settings
        host = settings.bind_host
        if settings.record_stream is not None and settings.nats_url is None:
            raise SettingsError(["RECORD_STREAM: needs NATS_URL, a server with JetStream that outlives us"])
        _check_ports(settings)
        await self.private_servers()
        forward = runtime.ALL_OUT if settings.record_stream is None else runtime.ALL_OUT + runtime.LOG_OUT
        await self.use_local_and_nats("up", forward, ("orderbook.snapshot.",))
        if self.output is not None:
            await self.output.listen(self.bus)
        metrics = self.metrics(9090)
        _, books = await self.start_orderbook(settings.orderbook_http_port, "ORDERBOOK_HTTP_PORT")
        self.settings = settings = settings.model_copy(
            update={"orderbook_service_url": (f"http://{host}:{books.port}",)}
        )
        gateway = await self.start_gateway(in_process=True)
        await self.start_normalizer(runtime.instance_name())
        if settings.record:
            await self.start_recorder()
        if settings.record_stream is not None:
            await self.start_stream()
        await self.start_aggregator()
        events = await self.start_events(settings.events_http_port, "EVENTS_HTTP_PORT")
        await self.follow_mapping()
        self.ready = {
            "type": "ready",
            "ws": f"ws://{host}:{gateway.port}/ws",
            "page": f"http://{host}:{gateway.port}/",
            "http": f"http://{host}:{books.port}",
            "events": f"http://{host}:{events.port}",
            "metrics": f"http://{settings.metrics_host}:{metrics}/metrics",
            "nats": redacted(self.nats_url),
            "redis": redacted(self.redis_url),
        }

    def announce(self, *, json: bool) -> None:
        """Print the addresses."""
        if json:
            running.say(self.ready)
            return
        for name, where in self.ready.items():
            if name != "type":
                sys.stdout.write(f"{name:>8}  {where}\n")
        sys.stdout.flush()


def _check_ports(settings: Settings) -> None:
    """Every busy port in one answer, before any server starts."""
    wanted = {
        "METRICS_PORT": 9090 if settings.metrics_port is None else settings.metrics_port,
        "ORDERBOOK_HTTP_PORT": settings.orderbook_http_port,
        "EVENTS_HTTP_PORT": settings.events_http_port,
        "WS_PORT": settings.ws_port,
    }
    problems: list[str] = []
    for setting, port in wanted.items():
        try:
            bind(settings.bind_host, port, setting).close()
        except PortInUse as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(problems)
