"""The conversation with the toy venue: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from venues.toy.settings import ToySettings


class ToySession:
    """One `follow` frame names all that is wanted."""

    platform = "toy"
    heartbeat_s: float | None = None

    def __init__(self, settings: ToySettings) -> None:
        self._settings = settings

    async def handshake(self) -> tuple[str, dict[str, str]]:
        return self._settings.toy_ws_url, {}

    def open_info(self) -> dict[str, Any]:
        return {}

    def opened(self, assets: Sequence[str]) -> list[str]:
        return self.want(assets)

    def want(self, assets: Sequence[str]) -> list[str]:
        return [orjson.dumps({"follow": list(assets)}).decode()]

    def repair(self, assets: Sequence[str]) -> list[str]:
        return [orjson.dumps({"again": list(assets)}).decode()]

    def received(self, raw: bytes) -> list[str]:
        return []

    def heartbeat(self) -> str | None:
        return None

    def asset_of(self, raw: bytes) -> str | None:
        return None

    def books_of(self, raw: bytes) -> list[str]:
        return [orjson.loads(raw)["asset"]] if b'"bids"' in raw else []
