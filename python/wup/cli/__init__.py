"""The `wup` command: one verb per stage, all of them together, and the tools around them."""

from __future__ import annotations

import typer

from wup.cli import stages, tools
from wup.events.command import register as register_events
from wup.mapping.command import app as mapping

app = typer.Typer(
    name="wup",
    help="Consolidated order books of prediction markets: streamed, exact, replayable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stages.register(app)
tools.register(app)
register_events(app)
app.add_typer(mapping, name="map", help="Mapping files: check them, link markets, look at what is merged.")


def main() -> None:
    """Entry point."""
    app()


__all__ = ["app", "main"]
