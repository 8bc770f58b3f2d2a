"""Exact decimal text, for the adapters."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wup import _core
from wup.errors import VenueMessageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMEMBERED = 8_192
"""Texts kept per function: every price and the usual sizes. Eight times as many grew by 16 MB in the first
eight minutes at 1,000 frames/s, for a few more hits."""


@lru_cache(maxsize=_REMEMBERED)
def shortest(text: str) -> str:
    """The shortest exact form of a decimal text.

    Raises:
        wup._core.NumberError: not a decimal, or more than six decimals.
    """
    return _core.format_micro(_core.parse_micro(text))


@lru_cache(maxsize=_REMEMBERED)
def complement(price: str) -> str:
    """1 - price, exactly, in shortest form.

    Raises:
        wup._core.NumberError: not a price.
    """
    return _core.complement(price)


def text_of(value: object, what: str, asset_id: str | None = None) -> str:
    """`value` if it is text.

    Raises:
        VenueMessageError: it is anything else; binary floats are never taken for a decimal.
    """
    if isinstance(value, str):
        return value
    raise VenueMessageError("bad_field", f"{what} is {type(value).__name__}, not text", asset_id)


def restored(fields: Mapping[str, Any]) -> _core.VenueBook | None:
    """The book with the `bids` and `asks` of a checkpoint; None when they are no levels."""
    book = _core.VenueBook()
    try:
        book.replace(fields["bids"], fields["asks"])
    except (_core.CoreError, KeyError, TypeError, ValueError):
        return None
    return book
