"""What YES pays on, in the venue's words, and when two venues' words are one name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wup.mapping.catalogue import VenueMarket

_WORD = re.compile(r"[^\W_]+")
_PLAIN = ("yes", "no")


def subjects(listed: VenueMarket, outcome: str | None = None) -> tuple[str, str]:
    """What a market's asset pays on, and what its complement pays on where the venue names it ("" if not).

    Args:
        outcome: the outcome whose asset is meant; the first by default.
    """
    if len(listed.outcomes) == 2 and listed.outcomes[0].casefold() not in _PLAIN:
        first, second = listed.outcomes
        return (second, first) if outcome == second else (first, second)
    if outcome is not None and outcome.casefold() == "no":
        return "", listed.label
    return listed.label, ""


def alike(one: str, two: str) -> bool:
    """Are these one name? Every word of the shorter begins a word of the longer: `New York Y`, `Texas`."""
    first, second = (_WORD.findall(text.casefold()) for text in (one, two))
    if len(first) > len(second):
        first, second = second, first
    left = list(second)
    for word in first:
        found = next((w for w in left if w == word), None) or next(
            (w for w in left if w.startswith(word) or word.startswith(w)), None
        )
        if found is None:
            return False
        left.remove(found)
    return bool(first)
