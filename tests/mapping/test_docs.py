"""docs/mapping.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import wup
from wup import _core
from wup.mapping.file import parse
from wup.mapping.lint import lint

PAGE = (Path(wup.__file__).parents[2] / "docs" / "mapping.md").read_text()


def test_the_example_is_a_valid_mapping() -> None:
    """The file shown in the documentation passes every check and has the documented hash."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    files, problems = parse(text, "mapping.md")
    assert files is not None, problems
    assert lint(files, ("kalshi", "polymarket")) == []
    assert _core.market_hash(files.aggregates[0].market[0].key) == "21a66bf6c52cc37d"
