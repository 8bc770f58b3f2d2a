"""The table of rules names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def defined() -> set[str]:
    """Names of all tests of this folder."""
    return {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_every_named_test_exists() -> None:
    """A rule in docs/venues.md whose test is gone or renamed is a rule without proof."""
    named = set(re.findall(r"`(test_[a-z]\w+)`", (ROOT / "docs" / "venues.md").read_text()))
    assert len(named) >= 30
    assert named - defined() == set()


def test_every_rule_is_in_the_table() -> None:
    """All twenty rules and all ten points have a row and at least one test with their number."""
    text = (ROOT / "docs" / "venues.md").read_text()
    names = defined()
    for kind, count in (("rule", 20), ("point", 10)):
        for number in range(1, count + 1):
            found = [name for name in names if name.startswith(f"test_{kind}_{number:02d}_")]
            assert found, f"{kind} {number} has no test"
            assert any(f"`{name}`" in text for name in found), f"{kind} {number} is not in the table"
