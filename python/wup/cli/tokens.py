"""`wup token`: make, list and revoke access tokens. The file holds only hashes; a token is shown once."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

_BYTES = 32  # 256 bits
_DAY_US = 86_400_000_000
_SHOWN = 12

app = typer.Typer(no_args_is_help=True)

File = Annotated[
    Path, typer.Option("--file", envvar="TOKENS_FILE", help="The tokens file; made if it is not there.")
]


@app.command()
def add(
    file: File,
    scope: Annotated[list[str] | None, typer.Option(help="A pattern of books; may be repeated.")] = None,
    days: Annotated[
        float | None, typer.Option(min=0.0, help="Days until it expires; never if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="For whom it is; kept in the file.")] = "",
) -> None:
    """Make a token, print it, and keep its hash. Running services take it up within seconds."""
    from wup.gateway.pattern import parse

    scopes = scope or [">"]
    for text in scopes:
        try:
            parse(text)
        except ValueError as error:
            raise _fail(f"scope {text!r}: {error}") from None
    token = secrets.token_urlsafe(_BYTES)
    entry: dict[str, Any] = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": scopes}
    if days is not None:
        entry["expires"] = time.time_ns() // 1_000 + round(days * _DAY_US)
    if name:
        entry["name"] = name
    entries = _read(file) if file.exists() else []
    _write(file, [*entries, entry])
    typer.echo(token)


@app.command("list")
def show(file: File) -> None:
    """The tokens by the beginning of their hash, with scopes and expiry."""
    now_us = time.time_ns() // 1_000
    for entry in _read(file):
        expires = entry.get("expires")
        if expires is None:
            until = "never expires"
        elif expires <= now_us:
            until = "expired"
        else:
            until = f"expires in {(expires - now_us) / _DAY_US:.1f} days"
        scopes = " ".join(entry.get("scopes", [">"]))
        typer.echo(f"{entry['sha256'][:_SHOWN]}  {scopes}  {until}  {entry.get('name', '')}".rstrip())


@app.command()
def revoke(
    file: File,
    digest: Annotated[str, typer.Argument(help="The beginning of the hash, as `wup token list` shows it.")],
) -> None:
    """Take a token out. Its connections are closed within five seconds."""
    entries = _read(file)
    left = [entry for entry in entries if not digest or not entry["sha256"].startswith(digest)]
    if len(entries) - len(left) != 1:
        raise _fail(f"{len(entries) - len(left)} tokens begin with {digest!r}, not one")
    _write(file, left)
    typer.echo("revoked")


def _read(file: Path) -> list[dict[str, Any]]:
    from wup.access import Grant, TokensFile
    from wup.errors import SettingsError

    try:
        TokensFile(str(file), Grant)
    except SettingsError as error:
        raise _fail("; ".join(error.problems)) from None
    entries: list[dict[str, Any]] = orjson.loads(file.read_bytes())["tokens"]
    return entries


def _write(file: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the file in one step, never readable by others: a service may read it at any moment."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    body = orjson.dumps({"tokens": entries}, option=orjson.OPT_INDENT_2) + b"\n"
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _fail(str(error)) from None


def _fail(why: str) -> typer.Exit:
    typer.echo(f"wup: {why}", err=True)
    return typer.Exit(2)
