"""`wup track` and `wup untrack`: follow an event of a running event service, or stop to."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import httpx2
import typer

Event = Annotated[str, typer.Argument(help="PLATFORM:EVENT, in the words of the venue.")]
Url = Annotated[str, typer.Option("--url", envvar="EVENTS_SERVICE_URL", help="The event service.")]
_URL = "http://127.0.0.1:8081"
_TIMEOUT_S = 30.0


def register(app: typer.Typer) -> None:
    """Add both verbs to the command line."""

    @app.command()
    def track(event: Event, url: Url = _URL) -> None:
        """Follow an event from now on: its books appear within seconds, and it is remembered."""
        platform, slug = _parts(event)
        answer = _send("POST", f"{url}/v1/track", {"platform": platform, "slug": slug})
        if answer.status_code == 202:
            typer.echo(f"{event} is followed; the venue does not answer now: {answer.json()['detail']}")
            return
        found = answer.json()
        typer.echo(
            f"{event} is followed: {found['title']}, {found['markets_count']} markets, {found['aggregate']}"
        )

    @app.command()
    def untrack(event: Event, url: Url = _URL) -> None:
        """Stop following an event that was followed by request."""
        platform, slug = _parts(event)
        _send("DELETE", f"{url}/v1/track/{quote(platform, safe='')}/{quote(slug, safe='')}")
        typer.echo(f"{event} is not followed any more")


def _parts(event: str) -> tuple[str, str]:
    platform, _, slug = event.partition(":")
    if not platform or not slug:
        raise _fail(f"{event!r} is not PLATFORM:EVENT")
    return platform, slug


def _send(method: str, url: str, body: dict[str, str] | None = None) -> httpx2.Response:
    try:
        answer = httpx2.request(method, url, json=body, timeout=_TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _fail(f"no event service at {url}: {error}") from None
    if answer.status_code >= 400:
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = f"HTTP {answer.status_code}"
        raise _fail(str(detail))
    return answer


def _fail(reason: str) -> typer.Exit:
    typer.echo(reason, err=True)
    return typer.Exit(2)
