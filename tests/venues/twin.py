"""One connection read twice, by the native decoder and by the adapters' own, and compared frame by frame."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from wup._core import kalshi_delta, kalshi_snapshot, polymarket_frame
from wup.venues.base import BookChanged, BookReplaced
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup._core import VenueBook
    from wup.model import Instrument
    from wup.venues.base import LegCheck, Normaliser, Output, Venue

NORMALISERS: dict[str, type[KalshiNormaliser] | type[PolymarketNormaliser]] = {
    "kalshi": KalshiNormaliser,
    "polymarket": PolymarketNormaliser,
}


class Twin:
    """A normaliser that is two: whatever is asked of it, both must answer alike.

    `read` counts frames of the hot types by who read them: `native`, or `left` to the other decoder.
    """

    def __init__(
        self,
        platform: str,
        open_info: Mapping[str, Any],
        instruments: Mapping[str, Instrument],
        read: Counter[str],
    ) -> None:
        self._platform = platform
        kind = NORMALISERS[platform]
        self.native: Normaliser = kind(open_info, instruments, native=True)
        self.reference: Normaliser = kind(open_info, instruments, native=False)
        self._read = read

    @property
    def checks(self) -> Mapping[str, int]:
        return self.native.checks

    def check(self, asset_id: str) -> LegCheck | None:
        found = self.native.check(asset_id)
        assert found == self.reference.check(asset_id)
        return found

    def _same(self, ours: list[Output], theirs: list[Output], raw: bytes = b"") -> list[Output]:
        assert ours == theirs, f"the decoders differ at {raw[:2000]!r}"
        assert self.native.checks == self.reference.checks
        named = {output.asset_id for output in ours if isinstance(output, BookChanged | BookReplaced)}
        for asset in named:
            self.check(asset)
            one, other = self.native.book(asset), self.reference.book(asset)
            if one is None or other is None:
                assert one is other, f"{asset} at {raw[:2000]!r}"
            else:
                assert self._texts(one) == self._texts(other), f"{asset} at {raw[:2000]!r}"
        return ours

    def _texts(self, book: VenueBook) -> tuple[object, str]:
        """The numbers of a book, and a hash over its text as sent, where that is of any use."""
        if self._platform == "kalshi":
            return book.levels(), ""
        return book.levels(), book.polymarket_hash("m", "a", "1", "5", "0.01", False, None)

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        return self._same(self.native.sent(raw, now_us), self.reference.sent(raw, now_us), raw)

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        if is_hot(raw):
            self._read["native" if reads(raw) else "left"] += 1
        return self._same(self.native.frame(raw, now_us), self.reference.frame(raw, now_us), raw)

    def timer(self, now_us: int) -> list[Output]:
        return self._same(self.native.timer(now_us), self.reference.timer(now_us))

    def doubt(self, assets: Iterable[str], why: str, now_us: int) -> list[Output]:
        named = list(assets)
        ours, theirs = (one.doubt(named, why, now_us) for one in (self.native, self.reference))
        return self._same(ours, theirs)

    def closed(self, why: str) -> list[Output]:
        return self._same(self.native.closed(why), self.reference.closed(why))

    def book(self, asset_id: str) -> VenueBook | None:
        return self.native.book(asset_id)

    def assets(self) -> Iterable[str]:
        assets = list(self.native.assets())
        assert assets == list(self.reference.assets())
        return assets


def twins(platform: str, read: Counter[str]) -> Venue:
    """The venue with its normaliser doubled."""
    return dataclasses.replace(
        VENUES[platform],
        normaliser=lambda open_info, instruments: Twin(platform, open_info, instruments, read),
    )


def is_hot(raw: bytes) -> bool:
    """Does the frame say that it is of a type that is read natively?"""
    names = (b'"orderbook_delta","sid"', b'"orderbook_snapshot","sid"', b'"price_change"', b'"book"')
    return any(name in raw for name in names)


def reads(raw: bytes) -> bool:
    """Does the native decoder read it?"""
    found = kalshi_delta(raw) or kalshi_snapshot(raw) or polymarket_frame(raw)
    return found is not None
