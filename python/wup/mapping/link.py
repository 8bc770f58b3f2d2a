"""Two venue events become one aggregate, by a person's word (mapping.md section 4).

Similarity only orders what is shown. Nothing is merged that was not confirmed with both rule texts in view,
and what was confirmed is written down with it: the digest of the rules, and the polarity beside the subject
it was confirmed for.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from wup.mapping.catalogue import VenueEventRecord, VenueMarket, rules_sha256
from wup.mapping.file import AggregateEntry, Evidence, LegEntry, MappingFiles, MarketEntry
from wup.mapping.moments import seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from wup.mapping.file import Polarity

Answer = Literal["same", "inverted", "no"]
_UNSAFE = re.compile(r"[^A-Za-z0-9:@._+/-]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A market of each event that may be one statement; the score is about words alone."""

    left: VenueMarket
    right: VenueMarket
    score: float


def candidates(left: VenueEventRecord, right: VenueEventRecord, *, least: float = 0.0) -> list[Candidate]:
    """Every pair of tradable markets, the most alike first. "Other" outcomes are never offered."""
    found = [
        Candidate(a, b, _likeness(a, b))
        for a in left.markets
        if _offered(a)
        for b in right.markets
        if _offered(b)
    ]
    return sorted(
        (c for c in found if c.score >= least), key=lambda c: (-c.score, c.left.label, c.right.label)
    )


def side_by_side(left: str, right: str) -> list[tuple[str, str]]:
    """Two rule texts sentence by sentence; equal sentences stand in one row, "" where one side has none."""
    mine, theirs = _sentences(left), _sentences(right)
    rows: list[tuple[str, str]] = []
    for _, start, end, other_start, other_end in SequenceMatcher(None, mine, theirs).get_opcodes():
        rows += zip_longest(mine[start:end], theirs[other_start:other_end], fillvalue="")
    return rows


def part(words: str) -> str:
    """Free words as one part of a market key: plain, lower case, joined by hyphens."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().casefold()
    return _UNSAFE.sub("-", plain).strip("-") or "-"


def link(
    left: VenueEventRecord,
    right: VenueEventRecord,
    *,
    aggregate: str,
    by: str,
    at: datetime,
    ask: Callable[[Candidate], Answer],
    kind: str = "outcome",
    period: str = "event",
    tie: Literal["impossible", "possible"] | None = None,
) -> AggregateEntry | None:
    """Ask about pairs until every market of the smaller event has one; the aggregate of what was confirmed.

    Args:
        aggregate: its id, which is also the event part of the keys.
        by: who answers, as `human:NAME`.
        ask: shows a pair with both rule texts and answers how they relate.

    A market that was confirmed is not offered again. None when nothing was confirmed.
    """
    used: set[str] = set()
    markets: list[MarketEntry] = []
    for candidate in candidates(left, right):
        if candidate.left.market_id in used or candidate.right.market_id in used:
            continue
        answer = ask(candidate)
        if answer == "no":
            continue
        used |= {candidate.left.market_id, candidate.right.market_id}
        line = candidate.left.line or candidate.right.line or "-"
        key = "|".join(["wup1", part(aggregate), part(kind), part(candidate.left.label), line, part(period)])
        markets.append(
            MarketEntry(
                key=key,
                label=candidate.left.label,
                tie=tie,
                leg=(
                    _leg(left, candidate.left, "same", by, at),
                    _leg(right, candidate.right, answer, by, at),
                ),
            )
        )
        if len(markets) == min(len(left.markets), len(right.markets)):
            break
    if not markets:
        return None
    return AggregateEntry(
        id=aggregate,
        title=left.title,
        category=left.category,
        exclusive=left.exclusive and right.exclusive,
        market=tuple(markets),
    )


def joined(files: MappingFiles, entry: AggregateEntry) -> MappingFiles:
    """The files with one more aggregate, as the next version."""
    return MappingFiles(files.version + 1, (*files.aggregates, entry), files.paths)


def _leg(event: VenueEventRecord, market: VenueMarket, polarity: Polarity, by: str, at: datetime) -> LegEntry:
    return LegEntry.model_validate(
        {
            # There is no file yet: problems name the venue market instead.
            "<where>": f"{event.platform}:{market.market_id}",
            "platform": event.platform,
            "event": event.slug,
            "market": market.market_id,
            "polarity": polarity,
            "status": "confirmed",
            "rules_sha256": rules_sha256(market.rules),
            "confirmed_by": by,
            "confirmed_at": at,
            "evidence": Evidence(
                source="human",
                fields={"yes_subject": market.label, "polarity": polarity, **seen(market)},
            ),
        }
    )


def _offered(market: VenueMarket) -> bool:
    return market.status in ("open", "halted") and market.facts.get("other") != "true"


def _likeness(left: VenueMarket, right: VenueMarket) -> float:
    """0 to 1 over labels and questions; equal lines weigh more than words, other lines exclude."""
    if (
        left.line is not None
        and right.line is not None
        and abs(Decimal(left.line)) != abs(Decimal(right.line))
    ):
        return 0.0
    labels = SequenceMatcher(None, _words(left.label), _words(right.label)).ratio()
    questions = SequenceMatcher(None, _words(left.question), _words(right.question)).ratio()
    return (2 * labels + questions) / 3


def _words(text: str) -> str:
    """The words and numbers of a text in one order, whatever order it has them in."""
    return " ".join(sorted(re.findall(r"[0-9]+|[^\W0-9_]+", text.casefold())))


def _sentences(text: str) -> list[str]:
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s.strip()]
