"""Proposed legs before a person: what is asked, what is written, and that nothing else of a file changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market
from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup.mapping.command import app
from wup.mapping.file import MappingFiles, parse
from wup.mapping.lint import lint
from wup.mapping.review import CannotEdit, Question, Verdict, edited, questions, review

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
EVENTS = {
    ("kalshi", "E"): venue_event("kalshi", "E", venue_market("E-A"), venue_market("E-B")),
    ("polymarket", "e"): venue_event("polymarket", "e", venue_market("0x01", label='a "quoted" name')),
}
PROPOSED = {"status": '"proposed"', "rules_sha256": "", "confirmed_by": "", "confirmed_at": ""}


def read(text: str) -> MappingFiles:
    """A file as parsed."""
    files, problems = parse(text, "x.toml")
    assert files is not None, problems
    return files


def reviewed(text: str, *verdicts: Verdict) -> tuple[str, list[Question]]:
    """The text after these answers, in order, and what was asked."""
    asked: list[Question] = []

    def ask(question: Question) -> Verdict:
        asked.append(question)
        return verdicts[len(asked) - 1]

    decisions = review(questions(read(text), EVENTS), by="human:cd", at=AT, ask=ask)
    return edited(text, [(int(d.where.split(":")[1]), d.values) for d in decisions]), asked


def two(polarity: str = '"same"', **reference: str) -> str:
    """An accepted leg, and a proposed one, between comments."""
    one = leg("kalshi", "E", "E-A", polarity=polarity, **reference)
    other = leg("polymarket", "e", "0x01", **PROPOSED).replace("polarity", "# keep me\n    polarity", 1)
    return aggregate("a", market("wup1|a|k|s|-|p", one, other, "# the end", tie='"impossible"'))


@pytest.mark.parametrize(
    ("reference", "verdict", "polarity"),
    [
        ("same", "same", "same"),
        ("same", "inverted", "inverted"),
        ("inverted", "same", "inverted"),
        ("inverted", "inverted", "same"),
    ],
)
def test_accepted_relative_to_the_reference(reference: str, verdict: Verdict, polarity: str) -> None:
    """The answer is about the two legs; what is written is about the market."""
    text, asked = reviewed(two(f'"{reference}"'), verdict)
    assert len(asked) == 1
    first, second = read(text).aggregates[0].market[0].leg
    assert (first.polarity, first.confirmed_by) == (reference, "human:ab")
    assert (second.polarity, second.status, second.confirmed_by, second.confirmed_at) == (
        polarity,
        "confirmed",
        "human:cd",
        AT,
    )
    assert second.evidence is not None
    assert second.evidence.fields == {"yes_subject": 'a "quoted" name', "polarity": polarity}
    assert lint(read(text), ("kalshi", "polymarket")) == []
    assert text.count("# keep me") == text.count("# the end") == 1


def test_rejected_and_later() -> None:
    """A rejected leg is only marked; one for later is not touched."""
    text, _ = reviewed(two(), "reject")
    assert [x.status for x in read(text).aggregates[0].market[0].leg] == ["confirmed", "rejected"]
    text, _ = reviewed(two(), "later")
    assert text == two()


def test_two_proposals_are_accepted_together() -> None:
    """Without an accepted leg the first proposal is the reference, and is accepted with the second."""
    text, asked = reviewed(two(**PROPOSED), "inverted")
    assert [(q.reference.market, q.leg.market) for q in asked] == [("E-A", "0x01")]
    legs = read(text).aggregates[0].market[0].leg
    assert [(x.status, x.polarity) for x in legs] == [("confirmed", "same"), ("confirmed", "inverted")]


def test_what_cannot_be_compared_is_not_asked() -> None:
    """A proposal whose venue market is not listed, or that stands alone, waits."""
    gone = leg("polymarket", "e", "0x99", **PROPOSED)
    alone = leg("kalshi", "E", "E-B", **PROPOSED)
    text = aggregate(
        "a", market("wup1|a|k|s|-|p", leg("kalshi", "E", "E-A"), gone), market("wup1|a|k|t|-|p", alone)
    )
    assert questions(read(text), EVENTS) == []


def test_edits_that_cannot_be_made_by_line() -> None:
    """Inline legs and values over several lines are refused, not damaged."""
    with pytest.raises(CannotEdit, match="by hand"):
        edited("a = 1\n", [(1, {"status": '"x"'})])
    with pytest.raises(CannotEdit, match="by hand"):
        edited("a = 1\n", [(9, {"status": '"x"'})])
    with pytest.raises(CannotEdit, match="spans lines"):
        edited('[[x]]\nstatus = """\nlong"""\n', [(1, {"status": '"x"'})])
    assert edited("[[x]]\na = 1\n\n[[x]]\n\n\n# c", [(1, {"b": "2"}), (4, {"c": "3"})]) == (
        "[[x]]\na = 1\nb = 2\n\n[[x]]\n\n\n# c\nc = 3"
    )


@pytest.fixture
async def venues(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VenueRest]:
    """Both venues, and the environment that leads to them."""
    server = VenueRest(
        gamma={"e": gamma_event("e", [gamma_market(1)])},
        kalshi={"E": kalshi_event("E", [kalshi_market("E-A")])},
        series={"E": {}},
    )
    await server.start()
    for name, value in vars(server.urls).items():
        monkeypatch.setenv(name.upper(), value)
    yield server
    await server.stop()


async def test_review_command(venues: VenueRest, tmp_path: Path) -> None:
    """The command asks, writes, and what it wrote stands up to files and venues. Where a tie is possible an
    inverted leg waits for the tie rules."""
    file = tmp_path / "a.toml"
    legs = [leg("kalshi", "E", "E-A", **PROPOSED), leg("polymarket", "e", f"0x{1:064x}", **PROPOSED)]
    before = aggregate("a", market("wup1|a|k|s|-|p", *legs))
    file.write_text(before)

    async def run(command: str, answer: str) -> tuple[int, str]:
        result = await asyncio.to_thread(
            CliRunner().invoke, app, [command, "--mappings", str(tmp_path)], input=answer
        )
        return result.exit_code, result.output

    code, output = await run("review", "i\ny\n")
    assert code == 0, output
    assert "left proposed" in output
    assert file.read_text() == before
    code, output = await run("review", "s\n")
    assert code == 0, output
    assert "If E-A happens, then Yes." in output
    assert [x.status for x in read(file.read_text()).aggregates[0].market[0].leg] == [
        "confirmed",
        "confirmed",
    ]
    assert (await run("lint", ""))[0] == 0
    assert "0 proposed legs" in (await run("review", ""))[1]


async def test_review_writes_ties_and_nothing_that_lint_refuses(venues: VenueRest, tmp_path: Path) -> None:
    """Inverted, and no tie possible: the market says so. A leg that lint refuses: exit 2, files untouched."""
    file = tmp_path / "a.toml"
    first = leg("kalshi", "E", "E-A", **PROPOSED)
    second = leg("polymarket", "e", f"0x{1:064x}", **PROPOSED)
    before = aggregate(
        "a", market("wup1|a|k|s|-|p", first, second.replace("status", 'line = "2.5"\n    status'))
    )
    file.write_text(before)

    async def run(answer: str) -> tuple[int, str]:
        command = ["review", "--mappings", str(tmp_path)]
        result = await asyncio.to_thread(CliRunner().invoke, app, command, input=answer)
        return result.exit_code, result.output

    code, output = await run("s\n")
    assert (code, file.read_text()) == (2, before)
    assert "leg with line 2.5" in output
    file.write_text(aggregate("a", market("wup1|a|k|s|-|p", first, second)))
    code, output = await run("i\nn\n")
    assert code == 0, output
    (written,) = read(file.read_text()).aggregates[0].market
    assert written.tie == "impossible"
    assert [x.polarity for x in written.leg] == ["same", "inverted"]
