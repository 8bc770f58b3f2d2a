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

import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wup.errors import SettingsError
from wup.mapping import link as linking
from wup.mapping import review as reviewing
from wup.mapping import suggesting, versions
from wup.mapping.console import By, Mappings, err, fail, fetch, key_of, out, platforms, save, wide
from wup.mapping.file import NO_FILES, MappingFiles, parse, read
from wup.mapping.lint import lint, load_checked
from wup.mapping.lint_venues import lint_venues
from wup.mapping.suggest import id_of
from wup.mapping.write import dump, dump_aggregate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.catalogue import VenueMarket
    from wup.mapping.file import AggregateEntry

app = typer.Typer(
    no_args_is_help=True, help="Mapping files: suggest, link, review, lint, publish, and what came of them."
)
suggesting.register(app)
versions.register(app)


@app.command("lint")
def lint_command(
    mappings: Mappings = Path("mappings"),
    venues: Annotated[bool, typer.Option(help="Also compare with what the venues list now.")] = False,
) -> None:
    """Check every mapping file; every problem with file, line and what to do. Exit 2 when there is one."""
    files, problems = read(mappings)
    problems += lint(files, platforms())
    if venues:
        events, missing = asyncio.run(fetch(files.events()))
        problems += missing
        problems += lint_venues(files, events)
    if problems:
        raise fail(problems)
    markets = sum(len(entry.market) for entry in files.aggregates)
    out.print(f"{len(files.paths)} files, {len(files.aggregates)} aggregates, {markets} markets: no problem")


@app.command("show")
def show_command(
    mappings: Mappings = Path("mappings"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object per leg.")] = False,
) -> None:
    """What the mapping files merge, leg by leg; every id in full."""
    try:
        files = load_checked(mappings, platforms())
    except SettingsError as error:
        raise fail(error.problems) from None
    table = Table("aggregate", "market", "leg", "polarity", "status", "confirmed by", box=None)
    for entry in files.aggregates:
        for market in entry.market:
            for leg in market.leg:
                if json:
                    fields = leg.model_dump(mode="json", exclude_none=True, exclude={"where"})
                    named = {"aggregate": entry.id, "key": market.key, "label": market.label, **fields}
                    typer.echo(orjson.dumps({**named, "where": leg.where}))
                    continue
                cells = (entry.id, market.label, f"{leg.platform} {leg.market}", leg.polarity, leg.status)
                table.add_row(*map(escape, (*cells, leg.confirmed_by or "-")))
    if not json:
        wide.print(table)


@app.command("link")
def link_command(
    left: Annotated[str, typer.Argument(help="PLATFORM:EVENT whose YES the unified markets keep.")],
    right: Annotated[str, typer.Argument(help="PLATFORM:EVENT to join to it.")],
    aggregate: Annotated[
        str | None,
        typer.Option("--id", help="Id of the aggregate (fed-2026-12); else from its title."),
    ] = None,
    mappings: Mappings = Path("mappings"),
    tie: Annotated[
        str | None,
        typer.Option(help="Can the outcome be a tie? impossible or possible; asked for where it matters."),
    ] = None,
    kind: Annotated[str, typer.Option(help="Kind of market, for the keys.")] = "outcome",
    period: Annotated[str, typer.Option(help="Period or scope, for the keys.")] = "event",
    by: By = None,
) -> None:
    """Merge two venue events: both rule texts side by side, one question per pair, one file written."""
    keys = [key_of(name) for name in (left, right)]
    events, problems = asyncio.run(fetch(keys))
    if problems:
        raise fail(problems)
    files, problems = read(mappings) if mappings.exists() else (NO_FILES, [])
    if problems:
        raise fail(problems)
    aggregate = aggregate or id_of(events[keys[0]])
    if tie not in (None, "impossible", "possible"):
        raise fail([f"--tie: {tie!r} is neither impossible nor possible"])
    entry = linking.link(
        events[keys[0]],
        events[keys[1]],
        aggregate=aggregate,
        by=f"human:{by or getpass.getuser()}",
        at=datetime.now(UTC).replace(microsecond=0),
        ask=_ask,
        kind=kind,
        period=period,
        tie=cast("Literal['impossible', 'possible'] | None", tie),
    )
    if entry is None:
        out.print("nothing confirmed, nothing written")
        return
    if tie is None and any(leg.polarity == "inverted" for market in entry.market for leg in market.leg):
        if typer.confirm("Can it end without a winner (a tie, a draw)?", default=True):
            raise fail(
                [
                    "an inverted market that can end in a tie needs each leg's tie rule: write them by hand "
                    "(docs/mapping.md), nothing written"
                ]
            )
        entry = entry.model_copy(
            update={"market": tuple(m.model_copy(update={"tie": "impossible"}) for m in entry.market)}
        )
    problems = lint(linking.joined(files, entry), platforms()) + lint_venues(
        linking.joined(NO_FILES, entry), events
    )
    if problems:
        raise fail(problems)
    target = mappings if mappings.suffix == ".toml" else mappings / f"{aggregate}.toml"
    if target.exists():
        text = target.read_text(encoding="utf-8") + dump_aggregate(entry)
        wrong = parse(text, str(target))[1]
        if wrong:
            raise fail(wrong)
    else:
        text = dump(MappingFiles(files.version + 1, (entry,)))
    save(target, text)
    out.print(
        f"{len(entry.market)} markets linked in {target}; a running event service takes it within a second"
    )


@app.command("review")
def review_command(
    mappings: Mappings = Path("mappings"),
    by: By = None,
) -> None:
    """Go through the proposed legs: both rule texts side by side, one question each, decisions written."""
    files, problems = read(mappings)
    if problems:
        raise fail(problems)
    events, missing = asyncio.run(fetch(files.events(proposed=True)))
    for problem in missing:
        err.print(problem, markup=False)
    asked = reviewing.questions(files, events)
    decisions = reviewing.review(
        asked,
        by=f"human:{by or getpass.getuser()}",
        at=datetime.now(UTC).replace(microsecond=0),
        ask=_ask_leg,
        ask_tie=_ask_tie,
        ask_reason=lambda _: str(typer.prompt("Why not", default="", show_default=False)),
    )
    changes: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for decision in decisions:
        name, _, line = decision.where.rpartition(":")
        changes.setdefault(name, []).append((int(line), decision.values))
    if read(mappings)[0] != files:
        # Decisions are written by line.
        raise fail([f"{mappings} was changed meanwhile: nothing written, review again"])
    try:
        texts = {
            name: reviewing.edited(Path(name).read_text(encoding="utf-8"), edits)
            for name, edits in changes.items()
        }
    except reviewing.CannotEdit as error:
        raise fail([str(error)]) from None
    # All files as they would be, before one of them is touched.
    together: list[AggregateEntry] = []
    for name in files.paths:
        parsed, wrong = parse(texts.get(name) or Path(name).read_text(encoding="utf-8"), name)
        problems += wrong
        together += [] if parsed is None else parsed.aggregates
    after = MappingFiles(files.version, tuple(together), files.paths)
    problems += [*lint(after, platforms()), *lint_venues(after, events)]
    problems += reviewing.astray(files, after, {decision.where for decision in decisions})
    if problems:
        raise fail(problems)
    for name, text in texts.items():
        save(Path(name), text)
    out.print(f"{len(asked)} proposed legs, {len(decisions)} changes written")


def _ask_leg(question: reviewing.Question) -> reviewing.Verdict:
    _show(question.reference_market, question.leg_market)
    answer = typer.prompt("YES of B is (s)ame as A, (i)nverted, (r)eject, or decide (l)ater", default="l")
    word = str(answer).strip().casefold()
    words: dict[str, reviewing.Verdict] = {"s": "same", "i": "inverted", "r": "reject"}
    return words.get(word[:1], "later")


def _ask_tie(question: reviewing.Question) -> bool:
    possible = bool(typer.confirm("Can it end without a winner (a tie, a draw)?", default=True))
    if possible:
        out.print('left proposed: add tie = "possible" to the market and each leg\'s tie rule by hand first')
    return possible


def _ask(candidate: linking.Candidate) -> linking.Answer:
    _show(candidate.left, candidate.right)
    answer = typer.prompt("YES of B is (s)ame as A, (i)nverted, or (n)ot the same contract", default="n")
    word = str(answer).strip().casefold()
    return "same" if word in ("s", "same") else "inverted" if word in ("i", "inverted") else "no"


def _show(left: VenueMarket, right: VenueMarket) -> None:
    out.rule()
    out.print(f"A  {left.label}   ({left.question})", markup=False)
    out.print(f"B  {right.label}   ({right.question})", markup=False)
    table = Table("A", "B", box=None, expand=True)
    table.columns[0].ratio = table.columns[1].ratio = 1
    for mine, theirs in linking.side_by_side(left.rules, right.rules):
        if mine == theirs:
            table.add_row(Text(mine, "dim"), Text(theirs, "dim"))
        else:
            table.add_row(Text(mine, "red"), Text(theirs, "green"))
    out.print(table, soft_wrap=False)
