"""Mapping files are replaced whole, and never over what somebody else wrote meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup.mapping import command, console, suggesting
from wup.mapping.file import parse, read
from wup.mapping.replace_file import replace_file
from wup.mapping.review import Question, Verdict, astray, edited

PROPOSED = {"status": '"proposed"', "rules_sha256": "", "confirmed_by": "", "confirmed_at": ""}
TEXT = aggregate(
    "a",
    market(
        "wup1|a|k|s|-|p", leg("kalshi", "E", "E-A", **PROPOSED), leg("polymarket", "e", "0x01", **PROPOSED)
    ),
)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, None])
def test_a_reader_finds_the_old_text_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None
) -> None:
    """Until the new text is on the disk the old one stands there, and no other mapping file; then the new one
    does, with the mode of before."""
    file = tmp_path / "a.toml"
    if mode is not None:
        file.write_text("version = 1\n")
        file.chmod(mode)
    seen: list[tuple[str | None, list[str], int]] = []
    original = os.replace

    def replace(one: Path, two: Path) -> None:
        files, problems = read(tmp_path)
        assert problems == []
        seen.append((file.read_text() if file.exists() else None, list(files.paths), files.version))
        assert one.read_text() == "version = 2\n# ☃\n"
        original(one, two)

    monkeypatch.setattr("wup.mapping.replace_file.os.replace", replace)
    replace_file(file, "version = 2\n# ☃\n")
    old = mode is not None
    assert seen == [("version = 1\n" if old else None, [str(file)] if old else [], 1 if old else 0)]
    assert file.read_bytes() == "version = 2\n# ☃\n".encode()
    assert list(tmp_path.iterdir()) == [file]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == (0o666 & ~umask if mode is None else mode)


def test_a_text_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the error is told, the old file is as it was, and nothing is left beside it."""
    file = tmp_path / "a.toml"
    file.write_text("version = 1\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wup.mapping.replace_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, "version = 2\n")
    assert file.read_text() == "version = 1\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Of a link the file that it names is replaced."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "real.toml").write_text("version = 1\n")
    link = tmp_path / "a.toml"
    link.symlink_to(tmp_path / "kept" / "real.toml")
    replace_file(link, "version = 2\n")
    assert link.is_symlink()
    assert (tmp_path / "kept" / "real.toml").read_text() == "version = 2\n"


def test_review_writes_nothing_over_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are written by line: when somebody edits the files during the review, nothing is written."""
    file = tmp_path / "a.toml"
    file.write_text(TEXT)
    theirs = TEXT.replace('label = "A label"', 'label = "A label"\n# a line more')

    async def fetch(_: Any) -> Any:
        return {
            ("kalshi", "E"): venue_event("kalshi", "E", venue_market("E-A")),
            ("polymarket", "e"): venue_event("polymarket", "e", venue_market("0x01")),
        }, []

    def ask(_: Question) -> Verdict:
        file.write_text(theirs)
        return "same"

    monkeypatch.setattr(command, "fetch", fetch)
    monkeypatch.setattr(command, "_ask_leg", ask)
    result = CliRunner().invoke(command.app, ["review", "--mappings", str(tmp_path), "--by", "ab"])
    assert result.exit_code == 2
    assert "changed meanwhile" in result.output
    assert file.read_text() == theirs
    monkeypatch.setattr(command, "_ask_leg", lambda _: "same")
    result = CliRunner().invoke(command.app, ["review", "--mappings", str(tmp_path), "--by", "ab"])
    assert result.exit_code == 0, result.output
    assert file.read_text().count('status = "confirmed"') == 2
    assert "# a line more" in file.read_text()


def test_a_file_that_cannot_be_written_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason and exit 2, and the file as it was."""
    file = tmp_path / "a.toml"
    file.write_text("version = 1\n")

    def read_only(*_: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("wup.mapping.replace_file.os.replace", read_only)
    with pytest.raises(typer.Exit) as caught:
        console.save(file, "version = 2\n")
    assert caught.value.exit_code == 2
    assert "Read-only file system" in capsys.readouterr().err
    assert file.read_text() == "version = 1\n"


def test_suggest_takes_nothing_out_of_a_changed_file(tmp_path: Path) -> None:
    """An entry to be replaced that does not stand where it stood is not taken out by line."""
    file = tmp_path / "suggested.toml"
    file.write_text(TEXT)
    files, problems = read(tmp_path)
    assert problems == []
    file.write_text("# a line more\n" + TEXT)
    with pytest.raises(typer.Exit):
        suggesting._append(file, [], files, without=files.aggregates)
    assert file.read_text() == "# a line more\n" + TEXT
    files, _ = read(tmp_path)
    suggesting._append(file, ["# new\n"], files, without=files.aggregates)
    assert file.read_text().split() == ["#", "a", "line", "more", "#", "new"]


def test_an_edit_that_hits_another_leg_is_found() -> None:
    """Files that say something else of a leg that nobody decided about are refused, and lost legs too."""
    before, _ = parse(TEXT, "a.toml")
    assert before is not None
    first, second = before.aggregates[0].market[0].leg
    values = {"polarity": '"inverted"'}
    after, problems = parse(edited(TEXT, [(int(second.where.split(":")[1]), values)]), "a.toml")
    assert after is not None, problems
    assert astray(before, after, {second.where}) == []
    assert astray(before, before, set()) == []
    assert [problem.split(": ")[0] for problem in astray(before, after, {first.where})] == [second.where]
    fewer, _ = parse(
        aggregate("a", market("wup1|a|k|s|-|p", leg("kalshi", "E", "E-A", **PROPOSED))), "a.toml"
    )
    assert fewer is not None
    assert astray(before, fewer, {second.where})


def test_odd_line_ends_are_no_line_ends() -> None:
    """A line separator in a text, a form feed in a comment: lines are counted as TOML counts them."""
    text = TEXT.replace("A label", "A\u2028label\x85", 1).replace(
        "    platform", "    # a\u2029b\n    platform"
    )
    files, problems = parse(text, "a.toml")
    assert files is not None, problems
    second = files.aggregates[0].market[0].leg[1]
    changed = edited(text, [(int(second.where.split(":")[1]), {"polarity": '"inverted"'})])
    after, problems = parse(changed, "a.toml")
    assert after is not None, problems
    assert [one.polarity for one in after.aggregates[0].market[0].leg] == ["same", "inverted"]
    assert after.aggregates[0].market[0].label == "A\u2028label\x85"
    assert astray(files, after, {second.where}) == []
