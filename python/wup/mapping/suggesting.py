"""`wup map suggest`, `eval` and `series`: what may be one contract, how good that is, rules for series."""

from __future__ import annotations

import asyncio
import getpass
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from wup.mapping import evaluate as evaluating
from wup.mapping.console import By, Mappings, err, fail, fetch, key_of, out, platforms, save, walk, wide
from wup.mapping.file import NO_FILES, MappingFiles, SeriesEntry, SeriesSide, parse, read
from wup.mapping.lint import lint
from wup.mapping.series import one_name, template
from wup.mapping.subjects import alike
from wup.mapping.suggest import Suggestion, suggest
from wup.mapping.write import dump, dump_aggregate, dump_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.mapping.file import AggregateEntry
    from wup.mapping.series import Game

_SUGGESTED = "suggested.toml"
_SERIES = "series.toml"
_TABLE = re.compile(r"\[\[(?:aggregate|series)\]\]")
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to `wup map`."""
    app.command("suggest")(suggest_command)
    app.command("eval")(eval_command)
    app.command("series")(series_command)


def suggest_command(
    events: Annotated[
        list[str] | None,
        typer.Argument(help="PLATFORM:EVENT to look at; every open event of every venue by default."),
    ] = None,
    mappings: Mappings = Path("mappings"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show; write nothing.")] = False,
    json: JsonLines = False,
) -> None:
    """Propose merges; games that a series rule covers in every field are confirmed by it.

    Proposals are written to suggested.toml beside the mapping files and change no book until `wup map review`
    accepts them.
    """
    files, problems = read(mappings) if mappings.exists() else (NO_FILES, [])
    problems += lint(files, platforms())
    if problems:
        raise fail(problems)
    wanted = [key_of(name) for name in events or ()]
    if wanted:
        fetched, problems = asyncio.run(fetch(wanted))
        listed = list(fetched.values())
    else:
        listed, problems = asyncio.run(walk())
    if not listed or (wanted and problems):
        raise fail(problems or ["the venues list no open event"])
    for problem in problems:
        err.print(problem, markup=False)
    from wup.venues.identities import GAMES

    target = mappings if mappings.suffix == ".toml" else mappings / _SUGGESTED
    undecided = {entry.id: entry for entry in files.aggregates if _undecided(entry, target)}
    rest = tuple(entry for entry in files.aggregates if entry.id not in undecided)
    # A game confirms only when no other one fits, which a part of the list cannot show.
    rules = () if wanted or problems else files.series
    now = datetime.now(UTC).replace(microsecond=0)
    suggested = suggest(listed, replace(files, aggregates=rest, series=rules), GAMES, platforms(), at=now)
    found = [s for s in suggested if not _the_same(s.entry, undecided.get(s.entry.id))]
    for suggestion in found:
        _show(suggestion, json=json)
    if found and not dry_run:
        again = [undecided[s.entry.id] for s in found if s.entry.id in undecided]
        _append(target, [dump_aggregate(s.entry) for s in found], files, without=again)
    if not json:
        confirmed = sum(s.confirmed for s in found)
        where = "nothing written" if dry_run or not found else f"written to {target}"
        out.print(
            f"{len(listed)} events, {len(found)} new suggestions, {confirmed} of them confirmed by a series "
            f"rule; {where}",
            markup=False,
        )


def _show(suggestion: Suggestion, *, json: bool) -> None:
    entry = suggestion.entry
    legs = [
        {"market": m.label, "leg": f"{leg.platform}:{leg.market}", "polarity": leg.polarity}
        for m in entry.market
        for leg in m.leg
    ]
    status = "confirmed" if suggestion.confirmed else "proposed"
    if json:
        body = {"id": entry.id, "status": status, "score": round(suggestion.score, 1), "legs": legs}
        typer.echo(orjson.dumps({**body, "doubts": list(suggestion.doubts)}))
        return
    out.print(f"{status}  {entry.id}  ({entry.title})", markup=False)
    for leg in legs:
        out.print(f"    {leg['market']}: {leg['leg']} {leg['polarity']}", markup=False, style="dim")
    for doubt in suggestion.doubts:
        out.print(f"    waits for a person: {doubt}", markup=False, style="yellow")


def _undecided(entry: AggregateEntry, target: Path) -> bool:
    """Was this entry suggested earlier, and has nobody decided about any leg of it?"""
    legs = [leg for market in entry.market for leg in market.leg]
    return entry.where.rpartition(":")[0] == str(target) and all(leg.status == "proposed" for leg in legs)


def _the_same(entry: AggregateEntry, before: AggregateEntry | None) -> bool:
    return before is not None and dump_aggregate(entry) == dump_aggregate(before)


def _append(
    target: Path,
    parts: list[str],
    files: MappingFiles,
    *,
    without: Sequence[AggregateEntry | SeriesEntry] = (),
) -> None:
    """Add texts to a file, and take entries `without` out; else it stays as it is, comments included.

    What would not be read back whole is not written.
    """
    before = target.read_text(encoding="utf-8") if target.exists() else dump(MappingFiles(files.version + 1))
    lines = before.split("\n")
    if without:
        now, wrong = parse(before, str(target))
        entries = () if now is None else (*now.aggregates, *now.series)
        if wrong or not all(entry in entries for entry in without):
            # They are taken out by line.
            raise fail([f"{target} was changed meanwhile: nothing written, run it again"])
    for entry in sorted(without, key=lambda e: -_line(e)):
        start = _line(entry) - 1
        end = next((i for i in range(start + 1, len(lines)) if _TABLE.match(lines[i])), len(lines))
        while lines[end - 1].lstrip().startswith("#") or not lines[end - 1].strip():
            # What stands above the next table is about that one.
            end -= 1
        del lines[start:end]
    before = "\n".join(lines)
    text = before.rstrip("\n") + "\n" + "".join(parts)
    wrong = parse(text, str(target))[1]
    if wrong:
        raise fail(wrong)
    save(target, text)


def _line(entry: AggregateEntry | SeriesEntry) -> int:
    return int(entry.where.rpartition(":")[2])


# --- eval -----------------------------------------------------------------------------------------


def eval_command(
    file: Annotated[Path, typer.Argument(help="CSV of labelled pairs (docs/mapping.md).")],
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="List of known label errors to compare with; exit 2 when it differs."),
    ] = None,
    write_errors: Annotated[
        Path | None, typer.Option("--write-errors", help="Write the label errors found as such a list.")
    ] = None,
    json: JsonLines = False,
) -> None:
    """How well ids are read: share proposed, precision, polarity accuracy, and labels that are wrong."""
    from wup.venues.identities import IDENTITIES

    try:
        rows = evaluating.read_pairs(file)
    except evaluating.BadPairs as error:
        raise fail([str(error)]) from None
    found = evaluating.evaluate(rows, IDENTITIES)
    if json:
        typer.echo(orjson.dumps(_eval_body(found), option=orjson.OPT_INDENT_2))
    else:
        _eval_tables(found)
    listed = evaluating.error_list(found.errors)
    if write_errors is not None:
        save(write_errors, listed)
    if errors is not None:
        try:
            known = errors.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise fail([f"{errors}: cannot be read: {error}"]) from None
        ours, theirs = set(listed.splitlines()), set(known.splitlines())
        differences = [f"not in {errors}: {line}" for line in sorted(ours - theirs)]
        differences += [f"only in {errors}: {line}" for line in sorted(theirs - ours)]
        if differences:
            raise fail(differences)


def _eval_body(found: evaluating.Evaluation) -> dict[str, Any]:
    return {
        "pairs": [
            {**dict(zip(("venue_a", "venue_b", "source", "grain"), name, strict=True)), **group.shown()}
            for name, group in found.groups.items()
        ],
        "crossed": [
            {**dict(zip(("venue_a", "venue_b", "source"), name, strict=True)), **crossed.shown()}
            for name, crossed in found.crossed.items()
        ],
        "wrong": [{"row": row.number, "pair": row.pair, "why": why} for row, why in found.wrong],
        "label_errors": [{"row": e.row.number, "pair": e.row.pair, "reason": e.reason} for e in found.errors],
    }


def _eval_tables(found: evaluating.Evaluation) -> None:
    table = Table(
        "pair", "source", "grain", "rows", "match", "proposed", "share", "precision", "polarity", box=None
    )
    for (a, b, source, grain), group in found.groups.items():
        shown = group.shown()
        told = f"{group.polarity_right}/{group.polarity_told}"
        cells = (f"{a} {b}", source, grain, group.rows, group.matches, group.proposed)
        ratios = (_percent(shown["share_proposed"]), _percent(shown["precision"]), told)
        table.add_row(*(escape(str(cell)) for cell in (*cells, *ratios)))
    out.print("Labelled rows (share: of the matches; polarity: right of those told)")
    wide.print(table)
    crossed = Table("pair", "source", "ids", "proposed", "labelled", "not labelled", "precision", box=None)
    for (a, b, source), cross in found.crossed.items():
        ids = f"{cross.ids_a} x {cross.ids_b}"
        counts = (cross.proposed, cross.labelled, len(cross.unlabelled))
        row = (f"{a} {b}", source, ids, *counts, _percent(cross.shown()["precision"]))
        crossed.add_row(*(escape(str(cell)) for cell in row))
    out.print("\nEvery id against every other of the same source")
    wide.print(crossed)
    out.print(f"\n{len(found.wrong)} proposals that the labels contradict")
    for wrong, why in found.wrong:
        out.print(f"  line {wrong.number}: {why}", markup=False)
    out.print(f"{len(found.errors)} labels that the ids or other labels contradict")
    reasons: dict[str, list[str]] = {}
    for error in found.errors:
        reasons.setdefault(error.reason, []).append(str(error.row.number))
    for reason, lines in reasons.items():
        out.print(f"  {len(lines)} {reason}: lines {', '.join(lines)}", markup=False)


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"


# --- series ---------------------------------------------------------------------------------------


def series_command(
    left: Annotated[str, typer.Argument(help="PLATFORM:EVENT, a game of the series.")],
    right: Annotated[str, typer.Argument(help="PLATFORM:EVENT, the same game elsewhere.")],
    league: Annotated[str, typer.Option(help="Short name of the league, such as nba.")],
    once_a_day: Annotated[
        bool, typer.Option("--once-a-day", help="No side plays twice a day: the day is enough.")
    ] = False,
    timezone: Annotated[str, typer.Option(help="Whose days are meant.")] = "America/New_York",
    mappings: Mappings = Path("mappings"),
    by: By = None,
) -> None:
    """Write a rule for a whole series, from one game whose rule texts a person reads here.

    With another game of the same series, its names and texts are added to the rule.
    """
    keys = [key_of(name) for name in (left, right)]
    events, problems = asyncio.run(fetch(keys))
    if problems:
        raise fail(problems)
    from wup.venues.identities import GAMES

    games: list[Game] = []
    for platform, slug in keys:
        game = GAMES[platform](events[platform, slug]) if platform in GAMES else None
        if game is None:
            raise fail([f"{platform}:{slug} is not a two-sided game that can be read"])
        games.append(game)
    files, problems = read(mappings) if mappings.exists() else (NO_FILES, [])
    if problems:
        raise fail(problems)
    pairs = _same_sides(*games)
    for game in games:
        for market in game.markets:
            out.rule()
            out.print(f"{game.event.platform} {game.series}: YES is {market.yes}", markup=False)
            out.print(market.market.rules, markup=False)
    for pair in pairs:
        if not _confirmed(pair, *games):
            out.print(f"nothing written: {pair.two} is not {pair.one}", markup=False)
            return
    names = {pair.two: pair.one for pair in pairs if pair.one.casefold() != pair.two.casefold()}
    agreed = (
        "Do both texts settle on the same result, overtime included, so that exactly one of the two sides "
        "wins (no tie), and do the void rules differ in nothing that matters to you?"
    )
    if not typer.confirm(agreed, default=False):
        out.print("nothing written; each game of the series waits for a person")
        return
    now = datetime.now(UTC).replace(microsecond=0)
    entry = SeriesEntry(
        league=league,
        tie="impossible",
        start="day" if once_a_day else "minute",
        timezone=timezone,
        names=names,
        confirmed_by=f"human:{by or getpass.getuser()}",
        confirmed_at=now,
        side=tuple(_side(game, names) for game in games),
    )
    target = mappings if mappings.suffix == ".toml" else mappings / _SERIES
    before = next((rule for rule in files.series if _of_one_series(rule, entry)), None)
    if before is not None:
        where, known = before.where, before.names
        other = [
            f"{where}: {alias!r} is {known[alias]!r} in the rule, {side!r} in this game; mend it by hand"
            for alias, side in names.items()
            if known.get(alias, side) != side
        ]
        if other:
            raise fail(other)
        entry = _widened(before, entry)
        target = Path(before.where.rpartition(":")[0])
    rest = tuple(rule for rule in files.series if rule is not before)
    problems = lint(replace(files, series=(*rest, entry)), platforms())
    if problems:
        raise fail(problems)
    _append(target, [dump_series(entry)], files, without=[] if before is None else [before])
    out.print(f"written to {target}; wup map suggest confirms the games that fit it", markup=False)


def _of_one_series(one: SeriesEntry, two: SeriesEntry) -> bool:
    names = {(side.platform, side.series) for side in two.side}
    return any((side.platform, side.series) in names for side in one.side)


def _widened(before: SeriesEntry, entry: SeriesEntry) -> SeriesEntry:
    """A rule with the names and texts of one more game; what it says of ties, starts and zone stays."""
    new = {(side.platform, side.series): side for side in entry.side}
    sides = []
    for side in before.side:
        more = new.pop((side.platform, side.series), None)
        rules = side.rules if more is None else tuple(dict.fromkeys((*side.rules, *more.rules)))
        sides.append(side.model_copy(update={"rules": rules}))
    return before.model_copy(
        update={
            "names": {**before.names, **entry.names},
            "confirmed_by": entry.confirmed_by,
            "confirmed_at": entry.confirmed_at,
            "side": (*sides, *new.values()),
        }
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """The names of one side, and how it is known that they are."""

    one: str
    two: str
    why: str


def _same_sides(one: Game, two: Game) -> list[_Pair]:
    """Which side of the second game is which of the first, as far as this game tells."""
    straight = alike(one.sides[0], two.sides[0]) or alike(one.sides[1], two.sides[1])
    crossed = alike(one.sides[0], two.sides[1]) or alike(one.sides[1], two.sides[0])
    by_codes = straight == crossed
    if by_codes:
        if set(one.codes) != set(two.codes):
            raise fail([f"it cannot be told which of {two.sides} is which of {one.sides}; write the names"])
        crossed = one.codes != two.codes
    theirs = tuple(reversed(two.sides)) if crossed else two.sides
    pairs = []
    for mine, other, code in zip(one.sides, theirs, one.codes, strict=True):
        why = "their words are alike" if alike(mine, other) else "the names of the other side are alike"
        if by_codes:
            why = f"no name says so, only the code {code} of both venues"
        pairs.append(_Pair(mine, other, why))
    return pairs


def _confirmed(pair: _Pair, one: Game, two: Game) -> bool:
    """Names that are one word by word, or that a person says are one side."""
    if one_name(pair.one, pair.two) and not pair.why.startswith("no name"):
        return True
    asked = f"Is {pair.two} ({two.event.platform}) the side {pair.one} ({one.event.platform})? ({pair.why})"
    return typer.confirm(asked, default=False)


def _side(game: Game, names: dict[str, str]) -> SeriesSide:
    known = [f"{alias}={side}" for alias, side in names.items()]
    texts = dict.fromkeys(template(m.market.rules, m.yes, m.no, known) for m in game.markets)
    return SeriesSide(platform=game.event.platform, series=game.series, rules=tuple(texts))
