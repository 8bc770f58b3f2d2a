"""The printed vectors of the wire contract and of the mapping page, from Python."""

from __future__ import annotations

import pytest

from wup import _core
from wup._core import NumberError, ParseError


def test_salts() -> None:
    """Salts are FNV-1a 32 over the leg's name."""
    assert _core.salt("kalshi") == 2320148655
    assert _core.salt("polymarket") == 3782428595
    assert _core.salt("kalshi-2") == 3622892796


def test_cells() -> None:
    """Cell hashes are those printed in the contract; an empty cell counts nothing."""
    assert _core.cell_hash("kalshi", "bid", "0.52", "500") == 2847660764
    assert _core.cell_hash("kalshi-2", "bid", "0.52", "500") == 1198482198
    assert _core.cell_hash("polymarket", "ask", "0.9999", "5000000.25") == 2001326314
    assert _core.cell_hash("kalshi", "bid", "0.52", "0") == 0


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("wup1|mlb:tex@nyy:2026-07-10T23:05Z:g1|moneyline|tex|-|game", "4964cf752165d83f"),
        ("wup1|fed:2026-12|rate_decision|cut-25|-|meeting", "21a66bf6c52cc37d"),
        ("wup1|kalshi|KXFED-26DEC-C25", "18bf752ebaf5a12a"),
    ],
)
def test_market_keys(key: str, expected: str) -> None:
    """A market's hash is the first 16 hex digits of SHA-256 over its key."""
    assert _core.market_hash(key) == expected


def test_unmapped_aggregates() -> None:
    """An aggregate made from a slug is one token, and a changed one carries a hash of the original."""
    assert _core.unmapped_aggregate("kalshi", "KXFED-26DEC") == "kalshi-KXFED-26DEC"
    changed = _core.unmapped_aggregate("polymarket", "a.b c")
    assert changed.startswith("polymarket-a-b-c-")
    assert len(changed) == len("polymarket-a-b-c-") + 8
    assert len(_core.unmapped_aggregate("polymarket", "x" * 100)) == 64


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("0.52", "0.52"), ("0.920", "0.92"), (".48", "0.48"), ("1200", "1200"), ("5.", "5"), ("-54.00", "-54")],
)
def test_numbers_are_exact(text: str, canonical: str) -> None:
    """Every spelling of a number is read exactly and written in its shortest form."""
    assert _core.format_micro(_core.parse_micro(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", ".", "1e3", "+1", " 1", "0.1234567", "0.5000000", "nan", "9223372036855"]
)
def test_what_does_not_fit_is_refused(text: str) -> None:
    """Text that is no number or would need rounding is a NumberError, which is a ValueError too."""
    with pytest.raises(NumberError) as caught:
        _core.parse_micro(text)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, _core.CoreError)


def test_complement() -> None:
    """The complement of a price is 1 - p; 0 and 1 are no prices."""
    assert _core.complement("0.471") == "0.529"
    for bad in ("0", "1", "1.2", "-0.1"):
        with pytest.raises(NumberError):
            _core.complement(bad)


def test_patterns() -> None:
    """Wildcards follow NATS and never match NO views; `no` has to be written."""
    book = "fed-2026-12.9b1c22d0a47e55f1.yes"
    for pattern in (">", "fed-2026-12.>", "fed-2026-12.*.yes", "*.*.*", book):
        assert _core.matches(pattern, book)
        assert not _core.matches(pattern, book.replace(".yes", ".no"))
    assert _core.matches("*.*.no", book.replace(".yes", ".no"))
    for bad in ("", "a", "a..b", ">.a", "a.b.c.d", "a.b*.yes"):
        with pytest.raises(ParseError):
            _core.matches(bad, book)


def test_words_are_importable() -> None:
    """The words for states, sides and verdicts are there at run time too."""
    assert _core.LegState != _core.BookState
    assert _core.OPTIMISED in (True, False)
