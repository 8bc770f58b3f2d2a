"""Exact numbers of the simulators: integers of 1e-6, and the text forms of each venue.

Written apart from the rest of the package on purpose: the simulators must be able to prove the readers
wrong, so they share no number code with them.
"""

from __future__ import annotations

from functools import lru_cache

MICRO = 1_000_000
CENT = 10_000
"""One cent, and one hundredth of a contract, in millionths."""


@lru_cache(maxsize=262_144)
def short(value: int) -> str:
    """Shortest decimal text: `520000` is "0.52", `1200000000` is "1200"."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, rest = divmod(value, MICRO)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".")


@lru_cache(maxsize=262_144)
def fixed(value: int, places: int) -> str:
    """Text with exactly `places` decimals.

    Raises:
        ValueError: the value needs more.
    """
    step = 10 ** (6 - places)
    if value % step:
        raise ValueError(f"{short(value)} needs more than {places} decimals")
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, rest = divmod(value, MICRO)
    return f"{sign}{whole}.{rest // step:0{places}d}" if places else f"{sign}{whole}"


def micro(text: str) -> int:
    """Decimal text as an integer of 1e-6.

    Raises:
        ValueError: not a plain decimal, or more than six decimals.
    """
    body = text[1:] if text.startswith("-") else text
    whole, _, rest = body.partition(".")
    digits = (whole or "0") + rest.ljust(6, "0")
    if len(rest) > 6 or not (whole or rest) or not digits.isascii() or not digits.isdigit():
        raise ValueError(f"not a decimal of at most six places: {text!r}")
    return -int(digits) if text.startswith("-") else int(digits)
