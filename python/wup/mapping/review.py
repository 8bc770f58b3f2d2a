"""Proposed legs before a person: accepted as same or inverted, rejected, or left for later.

A decision is written into the file where the leg stands, line by line, so that comments and order stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wup.mapping.catalogue import VenueMarket, rules_sha256
from wup.mapping.moments import seen
from wup.mapping.write import toml_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from wup.mapping.catalogue import VenueEventRecord
    from wup.mapping.file import LegEntry, MappingFiles, MarketEntry
    from wup.mapping.listing import EventKey

Verdict = Literal["same", "inverted", "reject", "later"]
_HEADER = re.compile(r"^\s*\[")
_REASON = 512
_ACCEPTED = ("confirmed", "suspended")


class CannotEdit(ValueError):
    """A leg that is not written as a table of its own; the text says where."""


@dataclass(frozen=True, slots=True)
class Question:
    """A proposed leg beside the leg that it would join, both as the venues list them now."""

    market: MarketEntry
    reference: LegEntry
    reference_market: VenueMarket
    leg: LegEntry
    leg_market: VenueMarket


@dataclass(frozen=True, slots=True)
class Decision:
    """New values, as TOML text, for the leg's table at `where` (`file:line`)."""

    where: str
    values: Mapping[str, str]


def questions(files: MappingFiles, events: Mapping[EventKey, VenueEventRecord]) -> list[Question]:
    """Every proposed leg that can be compared now; the reference is the market's first accepted leg, else
    its first proposed one."""
    found: list[Question] = []
    for aggregate in files.aggregates:
        for market in aggregate.market:
            known = [(leg, listed) for leg in market.leg if (listed := _listed(leg, events)) is not None]
            accepted = [pair for pair in known if pair[0].status in _ACCEPTED]
            proposed = [pair for pair in known if pair[0].status == "proposed"]
            if accepted:
                reference, reference_market = accepted[0]
            elif len(proposed) > 1:
                reference, reference_market = proposed.pop(0)
            else:
                continue
            found += [Question(market, reference, reference_market, *pair) for pair in proposed]
    return found


def review(
    asked: list[Question],
    *,
    by: str,
    at: datetime,
    ask: Callable[[Question], Verdict],
    ask_tie: Callable[[Question], bool] = lambda _: False,
    ask_reason: Callable[[Question], str] = lambda _: "",
) -> list[Decision]:
    """Ask each question; what is to be written. Accepting a pair of proposals accepts the reference too.

    Args:
        ask_tie: can neither side win? Asked once per market that is to have an inverted leg and says nothing
            of ties. Where it can, the leg stays proposed: each leg's rule for ties must be written first.
        ask_reason: why a leg is rejected; "" for no reason.
    """
    decisions: dict[str, Decision] = {}
    for question in asked:
        verdict = ask(question)
        if verdict == "later":
            continue
        if verdict == "reject":
            reason = ask_reason(question).strip()[:_REASON]
            values = {"status": '"rejected"', **({"reason": toml_text(reason)} if reason else {})}
            decisions[question.leg.where] = Decision(question.leg.where, values)
            continue
        reference = question.reference
        turned = (reference.polarity == "inverted") != (verdict == "inverted")
        inverted = turned or reference.polarity == "inverted"
        if inverted and question.market.tie is None and question.market.where not in decisions:
            if ask_tie(question):
                continue
            decisions[question.market.where] = Decision(question.market.where, {"tie": '"impossible"'})
        if reference.status == "proposed" and reference.where not in decisions:
            decisions[reference.where] = _accept(
                reference, question.reference_market, reference.polarity, by, at
            )
        polarity = "inverted" if turned else "same"
        decisions[question.leg.where] = _accept(question.leg, question.leg_market, polarity, by, at)
    return list(decisions.values())


def edited(text: str, changes: list[tuple[int, Mapping[str, str]]]) -> str:
    """A file's text with values set in the tables whose headers stand at these lines (from 1).

    Raises:
        CannotEdit: there is no header at that line, or a value spans lines.
    """
    lines = text.removesuffix("\n").split("\n")
    # From the end, so that the lines before keep their numbers.
    for number, values in sorted(changes, key=lambda change: -change[0]):
        start = number - 1
        if start >= len(lines) or not _HEADER.match(lines[start]):
            raise CannotEdit(f"line {number}: the leg is not a table of its own; edit it by hand")
        end = next((i for i in range(start + 1, len(lines)) if _HEADER.match(lines[i])), len(lines))
        body = lines[start + 1 : end]
        gap: list[str] = []
        while body and not body[-1].strip():
            gap.append(body.pop())
        indent = re.match(r"\s*", body[0] if body else lines[start])
        for name, value in values.items():
            line = f"{indent[0] if indent else ''}{name} = {value}"
            place = next((i for i, old in enumerate(body) if re.match(rf"\s*{name}\s*=", old)), None)
            if place is None:
                body.append(line)
            elif re.search(r'("""|\'\'\'|[\[{]\s*)$', body[place]):
                raise CannotEdit(f"line {start + 2 + place}: {name} spans lines; edit it by hand")
            else:
                body[place] = line
        lines[start + 1 : end] = [*body, *gap]
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")


def astray(before: MappingFiles, after: MappingFiles, decided: Collection[str]) -> list[str]:
    """Where edited files say something else than before, outside the tables that were decided about."""
    was, now = list(_tables(before)), list(_tables(after))
    found = [
        f"{where}: would be changed too; edit the file by hand"
        for (where, named, said), (_, named_now, said_now) in zip(was, now, strict=False)
        if named != named_now or (said != said_now and where not in decided)
    ]
    return found or ([] if len(was) == len(now) else ["legs would be added or lost; edit the file by hand"])


def _tables(files: MappingFiles) -> Iterator[tuple[str, tuple[str, ...], object]]:
    """Each market and leg: where it stands, what it is about, and all that it says."""
    for aggregate in files.aggregates:
        for market in aggregate.market:
            yield market.where, (aggregate.id, market.key), market.tie
            for leg in market.leg:
                named = (aggregate.id, market.key, leg.platform, leg.event, leg.market, leg.outcome or "")
                said = leg.model_dump(exclude={"where": True, "evidence": {"where"}, "settlement": {"where"}})
                yield leg.where, named, said


def _accept(leg: LegEntry, listed: VenueMarket, polarity: str, by: str, at: datetime) -> Decision:
    evidence = {"yes_subject": listed.label, "polarity": polarity, **seen(listed)}
    fields = ", ".join(f"{name} = {toml_text(str(value))}" for name, value in evidence.items())
    return Decision(
        leg.where,
        {
            "polarity": f'"{polarity}"',
            "status": '"confirmed"',
            "rules_sha256": f'"{rules_sha256(listed.rules)}"',
            "confirmed_by": f'"{by}"',
            "confirmed_at": at.isoformat().replace("+00:00", "Z"),
            "evidence": f'{{ source = "human", fields = {{ {fields} }} }}',
        },
    )


def _listed(leg: LegEntry, events: Mapping[EventKey, VenueEventRecord]) -> VenueMarket | None:
    event = events.get((leg.platform, leg.event))
    return None if event is None else event.market(leg.market)
