"""The verbs around the stages: simulators, demo, watch."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from wup.cli import running
from wup.cli.stages import JsonOption, settings_or_exit

_BOTH = "both"


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""

    @app.command()
    def sim(
        venue: Annotated[str, typer.Argument(help="A venue's name, or both.")] = _BOTH,
        seed: Annotated[int | None, typer.Option(help="Seed of the market model (SIM_SEED).")] = None,
        mapping: Annotated[
            Path | None, typer.Option(help="Write the mapping file of the simulated events here.")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Wire-exact venue simulators on loopback; prints the variables that point WUP at them."""
        from wup import config
        from wup.errors import SettingsError
        from wup.sim import mapping_file
        from wup.sim.service import SimSettings, Simulators

        chosen: dict[str, object] = {} if seed is None else {"sim_seed": seed}
        if venue != _BOTH:
            chosen["sim_venues"] = (venue,)
        try:
            settings = config.load(SimSettings, **chosen)
        except SettingsError as error:
            running.fail(error.problems)

        async def main(stop: asyncio.Event) -> int:
            simulators = Simulators(settings)
            await simulators.start()
            try:
                if mapping is not None:
                    mapping.write_text(mapping_file(simulators.pairs))
                if json:
                    running.say(
                        {
                            "type": "ready",
                            "env": simulators.env(),
                            "control": simulators.control_url(),
                            "pairs": simulators.pairs,
                        }
                    )
                else:
                    for name, value in simulators.env().items():
                        sys.stdout.write(f"export {name}={value}\n")
                    sys.stdout.flush()
                running.started()
                await stop.wait()
            finally:
                await simulators.stop()
            return 0

        running.run(main)

    @app.command()
    def demo(
        duration: Annotated[
            float | None, typer.Option(min=1, help="Seconds to run; until Ctrl-C if not given.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of the simulated market.")] = 7,
        json: JsonOption = False,
    ) -> None:
        """Simulated venues, all stages, a verifying client and a live ladder: everything, with no account."""
        from wup.demo.service import Demo

        settings, _ = settings_or_exit(publish_changes=True)

        async def main(stop: asyncio.Event) -> int:
            return await Demo(settings, seed=seed, json=json).run(stop, duration)

        running.run(main, log_level=settings.log_level if settings.log_level != "info" else "warning")

    @app.command()
    def watch(
        pattern: Annotated[str, typer.Argument(help="Books, NATS rules: fed-2026-12.>, *.*.no, ...")] = ">",
        url: Annotated[str, typer.Option(help="The gateway.")] = "ws://127.0.0.1:8082/ws",
        duration: Annotated[float | None, typer.Option(help="Seconds to run.")] = None,
        json: JsonOption = False,
    ) -> None:
        """Connect as a client, verify every digest, show the ladders; exit 1 if a digest did not match."""
        from wup.client.watch import watch as watch_books

        async def main(stop: asyncio.Event) -> int:
            running.started()
            return await watch_books(pattern, url, json=json, out=sys.stdout, stop=stop, duration=duration)

        running.run(main, log_level="warning")
