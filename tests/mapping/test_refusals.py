"""The four edits that lose money: each made in a file that passes, each refused with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mapping.files import aggregate, leg, market
from wup.mapping.command import app

TEX = leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-TEX", line="")
NYY = leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-NYY", polarity='"inverted"')
POLY = leg("polymarket", "mlb-tex-nyy-2026-07-10", "0x01")
GAME = market("wup1|mlb:tex@nyy|moneyline|tex|-|game", TEX, NYY, POLY, tie='"impossible"')
TOTAL = market(
    "wup1|mlb:tex@nyy|total|over|8.5|game",
    leg("kalshi", "KXMLBTOTAL-1", "KXMLBTOTAL-1-9", line='"8.5"'),
    leg("polymarket", "mlb-tex-nyy-2026-07-10", "0x02", line='"8.5"'),
)
SOCCER = market(
    "wup1|mlb:tex@nyy|result|a|-|game",
    leg("kalshi", "KXUCLGAME-1", "KXUCLGAME-1-A", tie='"no"'),
    leg("polymarket", "ucl-a-b", "0x03", tie='"no"'),
    tie='"possible"',
)
RIGHT = aggregate("mlb-tex-nyy", GAME, TOTAL, SOCCER)


def lint(tmp_path: Path, text: str) -> tuple[int, list[str]]:
    """Exit code of `wup map lint` and what it says, one problem a line."""
    (tmp_path / "game.toml").write_text(text)
    result = CliRunner().invoke(app, ["lint", "--mappings", str(tmp_path)])
    return result.exit_code, [line for line in result.output.splitlines() if line]


def changed(leg_text: str, old: str, new: str) -> str:
    """The file with one value of one leg changed."""
    assert old in leg_text
    assert leg_text in RIGHT
    return RIGHT.replace(leg_text, leg_text.replace(old, new, 1))


def refused(tmp_path: Path, text: str, *words: str) -> None:
    """Exit 2, and a line with file, line number, and these words."""
    code, problems = lint(tmp_path, text)
    assert code == 2
    assert any(
        re.match(r".*game\.toml:\d+: ", problem) and all(word in problem for word in words)
        for problem in problems
    ), problems


def test_the_file_passes_as_it_is(tmp_path: Path) -> None:
    """Without the edits below there is nothing to say."""
    assert lint(tmp_path, RIGHT)[0] == 0


@pytest.mark.parametrize("which", [TEX, NYY, POLY])
def test_swapping_the_polarity_of_one_leg_is_refused(tmp_path: Path, which: str) -> None:
    """Whichever leg: the word alone was turned, not what was confirmed."""
    old, new = ('"same"', '"inverted"') if 'polarity = "same"' in which else ('"inverted"', '"same"')
    text = changed(which, f"polarity = {old}", f"polarity = {new}")
    refused(tmp_path, text, "was confirmed (evidence)", "confirm anew, do not turn the word alone")


def test_joining_a_leg_with_another_line_is_refused(tmp_path: Path) -> None:
    """Over 9.5 is not over 8.5; nor may a leg with a line join a market without one."""
    old = leg("polymarket", "mlb-tex-nyy-2026-07-10", "0x02", line='"8.5"')
    refused(tmp_path, changed(old, '"8.5"', '"9.5"'), "another contract", "retire the leg")
    text = changed(POLY, 'market = "0x01"', 'market = "0x01"\n    line = "8.5"')
    refused(tmp_path, text, "which has none", "put the line into the key or the leg into another market")


def test_both_legs_of_a_game_inverted_is_refused(tmp_path: Path) -> None:
    """Both markets of the two-sided event with one polarity, evidence and all."""
    both = TEX.replace('"same"', '"inverted"')
    refused(
        tmp_path, RIGHT.replace(TEX, both), "exactly one is 'same' and one 'inverted'", "check which side"
    )


def test_a_tie_able_market_inverted_is_refused(tmp_path: Path) -> None:
    """A wins NO is not B wins YES where neither may win, unless every leg pays alike on a tie."""
    old = leg("polymarket", "ucl-a-b", "0x03", tie='"no"')
    turned = leg("polymarket", "ucl-a-b", "0x03", tie='"no"', polarity='"inverted"')
    refused(tmp_path, RIGHT.replace(old, turned), "tie rules of the legs", "retire the others")
    untold = leg("polymarket", "ucl-a-b", "0x03", polarity='"inverted"')
    refused(
        tmp_path, RIGHT.replace(old, untold), "a tie is possible", "say what this leg's YES pays on a tie"
    )
    silent = RIGHT.replace(old, turned).replace('tie = "possible"\n', "")
    refused(tmp_path, silent, "does not say whether a tie can happen", 'add tie = "impossible"')
