"""`wup map eval`: what the id grammars propose, against pairs that people have labelled.

A labelled file is CSV with a header: venue_a, id_a, venue_b, id_b, polarity (same, inverted or empty), label
(match, match_needs_rules_check or no_match), grain, source. It holds ids only, so this measures the reading
of ids; what confirms by itself needs catalogue records (`wup.mapping.series`) and is tested with those.

A label is called an error only where the two ids, or the other rows of the file, contradict it.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wup.mapping.statement import Comparison, Statement, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_COLUMNS = ("venue_a", "id_a", "venue_b", "id_b", "polarity", "label", "grain", "source")
_LABELS = ("match", "match_needs_rules_check", "no_match")


class BadPairs(ValueError):
    """A labelled file that cannot be read; the text names the line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled pair."""

    number: int
    """Line in the file; the header is line 1."""
    venue_a: str
    id_a: str
    venue_b: str
    id_b: str
    polarity: str
    label: str
    grain: str
    source: str

    @property
    def match(self) -> bool:
        """Is it labelled as one contract (or event)?"""
        return self.label != "no_match"

    @property
    def pair(self) -> str:
        """Which pair it is, without its text: 12 hex digits of SHA-256."""
        text = ",".join((self.venue_a, self.id_a, self.venue_b, self.id_b))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Group:
    """Figures of one venue pair, source and grain."""

    rows: int = 0
    matches: int = 0
    """Rows labelled match."""
    proposed: int = 0
    right: int = 0
    """Proposed rows that are labelled match."""
    polarity_told: int = 0
    """Proposals with a polarity, among those whose label has one."""
    polarity_right: int = 0

    def shown(self) -> dict[str, Any]:
        """The counts, and their ratios to four places (None over nothing)."""
        return {
            **vars(self),
            "share_proposed": _ratio(self.right, self.matches),
            "precision": _ratio(self.right, self.proposed),
            "polarity_accuracy": _ratio(self.polarity_right, self.polarity_told),
        }


@dataclass(frozen=True, slots=True)
class LabelError:
    """A row whose label is contradicted, and by what."""

    row: Row
    reason: str


@dataclass
class Crossed:
    """Every id of one venue against every id of another, for matched pairs of one source.

    The labelled rows are mostly right pairs; this is the harder question, how often a wrong one is proposed.
    """

    ids_a: int = 0
    ids_b: int = 0
    proposed: int = 0
    labelled: int = 0
    """Proposed pairs that are labelled match."""
    unlabelled: list[tuple[str, str]] = field(default_factory=list)
    """Proposed pairs that no row labels: a missing label, or a wrong proposal."""

    def shown(self) -> dict[str, Any]:
        """The counts, and the share of proposals that the labels support."""
        return {
            "ids_a": self.ids_a,
            "ids_b": self.ids_b,
            "proposed": self.proposed,
            "labelled_match": self.labelled,
            "not_labelled": len(self.unlabelled),
            "precision": _ratio(self.labelled, self.proposed),
        }


@dataclass
class Evaluation:
    """The outcome of one run."""

    groups: dict[tuple[str, str, str, str], Group] = field(default_factory=dict)
    """By venue_a, venue_b, source, grain."""
    wrong: list[tuple[Row, str]] = field(default_factory=list)
    """Proposals that the labels contradict: false pairs, and wrong polarities."""
    errors: list[LabelError] = field(default_factory=list)
    crossed: dict[tuple[str, str, str], Crossed] = field(default_factory=dict)
    """By venue_a, venue_b, source."""


def read_pairs(path: Path) -> list[Row]:
    """The rows of a labelled file.

    Raises:
        BadPairs: not CSV in UTF-8, a column missing, or a row that is not what it should be.
    """
    rows: list[Row] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise BadPairs(f"{path}:1: no column {', '.join(sorted(missing))}")
            rows.extend(_row(path, reader.line_num, found) for found in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadPairs(f"{path}: cannot be read: {error}") from None
    return rows


def _row(path: Path, number: int, found: Mapping[str | None, Any]) -> Row:
    values = {name: found.get(name) for name in _COLUMNS}
    if None in found or any(not isinstance(value, str) for value in values.values()):
        raise BadPairs(f"{path}:{number}: not {len(_COLUMNS)} columns")
    if values["label"] not in _LABELS:
        raise BadPairs(f"{path}:{number}: label {values['label']!r} is none of {', '.join(_LABELS)}")
    if values["polarity"] not in ("", "same", "inverted"):
        raise BadPairs(f"{path}:{number}: polarity {values['polarity']!r} is neither same nor inverted")
    return Row(number, **values)  # type: ignore[arg-type]


def evaluate(rows: list[Row], identities: Mapping[str, Callable[[str], Statement]]) -> Evaluation:
    """Compare the statements of each row's ids with its label.

    Args:
        identities: platform -> reader of its ids; another platform's ids say nothing.
    """
    result = Evaluation()
    compared: dict[int, Comparison] = {}
    for row in rows:
        one, two = (
            identities[venue](name) if venue in identities else Statement()
            for venue, name in ((row.venue_a, row.id_a), (row.venue_b, row.id_b))
        )
        found = compared[row.number] = compare(one, two)
        group = result.groups.setdefault((row.venue_a, row.venue_b, row.source, row.grain), Group())
        group.rows += 1
        group.matches += row.match
        if not found.proposed:
            continue
        group.proposed += 1
        group.right += row.match
        if not row.match:
            result.wrong.append((row, "labelled no_match"))
        elif found.polarity is not None and row.polarity:
            group.polarity_told += 1
            group.polarity_right += found.polarity == row.polarity
            if found.polarity != row.polarity:
                result.wrong.append((row, f"read {found.polarity}, labelled {row.polarity}"))
    result.crossed = _crossed(rows, identities)
    result.errors = sorted(_errors(rows, compared).values(), key=lambda error: error.row.number)
    return result


def _crossed(
    rows: list[Row], identities: Mapping[str, Callable[[str], Statement]]
) -> dict[tuple[str, str, str], Crossed]:
    """All pairs of ids that share a day and a kind of statement, which every proposal does."""
    labelled: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if row.match and row.grain != "event" and row.venue_a in identities and row.venue_b in identities:
            labelled[(row.venue_a, row.venue_b, row.source)].add((row.id_a, row.id_b))
    found: dict[tuple[str, str, str], Crossed] = {}
    for (venue_a, venue_b, source), pairs in labelled.items():
        firsts, seconds = ({pair[side] for pair in pairs} for side in (0, 1))
        blocks: dict[object, list[tuple[str, Statement]]] = defaultdict(list)
        for name in sorted(seconds):
            read = identities[venue_b](name)
            blocks[(read.day, _family(read))].append((name, read))
        crossed = found[(venue_a, venue_b, source)] = Crossed(len(firsts), len(seconds))
        for name in sorted(firsts):
            read = identities[venue_a](name)
            for other, other_read in blocks.get((read.day, _family(read)), ()):
                if compare(read, other_read).proposed:
                    crossed.proposed += 1
                    if (name, other) in pairs:
                        crossed.labelled += 1
                    else:
                        crossed.unlabelled.append((name, other))
    return found


def _family(read: Statement) -> object:
    return "winner" if read.kind == "result" else read.kind


def _errors(rows: list[Row], compared: Mapping[int, Comparison]) -> dict[int, LabelError]:
    """Labels that the ids, or other labels, contradict; the first reason of each row."""
    found: dict[int, LabelError] = {}

    def say(row: Row, reason: str) -> None:
        found.setdefault(row.number, LabelError(row, reason))

    for row in rows:
        conflicts = compared[row.number].conflicts
        if row.match and conflicts:
            say(row, f"labelled {row.label}, but the ids differ in {' and '.join(conflicts)}")
    sides: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    matched: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.match and row.grain == "market":
            event = row.id_a.rpartition("-")[0]
            sides[(row.venue_a, event, row.venue_b, row.id_b)].append(row)
            matched[(row.venue_a, row.venue_b, row.id_b)].append(row)
    for group in sides.values():
        if len(group) > 1 and len({row.polarity for row in group}) == 1:
            # Where one of them is read otherwise it is that one; else it is not known which.
            odd = [r for r in group if compared[r.number].polarity not in (None, r.polarity)]
            for row in odd or group:
                say(row, f"both markets of one event are labelled {row.polarity} to one market")
    for group in matched.values():
        if len({row.id_a.rpartition("-")[0] for row in group}) > 1:
            odd = [row for row in group if not compared[row.number].proposed]
            for row in odd or group:
                say(row, "one market is labelled as that of two events")
    for row in rows:
        pair = (row.venue_a, row.venue_b, row.id_b)
        if not row.match and any(other.id_a.startswith(f"{row.id_a}-") for other in matched.get(pair, ())):
            say(row, "labelled no_match with an event one of whose markets is labelled match")
    return found


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def error_list(errors: list[LabelError]) -> str:
    """The label errors as CSV without the pairs' own text: line, digest of the pair, reason."""
    lines = ["row,pair,reason", *(f'{e.row.number},{e.row.pair},"{e.reason}"' for e in errors)]
    return "\n".join(lines) + "\n"
