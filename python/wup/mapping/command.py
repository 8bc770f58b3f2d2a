"""`wup map`: look at mappings, check them against the venues, and link two events in a minute.

Mapping files stay the source of truth: these commands read and write them, and the event service takes an
edited file by itself.
"""

from __future__ import annotations

import asyncio
import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console
from rich.table import Table

from wup import config
from wup.errors import SettingsError
from wup.mapping import link as linking
from wup.mapping import review as reviewing
from wup.mapping.catalogue import CatalogueError
from wup.mapping.file import NO_FILES, MappingFiles, parse, read
from wup.mapping.lint import lint, load_checked
from wup.mapping.lint_venues import lint_venues
from wup.mapping.write import dump, dump_aggregate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.catalogue import Catalogue, VenueEventRecord, VenueMarket
    from wup.mapping.compile import EventKey
    from wup.mapping.file import AggregateEntry

app = typer.Typer(no_args_is_help=True, help="Mapping files: lint, show, link.")
Mappings = Annotated[Path, typer.Option("--mappings", envvar="MAPPINGS", help="Mapping file or folder.")]
_FAILED = 2
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def _catalogues() -> dict[str, Catalogue]:
    # The venues are loaded here only, so that nobody who reads mappings depends on them.
    from wup.venues.registry import VENUES

    return {name: venue.catalogue(config.load(venue.settings)) for name, venue in VENUES.items()}


def _platforms() -> list[str]:
    from wup.venues.registry import VENUES

    return list(VENUES)


def _fail(problems: list[str]) -> typer.Exit:
    for problem in problems:
        _err.print(problem, markup=False)
    return typer.Exit(_FAILED)


@app.command("lint")
def lint_command(
    mappings: Mappings = Path("mappings"),
    venues: Annotated[bool, typer.Option(help="Also compare with what the venues list now.")] = False,
) -> None:
    """Check every mapping file; every problem with file, line and what to do. Exit 2 when there is one."""
    files, problems = read(mappings)
    problems += lint(files, _platforms())
    if venues:
        events, missing = asyncio.run(_fetch(files.events()))
        problems += missing
        problems += lint_venues(files, events)
    if problems:
        raise _fail(problems)
    markets = sum(len(entry.market) for entry in files.aggregates)
    _out.print(f"{len(files.paths)} files, {len(files.aggregates)} aggregates, {markets} markets: no problem")


@app.command("show")
def show_command(mappings: Mappings = Path("mappings")) -> None:
    """What the mapping files merge, leg by leg."""
    try:
        files = load_checked(mappings, _platforms())
    except SettingsError as error:
        raise _fail(error.problems) from None
    table = Table("aggregate", "market", "leg", "polarity", "status", "confirmed by", box=None)
    for entry in files.aggregates:
        for market in entry.market:
            for leg in market.leg:
                table.add_row(
                    entry.id,
                    market.label,
                    f"{leg.platform} {leg.market}",
                    leg.polarity,
                    leg.status,
                    leg.confirmed_by or "-",
                )
    _out.print(table)


@app.command("link")
def link_command(
    left: Annotated[str, typer.Argument(help="PLATFORM:EVENT whose YES the unified markets keep.")],
    right: Annotated[str, typer.Argument(help="PLATFORM:EVENT to join to it.")],
    aggregate: Annotated[str, typer.Option("--id", help="Id of the aggregate, such as fed-2026-12.")],
    mappings: Mappings = Path("mappings"),
    tie: Annotated[
        str, typer.Option(help="Can the outcome be a tie? impossible or possible.")
    ] = "impossible",
    kind: Annotated[str, typer.Option(help="Kind of market, for the keys.")] = "outcome",
    period: Annotated[str, typer.Option(help="Period or scope, for the keys.")] = "event",
    by: Annotated[str | None, typer.Option(help="Who confirms; the login name by default.")] = None,
) -> None:
    """Merge two venue events: both rule texts side by side, one question per pair, one file written."""
    keys = [_key(name) for name in (left, right)]
    events, problems = asyncio.run(_fetch(keys))
    if problems:
        raise _fail(problems)
    files = read(mappings)[0] if mappings.exists() else NO_FILES
    if tie not in ("impossible", "possible"):
        raise _fail([f"--tie: {tie!r} is neither impossible nor possible"])
    entry = linking.link(
        events[keys[0]],
        events[keys[1]],
        aggregate=aggregate,
        by=f"human:{by or getpass.getuser()}",
        at=datetime.now(UTC).replace(microsecond=0),
        ask=_ask,
        kind=kind,
        period=period,
        tie=cast("Literal['impossible', 'possible']", tie),
    )
    if entry is None:
        _out.print("nothing confirmed, nothing written")
        return
    problems = lint(linking.joined(files, entry), _platforms()) + lint_venues(
        linking.joined(NO_FILES, entry), events
    )
    if problems:
        raise _fail(problems)
    target = mappings if mappings.suffix == ".toml" else mappings / f"{aggregate}.toml"
    if target.exists():
        text = target.read_text() + dump_aggregate(entry)
        wrong = parse(text, str(target))[1]
        if wrong:
            raise _fail(wrong)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = dump(MappingFiles(files.version + 1, (entry,)))
    target.write_text(text)
    _out.print(
        f"{len(entry.market)} markets linked in {target}; a running event service takes it within a second"
    )


@app.command("review")
def review_command(
    mappings: Mappings = Path("mappings"),
    by: Annotated[str | None, typer.Option(help="Who confirms; the login name by default.")] = None,
) -> None:
    """Go through the proposed legs: both rule texts side by side, one question each, decisions written."""
    files, problems = read(mappings)
    if problems:
        raise _fail(problems)
    events, missing = asyncio.run(_fetch(files.events()))
    for problem in missing:
        _err.print(problem, markup=False)
    asked = reviewing.questions(files, events)
    decisions = reviewing.review(
        asked,
        by=f"human:{by or getpass.getuser()}",
        at=datetime.now(UTC).replace(microsecond=0),
        ask=_ask_leg,
    )
    changes: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for decision in decisions:
        name, _, line = decision.where.rpartition(":")
        changes.setdefault(name, []).append((int(line), decision.values))
    try:
        texts = {name: reviewing.edited(Path(name).read_text(), edits) for name, edits in changes.items()}
    except reviewing.CannotEdit as error:
        raise _fail([str(error)]) from None
    # All files as they would be, before one of them is touched.
    together: list[AggregateEntry] = []
    for name in files.paths:
        parsed, wrong = parse(texts.get(name) or Path(name).read_text(), name)
        problems += wrong
        together += [] if parsed is None else parsed.aggregates
    after = MappingFiles(files.version, tuple(together), files.paths)
    problems += [*lint(after, _platforms()), *lint_venues(after, events)]
    if problems:
        raise _fail(problems)
    for name, text in texts.items():
        Path(name).write_text(text)
    _out.print(f"{len(asked)} proposed legs, {len(decisions)} decisions written")


def _key(name: str) -> EventKey:
    platform, _, slug = name.partition(":")
    if platform not in _platforms() or not slug:
        raise _fail([f"{name!r} is not PLATFORM:EVENT with a platform of {', '.join(_platforms())}"])
    return platform, slug


async def _fetch(keys: list[EventKey]) -> tuple[Mapping[EventKey, VenueEventRecord], list[str]]:
    """The events, and a problem for each that could not be fetched."""
    catalogues = _catalogues()
    events: dict[EventKey, VenueEventRecord] = {}
    problems: list[str] = []
    try:
        for platform, slug in keys:
            if platform in catalogues:
                try:
                    events[(platform, slug)] = await catalogues[platform].event(slug)
                except CatalogueError as error:
                    problems.append(f"{platform}:{slug}: {error}")
    finally:
        for catalogue in catalogues.values():
            await catalogue.close()
    return events, problems


def _ask_leg(question: reviewing.Question) -> reviewing.Verdict:
    _show(question.reference_market, question.leg_market)
    answer = typer.prompt("YES of B is (s)ame as A, (i)nverted, (r)eject, or decide (l)ater", default="l")
    word = str(answer).strip().casefold()
    words: dict[str, reviewing.Verdict] = {"s": "same", "i": "inverted", "r": "reject"}
    return words.get(word[:1], "later")


def _ask(candidate: linking.Candidate) -> linking.Answer:
    _show(candidate.left, candidate.right)
    answer = typer.prompt("YES of B is (s)ame as A, (i)nverted, or (n)ot the same contract", default="n")
    word = str(answer).strip().casefold()
    return "same" if word in ("s", "same") else "inverted" if word in ("i", "inverted") else "no"


def _show(left: VenueMarket, right: VenueMarket) -> None:
    _out.rule()
    _out.print(f"A  {left.label}   ({left.question})", markup=False)
    _out.print(f"B  {right.label}   ({right.question})", markup=False)
    for line in linking.differences(left.rules, right.rules):
        style = {"-": "red", "+": "green"}.get(line[0], "dim")
        _out.print(line, style=style, markup=False)
