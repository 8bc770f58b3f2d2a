"""Subjects: escaping, parsing, matching."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wup import subjects


@given(st.text(max_size=80))
def test_escape_gives_one_token_and_back(token: str) -> None:
    """Any text becomes one subject token of allowed characters, and comes back unchanged."""
    escaped = subjects.escape(token)
    assert escaped
    assert all(c.isascii() and (c.isalnum() or c in "_-=") for c in escaped)
    assert subjects.unescape(escaped) == token


def test_a_ticker_with_a_dot_stays_one_token() -> None:
    """kalshi.md rule 18: a dot inside a ticker must not split the subject."""
    subject = subjects.normalized("kalshi", "KXBTCD-26SEP2516-T83399.99", "KXBTCD-26SEP2516-T83399.99")
    assert len(subject.split(".")) == 4
    assert subjects.split(subject)[3] == "KXBTCD-26SEP2516-T83399.99"


def test_matching_follows_nats() -> None:
    """`*` is exactly one token, a final `>` one or more."""
    assert subjects.subject_matches("a.*.c", "a.b.c")
    assert not subjects.subject_matches("a.*", "a.b.c")
    assert not subjects.subject_matches("a.*.c.d", "a.b.c")
    assert subjects.subject_matches("a.>", "a.b.c")
    assert not subjects.subject_matches("a.>", "a")
    assert not subjects.subject_matches("a.b", "a.c")
