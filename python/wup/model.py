"""What travels between the stages, as Python values.

`VenueEvent`s come out of an adapter's `parse_message`; `Normalised` values come out of a venue's
normaliser and are encoded to the JSON of wire.md section 2 by `encode`. Prices and sizes are the exact
decimal text of the venue (shortest form on the wire); times are integer microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LegState = Literal["syncing", "live", "resync", "down", "halted", "closed"]
Side = Literal["bid", "ask"]
Level = tuple[str, str]
"""(price, size), decimal text."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One venue asset that WUP follows.

    `facts` are the venue's own words about it (`tick`, `min_size`, ...), read by the venue's folder only.
    """

    platform: str
    asset_id: str
    market_id: str
    facts: Mapping[str, str] = field(default_factory=dict)


# --- venue events: what one frame says, before any state is applied -------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole book of one asset."""

    asset_id: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    sequence: int | None = None
    stream: str | None = None
    venue_us: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Increment:
    """A signed change of one level's size."""

    asset_id: str
    side: Side
    price: str
    delta: str
    sequence: int | None = None
    stream: str | None = None
    venue_us: int | None = None


@dataclass(frozen=True, slots=True)
class Absolute:
    """New total sizes of levels; size "0" removes."""

    asset_id: str
    levels: Sequence[tuple[Side, str, str]]
    sequence: int | None = None
    stream: str | None = None
    venue_us: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade in the asset's own coordinates; `side` is the taker's."""

    asset_id: str
    price: str
    size: str
    side: Literal["buy", "sell"]
    trade_id: str
    sequence: int | None = None
    stream: str | None = None
    venue_us: int | None = None
    block: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A change of the market's own life: halted, closed, resolved."""

    asset_id: str
    state: LegState
    why: str
    result: str | None = None
    sequence: int | None = None
    stream: str | None = None
    venue_us: int | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """Acks, errors, heartbeats and everything else that is not market data.

    Carries the venue's sequence where the frame has one: nothing that the venue numbers may be dropped
    before the tracker saw it.
    """

    kind: str
    sequence: int | None = None
    stream: str | None = None
    body: Mapping[str, object] = field(default_factory=dict)


VenueEvent = Snapshot | Increment | Absolute | Trade | State | Control


# --- normalised: exact, absolute, in the asset's own coordinates ----------------------------------


def times(venue_us: int | None, recv_us: int | None, norm_us: int | None) -> dict[str, int]:
    """The `ts` object of wire.md section 3 rule 6: unknown stamps are absent."""
    stamps = {"venue": venue_us, "recv": recv_us, "norm": norm_us}
    return {name: value for name, value in stamps.items() if value is not None}


def encode(message: Mapping[str, object]) -> bytes:
    """A message as compact JSON."""
    return orjson.dumps(message)
