"""What a client may name in `books`: a book, a venue asset, or a wildcard pattern (wire.md section 1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")
_ASSET = re.compile(r"([a-z0-9]{1,32}):([!-~]{1,128})")
_MAX = 210

Place = tuple[str | None, str | None]
"""(aggregate, market) of a book; None stands for any."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern.

    `kind`: `book` names one book, `asset` one venue asset, `wild` any number of books.
    `yes` is the pattern over YES ids that finds the same books; `no` says that NO views are wanted. A wild
    one comes to its `place`: aggregate and market, None where any will do, so that books are found by a
    look-up and never by trying them one by one.
    """

    text: str
    kind: Literal["book", "asset", "wild"]
    yes: str
    no: bool

    @property
    def place(self) -> Place:
        """Aggregate and market of a wild pattern."""
        first, second = (None if token == "*" else token for token in _first_two(self.yes))  # noqa: S105
        return first, second


def parse(text: str) -> Pattern:
    """Read one entry of `books`.

    Raises:
        ValueError: not a pattern; the message says why.
    """
    if len(text) > _MAX:
        raise ValueError("longer than a pattern can be")
    if ":" in text:
        if not _ASSET.fullmatch(text):
            raise ValueError("an asset is platform:asset_id")
        return Pattern(text, "asset", text, False)
    tokens = text.split(".")
    wild = False
    for index, token in enumerate(tokens):
        if token == ">":  # noqa: S105 (a wildcard, not a password)
            if index != len(tokens) - 1:
                raise ValueError("'>' must be the last token")
            wild = True
        elif token == "*":  # noqa: S105
            wild = True
        elif not _TOKEN.fullmatch(token):
            raise ValueError("a token is 1 to 64 of A-Z a-z 0-9 _ - and does not begin with _")
    if len(tokens) > 3 or (len(tokens) < 3 and tokens[-1] != ">"):
        raise ValueError("a pattern has three tokens, or ends with '>'")
    no = False
    if len(tokens) == 3 and tokens[2] not in ("*", ">"):
        if tokens[2] not in ("yes", "no"):
            raise ValueError("the third token is yes, no, '*' or '>'")
        no = tokens[2] == "no"
    yes = ".".join([*tokens[:2], "yes"]) if no else text
    return Pattern(text, "wild" if wild else "book", yes, no)


def places(book: str) -> tuple[Place, Place, Place, Place]:
    """The places that a book id is found at."""
    aggregate, market, _ = book.split(".")
    return (aggregate, market), (aggregate, None), (None, market), (None, None)


def covers(scope: str, pattern: Pattern) -> bool:
    """Is everything that `pattern` can match inside `scope`?

    A scope is written like a pattern; its third token is not looked at, since both views of a book show the
    same facts. An asset id is covered by `>` only: which book it feeds may change.
    """
    if scope == ">":
        return True
    if pattern.kind == "asset":
        return False
    have = _first_two(scope)
    want = _first_two(pattern.yes)
    return all(allowed in ("*", asked) for allowed, asked in zip(have, want, strict=True))


def _first_two(text: str) -> list[str]:
    tokens = ["*" if token == ">" else token for token in text.split(".")[:2]]  # noqa: S105
    return [*tokens, "*"][:2]
