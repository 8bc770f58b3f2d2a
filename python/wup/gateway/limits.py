"""Limits of wire.md section 4: settings, with the contract's defaults."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wup.access import group
from wup.bucket import Bucket
from wup.config import EnvSettings

_MOST_BYTES = 2**30  # a socket option is a C int; and no more of one client's is ever of use

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1, le=_MOST_BYTES)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Limits(EnvSettings):
    """What one client, one address and all clients together may use. Each is bounded both ways: a figure with
    a digit too many is told at the start, not found out under load."""

    ws_message_bytes: Annotated[int, Field(ge=1024, le=16 * 2**20)] = 65_536
    ws_json_depth: Annotated[int, Field(ge=3, le=100)] = 8
    ws_rate: Count = 20
    ws_burst: Count = 40
    ws_patterns: Count = 256
    ws_books: Count = 5_000
    ws_per_address: Count = 32
    ws_per_token: Count = 64
    ws_connections: Count = 2_000
    ws_connects_per_second: Count = 100
    # Clients take five seconds without a frame for a dead connection.
    ws_heartbeat_ms: Annotated[int, Field(ge=10, le=4_000)] = 1_000
    ws_slow_bytes: Bytes = 1_048_576
    ws_slow_ms: Milliseconds = 500
    ws_snapshot_bytes: Bytes = 262_144
    ws_send_buffer_bytes: Annotated[int, Field(ge=4_096, le=_MOST_BYTES)] = 262_144
    ws_unsent_bytes: Bytes = 65_536
    ws_stuck_s: Seconds = 10.0
    ws_ping_s: Seconds = 15.0
    ws_pong_s: Seconds = 10.0
    ws_auth_s: Seconds = 5.0
    ws_first_subscribe_s: Seconds = 30.0
    ws_handshake_s: Seconds = 5.0
    ws_frame_s: Seconds = 10.0
    ws_fragments: Annotated[int, Field(ge=1, le=10_000)] = 16
    ws_lag_ms: Milliseconds = 100
    ws_waiting_bytes: Annotated[int, Field(ge=1, le=2**40)] = 536_870_912


class Admission:
    """Counts connections: per address (IPv6: per /64), in all, and new ones per second."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._by_address: dict[str, int] = {}
        self._total = 0
        self._arrivals = Bucket(limits.ws_connects_per_second, limits.ws_connects_per_second, now)

    @property
    def total(self) -> int:
        """Connections admitted and not yet gone."""
        return self._total

    def admit(self, address: str, now: float) -> str | None:
        """None and the place is taken, or the reason why not."""
        address = group(address)
        if self._total >= self._limits.ws_connections:
            return "too many connections"
        if self._by_address.get(address, 0) >= self._limits.ws_per_address:
            return "too many connections from this address"
        if not self._arrivals.take(now):
            return "too many new connections"
        self._total += 1
        self._by_address[address] = self._by_address.get(address, 0) + 1
        return None

    def leave(self, address: str) -> None:
        """Give the place back."""
        address = group(address)
        self._total -= 1
        left = self._by_address.get(address, 0) - 1
        if left > 0:
            self._by_address[address] = left
        else:
            self._by_address.pop(address, None)
