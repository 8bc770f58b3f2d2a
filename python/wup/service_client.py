"""A command line's requests to a running service: address, token, and errors as one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import httpx2
import typer

from wup.access import read_token
from wup.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

EventsUrl = Annotated[str, typer.Option("--url", envvar="EVENTS_SERVICE_URL", help="The event service.")]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        envvar="EVENTS_TOKEN_FILE",
        help="File with the token, mode 0600, where the service has TOKENS_FILE.",
    ),
]
_TIMEOUT_S = 30.0


def ask(
    method: str,
    url: str,
    *,
    json: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    token_file: str | None = None,
) -> httpx2.Response:
    """The answer to a request; without one, or when refused, ends the command with exit 2 and the reason."""
    headers: dict[str, str] = {}
    if token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {read_token(token_file, '--token-file')}"
        except SettingsError as error:
            raise fail("; ".join(error.problems)) from None
    try:
        answer = httpx2.request(
            method,
            url,
            json=None if json is None else dict(json),
            params=None if params is None else dict(params),
            headers=headers,
            timeout=_TIMEOUT_S,
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise fail(f"no event service at {url}: {error}") from None
    if answer.status_code >= 400:
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"HTTP {answer.status_code}"
        if answer.status_code == 401 and token_file is None:
            detail += " (--token-file or EVENTS_TOKEN_FILE names the file that holds it)"
        raise fail(detail)
    return answer


def fail(reason: str) -> typer.Exit:
    """Say why; the exit to raise."""
    typer.echo(reason, err=True)
    return typer.Exit(2)
