"""The vector files of all clients, against the native core."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from vectors import make
from wup import _core
from wup._core import CoreError, MirrorBook, NumberError, ParseError
from wup.client.routes import pattern_matches


def load(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((make.HERE / f"{name}.json").read_text())
    return body


CASES = load("streams")["cases"]


def test_files_are_what_the_generator_writes() -> None:
    """The files in the repository are the generator's, so that nobody has edited an expectation by hand."""
    for name, content in make.files().items():
        assert (make.HERE / f"{name}.json").read_text() == make.dump(content), name


def test_every_verdict_occurs() -> None:
    """The conversations show every verdict often enough to mean something."""
    seen = [step["verdict"] for case in CASES for step in case["steps"] if "message" in step]
    for verdict, least in {"exact": 150, "ignored": 25, "gap": 10, "broken": 8, "unreadable": 2}.items():
        assert seen.count(verdict) >= least, (verdict, seen.count(verdict))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_streams(case: dict[str, Any]) -> None:
    """After every message the copy is exactly as exact as it must be, and holds exactly these levels."""
    book = MirrorBook()
    for place, step in enumerate(case["steps"]):
        if "doubt" in step:
            book.doubt()
        else:
            assert verdict(book, step["message"]) == step["verdict"], (place, step)
        want = step["expect"]
        assert book.exact == want["exact"], (place, step)
        if not want["exact"]:
            continue
        own = json.loads(book.snapshot(no=book.book.endswith(".no")))
        own = {name: own[name] for name in want if name != "exact"}
        own |= {
            side: [[p, s, dict(sorted(legs.items()))] for p, s, legs in own[side]]
            for side in ("bids", "asks")
        }
        assert own == {name: value for name, value in want.items() if name != "exact"}, (place, step)


def verdict(book: MirrorBook, message: str) -> str:
    try:
        return book.apply(message.encode())
    except CoreError:
        return "unreadable"


def test_digests() -> None:
    """Salts and cell hashes."""
    vectors = load("digest")
    for leg, salt in vectors["salts"]:
        assert _core.salt(leg) == salt
    for leg, side, price, size, expected in vectors["cells"]:
        assert _core.cell_hash(leg, side, price, size) == expected, (leg, side, price, size)


def test_numbers() -> None:
    """Exact both ways; what would need rounding is refused."""
    vectors = load("numbers")
    for text, micro in vectors["exact"]:
        assert _core.parse_micro(text) == int(micro)
        assert _core.format_micro(int(micro)) == text
        assert Decimal(text) * 1_000_000 == int(micro)
    for text in vectors["refused"]:
        with pytest.raises(NumberError):
            _core.parse_micro(text)
    for price, other in vectors["complements"]:
        assert (_core.complement(price), _core.complement(other)) == (other, price)


def test_patterns() -> None:
    """The client's own matching agrees with the contract."""
    vectors = load("patterns")
    for pattern, book, expected in vectors["matches"]:
        assert pattern_matches(pattern, book) == expected, (pattern, book)
    for pattern in vectors["refused"]:
        with pytest.raises(ParseError):
            _core.matches(pattern, "a.b.yes")
