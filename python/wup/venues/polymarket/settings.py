"""Settings of this venue (architecture.md section 4)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from wup.config import EnvSettings

WebSocketUrl = Annotated[str, StringConstraints(pattern=r"^wss?://[^\s/]+")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")]


class PolymarketSettings(EnvSettings):
    """Where the venue is, and how much of its stream is checked against the book hash."""

    polymarket_ws_url: WebSocketUrl = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    polymarket_clob_url: HttpUrl = "https://clob.polymarket.com"
    polymarket_gamma_url: HttpUrl = "https://gamma-api.polymarket.com"
    hash_check: Literal["always", "sampled", "off"] = "always"
    """`sampled` verifies whole books and one change in sixteen; `off` relies on the reported best prices."""
