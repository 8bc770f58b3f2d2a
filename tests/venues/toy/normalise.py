"""Frames of the toy venue to normalised outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from wup._core import NumberError, VenueBook
from wup.errors import VenueMessageError
from wup.model import Instrument, Snapshot, VenueEvent
from wup.venues.base import BadInput, BookReplaced, LegChanged, LegCheck, Output, RepairWanted


class ToyAdapter:
    """`{"seq":1,"asset":"A","bids":[["0.4","5"]],"asks":[]}` to a snapshot."""

    exchange_name = "toy"

    def parse_message(self, raw: bytes) -> list[VenueEvent]:
        try:
            frame = orjson.loads(raw)
            bids, asks = ([(str(p), str(q)) for p, q in frame[side]] for side in ("bids", "asks"))
            return [Snapshot(frame["asset"], bids, asks, sequence=frame["seq"])]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise VenueMessageError("bad_json", repr(error)) from None


class ToyNormaliser:
    """One connection's books and its sequence."""

    def __init__(self, open_info: Mapping[str, Any], instruments: Mapping[str, Instrument]) -> None:
        self._adapter = ToyAdapter()
        self._instruments = instruments
        self._books: dict[str, VenueBook] = {}
        self._seq = 0
        self.checks: Mapping[str, int] = {}

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        return []

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        try:
            (event,) = self._adapter.parse_message(raw)
        except VenueMessageError as error:
            return [BadInput(error.kind, error.detail), *self._doubt("gap")]
        assert isinstance(event, Snapshot)
        assert event.sequence is not None
        out: list[Output] = [] if event.sequence == self._seq + 1 else self._doubt("seq_gap")
        self._seq = event.sequence
        if event.asset_id not in self._instruments:
            return [*out, BadInput("unknown_asset", event.asset_id)]
        book = VenueBook()
        try:
            book.replace(event.bids, event.asks)
        except NumberError as error:
            return [*out, BadInput("bad_level", str(error)), *self._doubt("gap")]
        self._books[event.asset_id] = book
        return [*out, BookReplaced(event.asset_id, None)]

    def _doubt(self, why: str) -> list[Output]:
        lost = tuple(self._books)
        self._books.clear()
        left: list[Output] = [LegChanged(asset, "resync", why) for asset in lost]
        return [*left, RepairWanted(lost, why)] if lost else []

    def doubt(self, assets: Iterable[str], why: str, now_us: int) -> list[Output]:
        return self._doubt(why)

    def timer(self, now_us: int) -> list[Output]:
        return []

    def closed(self, why: str) -> list[Output]:
        out: list[Output] = [LegChanged(asset, "down", why) for asset in self._books]
        self._books.clear()
        return out

    def book(self, asset_id: str) -> VenueBook | None:
        return self._books.get(asset_id)

    def check(self, asset_id: str) -> LegCheck | None:
        return None

    def checkpoint(self, asset_id: str) -> dict[str, Any] | None:
        book = self.book(asset_id)
        if book is None:
            return None
        bids, asks = book.levels()
        return {"bids": bids, "asks": asks}

    def restore(self, asset_id: str, fields: Mapping[str, Any], now_us: int) -> list[Output]:
        book = VenueBook()
        try:
            book.replace(fields["bids"], fields["asks"])
        except (KeyError, TypeError, ValueError) as error:
            return [BadInput("bad_checkpoint", repr(error), asset_id)]
        self._books[asset_id] = book
        return [BookReplaced(asset_id, None)]

    def assets(self) -> Iterable[str]:
        return self._books
