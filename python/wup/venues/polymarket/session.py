"""The conversation on one market-channel connection (venue doc section 1): no I/O.

There are no acknowledgements; a fresh book comes after unsubscribe + subscribe, never after a plain second
subscribe, which is refused (rule: section 1.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wup.venues.polymarket.settings import PolymarketSettings

CHUNK = 100
"""Ids per frame: a frame with thousands makes the server close the connection."""

_ASSET = b'"asset_id":"'
_BOOK = b'"bids":['
"""Only whole books have it."""


class PolymarketSession:
    """Which frames to send, and when."""

    platform = "polymarket"
    heartbeat_s: float | None = 10.0

    def __init__(self, settings: PolymarketSettings) -> None:
        self._settings = settings
        self._assets: dict[str, None] = {}
        self._followed: dict[bytes, str] = {}
        self._subscribed = False

    async def handshake(self) -> tuple[str, dict[str, str]]:
        """The market channel is public: no headers."""
        return self._settings.polymarket_ws_url, {}

    def open_info(self) -> dict[str, Any]:
        """How much is verified is part of what replay must know."""
        return {"hash_check": self._settings.hash_check}

    def opened(self, assets: Sequence[str]) -> list[str]:
        """The initial frame, then further ids in chunks. Nothing survives a connection: all is sent again."""
        self._assets = {}
        self._followed = {}
        self._subscribed = False
        return self._subscribe(assets)

    def want(self, assets: Sequence[str]) -> list[str]:
        """Unsubscribe what is no longer wanted, subscribe what is new."""
        wanted = dict.fromkeys(assets)
        gone = [asset for asset in self._assets if asset not in wanted]
        new = [asset for asset in wanted if asset not in self._assets]
        return [*self._unsubscribe(gone), *self._subscribe(new)]

    def repair(self, assets: Sequence[str]) -> list[str]:
        """Unsubscribe and subscribe: the one way to a fresh book on a living connection."""
        mine = [asset for asset in assets if asset in self._assets]
        return [*self._unsubscribe(mine), *self._subscribe(mine)]

    def received(self, raw: bytes) -> list[str]:
        """Nothing that this venue sends asks for an answer."""
        return []

    def heartbeat(self) -> str | None:
        """Text `PING` every 10 s; the answer says nothing about the data."""
        return "PING"

    def asset_of(self, raw: bytes) -> str | None:
        """The followed asset, when exactly one is named (a change also names the other token)."""
        found: str | None = None
        at = raw.find(_ASSET)
        while at >= 0:
            start = at + len(_ASSET)
            end = raw.find(b'"', start)
            if end < 0:
                return None
            asset = self._followed.get(raw[start:end])
            if asset is not None and asset != found:
                if found is not None:
                    return None
                found = asset
            at = raw.find(_ASSET, end)
        return found

    def books_of(self, raw: bytes) -> set[str]:
        """All followed assets that a frame with a book names: first books come many in one frame."""
        found: set[str] = set()
        at = raw.find(_ASSET) if _BOOK in raw else -1
        while at >= 0:
            start = at + len(_ASSET)
            end = raw.find(b'"', start)
            if end < 0:
                break
            asset = self._followed.get(raw[start:end])
            if asset is not None:
                found.add(asset)
            at = raw.find(_ASSET, end)
        return found

    def _subscribe(self, assets: Sequence[str]) -> list[str]:
        frames: list[str] = []
        for chunk in _chunks(assets):
            if self._subscribed:
                frames.append(
                    _text({"operation": "subscribe", "assets_ids": chunk, "custom_feature_enabled": True})
                )
            else:
                frames.append(
                    _text(
                        {
                            "assets_ids": chunk,
                            "type": "market",
                            "initial_dump": True,
                            "level": 2,
                            "custom_feature_enabled": True,
                        }
                    )
                )
                self._subscribed = True
        self._assets.update(dict.fromkeys(assets))
        self._followed.update((asset.encode(), asset) for asset in assets)
        return frames

    def _unsubscribe(self, assets: Iterable[str]) -> list[str]:
        gone = list(assets)
        for asset in gone:
            self._assets.pop(asset, None)
            self._followed.pop(asset.encode(), None)
        return [_text({"operation": "unsubscribe", "assets_ids": chunk}) for chunk in _chunks(gone)]


def _chunks(assets: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(assets), CHUNK):
        yield list(assets[start : start + CHUNK])


def _text(frame: dict[str, Any]) -> str:
    return orjson.dumps(frame).decode()
