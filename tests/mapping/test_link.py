"""Linking by a person's word: what is offered, what is written, and what the venues' words contradict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from events.venue_rest import VenueRest, gamma_event, gamma_market, kalshi_event, kalshi_market
from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.command import app
from wup.mapping.file import AggregateEntry, MappingFiles, MarketEntry, parse
from wup.mapping.link import Answer, Candidate, candidates, link, part, side_by_side
from wup.mapping.lint import lint, load_checked
from wup.mapping.lint_venues import lint_venues
from wup.mapping.write import dump, dump_aggregate

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
PLATFORMS = ("kalshi", "polymarket")
FED = venue_event(
    "kalshi",
    "KXFED",
    venue_market("KXFED-C25", label="Cut 25bps"),
    venue_market("KXFED-H0", label="Fed maintains rate"),
    venue_market("KXFED-OLD", label="Hike 25bps", status="resolved"),
)
FED_POLY = venue_event(
    "polymarket",
    "fed",
    venue_market("0x02", label="No change"),
    venue_market("0x01", label="25 bps cut"),
    venue_market("0x03", label="Other", facts={"other": "true"}),
)


def told(pairs: dict[tuple[str, str], Answer], asked: list[tuple[str, str]]) -> object:
    """An `ask` that answers from a list, and remembers what was asked."""

    def ask(candidate: Candidate) -> Answer:
        pair = (candidate.left.market_id, candidate.right.market_id)
        asked.append(pair)
        return pairs.get(pair, "no")

    return ask


def linked(pairs: dict[tuple[str, str], Answer]) -> tuple[AggregateEntry | None, list[tuple[str, str]]]:
    """The Fed events linked by these answers."""
    asked: list[tuple[str, str]] = []
    ask = told(pairs, asked)
    entry = link(FED, FED_POLY, aggregate="fed-2026-12", by="human:ab", at=AT, ask=ask, tie="impossible")  # type: ignore[arg-type]
    return entry, asked


def test_the_likely_pairs_come_first() -> None:
    """Pairs with common words are asked first; resolved markets and Other are never offered."""
    found = candidates(FED, FED_POLY)
    assert len(found) == 4
    assert (found[0].left.label, found[0].right.label) == ("Fed maintains rate", "No change") or found[
        0
    ].score > 0
    ids = {c.left.market_id for c in found} | {c.right.market_id for c in found}
    assert not ids & {"KXFED-OLD", "0x03"}


def test_other_lines_are_not_offered_as_alike() -> None:
    """Equal words with another line score nothing."""
    left = venue_event("kalshi", "E", venue_market("E-1", label="Over", line="6.5"))
    right = venue_event("polymarket", "e", venue_market("0x01", label="Over", line="7.5"))
    assert candidates(left, right)[0].score == 0
    same = venue_event("polymarket", "e", venue_market("0x01", label="Over", line="6.50"))
    assert candidates(left, same)[0].score > 0.5


def test_what_is_confirmed_is_written_whole() -> None:
    """A confirmed pair becomes a market with both legs, digests, polarity and evidence; lint has no word."""
    entry, asked = linked({("KXFED-C25", "0x01"): "same", ("KXFED-H0", "0x02"): "inverted"})
    assert entry is not None
    assert len(asked) == len(set(asked))
    markets = {m.key: m for m in entry.market}
    assert set(markets) == {
        "wup1|fed-2026-12|outcome|cut-25bps|-|event",
        "wup1|fed-2026-12|outcome|fed-maintains-rate|-|event",
    }
    text = dump(MappingFiles(3, (entry,)))
    files, problems = parse(text, "x.toml")
    assert problems == []
    assert files is not None
    assert lint(files, PLATFORMS) == []
    assert lint_venues(files, {("kalshi", "KXFED"): FED, ("polymarket", "fed"): FED_POLY}) == []
    second = {m.label: m.leg[1] for m in files.aggregates[0].market}["Fed maintains rate"]
    assert (second.polarity, second.market, second.confirmed_by) == ("inverted", "0x02", "human:ab")
    turned = text.replace('polarity = "inverted"', 'polarity = "same"', 1)
    again, _ = parse(turned, "x.toml")
    assert again is not None
    (problem,) = lint(again, PLATFORMS)
    assert "was confirmed" in problem


def test_nothing_confirmed_nothing_made() -> None:
    """Every pair refused: no aggregate, and each pair was asked once."""
    entry, asked = linked({})
    assert entry is None
    assert len(asked) == 4


def test_rule_texts_side_by_side() -> None:
    """Sentences of both, of the left only and of the right only are told apart."""
    rows = side_by_side("Pays if A. Source X. Late.", "Pays if A. Source Y! Void. And void. Late.")
    assert rows == [
        ("Pays if A.", "Pays if A."),
        ("Source X.", "Source Y!"),
        ("", "Void."),
        ("", "And void."),
        ("Late.", "Late."),
    ]


@pytest.mark.parametrize(
    ("words", "key"),
    [("25+ bps cut!", "25+-bps-cut"), ("Đội É", "oi-e"), ("", "-"), ("☃", "-"), ("a|b", "a-b")],
)
def test_key_parts_are_plain(words: str, key: str) -> None:
    """Free words become one plain part of a key."""
    assert part(words) == key


@given(
    title=st.text(min_size=1, max_size=60),
    label=st.text(min_size=1, max_size=60),
    exclusive=st.booleans(),
)
def test_written_files_are_read_as_they_were(title: str, label: str, exclusive: bool) -> None:
    """Whatever the texts hold, dump and parse give the same entry."""
    entry = AggregateEntry(
        id="a",
        title=title,
        exclusive=exclusive,
        start=AT,
        market=(MarketEntry(key="wup1|a|k|s|-|p", label=label),),
    )
    files, problems = parse(dump(MappingFiles(7, (entry,))), "x")
    assert problems == []
    assert files is not None
    found = files.aggregates[0]
    assert (found.title, found.market[0].label, found.exclusive, found.start) == (title, label, exclusive, AT)
    assert files.version == 7


def test_legs_survive_writing() -> None:
    """Every field of a leg comes back."""
    fields = {
        "line": '"7.5"',
        "start": "2026-07-10T23:05:00Z",
        "game": "2",
        "tie": '"void"',
        "outcome": '"Over"',
        "fungibility": '"timing"',
        "relation": '"complement"',
        "evidence": '{source = "deterministic_key", fields = {x = "1", n = 2, b = true}}',
        "settlement": '{source = "mlb.com", void = "fair"}',
    }
    text = aggregate(
        "a", market("wup1|a|k|s|7.5|p", leg("kalshi", "E", "E-A", **fields), tie='"possible"'), league='"mlb"'
    )
    files, problems = parse(text, "x")
    assert files is not None, problems
    again, problems = parse(dump_aggregate(files.aggregates[0]), "x")
    assert again is not None, problems

    def bare(found: MappingFiles) -> object:
        return found.aggregates[0].model_dump(exclude={"where": True})

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k != "where"}
        return [strip(v) for v in value] if isinstance(value, (list, tuple)) else value

    assert strip(bare(again)) == strip(bare(files))


# --- with the venues' words -----------------------------------------------------------------------


def words(text: str, *events: VenueEventRecord) -> list[str]:
    """What `lint_venues` says."""
    files, problems = parse(text, "x.toml")
    assert files is not None, problems
    return lint_venues(files, {(event.platform, event.slug): event for event in events})


KALSHI = venue_event(
    "kalshi", "KXG", venue_market("KXG-TEX", label="Texas"), venue_market("KXG-NYY", label="New York Y")
)
POLY = venue_event(
    "polymarket",
    "tex-nyy",
    replace(venue_market("0x01", label="Texas Rangers"), outcomes=("Texas Rangers", "New York Yankees")),
)


@pytest.mark.parametrize(
    ("tex", "nyy", "poly", "wrong"),
    [
        ("same", "inverted", "same", 0),
        ("inverted", "same", "inverted", 0),
        ("same", "inverted", "inverted", 2),
        ("inverted", "inverted", "same", 1),
        ("inverted", "same", "same", 2),
    ],
)
def test_a_swapped_polarity_contradicts_the_subjects(tex: str, nyy: str, poly: str, wrong: int) -> None:
    """A leg whose YES pays on the same team as another's cannot have the other polarity."""
    text = aggregate(
        "g",
        market(
            "wup1|g|moneyline|tex|-|game",
            leg("kalshi", "KXG", "KXG-TEX", polarity=f'"{tex}"'),
            leg("kalshi", "KXG", "KXG-NYY", polarity=f'"{nyy}"'),
            leg("polymarket", "tex-nyy", "0x01", polarity=f'"{poly}"'),
        ),
    )
    found = words(text, KALSHI, POLY)
    assert len(found) == wrong
    assert all("turn one" in problem for problem in found)


def test_a_named_outcome_turns_the_subject() -> None:
    """A leg over the second outcome pays on the second team."""

    def text(polarity: str) -> str:
        return aggregate(
            "g",
            market(
                "wup1|g|moneyline|tex|-|game",
                leg("kalshi", "KXG", "KXG-TEX"),
                leg("polymarket", "tex-nyy", "0x01", outcome='"New York Yankees"', polarity=f'"{polarity}"'),
            ),
        )

    assert words(text("inverted"), KALSHI, POLY) == []
    assert len(words(text("same"), KALSHI, POLY)) == 1


def test_other_words_of_the_venues() -> None:
    """Changed rules, Other, unknown markets and outcomes, and other lines are each told with what to do."""
    text = aggregate(
        "g",
        market(
            "wup1|g|total|over|6.5|game",
            leg("kalshi", "E", "E-RULES"),
            leg("kalshi", "E", "E-OTHER"),
            leg("kalshi", "E", "E-GONE"),
            leg("kalshi", "E", "E-LINE"),
            leg("polymarket", "e", "0x01", outcome='"Maybe"'),
            leg("kalshi", "UNKNOWN", "U-1"),
        ),
        market("wup1|g|total|none|-|game", leg("polymarket", "e", "0x02")),
    )
    found = words(
        text,
        venue_event(
            "kalshi",
            "E",
            venue_market("E-RULES", rules="new", label="a"),
            venue_market("E-OTHER", facts={"other": "true"}, label="b"),
            venue_market("E-LINE", line="7.5", label="c"),
        ),
        venue_event(
            "polymarket",
            "e",
            venue_market("0x01", line="6.50", label="d"),
            venue_market("0x02", line="1.5", label="e"),
        ),
    )
    for part_of in (
        "have changed",
        "'Other' outcome",
        "no market E-GONE",
        "the line 7.5",
        "no outcome 'Maybe'",
        "put the line",
    ):
        assert sum(part_of in problem for problem in found) == 1, part_of
    assert len(found) == 6


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
async def venues(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VenueRest]:
    """Both venues, and the environment that leads to them."""
    server = VenueRest(
        gamma={"fed": gamma_event("fed", [gamma_market(1), gamma_market(2)])},
        kalshi={"KXFED": kalshi_event("KXFED", [kalshi_market("KXFED-1"), kalshi_market("KXFED-2")])},
        series={"KXFED": {}},
    )
    await server.start()
    for name, value in vars(server.urls).items():
        monkeypatch.setenv(name.upper(), value)
    yield server
    await server.stop()


async def run(*arguments: str, answers: str = "") -> Result:
    """`wup map` with these arguments, beside the server."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=answers)


async def test_link_command_writes_a_file_that_loads(venues: VenueRest, tmp_path: Path) -> None:
    """One command asks, writes, and the file is valid against files and venues; a later change is told."""
    folder = str(tmp_path / "mappings")
    linking = await run(
        "link",
        "kalshi:KXFED",
        "polymarket:fed",
        "--id",
        "fed-2026-12",
        "--mappings",
        folder,
        answers="s\ns\n",
    )
    assert linking.exit_code == 0, linking.output
    assert "Pays if outcome" in linking.output
    files = load_checked(folder, PLATFORMS)
    assert len(files.aggregates[0].market) == 2
    assert (await run("lint", "--mappings", folder, "--venues")).exit_code == 0
    assert "fed-2026-12" in (await run("show", "--mappings", folder)).output
    venues.kalshi["KXFED"]["markets"][0]["rules_primary"] = "Something else."
    changed = await run("lint", "--mappings", folder, "--venues")
    assert changed.exit_code == 2
    assert "have changed since they were confirmed" in changed.output
    again = await run(
        "link",
        "kalshi:KXFED",
        "polymarket:fed",
        "--id",
        "fed-2026-12b",
        "--mappings",
        folder,
        answers="s\n" * 4,
    )
    assert again.exit_code == 2
    assert "already claimed" in again.output


async def test_an_answer_that_the_venues_contradict_is_not_written(venues: VenueRest, tmp_path: Path) -> None:
    """`inverted` for two markets of one name is refused, and no file is made."""
    folder = tmp_path / "mappings"
    wrong = await run(
        "link", "kalshi:KXFED", "polymarket:fed", "--id", "f", "--mappings", str(folder), answers="i\ns\nn\n"
    )
    assert wrong.exit_code == 2
    assert "check both and turn one" in wrong.output
    tied = await run(
        "link", "kalshi:KXFED", "polymarket:fed", "--id", "f", "--mappings", str(folder), answers="i\ns\ny\n"
    )
    assert tied.exit_code == 2
    assert "needs each leg's tie rule" in tied.output
    assert not folder.exists()


async def test_link_finds_an_id_by_itself(venues: VenueRest, tmp_path: Path) -> None:
    """Without --id the aggregate is named after the first event; broken files beside it are never ignored."""
    words = ("link", "kalshi:KXFED", "polymarket:fed", "--mappings", str(tmp_path))
    found = await run(*words, answers="s\ns\n")
    assert found.exit_code == 0, found.output
    files = load_checked(tmp_path, PLATFORMS)
    assert files.paths == (str(tmp_path / f"{files.aggregates[0].id}.toml"),)
    (tmp_path / "broken.toml").write_text("[[aggregate]]\n")
    refused = await run(*words, answers="s\ns\n")
    assert refused.exit_code == 2
    assert "broken.toml:1" in refused.output


async def test_commands_refuse_with_reasons(venues: VenueRest, tmp_path: Path) -> None:
    """Unknown events, wrong names and wrong files end with exit 2 and the reason; nothing is written."""
    (tmp_path / "a.toml").write_text("version = [")
    for arguments, reason in (
        (("lint", "--mappings", str(tmp_path)), "a.toml:1"),
        (("show", "--mappings", str(tmp_path)), "a.toml:1"),
        (("lint", "--mappings", str(tmp_path / "none")), "no such file"),
        (
            ("link", "kalshi:NONE", "polymarket:fed", "--id", "x", "--mappings", str(tmp_path / "m")),
            "not found",
        ),
        (
            ("link", "nyse:X", "polymarket:fed", "--id", "x", "--mappings", str(tmp_path / "m")),
            "PLATFORM:EVENT",
        ),
    ):
        result = await run(*arguments)
        assert result.exit_code == 2, result.output
        assert reason in result.output
    assert not (tmp_path / "m").exists()
