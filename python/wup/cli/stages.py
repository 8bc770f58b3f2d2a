"""The verbs that run stages: one each over NATS, or all in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wup import config
from wup.cli import running
from wup.errors import SettingsError

if TYPE_CHECKING:
    from wup.config import EnvSettings, FileSettings, Settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")]


def settings_or_exit(
    *, mappings: bool = False, **overrides: object
) -> tuple[Settings, dict[str, EnvSettings]]:
    """Settings from the environment, and the files they name; all errors at once, exit 2.

    Args:
        mappings: look at the mapping files too.
    """
    from wup import runtime
    from wup.gateway.limits import Limits
    from wup.http_guard import HttpLimits

    problems: list[str] = []
    loaded: tuple[Settings, dict[str, EnvSettings]] | None = None
    try:
        loaded = runtime.load_settings(**overrides)
    except SettingsError as error:
        problems.extend(error.problems)
    for limits in (Limits, HttpLimits):
        try:
            config.load(limits)
        except SettingsError as error:
            problems.extend(error.problems)
    problems.extend(_file_problems(config.load(config.FileSettings), mappings=mappings))
    if problems or loaded is None:
        running.fail(problems)
    return loaded


def _file_problems(files: FileSettings, *, mappings: bool) -> list[str]:
    from wup.gateway.tokens import Tokens
    from wup.mapping.lint import load_checked
    from wup.venues.registry import VENUES

    problems: list[str] = []
    if files.tokens_file is not None:
        try:
            Tokens(files.tokens_file)
        except SettingsError as error:
            problems.extend(error.problems)
    elif files.bind_host.strip() and not config.is_loopback(files.bind_host.strip()):
        problems.append(f"BIND_HOST: {files.bind_host} is not loopback and TOKENS_FILE is not set")
    try:
        files.orderbook_token()
    except SettingsError as error:
        problems.extend(error.problems)
    if mappings and (Path(files.mappings).exists() or "mappings" in files.model_fields_set):
        try:
            load_checked(files.mappings, VENUES)
        except SettingsError as error:
            problems.extend(f"MAPPINGS: {one}" for one in error.problems)
    return problems


def port_of(settings: Settings, default: int) -> int:
    return settings.http_port if settings.http_port is not None else default


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""

    @app.command()
    def aggregator(json: JsonOption = False) -> None:
        """Venue sockets to market.> (and normalized.> unless NORMALIZE=off)."""
        from wup import runtime

        settings, venues = settings_or_exit()

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                if settings.normalize == "inline":
                    # What the two say to each other about audits stays in the process.
                    forward = ("market.", "normalized.", "control.resync.", "control.discover.")
                    await process.use_local_and_nats("aggregator", forward, ("control.resync.", "mapping."))
                else:
                    await process.use_nats("aggregator")
                metrics = process.metrics(9090)
                if settings.normalize == "inline":
                    await process.start_normalizer(runtime.instance_name())
                await process.start_aggregator()
                await process.follow_mapping()
                running.started()
                running.say({"type": "ready", "stage": "aggregator", "metrics": metrics})
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def normalizer(json: JsonOption = False) -> None:
        """market.> to normalized.>, standalone (run the aggregator with NORMALIZE=off)."""
        from wup import runtime

        settings, venues = settings_or_exit()

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                await process.use_nats("normalizer")
                metrics = process.metrics(9094)
                await process.start_normalizer(runtime.instance_name())
                await process.follow_mapping()
                running.started()
                running.say({"type": "ready", "stage": "normalizer", "metrics": metrics})
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def orderbook(json: JsonOption = False) -> None:
        """normalized.> to consolidated books; HTTP on HTTP_PORT (8080)."""
        from wup import runtime

        settings, venues = settings_or_exit()

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                await process.use_nats("orderbook")
                metrics = process.metrics(9091)
                _, http = await process.start_orderbook(port_of(settings, 8080), "HTTP_PORT")
                await process.follow_mapping()
                running.started()
                running.say({"type": "ready", "stage": "orderbook", "http": http.port, "metrics": metrics})
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def events(json: JsonOption = False) -> None:
        """Venue REST and mapping files to Redis; HTTP on HTTP_PORT (8081)."""
        from wup import runtime

        settings, venues = settings_or_exit(mappings=True)

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                await process.use_nats("events")
                metrics = process.metrics(9092)
                service = await process.start_events(port_of(settings, 8081), "HTTP_PORT")
                running.started()
                running.say({"type": "ready", "stage": "events", "http": service.port, "metrics": metrics})
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def gateway(json: JsonOption = False) -> None:
        """orderbook.> to WebSocket clients on WS_PORT (8082)."""
        from wup import runtime

        settings, venues = settings_or_exit()

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                await process.use_nats("gateway")
                metrics = process.metrics(9093)
                service = await process.start_gateway(in_process=False)
                running.started()
                running.say({"type": "ready", "stage": "gateway", "ws": service.port, "metrics": metrics})
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def up(
        json: JsonOption = False,
        sha256: Annotated[
            bool,
            typer.Option(
                "--sha256", help="At the end print the SHA-256 of all output, as `wup verify` does."
            ),
        ] = False,
    ) -> None:
        """All stages in this process, with a private NATS and Redis unless NATS_URL and REDIS_URL are set."""
        from wup.cli.everything import Everything
        from wup.playback.identity import OutputDigest

        output = OutputDigest() if sha256 else None
        settings, venues = settings_or_exit(mappings=True, publish_changes=True)
        if settings.record is None:
            # Venues keep no history: what was not recorded is gone.
            settings = settings.model_copy(update={"record": True})

        async def main(stop: asyncio.Event) -> int:
            async with Everything(settings, venues) as everything:
                everything.output = output
                await everything.start()
                running.started()
                everything.announce(json=json)
                await stop.wait()
            if output is not None:
                running.say({"type": "output", "messages": output.messages, "sha256": output.hexdigest()})
            return 0

        running.run(main, log_level=settings.log_level)
