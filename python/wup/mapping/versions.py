"""`wup map publish` and `history`: files into force now, and what came into force when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from wup.mapping.console import Mappings, err, fail, fetch, out, platforms
from wup.mapping.file import read
from wup.mapping.lint import lint
from wup.mapping.lint_venues import lint_venues
from wup.mapping.write import digest
from wup.service_client import EventsUrl, TokenFile, ask

_URL = "http://127.0.0.1:8081"


def register(app: typer.Typer) -> None:
    """Add the verbs to `wup map`."""
    app.command("publish")(publish_command)
    app.command("history")(history_command)


def publish_command(
    mappings: Mappings = Path("mappings"),
    venues: Annotated[bool, typer.Option(help="Compare with what the venues list now.")] = True,
    url: EventsUrl = _URL,
    token_file: TokenFile = None,
) -> None:
    """Check the files, then have the running event service take them; returns when they are in force.

    An edited file is taken within a second anyhow: this checks more before (`--venues`), and says when every
    stage can have the new version. With any problem nothing is published and the exit code is 2.
    """
    files, problems = read(mappings)
    problems += lint(files, platforms())
    if venues and not problems:
        events, missing = asyncio.run(fetch(files.events()))
        problems += [*missing, *lint_venues(files, events)]
    if problems:
        raise fail([*problems, "nothing published"])
    answer = ask("POST", f"{url}/v1/publish", token_file=token_file)
    if answer.status_code == 202:
        out.print(f"taken, but not in Redis yet: {answer.json()['detail']}", markup=False)
        return
    body = answer.json()
    if body["files_sha256"] != digest(files):
        raise fail(
            [
                f"version {body['version']} is in force, but the service at {url} reads other files than "
                f"{mappings}: give it MAPPINGS, or this command --mappings"
            ]
        )
    out.print(f"version {body['version']} is in force: {len(files.aggregates)} aggregates from files")
    for problem in body["problems"]:
        err.print(problem, markup=False)


def history_command(
    aggregate: Annotated[str | None, typer.Argument(help="Only changes of this aggregate.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many versions.")] = 20,
    url: EventsUrl = _URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per version.")] = False,
) -> None:
    """Versions of the mapping that came into force, the newest first: when, and what changed."""
    params = {"limit": str(limit), **({} if aggregate is None else {"aggregate": aggregate})}
    body = ask("GET", f"{url}/v1/history", params=params, token_file=token_file).json()
    for entry in body["versions"]:
        if json:
            typer.echo(orjson.dumps(entry))
        else:
            _show(entry)


def _show(entry: dict[str, Any]) -> None:
    when = datetime.fromtimestamp(entry["ts"] / 1_000_000, UTC).isoformat(timespec="seconds")
    out.print(f"version {entry['version']}  {when}  {entry['changed']} markets changed", markup=False)
    for market in entry["markets"]:
        out.print(f"    {market['book']}  {market['label']}", markup=False)
        for leg in market["legs"]:
            out.print(f"        {leg}", markup=False, style="dim")
