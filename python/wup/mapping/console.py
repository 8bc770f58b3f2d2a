"""What the commands of `wup map` share: options, messages, and the venues' catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wup import config
from wup.mapping.catalogue import CatalogueError
from wup.mapping.replace_file import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup.mapping.catalogue import Catalogue, VenueEventRecord
    from wup.mapping.listing import EventKey

Mappings = Annotated[Path, typer.Option("--mappings", envvar="MAPPINGS", help="Mapping file or folder.")]
By = Annotated[str | None, typer.Option(help="Who confirms; the login name by default.")]
FAILED = 2
out = Console(highlight=False, soft_wrap=True)
wide = Console(highlight=False, soft_wrap=True, width=1000)
"""For tables of ids: one that is cut off cannot be copied, whatever the terminal's width."""
err = Console(stderr=True, highlight=False, soft_wrap=True)


def catalogues() -> dict[str, Catalogue]:
    """Every venue's catalogue. The caller closes them."""
    # The venues are loaded here only, so that nobody who reads mappings depends on them.
    from wup.venues.registry import VENUES

    return {name: venue.catalogue(config.load(venue.settings)) for name, venue in VENUES.items()}


def platforms() -> list[str]:
    """Names of the platforms that exist here."""
    from wup.venues.registry import VENUES

    return list(VENUES)


def fail(problems: Iterable[str]) -> typer.Exit:
    """Say every problem; the exit to raise."""
    for problem in problems:
        err.print(problem, markup=False)
    return typer.Exit(FAILED)


def save(path: Path, text: str) -> None:
    """Write a file whole, and its folder; ends the command when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except OSError as error:
        raise fail([f"{path}: cannot be written, and is as it was: {error}"]) from None


def key_of(name: str) -> EventKey:
    """`PLATFORM:EVENT` in its parts; ends the command when it is not that."""
    platform, _, slug = name.partition(":")
    if platform not in platforms() or not slug:
        raise fail([f"{name!r} is not PLATFORM:EVENT with a platform of {', '.join(platforms())}"])
    return platform, slug


async def fetch(keys: Iterable[EventKey]) -> tuple[Mapping[EventKey, VenueEventRecord], list[str]]:
    """The events, and a problem for each that could not be fetched."""
    known = catalogues()
    events: dict[EventKey, VenueEventRecord] = {}
    problems: list[str] = []
    try:
        for platform, slug in keys:
            if platform in known:
                try:
                    events[(platform, slug)] = await known[platform].event(slug)
                except CatalogueError as error:
                    problems.append(f"{platform}:{slug}: {error}")
    finally:
        for catalogue in known.values():
            await catalogue.close()
    return events, problems


async def walk() -> tuple[list[VenueEventRecord], list[str]]:
    """Every open event of every venue, and a problem for each venue that did not tell all."""
    known = catalogues()
    events: list[VenueEventRecord] = []
    problems: list[str] = []
    try:
        for platform, catalogue in known.items():
            try:
                async for event in catalogue.events():
                    events.append(event)  # noqa: PERF401  those before a failure are kept
            except CatalogueError as error:
                problems.append(f"{platform}: {error}")
            # The list of a whole venue takes minutes: whoever waits sees that it goes on.
            err.print(f"{platform}: {sum(e.platform == platform for e in events)} events", markup=False)
    finally:
        for catalogue in known.values():
            await catalogue.close()
    return events, problems
