"""`wup map series`: what a person is asked before a rule is written, and that a no writes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mapping.games import Teams, kalshi, polymarket
from wup.mapping import suggesting
from wup.mapping.command import app
from wup.mapping.file import read
from wup.venues.identities import GAMES

TICKER, SLUG = "KXNBAGAME-26JAN09SACGSW", "nba-sac-gsw-2026-01-09"
GAME = Teams("nba", "SAC", "GSW", datetime(2026, 1, 10, 0, 30, tzinfo=UTC))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """run(answers) -> exit code and output, over a game whose venues call the sides by city and by name."""
    events = {
        ("kalshi", TICKER): kalshi(GAME, TICKER, "KXNBAGAME"),
        ("polymarket", SLUG): polymarket(GAME, SLUG, tokens={}),
    }

    async def fetch(_: Any) -> Any:
        return events, []

    monkeypatch.setattr(suggesting, "fetch", fetch)

    def invoke(answers: str) -> tuple[int, str]:
        command = ["series", f"kalshi:{TICKER}", f"polymarket:{SLUG}", "--league", "nba", "--once-a-day"]
        result = CliRunner().invoke(app, [*command, "--by", "ab", "--mappings", str(tmp_path)], input=answers)
        return result.exit_code, " ".join(result.output.split())

    return invoke


def test_names_that_only_codes_bring_together_are_asked_about(run: Any, tmp_path: Path) -> None:
    """Each pair of names is a question of its own that says where it comes from; a no to any, or to the rule
    texts, writes nothing; yes to all writes the names."""
    for answers in ("n\n", "y\nn\n", "y\ny\nn\n", "\n"):
        code, output = run(answers)
        assert code == 0
        assert "nothing written" in output
        assert list(tmp_path.iterdir()) == []
    code, output = run("y\ny\ny\n")
    assert code == 0, output
    assert output.count("no name says so, only the code") == 2
    assert output.count("(polymarket) the side") == 2
    files, problems = read(tmp_path)
    assert problems == []
    names = files.series[0].names
    assert {
        (a, b) for a, b in names.items() if f"Is {a} (polymarket) the side {b} (kalshi)?" in output
    } == set(names.items())
    assert len(names) == 2


def test_a_name_that_the_rule_knows_otherwise_is_refused(run: Any, tmp_path: Path) -> None:
    """A rule's word for a name is not turned by another game."""
    assert run("y\ny\ny\n")[0] == 0
    file = tmp_path / "series.toml"
    files, _ = read(tmp_path)
    side = next(iter(files.series[0].names.values()))
    text = file.read_text().replace(f'= "{side}"', '= "Elsewhere"')
    file.write_text(text)
    code, output = run("y\ny\ny\n")
    assert code == 2
    assert "in the rule," in output
    assert "'Elsewhere'" in output
    assert file.read_text() == text


ALIKE, OTHER = "their words are alike", "the names of the other side are alike"


@pytest.mark.parametrize(
    ("mine", "theirs", "asked"),
    [
        (("Texas", "New York Y"), ("Texas", "New York Yankees"), {}),
        (("Texas", "New York Y"), ("New York Yankees", "Texas"), {}),
        (("Texas", "New York Y"), ("Texas Rangers", "New York Yankees"), {"Texas Rangers": ALIKE}),
        (("Texas", "New York Y"), ("Bombers", "Texas"), {"Bombers": OTHER}),
    ],
)
def test_names_that_are_one_are_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
    mine: tuple[str, str],
    theirs: tuple[str, str],
    asked: dict[str, str],
) -> None:
    """Only pairs that are not one name word by word are questions, each with what speaks for it."""
    game = GAMES["kalshi"](kalshi(GAME, TICKER, "KXNBAGAME"))
    assert game is not None
    one, two = replace(game, sides=mine), replace(game, sides=theirs)
    questions: list[str] = []

    def confirm(text: str, default: bool) -> bool:
        questions.append(text)
        return True

    monkeypatch.setattr(suggesting.typer, "confirm", confirm)
    pairs = suggesting._same_sides(one, two)
    assert {pair.one for pair in pairs} == set(mine)
    assert {pair.two for pair in pairs} == set(theirs)
    assert all(suggesting._confirmed(pair, one, two) for pair in pairs)
    assert len(questions) == len(asked)
    for question, (name, why) in zip(questions, asked.items(), strict=True):
        assert f"Is {name} " in question
        assert why in question
