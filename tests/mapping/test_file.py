"""Mapping files: what is read, and that every error comes with file, line and reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import wup
from mapping.files import aggregate, leg, market
from wup.errors import SettingsError
from wup.mapping.file import json_schema, load, parse
from wup.mapping.lint import load_checked
from wup.mapping.locate import line_at, lines_of

EXAMPLE = """version = 412

[[aggregate]]
id = "fed-2026-12"
title = "Fed decision in December 2026"
category = "economics"
exclusive = true

  [[aggregate.market]]
  key = "wup1|fed:2026-12|rate_decision|cut-25|-|meeting"   # hashed: 21a66bf6c52cc37d
  label = "25 bps cut"
  tie = "impossible"

    [[aggregate.market.leg]]
    platform = "kalshi"
    event = "KXFEDDECISION-26DEC"
    market = "KXFEDDECISION-26DEC-C25"
    polarity = "same"            # or "inverted"
    relation = "identity"
    fungibility = "clean"
    status = "confirmed"
    rules_sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    confirmed_by = "human:ab"
    confirmed_at = 2026-11-20T10:00:00Z

    [[aggregate.market.leg]]
    platform = "polymarket"
    event = "fed-decision-in-december-2026"
    market = "0x01"
    outcome = "No"
    polarity = "inverted"
"""


def test_the_documented_example_is_read() -> None:
    """The example of the design is a valid file with all its values."""
    files, problems = parse(EXAMPLE, "x.toml")
    assert problems == []
    assert files is not None
    (found,) = files.aggregates
    (only,) = found.market
    first, second = only.leg
    assert (files.version, found.id, found.exclusive) == (412, "fed-2026-12", True)
    assert only.key == "wup1|fed:2026-12|rate_decision|cut-25|-|meeting"
    assert first.confirmed_at == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert (second.status, second.outcome, second.polarity) == ("proposed", "No", "inverted")
    assert (found.where, only.where, second.where) == ("x.toml:3", "x.toml:9", "x.toml:26")
    assert files.events() == [("kalshi", "KXFEDDECISION-26DEC")]
    assert files.events(proposed=True) == [
        ("kalshi", "KXFEDDECISION-26DEC"),
        ("polymarket", "fed-decision-in-december-2026"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ('polarity = "same"  ', 'polarty = "same"  ', 18, "Extra inputs are not permitted"),
        ('polarity = "same"  ', 'polarity = "sane"', 18, "'same' or 'inverted'"),
        ('    polarity = "inverted"\n', "", 26, "Field required"),
        ('id = "fed-2026-12"', 'id = "_fed"', 4, "match pattern"),
        ('id = "fed-2026-12"', 'id = "fed.2026"', 4, "match pattern"),
        ("exclusive = true", 'exclusive = "true"', 7, "valid boolean"),
        ("version = 412", "version = -1", 1, "greater than or equal"),
        ("|rate_decision|", "|rate decision|", 10, "match pattern"),
        ("|-|meeting", "|meeting", 10, "match pattern"),
        ("aaaaaaa", "AAAAAAA", 22, "match pattern"),
        ('"human:ab"', '"ab"', 23, "match pattern"),
        ("2026-11-20T10:00:00Z", '"yesterday"', 24, "valid datetime"),
        ('market = "0x01"', "market = 1", 29, "valid string"),
        ('category = "economics"', 'category = "economics', 6, "Illegal character"),
        ('tie = "impossible"', 'tie = "impossible"\n  tie = "possible"', 13, "Cannot overwrite"),
    ],
)
def test_errors_name_the_line(old: str, new: str, line: int, reason: str) -> None:
    """Each mistake is reported at its line, with what was expected."""
    assert EXAMPLE.count(old) == 1 or old == "aaaaaaa"
    files, problems = parse(EXAMPLE.replace(old, new, 1), "x.toml")
    assert files is None
    assert any(p.startswith(f"x.toml:{line}: ") and reason in p for p in problems), problems


def test_all_errors_of_all_files_come_at_once(tmp_path: Path) -> None:
    """A folder with three bad files raises one error that names all three, and the broken invariant."""
    (tmp_path / "a.toml").write_text("version = [")
    (tmp_path / "b.toml").write_text('[[aggregate]]\nid = ""\ntitle = 5\n')
    (tmp_path / "c.toml").write_text(
        aggregate("c", market("wup1|c|k|s|-|p", leg("kalshi", "E", "E-A", confirmed_by="")))
    )
    (tmp_path / "d.toml").write_bytes(b'title = "\xff"')
    (tmp_path / "notes.txt").write_text("not a mapping")
    with pytest.raises(SettingsError) as caught:
        load_checked(tmp_path, ["kalshi"])
    text = "\n".join(caught.value.problems)
    for name in ("a.toml:1:", "b.toml:2:", "b.toml:3:", "c.toml:", "d.toml"):
        assert name in text
    assert "confirmed_by" in text
    assert len(caught.value.problems) == 5


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    """A file that is not there is named; an empty folder is an empty mapping."""
    with pytest.raises(SettingsError, match="no such file"):
        load(tmp_path / "nothing.toml")
    assert load(tmp_path).aggregates == ()


def test_lines_are_found_in_odd_files() -> None:
    """Headers inside long texts, comments and inline tables do not shift the lines."""
    text = '''# [[aggregate]]
a = """
[[aggregate]]
"""
[[aggregate]]  # one
id = "x"
leg = [{platform = "p"}]
[[ aggregate ]]
"id" = "y"
[aggregate.sub]
z = 1
[[aggregate.list]]
q = \'\'\'one line\'\'\'
w = 1
'''
    found = lines_of(text)
    assert found[("a",)] == 2
    assert found[("aggregate", 0)] == 5
    assert found[("aggregate", 1)] == 8
    assert found[("aggregate", 1, "id")] == 9
    assert found[("aggregate", 1, "sub", "z")] == 11
    assert found[("aggregate", 1, "list", 0, "w")] == 14
    assert line_at(found, ("aggregate", 0, "leg", 0, "platform")) == 7
    assert line_at(found, ("nothing",)) == 1


def test_the_published_schema_is_the_code() -> None:
    """docs/mapping.schema.json is what the code accepts; `wup.mapping.file.json_schema` writes it."""
    published = Path(wup.__file__).parents[2] / "docs" / "mapping.schema.json"
    assert json.loads(published.read_text()) == json_schema()
    assert "<where>" not in published.read_text()


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_what_no_reader_can_take_is_refused(text: str) -> None:
    """Brackets without end and numbers of thousands of digits are errors of the file, not of the program."""
    files, problems = parse(text, "odd.toml")
    assert files is None
    assert problems[0].startswith("odd.toml")
