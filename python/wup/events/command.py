"""`wup track` and `wup untrack`: follow an event of a running event service, or stop to."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from wup.service_client import EventsUrl, TokenFile, ask, fail

Event = Annotated[str, typer.Argument(help="PLATFORM:EVENT, in the words of the venue.")]
_URL = "http://127.0.0.1:8081"


def register(app: typer.Typer) -> None:
    """Add both verbs to the command line."""

    @app.command()
    def track(event: Event, url: EventsUrl = _URL, token_file: TokenFile = None) -> None:
        """Follow an event from now on: its books appear within seconds, and it is remembered."""
        platform, slug = _parts(event)
        answer = ask(
            "POST", f"{url}/v1/track", json={"platform": platform, "slug": slug}, token_file=token_file
        )
        if answer.status_code == 202:
            typer.echo(f"{event} is followed; the venue does not answer now: {answer.json()['detail']}")
            return
        found = answer.json()
        typer.echo(
            f"{event} is followed: {found['title']}, {found['markets_count']} markets, {found['aggregate']}"
        )

    @app.command()
    def untrack(event: Event, url: EventsUrl = _URL, token_file: TokenFile = None) -> None:
        """Stop following an event that was followed by request."""
        platform, slug = _parts(event)
        path = f"{url}/v1/track/{quote(platform, safe='')}/{quote(slug, safe='')}"
        ask("DELETE", path, token_file=token_file)
        typer.echo(f"{event} is not followed any more")


def _parts(event: str) -> tuple[str, str]:
    platform, _, slug = event.partition(":")
    if not platform or not slug:
        raise fail(f"{event!r} is not PLATFORM:EVENT")
    return platform, slug
