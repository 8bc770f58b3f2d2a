"""Mapping files: TOML, reviewed by people, the source of truth behind Redis (mapping.md section 3).

`load` reads a file or a folder of `*.toml`, tells every error at once with file, line and reason, and
publishes nothing by itself. Unknown keys are errors: a misspelt `polarity` must not become a wrong merge.
`json_schema` is the published schema.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002  pydantic reads the annotation

from wup.errors import SettingsError
from wup.mapping.locate import line_at, lines_of

_WHERE = "<where>"
_SUFFIX = ".toml"


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9-][A-Za-z0-9_-]{0,63}$")]
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Sentence = Annotated[str, Field(min_length=1, max_length=512)]
LineText = Annotated[str, Field(pattern=r"^[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?$")]
Key = Annotated[str, Field(pattern=r"^wup1(\|[A-Za-z0-9:@._+/-]+){5}$", max_length=512)]
PlatformName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
Tie = Literal["yes", "no", "half", "void", "fair_price"]
Polarity = Literal["same", "inverted"]
Status = Literal["proposed", "confirmed", "suspended", "retired", "rejected"]
EVIDENCE_SOURCES = ("human", "deterministic_key", "venue_cross_reference")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    where: SkipJsonSchema[str] = Field(default="", alias="<where>")
    """`file:line` of the table's header."""


class Evidence(_Table):
    """Why the leg is believed to be the same statement."""

    source: Literal["human", "deterministic_key", "venue_cross_reference"]
    fields: dict[str, str | int | bool] = Field(default_factory=dict)


class Settlement(_Table):
    """How the venue settles the leg."""

    source: str | None = None
    cutoff: str | None = None
    void: str | None = None


class LegEntry(_Table):
    """One venue market in a unified market."""

    platform: PlatformName
    event: Name
    market: Name
    polarity: Polarity
    outcome: Name | None = None
    """The outcome whose asset feeds the book, where the venue has one asset per outcome; first by default."""
    relation: Literal["identity", "complement", "subset", "superset", "overlap", "disjoint"] = "identity"
    fungibility: Literal["clean", "correlated", "timing"] = "clean"
    status: Status = "proposed"
    line: LineText | None = None
    start: Moment | None = None
    game: Annotated[int, Field(ge=1, le=9)] | None = None
    tie: Tie | None = None
    """What this leg's YES pays when the game is tied, in the leg's own terms."""
    rules_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    confirmed_by: Annotated[str, Field(pattern=r"^(human|auto):\S+$")] | None = None
    confirmed_at: Moment | None = None
    evidence: Evidence | None = None
    settlement: Settlement | None = None
    reason: Sentence | None = None
    """Why it was rejected or retired."""


class MarketEntry(_Table):
    """One unified market: binary, its YES book fed by its legs."""

    key: Key
    label: Sentence
    tie: Literal["impossible", "possible"] | None = None
    leg: tuple[LegEntry, ...] = Field(default=(), strict=False)


class AggregateEntry(_Table):
    """One real-world event."""

    id: Token
    title: Sentence
    category: str | None = None
    league: str | None = None
    start: Moment | None = None
    close: Moment | None = None
    exclusive: bool = False
    market: tuple[MarketEntry, ...] = Field(default=(), strict=False)


class SeriesSide(_Table):
    """One venue's side of a series rule."""

    platform: PlatformName
    series: Name
    """The venue's series, in the words of its folder (`wup map series` fills it in)."""
    rules: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(strict=False, min_length=1)
    """Digests of the rule texts that were read, names, dates and times taken out."""
    source: str | None = None
    void: str | None = None


class SeriesEntry(_Table):
    """What a person found to hold for every game of a series; games that fit it confirm by themselves."""

    league: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    kind: Literal["moneyline"] = "moneyline"
    period: Literal["game"] = "game"
    tie: Literal["impossible"]
    """Only two-valued series: where a tie can happen a person looks at each game."""
    start: Literal["minute", "day"]
    """`day` where no side plays twice a day; else both venues must tell the start."""
    timezone: str = "America/New_York"
    """Whose days are meant."""
    fungibility: Literal["clean", "correlated", "timing"] = "clean"
    names: dict[str, str] = Field(default_factory=dict)
    """Other names of a side: `Bucks = "Milwaukee"`."""
    confirmed_by: Annotated[str, Field(pattern=r"^human:\S+$")]
    confirmed_at: Moment
    side: tuple[SeriesSide, ...] = Field(strict=False, min_length=2)


class _File(_Table):
    """A mapping file of WUP."""

    version: Annotated[int, Field(ge=0, lt=2**53)] = 0
    series: tuple[SeriesEntry, ...] = Field(default=(), strict=False)
    aggregate: tuple[AggregateEntry, ...] = Field(default=(), strict=False)


@dataclass(frozen=True, slots=True)
class MappingFiles:
    """All mapping files together; `version` is the largest of theirs."""

    version: int = 0
    aggregates: tuple[AggregateEntry, ...] = ()
    paths: tuple[str, ...] = ()
    series: tuple[SeriesEntry, ...] = ()

    def events(self, *, proposed: bool = False) -> list[tuple[str, str]]:
        """(platform, event) of every leg in force, each once, in file order; with `proposed` also of those
        that wait for a person."""
        wanted = ("confirmed", "suspended", "proposed") if proposed else ("confirmed", "suspended")
        legs = (
            leg
            for aggregate in self.aggregates
            for market in aggregate.market
            for leg in market.leg
            if leg.status in wanted
        )
        return list(dict.fromkeys((leg.platform, leg.event) for leg in legs))


NO_FILES = MappingFiles()


def files_of(root: Path) -> list[Path]:
    """The files that a file or folder is made of, by name; a link to nothing is none of them."""
    if root.is_dir():
        return sorted(p for p in root.iterdir() if p.suffix == _SUFFIX and p.is_file())
    return [root] if root.is_file() else []


def read(path: str | Path) -> tuple[MappingFiles, list[str]]:
    """Read a file or folder: what is well formed, and every problem as `file:line: reason`."""
    root = Path(path)
    paths = files_of(root)
    if not paths and not root.is_dir():
        return NO_FILES, [f"{root}: no such file or folder"]
    version = 0
    aggregates: list[AggregateEntry] = []
    series: list[SeriesEntry] = []
    problems: list[str] = []
    for each in paths:
        try:
            text = each.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{each}: cannot be read: {error}")
            continue
        parsed, wrong = parse(text, str(each))
        problems.extend(wrong)
        if parsed is not None:
            version = max(version, parsed.version)
            aggregates.extend(parsed.aggregates)
            series.extend(parsed.series)
    names = tuple(str(p) for p in paths)
    return MappingFiles(version, tuple(aggregates), names, tuple(series)), problems


def parse(text: str, name: str) -> tuple[MappingFiles | None, list[str]]:
    """One file's text; None with the problems when it cannot be used."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        return None, [f"{name}:{line[1] if line else text.count(chr(10)) + 1}: {error}"]
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits, brackets within brackets within brackets.
        return None, [f"{name}: cannot be read: {error}"]
    found = lines_of(text)
    _mark(data, (), found, name)
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        problems: list[tuple[int, str]] = []
        for item in error.errors(include_url=False):
            place = tuple(item["loc"])
            line_number = line_at(found, place)
            where = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
            problems.append((line_number, f"{where}: {item['msg']} (got {_shown(item['input'])})"))
        return None, [f"{name}:{number}: {reason}" for number, reason in sorted(problems)]
    return MappingFiles(file.version, file.aggregate, (name,), file.series), []


def load(path: str | Path) -> MappingFiles:
    """`read`, refusing anything less than well formed. The invariants are `wup.mapping.lint`'s.

    Raises:
        SettingsError: every problem with file, line and reason.
    """
    files, problems = read(path)
    if problems:
        raise SettingsError(problems)
    return files


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a mapping file."""
    schema = _File.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "WUP mapping file",
    }


def _mark(
    value: Any, path: tuple[str | int, ...], found: dict[tuple[str | int, ...], int], name: str
) -> None:
    """Give each table the place where it stands, for the problems that only `lint` can see."""
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            _mark(inner, (*path, key), found, name)
        if not (path and path[-1] in ("fields", "names")):
            value[_WHERE] = f"{name}:{line_at(found, path)}"
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _mark(inner, (*path, index), found, name)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    return repr(value)[:80]
