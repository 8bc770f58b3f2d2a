"""Settings of this venue (architecture.md section 4)."""

from __future__ import annotations

import stat
from pathlib import Path  # noqa: TC003  (read by pydantic at run time)
from typing import Annotated

from pydantic import StringConstraints, field_validator

from wup.config import EnvSettings
from wup.venues.kalshi.auth import read_key

WebSocketUrl = Annotated[str, StringConstraints(pattern=r"^wss?://[^\s/]+")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")]


class KalshiSettings(EnvSettings):
    """Where the venue is and who we are there. Without a key its legs are `down` with `no_credentials`."""

    kalshi_api_key_id: str | None = None
    kalshi_private_key_path: Path | None = None
    kalshi_ws_url: WebSocketUrl = "wss://external-api-ws.kalshi.com/trade-api/ws/v2"
    kalshi_api_url: HttpUrl = "https://external-api.kalshi.com/trade-api/v2"

    @field_validator("kalshi_private_key_path")
    @classmethod
    def _private(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise ValueError("must be a regular file")
        if mode & 0o077:
            raise ValueError(
                f"must be readable by its owner only (chmod 600), its mode is {stat.S_IMODE(mode):04o}"
            )
        # A key that cannot sign is found at the start, not at the first connection.
        read_key(path)
        return path
