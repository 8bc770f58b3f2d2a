"""The `wup` command: one verb per stage, all of them together, and the tools around them."""

from __future__ import annotations

from typing import Annotated

import typer

from wup import __version__
from wup.cli import recordings, stages, tokens, tools
from wup.events.command import register as register_events
from wup.mapping.command import app as mapping

app = typer.Typer(
    name="wup",
    help="Consolidated order books of prediction markets: streamed, exact, replayable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def wup(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Consolidated order books of prediction markets: streamed, exact, replayable."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


stages.register(app)
recordings.register(app)
tools.register(app)
register_events(app)
app.add_typer(mapping, name="map", help="Mapping files: suggest, decide, check, publish, show.")
app.add_typer(tokens.app, name="token", help="Access tokens: make, list and revoke them.")


def main() -> None:
    """Entry point."""
    app()


__all__ = ["app", "main"]
